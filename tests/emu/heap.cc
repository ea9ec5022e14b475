/* Allocations lie in address order with a gap after each, so that a kernel that runs past one meets nothing. */
#include "emu/heap.h"

#include "emu/exec.h"
#include "emu/heap_impl.h"
#include "emu/report.h"
#include "emu/trap.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

namespace emu
{

enum { ALIGNMENT = 256, GAP = 256 };

namespace
{
struct heap {
    char *base;
    size_t capacity, in_use = 0;
    std::map<char *, allocation> by_address;
    int n_made = 0;
    size_t reachable = 0; /* bytes from base that open makes reachable */
    int depth = 0;
    emu::shadow shadow{};

    heap()
    {
        const char *bytes = getenv("VG_EMU_MEMORY");
        capacity = bytes ? strtoull(bytes, nullptr, 0) : (size_t)8 << 30;
        base = (char *)reserve(capacity, PROT_NONE, "the device's memory");
        if (checking()) shadow = shadow_new(base, capacity);
        trap_install();
    }
    void protect(int protection) const
    {
        if (reachable) mprotect(base, reachable, protection);
    }
};

heap &the_heap()
{
    static heap h;
    return h;
}

/* Where n bytes fit first, or NULL. */
char *first_fit(const heap &h, size_t n)
{
    char *at = h.base;
    for (const auto &[base, a] : h.by_address) {
        if ((size_t)(base - at) >= n + GAP) return at;
        at = base + (a.bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + GAP;
    }
    return at < h.base + h.capacity && (size_t)(h.base + h.capacity - at) >= n ? at : nullptr;
}

void extend_reach(heap &h, const char *end)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t reach = ((size_t)(end - h.base) + page - 1) / page * page;
    if (reach <= h.reachable) return;
    h.reachable = reach;
    if (h.depth) h.protect(PROT_READ | PROT_WRITE);
}
} // namespace

void *heap_alloc(size_t bytes)
{
    heap &h = the_heap();
    if (bytes == 0 || bytes > h.capacity - h.in_use) return nullptr;
    char *p = first_fit(h, bytes);
    if (!p) return nullptr;
    h.by_address[p] = {p, bytes, ++h.n_made};
    h.in_use += bytes;
    extend_reach(h, p + bytes);
    const heap_open open;
    memset(p, 0xff, bytes); /* NaN in any float type */
    if (checking()) shadow_set(h.shadow, p, bytes, BYTE_RAW);
    return p;
}

bool heap_free(void *p)
{
    heap &h = the_heap();
    const auto found = h.by_address.find((char *)p);
    if (found == h.by_address.end()) return false;
    const size_t bytes = found->second.bytes;
    if (checking()) shadow_set(h.shadow, p, bytes, BYTE_NONE);
    h.in_use -= bytes;
    h.by_address.erase(found);
    return true;
}

size_t heap_capacity()
{
    return the_heap().capacity;
}

size_t heap_in_use()
{
    return the_heap().in_use;
}

bool heap_contains(const void *p)
{
    const heap &h = the_heap();
    return (size_t)((const char *)p - h.base) < h.capacity;
}

const allocation *heap_find(const void *p)
{
    heap &h = the_heap();
    auto after = h.by_address.upper_bound((char *)p);
    if (after == h.by_address.begin()) return nullptr;
    const allocation &a = (--after)->second;
    return (const char *)p < a.base + a.bytes ? &a : nullptr;
}

bool heap_holds(const void *p, size_t n)
{
    const allocation *a = heap_find(p);
    return a && n <= (size_t)(a->base + a->bytes - (const char *)p);
}

heap_open::heap_open()
{
    heap &h = the_heap();
    if (h.depth++ == 0) h.protect(PROT_READ | PROT_WRITE);
}

heap_open::~heap_open()
{
    heap &h = the_heap();
    if (--h.depth == 0) h.protect(PROT_NONE);
}

const shadow &heap_shadow()
{
    return the_heap().shadow;
}

void heap_wrote(const void *p, size_t n)
{
    if (checking()) shadow_set(heap_shadow(), p, n, BYTE_VALUE);
}

void heap_reads(const void *p, size_t n, const char *what)
{
    if (!checking()) return;
    const shadow &s = heap_shadow();
    const unsigned char *state = s.state + s.offset(p);
    const void *raw = memchr(state, BYTE_RAW, n);
    if (raw)
        report("uninitialised", nullptr, "%s reads %zu bytes at %p; byte %zu has no value", what, n, p,
               (size_t)((const unsigned char *)raw - state));
}

void heap_copied(const void *to, const void *from, size_t n)
{
    if (!checking()) return;
    const shadow &s = heap_shadow();
    memmove(s.state + s.offset(to), s.state + s.offset(from), n);
}

} // namespace emu
