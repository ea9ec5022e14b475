/* The parts of a vg_gemm_isa that read alike for every width of vector: packing, finishing, act_grad. Included once by
 * each gemm_<isa>.c, after its vectors and after it has defined NR. */
#ifndef VG_GEMM_ISA_IMPL_H
#define VG_GEMM_ISA_IMPL_H

#include "kernels/cpu/gemm_impl.h"
#include "kernels/cpu/vector_math_impl.h"

#include <string.h>

static inline vf load_some(const float *p, int count)
{
    return count == VF_LANES ? vf_load(p) : vf_load_part(p, count);
}

static inline void store_some(float *p, vf v, int count)
{
    if (count == VF_LANES)
        vf_store(p, v);
    else
        vf_store_part(p, v, count);
}

/* Inlined where the width is known. */
#define EACH_WIDTH __attribute__((always_inline))

/* One row of a panel. Whole vectors are stored: what they write past the last lane is written over by the next row;
 * only the last row has to keep to its own. */
static inline void put_row(float *dst, int width, vf x, bool is_last)
{
    if (is_last && width < VF_LANES)
        vf_store_part(dst, x, width);
    else
        vf_store(dst, x);
}

/* Lanes lie side by side in the source: the vector of them that begins at lane i. The steps `ahead` further on are
 * asked for: so many rows at once are more than the hardware follows. */
EACH_WIDTH static inline void pack_column(float *dst, int width, const float *src, int64_t step, int count, int64_t k,
                                          float *sums, int ahead)
{
    vf sum = sums ? load_some(sums, count) : vf_set(0.0F);
    for (int64_t p = 0; p < k; p++, dst += width, src += step) {
        const vf x = load_some(src, count);
        __builtin_prefetch(src + ahead * step, 0, 2);
        sum += x;
        put_row(dst, width, x, p + 1 == k);
    }
    if (sums) store_some(sums, sum, count);
}

EACH_WIDTH static inline void pack_side_by_side(float *dst, int width, const float *src, int64_t step, int n_lanes,
                                                int64_t k, float *sums, int ahead)
{
    for (int i = 0; i < width; i += VF_LANES) {
        const int count = n_lanes - i < VF_LANES ? n_lanes - i : VF_LANES;
        pack_column(dst + i, width, count > 0 ? src + i : src, step, count > 0 ? count : 0, k, sums ? sums + i : NULL,
                    ahead);
    }
}

static inline int64_t lane_of(const int32_t *lanes, int i)
{
    return lanes ? lanes[i] : i;
}

/* VF_LANES lanes, VF_LANES steps, which lie side by side in the source. The same steps of the lanes `ahead` further on
 * are asked for, listed lanes being neighbours as a rule. */
EACH_WIDTH static inline void pack_square(float *dst, int width, const float *src, int64_t lane, const int32_t *lanes,
                                          int n_lanes, const float *scale, int ahead)
{
    vf rows[VF_LANES];
#pragma GCC unroll 16
    for (int i = 0; i < VF_LANES; i++) {
        rows[i] = i < n_lanes ? vf_load(src + lane_of(lanes, i) * lane) : vf_set(0.0F);
        if (i < width && i < n_lanes) __builtin_prefetch(src + (lane_of(lanes, i) + ahead) * lane, 0, 2);
    }
    if (scale)
#pragma GCC unroll 16
        for (int i = 0; i < VF_LANES; i++) rows[i] *= vf_load(scale);
    vf_transpose(rows);
#pragma GCC unroll 16
    for (int i = 0; i < VF_LANES; i++) put_row(dst + i * width, width, rows[i], i + 1 == VF_LANES);
}

/* Any layout, one number after the other. */
static void pack_slowly(float *dst, int width, const float *src, int64_t lane, int64_t step, const int32_t *lanes,
                        int n_lanes, int64_t k, const float *scale)
{
    for (int64_t p = 0; p < k; p++)
        for (int i = 0; i < width; i++) {
            const float x = i < n_lanes ? src[lane_of(lanes, i) * lane + p * step] : 0.0F;
            dst[p * width + i] = scale ? x * scale[p] : x;
        }
}

/* Steps lie side by side in the source. */
EACH_WIDTH static inline void pack_end_to_end(float *dst, int width, const float *src, int64_t lane,
                                              const int32_t *lanes, int n_lanes, int64_t k, const float *scale,
                                              int ahead)
{
    int64_t p = 0;
    for (; p + VF_LANES <= k; p += VF_LANES)
        for (int i = 0; i < width; i += VF_LANES) {
            const int here = n_lanes - i < VF_LANES ? n_lanes - i : VF_LANES;
            pack_square(dst + p * width + i, width, src + (lanes ? 0 : i) * lane + p, lane, lanes ? lanes + i : NULL,
                        here, scale ? scale + p : NULL, ahead);
        }
    pack_slowly(dst + p * width, width, src + p, lane, 1, lanes, n_lanes, k - p, scale ? scale + p : NULL);
}

EACH_WIDTH static inline void pack_width(float *dst, int width, const float *src, int64_t lane, int64_t step,
                                         const int32_t *lanes, int n_lanes, int64_t k, const float *scale, float *sums,
                                         int ahead)
{
    if (lane == 1 && !scale)
        pack_side_by_side(dst, width, src, step, n_lanes, k, sums, ahead);
    else if (step == 1 && lanes)
        pack_end_to_end(dst, width, src, lane, lanes, n_lanes, k, scale, ahead);
    else if (step == 1) /* compiled by itself too */
        pack_end_to_end(dst, width, src, lane, NULL, n_lanes, k, scale, ahead);
    else
        pack_slowly(dst, width, src, lane, step, lanes, n_lanes, k, scale);
}

static void pack(float *dst, int width, const float *src, int64_t lane, int64_t step, const int32_t *lanes, int n_lanes,
                 int64_t k, const float *scale, float *sums, int ahead)
{
    if (width == MR) /* each width is compiled by itself */
        pack_width(dst, MR, src, lane, step, lanes, n_lanes, k, scale, sums, ahead);
    else
        pack_width(dst, NR, src, lane, step, lanes, n_lanes, k, scale, sums, ahead);
}

static inline vf activate(vg_act act, vf z)
{
    switch (act) {
    case VG_ACT_RELU: return vf_max(vf_set(0.0F), z);
    case VG_ACT_GELU: return vf_gelu(z);
    case VG_ACT_SIGMOID: return vf_sigmoid(z);
    case VG_ACT_NONE: break;
    }
    return z;
}

/* VF_LANES columns of some rows, `count` of them inside; act is known where this is compiled, and the rest is asked
 * where it costs nothing: what belongs to a column is read once. */
EACH_WIDTH static inline void finish_columns(const vg_gemm *g, const float *sums, int64_t i, int64_t n_rows, int64_t j,
                                             int count, vg_act act)
{
    const vg_gemm_finish f = g->finish;
    const vf bias = f.bias ? load_some(f.bias + j, count) : vf_set(-0.0F); /* which changes no bit of a sum */
    const vf scale = f.scale ? load_some(f.scale + j, count) : vf_set(1.0F);
    for (int64_t r = 0; r < n_rows; r++, sums += NR) {
        const int64_t at = vg_gemm_row_of_c(g, i + r) + j;
        const vf z = vf_load(sums) + bias;
        if (f.z) store_some(f.z + at, z, count);
        vf y = activate(act, z);
        if (f.add)
            y = vf_fma(scale, y, load_some(f.add + at, count));
        else if (f.scale)
            y *= scale;
        store_some(f.c + at, y, count);
    }
}

EACH_WIDTH static inline void finish_act(const vg_gemm *g, const float *sums, int64_t i, int64_t n_rows, int64_t j,
                                         vg_act act)
{
    const int n_columns = g->n - j < NR ? (int)(g->n - j) : NR;
    for (int v = 0; v + VF_LANES <= n_columns; v += VF_LANES)
        finish_columns(g, sums + v, i, n_rows, j + v, VF_LANES, act);
    const int whole = n_columns / VF_LANES * VF_LANES;
    if (whole < n_columns) finish_columns(g, sums + whole, i, n_rows, j + whole, n_columns - whole, act);
}

static void finish(const vg_gemm *g, const float *sums, int64_t i, int64_t n_rows, int64_t j)
{
    switch (g->finish.act) { /* each is compiled by itself */
    case VG_ACT_NONE: finish_act(g, sums, i, n_rows, j, VG_ACT_NONE); break;
    case VG_ACT_RELU: finish_act(g, sums, i, n_rows, j, VG_ACT_RELU); break;
    case VG_ACT_GELU: finish_act(g, sums, i, n_rows, j, VG_ACT_GELU); break;
    case VG_ACT_SIGMOID: finish_act(g, sums, i, n_rows, j, VG_ACT_SIGMOID); break;
    }
}

static inline vf slope_times(vg_act act, vf dy, vf x)
{
    switch (act) {
    case VG_ACT_RELU: return vf_if_positive(x, dy, vf_set(0.0F));
    case VG_ACT_GELU: return dy * vf_gelu_slope(x);
    case VG_ACT_SIGMOID: return dy * (x * (vf_set(1.0F) - x));
    case VG_ACT_NONE: break;
    }
    return dy;
}

static void act_grad(vg_act act, float scale, const float *dy, const float *y_or_z, float *dz, int64_t n)
{
    const int64_t whole = n / VF_LANES * VF_LANES;
    for (int64_t i = 0; i < whole; i += VF_LANES) {
        __builtin_prefetch(dy + i + VG_FLOATS_AHEAD);
        __builtin_prefetch(y_or_z + i + VG_FLOATS_AHEAD);
        __builtin_prefetch(dz + i + VG_FLOATS_AHEAD, 1);
        vf_store(dz + i, slope_times(act, vf_load(dy + i) * vf_set(scale), vf_load(y_or_z + i)));
    }
    const int rest = (int)(n - whole);
    if (rest)
        store_some(dz + whole,
                   slope_times(act, load_some(dy + whole, rest) * vf_set(scale), load_some(y_or_z + whole, rest)),
                   rest);
}

#endif
