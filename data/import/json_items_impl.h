/* Large JSON files, one item at a time: the top level is an object, some of its values are arrays, and only one item
 * of those is in memory as a tree at any moment. Inside data/import. */
#ifndef VG_DATA_JSON_ITEMS_IMPL_H
#define VG_DATA_JSON_ITEMS_IMPL_H

#include "kernels/base/base.h"

#include <jansson.h>

/* A wanted array: `item` is called for each of its items in order. */
typedef struct vg_json_array {
    const char *key;
    vg_status (*item)(void *user, const json_t *item, size_t index);
    bool found; /* set by the walk */
} vg_json_array;

/* Walks the top level of n bytes of JSON that errors call `name`; other keys are skipped, an absent array is an error.
 * Errors: VG_E_DATA naming the byte; what `item` returns. */
vg_status vg_json_items(const char *name, const char *bytes, size_t n, vg_json_array *arrays, size_t n_arrays,
                        void *user);

#endif
