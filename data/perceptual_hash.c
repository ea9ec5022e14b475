#include "data/perceptual_hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIDE = 32,
    LOW = 8,                   /* frequencies 1..LOW of both axes */
    COSINE_ONE = 1 << 12,      /* 1.0 in the table of cosines */
    LEAST_CONTRAST = 8 * 1000, /* brightest less darkest of the 32 x 32, 255000 at most */
};

/* cosine[u - 1][x] = cos((2 x + 1) u pi / 64) */
static void cosines_fill(int32_t cosine[LOW][SIDE])
{
    const double pi = acos(-1.0);
    for (int u = 1; u <= LOW; u++)
        for (int x = 0; x < SIDE; x++)
            cosine[u - 1][x] = (int32_t)lrint(COSINE_ONE * cos((2 * x + 1) * u * pi / (2 * SIDE)));
}

/* Rec. 601 luma, times 1000. False when there is too little contrast. */
static bool grey_fill(const uint8_t *rgb, int32_t grey[SIDE][SIDE])
{
    int32_t darkest = INT32_MAX, brightest = 0;
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            const uint8_t *p = rgb + 3 * (y * SIDE + x);
            const int32_t g = 299 * p[0] + 587 * p[1] + 114 * p[2];
            grey[y][x] = g;
            if (g < darkest) darkest = g;
            if (g > brightest) brightest = g;
        }
    }
    return brightest - darkest >= LEAST_CONTRAST;
}

/* Both sums stay below 2^52: 32 * 255000 * 2^12, then 32 times that * 2^12. */
static void low_frequencies(const int32_t grey[SIDE][SIDE], int64_t out[LOW * LOW])
{
    int32_t cosine[LOW][SIDE];
    int64_t rows[SIDE][LOW];
    cosines_fill(cosine);
    memset(rows, 0, sizeof rows);
    memset(out, 0, LOW * LOW * sizeof *out);
    for (int y = 0; y < SIDE; y++)
        for (int u = 0; u < LOW; u++)
            for (int x = 0; x < SIDE; x++) rows[y][u] += (int64_t)grey[y][x] * cosine[u][x];
    for (int v = 0; v < LOW; v++)
        for (int u = 0; u < LOW; u++)
            for (int y = 0; y < SIDE; y++) out[v * LOW + u] += rows[y][u] * cosine[v][y];
}

static int by_value(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

vg_status vg_perceptual_hash(const vg_image *image, vg_looks *out, vg_resize_scratch *scratch)
{
    uint8_t rgb[SIDE * SIDE * 3];
    int32_t grey[SIDE][SIDE];
    int64_t low[LOW * LOW], sorted[LOW * LOW];
    VG_TRY(vg_image_resize(image, SIDE, SIDE, rgb, scratch));
    *out = (vg_looks){.flat = !grey_fill(rgb, grey)};
    low_frequencies((const int32_t(*)[SIDE])grey, low);
    memcpy(sorted, low, sizeof low);
    qsort(sorted, LOW * LOW, sizeof *sorted, by_value);
    const int64_t median = sorted[LOW * LOW / 2 - 1];
    for (int i = 0; i < LOW * LOW; i++) out->bits |= (uint64_t)(low[i] > median) << i;
    return VG_OK;
}
