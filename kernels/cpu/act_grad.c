#include "kernels/cpu/cpu_impl.h"
#include "kernels/cpu/gemm_impl.h"

vg_status vg_cpu_act_grad(vg_stream *stream, const vg_node *node)
{
    enum { CHUNK = 16384 };
    const vg_gemm_isa *isa = vg_gemm_isa_get();
    const float *dy = node->in[0].data, *x = node->in[1].data;
    float *dz = node->out[0].data;
    const float scale = 1.0F / (1.0F - node->attr.linear.dropout);
    const int64_t n = vg_shape_count(&node->in[0].shape);
#pragma omp parallel for num_threads(stream->n_threads) if (stream->n_threads > 1) schedule(static)
    for (int64_t i = 0; i < n; i += CHUNK)
        isa->act_grad(node->attr.linear.act, scale, dy + i, x + i, dz + i, n - i < CHUNK ? n - i : CHUNK);
    return VG_OK;
}
