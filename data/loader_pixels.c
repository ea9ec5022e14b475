/* From an image of the split to pixels of a batch: read, decoded, seen as its view says, and kept where that is plain.
 */
#include "data/loader_impl.h"

#include <stdlib.h>
#include <string.h>

static size_t pixel_bytes(const vg_batch_shape *shape)
{
    return (size_t)shape->side * (size_t)shape->side * 3;
}

/* Pixels that a worker keeps room for; a larger picture's go back to the system. */
enum { KEPT_BYTES = 1 << 26 };

static void decoded_trim(vg_decoded *decoded)
{
    if (decoded->capacity <= KEPT_BYTES) return;
    vg_image_release(&decoded->image);
    decoded->capacity = 0;
}

/* The view of a picture: its window decoded, stretched, in its colours. A JPEG without its end is taken as it is. */
static vg_status decode_and_stretch(vg_fill_scratch *scratch, size_t n, const vg_decode *how, const vg_view *view,
                                    int side, uint8_t *out)
{
    VG_TRY(vg_image_decode_part(scratch->encoded, n, how, &scratch->decoded));
    uint64_t sums[3];
    VG_TRY(vg_decoded_stretch(&scratch->decoded, view->mirrored, side, side, out, &scratch->resize,
                              view->recoloured ? sums : NULL));
    if (view->recoloured) vg_recolour(out, (size_t)side * (size_t)side, sums, &view->colours);
    return VG_OK;
}

static vg_status read_and_stretch(const vg_filler *f, vg_fill_scratch *scratch, int64_t index, const vg_view *view,
                                  int side, uint8_t *out)
{
    vg_image_info info;
    size_t n = 0;
    vg_split_image(f->spec.split, index, &info);
    VG_TRY(vg_split_read_image(f->spec.split, index, &scratch->encoded, &scratch->encoded_capacity, &n));
    const vg_decode how = {.width = info.width, /* of another size, its boxes would mean something else */
                           .height = info.height,
                           .window = view->window,
                           .least_pixels = f->spec.reduced * side,
                           .planes = f->spec.reduced > 0,
                           .partial_ok = true};
    const vg_status st = decode_and_stretch(scratch, n, &how, view, side, out);
    decoded_trim(&scratch->decoded);
    return st;
}

/* Keeps a copy of the pixels while the cache has room; without memory the cache just stays smaller. */
static void cache_keep(vg_filler *f, int64_t index, const uint8_t *pixels)
{
    const size_t bytes = pixel_bytes(&f->spec.shape);
    pthread_mutex_lock(&f->lock);
    if (!f->cached[index] && f->cache_left_bytes >= bytes && (f->cached[index] = malloc(bytes))) {
        memcpy(f->cached[index], pixels, bytes);
        f->cache_left_bytes -= bytes;
    }
    pthread_mutex_unlock(&f->lock);
}

/* Tells of a bad image, once; the sentence of this thread's last error says why. */
static void tell_bad(vg_filler *f, int64_t index)
{
    vg_image_info info;
    pthread_mutex_lock(&f->lock);
    const bool news = !f->bad[index];
    f->bad[index] = true;
    pthread_mutex_unlock(&f->lock);
    if (!news) return;
    vg_split_image(f->spec.split, index, &info);
    vg_log_rank("image %lld (%s) of split %s is left out, here and wherever else it comes up: %s; find all such with "
                "`vlgtr shard verify`",
                (long long)info.image_id, info.file_name, vg_split_name(f->spec.split), vg_error_text());
}

static vg_status fill_pixels(vg_filler *f, vg_fill_scratch *scratch, int64_t index, const vg_view *view, int side,
                             uint8_t *out)
{
    const bool plain = !view->cropped && !view->mirrored && !view->recoloured && side == f->spec.shape.side;
    pthread_mutex_lock(&f->lock);
    const uint8_t *cached = plain ? f->cached[index] : NULL;
    pthread_mutex_unlock(&f->lock);
    if (cached) {
        memcpy(out, cached, pixel_bytes(&f->spec.shape));
        return VG_OK;
    }
    VG_TRY(read_and_stretch(f, scratch, index, view, side, out));
    if (plain) cache_keep(f, index, out);
    return VG_OK;
}

static vg_status fill_features(const vg_feature_store *features, int64_t row, float *out)
{
    VG_CHECK(vg_feature_store_has(features, row), VG_E_DATA, "it could not be read when its features were stored");
    return vg_feature_store_read(features, row, out);
}

/* Whether an image is bad is asked anew each time: what was met before does not matter. */
vg_status vg_fill_picture(vg_filler *f, vg_fill_scratch *scratch, const vg_sample *s, vg_batch *b, int i, bool *usable)
{
    const int64_t floats = b->shape.image_floats;
    const vg_status st = floats ? fill_features(f->spec.features, s->row, b->image_features + i * floats)
                                : fill_pixels(f, scratch, s->image, &s->view, b->shape.side,
                                              b->pixels + (size_t)i * pixel_bytes(&b->shape));
    *usable = st == VG_OK;
    if (st != VG_E_DATA) return st;
    tell_bad(f, s->image);
    return VG_OK;
}

void vg_clear_picture(vg_batch *b, int i)
{
    const int64_t floats = b->shape.image_floats;
    if (floats)
        memset(b->image_features + i * floats, 0, (size_t)floats * sizeof(float));
    else
        memset(b->pixels + (size_t)i * pixel_bytes(&b->shape), 0, pixel_bytes(&b->shape));
    b->images[i] = -1;
}
