/* Sorting more than memory holds. Records are strings of bytes and come back in the order of memcmp, a prefix first;
 * what does not fit into the budget lies in sorted runs in a nameless file, which the system removes with the process.
 *
 *     VG_TRY(vg_sorter_new(folder, 64 << 20, &sorter));
 *     for each record: VG_TRY(vg_sorter_add(sorter, bytes, n));
 *     VG_TRY(vg_sorter_sort(sorter));
 *     VG_TRY(vg_sorter_next(sorter, &bytes, &n)); ... again, until bytes is NULL
 *     vg_sorter_free(sorter);
 *
 * Inside data/import. */
#ifndef VG_DATA_SORTER_IMPL_H
#define VG_DATA_SORTER_IMPL_H

#include "kernels/base/base.h"

typedef struct vg_sorter vg_sorter;

/* `folder` is where runs are kept while they are needed (borrowed until free); about `budget_bytes` are held in memory.
 * Errors: VG_E_NOMEM. */
vg_status vg_sorter_new(const char *folder, size_t budget_bytes, vg_sorter **out);

/* Takes a copy. Errors: VG_E_STORAGE (the folder is full), VG_E_NOMEM. */
vg_status vg_sorter_add(vg_sorter *sorter, const void *bytes, size_t n);

/* After the last record, once. */
vg_status vg_sorter_sort(vg_sorter *sorter);

/* The next record, borrowed until the next call; *bytes is NULL behind the last. Errors: VG_E_STORAGE. */
vg_status vg_sorter_next(vg_sorter *sorter, const unsigned char **bytes, size_t *n);
void vg_sorter_free(vg_sorter *sorter);

/* Eight bytes that memcmp orders as the numbers are. */
void vg_sortable_put(int64_t value, unsigned char out[8]);
int64_t vg_sortable_get(const unsigned char bytes[8]);

#endif
