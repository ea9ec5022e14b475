#if defined(__x86_64__)
#pragma GCC target("avx2")
#pragma GCC optimize("O3") /* small arrays of vectors become registers */
#include <immintrin.h>

#define OPS  vg_pixel_ops_avx2
#define ROWS 2
typedef __m256i wide;
#define wide_load(p)            _mm256_loadu_si256((const __m256i *)(p))
#define wide_pairs(x)           _mm256_set1_epi32(x)
#define wide_zero()             _mm256_setzero_si256()
#define wide_dot(sum, a, b)     _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
#define wide_unpack_lo(a, b)    _mm256_unpacklo_epi8(a, b)
#define wide_unpack_hi(a, b)    _mm256_unpackhi_epi8(a, b)
#define wide_pack(a, b, c, d)   _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d))
#define wide_lane(a, k)         _mm256_extracti128_si256(a, k)
#define wide_and(a, b)          _mm256_and_si256(a, b)
#define wide_right(a, n)        _mm256_srai_epi32(a, n)
#define wide_left(a, n)         _mm256_slli_epi32(a, n)
#define wide_right_halves(a, n) _mm256_srli_epi16(a, n)
#define wide_add_halves(a, b)   _mm256_add_epi16(a, b)
#define wide_halves(a, b)       _mm256_blend_epi16(a, b, 0xaa)
#define wide_pack_bytes(a, b)   _mm256_packus_epi16(a, b)
#define wide_shuffle(a, o)      _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(o))
#define wide_each(p)            _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p)))
#define wide_load_twelves(p)    _mm256_permutevar8x32_epi32(wide_load(p), _mm256_setr_epi32(0, 1, 2, 3, 3, 4, 5, 6))
#define wide_finish(h, l)                                                                      \
    _mm256_srai_epi32(_mm256_add_epi32(_mm256_add_epi32(_mm256_slli_epi32(h, VG_LOW_BITS), l), \
                                       _mm256_set1_epi32(1 << (VG_WEIGHT_BITS - 1))),          \
                      VG_WEIGHT_BITS)

static inline void wide_store_twelves(void *to, __m256i a)
{
    const __m256i twelves = _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
    _mm_storeu_si128(to, _mm256_castsi256_si128(twelves));
    _mm_storel_epi64((__m128i *)to + 1, _mm256_extracti128_si256(twelves, 1));
}

#include "data/pixel_lanes_impl.h"
#endif
