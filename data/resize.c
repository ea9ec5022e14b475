/* Antialiased bicubic stretch. Rows first: an output row is a weighted sum of whole input rows, which is one long
 * contiguous loop; then each of its pixels is a weighted sum along that row, four lanes at a time (the fourth lane is
 * the neighbour's red and is thrown away). Every sum runs over its taps from first to last, so lanes, instruction sets
 * and chunking do not show in the bits. */
#include "data/draw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The wider instruction set changes the speed only: no fused multiply-add is allowed in either version. */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define FOR_EACH_CPU __attribute__((target_clones("default", "avx2")))
#else
#define FOR_EACH_CPU
#endif

enum { MAX_SIDE = 1 << 14, ROWS_AT_ONCE = 4 };

typedef float lanes __attribute__((vector_size(16)));

/* The taps of one axis: output i sums weights[i * stride + j] * input[first[i] + j], j < count[i]; the weights behind
 * count[i] are 0, up to a stride that is a multiple of ROWS_AT_ONCE. */
typedef struct taps {
    float *weights;
    int32_t *first, *count;
    int stride;
} taps;

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? a * (((x - 5) * x + 8) * x - 4) : 0;
}

static int taps_stride(int n_in, int n_out)
{
    const double scale = (double)n_in / n_out;
    const int widest = 2 * (int)ceil(2 * fmax(scale, 1)) + 1;
    return (int)vg_round_up((size_t)widest, ROWS_AT_ONCE);
}

/* Source: vl-gtr-model 1.5; the weights are found in fp64 and rounded once. */
static void taps_fill(taps *t, int n_in, int n_out)
{
    const double scale = (double)n_in / n_out, spread = fmax(scale, 1), radius = 2 * spread;
    for (int i = 0; i < n_out; i++) {
        const double centre = scale * (i + 0.5);
        const int first = (int)fmax(centre - radius + 0.5, 0), end = (int)fmin(centre + radius + 0.5, n_in);
        float *weights = t->weights + (size_t)i * (size_t)t->stride;
        double sum = 0;
        for (int j = first; j < end; j++) sum += bicubic((j - centre + 0.5) / spread);
        for (int j = 0; j < t->stride; j++)
            weights[j] = first + j < end ? (float)(bicubic((first + j - centre + 0.5) / spread) / sum) : 0.0F;
        t->first[i] = first;
        t->count[i] = end - first;
    }
}

/* sum[i] (+)= w0*r0[i] + w1*r1[i] + w2*r2[i] + w3*r3[i], added from left to right. */
FOR_EACH_CPU static void add_rows(float *restrict sum, const uint8_t *const rows[ROWS_AT_ONCE], const float *weights,
                                  int n, bool fresh)
{
    const uint8_t *restrict r0 = rows[0], *restrict r1 = rows[1], *restrict r2 = rows[2], *restrict r3 = rows[3];
    const float w0 = weights[0], w1 = weights[1], w2 = weights[2], w3 = weights[3];
    if (fresh)
        for (int i = 0; i < n; i++) sum[i] = w0 * r0[i] + w1 * r1[i] + w2 * r2[i] + w3 * r3[i];
    else
        for (int i = 0; i < n; i++) sum[i] = sum[i] + w0 * r0[i] + w1 * r1[i] + w2 * r2[i] + w3 * r3[i];
}

/* row [3*width+1]: output row y before it is squeezed sideways. */
static void squeeze_down(const vg_image *image, const taps *down, int y, float *row)
{
    const int count = down->count[y], last = down->first[y] + count - 1, n = 3 * image->width;
    const float *weights = down->weights + (size_t)y * (size_t)down->stride;
    for (int j = 0; j < count; j += ROWS_AT_ONCE) {
        const uint8_t *rows[ROWS_AT_ONCE];
        for (int k = 0; k < ROWS_AT_ONCE; k++) { /* a row past the last tap weighs 0: any row will do */
            const int source = down->first[y] + j + k < last ? down->first[y] + j + k : last;
            rows[k] = image->pixels + (size_t)source * (size_t)n;
        }
        add_rows(row, rows, weights + j, n, j == 0);
    }
}

static uint8_t to_byte(float x)
{
    return x <= 0 ? 0 : x >= 255 ? 255 : (uint8_t)(x + 0.5F);
}

static void squeeze_sideways(const float *row, const taps *across, int width, uint8_t *out)
{
    for (int x = 0; x < width; x++) {
        const float *weights = across->weights + (size_t)x * (size_t)across->stride;
        const float *pixel = row + 3 * (size_t)across->first[x];
        lanes sum = {0};
        for (int j = 0; j < across->count[x]; j++) {
            lanes four;
            memcpy(&four, pixel + 3 * j, sizeof four);
            sum += weights[j] * four;
        }
        for (int c = 0; c < 3; c++) out[3 * x + c] = to_byte(sum[c]);
    }
}

/* Places the taps of both axes and one row in the scratch, which grows to hold them. */
static vg_status place(vg_resize_scratch *scratch, const vg_image *image, int width, int height, taps *across,
                       taps *down, float **row)
{
    across->stride = taps_stride(image->width, width);
    down->stride = taps_stride(image->height, height);
    const size_t n_across = (size_t)width * (size_t)(across->stride + 2);
    const size_t n_down = (size_t)height * (size_t)(down->stride + 2), n_row = 3 * (size_t)image->width + 1;
    VG_TRY(vg_grow(&scratch->data, &scratch->capacity, n_across + n_down + n_row, sizeof(float)));
    across->weights = scratch->data;
    across->first = (int32_t *)(across->weights + (size_t)width * (size_t)across->stride);
    across->count = across->first + width;
    down->weights = scratch->data + n_across;
    down->first = (int32_t *)(down->weights + (size_t)height * (size_t)down->stride);
    down->count = down->first + height;
    *row = scratch->data + n_across + n_down;
    (*row)[n_row - 1] = 0; /* the fourth lane of the last pixel */
    return VG_OK;
}

vg_status vg_image_resize(const vg_image *image, int width, int height, uint8_t *out, vg_resize_scratch *scratch)
{
    VG_CHECK(width > 0 && height > 0 && width <= MAX_SIDE && height <= MAX_SIDE, VG_E_DATA,
             "cannot stretch an image to %d x %d pixels; 1 to %d a side", width, height, MAX_SIDE);
    taps across, down;
    float *row = NULL;
    VG_TRY(place(scratch, image, width, height, &across, &down, &row));
    taps_fill(&across, image->width, width);
    taps_fill(&down, image->height, height);
    for (int y = 0; y < height; y++) {
        squeeze_down(image, &down, y, row);
        squeeze_sideways(row, &across, width, out + (size_t)y * (size_t)width * 3);
    }
    return VG_OK;
}
