/* The loops over pixels, one table for each instruction set, all with the same results: sums of integers. */
#ifndef VG_DATA_PIXEL_OPS_IMPL_H
#define VG_DATA_PIXEL_OPS_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Weights have 22 fractional bits; 255 * 1.35 * 2^22 < 2^31, where 1.35 bounds the sum of the absolute weights of one
 * output. As vectors want them they are 16-bit pairs: weight = high * 2^12 + low, 0 <= low < 2^12. */
enum { VG_WEIGHT_BITS = 22, VG_LOW_BITS = 12 };

/* The taps of one axis: output i sums weights[j * n_wide + i] * input[first[i] + j], 0 <= j < count[i], of which the
 * first may have no weight. Only inputs from `least` up to but not `end` have one. Outputs from n_out on are the last
 * one again. */
typedef struct vg_taps {
    int32_t *weights;              /* [n_taps,n_wide], 0 behind an output's last, and VG_TAPS_BEHIND rows of 0 */
    int32_t *high, *low;           /* [n_taps / 2 rounded up,n_wide] pairs of them, the first in the lower half */
    int32_t *first, *count, *lead; /* [n_wide], lead: taps before those with a weight */
    double *centre, *exact, *sum;  /* [n_wide], [n_taps,n_wide], [n_wide] while weights are found: they add up to 1 */
    int most_taps, n_taps, least, end, n_out, n_wide; /* most_taps: that there is room for */
} vg_taps;

/* n_wide is n_out rounded up to a multiple of VG_TAPS_WIDE; taps are at most VG_MOST_STEP apart. */
enum { VG_TAPS_WIDE = 16, VG_TAPS_BEHIND = 3, VG_MOST_STEP = 4 };

/* What n_out outputs cover: [from, from + length) of n_in inputs; mirrored: outputs in reverse. First inputs are
 * multiples of `step`: 1, 2 or 4. */
typedef struct vg_axis {
    double from, length;
    int n_in, step;
    bool mirrored;
} vg_axis;

/* own * x + grey * g + shift, in 13 fractional bits; g is the pixel's grey. */
enum { VG_MIX_BITS = 13, VG_GREY_BITS = 15, VG_GREY_RED = 9798, VG_GREY_GREEN = 19235, VG_GREY_BLUE = 3735 };
typedef struct vg_mix {
    int32_t own, grey, shift;
} vg_mix;

typedef struct vg_pixel_ops {
    /* Fills taps that were placed. */
    void (*weigh)(vg_taps *taps, const vg_axis *axis);
    int rows; /* that sideways sums at once, at most VG_MOST_ROWS */
    /* out[k][n_out,3] = the sums along rows[k][n_in,3], k < rows; `block` has vg_block_bytes. start is even. */
    void (*sideways)(const uint8_t *const *rows, int n_in, const vg_taps *taps, void *block, uint8_t *const *out);
    /* out[n] = output i of columns of n bytes: the sum over rows of n bytes, row first[i] at `rows`. */
    void (*down)(const uint8_t *rows, const vg_taps *taps, int i, size_t n, uint8_t *out);
    /* Adds up each channel of n pixels. */
    void (*sums)(const uint8_t *pixels, size_t n, uint64_t sums[3]);
    void (*mix)(uint8_t *pixels, size_t n, const vg_mix *mix);
    /* For planes: the steps of their taps across and down. Between the passes columns of down_step rows lie together.
     */
    int across_step, down_step;
    /* The sums along n_rows rows of bytes, which begin `stride` bytes apart, to `between` [n_rows rounded up to
     * down_step, to_stride] from a first row that is a multiple of it. `block` as above; VG_PLANE_BEHIND bytes may be
     * read behind what has a weight. */
    void (*plane_sideways)(const uint8_t *rows, size_t stride, int n_rows, const vg_taps *taps, void *block,
                           uint8_t *between, size_t to_stride);
    /* out[k][stride] = output i + k of the columns, k < n <= VG_TAPS_WIDE; i is a multiple of that, stride one of 64.
     */
    void (*plane_down)(const uint8_t *between, size_t stride, const vg_taps *taps, int i, int n, void *block,
                       uint8_t *out);
    /* out[n,3] = the RGB of n samples of each kind, at most VG_MAX_STRETCHED; adds up each channel. */
    void (*to_rgb)(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, size_t n, uint8_t *out, uint64_t sums[3]);
} vg_pixel_ops;

enum { VG_MOST_ROWS = 4 };

/* R = Y + 1.402 Cr, G = Y - 0.344136 Cb - 0.714136 Cr, B = Y + 1.772 Cb, where Cb and Cr lie around 128. Source: JFIF
 * 1.02, in 14 fractional bits. */
enum { VG_RGB_BITS = 14, VG_RED_CR = 22970, VG_GREEN_CB = -5638, VG_GREEN_CR = -11700, VG_BLUE_CB = 29032 };

/* Room for pairs of n_in inputs of several rows, or for the weights of either axis once more as bytes: what a set
 * wants.
 */
static inline size_t vg_block_bytes(int n_in, const vg_taps *across, const vg_taps *down)
{
    const size_t taps = (size_t)across->most_taps, outputs = (size_t)across->n_wide;
    return ((size_t)n_in / 2 + taps + (size_t)down->most_taps + 16) * 64 + outputs * (3 * taps + 28);
}

extern const vg_pixel_ops vg_pixel_ops_base;
#if defined(__x86_64__)
extern const vg_pixel_ops vg_pixel_ops_avx2, vg_pixel_ops_avx512;
#endif

/* The best this machine has; the environment variable VLGTR_ISA (base, avx2 or avx512) lowers it. */
const vg_pixel_ops *vg_pixel_ops_best(void);

#endif
