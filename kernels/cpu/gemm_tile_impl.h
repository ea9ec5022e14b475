/* The innermost loop, for vectors with a fused multiply-add: MR x NR sums live in registers. */
#ifndef VG_GEMM_TILE_IMPL_H
#define VG_GEMM_TILE_IMPL_H

#include "kernels/cpu/gemm_impl.h"

enum { LINE = 16, LINES = NR / LINE };

/* One step of k: a column of A times a row of B. */
static inline __attribute__((always_inline)) void tile_step(const float *a, const float *b, vf left[MR], vf right[MR])
{
    const vf b_left = vf_load(b), b_right = vf_load(b + VF_LANES);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
        const vf x = vf_set(a[i]);
        left[i] = vf_fma(x, b_left, left[i]);
        right[i] = vf_fma(x, b_right, right[i]);
    }
}

/* A few steps at a time ask for a row of C and of what lies beside it, one line a step: all rows in turn, as slowly as
 * there are steps. */
static void tile(int64_t k, const float *a, const float *b, float *c, int64_t c_row, bool add,
                 const vg_gemm_ahead *ahead)
{
    enum { STEPS = 4 };
    const float *const rows[2] = {ahead->c, ahead->beside}, *next_b = ahead->b;
    const int64_t b_step = ahead->b_step, each = k < STEPS * MR ? 1 : k / (STEPS * MR);
    int64_t row = 0, left_of_row = each, p = 0;
    vf left[MR], right[MR]; /* columns 0.. and VF_LANES.. of each row */
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) left[i] = right[i] = vf_set(0.0F);
    for (; p + STEPS <= k; p += STEPS) {
#pragma GCC unroll 4
        for (int s = 0; s < STEPS; s++, a += MR, b += NR, next_b += b_step) {
            __builtin_prefetch(next_b, 0, 2);
            __builtin_prefetch(rows[s % 2] + row + s / 2 % LINES * LINE);
            tile_step(a, b, left, right);
        }
        if (--left_of_row == 0) {
            left_of_row = each;
            row += ahead->row;
        }
    }
    for (; p < k; p++, a += MR, b += NR) tile_step(a, b, left, right);
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

#endif
