#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")
#pragma GCC optimize("O3") /* small arrays of vectors become registers */
#include <immintrin.h>

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

/* The weights of four taps of 16 outputs: weight = (high * 2^8 + middle) * 2^8 + low, each a signed byte. */
typedef struct quad {
    __m512i high, middle, low;
} quad;

static quad quad_of(const vg_taps *taps, int i, int tap)
{
    const __m512i byte = _mm512_set1_epi32(255), half = _mm512_set1_epi32(128);
    quad q = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int k = 3; k >= 0; k--) {
        const __m512i low = wide_load(taps->weights + (size_t)(tap + k) * (size_t)taps->n_wide + i);
        const __m512i middle = _mm512_srai_epi32(_mm512_add_epi32(low, half), 8);
        const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(middle, half), 8);
        q.high = _mm512_or_si512(_mm512_slli_epi32(q.high, 8), _mm512_and_si512(high, byte));
        q.middle = _mm512_or_si512(_mm512_slli_epi32(q.middle, 8), _mm512_and_si512(middle, byte));
        q.low = _mm512_or_si512(_mm512_slli_epi32(q.low, 8), _mm512_and_si512(low, byte));
    }
    return q;
}

/* Of 16 outputs: the first inputs, counted from the least of them, and where in the 64 bytes from there they and the
 * three behind them lie, if all do. */
typedef struct inputs {
    __m512i first, count, order;
    int least, n_quads;
    bool near;
} inputs;

static inputs inputs_of(const vg_taps *taps, int i)
{
    const __m512i first = wide_load(taps->first + i);
    inputs in = {.least = _mm512_reduce_min_epi32(first), .count = wide_load(taps->count + i)};
    in.first = _mm512_sub_epi32(first, _mm512_set1_epi32(in.least));
    in.order =
        _mm512_add_epi32(_mm512_mullo_epi32(in.first, _mm512_set1_epi32(0x01010101)), _mm512_set1_epi32(0x03020100));
    in.near = _mm512_reduce_max_epi32(in.first) + 4 <= 64;
    in.n_quads = (_mm512_reduce_max_epi32(in.count) + 3) / 4;
    return in;
}

/* Inputs t, t + 1, t + 2 and t + 3 of each output that has an input t, where they lie apart. */
static inline __m512i gathered(const inputs *in, const uint8_t *row, int t)
{
    const __mmask16 there = _mm512_cmpgt_epi32_mask(in->count, _mm512_set1_epi32(t));
    return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), there, in->first, row + in->least + t, 1);
}

static inline __m512i inputs_load(const inputs *in, bool near, const uint8_t *row, int t)
{
    return near ? _mm512_permutexvar_epi8(in->order, wide_load(row + in->least + t)) : gathered(in, row, t);
}

static inline quad no_sum(void)
{
    return (quad){wide_zero(), wide_zero(), _mm512_set1_epi32(1 << (VG_WEIGHT_BITS - 1))};
}

/* Adds the dot products of weights and bytes in each 32 bits. */
static inline quad quad_add(quad sum, const quad *weights, __m512i bytes)
{
    sum.high = _mm512_dpbusd_epi32(sum.high, bytes, weights->high);
    sum.middle = _mm512_dpbusd_epi32(sum.middle, bytes, weights->middle);
    sum.low = _mm512_dpbusd_epi32(sum.low, bytes, weights->low);
    return sum;
}

static inline __m512i quad_finish(quad sum)
{
    const __m512i upper = _mm512_add_epi32(_mm512_slli_epi32(sum.high, 8), sum.middle);
    return _mm512_srai_epi32(_mm512_add_epi32(_mm512_slli_epi32(upper, 8), sum.low), VG_WEIGHT_BITS);
}

enum { STEP = 4 }; /* rows that lie together between the passes: four bytes of a column, then those of the next */

/* 16 sums in each of four rows, as columns. */
static inline void sum_rows(const uint8_t *const rows[STEP], const inputs *in, bool near, const quad *weights,
                            uint8_t *columns)
{
    const __m128i in_turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    quad a = no_sum(), b = a, c = a, d = a;
    for (int t = 0; t < in->n_quads; t++) {
        a = quad_add(a, &weights[t], inputs_load(in, near, rows[0], 4 * t));
        b = quad_add(b, &weights[t], inputs_load(in, near, rows[1], 4 * t));
        c = quad_add(c, &weights[t], inputs_load(in, near, rows[2], 4 * t));
        d = quad_add(d, &weights[t], inputs_load(in, near, rows[3], 4 * t));
    }
    const __m512i bytes = wide_pack(quad_finish(a), quad_finish(b), quad_finish(c), quad_finish(d));
    _mm512_storeu_si512(columns, wide_shuffle(bytes, in_turn));
}

static void plane_sideways(const uint8_t *rows, size_t stride, int n_rows, const vg_taps *taps, void *block,
                           uint8_t *between, size_t to_stride)
{
    const int n = taps->n_wide / VG_TAPS_WIDE, most_quads = (taps->n_taps + 3) / 4;
    inputs *in = block;
    quad *weights = (quad *)(in + n);
    for (int i = 0; i < n; i++) {
        in[i] = inputs_of(taps, i * VG_TAPS_WIDE);
        for (int t = 0; t < in[i].n_quads; t++) weights[i * most_quads + t] = quad_of(taps, i * VG_TAPS_WIDE, 4 * t);
    }
    for (int y = 0; y < n_rows; y += STEP, between += STEP * to_stride) {
        const uint8_t *from[STEP];
        for (int k = 0; k < STEP; k++) /* behind the last row comes the last row again */
            from[k] = rows + (size_t)(y + k < n_rows ? y + k : n_rows - 1) * stride;
        for (int i = 0; i < n; i++)
            if (in[i].near)
                sum_rows(from, &in[i], true, weights + i * most_quads, between + (size_t)i * sizeof(wide));
            else
                sum_rows(from, &in[i], false, weights + i * most_quads, between + (size_t)i * sizeof(wide));
    }
}

/* The sums of 64 columns, the first of them at `columns`, for output k of those whose weights these are. */
static inline wide sum_together(const uint8_t *columns, size_t stride, const quad *weights, int k, int n_quads)
{
    quad a = no_sum(), b = a, c = a, d = a;
    for (int t = 0; t < n_quads; t++, columns += STEP * stride) {
        const quad each = {wide_pairs(((const int32_t *)&weights[t].high)[k]),
                           wide_pairs(((const int32_t *)&weights[t].middle)[k]),
                           wide_pairs(((const int32_t *)&weights[t].low)[k])};
        a = quad_add(a, &each, wide_load(columns));
        b = quad_add(b, &each, wide_load(columns + sizeof(wide)));
        c = quad_add(c, &each, wide_load(columns + 2 * sizeof(wide)));
        d = quad_add(d, &each, wide_load(columns + 3 * sizeof(wide)));
    }
    const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(in_order,
                                    wide_pack(quad_finish(a), quad_finish(b), quad_finish(c), quad_finish(d)));
}

static void plane_down(const uint8_t *between, size_t stride, const vg_taps *taps, int i, int n, void *block,
                       uint8_t *out)
{
    quad *weights = block;
    for (int t = 0; 4 * t < taps->n_taps; t++) weights[t] = quad_of(taps, i, 4 * t);
    for (int k = 0; k < n; k++, out += stride) {
        const uint8_t *columns = between + (size_t)taps->first[i + k] * stride;
        for (size_t x = 0; x < stride; x += sizeof(wide)) {
            const wide bytes = sum_together(columns + STEP * x, stride, weights, k, (taps->count[i + k] + 3) / 4);
            memcpy(out + x, &bytes, sizeof bytes);
        }
    }
}

const vg_pixel_ops vg_pixel_ops_avx512 = {weigh, ROWS, sideways,       down,       sums,  mix,
                                          1,     STEP, plane_sideways, plane_down, to_rgb};
#endif
