/* The innermost loop, for vectors with a fused multiply-add: MR x NR sums live in registers. */
#ifndef VG_GEMM_TILE_IMPL_H
#define VG_GEMM_TILE_IMPL_H

#include "kernels/cpu/gemm_impl.h"

enum { LINE = 16, LINES = NR / LINE };

/* Steps of k for each row that is asked for, as a power of two: all rows in turn, slowly. */
static inline int steps_per_row(int64_t k)
{
    return k < MR ? 0 : 63 - __builtin_clzll((uint64_t)k / MR);
}

static inline __attribute__((always_inline)) void tile_body(int64_t k, const float *a, const float *b, float *c,
                                                            int64_t c_row, bool add, vg_gemm_ahead ahead,
                                                            const bool finishes)
{
    const int shift = steps_per_row(k);
    vf left[MR], right[MR]; /* columns 0.. and VF_LANES.. of each row */
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) left[i] = right[i] = vf_set(0.0F);
#pragma GCC unroll 2
    for (int64_t p = 0; p < k; p++, a += MR, b += NR) {
        __builtin_prefetch(ahead.b, 0, 2);
        ahead.b += ahead.b_step;
        if (finishes) {
            const int64_t at = (p >> shift) * ahead.row + p % LINES * LINE;
            __builtin_prefetch(ahead.c + at);
            __builtin_prefetch(ahead.beside + at);
        }
        const vf b_left = vf_load(b), b_right = vf_load(b + VF_LANES);
#pragma GCC unroll 16
        for (int i = 0; i < MR; i++) {
            const vf x = vf_set(a[i]);
            left[i] = vf_fma(x, b_left, left[i]);
            right[i] = vf_fma(x, b_right, right[i]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++, c += c_row) {
        if (add) {
            left[i] += vf_load(c);
            right[i] += vf_load(c + VF_LANES);
        }
        vf_store(c, left[i]);
        vf_store(c + VF_LANES, right[i]);
    }
}

static void tile(int64_t k, const float *a, const float *b, float *c, int64_t c_row, bool add, vg_gemm_ahead ahead)
{
    if (ahead.c)
        tile_body(k, a, b, c, c_row, add, ahead, true);
    else
        tile_body(k, a, b, c, c_row, add, ahead, false);
}

#endif
