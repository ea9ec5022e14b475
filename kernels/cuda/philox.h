/* Dropout on the device: the numbers of kernels/base/random.h, bit for bit, and whether they keep an element. */
#ifndef VG_KERNELS_CUDA_PHILOX_H
#define VG_KERNELS_CUDA_PHILOX_H

#include "kernels/base/random.h"
#include "kernels/cuda/dev.h"

/* What one place in the model drops: made on the host, handed to its kernel. */
struct keep_rule {
    vg_rng_key key;
    uint32_t threshold; /* a word is kept when it is at least this */
    float scale;        /* 1 / (1 - p), what is kept is multiplied by it */
};

static inline struct keep_rule keep_rule_of(vg_rng_key key, float p)
{
    /* vg_uniform(word) >= p in whole numbers: exact, since p * 2^24 is. */
    const float scaled = p * 16777216.0F;
    const uint32_t floor = (uint32_t)scaled, ceiling = floor + ((float)floor < scaled ? 1 : 0);
    const struct keep_rule rule = {key, ceiling << 8, 1.0F / (1.0F - p)};
    return rule;
}

/* vg_rng_block: words 4 * block .. 4 * block + 3 of a slot. slot is its row of the keys operand, {0, phrase, position
 * low, position high}. */
static __device__ __forceinline__ uint4 philox_block(vg_rng_key key, uint4 slot, uint32_t block)
{
    uint32_t c0 = block, c1 = slot.y, c2 = slot.z, c3 = slot.w;
    uint32_t k0 = key.v[0], k1 = key.v[1];
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return make_uint4(c0, c1, c2, c3);
}

/* The same as factors: the scale where an element stays, 0 where it goes. */
static __device__ __forceinline__ float4 keep_factors(const struct keep_rule &rule, uint4 slot, uint32_t block)
{
    const uint4 word = philox_block(rule.key, slot, block);
    return make_float4(word.x >= rule.threshold ? rule.scale : 0.0F, word.y >= rule.threshold ? rule.scale : 0.0F,
                       word.z >= rule.threshold ? rule.scale : 0.0F, word.w >= rule.threshold ? rule.scale : 0.0F);
}

#endif
