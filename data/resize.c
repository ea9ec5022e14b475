/* Antialiased bicubic stretch in integers: sideways first, then down, bytes in between, as PIL has it, so that the
 * pixels are those which models trained in Python saw. Integers have one answer on every instruction set. */
#include "data/draw.h"
#include "data/pixel_ops_impl.h"

#include <math.h>
#include <string.h>

enum { MAX_SIDE_IN = 65535, MAX_BETWEEN = 1 << 28 };

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

static int fours(int n)
{
    return (n + 3) / 4 * 4;
}

/* The weights of output `at` once more, as pairs from input `start` on. */
static void pairs_fill(vg_taps *t, int at, int start)
{
    const int32_t *weights = t->weights + (size_t)at * (size_t)t->stride;
    const int shift = t->first[at] - start;
    const int n_pairs = (shift + t->count[at] + 1) / 2;
    t->start[at] = start;
    if (t->most_pairs < n_pairs) t->most_pairs = n_pairs;
    for (int j = 0; j < t->pair_stride; j++) {
        uint32_t high = 0, low = 0;
        for (int k = 0; k < 2; k++) {
            const int tap = 2 * j + k - shift;
            const int32_t weight = tap >= 0 && tap < t->count[at] ? weights[tap] : 0;
            high |= ((uint32_t)(weight >> VG_LOW_BITS) & 0xffff) << 16 * k;
            low |= ((uint32_t)weight & ((1U << VG_LOW_BITS) - 1)) << 16 * k;
        }
        t->high[(size_t)at * (size_t)t->pair_stride + (size_t)j] = (int32_t)high;
        t->low[(size_t)at * (size_t)t->pair_stride + (size_t)j] = (int32_t)low;
    }
}

/* Of the part [from, from + length) of an axis of n_in pixels; only the pixels it touches are read. Source:
 * vl-gtr-model 1.5; found in fp64 and rounded once. Pairs start at a multiple of `even`. */
static void taps_fill(vg_taps *t, double from, double length, int n_in, bool mirrored, int even)
{
    const double scale = length / t->n_out, spread = fmax(scale, 1), radius = 2 * spread, narrow = 1 / spread;
    t->least = (int)floor(from);
    t->end = (int)fmin(ceil(from + length), n_in);
    t->most_pairs = 0;
    for (int i = t->n_out; i < fours(t->n_out); i++) t->start[i] = t->count[i] = t->first[i] = 0;
    for (int i = t->n_out; i < fours(t->n_out); i++) pairs_fill(t, i, 0);
    for (int i = 0; i < t->n_out; i++) {
        const int at = mirrored ? t->n_out - 1 - i : i;
        const double centre = from + scale * (i + 0.5);
        const int first = (int)fmax(centre - radius + 0.5, t->least), end = (int)fmin(centre + radius + 0.5, t->end);
        int32_t *weights = t->weights + (size_t)at * (size_t)t->stride;
        double sum = 0;
        for (int j = first; j < end; j++) sum += bicubic((j - centre + 0.5) * narrow);
        for (int j = first; j < end; j++)
            weights[j - first] = (int32_t)round(bicubic((j - centre + 0.5) * narrow) / sum * (1 << VG_WEIGHT_BITS));
        t->first[at] = first;
        t->count[at] = end - first;
        pairs_fill(t, at, first / even * even);
    }
}

/* ---- the whole ---- */

/* Where everything lies in the scratch. */
typedef struct plan {
    const vg_pixel_ops *ops;
    vg_taps across, down;
    uint8_t *block, *between; /* between [image height, width, 3], of which the rows that `down` reads are filled */
} plan;

enum { ALIGNMENT = 64 };

/* The next n values of the scratch; with `at` NULL they are only counted. */
static void *piece(unsigned char *at, size_t *offset, size_t n, size_t bytes_each)
{
    void *here = at ? at + *offset : NULL;
    *offset = vg_round_up(*offset + n * bytes_each, ALIGNMENT);
    return here;
}

static void taps_place(vg_taps *t, double length, int n_out, unsigned char *at, size_t *offset)
{
    t->n_out = n_out;
    t->stride = taps_stride(length, n_out);
    t->pair_stride = t->stride / 2 + 2;
    const size_t n = (size_t)fours(n_out);
    t->weights = piece(at, offset, n * (size_t)t->stride, sizeof(int32_t));
    t->high = piece(at, offset, n * (size_t)t->pair_stride, sizeof(int32_t));
    t->low = piece(at, offset, n * (size_t)t->pair_stride, sizeof(int32_t));
    int32_t **const each[] = {&t->first, &t->count, &t->start};
    for (size_t k = 0; k < sizeof each / sizeof *each; k++) *each[k] = piece(at, offset, n, sizeof(int32_t));
}

static size_t plan_place(plan *p, const vg_image *image, const vg_stretch *part, int width, int height,
                         unsigned char *at)
{
    size_t offset = 0;
    taps_place(&p->across, part->width, width, at, &offset);
    taps_place(&p->down, part->height, height, at, &offset);
    p->block = piece(at, &offset, vg_block_bytes(image->width, p->across.pair_stride), 1);
    p->between = piece(at, &offset, 3 * (size_t)image->height * (size_t)width, 1);
    return offset;
}

static vg_status plan_make(plan *p, vg_resize_scratch *scratch, const vg_image *image, const vg_stretch *part,
                           int width, int height)
{
    p->ops = vg_pixel_ops_best();
    const size_t bytes = plan_place(p, image, part, width, height, NULL);
    VG_TRY(vg_grow(&scratch->data, &scratch->capacity, bytes + ALIGNMENT, 1));
    plan_place(p, image, part, width, height, (unsigned char *)vg_round_up((size_t)scratch->data, ALIGNMENT));
    taps_fill(&p->across, part->x, part->width, image->width, part->mirrored, 2);
    taps_fill(&p->down, part->y, part->height, image->height, false, 1);
    return VG_OK;
}

static void stretch_sideways(const plan *p, const vg_image *image)
{
    for (int y = p->down.least; y < p->down.end; y += p->ops->rows) {
        const uint8_t *from[VG_MOST_ROWS];
        uint8_t *to[VG_MOST_ROWS];
        for (int k = 0; k < p->ops->rows; k++) { /* behind the last row comes the last row again */
            const size_t row = (size_t)(y + k < p->down.end ? y + k : p->down.end - 1);
            from[k] = image->pixels + 3 * row * (size_t)image->width;
            to[k] = p->between + 3 * row * (size_t)p->across.n_out;
        }
        p->ops->sideways(from, image->width, &p->across, p->block, to);
    }
}

vg_status vg_image_stretch(const vg_image *image, const vg_stretch *part, int width, int height, uint8_t *out,
                           vg_resize_scratch *scratch)
{
    VG_CHECK(part->x >= 0 && part->y >= 0 && part->width > 0 && part->height > 0 &&
                 part->x + part->width <= image->width && part->y + part->height <= image->height,
             VG_E_BUG, "the part of a picture to stretch lies outside it");
    VG_CHECK(width > 0 && height > 0 && width <= VG_MAX_STRETCHED && height <= VG_MAX_STRETCHED &&
                 image->width <= MAX_SIDE_IN && image->height <= MAX_SIDE_IN &&
                 (int64_t)image->height * width <= MAX_BETWEEN,
             VG_E_DATA, "cannot stretch an image of %d x %d pixels to %d x %d; the sides may be %d and %d pixels",
             image->width, image->height, width, height, MAX_SIDE_IN, VG_MAX_STRETCHED);
    plan p;
    VG_TRY(plan_make(&p, scratch, image, part, width, height));
    stretch_sideways(&p, image);
    const size_t n = 3 * (size_t)width;
    for (int y = 0; y < height; y++)
        p.ops->down(p.between + (size_t)p.down.first[y] * n, &p.down, y, n, out + (size_t)y * n);
    return VG_OK;
}

vg_status vg_image_resize(const vg_image *image, int width, int height, uint8_t *out, vg_resize_scratch *scratch)
{
    const vg_stretch whole = {.width = image->width, .height = image->height};
    return vg_image_stretch(image, &whole, width, height, out, scratch);
}
