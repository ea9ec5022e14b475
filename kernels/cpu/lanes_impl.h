/* Kernels that need wide vectors: one table per instruction set. lanes_<isa>.c includes its vectors, then the bodies
 * (*_lanes_impl.h), which read alike for every width. */
#ifndef VG_KERNELS_CPU_LANES_IMPL_H
#define VG_KERNELS_CPU_LANES_IMPL_H

#include "kernels/cpu/attention_impl.h"

/* Which elements of one slot a dropout keeps. */
typedef struct vg_keep {
    uint64_t round_keys[10][2]; /* of Philox, wide enough to be spread over 64-bit lanes from memory */
    uint32_t phrase, position_low, position_high;
    uint32_t threshold; /* a word below it is dropped: vg_uniform(word) < p */
    float scale;        /* 1 / (1 - p) */
} vg_keep;

/* key: the slot's four words, from the loader. */
static inline vg_keep vg_keep_of(vg_rng_key purpose, const uint32_t key[4], float p)
{
    /* (word >> 8) / 2^24 < p, in whole numbers: exact, since p * 2^24 is. */
    const float scaled = p * 0x1p24F;
    const uint32_t floor = (uint32_t)scaled, ceiling = floor + ((float)floor < scaled ? 1 : 0);
    vg_keep keep = {.phrase = key[1],
                    .position_low = key[2],
                    .position_high = key[3],
                    .threshold = ceiling << 8,
                    .scale = 1.0F / (1.0F - p)};
    for (uint32_t round = 0; round < 10; round++) {
        keep.round_keys[round][0] = purpose.v[0] + round * 0x9E3779B9u;
        keep.round_keys[round][1] = purpose.v[1] + round * 0xBB67AE85u;
    }
    return keep;
}

typedef struct vg_norm {
    const float *x, *res, *gamma, *beta;
    float *y, *mean, *rstd, *sum; /* the last three may be NULL */
    int64_t width;
    float eps;
} vg_norm;

typedef struct vg_norm_grad {
    const float *dy, *x, *gamma, *mean, *rstd, *acc;
    float *dx; /* may be NULL */
    int64_t width;
} vg_norm_grad;

typedef struct vg_lanes {
    size_t (*attention_scratch)(const vg_attn *a);
    size_t (*attention_grad_scratch)(const vg_attn *a);
    void (*attention)(const vg_attn *a, const vg_attn_part *part, float *scratch);
    void (*attention_grad)(const vg_attn_grad *g, int64_t image, int64_t head, float *scratch);

    void (*norm)(const vg_norm *n, int64_t first, int64_t end);
    /* Rows first..end-1; dgamma and dbeta [width] are added to. */
    void (*norm_grad)(const vg_norm_grad *n, int64_t first, int64_t end, float *dgamma, float *dbeta);
    /* y = (res or 0) + kept x * scale, for elements first..end-1 of a slot; first is a multiple of 64. */
    void (*dropout)(const vg_keep *keep, const float *x, const float *res, float *y, int64_t first, int64_t end);
} vg_lanes;

extern const vg_lanes vg_lanes_base, vg_lanes_avx2, vg_lanes_avx512;
const vg_lanes *vg_lanes_get(void);

#endif
