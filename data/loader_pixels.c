/* From an image of the split to pixels of a batch: read, decoded, seen as its view says, and kept where that is plain.
 */
#include "data/loader_impl.h"

#include <stdlib.h>
#include <string.h>

static size_t pixel_bytes(const vg_batch_shape *shape)
{
    return (size_t)shape->side * (size_t)shape->side * 3;
}

/* The view of the picture, stretched, in its colours. */
static vg_status stretch(const vg_filler *f, vg_fill_scratch *scratch, const vg_image *image, const vg_view *view,
                         uint8_t *out)
{
    const int side = f->spec.shape.side;
    const vg_window *w = &view->window;
    const vg_stretch part = {w->x, w->y, w->width, w->height, view->mirrored};
    VG_TRY(vg_image_stretch(image, &part, side, side, out, &scratch->resize));
    if (view->recoloured) vg_recolour(out, (size_t)side * (size_t)side, &view->colours);
    return VG_OK;
}

static vg_status decode_and_stretch(const vg_filler *f, vg_fill_scratch *scratch, int64_t index, const vg_view *view,
                                    uint8_t *out)
{
    vg_image_info info;
    vg_image image;
    size_t n = 0;
    vg_split_image(f->spec.split, index, &info);
    VG_TRY(vg_split_read_image(f->spec.split, index, &scratch->encoded, &scratch->encoded_capacity, &n));
    VG_TRY(vg_image_decode(scratch->encoded, n, false, &image));
    vg_status st = VG_OK;
    if (image.width != info.width || image.height != info.height) /* its boxes would mean something else */
        st = vg_fail(VG_E_DATA, "the picture is %d x %d pixels and its record says %d x %d", image.width, image.height,
                     info.width, info.height);
    if (st == VG_OK) st = stretch(f, scratch, &image, view, out);
    vg_image_release(&image);
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

/* Marks an image as bad; the sentence of this thread's last error says why. */
static vg_status quarantine(vg_filler *f, int64_t index)
{
    const int64_t n_samples = f->first_sample[index + 1] - f->first_sample[index];
    pthread_mutex_lock(&f->lock);
    const bool news = !f->bad[index];
    f->bad[index] = true;
    if (news) f->n_quarantined += n_samples;
    const int64_t total = f->n_quarantined;
    pthread_mutex_unlock(&f->lock);
    if (news) {
        vg_image_info info;
        vg_split_image(f->spec.split, index, &info);
        vg_log_rank("image %lld (%s) of split %s is left out from now on: %s; find all such with `vlgtr shard verify`",
                    (long long)info.image_id, info.file_name, vg_split_name(f->spec.split), vg_error_text());
    }
    VG_CHECK((double)total <= f->spec.max_bad * (double)f->n_samples, VG_E_DATA,
             "%lld of %lld samples of split %s cannot be read, more than the allowed fraction of %g; see the lines "
             "above, mend the shards or raise data.max_bad",
             (long long)total, (long long)f->n_samples, vg_split_name(f->spec.split), f->spec.max_bad);
    return VG_OK;
}

vg_status vg_fill_pixels(vg_filler *f, vg_fill_scratch *scratch, int64_t index, const vg_view *view, uint8_t *out,
                         bool *usable)
{
    const bool plain = !view->cropped && !view->mirrored && !view->recoloured;
    pthread_mutex_lock(&f->lock);
    const bool bad = f->bad[index];
    const uint8_t *cached = plain ? f->cached[index] : NULL;
    pthread_mutex_unlock(&f->lock);
    *usable = !bad;
    if (bad) return VG_OK;
    if (cached) {
        memcpy(out, cached, pixel_bytes(&f->spec.shape));
        return VG_OK;
    }
    const vg_status st = decode_and_stretch(f, scratch, index, view, out);
    *usable = st == VG_OK;
    if (st == VG_E_DATA) return quarantine(f, index);
    if (st == VG_OK && plain) cache_keep(f, index, out);
    return st;
}
