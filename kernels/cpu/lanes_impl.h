/* Kernels that need wide vectors: one table per instruction set. lanes_<isa>.c includes its vectors, then the bodies
 * (*_lanes_impl.h), which read alike for every width. */
#ifndef VG_KERNELS_CPU_LANES_IMPL_H
#define VG_KERNELS_CPU_LANES_IMPL_H

#include "kernels/cpu/attention_impl.h"

/* Which elements of one slot a dropout keeps. The counters of its blocks of Philox differ in one word, so the first two
 * rounds are mostly the same for all of them. Wide, to be spread over 64-bit lanes from memory. */
typedef struct vg_keep {
    uint64_t first, second[2]; /* what the words of those rounds that do differ are mixed with */
    uint64_t last_word;        /* that of the second round, which does not */
    uint64_t round_keys[10][2];
    uint32_t threshold; /* a word below it is dropped: vg_uniform(word) < p */
    float scale;        /* 1 / (1 - p) */
} vg_keep;

#define VG_PHILOX_0 0xD2511F53U
#define VG_PHILOX_1 0xCD9E8D57U

/* key: the slot's four words, from the loader. */
static inline vg_keep vg_keep_of(vg_rng_key purpose, const uint32_t key[4], float p)
{
    /* (word >> 8) / 2^24 < p, in whole numbers: exact, since p * 2^24 is. */
    const float scaled = p * 0x1p24F;
    const uint32_t floor = (uint32_t)scaled, ceiling = floor + ((float)floor < scaled ? 1 : 0);
    vg_keep keep = {.threshold = ceiling << 8, .scale = 1.0F / (1.0F - p)};
    for (uint32_t round = 0; round < 10; round++) {
        keep.round_keys[round][0] = purpose.v[0] + round * 0x9E3779B9u;
        keep.round_keys[round][1] = purpose.v[1] + round * 0xBB67AE85u;
    }
    const uint32_t phrase = key[1], position_low = key[2], position_high = key[3];
    const uint64_t p1 = (uint64_t)position_low * VG_PHILOX_1;
    const uint64_t p0 = (uint64_t)(uint32_t)(p1 >> 32 ^ phrase ^ keep.round_keys[0][0]) * VG_PHILOX_0;
    keep.first = position_high ^ keep.round_keys[0][1];
    keep.second[0] = (uint32_t)p1 ^ keep.round_keys[1][0];
    keep.second[1] = p0 >> 32 ^ keep.round_keys[1][1];
    keep.last_word = (uint32_t)p0;
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
    /* next, which may be NULL: what this thread will most likely do afterwards, whose rows are asked for meanwhile. The
     * gradient takes all queries. */
    void (*attention)(const vg_attn *a, const vg_attn_part *part, const vg_attn_part *next, float *scratch);
    void (*attention_grad)(const vg_attn_grad *g, const vg_attn_part *part, const vg_attn_part *next, float *scratch);

    void (*norm)(const vg_norm *n, int64_t first, int64_t end);
    /* Rows first..end-1; dgamma and dbeta [width] are added to. */
    void (*norm_grad)(const vg_norm_grad *n, int64_t first, int64_t end, float *dgamma, float *dbeta);
    /* y = (res or 0) + kept x * scale, for elements first..end-1 of a slot; first is a multiple of 64. */
    void (*dropout)(const vg_keep *keep, const float *x, const float *res, float *y, int64_t first, int64_t end);
} vg_lanes;

extern const vg_lanes vg_lanes_base, vg_lanes_avx2, vg_lanes_avx512;
const vg_lanes *vg_lanes_get(void);

#endif
