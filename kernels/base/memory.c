#define _DEFAULT_SOURCE /* madvise, MAP_ANONYMOUS */
#include "kernels/base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_PAGE_BYTES = 2 << 20 };

bool vg_mul_size(size_t a, size_t b, size_t *out)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product)) return false;
    *out = product;
    return true;
}

void *vg_new0(size_t bytes)
{
    return calloc(1, bytes ? bytes : 1);
}

void *vg_new0_array(size_t count, size_t bytes_each)
{
    return calloc(count ? count : 1, bytes_each ? bytes_each : 1);
}

vg_status vg_grow(void *items_pointer, size_t *capacity, size_t need, size_t bytes_each)
{
    if (need <= *capacity) return VG_OK;
    size_t target = *capacity ? *capacity : 16, bytes;
    while (target < need) {
        VG_CHECK(target <= SIZE_MAX / 2, VG_E_NOMEM, "no memory for %zu items of %zu bytes", need, bytes_each);
        target *= 2;
    }
    VG_CHECK(vg_mul_size(target, bytes_each, &bytes), VG_E_NOMEM, "no memory for %zu items of %zu bytes", need,
             bytes_each);
    void *items;
    memcpy(&items, items_pointer, sizeof items);
    void *grown = realloc(items, bytes);
    VG_CHECK(grown, VG_E_NOMEM, "no memory for %zu items of %zu bytes", need, bytes_each);
    memcpy(items_pointer, &grown, sizeof grown);
    *capacity = target;
    return VG_OK;
}

size_t vg_first_from(const void *rows, size_t n, size_t bytes_each, uint64_t key)
{
    size_t low = 0, high = n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        uint64_t at;
        memcpy(&at, (const char *)rows + middle * bytes_each, sizeof at);
        if (at < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

vg_status vg_arena_init(vg_arena *arena, size_t size_bytes)
{
    /* Whole huge pages would take 2 MiB for each of a thousand small batches. */
    const size_t size = vg_round_up(size_bytes ? size_bytes : 1, (size_t)sysconf(_SC_PAGESIZE));
    /* One huge page more than asked, so that an aligned run of the right length lies inside. */
    unsigned char *map = mmap(NULL, size + HUGE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    VG_CHECK(map != MAP_FAILED, VG_E_NOMEM,
             "no memory for an arena of %zu MiB; lower train.micro_batch or the image size", size >> 20);
    unsigned char *base = (unsigned char *)vg_round_up((size_t)map, HUGE_PAGE_BYTES);
    if (base > map) munmap(map, (size_t)(base - map));
    const size_t tail = HUGE_PAGE_BYTES - (size_t)(base - map);
    if (tail) munmap(base + size, tail);
    madvise(base, size, MADV_HUGEPAGE); /* a hint: without it all still works, slower */
    memset(base, 0, size);
    *arena = (vg_arena){.base = base, .size_bytes = size};
    return VG_OK;
}

void vg_arena_release(vg_arena *arena)
{
    if (arena->base) munmap(arena->base, arena->size_bytes);
    *arena = (vg_arena){0};
}
