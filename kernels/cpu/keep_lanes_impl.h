/* Dropout masks: COLUMNS elements at a time, that is COLUMNS / 4 blocks of Philox side by side. Included below
 * tile_lanes_impl.h. See vg_rng_block for what the words are. */
#ifndef VG_KEEP_LANES_IMPL_H
#define VG_KEEP_LANES_IMPL_H

#include "kernels/cpu/lanes_impl.h"

#if defined __AVX512F__

/* Eight blocks: each 64-bit lane holds one 32-bit word of a block, and garbage above it. */
typedef __m512i words;
static inline words words_set(uint64_t x)
{
    return _mm512_set1_epi64((int64_t)x);
}
/* Unpacking below puts lanes 0, 2, 4, 6 first. */
static inline words words_blocks(uint32_t block)
{
    return _mm512_add_epi64(_mm512_set1_epi64(block), _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7));
}
static inline words words_multiply(words a, uint32_t b)
{
    return _mm512_mul_epu32(a, _mm512_set1_epi64(b));
}
/* The word above a product's own. */
static inline words words_high(words product)
{
    return _mm512_srli_epi64(product, 32);
}
static inline words words_xor(words a, words b, words c)
{
    return _mm512_ternarylogic_epi64(a, b, c, 0x96);
}
/* The upper word of a product, xor b and c, below the lower one. */
static inline words words_pair(words product, words b, words c)
{
    return _mm512_mask_ternarylogic_epi32(_mm512_ror_epi64(product, 32), 0x5555, b, c, 0x96);
}

typedef __mmask16 keep_mask;
static inline void words_masks(words w01, words w23, uint32_t threshold, keep_mask mask[VECTORS])
{
    const words limit = _mm512_set1_epi32((int)threshold);
    mask[0] = _mm512_cmpge_epu32_mask(_mm512_unpacklo_epi64(w01, w23), limit);
    mask[1] = _mm512_cmpge_epu32_mask(_mm512_unpackhi_epi64(w01, w23), limit);
}
static inline vf vf_kept(vf x, keep_mask mask)
{
    return _mm512_maskz_mov_ps(mask, x);
}
static inline uint32_t mask_bits(keep_mask mask)
{
    return mask;
}
static inline keep_mask mask_of_bit(const uint32_t *bits, uint32_t bit)
{
    return _mm512_test_epi32_mask(_mm512_loadu_si512(bits), _mm512_set1_epi32((int)bit));
}

#elif defined __AVX2__

typedef __m256i words; /* four blocks, as above */
static inline words words_set(uint64_t x)
{
    return _mm256_set1_epi64x((int64_t)x);
}
static inline words words_blocks(uint32_t block)
{
    return _mm256_add_epi64(_mm256_set1_epi64x(block), _mm256_setr_epi64x(0, 2, 1, 3));
}
static inline words words_multiply(words a, uint32_t b)
{
    return _mm256_mul_epu32(a, _mm256_set1_epi64x(b));
}
static inline words words_high(words product)
{
    return _mm256_srli_epi64(product, 32);
}
static inline words words_xor(words a, words b, words c)
{
    return _mm256_xor_si256(a, _mm256_xor_si256(b, c));
}
static inline words words_pair(words product, words b, words c)
{
    return _mm256_blend_epi32(words_xor(words_high(product), b, c), _mm256_slli_epi64(product, 32), 0xaa);
}

typedef vf keep_mask; /* all ones or all zeros */
static inline keep_mask words_kept(words w, uint32_t threshold)
{
    const words limit = _mm256_set1_epi32((int)threshold);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(w, limit), w));
}
static inline void words_masks(words w01, words w23, uint32_t threshold, keep_mask mask[VECTORS])
{
    mask[0] = words_kept(_mm256_unpacklo_epi64(w01, w23), threshold);
    mask[1] = words_kept(_mm256_unpackhi_epi64(w01, w23), threshold);
}
static inline vf vf_kept(vf x, keep_mask mask)
{
    return _mm256_and_ps(x, mask);
}
static inline uint32_t mask_bits(keep_mask mask)
{
    return (uint32_t)_mm256_movemask_ps(mask);
}
static inline keep_mask mask_of_bit(const uint32_t *bits, uint32_t bit)
{
    const words one = _mm256_set1_epi32((int)bit), all = _mm256_loadu_si256((const words *)bits);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, one), one));
}

#else

typedef uint64_t words __attribute__((vector_size(16))); /* two blocks, one after the other */
static inline words words_set(uint64_t x)
{
    return (words){x, x};
}
static inline words words_blocks(uint32_t block)
{
    return (words){block, (uint64_t)block + 1};
}
static inline words words_multiply(words a, uint32_t b)
{
    return (a & UINT32_MAX) * b;
}
static inline words words_high(words product)
{
    return product >> 32;
}
static inline words words_xor(words a, words b, words c)
{
    return a ^ b ^ c;
}
static inline words words_pair(words product, words b, words c)
{
    return (words_xor(words_high(product), b, c) & UINT32_MAX) | product << 32;
}

typedef vf_ints keep_mask; /* all ones or all zeros */
typedef uint32_t four_words __attribute__((vector_size(16)));
static inline keep_mask words_kept(words w, uint32_t threshold)
{
    return (four_words)w >= threshold;
}
static inline void words_masks(words w01, words w23, uint32_t threshold, keep_mask mask[VECTORS])
{
    mask[0] = words_kept((words){w01[0], w23[0]}, threshold);
    mask[1] = words_kept((words){w01[1], w23[1]}, threshold);
}
static inline vf vf_kept(vf x, keep_mask mask)
{
    return (vf)((vf_ints)x & mask);
}
/* A mask as bits, lane 0 lowest; and whether each of VF_LANES words has a bit. */
static inline uint32_t mask_bits(keep_mask mask)
{
    uint32_t bits = 0;
    for (int i = 0; i < VF_LANES; i++) bits |= (uint32_t)mask[i] & 1U << i;
    return bits;
}
static inline keep_mask mask_of_bit(const uint32_t *bits, uint32_t bit)
{
    four_words all;
    memcpy(&all, bits, sizeof all);
    return (all & bit) != 0;
}

#endif

/* Masks of the COLUMNS elements from 4 * block on. */
static inline void keep_masks(const vg_keep *keep, uint32_t block, keep_mask mask[VECTORS])
{
    const words none = words_set(0), first = words_multiply(words_blocks(block), VG_PHILOX_0);
    words c1 = words_multiply(words_xor(words_high(first), words_set(keep->first), none), VG_PHILOX_1);
    words c0 = words_xor(words_high(c1), words_set(keep->second[0]), none);
    words c2 = words_xor(first, words_set(keep->second[1]), none), c3 = words_set(keep->last_word);
#pragma GCC unroll 10
    for (int round = 2; round < 9; round++) {
        const words p0 = words_multiply(c0, VG_PHILOX_0), p1 = words_multiply(c2, VG_PHILOX_1);
        c0 = words_xor(words_high(p1), c1, words_set(keep->round_keys[round][0]));
        c2 = words_xor(words_high(p0), c3, words_set(keep->round_keys[round][1]));
        c1 = p1;
        c3 = p0;
    }
    const words p0 = words_multiply(c0, VG_PHILOX_0), p1 = words_multiply(c2, VG_PHILOX_1);
    words_masks(words_pair(p1, c1, words_set(keep->round_keys[9][0])),
                words_pair(p0, c3, words_set(keep->round_keys[9][1])), keep->threshold, mask);
}

/* The same as bits, that of the first element lowest. */
static inline uint32_t keep_bits(const vg_keep *keep, uint32_t block)
{
    keep_mask mask[VECTORS];
    uint32_t bits = 0;
    keep_masks(keep, block, mask);
    for (int v = 0; v < VECTORS; v++) bits |= mask_bits(mask[v]) << v * VF_LANES;
    return bits;
}

#endif
