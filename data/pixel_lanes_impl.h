/* The loops over pixels in vectors, included by one file for each instruction set, which has passes over planes of its
 * own and before those defines
 *     ROWS                  16-byte lanes of a `wide`: rows that are summed sideways at once
 *     wide                  a vector, with wide_load, wide_store, wide_pairs (one 32-bit value everywhere), wide_zero,
 *     wide_dot(sum, a, b)   sum += the dot products of 16-bit pairs
 *     wide_finish(h, l)     (h * 2^12 + l + half) >> 22 in each 32-bit lane
 *     wide_lane(a, k)       16-byte lane k, a constant
 *     wide_unpack_lo, _hi   bytes (8) of two vectors in turn, and wide_pack: four vectors of sums back to bytes in
 *                           order; wide_pack_bytes: two of 16-bit numbers to bytes, cut to 0..255
 *     wide_right, _left     shifts of 32 bits by a constant, and wide_right_halves: of 16, wide_add_halves: sums of 16
 *     wide_halves(a, b)     of each 32 bits the lower half of a and the upper one of b
 *     wide_shuffle(a, o)    bytes of each lane in the order o
 *     wide_each(p)          bytes, each to 32 bits
 *     wide_load_twelves(p), wide_store_twelves(p, a)   12 bytes for each lane, and nothing between them; what the load
 *                           fills lanes up with is anything, and it may read a whole vector */
#include "data/resize_weights_impl.h"

#include <immintrin.h>

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
    const int32_t *high = taps->high + i, *low = taps->low + i;
    for (int q = 0; q < 4; q++) {
        h[q] = l[q] = wide_zero();
        from[q] = block + taps->first[i + q] / 2;
    }
    for (int j = 0; 2 * j < taps->n_taps; j++, high += taps->n_wide, low += taps->n_wide)
        for (int q = 0; q < 4; q++) {
            const wide pixels = wide_load(from[q] + j);
            h[q] = wide_dot(h[q], pixels, wide_pairs(high[q]));
            l[q] = wide_dot(l[q], pixels, wide_pairs(low[q]));
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
static inline wide sum_columns(const uint8_t *first, const vg_taps *taps, int i, size_t n)
{
    const int32_t *high = taps->high + i, *low = taps->low + i;
    wide h[4], l[4];
    for (int q = 0; q < 4; q++) h[q] = l[q] = wide_zero();
    for (int j = 0; j < taps->count[i]; j += 2, first += 2 * n, high += taps->n_wide, low += taps->n_wide) {
        const wide a = wide_load(first), b = j + 1 < taps->count[i] ? wide_load(first + n) : wide_zero();
        const wide ab[2] = {wide_unpack_lo(a, b), wide_unpack_hi(a, b)};
        for (int q = 0; q < 4; q++) {
            const wide pixels = q % 2 ? wide_unpack_hi(ab[q / 2], wide_zero()) : wide_unpack_lo(ab[q / 2], wide_zero());
            h[q] = wide_dot(h[q], pixels, wide_pairs(*high));
            l[q] = wide_dot(l[q], pixels, wide_pairs(*low));
        }
    }
    return wide_pack(wide_finish(h[0], l[0]), wide_finish(h[1], l[1]), wide_finish(h[2], l[2]),
                     wide_finish(h[3], l[3]));
}

/* The last columns once more by single bytes: there is no vector of them. */
static void down(const uint8_t *rows, const vg_taps *taps, int i, size_t n, uint8_t *out)
{
    const int32_t *weights = taps->weights + i;
    size_t k = 0;
    for (; k + sizeof(wide) <= n; k += sizeof(wide)) {
        const wide bytes = sum_columns(rows + k, taps, i, n);
        memcpy(out + k, &bytes, sizeof bytes);
    }
    for (; k < n; k++) {
        int32_t sum = 1 << (VG_WEIGHT_BITS - 1);
        for (int j = 0; j < taps->count[i]; j++) sum += weights[j * taps->n_wide] * rows[(size_t)j * n + k];
        sum >>= VG_WEIGHT_BITS;
        out[k] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
}

/* ---- colours: a pixel to 32 bits, so ROWS * 4 at a time ---- */

static inline wide pair_of(int low, int high)
{
    return wide_pairs((int32_t)((uint32_t)(uint16_t)low | (uint32_t)(uint16_t)high << 16));
}

/* Sums of red, green and blue with `bits` fractional bits to bytes r g b r g b. What the sums are beyond 16 bits and
 * the fraction is lost. Returns the bytes as r b r b r b r b g . g . g . g . in each lane. */
static inline wide put_pixels(uint8_t *to, wide red, wide green, wide blue, int bits)
{
    const __m128i in_turn = _mm_setr_epi8(0, 8, 1, 2, 10, 3, 4, 12, 5, 6, 14, 7, -1, -1, -1, -1);
    const wide red_blue = wide_halves(wide_right(red, bits), wide_left(blue, 16 - bits));
    const wide bytes = wide_pack_bytes(red_blue, wide_right(green, bits));
    wide_store_twelves(to, wide_shuffle(bytes, in_turn));
    return bytes;
}

/* Byte k of every 3 vectors is of channel k % 3 and has its own sum of 16 bits, which holds 257 bytes. */
static inline void add_channels(const uint8_t *pixels, int n_threes, uint64_t totals[3])
{
    wide sum[3][2];
    uint16_t each[sizeof(wide) / 2];
    for (int k = 0; k < 3; k++) sum[k][0] = sum[k][1] = wide_zero();
    for (int i = 0; i < n_threes; i++)
        for (int k = 0; k < 3; k++, pixels += sizeof(wide)) {
            const wide bytes = wide_load(pixels);
            sum[k][0] = wide_add_halves(sum[k][0], wide_and(bytes, pair_of(255, 255)));
            sum[k][1] = wide_add_halves(sum[k][1], wide_right_halves(bytes, 8));
        }
    for (int k = 0; k < 6; k++) {
        memcpy(each, &sum[k / 2][k % 2], sizeof each);
        for (size_t i = 0; i < sizeof(wide) / 2; i++)
            totals[((size_t)(k / 2) * sizeof(wide) + 2 * i + (size_t)(k % 2)) % 3] += each[i];
    }
}

static void sums(const uint8_t *pixels, size_t n, uint64_t totals[3])
{
    const size_t most = 257;
    size_t left = n / sizeof(wide);
    for (size_t some = 0; left > 0; left -= some, pixels += 3 * some * sizeof(wide)) {
        some = left < most ? left : most;
        add_channels(pixels, (int)some, totals);
    }
    vg_pixel_ops_base.sums(pixels, n % sizeof(wide), totals);
}

/* The halves of a pixel's 32 bits: red and blue, green and grey. */
static void mix(uint8_t *pixels, size_t n, const vg_mix *m)
{
    const __m128i apart = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    const wide half = wide_pairs(1 << (VG_GREY_BITS - 1)), shift = wide_pairs(m->shift);
    const wide lower_own = pair_of(m->own, 0), upper_own = pair_of(0, m->own), upper_grey = pair_of(0, m->grey);
    const wide red_blue_to_grey = pair_of(VG_GREY_RED, VG_GREY_BLUE), green_to_grey = pair_of(VG_GREY_GREEN, 0);
    size_t i = 0;
    for (; 3 * i + sizeof(wide) <= 3 * n; i += ROWS * 4) {
        const wide rgb = wide_shuffle(wide_load_twelves(pixels + 3 * i), apart);
        const wide red_blue = wide_and(rgb, pair_of(255, 255)), green = wide_right_halves(rgb, 8);
        const wide grey = wide_dot(wide_dot(half, red_blue, red_blue_to_grey), green, green_to_grey);
        const wide green_grey = wide_halves(green, wide_left(grey, 16 - VG_GREY_BITS));
        const wide common = wide_dot(shift, green_grey, upper_grey);
        put_pixels(pixels + 3 * i, wide_dot(common, red_blue, lower_own), wide_dot(common, green_grey, lower_own),
                   wide_dot(common, red_blue, upper_own), VG_MIX_BITS);
    }
    vg_pixel_ops_base.mix(pixels + 3 * i, n - i, m);
}

/* ---- planes ---- */

/* Adds up the 32-bit numbers of each lane's first half, and those of the second. */
static inline void add_halves_of_lanes(wide lanes, uint64_t *first, uint64_t *second)
{
    uint32_t each[4 * ROWS];
    memcpy(each, &lanes, sizeof each);
    for (int k = 0; k < 4 * ROWS; k++) *(k % 4 < 2 ? first : second) += each[k];
}

/* That colours lie around 128 is in the constant terms. */
static void to_rgb(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, size_t n, uint8_t *out, uint64_t totals[3])
{
    const int one = 1 << VG_RGB_BITS, half = 1 << (VG_RGB_BITS - 1);
    const wide no_red = wide_pairs(half - 128 * VG_RED_CR), no_blue = wide_pairs(half - 128 * VG_BLUE_CB);
    const wide no_green = wide_pairs(half - 128 * (VG_GREEN_CB + VG_GREEN_CR));
    uint64_t no_channel = 0;
    wide red_green = wide_zero(), blue = wide_zero();
    size_t i = 0;
    for (; i + ROWS * 4 <= n; i += ROWS * 4) {
        const wide light_cb = wide_halves(wide_each(y + i), wide_left(wide_each(cb + i), 16)), v = wide_each(cr + i);
        const wide bytes =
            put_pixels(out + 3 * i, wide_dot(wide_dot(no_red, light_cb, pair_of(one, 0)), v, pair_of(VG_RED_CR, 0)),
                       wide_dot(wide_dot(no_green, light_cb, pair_of(one, VG_GREEN_CB)), v, pair_of(VG_GREEN_CR, 0)),
                       wide_dot(no_blue, light_cb, pair_of(one, VG_BLUE_CB)), VG_RGB_BITS);
        red_green = wide_dot(red_green, wide_and(bytes, pair_of(255, 255)), pair_of(1, 1));
        blue = wide_dot(blue, wide_right_halves(bytes, 8), pair_of(1, 1));
    }
    add_halves_of_lanes(red_green, &totals[0], &totals[1]);
    add_halves_of_lanes(blue, &totals[2], &no_channel);
    vg_pixel_ops_base.to_rgb(y + i, cb + i, cr + i, n - i, out + 3 * i, totals);
}
