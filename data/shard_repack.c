#include "data/shard_repack_impl.h"

#include "data/draw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

vg_status vg_repack_check(int side, int quality)
{
    if (side == 0) return VG_OK;
    VG_CHECK(side >= 1 && side <= VG_MAX_STRETCHED, VG_E_USAGE, "a side of %d pixels; 1 to %d can be made", side,
             VG_MAX_STRETCHED);
    VG_CHECK(quality >= 1 && quality <= 100, VG_E_USAGE, "a JPEG quality of %d; it goes from 1 to 100", quality);
    return VG_OK;
}

static int scaled(int length, int side, int longest)
{
    const int n = (int)lrint((double)length * side / longest);
    return n < 1 ? 1 : n;
}

/* The picture in out->bytes becomes a JPEG of out->width x out->height. */
static vg_status shrink(int quality, vg_repacked *out)
{
    vg_image picture = {0}, small = {.width = out->width, .height = out->height};
    vg_resize_scratch scratch = {0};
    unsigned char *jpeg = NULL;
    size_t n = 0;
    vg_status st = vg_image_decode(out->bytes, out->n, false, &picture);
    if (st == VG_OK && !(small.pixels = vg_new0_array((size_t)small.width * (size_t)small.height, 3)))
        st = vg_fail(VG_E_NOMEM, "no memory for %d x %d pixels", small.width, small.height);
    if (st == VG_OK) st = vg_image_resize(&picture, small.width, small.height, small.pixels, &scratch);
    if (st == VG_OK) st = vg_image_encode_jpeg(&small, quality, &jpeg, &n);
    if (st == VG_OK) st = vg_grow(&out->bytes, &out->capacity, n, 1);
    if (st == VG_OK) {
        memcpy(out->bytes, jpeg, n);
        out->n = n;
        out->is_new = true;
    }
    vg_image_release(&picture);
    vg_image_release(&small);
    free(scratch.data);
    free(jpeg);
    return st;
}

vg_status vg_repack_image(const vg_shard *shard, size_t row, int side, int quality, vg_repacked *out)
{
    const vg_shard_image *image = &shard->tables.images[row];
    const int longest = image->width > image->height ? image->width : image->height;
    out->width = image->width;
    out->height = image->height;
    out->n = 0;
    out->is_new = false;
    if (image->length == 0) return VG_OK;
    VG_TRY(vg_shard_read_image(shard, row, &out->bytes, &out->capacity, &out->n));
    if (side == 0 || longest <= side) return VG_OK;
    out->width = scaled(image->width, side, longest);
    out->height = scaled(image->height, side, longest);
    const vg_status st = shrink(quality, out);
    return st == VG_OK ? st : vg_fail_at(st, "%s: image %lld", shard->path, (long long)image->image_id);
}

void vg_repack_box(const vg_repacked *image, const vg_shard_image *old, const float from[4], float to[4])
{
    if (!image->is_new) {
        memcpy(to, from, 4 * sizeof *to);
        return;
    }
    for (int i = 0; i < 4; i++) {
        const int now = i % 2 ? image->height : image->width, was = i % 2 ? old->height : old->width;
        to[i] = (float)fmin((double)from[i] * now / was, now);
    }
}
