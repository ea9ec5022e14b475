#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni")
#pragma GCC optimize("O3") /* small arrays of vectors become registers */
#include <immintrin.h>

#define OPS  vg_pixel_ops_avx512
#define ROWS 4
typedef __m512i wide;
#define wide_load(p)          _mm512_loadu_si512(p)
#define wide_pairs(x)         _mm512_set1_epi32(x)
#define wide_zero()           _mm512_setzero_si512()
#define wide_dot(sum, a, b)   _mm512_dpwssd_epi32(sum, a, b)
#define wide_unpack_lo(a, b)  _mm512_unpacklo_epi8(a, b)
#define wide_unpack_hi(a, b)  _mm512_unpackhi_epi8(a, b)
#define wide_pack(a, b, c, d) _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d))
#define wide_lane(a, k)       _mm512_extracti32x4_epi32(a, k)
#define wide_finish(h, l)                                                                      \
    _mm512_srai_epi32(_mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(h, VG_LOW_BITS), l), \
                                       _mm512_set1_epi32(1 << (VG_WEIGHT_BITS - 1))),          \
                      VG_WEIGHT_BITS)
#include "data/pixel_lanes_impl.h"
#endif
