/* What check mode knows about a range of memory: for each byte whether it exists and has a value, for each pair of
 * bytes who touched it last. */
#ifndef VG_EMU_SHADOW_H
#define VG_EMU_SHADOW_H

#include <cstddef>
#include <cstdint>

namespace emu
{

enum byte_state : unsigned char { BYTE_NONE, BYTE_RAW, BYTE_VALUE }; /* outside any array; no value yet; written */

/* One access: who (a block's serial number, a thread in it), when (the thread's clock, which counts its
 * synchronizations) and which bytes of the pair. Zero: nobody. */
struct access {
    uint64_t serial : 31, atomic : 1, thread : 10, bytes : 2, clock : 20;
};

/* Two readers are enough to find one that is not the writer. */
struct cell {
    access writer, reader[2];
};

enum { CELL_BYTES = 2 };

struct shadow {
    char *base;
    size_t bytes;
    unsigned char *state; /* byte_state of each byte */
    cell *cells;          /* of each CELL_BYTES */

    bool contains(const void *p) const
    {
        return (size_t)((const char *)p - base) < bytes;
    }
    size_t offset(const void *p) const
    {
        return (size_t)((const char *)p - base);
    }
};

/* Zeroed memory that takes pages only where it is touched; what = for the message when there is no room. */
void *reserve(size_t bytes, int protection, const char *what);

/* State and cells for a range. */
shadow shadow_new(void *base, size_t bytes);
void shadow_set(const shadow &s, const void *p, size_t n, byte_state state);

} // namespace emu

#endif
