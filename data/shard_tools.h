/* Looking at shards and proving them: what `vlgtr shard inspect` and `vlgtr shard verify` do. `path` is a shard or a
 * folder of them. */
#ifndef VG_DATA_SHARD_TOOLS_H
#define VG_DATA_SHARD_TOOLS_H

#include "kernels/base/base.h"

/* For people: a line for each shard, then images, refs and sentences per split, sentences per kind, and the first
 * sentences. Errors: as vg_split_open. */
vg_status vg_shard_inspect(const char *path, vg_text *out);

/* Draws the first n images of a split with their boxes and phrases on one contact sheet, a PNG. */
vg_status vg_shard_gallery(const char *path, const char *split, int n, const char *png_path);

typedef struct vg_shard_verify_report {
    int64_t shards, images, sentences, image_bytes;
    int64_t bad;   /* shards that cannot be opened, images whose bytes differ from their hash or do not decode */
    vg_text lines; /* one for each of them */
} vg_shard_verify_report;

/* Checks every row and the hash of every image, and with `decode` that each one decodes to the size its row gives. Goes
 * on after a fault; *report is filled also on failure, and the caller frees report->lines.data.
 * Errors: VG_E_DATA when anything is bad, with the first fault; VG_E_STORAGE for an I/O error that lasts. */
vg_status vg_shard_verify(const char *path, bool decode, vg_shard_verify_report *report);

#endif
