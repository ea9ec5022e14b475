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

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? a * (((x - 5) * x + 8) * x - 4) : 0;
}

static int32_t rounded(double x)
{
    return (int32_t)(x < 0 ? x - 0.5 : x + 0.5);
}

static int taps_stride(double length, int n_out)
{
    return 2 * (int)ceil(2 * fmax(length / n_out, 1)) + 1;
}

static int fours(int n)
{
    return (n + 3) / 4 * 4;
}

/* The weights of output `at` once more, as pairs from input `start` on. */
static void pairs_fill(vg_taps *t, int at, int start)
{
    const int32_t *weights = t->weights + (size_t)at * (size_t)t->stride;
    const int shift = t->first[at] - start;
    const int n_pairs = (shift + t->count[at] + 1) / 2;
    t->start[at] = start;
    if (t->most_pairs < n_pairs) t->most_pairs = n_pairs;
    for (int j = 0; j < t->pair_stride; j++) {
        uint32_t high = 0, low = 0;
        for (int k = 0; k < 2; k++) {
            const int tap = 2 * j + k - shift;
            const int32_t weight = tap >= 0 && tap < t->count[at] ? weights[tap] : 0;
            high |= ((uint32_t)(weight >> VG_LOW_BITS) & 0xffff) << 16 * k;
            low |= ((uint32_t)weight & ((1U << VG_LOW_BITS) - 1)) << 16 * k;
        }
        t->high[(size_t)at * (size_t)t->pair_stride + (size_t)j] = (int32_t)high;
        t->low[(size_t)at * (size_t)t->pair_stride + (size_t)j] = (int32_t)low;
    }
}

/* Found in fp64 and rounded once. Source: vl-gtr-model 1.5. */
void vg_taps_fill(vg_taps *t, double from, double length, int n_in, bool mirrored, int even)
{
    const double scale = length / t->n_out, spread = fmax(scale, 1), radius = 2 * spread, narrow = 1 / spread;
    t->least = (int)floor(from);
    t->end = (int)fmin(ceil(from + length), n_in);
    t->most_pairs = 0;
    for (int i = t->n_out; i < fours(t->n_out); i++) t->start[i] = t->count[i] = t->first[i] = 0;
    for (int i = t->n_out; i < fours(t->n_out); i++) pairs_fill(t, i, 0);
    for (int i = 0; i < t->n_out; i++) {
        const int at = mirrored ? t->n_out - 1 - i : i;
        const double centre = from + scale * (i + 0.5);
        const int first = (int)fmax(centre - radius + 0.5, t->least), end = (int)fmin(centre + radius + 0.5, t->end);
        int32_t *weights = t->weights + (size_t)at * (size_t)t->stride;
        double sum = 0;
        for (int j = first; j < end; j++) sum += t->exact[j - first] = bicubic((j - centre + 0.5) * narrow);
        for (int j = 0; j < end - first; j++) weights[j] = rounded(t->exact[j] / sum * (1 << VG_WEIGHT_BITS));
        t->first[at] = first;
        t->count[at] = end - first;
        pairs_fill(t, at, first / even * even);
    }
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
    t->n_out = n_out;
    t->stride = taps_stride(length, n_out);
    t->pair_stride = t->stride / 2 + 2;
    const size_t n = (size_t)fours(n_out);
    t->weights = vg_piece(at, offset, n * (size_t)t->stride, sizeof(int32_t));
    t->high = vg_piece(at, offset, n * (size_t)t->pair_stride, sizeof(int32_t));
    t->low = vg_piece(at, offset, n * (size_t)t->pair_stride, sizeof(int32_t));
    t->exact = vg_piece(at, offset, (size_t)t->stride, sizeof(double));
    int32_t **const each[] = {&t->first, &t->count, &t->start};
    for (size_t k = 0; k < sizeof each / sizeof *each; k++) *each[k] = vg_piece(at, offset, n, sizeof(int32_t));
}
