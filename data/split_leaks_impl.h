/* Inside a split: which of its images stand in an evaluation split of another set.
 *
 *     vg_leaks leaks = {.train = "train"};
 *     VG_TRY(vg_leaks_gather(&leaks, shards, n_shards, &others, &without));
 *     VG_TRY(vg_leaks_set(&leaks, shard, &set));
 *     VG_TRY(vg_leaks_find(&leaks, shard, set, row, &found));        for each image that trains
 *     VG_TRY(vg_leaks_name(&leaks));                                 leaks.pairs are for people now
 *     vg_leaks_release(&leaks); */
#ifndef VG_DATA_SPLIT_LEAKS_IMPL_H
#define VG_DATA_SPLIT_LEAKS_IMPL_H

#include "data/shard_leakage_impl.h"

/* Shards of one origin in one folder, by whichever name it is reached. */
typedef struct vg_leak_set {
    vg_text name; /* for people */
    dev_t device;
    ino_t inode;
    vg_shard_name source, split_by;
} vg_leak_set;

/* An image that a set evaluates on has one for each of its ids. */
typedef struct vg_leak_key {
    uint64_t key;
    uint64_t splits;
    size_t set;
} vg_leak_key;

/* A set and one that evaluates on images of it. */
typedef struct vg_leak_pair {
    size_t set, other;
    int64_t n_images;
    int64_t last;    /* the image counted last, which may have more than one key */
    uint64_t splits; /* of the other */
    vg_text names;   /* of them */
} vg_leak_pair;

typedef struct vg_leaks {
    const char *train; /* the split that trains; every other one is for evaluation */
    vg_leak_set *sets;
    vg_leak_key *keys;
    vg_leak_pair *pairs; /* in the order in which they were found */
    size_t n_sets, sets_capacity, n_keys, keys_capacity, n_pairs, pairs_capacity;
    vg_leak_splits splits;
    int64_t n_sought, n_found; /* images */
} vg_leaks;

/* Learns what the opened shards of a split evaluate on, and the other ones, which it opens one by one without the
 * records of a list; nothing where all of them are one set. Errors: as vg_shard_open_as, and VG_E_DATA (too many names
 * of splits). */
vg_status vg_leaks_gather(vg_leaks *leaks, vg_shard *const *shards, size_t n_shards, const vg_shard_paths *others,
                          const vg_record_list *without);
/* The set that a shard is of, new or known. Errors: VG_E_DATA, VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_leaks_set(vg_leaks *leaks, const vg_shard *shard, size_t *set);
/* Whether an image of a set stands in an evaluation split of another one; counts it. Errors: VG_E_NOMEM. */
vg_status vg_leaks_find(vg_leaks *leaks, const vg_shard *shard, size_t set, size_t row, bool *found);
vg_status vg_leaks_name(vg_leaks *leaks);
void vg_leaks_release(vg_leaks *leaks);

#endif
