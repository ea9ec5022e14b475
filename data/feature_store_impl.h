/* A feature store's file: feature_file.c knows HDF5, feature_store.c the rows inside. */
#ifndef VG_DATA_FEATURE_STORE_IMPL_H
#define VG_DATA_FEATURE_STORE_IMPL_H

#include "data/feature_store.h"

enum { VG_FEATURE_VERSION = 1 };

/* Where the rows and their hashes lie in the file, and the hash of the hashes (0 until it is finished). */
typedef struct vg_feature_places {
    uint64_t rows_at, hashes_at, content;
} vg_feature_places;

static inline size_t vg_feature_row_bytes(const vg_feature_key *key)
{
    return (size_t)key->row_floats * (key->bf16 ? 2 : 4);
}

/* Makes the file anew, all hashes 0. Errors: VG_E_STORAGE. */
vg_status vg_feature_file_create(const char *path, const vg_feature_key *key);

/* Takes the disk space of the whole file now, where the file system can, so that a full disk is known before hours of
 * work. Errors: VG_E_STORAGE (no room, or more than the quota). */
vg_status vg_feature_file_take_space(const char *path);

/* Checks that the file is a store with this key, and finds its parts. Errors: VG_E_DATA, with what is wrong;
 * VG_E_STORAGE for an I/O error that lasts. */
vg_status vg_feature_file_find(const char *path, const vg_feature_key *key, vg_feature_places *out);

/* Writes the hash of the hashes. Errors: VG_E_STORAGE. */
vg_status vg_feature_file_finish(const char *path, uint64_t content);

#endif
