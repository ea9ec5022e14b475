/* Leakage: images that are trained on and stand in an evaluation split, too.
 *
 *     vg_leakage_spec spec = {.paths = &"shards/vg", .n_paths = 1, .against = &"shards/refcoco", .n_against = 1,
 *                             .by_id = true, .by_name = true, .by_pixels = true, .max_bits = 8};
 *     st = vg_shard_leakage(&spec, &report);       VG_E_DATA where something leaks
 *     ... report.text for people, report.list for vg_record_list_read ...
 *     vg_leakage_report_release(&report); */
#ifndef VG_DATA_SHARD_LEAKAGE_H
#define VG_DATA_SHARD_LEAKAGE_H

#include "kernels/base/base.h"

typedef struct vg_leakage_spec {
    const char *const *paths; /* shards with the split that is trained on */
    int n_paths;
    const char *const *against; /* more shards with evaluation splits; may be none */
    int n_against;
    const char *train; /* the split that is trained on; NULL: "train". Every other one is for evaluation */
    bool by_id;        /* equal image ids in shards of one source, equal ids of COCO or Flickr in any */
    bool by_name;      /* equal file names, without their folders */
    bool by_pixels;    /* perceptual hashes (data/perceptual_hash.h) that differ in at most max_bits bits */
    int max_bits;      /* 0 to VG_HAMMING_MOST */
} vg_leakage_spec;

typedef struct vg_leakage_report {
    int64_t train_images, evaluation_images;
    int64_t leaked_images, leaked_sentences; /* of the split that is trained on */
    int64_t by_id, by_name, by_pixels;       /* leaked images that each of these finds */
    int64_t absent, flat, unreadable;        /* images without a hash: no file, no contrast, not to be decoded */
    vg_text text;                            /* for people */
    vg_text list; /* a JSON object a line for each leaked image; "records" are its training sentences */
} vg_leakage_report;

/* Compares every training image with all evaluation images, those of `paths` and of `against`. *report is filled also
 * on failure; the caller releases it. Errors: VG_E_USAGE (max_bits; nothing to compare by), VG_E_DATA (something leaks,
 * with the first; no such split; a shard that is not whole), VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_shard_leakage(const vg_leakage_spec *spec, vg_leakage_report *report);
void vg_leakage_report_release(vg_leakage_report *report);

#endif
