/* Antialiased bicubic stretch in integers: sideways first, then down, bytes in between, as PIL has it, so that the
 * pixels are those which models trained in Python saw. Weights have 22 fractional bits; 255 * 1.35 * 2^22 < 2^31, where
 * 1.35 bounds the sum of the absolute weights of one output. Integers have one answer on every instruction set. */
#include "data/draw.h"

#include <math.h>
#include <string.h>

/* The wider instruction set changes the speed only. */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define FOR_EACH_CPU __attribute__((target_clones("default", "avx2")))
#else
#define FOR_EACH_CPU
#endif

enum { MAX_SIDE_OUT = 1 << 14, MAX_SIDE_IN = 65535, MAX_BETWEEN = 1 << 28 };
enum { WEIGHT_BITS = 22, HALF = 1 << (WEIGHT_BITS - 1) };

/* Sideways, two rows are summed at once, a pixel of each in one vector: red green blue and a spare, twice. */
enum { ROWS = 2, LANES = 4 * ROWS };
typedef int32_t lanes __attribute__((vector_size(4 * LANES)));

/* The taps of one axis: output i sums weights[i * stride + j] * input[first[i] + j], j < stride; the last weights are 0
 * where fewer are needed. Only inputs from `least` up to but not `end` have a weight. */
typedef struct taps {
    int32_t *weights, *first;
    int stride, least, end;
} taps;

/* ---- weights ---- */

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? a * (((x - 5) * x + 8) * x - 4) : 0;
}

static int taps_stride(double length, int n_out)
{
    return 2 * (int)ceil(2 * fmax(length / n_out, 1)) + 1;
}

/* Of the part [from, from + length) of an axis of n_in pixels; only the pixels it touches are read. Source:
 * vl-gtr-model 1.5; found in fp64 and rounded once. */
static void taps_fill(taps *t, double from, double length, int n_in, int n_out, bool mirrored)
{
    const double scale = length / n_out, spread = fmax(scale, 1), radius = 2 * spread, narrow = 1 / spread;
    t->least = (int)floor(from);
    t->end = (int)fmin(ceil(from + length), n_in);
    for (int i = 0; i < n_out; i++) {
        const size_t at = (size_t)(mirrored ? n_out - 1 - i : i);
        const double centre = from + scale * (i + 0.5);
        const int first = (int)fmax(centre - radius + 0.5, t->least), end = (int)fmin(centre + radius + 0.5, t->end);
        int32_t *weights = t->weights + at * (size_t)t->stride;
        double sum = 0;
        for (int j = first; j < end; j++) sum += bicubic((j - centre + 0.5) * narrow);
        for (int j = 0; j < t->stride; j++) {
            const double weight = first + j < end ? bicubic((first + j - centre + 0.5) * narrow) / sum : 0;
            weights[j] = (int32_t)round(weight * (1 << WEIGHT_BITS));
        }
        t->first[at] = first;
    }
}

/* ---- sideways ---- */

/* Pixels x of rows[k], least <= x < end, to block[x] from lane 4 * k. */
static void interleave(const uint8_t *const rows[ROWS], int least, int end, lanes *block)
{
    for (int k = 0; k < ROWS; k++) {
        const uint8_t *from = rows[k] + 3 * (size_t)least;
        int32_t *to = (int32_t *)(block + least) + 4 * k;
        for (int x = least; x < end; x++, from += 3, to += LANES) {
            to[0] = from[0];
            to[1] = from[1];
            to[2] = from[2];
        }
    }
}

FOR_EACH_CPU static void sum_sideways(const lanes *block, const taps *across, int width, uint8_t *const out[ROWS])
{
    for (int x = 0; x < width; x++) {
        const int32_t *weights = across->weights + (size_t)x * (size_t)across->stride;
        const lanes *pixels = block + across->first[x];
        lanes sum = (lanes){0} + HALF;
        for (int j = 0; j < across->stride; j++) sum += pixels[j] * weights[j];
        sum >>= WEIGHT_BITS;
        sum &= ~(sum >> 31);                    /* below 0 becomes 0 */
        sum = (sum | (lanes)(sum > 255)) & 255; /* above 255 becomes 255 */
        for (int k = 0; k < ROWS; k++)
            for (int c = 0; c < 3; c++) out[k][3 * (size_t)x + (size_t)c] = (uint8_t)sum[4 * k + c];
    }
}

/* between [image height, width, 3], of which the rows that `down` reads are filled */
static void stretch_sideways(const vg_image *image, const taps *across, const taps *down, int width, lanes *block,
                             uint8_t *between)
{
    memset(block, 0, ((size_t)image->width + (size_t)across->stride) * sizeof *block); /* what zero weights read */
    for (int y = down->least; y < down->end; y += ROWS) {
        const uint8_t *from[ROWS];
        uint8_t *to[ROWS];
        for (int k = 0; k < ROWS; k++) { /* behind the last row comes the last row again */
            const size_t row = (size_t)(y + k < down->end ? y + k : down->end - 1);
            from[k] = image->pixels + 3 * row * (size_t)image->width;
            to[k] = between + 3 * row * (size_t)width;
        }
        interleave(from, across->least, across->end, block);
        sum_sideways(block, across, width, to);
    }
}

/* ---- down ---- */

enum { RUN = 32 }; /* columns summed at once; a run may read that far behind the last row and throws it away */

/* out[n] = the weighted sum of `stride` rows of n bytes, from `rows` on. */
FOR_EACH_CPU static void sum_down(const uint8_t *rows, const int32_t *weights, int stride, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i += RUN) {
        int32_t sums[RUN];
        uint8_t bytes[RUN];
        for (int k = 0; k < RUN; k++) sums[k] = HALF;
        for (int j = 0; j < stride; j++) {
            if (!weights[j]) continue; /* perhaps a row behind the picture */
            const uint8_t *from = rows + (size_t)j * n + i;
            for (int k = 0; k < RUN; k++) sums[k] += weights[j] * from[k];
        }
        for (int k = 0; k < RUN; k++) {
            const int32_t value = sums[k] >> WEIGHT_BITS;
            bytes[k] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
        }
        memcpy(out + i, bytes, n - i < RUN ? n - i : RUN);
    }
}

/* ---- the whole ---- */

/* Where everything lies in the scratch. */
typedef struct plan {
    taps across, down;
    lanes *block;
    uint8_t *between;
} plan;

static vg_status plan_make(plan *p, vg_resize_scratch *scratch, const vg_image *image, const vg_stretch *part,
                           int width, int height)
{
    p->across.stride = taps_stride(part->width, width);
    p->down.stride = taps_stride(part->height, height);
    const size_t w = (size_t)width, h = (size_t)height, in_w = (size_t)image->width, in_h = (size_t)image->height;
    const size_t n_across = w * (size_t)p->across.stride, n_down = h * (size_t)p->down.stride;
    const size_t n_block = in_w + (size_t)p->across.stride;
    const size_t n_ints = n_across + w + n_down + h;
    VG_TRY(vg_grow(&scratch->data, &scratch->capacity,
                   sizeof(lanes) * (n_block + 1) + sizeof(int32_t) * n_ints + 3 * in_h * w + RUN, 1));
    p->block = (lanes *)vg_round_up((size_t)scratch->data, sizeof(lanes));
    p->across.weights = (int32_t *)(p->block + n_block);
    p->across.first = p->across.weights + n_across;
    p->down.weights = p->across.first + w;
    p->down.first = p->down.weights + n_down;
    p->between = (uint8_t *)(p->down.first + h);
    return VG_OK;
}

vg_status vg_image_stretch(const vg_image *image, const vg_stretch *part, int width, int height, uint8_t *out,
                           vg_resize_scratch *scratch)
{
    VG_CHECK(part->x >= 0 && part->y >= 0 && part->width > 0 && part->height > 0 &&
                 part->x + part->width <= image->width && part->y + part->height <= image->height,
             VG_E_BUG, "the part of a picture to stretch lies outside it");
    VG_CHECK(width > 0 && height > 0 && width <= MAX_SIDE_OUT && height <= MAX_SIDE_OUT &&
                 image->width <= MAX_SIDE_IN && image->height <= MAX_SIDE_IN &&
                 (int64_t)image->height * width <= MAX_BETWEEN,
             VG_E_DATA, "cannot stretch an image of %d x %d pixels to %d x %d; the sides may be %d and %d pixels",
             image->width, image->height, width, height, MAX_SIDE_IN, MAX_SIDE_OUT);
    plan p;
    VG_TRY(plan_make(&p, scratch, image, part, width, height));
    taps_fill(&p.across, part->x, part->width, image->width, width, part->mirrored);
    taps_fill(&p.down, part->y, part->height, image->height, height, false);
    stretch_sideways(image, &p.across, &p.down, width, p.block, p.between);
    const size_t n = 3 * (size_t)width;
    for (int y = 0; y < height; y++)
        sum_down(p.between + (size_t)p.down.first[y] * n, p.down.weights + (size_t)y * (size_t)p.down.stride,
                 p.down.stride, n, out + (size_t)y * n);
    return VG_OK;
}

vg_status vg_image_resize(const vg_image *image, int width, int height, uint8_t *out, vg_resize_scratch *scratch)
{
    const vg_stretch whole = {.width = image->width, .height = image->height};
    return vg_image_stretch(image, &whole, width, height, out, scratch);
}
