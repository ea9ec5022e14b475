#include "kernels/cpu/cpu_impl.h"

#include <math.h>

vg_status vg_cpu_layernorm(vg_stream *stream, const vg_node *node)
{
    const float *x = node->in[0].data, *gamma = node->in[1].data, *beta = node->in[2].data, *res = node->in[3].data;
    float *y = node->out[0].data, *mean = node->out[1].data, *rstd = node->out[2].data, *sum = node->out[3].data;
    const int64_t rows = vg_shape_rows(&node->in[0].shape), width = vg_shape_last(&node->in[0].shape);
    const float eps = node->attr.layernorm.eps;
#pragma omp parallel for num_threads(stream->n_threads)
    for (int64_t r = 0; r < rows; r++) {
        const float *a = x + r * width;
        float *out = y + r * width, total = 0.0F, squares = 0.0F;
        for (int64_t c = 0; c < width; c++) {
            out[c] = res ? a[c] + res[r * width + c] : a[c];
            if (sum) sum[r * width + c] = out[c];
            total += out[c];
        }
        const float m = total / (float)width;
        for (int64_t c = 0; c < width; c++) squares += (out[c] - m) * (out[c] - m);
        const float s = 1.0F / sqrtf(squares / (float)width + eps);
        for (int64_t c = 0; c < width; c++) out[c] = (out[c] - m) * s * gamma[c] + beta[c];
        if (mean) mean[r] = m;
        if (rstd) rstd[r] = s;
    }
    return VG_OK;
}
