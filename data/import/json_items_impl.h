/* Large JSON files, one item at a time: the top level is an object, some of whose values are arrays, or an array
 * itself, and only one item of those is in memory as a tree at any moment. Inside data/import. */
#ifndef VG_DATA_JSON_ITEMS_IMPL_H
#define VG_DATA_JSON_ITEMS_IMPL_H

#include "data/import.h"

#include <jansson.h>

/* A wanted array: `item` is called for each of its items in order. */
typedef struct vg_json_array {
    const char *key; /* NULL for an array that is the top level; it is then the only one */
    vg_status (*item)(void *user, const json_t *item, size_t index);
    bool found; /* set by the walk */
} vg_json_array;

/* Walks the top level of a file; the values of other keys are passed over unseen, an absent array is an error. Items
 * that are no JSON are set aside in `log`, which is told of the progress, too. Errors: VG_E_DATA naming the byte; what
 * `item` returns; VG_E_STORAGE. */
vg_status vg_json_items(const char *path, vg_import_log *log, vg_json_array *arrays, size_t n_arrays, void *user);

/* A member that is an integer; false where it is none, and *out is untouched. */
bool vg_json_int(const json_t *object, const char *key, int64_t *out);

/* The same of a member that need not be there: false only where there is something else. */
bool vg_json_maybe_int(const json_t *object, const char *key, int64_t *out);

/* Width or height of an image: a whole number of pixels from 1 to 2^20; false where it is none. */
bool vg_json_side(const json_t *object, const char *key, int *out);

/* An array of four numbers, corners or (is_size) a corner and the size, as corners; false where it is none. */
bool vg_json_box(const json_t *four, bool is_size, double xyxy[4]);

/* Whether such an array holds shares of the picture where pixels are wanted: as pixels they would be one in its corner.
 */
bool vg_json_box_in_shares(const json_t *four);

#endif
