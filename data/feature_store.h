/* Feature stores: what a frozen tower makes of a picture or a phrase, kept on disk as one row each.
 *
 *     VG_TRY(vg_feature_store_open(path, &key, &store, why, sizeof why));
 *     if (!store) {                                           absent, or of another key: `why` says which
 *         VG_TRY(vg_feature_store_begin(path, &key, &store));      one process; others: vg_feature_store_join
 *         for (each row of mine)
 *             if (!vg_feature_store_has(store, row)) VG_TRY(vg_feature_store_put(store, row, floats));
 *         VG_TRY(vg_feature_store_sync(store));                    on disk now
 *         VG_TRY(vg_feature_store_commit(path, &key, store));      the one that began, after all have synced
 *         VG_TRY(vg_feature_store_close(store));
 *     }
 *     VG_TRY(vg_feature_store_read(store, row, floats));
 *
 * A store is an HDF5 file whose attribute `key` is a text that says everything its rows follow from, so that rows of
 * other weights or pictures are never taken for the wanted ones. While it is built it is called path.partial; a killed
 * build goes on with the rows that are there. Processes that know nothing of each other may build one store at once:
 * they put the same rows into one file, and the first to commit finishes it. The format is described in data/FORMAT.md.
 * Local throughout. */
#ifndef VG_DATA_FEATURE_STORE_H
#define VG_DATA_FEATURE_STORE_H

#include "kernels/base/base.h"

typedef struct vg_feature_store vg_feature_store;

/* What a store holds. `text` is lines of `what: value`, everything that the rows follow from; borrowed for the call. */
typedef struct vg_feature_key {
    const char *text;
    int64_t n_rows, row_floats;
    bool bf16; /* rows are rounded to bf16, else kept as they are */
} vg_feature_key;

/* Bytes of the file, near enough; SIZE_MAX where they cannot be counted. */
size_t vg_feature_store_bytes(const vg_feature_key *key);

/* Opens a finished store for reading. *out stays NULL where there is none that fits, and `why` says what is wrong with
 * the one that is there: the first line in which the keys differ, or the damage; empty when there is none. Errors:
 * VG_E_STORAGE (an I/O error that lasts), VG_E_NOMEM. */
vg_status vg_feature_store_open(const char *path, const vg_feature_key *key, vg_feature_store **out, char *why,
                                size_t why_bytes);

/* Makes path.partial with room for all rows, or goes on with the one that is there and fits, also where it has the name
 * of a process that was killed while it finished it. Errors: VG_E_STORAGE (disk full, read-only), VG_E_NOMEM. */
vg_status vg_feature_store_begin(const char *path, const vg_feature_key *key, vg_feature_store **out);

/* Opens a path.partial that somebody has begun, to write other rows of it. Errors: VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_feature_store_join(const char *path, const vg_feature_key *key, vg_feature_store **out);

/* Writes a row [row_floats]; 0 <= row < n_rows. Thread-safe for different rows. Errors: VG_E_STORAGE. */
vg_status vg_feature_store_put(vg_feature_store *store, int64_t row, const float *floats);

/* What was put is on disk then. Errors: VG_E_STORAGE. */
vg_status vg_feature_store_sync(vg_feature_store *store);

/* Syncs what was put and closes. Errors: VG_E_STORAGE. NULL is fine. */
vg_status vg_feature_store_close(vg_feature_store *store);

/* Gives path.partial its name. A row that was not put stays absent. `built` is the store as it was begun: where another
 * process has finished it meanwhile, or begun it anew for another key, nothing is done. Errors: VG_E_STORAGE (that,
 * too: the store may be there all the same). */
vg_status vg_feature_store_commit(const char *path, const vg_feature_key *key, const vg_feature_store *built);

/* Whether a row was put. After a crash of the host it may be another than was put all the same: whoever goes on with a
 * build reads it first. */
bool vg_feature_store_has(const vg_feature_store *store, int64_t row);

/* A row that is there into floats [row_floats], its hash checked. Thread-safe. Errors: VG_E_STORAGE (it differs from
 * what was written, or cannot be read). */
vg_status vg_feature_store_read(const vg_feature_store *store, int64_t row, float *floats);

#endif
