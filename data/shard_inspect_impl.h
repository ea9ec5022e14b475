/* What is told about shards: collected in shard_inspect.c, worded in shard_inspect_report.c. */
#ifndef VG_DATA_SHARD_INSPECT_IMPL_H
#define VG_DATA_SHARD_INSPECT_IMPL_H

#include "data/shard_impl.h"

/* Counts of one split or kind, over all shards. */
typedef struct vg_tally_row {
    vg_shard_name name;
    int64_t images, refs, sentences, boxes;
    int64_t last_image, last_ref; /* of the shard at hand */
} vg_tally_row;

typedef struct vg_tally {
    vg_tally_row *row;
    size_t n, capacity;
} vg_tally;

/* A number that was measured n times; the values are sorted once all are there. */
typedef struct vg_measured {
    float *values;
    size_t n, capacity;
} vg_measured;

enum {
    VG_MEASURED_WORDS,   /* of a phrase, set apart by white space */
    VG_MEASURED_BOXES,   /* of a phrase */
    VG_MEASURED_AREA,    /* of a box, as a share of its image; a box counts as often as phrases use it */
    VG_MEASURED_PHRASES, /* of an image */
    VG_MEASURED_WIDTH,   /* of an image, pixels */
    VG_MEASURED_HEIGHT,
    VG_MEASURED_BYTES, /* of an image as it is stored */
    VG_N_MEASURED
};

/* Where a shard comes from and how much is in it. */
typedef struct vg_shard_summary {
    char *path;
    vg_shard_origin origin;
    uint64_t content, image_bytes;
    size_t n_images, n_absent, n_sentences; /* absent: images without their file */
} vg_shard_summary;

typedef struct vg_shard_statistics {
    vg_shard_summary *shards;
    size_t n_shards, shards_capacity;
    vg_tally splits, kinds;
    vg_measured measured[VG_N_MEASURED];
    uint64_t *phrases; /* hashes of the phrases, sorted */
    size_t n_phrases, phrases_capacity;
    size_t n_distinct_phrases;
    vg_text first; /* the first sentences, for people */
    int n_first;
} vg_shard_statistics;

/* The smallest value that a share q of all do not exceed, 0 <= q <= 1 (nearest rank); 0 when there is none. */
double vg_measured_quantile(const vg_measured *measured, double q);
double vg_measured_mean(const vg_measured *measured);

vg_status vg_shard_statistics_text(const vg_shard_statistics *statistics, vg_text *out);
vg_status vg_shard_statistics_json(const vg_shard_statistics *statistics, vg_text *out);

#endif
