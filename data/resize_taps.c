/* Stretches of what sides there may be, and their weights along one axis. */
#include "data/resize_impl.h"

#include <math.h>

enum { MAX_SIDE_IN = 65535, MAX_BETWEEN = 1 << 28 };

vg_status vg_stretch_check(const vg_stretch *part, int width_in, int height_in, int width, int height)
{
    const double slack = 1e-6; /* a window in samples of another size is rounded */
    VG_CHECK(part->x >= 0 && part->y >= 0 && part->width > 0 && part->height > 0 &&
                 part->x + part->width <= width_in + slack && part->y + part->height <= height_in + slack,
             VG_E_BUG, "the part of a picture to stretch lies outside it");
    VG_CHECK(width > 0 && height > 0 && width <= VG_MAX_STRETCHED && height <= VG_MAX_STRETCHED &&
                 width_in <= MAX_SIDE_IN && height_in <= MAX_SIDE_IN && (int64_t)height_in * width <= MAX_BETWEEN,
             VG_E_DATA, "cannot stretch an image of %d x %d pixels to %d x %d; the sides may be %d and %d pixels",
             width_in, height_in, width, height, MAX_SIDE_IN, VG_MAX_STRETCHED);
    return VG_OK;
}

static size_t most_taps(double length, int n_out)
{
    return 2 * (size_t)ceil(2 * fmax(length / n_out, 1)) + 1 + (VG_MOST_STEP - 1);
}

void *vg_piece(unsigned char *at, size_t *offset, size_t n, size_t bytes_each)
{
    void *here = at ? at + *offset : NULL;
    *offset = vg_round_up(*offset + n * bytes_each, VG_PIECE_BYTES);
    return here;
}

vg_status vg_scratch_take(vg_resize_scratch *scratch, size_t bytes, unsigned char **at)
{
    VG_TRY(vg_grow(&scratch->data, &scratch->capacity, bytes + VG_PIECE_BYTES, 1));
    *at = (unsigned char *)vg_round_up((size_t)scratch->data, VG_PIECE_BYTES);
    return VG_OK;
}

void vg_taps_place(vg_taps *t, double length, int n_out, unsigned char *at, size_t *offset)
{
    const size_t n = vg_round_up((size_t)n_out, VG_TAPS_WIDE), n_taps = most_taps(length, n_out);
    t->n_out = n_out;
    t->n_wide = (int)n;
    t->most_taps = (int)n_taps;
    t->weights = vg_piece(at, offset, n * (n_taps + VG_TAPS_BEHIND), sizeof(int32_t));
    int32_t **const pairs[] = {&t->high, &t->low}, **const each[] = {&t->first, &t->count, &t->lead};
    for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++)
        *pairs[k] = vg_piece(at, offset, n * ((n_taps + 1) / 2), sizeof(int32_t));
    for (size_t k = 0; k < sizeof each / sizeof *each; k++) *each[k] = vg_piece(at, offset, n, sizeof(int32_t));
    t->centre = vg_piece(at, offset, n, sizeof(double));
    t->exact = vg_piece(at, offset, n * n_taps, sizeof(double));
    t->sum = vg_piece(at, offset, n, sizeof(double));
}
