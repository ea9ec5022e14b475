/* Brightness, contrast and saturation in one step. Each is linear in the pixel and in its grey, and leaves grey grey,
 * so all three are out = own * x + grey * g + shift. */
#include "data/augment.h"
#include "data/pixel_ops_impl.h"

#include <math.h>

static double mean_grey(const uint64_t sums[3], size_t n)
{
    const uint64_t total = sums[0] * VG_GREY_RED + sums[1] * VG_GREY_GREEN + sums[2] * VG_GREY_BLUE;
    return (double)total / (1 << VG_GREY_BITS) / (double)n;
}

/* With factors up to 1.4, own is at most 2.8 and grey 1.2 in 2^13ths, which 16 bits hold. */
void vg_recolour(uint8_t *pixels, size_t n, const uint64_t sums[3], const vg_colours *f)
{
    const double one = 1 << VG_MIX_BITS, light = f->brightness * f->contrast;
    if (n == 0) return;
    const double shift = f->brightness * (1 - f->contrast) * mean_grey(sums, n);
    const vg_mix mix = {.own = (int32_t)round(one * light * f->saturation),
                        .grey = (int32_t)round(one * light * (1 - f->saturation)),
                        .shift = (int32_t)round(one * (shift + 0.5))};
    vg_pixel_ops_best()->mix(pixels, n, &mix);
}
