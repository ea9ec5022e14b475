/* The innermost loop, for vectors with a fused multiply-add: MR x NR sums live in registers. */
#ifndef VG_GEMM_TILE_IMPL_H
#define VG_GEMM_TILE_IMPL_H

#include "kernels/cpu/gemm_impl.h"

static void tile(int64_t k, const float *a, const float *b, float *c, bool add, vg_gemm_ahead ahead)
{
    vf left[MR], right[MR]; /* columns 0.. and VF_LANES.. of each row */
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) left[i] = right[i] = vf_set(0.0F);
#pragma GCC unroll 2
    for (int64_t p = 0; p < k; p++, a += MR, b += NR) {
        __builtin_prefetch(ahead.next, 0, 2);
        ahead.next += ahead.step;
        const vf b_left = vf_load(b), b_right = vf_load(b + VF_LANES);
#pragma GCC unroll 16
        for (int i = 0; i < MR; i++) {
            const vf x = vf_set(a[i]);
            left[i] = vf_fma(x, b_left, left[i]);
            right[i] = vf_fma(x, b_right, right[i]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++, c += NR) {
        if (add) {
            left[i] += vf_load(c);
            right[i] += vf_load(c + VF_LANES);
        }
        vf_store(c, left[i]);
        vf_store(c + VF_LANES, right[i]);
    }
}

#endif
