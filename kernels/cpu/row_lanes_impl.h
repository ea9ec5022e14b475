/* Kernels that take a tensor row by row or element by element: layer normalisation and dropout. */
#ifndef VG_ROW_LANES_IMPL_H
#define VG_ROW_LANES_IMPL_H

#include "kernels/cpu/attention_lanes_impl.h"

/* Lanes from `count` on become 0. */
static inline vf first_lanes(vf x, int64_t count)
{
    if (count >= VF_LANES) return x;
    float lane[VF_LANES];
    vf_store(lane, x);
    for (int64_t i = count; i < VF_LANES; i++) lane[i] = 0.0F;
    return vf_load(lane);
}

/* Sums of a row run in SUMS vectors side by side, since one chain would wait for itself; then they are added as a tree.
 */
enum { SUMS = 4, GROUP = SUMS * VF_LANES };

static inline float sum_of(const vf sum[SUMS])
{
    return vf_sum((sum[0] + sum[2]) + (sum[1] + sum[3]));
}

static inline float row_sum(const float *x, int64_t n)
{
    vf sum[SUMS] = {vf_set(0.0F), vf_set(0.0F), vf_set(0.0F), vf_set(0.0F)};
    int64_t c = 0;
    for (; c + GROUP <= n; c += GROUP)
#pragma GCC unroll 4
        for (int k = 0; k < SUMS; k++) sum[k] += vf_load(x + c + k * VF_LANES);
    for (int k = 0; c < n; c += VF_LANES, k++) sum[k] += load_some(x + c, n - c);
    return sum_of(sum);
}

/* Of the squared distances from `centre`. */
static inline float row_squares(const float *x, int64_t n, vf centre)
{
    vf sum[SUMS] = {vf_set(0.0F), vf_set(0.0F), vf_set(0.0F), vf_set(0.0F)};
    int64_t c = 0;
    for (; c + GROUP <= n; c += GROUP)
#pragma GCC unroll 4
        for (int k = 0; k < SUMS; k++) {
            const vf d = vf_load(x + c + k * VF_LANES) - centre;
            sum[k] = vf_fma(d, d, sum[k]);
        }
    for (int k = 0; c < n; c += VF_LANES, k++) {
        const vf d = first_lanes(load_some(x + c, n - c) - centre, n - c);
        sum[k] = vf_fma(d, d, sum[k]);
    }
    return sum_of(sum);
}

static inline void row_add(float *to, const float *a, const float *b, int64_t n)
{
    for (int64_t c = 0; c < n; c += VF_LANES)
        store_some(to + c, load_some(a + c, n - c) + load_some(b + c, n - c), n - c);
}

static inline void norm_row(const vg_norm *n, int64_t row)
{
    const int64_t width = n->width, at = row * width;
    float *y = n->y + at, *sum = n->sum ? n->sum + at : y;
    const float *x = n->res ? sum : n->x + at;
    if (n->res) row_add(sum, n->x + at, n->res + at, width);
    const float mean = row_sum(x, width) / (float)width;
    const float rstd = 1.0F / sqrtf(row_squares(x, width, vf_set(mean)) / (float)width + n->eps);
    for (int64_t c = 0; c < width; c += VF_LANES) {
        const int64_t count = width - c;
        __builtin_prefetch(n->x + at + c + VG_FLOATS_AHEAD);
        __builtin_prefetch(y + c + VG_FLOATS_AHEAD, 1);
        const vf hat = (load_some(x + c, count) - vf_set(mean)) * vf_set(rstd);
        store_some(y + c, vf_fma(hat, load_some(n->gamma + c, count), load_some(n->beta + c, count)), count);
    }
    if (n->mean) n->mean[row] = mean;
    if (n->rstd) n->rstd[row] = rstd;
}

static void norm(const vg_norm *n, int64_t first, int64_t end)
{
    for (int64_t row = first; row < end; row++) norm_row(n, row);
}

static inline void norm_grad_row(const vg_norm_grad *n, int64_t row, float *dgamma, float *dbeta)
{
    const int64_t width = n->width, at = row * width;
    const vf mean = vf_set(n->mean[row]), rstd = vf_set(n->rstd[row]);
    vf sum = vf_set(0.0F), along = vf_set(0.0F);
    for (int64_t c = 0; c < width; c += VF_LANES) {
        const int64_t count = width - c;
        const vf dy = load_some(n->dy + at + c, count), hat = (load_some(n->x + at + c, count) - mean) * rstd;
        const vf g = dy * load_some(n->gamma + c, count); /* 0 in lanes behind the end, whatever hat is there */
        sum += g;
        along = vf_fma(g, hat, along);
        store_some(dgamma + c, vf_fma(dy, hat, load_some(dgamma + c, count)), count);
        store_some(dbeta + c, dy + load_some(dbeta + c, count), count);
    }
    if (!n->dx) return;
    const vf mean_g = vf_set(vf_sum(sum) / (float)width), slope = vf_set(vf_sum(along) / (float)width);
    for (int64_t c = 0; c < width; c += VF_LANES) {
        const int64_t count = width - c;
        const vf hat = (load_some(n->x + at + c, count) - mean) * rstd;
        const vf g = load_some(n->dy + at + c, count) * load_some(n->gamma + c, count);
        const vf inner = vf_fma(-hat, slope, g - mean_g);
        const vf acc = n->acc ? load_some(n->acc + at + c, count) : vf_set(0.0F);
        store_some(n->dx + at + c, vf_fma(inner, rstd, acc), count);
    }
}

static void norm_grad(const vg_norm_grad *n, int64_t first, int64_t end, float *dgamma, float *dbeta)
{
    for (int64_t row = first; row < end; row++) norm_grad_row(n, row, dgamma, dbeta);
}

static void dropout(const vg_keep *keep, const float *x, const float *res, float *y, int64_t first, int64_t end)
{
    for (int64_t e = first; e < end; e += COLUMNS) {
        keep_mask mask[VECTORS];
        keep_masks(keep, (uint32_t)(e / 4), mask);
        for (int v = 0; v < VECTORS; v++) {
            const int64_t at = e + v * VF_LANES, count = end - at;
            if (count <= 0) break;
            __builtin_prefetch(x + at + VG_FLOATS_AHEAD);
            __builtin_prefetch(y + at + VG_FLOATS_AHEAD, 1);
            vf kept = vf_kept(load_some(x + at, count) * vf_set(keep->scale), mask[v]);
            if (res) kept = load_some(res + at, count) + kept;
            store_some(y + at, kept, count);
        }
    }
}

#endif
