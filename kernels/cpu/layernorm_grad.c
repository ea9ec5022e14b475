#include "kernels/cpu/cpu_impl.h"

#include <string.h>

enum { CHUNK = 64 }; /* rows whose share of dgamma and dbeta is summed first; the chunks then follow in order */

static int64_t n_chunks(const vg_node *node)
{
    return (vg_shape_rows(&node->in[0].shape) + CHUNK - 1) / CHUNK;
}

size_t vg_cpu_layernorm_grad_workspace(const vg_node *node, int n_threads)
{
    (void)n_threads;
    return (size_t)n_chunks(node) * 2 * (size_t)vg_shape_last(&node->in[0].shape) * sizeof(float);
}

typedef struct norm_rows {
    const float *dy, *x, *gamma, *mean, *rstd, *acc;
    float *dx;
    int64_t width;
} norm_rows;

static void row_grad(const norm_rows *n, int64_t r, float *dgamma, float *dbeta)
{
    const float *dy = n->dy + r * n->width, *x = n->x + r * n->width, m = n->mean[r], s = n->rstd[r];
    float sum = 0.0F, dot = 0.0F;
    for (int64_t c = 0; c < n->width; c++) {
        const float hat = (x[c] - m) * s, g = dy[c] * n->gamma[c];
        sum += g;
        dot += g * hat;
        dgamma[c] += dy[c] * hat;
        dbeta[c] += dy[c];
    }
    if (!n->dx) return;
    sum /= (float)n->width;
    dot /= (float)n->width;
    for (int64_t c = 0; c < n->width; c++) {
        const float hat = (x[c] - m) * s, d = (dy[c] * n->gamma[c] - sum - hat * dot) * s;
        n->dx[r * n->width + c] = n->acc ? n->acc[r * n->width + c] + d : d;
    }
}

vg_status vg_cpu_layernorm_grad(vg_stream *stream, const vg_node *node)
{
    const norm_rows n = {.dy = node->in[0].data,
                         .x = node->in[1].data,
                         .gamma = node->in[2].data,
                         .mean = node->in[3].data,
                         .rstd = node->in[4].data,
                         .acc = node->in[5].data,
                         .dx = node->out[0].data,
                         .width = vg_shape_last(&node->in[0].shape)};
    const int64_t rows = vg_shape_rows(&node->in[0].shape), chunks = n_chunks(node);
    float *partial = node->workspace; /* [chunks, dgamma and dbeta, width] */
#pragma omp parallel for num_threads(stream->n_threads)
    for (int64_t k = 0; k < chunks; k++) {
        float *mine = partial + k * 2 * n.width;
        memset(mine, 0, (size_t)(2 * n.width) * sizeof *mine);
        for (int64_t r = k * CHUNK; r < rows && r < (k + 1) * CHUNK; r++) row_grad(&n, r, mine, mine + n.width);
    }
    for (int k = 0; k < 2; k++)
        if (node->out[1 + k].data)
            vg_cpu_sum_slices(stream, partial + k * n.width, chunks, 2 * n.width, n.width, node->accumulate,
                              node->out[1 + k].data);
    return VG_OK;
}
