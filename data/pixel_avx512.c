#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni")
#pragma GCC optimize("O3") /* small arrays of vectors become registers */
#include <immintrin.h>

#define OPS  vg_pixel_ops_avx512
#define ROWS 4
typedef __m512i wide;
#define wide_load(p)            _mm512_loadu_si512(p)
#define wide_pairs(x)           _mm512_set1_epi32(x)
#define wide_zero()             _mm512_setzero_si512()
#define wide_dot(sum, a, b)     _mm512_dpwssd_epi32(sum, a, b)
#define wide_unpack_lo(a, b)    _mm512_unpacklo_epi8(a, b)
#define wide_unpack_hi(a, b)    _mm512_unpackhi_epi8(a, b)
#define wide_pack(a, b, c, d)   _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d))
#define wide_lane(a, k)         _mm512_extracti32x4_epi32(a, k)
#define wide_and(a, b)          _mm512_and_si512(a, b)
#define wide_right(a, n)        _mm512_srai_epi32(a, (unsigned)(n))
#define wide_left(a, n)         _mm512_slli_epi32(a, (unsigned)(n))
#define wide_right_halves(a, n) _mm512_srli_epi16(a, n)
#define wide_add_halves(a, b)   _mm512_add_epi16(a, b)
#define wide_halves(a, b)       _mm512_mask_blend_epi16(0xaaaaaaaa, a, b)
#define wide_pack_bytes(a, b)   _mm512_packus_epi16(a, b)
#define wide_shuffle(a, o)      _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(o))
#define wide_each(p)            _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define wide_load_twelves(p) \
    _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12), wide_load(p))
#define wide_finish(h, l)                                                                      \
    _mm512_srai_epi32(_mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(h, VG_LOW_BITS), l), \
                                       _mm512_set1_epi32(1 << (VG_WEIGHT_BITS - 1))),          \
                      VG_WEIGHT_BITS)

/* Not by a mask: the next load, which is not of these bytes, would wait as if it were. */
static inline void wide_store_twelves(void *to, __m512i a)
{
    const __m512i order = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
    const __m512i twelves = _mm512_permutexvar_epi32(order, a);
    _mm256_storeu_si256(to, _mm512_castsi512_si256(twelves));
    _mm_storeu_si128((__m128i *)to + 2, _mm512_extracti32x4_epi32(twelves, 2));
}

#include "data/pixel_lanes_impl.h"
#endif
