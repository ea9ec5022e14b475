/* The weights of an axis, in plain C, included by one file for each instruction set so that its vectors serve: the
 * inner loops are over outputs, and each output has the operations of fp64 that it would have alone, in their order, so
 * the bits are the same. */
#include "data/pixel_ops_impl.h"

#include <math.h>
#include <string.h>

/* Both arms are found before one is chosen, so that vectors need not jump. */
static inline double bicubic(double x)
{
    const double a = -0.5, far = fabs(x);
    const double inner = ((a + 2) * far - (a + 3)) * far * far + 1, outer = a * (((far - 5) * far + 8) * far - 4);
    const double beyond_one = far < 2 ? outer : 0;
    return far < 1 ? inner : beyond_one;
}

static inline int32_t rounded(double x)
{
    return (int32_t)(x + (x < 0 ? -0.5 : 0.5));
}

static double spread(const vg_taps *t, const vg_axis *axis)
{
    return fmax(axis->length / t->n_out, 1);
}

static void inputs_find(const vg_taps *t, const vg_axis *axis, double *restrict centre, int32_t *restrict first,
                        int32_t *restrict count, int32_t *restrict lead)
{
    const double scale = axis->length / t->n_out, radius = 2 * spread(t, axis), least = t->least, most = t->end;
    const int last = t->n_out - 1, to_first = axis->mirrored ? last : 0, sign = axis->mirrored ? -1 : 1;
    for (int i = 0; i < t->n_wide; i++) {
        const int at = i < last ? i : last;
        centre[i] = axis->from + scale * (to_first + sign * at + 0.5);
        const double low = centre[i] - radius + 0.5, high = centre[i] + radius + 0.5;
        const int weighed = (int)(low > least ? low : least);
        first[i] = weighed & -axis->step;
        lead[i] = weighed - first[i];
        count[i] = (int32_t)(high < most ? high : most) - first[i];
    }
}

/* Tap j of all outputs, added to the sum of each. */
static void exact_find(const vg_taps *t, int j, double narrow, double *restrict exact, double *restrict sum)
{
    const int32_t *first = t->first, *count = t->count, *lead = t->lead;
    const double *centre = t->centre;
    for (int i = 0; i < t->n_wide; i++) {
        const double weight = bicubic((first[i] + j - centre[i] + 0.5) * narrow);
        const bool has = (j >= lead[i]) & (j < count[i]);
        exact[i] = has ? weight : 0;
        sum[i] += exact[i];
    }
}

/* Found in fp64 and rounded once. Source: vl-gtr-model 1.5. */
static void weights_find(const vg_taps *t, const vg_axis *axis)
{
    const size_t n = (size_t)t->n_wide, n_taps = (size_t)t->n_taps;
    memset(t->sum, 0, n * sizeof *t->sum);
    for (size_t j = 0; j < n_taps; j++) exact_find(t, (int)j, 1 / spread(t, axis), t->exact + j * n, t->sum);
    for (size_t j = 0; j < n_taps; j++)
        for (size_t i = 0; i < n; i++)
            t->weights[j * n + i] = rounded(t->exact[j * n + i] / t->sum[i] * (1 << VG_WEIGHT_BITS));
    memset(t->weights + n_taps * n, 0, VG_TAPS_BEHIND * n * sizeof *t->weights);
}

/* The weights of taps 2 p and 2 p + 1 of all outputs once more. */
static void pairs_find(const vg_taps *t, int p, int32_t *restrict high, int32_t *restrict low)
{
    const int n = t->n_wide, low_bits = (1 << VG_LOW_BITS) - 1;
    const int32_t *a = t->weights + (ptrdiff_t)2 * p * n, *b = a + n;
    for (int i = 0; i < n; i++) {
        high[i] = (int32_t)(((uint32_t)(a[i] >> VG_LOW_BITS) & 0xffff) | (uint32_t)(b[i] >> VG_LOW_BITS) << 16);
        low[i] = (a[i] & low_bits) | (b[i] & low_bits) << 16;
    }
}

static void weigh(vg_taps *t, const vg_axis *axis)
{
    t->least = (int)axis->from;
    t->end = (int)fmin(ceil(axis->from + axis->length), axis->n_in);
    inputs_find(t, axis, t->centre, t->first, t->count, t->lead);
    t->n_taps = 0;
    for (int i = 0; i < t->n_out; i++) t->n_taps = t->count[i] > t->n_taps ? t->count[i] : t->n_taps;
    weights_find(t, axis);
    for (int p = 0; 2 * p < t->n_taps; p++) pairs_find(t, p, t->high + p * t->n_wide, t->low + p * t->n_wide);
}
