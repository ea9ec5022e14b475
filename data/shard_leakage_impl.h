/* Inside the search for leakage: what is known of each image, and what it was found to be. What images are known by
 * serves training, too (data/split_leaks_impl.h). */
#ifndef VG_DATA_SHARD_LEAKAGE_IMPL_H
#define VG_DATA_SHARD_LEAKAGE_IMPL_H

#include "data/perceptual_hash.h"
#include "data/shard_impl.h"
#include "data/shard_leakage.h"

/* By what an image is known: its ids, then its name; equal keys, the same image. */
enum { VG_KEY_IMAGE, VG_KEY_COCO, VG_KEY_FLICKR, VG_N_ID_KEYS, VG_KEY_NAME = VG_N_ID_KEYS, VG_N_KEYS };

/* Fills the keys of an image's ids, hashes; 0 where it has none. */
void vg_leak_id_keys(const vg_shard *shard, size_t row, uint64_t key[VG_N_ID_KEYS]);

enum { VG_LEAK_NONE = -1, VG_MOST_EVALUATION_SPLITS = 64 };

/* Names of evaluation splits; a set of them is a word of bits. */
typedef struct vg_leak_splits {
    vg_shard_name name[VG_MOST_EVALUATION_SPLITS]; /* of the bits */
    int n;
} vg_leak_splits;

/* The bit of a split, which is added where it is new. Errors: VG_E_DATA (more than VG_MOST_EVALUATION_SPLITS). */
vg_status vg_leak_split_bit(vg_leak_splits *splits, const char *name, uint64_t *bit);
/* "val, testA" */
vg_status vg_leak_split_names(const vg_leak_splits *splits, uint64_t bits, vg_text *out);

typedef struct vg_leak_item {
    uint32_t shard, row;
    int64_t image_id;
    bool is_train, has_looks;
    uint64_t splits;         /* bits of the evaluation splits it stands in; 0: none */
    uint64_t key[VG_N_KEYS]; /* hashes; 0 where it has none */
    uint64_t looks;
    int64_t like[VG_N_KEYS]; /* the evaluation item with the same key, VG_LEAK_NONE where there is none */
    int64_t like_looks;      /* the one that looks most alike */
    int distance;            /* in so many bits */
} vg_leak_item;

typedef struct vg_leak_search {
    const vg_leakage_spec *spec;
    vg_leakage_report *report;
    const char *train;
    vg_shard_paths list; /* the first n_own are those of spec->paths */
    size_t n_own;
    vg_leak_item *items; /* in the order of shards and rows */
    size_t n_items, capacity;
    vg_leak_splits splits;
} vg_leak_search;

/* Fills `like`, `like_looks` and `distance` of every training item. */
vg_status vg_leak_match(vg_leak_search *search);
bool vg_leak_is_found(const vg_leak_item *item);

/* Fills the counts, the text and the list of the report. */
vg_status vg_leak_tell(vg_leak_search *search);

#endif
