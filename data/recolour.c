/* Brightness, contrast and saturation in one step. Each is linear in the pixel and in its grey, and leaves grey grey,
 * so all three are out = own * x + grey * g + shift. Pixels are taken apart into planes a run at a time, which
 * compilers turn into vectors. */
#include "data/augment.h"

#include <math.h>

/* The wider instruction set changes the speed only. */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define FOR_EACH_CPU __attribute__((target_clones("default", "avx2")))
#else
#define FOR_EACH_CPU
#endif

enum { RUN = 64, FRACTION = 16, ONE = 1 << FRACTION };
enum { GREY_RED = 19595, GREY_GREEN = 38470, GREY_BLUE = 7471 }; /* of 65536: ITU-R BT.601 */

/* With factors up to 1.4 own * 255 is at most 2.8 * 255 * 2^16, and grey and shift are smaller: far below 2^31. */
typedef struct mix {
    int32_t own, grey, shift;
} mix;

/* Sum of 255 * GREY_* over at most RUN pixels fits 32 bits unsigned. */
FOR_EACH_CPU static uint64_t sum_grey(const uint8_t *pixels, size_t n)
{
    uint64_t total = 0;
    for (size_t i = 0; i < n; i += RUN) {
        const size_t end = n - i < RUN ? n - i : RUN;
        uint32_t red = 0, green = 0, blue = 0;
        for (size_t k = 0; k < end; k++) {
            red += pixels[3 * (i + k)];
            green += pixels[3 * (i + k) + 1];
            blue += pixels[3 * (i + k) + 2];
        }
        total += (uint64_t)red * GREY_RED + (uint64_t)green * GREY_GREEN + (uint64_t)blue * GREY_BLUE;
    }
    return total;
}

static inline int32_t cut(int32_t value)
{
    return value < 0 ? 0 : value > 255 ? 255 : value;
}

FOR_EACH_CPU static void mix_pixels(uint8_t *pixels, size_t n, const mix *m)
{
    for (size_t i = 0; i < n; i += RUN, pixels += 3 * RUN) {
        const size_t end = n - i < RUN ? n - i : RUN;
        int32_t plane[3][RUN] = {{0}};
        for (size_t k = 0; k < end; k++)
            for (size_t c = 0; c < 3; c++) plane[c][k] = pixels[3 * k + c];
        for (size_t k = 0; k < RUN; k++) {
            const int32_t r = plane[0][k], g = plane[1][k], b = plane[2][k];
            const int32_t grey = (GREY_RED * r + GREY_GREEN * g + GREY_BLUE * b + ONE / 2) >> FRACTION;
            const int32_t common = m->grey * grey + m->shift;
            plane[0][k] = cut((m->own * r + common) >> FRACTION);
            plane[1][k] = cut((m->own * g + common) >> FRACTION);
            plane[2][k] = cut((m->own * b + common) >> FRACTION);
        }
        for (size_t k = 0; k < end; k++)
            for (size_t c = 0; c < 3; c++) pixels[3 * k + c] = (uint8_t)plane[c][k];
    }
}

void vg_recolour(uint8_t *pixels, size_t n, const vg_colours *f)
{
    if (n == 0) return;
    const double mean = (double)sum_grey(pixels, n) / ONE / (double)n, light = f->brightness * f->contrast;
    const mix m = {.own = (int32_t)round(ONE * light * f->saturation),
                   .grey = (int32_t)round(ONE * light * (1 - f->saturation)),
                   .shift = (int32_t)round(ONE * f->brightness * (1 - f->contrast) * mean) + ONE / 2};
    mix_pixels(pixels, n, &m);
}
