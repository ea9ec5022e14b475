/* Looking at shards, proving them and writing them anew: what `vlgtr shard inspect, verify, merge, split, filter,
 * repack` do. A path is a shard or a folder of them. */
#ifndef VG_DATA_SHARD_TOOLS_H
#define VG_DATA_SHARD_TOOLS_H

#include "data/record_list.h"
#include "kernels/base/base.h"

/* What is in shards: provenance, images, refs and sentences per split and kind, and how words, boxes and sizes are
 * distributed; for people, or as one JSON object. `split` NULL: all of them. Errors: as vg_split_open. */
vg_status vg_shard_inspect(const char *const *paths, int n_paths, const char *split, bool json, vg_text *out);

/* Draws n images of a split (NULL: of all), drawn by lot, with their boxes and phrases on one contact sheet, a PNG. The
 * seed decides which. Errors: VG_E_USAGE (n is not 1 to 100), VG_E_DATA, VG_E_STORAGE. */
vg_status vg_shard_sample(const char *const *paths, int n_paths, const char *split, int n, uint64_t seed,
                          const char *png_path);

typedef struct vg_shard_verify_report {
    int64_t shards, images, sentences, image_bytes;
    int64_t absent; /* images that were imported without their file; not bad */
    int64_t bad;    /* shards that do not open, rows not to be believed, images that fail their hash or do not decode */
    vg_text lines;  /* one for each of them */
    vg_text quarantine; /* one for each row and image, as data/record_list.h reads it */
} vg_shard_verify_report;

/* Checks every row and the hash of every image, and with `decode` its pixels, on all processors. Goes on after a fault;
 * *report is filled also on failure, and the caller releases it. Errors: VG_E_DATA when anything is bad, with the first
 * fault; VG_E_STORAGE for an I/O error that lasts. */
vg_status vg_shard_verify(const char *const *paths, int n_paths, bool decode, vg_shard_verify_report *report);
void vg_shard_verify_report_release(vg_shard_verify_report *report);

/* How shards are written anew. Zeroed fields are defaults. */
typedef struct vg_shard_rewrite_spec {
    const char *const *paths; /* in this order */
    int n_paths;
    const char *out;  /* a folder without shards; made when absent */
    const char *name; /* of the new shards */
    size_t shard_bytes;
    /* The sentences that a share of the images has in split `from` go to split `to`; from NULL: none. An image is
     * chosen by its id and the seed alone, so it goes or stays in all shards alike and no image is torn in two. */
    const char *from, *to;
    double share;
    uint64_t seed;
    const char *where;             /* sentences stay for which this holds (data/FORMAT.md); NULL: all */
    const vg_record_list *without; /* records that are left out; NULL: none. Rows at fault may be among them */
    int side;    /* images with a longer side become JPEGs of this side, their boxes smaller with them; 0: none */
    int quality; /* of those JPEGs, 1..100 */
} vg_shard_rewrite_spec;

typedef struct vg_shard_rewrite_report {
    int64_t shards, images, sentences;
    int64_t moved_images, moved_sentences, repacked_images;
    int64_t left_out;           /* records of spec->without that were there */
    int64_t repeated_sentences; /* whose record another one before them has */
} vg_shard_rewrite_report;

/* Copies the records of all shards, unchanged but for what the spec says, into new ones of about shard_bytes (256 MiB);
 * every image's hash is checked on the way. What was done goes into the history of the new shards; records of different
 * origin never share one. Images without sentences go, too. Errors: VG_E_USAGE (nothing moved, nothing left, another
 * one at work in `out`), VG_E_DATA (also a split `from` that is not there, a list of which no record is there),
 * VG_E_STORAGE, VG_E_STOPPED; no new shard stays then, for some would be read as all. */
vg_status vg_shard_rewrite(const vg_shard_rewrite_spec *spec, vg_shard_rewrite_report *report);

#endif
