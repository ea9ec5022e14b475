#include "kernels/cpu/cpu_impl.h"

/* (v/255 - mean) / std for the 256 levels of each channel; mean and std of ImageNet, as every DINOv2 model expects. */
static void levels_fill(float levels[3][256])
{
    static const float mean[3] = {0.485F, 0.456F, 0.406F}, std[3] = {0.229F, 0.224F, 0.225F};
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) levels[c][v] = ((float)v / 255.0F - mean[c]) / std[c];
}

vg_status vg_cpu_patchify(vg_stream *stream, const vg_node *node)
{
    const uint8_t *pixels = node->in[0].data;
    float *x = node->out[0].data;
    const int64_t images = node->in[0].shape.dim[0], side = node->in[0].shape.dim[1], patch = node->attr.patchify.patch;
    const int64_t grid = side / patch;
    float levels[3][256];
    levels_fill(levels);
#pragma omp parallel for num_threads(stream->n_threads) if (images * side * side > VG_CPU_FEW) collapse(2)
    for (int64_t band = 0; band < images * grid; band++)
        for (int64_t px = 0; px < grid; px++) {
            float *out = x + (band * grid + px) * 3 * patch * patch;
            for (int c = 0; c < 3; c++)
                for (int64_t r = 0; r < patch; r++) {
                    const int64_t line = band / grid * side + band % grid * patch + r; /* of all images together */
                    const uint8_t *from = pixels + (line * side + px * patch) * 3 + c;
                    for (int64_t k = 0; k < patch; k++) *out++ = levels[c][from[3 * k]];
                }
        }
    return VG_OK;
}
