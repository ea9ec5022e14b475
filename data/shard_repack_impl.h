/* An image on its way into another shard: as it is, or smaller and encoded again. Inside data/. */
#ifndef VG_DATA_SHARD_REPACK_IMPL_H
#define VG_DATA_SHARD_REPACK_IMPL_H

#include "data/shard_impl.h"

/* Zeroed is empty; used again, its memory is. The caller frees bytes. */
typedef struct vg_repacked {
    unsigned char *bytes; /* encoded; n 0 where the image is absent */
    size_t n, capacity;
    int width, height;
    bool is_new; /* not the bytes of the old shard */
} vg_repacked;

/* Errors: VG_E_USAGE for a side or quality that cannot be. side 0: images stay as they are. */
vg_status vg_repack_check(int side, int quality);

/* Image `row`, its hash checked. One whose longer side has more than `side` pixels is resized to that (antialiased
 * bicubic) and becomes a JPEG of this quality; every other keeps its bytes. Thread-safe for different *out. Errors:
 * VG_E_DATA naming the image, VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_repack_image(const vg_shard *shard, size_t row, int side, int quality, vg_repacked *out);

/* A box of the old image in pixels of the new one, inside it. */
void vg_repack_box(const vg_repacked *image, const vg_shard_image *old, const float from[4], float to[4]);

#endif
