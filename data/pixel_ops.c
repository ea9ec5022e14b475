#include "data/resize_weights_impl.h"

#include <stdlib.h>
#include <string.h>

static uint8_t cut(int32_t value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static const int32_t half = 1 << (VG_WEIGHT_BITS - 1);

static void base_sideways(const uint8_t *const *rows, int n_in, const vg_taps *taps, void *block, uint8_t *const *out)
{
    (void)n_in, (void)block;
    for (int i = 0; i < taps->n_out; i++) {
        const int32_t *weights = taps->weights + i;
        const uint8_t *from = rows[0] + 3 * (size_t)taps->first[i];
        int32_t sums[3] = {half, half, half};
        for (int j = 0; j < taps->count[i]; j++)
            for (int c = 0; c < 3; c++) sums[c] += weights[j * taps->n_wide] * from[3 * j + c];
        for (int c = 0; c < 3; c++) out[0][3 * (size_t)i + (size_t)c] = cut(sums[c] >> VG_WEIGHT_BITS);
    }
}

static void base_down(const uint8_t *rows, const vg_taps *taps, int i, size_t n, uint8_t *out)
{
    const int32_t *weights = taps->weights + i;
    for (size_t k = 0; k < n; k++) {
        int32_t sum = half;
        for (int j = 0; j < taps->count[i]; j++) sum += weights[j * taps->n_wide] * rows[(size_t)j * n + k];
        out[k] = cut(sum >> VG_WEIGHT_BITS);
    }
}

static void base_plane_sideways(const uint8_t *rows, size_t stride, int n_rows, const vg_taps *taps, void *block,
                                uint8_t *out, size_t out_stride)
{
    (void)block;
    for (int k = 0; k < n_rows; k++, rows += stride, out += out_stride)
        for (int i = 0; i < taps->n_wide; i++) {
            int32_t sum = half;
            for (int j = 0; j < taps->count[i]; j++)
                sum += taps->weights[j * taps->n_wide + i] * rows[taps->first[i] + j];
            out[i] = cut(sum >> VG_WEIGHT_BITS);
        }
}

static void base_plane_down(const uint8_t *between, size_t stride, const vg_taps *taps, int i, int n, void *block,
                            uint8_t *out)
{
    (void)block;
    for (int k = 0; k < n; k++)
        base_down(between + (size_t)taps->first[i + k] * stride, taps, i + k, stride, out + (size_t)k * stride);
}

static void base_to_rgb(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, size_t n, uint8_t *out,
                        uint64_t sums[3])
{
    for (size_t i = 0; i < n; i++, out += 3) {
        const int32_t light = (y[i] << VG_RGB_BITS) + (1 << (VG_RGB_BITS - 1)), u = cb[i] - 128, v = cr[i] - 128;
        out[0] = cut((light + VG_RED_CR * v) >> VG_RGB_BITS);
        out[1] = cut((light + VG_GREEN_CB * u + VG_GREEN_CR * v) >> VG_RGB_BITS);
        out[2] = cut((light + VG_BLUE_CB * u) >> VG_RGB_BITS);
        for (int c = 0; c < 3; c++) sums[c] += out[c];
    }
}

static void base_sums(const uint8_t *pixels, size_t n, uint64_t sums[3])
{
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < 3; c++) sums[c] += pixels[3 * i + c];
}

static void base_mix(uint8_t *pixels, size_t n, const vg_mix *m)
{
    for (size_t i = 0; i < n; i++, pixels += 3) {
        const int32_t grey = (VG_GREY_RED * pixels[0] + VG_GREY_GREEN * pixels[1] + VG_GREY_BLUE * pixels[2] +
                              (1 << (VG_GREY_BITS - 1))) >>
                             VG_GREY_BITS;
        for (int c = 0; c < 3; c++) pixels[c] = cut((m->own * pixels[c] + m->grey * grey + m->shift) >> VG_MIX_BITS);
    }
}

const vg_pixel_ops vg_pixel_ops_base = {weigh, 1, base_sideways,       base_down,       base_sums,  base_mix,
                                        1,     1, base_plane_sideways, base_plane_down, base_to_rgb};

const vg_pixel_ops *vg_pixel_ops_best(void)
{
#if defined(__x86_64__)
    const char *most = getenv("VLGTR_ISA");
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
                      __builtin_cpu_supports("avx512vbmi");
    if (wide && (!most || strcmp(most, "avx512") == 0)) return &vg_pixel_ops_avx512;
    if (__builtin_cpu_supports("avx2") && (!most || strcmp(most, "base") != 0)) return &vg_pixel_ops_avx2;
#endif
    return &vg_pixel_ops_base;
}
