/* Dropout masks: COLUMNS elements at a time, that is COLUMNS / 4 blocks of Philox side by side. Included below
 * tile_lanes_impl.h. A mask is all ones or all zeros for vf_kept; see vg_rng_block for what the words are. */
#ifndef VG_KEEP_LANES_IMPL_H
#define VG_KEEP_LANES_IMPL_H

#include "kernels/cpu/lanes_impl.h"

#if defined __AVX512F__

/* Eight blocks: each 64-bit lane holds one 32-bit word of a block, and garbage above it. */
typedef __m512i words;
static inline words words_set(uint32_t x)
{
    return _mm512_set1_epi64(x);
}
static inline words words_multiply(words a, uint32_t b)
{
    return _mm512_mul_epu32(a, _mm512_set1_epi64(b));
}
static inline words words_mix(words product, words other, uint64_t key)
{
    return _mm512_ternarylogic_epi64(_mm512_srli_epi64(product, 32), other, _mm512_set1_epi64((int64_t)key), 0x96);
}
/* Unpacking below puts lanes 0, 2, 4, 6 first. */
static inline words words_blocks(uint32_t block)
{
    return _mm512_add_epi64(_mm512_set1_epi64(block), _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7));
}
static inline void words_masks(words w0, words w1, words w2, words w3, uint32_t threshold, vf mask[VECTORS])
{
    const words low = _mm512_mask_shuffle_epi32(w0, 0xaaaa, w1, 0xa0);
    const words high = _mm512_mask_shuffle_epi32(w2, 0xaaaa, w3, 0xa0);
    const words limit = _mm512_set1_epi32((int)threshold);
    const __mmask16 a = _mm512_cmpge_epu32_mask(_mm512_unpacklo_epi64(low, high), limit);
    const __mmask16 b = _mm512_cmpge_epu32_mask(_mm512_unpackhi_epi64(low, high), limit);
    mask[0] = _mm512_castsi512_ps(_mm512_movm_epi32(a));
    mask[1] = _mm512_castsi512_ps(_mm512_movm_epi32(b));
}
static inline vf vf_kept(vf x, vf mask)
{
    return _mm512_and_ps(x, mask);
}

#elif defined __AVX2__

typedef __m256i words; /* four blocks, as above */
static inline words words_set(uint32_t x)
{
    return _mm256_set1_epi64x(x);
}
static inline words words_multiply(words a, uint32_t b)
{
    return _mm256_mul_epu32(a, _mm256_set1_epi64x(b));
}
static inline words words_mix(words product, words other, uint64_t key)
{
    return _mm256_xor_si256(_mm256_srli_epi64(product, 32), _mm256_xor_si256(other, _mm256_set1_epi64x((int64_t)key)));
}
static inline words words_blocks(uint32_t block)
{
    return _mm256_add_epi64(_mm256_set1_epi64x(block), _mm256_setr_epi64x(0, 2, 1, 3));
}
static inline vf words_kept(words w, uint32_t threshold)
{
    const words limit = _mm256_set1_epi32((int)threshold);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(w, limit), w));
}
static inline void words_masks(words w0, words w1, words w2, words w3, uint32_t threshold, vf mask[VECTORS])
{
    const words low = _mm256_blend_epi32(w0, _mm256_slli_epi64(w1, 32), 0xaa);
    const words high = _mm256_blend_epi32(w2, _mm256_slli_epi64(w3, 32), 0xaa);
    mask[0] = words_kept(_mm256_unpacklo_epi64(low, high), threshold);
    mask[1] = words_kept(_mm256_unpackhi_epi64(low, high), threshold);
}
static inline vf vf_kept(vf x, vf mask)
{
    return _mm256_and_ps(x, mask);
}

#else

typedef uint64_t words; /* one block */
static inline words words_set(uint32_t x)
{
    return x;
}
static inline words words_multiply(words a, uint32_t b)
{
    return (uint64_t)(uint32_t)a * b;
}
static inline words words_mix(words product, words other, uint64_t key)
{
    return product >> 32 ^ (uint32_t)other ^ key;
}
static inline words words_blocks(uint32_t block)
{
    return block;
}
static inline void words_masks(words w0, words w1, words w2, words w3, uint32_t threshold, vf mask[VECTORS])
{
    const words w[VECTORS] = {w0, w1, w2, w3};
    for (int v = 0; v < VECTORS; v++) mask[v] = (uint32_t)w[v] >= threshold ? 1.0F : 0.0F;
}
static inline vf vf_kept(vf x, vf mask)
{
    return mask != 0.0F ? x : 0.0F;
}

#endif

/* Masks of the COLUMNS elements from 4 * block on. */
static inline void keep_masks(const vg_keep *keep, uint32_t block, vf mask[VECTORS])
{
    words c0 = words_blocks(block), c1 = words_set(keep->phrase);
    words c2 = words_set(keep->position_low), c3 = words_set(keep->position_high);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        const words p0 = words_multiply(c0, 0xD2511F53u), p1 = words_multiply(c2, 0xCD9E8D57u);
        c0 = words_mix(p1, c1, keep->round_keys[round][0]);
        c2 = words_mix(p0, c3, keep->round_keys[round][1]);
        c1 = p1;
        c3 = p0;
    }
    words_masks(c0, c1, c2, c3, keep->threshold, mask);
}

#endif
