#if defined(__x86_64__)
#pragma GCC target("avx2")
#pragma GCC optimize("O3") /* small arrays of vectors become registers */
#include <immintrin.h>

#define OPS  vg_pixel_ops_avx2
#define ROWS 2
typedef __m256i wide;
#define wide_load(p)          _mm256_loadu_si256((const __m256i *)(p))
#define wide_pairs(x)         _mm256_set1_epi32(x)
#define wide_zero()           _mm256_setzero_si256()
#define wide_dot(sum, a, b)   _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
#define wide_unpack_lo(a, b)  _mm256_unpacklo_epi8(a, b)
#define wide_unpack_hi(a, b)  _mm256_unpackhi_epi8(a, b)
#define wide_pack(a, b, c, d) _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d))
#define wide_lane(a, k)       _mm256_extracti128_si256(a, k)
#define wide_finish(h, l)                                                                      \
    _mm256_srai_epi32(_mm256_add_epi32(_mm256_add_epi32(_mm256_slli_epi32(h, VG_LOW_BITS), l), \
                                       _mm256_set1_epi32(1 << (VG_WEIGHT_BITS - 1))),          \
                      VG_WEIGHT_BITS)
#include "data/pixel_lanes_impl.h"
#endif
