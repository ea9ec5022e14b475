#include "emu/shadow.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

namespace emu
{

void *reserve(size_t bytes, int protection, const char *what)
{
    void *p = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) return p;
    fprintf(stderr, "vg-emu: no room for %zu bytes of %s\n", bytes, what);
    exit(1);
}

shadow shadow_new(void *base, size_t bytes)
{
    enum { READ_WRITE = PROT_READ | PROT_WRITE };
    return {(char *)base, bytes, (unsigned char *)reserve(bytes, READ_WRITE, "check mode's state of bytes"),
            (cell *)reserve(bytes / CELL_BYTES * sizeof(cell), READ_WRITE, "check mode's record of accesses")};
}

void shadow_set(const shadow &s, const void *p, size_t n, byte_state state)
{
    memset(s.state + s.offset(p), state, n);
}

} // namespace emu
