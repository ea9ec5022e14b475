/* Checked sizes, zeroed heap objects, and the arena: one mapping made once, in huge pages where the system gives them.
 */
#ifndef VG_BASE_MEMORY_H
#define VG_BASE_MEMORY_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* a * b into *out; false (and *out untouched) where the product does not fit. */
bool vg_mul_size(size_t a, size_t b, size_t *out);

/* Zeroed heap memory, NULL when there is none (or the product does not fit). Freed with free(). */
void *vg_new0(size_t bytes);
void *vg_new0_array(size_t count, size_t bytes_each);

/* Grows *items (heap array of bytes_each) so that it holds at least `need` items; *capacity follows. */
vg_status vg_grow(void *items_pointer, size_t *capacity, size_t need, size_t bytes_each);

/* Of n rows of bytes_each, sorted by the uint64_t that each begins with: the first that is not below `key`; n where all
 * are. */
size_t vg_first_from(const void *rows, size_t n, size_t bytes_each, uint64_t key);

/* A zeroed region aligned to 2 MiB, of whole pages. */
typedef struct vg_arena {
    unsigned char *base;
    size_t size_bytes;
} vg_arena;

/* Maps an arena and touches its pages. Errors: VG_E_NOMEM (says how much was asked for). */
vg_status vg_arena_init(vg_arena *arena, size_t size_bytes);
void vg_arena_release(vg_arena *arena);

/* Rounds up to a multiple of unit (a power of two). */
static inline size_t vg_round_up(size_t n, size_t unit)
{
    return (n + unit - 1) & ~(unit - 1);
}

#endif
