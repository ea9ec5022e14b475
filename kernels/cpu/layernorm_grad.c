#include "kernels/cpu/lanes_impl.h"

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

vg_status vg_cpu_layernorm_grad(vg_stream *stream, const vg_node *node)
{
    const vg_lanes *lanes = vg_lanes_get();
    const vg_norm_grad n = {.dy = node->in[0].data,
                            .x = node->in[1].data,
                            .gamma = node->in[2].data,
                            .mean = node->in[3].data,
                            .rstd = node->in[4].data,
                            .acc = node->in[5].data,
                            .dx = node->out[0].data,
                            .width = vg_shape_last(&node->in[0].shape)};
    const int64_t rows = vg_shape_rows(&node->in[0].shape), chunks = n_chunks(node);
    float *partial = node->workspace; /* [chunks, dgamma and dbeta, width] */
#pragma omp parallel for num_threads(stream->n_threads) if (rows * n.width > VG_CPU_FEW)
    for (int64_t k = 0; k < chunks; k++) {
        float *mine = partial + k * 2 * n.width;
        memset(mine, 0, (size_t)(2 * n.width) * sizeof *mine);
        const int64_t end = (k + 1) * CHUNK < rows ? (k + 1) * CHUNK : rows;
        lanes->norm_grad(&n, k * CHUNK, end, mine, mine + n.width);
    }
    for (int k = 0; k < 2; k++)
        if (node->out[1 + k].data)
            vg_cpu_sum_slices(stream, partial + k * n.width, chunks, 2 * n.width, n.width, node->accumulate,
                              node->out[1 + k].data);
    return VG_OK;
}
