/* The loader's parts: loader_sample.c says what a stream position means, loader_pixels.c brings its pixels or features,
 * loader_fill.c fills its slots, loader.c has the queue and the threads. */
#ifndef VG_DATA_LOADER_IMPL_H
#define VG_DATA_LOADER_IMPL_H

#include "data/loader.h"

#include <pthread.h>

/* What the workers share: the table of samples, the cache and what was told. */
typedef struct vg_filler {
    vg_loader_spec spec;
    int64_t n_images, n_samples;
    int64_t *first_sample; /* [n_images+1] image k owns samples first_sample[k] .. first_sample[k+1]-1 */
    pthread_mutex_t lock;  /* guards what follows */
    uint8_t **cached;      /* [n_images] stretched pixels; once there they stay until release */
    size_t cache_left_bytes;
    bool *bad; /* [n_images] told of */
    bool warned_of_targets;
} vg_filler;

/* One worker's memory, grown as needed; zeroed is empty. */
typedef struct vg_fill_scratch {
    unsigned char *encoded;
    size_t encoded_capacity;
    vg_decoded decoded;
    vg_resize_scratch resize;
    vg_text mirrored;     /* a phrase */
    vg_seen_phrase *seen; /* for which a view is drawn */
    size_t seen_capacity;
} vg_fill_scratch;

vg_status vg_filler_init(vg_filler *filler, const vg_loader_spec *spec);
void vg_filler_release(vg_filler *filler);
void vg_fill_scratch_release(vg_fill_scratch *scratch);

/* What one position of the stream means. */
typedef struct vg_sample {
    int64_t image;
    vg_image_info info;
    int64_t sentences[VG_LOADER_PHRASES];
    int n_phrases;
    vg_view view;
    int64_t row; /* of its stored features */
} vg_sample;

/* The sample so many places behind a position, as the stage of that position takes it: stored features are those of one
 * stage. *found is false behind the end of a split that is read in its own order. Errors: VG_E_NOMEM. */
vg_status vg_sample_find(const vg_filler *filler, vg_fill_scratch *scratch, int64_t position, int64_t behind,
                         vg_sample *sample, bool *found);

/* The pixels of a sample's view, or its stored features, into place i of the batch; *usable is false for a bad image,
 * which is then told of. Thread-safe. */
vg_status vg_fill_picture(vg_filler *filler, vg_fill_scratch *scratch, const vg_sample *sample, vg_batch *batch, int i,
                          bool *usable);

/* No image at place i. */
void vg_clear_picture(vg_batch *batch, int i);

/* The side of the pictures of a batch that begins at this position: from (seed, step) where its stage has several. */
int vg_filler_side(const vg_filler *filler, int64_t first_position);

/* Fills image i of the batch and its slots from stream position `position`. Thread-safe for different (batch, i).
 * Errors: as vg_loader_take. */
vg_status vg_fill_image(vg_filler *filler, vg_fill_scratch *scratch, vg_batch *batch, int i, int64_t position);

#endif
