/* The loops over pixels in vectors, included by one file for each instruction set, which defines
 *     OPS                   the table's name
 *     ROWS                  16-byte lanes of a `wide`: rows that are summed sideways at once
 *     wide                  a vector, with wide_load, wide_store, wide_pairs (one 32-bit value everywhere), wide_zero,
 *     wide_dot(sum, a, b)   sum += the dot products of 16-bit pairs
 *     wide_finish(h, l)     (h * 2^12 + l + half) >> 22 in each 32-bit lane
 *     wide_lane(a, k)       16-byte lane k, a constant
 *     wide_unpack_lo, _hi   bytes (8) of two vectors in turn, and wide_pack: four vectors of sums back to bytes in
 * order */
#include "data/pixel_ops_impl.h"

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

/* Two pixels, r g b r g b, as pairs of 16 bits: r r  g g  b b  0 0. */
static inline __m128i pixel_pair(const uint8_t *from)
{
    const __m128i order = _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
    __m128i bytes;
    memcpy(&bytes, from, sizeof bytes);
    return _mm_shuffle_epi8(bytes, order);
}

/* Pixels 2 p and 2 p + 1 of row k to lane k of block[p], for the inputs that have a weight. What a pair has beside them
 * has no weight, and is what follows in the row, or 0. */
static void fill_block(const uint8_t *const *rows, int n_in, const vg_taps *taps, wide *block)
{
    const int last = (taps->end - 1) / 2;
    for (int k = 0; k < ROWS; k++) {
        __m128i *to = (__m128i *)block + k;
        int p = taps->least / 2;
        for (; p <= last && 6 * p + 16 <= 3 * n_in; p++) to[(size_t)p * ROWS] = pixel_pair(rows[k] + 6 * (size_t)p);
        for (; p <= last; p++) {
            uint8_t tail[16] = {0};
            memcpy(tail, rows[k] + 6 * (size_t)p, (size_t)(2 * p + 2 <= n_in ? 6 : 3));
            to[(size_t)p * ROWS] = pixel_pair(tail);
        }
    }
}

/* The sums of outputs i to i + 3, three channels and a spare of each row in its lane, as bytes. */
static inline wide sum_four(const wide *block, const vg_taps *taps, int i)
{
    wide h[4], l[4];
    const wide *from[4];
    const int32_t *high = taps->high + (size_t)i * (size_t)taps->pair_stride;
    const int32_t *low = taps->low + (size_t)i * (size_t)taps->pair_stride;
    for (int q = 0; q < 4; q++) {
        h[q] = l[q] = wide_zero();
        from[q] = block + taps->start[i + q] / 2;
    }
    for (int j = 0; j < taps->most_pairs; j++, high++, low++)
        for (int q = 0; q < 4; q++) {
            const wide pixels = wide_load(from[q] + j);
            h[q] = wide_dot(h[q], pixels, wide_pairs(high[q * taps->pair_stride]));
            l[q] = wide_dot(l[q], pixels, wide_pairs(low[q * taps->pair_stride]));
        }
    return wide_pack(wide_finish(h[0], l[0]), wide_finish(h[1], l[1]), wide_finish(h[2], l[2]),
                     wide_finish(h[3], l[3]));
}

/* The first n of four pixels without their spare bytes. Where there is room, what follows is written and later
 * overwritten. */
static inline void put_four(uint8_t *row, int n, bool room, __m128i pixels)
{
    const __m128i order = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    pixels = _mm_shuffle_epi8(pixels, order);
    if (room)
        memcpy(row, &pixels, sizeof pixels);
    else
        memcpy(row, &pixels, 3 * (size_t)n);
}

/* Taps come in fours: those behind the last output have no weight. */
static void sideways(const uint8_t *const *rows, int n_in, const vg_taps *taps, void *memory, uint8_t *const *out)
{
    wide *block = memory;
    fill_block(rows, n_in, taps, block);
    for (int i = 0; i < taps->n_out; i += 4) {
        const wide sum = sum_four(block, taps, i);
        const int n = taps->n_out - i < 4 ? taps->n_out - i : 4;
        const bool room = i + 6 <= taps->n_out;
        const size_t at = 3 * (size_t)i;
        put_four(out[0] + at, n, room, wide_lane(sum, 0));
        put_four(out[1] + at, n, room, wide_lane(sum, 1));
#if ROWS == 4
        put_four(out[2] + at, n, room, wide_lane(sum, 2));
        put_four(out[3] + at, n, room, wide_lane(sum, 3));
#endif
    }
}

/* One vector of columns; `first` and the rows after it, the last of which may have no partner. */
static inline wide sum_columns(const uint8_t *first, const int32_t *high, const int32_t *low, int count, size_t n)
{
    wide h[4], l[4];
    for (int q = 0; q < 4; q++) h[q] = l[q] = wide_zero();
    for (int j = 0; j < count; j += 2, first += 2 * n) {
        const wide a = wide_load(first), b = j + 1 < count ? wide_load(first + n) : wide_zero();
        const wide ab[2] = {wide_unpack_lo(a, b), wide_unpack_hi(a, b)};
        for (int q = 0; q < 4; q++) {
            const wide pixels = q % 2 ? wide_unpack_hi(ab[q / 2], wide_zero()) : wide_unpack_lo(ab[q / 2], wide_zero());
            h[q] = wide_dot(h[q], pixels, wide_pairs(high[j / 2]));
            l[q] = wide_dot(l[q], pixels, wide_pairs(low[j / 2]));
        }
    }
    return wide_pack(wide_finish(h[0], l[0]), wide_finish(h[1], l[1]), wide_finish(h[2], l[2]),
                     wide_finish(h[3], l[3]));
}

/* The last columns once more by single bytes: there is no vector of them. */
static void down(const uint8_t *rows, const vg_taps *taps, int i, size_t n, uint8_t *out)
{
    const int32_t *high = taps->high + (size_t)i * (size_t)taps->pair_stride;
    const int32_t *low = taps->low + (size_t)i * (size_t)taps->pair_stride;
    const int32_t *weights = taps->weights + (size_t)i * (size_t)taps->stride;
    size_t k = 0;
    for (; k + sizeof(wide) <= n; k += sizeof(wide)) {
        const wide bytes = sum_columns(rows + k, high, low, taps->count[i], n);
        memcpy(out + k, &bytes, sizeof bytes);
    }
    for (; k < n; k++) {
        int32_t sum = 1 << (VG_WEIGHT_BITS - 1);
        for (int j = 0; j < taps->count[i]; j++) sum += weights[j] * rows[(size_t)j * n + k];
        sum >>= VG_WEIGHT_BITS;
        out[k] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
}

/* ---- colours: 16 pixels at a time as three planes ---- */

typedef struct planes {
    __m128i c[3];
} planes;

/* Byte 3 i + c of the three vectors is byte i of plane c. */
static inline planes take_apart(const uint8_t *pixels)
{
    static const int8_t from[3][3][16] = {{{0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
                                           {-1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14, -1, -1, -1, -1, -1},
                                           {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1, 4, 7, 10, 13}},
                                          {{1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
                                           {-1, -1, -1, -1, -1, 0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1},
                                           {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14}},
                                          {{2, 5, 8, 11, 14, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
                                           {-1, -1, -1, -1, -1, 1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1},
                                           {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 3, 6, 9, 12, 15}}};
    __m128i v[3];
    planes p;
    memcpy(v, pixels, sizeof v);
    for (int c = 0; c < 3; c++) {
        p.c[c] = _mm_setzero_si128();
        for (int k = 0; k < 3; k++)
            p.c[c] = _mm_or_si128(p.c[c], _mm_shuffle_epi8(v[k], _mm_loadu_si128((const __m128i *)from[c][k])));
    }
    return p;
}

static inline void put_together(const planes *p, uint8_t *pixels)
{
    static const int8_t from[3][3][16] = {{{0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1, 5},
                                           {-1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1},
                                           {-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1}},
                                          {{-1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10, -1},
                                           {5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10},
                                           {-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1}},
                                          {{-1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1, -1},
                                           {-1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1},
                                           {10, -1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15}}};
    for (int k = 0; k < 3; k++) {
        __m128i v = _mm_setzero_si128();
        for (int c = 0; c < 3; c++)
            v = _mm_or_si128(v, _mm_shuffle_epi8(p->c[c], _mm_loadu_si128((const __m128i *)from[k][c])));
        memcpy(pixels + 16 * k, &v, sizeof v);
    }
}

static void sums(const uint8_t *pixels, size_t n, uint64_t totals[3])
{
    __m128i total[3] = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const planes p = take_apart(pixels + 3 * i);
        for (int c = 0; c < 3; c++) total[c] = _mm_add_epi64(total[c], _mm_sad_epu8(p.c[c], _mm_setzero_si128()));
    }
    for (int c = 0; c < 3; c++)
        totals[c] += (uint64_t)_mm_extract_epi64(total[c], 0) + (uint64_t)_mm_extract_epi64(total[c], 1);
    vg_pixel_ops_base.sums(pixels + 3 * i, n - i, totals);
}

static inline __m256i pair_of(int low, int high)
{
    return _mm256_set1_epi32((int32_t)((uint32_t)(uint16_t)low | (uint32_t)(uint16_t)high << 16));
}

/* (a . wa + b . wb) >> bits over the pairs of 16 bits in a and b, where b and wb may be a constant term. */
static inline __m256i dot_two(__m256i a, __m256i wa, __m256i b, __m256i wb)
{
    return _mm256_add_epi32(_mm256_madd_epi16(a, wa), _mm256_madd_epi16(b, wb));
}

static inline __m256i grey_of(const __m256i c[3])
{
    const __m256i red_green = pair_of(VG_GREY_RED, VG_GREY_GREEN),
                  blue_one = pair_of(VG_GREY_BLUE, 1 << (VG_GREY_BITS - 1));
    const __m256i one = _mm256_set1_epi16(1);
    const __m256i lo =
        dot_two(_mm256_unpacklo_epi16(c[0], c[1]), red_green, _mm256_unpacklo_epi16(c[2], one), blue_one);
    const __m256i hi =
        dot_two(_mm256_unpackhi_epi16(c[0], c[1]), red_green, _mm256_unpackhi_epi16(c[2], one), blue_one);
    return _mm256_packs_epi32(_mm256_srai_epi32(lo, VG_GREY_BITS), _mm256_srai_epi32(hi, VG_GREY_BITS));
}

static inline __m128i mixed(__m256i own, __m256i grey, __m256i weights, __m256i shift)
{
    const __m256i lo = _mm256_add_epi32(_mm256_madd_epi16(_mm256_unpacklo_epi16(own, grey), weights), shift);
    const __m256i hi = _mm256_add_epi32(_mm256_madd_epi16(_mm256_unpackhi_epi16(own, grey), weights), shift);
    const __m256i both = _mm256_packs_epi32(_mm256_srai_epi32(lo, VG_MIX_BITS), _mm256_srai_epi32(hi, VG_MIX_BITS));
    return _mm_packus_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
}

static void mix(uint8_t *pixels, size_t n, const vg_mix *m)
{
    const __m256i weights = pair_of(m->own, m->grey), shift = _mm256_set1_epi32(m->shift);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        planes p = take_apart(pixels + 3 * i);
        __m256i c[3];
        for (int k = 0; k < 3; k++) c[k] = _mm256_cvtepu8_epi16(p.c[k]);
        const __m256i grey = grey_of(c);
        for (int k = 0; k < 3; k++) p.c[k] = mixed(c[k], grey, weights, shift);
        put_together(&p, pixels + 3 * i);
    }
    vg_pixel_ops_base.mix(pixels + 3 * i, n - i, m);
}

/* ---- planes ---- */

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

/* Four rows in each lane, where sideways has the channels of one. */
static void plane_sideways(const uint8_t *const *rows, const vg_taps *taps, void *memory, uint8_t *const *out)
{
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    wide *block = memory;
    for (int p = taps->least / 2; 2 * p < taps->end; p += 8)
        for (int k = 0; k < ROWS; k++) fill_lanes(rows + 4 * (size_t)k, (size_t)p, (__m128i *)(block + p) + k);
    for (int i = 0; i < taps->n_out; i += 4) {
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

static inline __m256i centred(const uint8_t *samples)
{
    return _mm256_sub_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)samples)), _mm256_set1_epi16(128));
}

/* (y, colour) . by in 14 fractional bits, and (also, 1) . more, as bytes. */
static inline __m128i channel(__m256i y, __m256i colour, __m256i by, __m256i also, __m256i more)
{
    const __m256i one = _mm256_set1_epi16(1);
    const __m256i lo = dot_two(_mm256_unpacklo_epi16(y, colour), by, _mm256_unpacklo_epi16(also, one), more);
    const __m256i hi = dot_two(_mm256_unpackhi_epi16(y, colour), by, _mm256_unpackhi_epi16(also, one), more);
    const __m256i both = _mm256_packs_epi32(_mm256_srai_epi32(lo, VG_RGB_BITS), _mm256_srai_epi32(hi, VG_RGB_BITS));
    return _mm_packus_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
}

static void to_rgb(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, size_t n, uint8_t *out)
{
    const int one = 1 << VG_RGB_BITS, half = 1 << (VG_RGB_BITS - 1);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i light = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(y + i)));
        const __m256i u = centred(cb + i), v = centred(cr + i);
        const planes p = {{channel(light, v, pair_of(one, VG_RED_CR), u, pair_of(0, half)),
                           channel(light, u, pair_of(one, VG_GREEN_CB), v, pair_of(VG_GREEN_CR, half)),
                           channel(light, u, pair_of(one, VG_BLUE_CB), v, pair_of(0, half))}};
        put_together(&p, out + 3 * i);
    }
    vg_pixel_ops_base.to_rgb(y + i, cb + i, cr + i, n - i, out + 3 * i);
}

const vg_pixel_ops OPS = {ROWS, sideways, down, sums, mix, 4 * ROWS, plane_sideways, to_rgb};
