/* The innermost loop, for vectors of any width: MR x NR sums live in registers. */
#ifndef VG_GEMM_TILE_IMPL_H
#define VG_GEMM_TILE_IMPL_H

#include "kernels/cpu/gemm_impl.h"

enum { LINES = (NR + VG_GEMM_LINE - 1) / VG_GEMM_LINE }; /* of a row of C */

/* One step of k: a column of A times a row of B, which is left in `kept` too. */
EACH_WIDTH static inline void tile_step(int n_rows, const float *a, const float *b, float *kept, vf left[MR],
                                        vf right[MR])
{
    const vf b_left = vf_load(b), b_right = vf_load(b + VF_LANES);
    if (kept) {
        vf_store(kept, b_left);
        vf_store(kept + VF_LANES, b_right);
    }
#pragma GCC unroll 16
    for (int i = 0; i < n_rows; i++) {
        const vf x = vf_set(a[i]);
        left[i] = vf_fma(x, b_left, left[i]);
        right[i] = vf_fma(x, b_right, right[i]);
    }
}

/* A few steps at a time ask for a row of C and of what lies beside it, one line a step: all rows in turn, as slowly as
 * there are steps. */
EACH_WIDTH static inline void tile_rows(const vg_gemm_tile *t, int n_rows, bool keeps)
{
    enum { STEPS = 4 };
    const vg_gemm_ahead ahead = t->ahead;
    const float *const rows[2] = {ahead.c, ahead.beside}, *next_b = ahead.b, *a = t->a, *b = t->b;
    const int64_t k = t->k, b_row = keeps ? t->b_row : NR, each = k < STEPS * MR ? 1 : k / (STEPS * MR);
    float *kept = keeps ? t->kept : NULL, *c = t->c;
    int64_t row = 0, left_of_row = each, p = 0;
    vf left[MR], right[MR]; /* columns 0.. and VF_LANES.. of each row */
#pragma GCC unroll 16
    for (int i = 0; i < n_rows; i++) left[i] = right[i] = vf_set(0.0F);
    for (; p + STEPS <= k; p += STEPS) {
#pragma GCC unroll 4
        for (int s = 0; s < STEPS; s++, a += MR, b += b_row, kept += keeps ? NR : 0, next_b += ahead.b_step) {
            __builtin_prefetch(next_b, 0, 2);
            __builtin_prefetch(rows[s % 2] + row + s / 2 % LINES * VG_GEMM_LINE);
            tile_step(n_rows, a, b, kept, left, right);
        }
        if (p % VG_GEMM_LINE == VG_GEMM_LINE - STEPS) next_b += ahead.b_turn;
        if (--left_of_row == 0) {
            left_of_row = each;
            row += ahead.row;
        }
    }
    for (; p < k; p++, a += MR, b += b_row, kept += keeps ? NR : 0) tile_step(n_rows, a, b, kept, left, right);
#pragma GCC unroll 16
    for (int i = 0; i < n_rows; i++, c += t->c_row) {
        if (t->add) {
            left[i] += vf_load(c);
            right[i] += vf_load(c + VF_LANES);
        }
        vf_store(c, left[i]);
        vf_store(c + VF_LANES, right[i]);
    }
}

/* Rows below the last one wanted are left out, four at a time: each number of rows is compiled by itself. */
#define FEWER(n) (MR > (n) ? MR - (n) : 1)

static void tile(const vg_gemm_tile *t)
{
    if (t->kept)
        tile_rows(t, MR, true);
    else if (t->n_rows > FEWER(4))
        tile_rows(t, MR, false);
    else if (t->n_rows > FEWER(8))
        tile_rows(t, FEWER(4), false);
    else if (t->n_rows > FEWER(12))
        tile_rows(t, FEWER(8), false);
    else
        tile_rows(t, FEWER(12), false);
}

#endif
