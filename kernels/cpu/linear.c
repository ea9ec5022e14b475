#include "kernels/cpu/ragged_impl.h"

enum { COUNTS = 5 };

static vg_gemm forward(const vg_node *node)
{
    const vg_operand *in = node->in, *out = node->out;
    const int64_t k = vg_shape_last(&in[0].shape);
    return (vg_gemm){.m = vg_shape_rows(&in[0].shape),
                     .n = in[1].shape.dim[0],
                     .k = k,
                     .a = in[0].data,
                     .a_row = k,
                     .a_step = 1,
                     .b = in[1].data,
                     .b_column = k,
                     .b_step = 1,
                     .packed = node->packed,
                     .finish = {.c = out[0].data,
                                .z = out[1].data,
                                .add = in[4].data,
                                .bias = in[2].data,
                                .scale = in[3].data,
                                .act = node->attr.linear.act}};
}

size_t vg_cpu_linear_workspace(const vg_node *node, int n_threads)
{
    const vg_gemm g = forward(node);
    return vg_ragged_workspace(&g, &node->in[0], &node->in[COUNTS], n_threads);
}

size_t vg_cpu_linear_packed_bytes(const vg_node *node)
{
    return vg_gemm_packed_bytes(node->in[1].shape.dim[0], node->in[1].shape.dim[1]);
}

void vg_cpu_linear_pack(const vg_node *node, void *packed)
{
    const vg_gemm g = forward(node);
    vg_gemm_pack(&g, packed);
}

vg_status vg_cpu_linear(vg_stream *stream, const vg_node *node)
{
    const vg_gemm g = forward(node);
    vg_ragged_run(stream, &g, &node->in[0], &node->in[COUNTS], node->workspace);
    return VG_OK;
}
