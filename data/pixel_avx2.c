#if defined(__x86_64__)
#pragma GCC target("avx2")
#pragma GCC optimize("O3") /* small arrays of vectors become registers */
#include <immintrin.h>

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

/* Samples 2 p and 2 p + 1 of four rows as pairs of 16 bits to a lane of block[p], eight blocks at a time. */
static inline void fill_lanes(const uint8_t *const rows[4], size_t p, __m128i *to)
{
    __m128i r[4];
    for (int k = 0; k < 4; k++) r[k] = _mm_loadu_si128((const __m128i *)(rows[k] + 2 * p));
    const __m128i ab[2] = {_mm_unpacklo_epi16(r[0], r[1]), _mm_unpackhi_epi16(r[0], r[1])};
    const __m128i cd[2] = {_mm_unpacklo_epi16(r[2], r[3]), _mm_unpackhi_epi16(r[2], r[3])};
    for (int j = 0; j < 4; j++) {
        const __m128i two = j % 2 ? _mm_unpackhi_epi32(ab[j / 2], cd[j / 2]) : _mm_unpacklo_epi32(ab[j / 2], cd[j / 2]);
        to[(2 * j) * ROWS] = _mm_unpacklo_epi8(two, _mm_setzero_si128());
        to[(2 * j + 1) * ROWS] = _mm_unpackhi_epi8(two, _mm_setzero_si128());
    }
}

enum { PLANE_ROWS = 4 * ROWS };

/* Four rows in each lane, where sideways has the channels of one. */
static void sum_rows(const uint8_t *const *rows, const vg_taps *taps, wide *block, uint8_t *const *out)
{
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int p = taps->least / 2; 2 * p < taps->end; p += 8)
        for (int k = 0; k < ROWS; k++) fill_lanes(rows + 4 * (size_t)k, (size_t)p, (__m128i *)(block + p) + k);
    for (int i = 0; i < taps->n_wide; i += 4) {
        const wide sum = sum_four(block, taps, i);
        __m128i lanes[ROWS];
        memcpy(lanes, &sum, sizeof sum);
        for (int k = 0; k < ROWS; k++) {
            const __m128i each = _mm_shuffle_epi8(lanes[k], order);
            int32_t four[4];
            memcpy(four, &each, sizeof four);
            for (int r = 0; r < 4; r++) memcpy(out[4 * k + r] + i, &four[r], sizeof *four);
        }
    }
}

static void plane_sideways(const uint8_t *rows, size_t stride, int n_rows, const vg_taps *taps, void *block,
                           uint8_t *out, size_t out_stride)
{
    for (int y = 0; y < n_rows; y += PLANE_ROWS) {
        const uint8_t *from[PLANE_ROWS];
        uint8_t *to[PLANE_ROWS];
        for (int k = 0; k < PLANE_ROWS; k++) { /* behind the last row comes the last row again */
            const size_t row = (size_t)(y + k < n_rows ? y + k : n_rows - 1);
            from[k] = rows + row * stride;
            to[k] = out + row * out_stride;
        }
        sum_rows(from, taps, block, to);
    }
}

static void plane_down(const uint8_t *between, size_t stride, const vg_taps *taps, int i, int n, void *block,
                       uint8_t *out)
{
    (void)block;
    for (int k = 0; k < n; k++)
        down(between + (size_t)taps->first[i + k] * stride, taps, i + k, stride, out + (size_t)k * stride);
}

const vg_pixel_ops vg_pixel_ops_avx2 = {weigh, ROWS, sideways,       down,       sums,  mix,
                                        2,     1,    plane_sideways, plane_down, to_rgb};
#endif
