#include "kernels/cpu/ragged_impl.h"

enum { COUNTS = 4 };

/* dx = acc + (dz * gamma) W: the sum runs over the outputs of the layer. */
static vg_gemm backward(const vg_node *node)
{
    const vg_operand *in = node->in;
    const int64_t n_outputs = in[1].shape.dim[0], n_inputs = in[1].shape.dim[1];
    return (vg_gemm){.m = vg_shape_rows(&in[0].shape),
                     .n = n_inputs,
                     .k = n_outputs,
                     .a = in[0].data,
                     .a_row = n_outputs,
                     .a_step = 1,
                     .b = in[1].data,
                     .b_column = 1,
                     .b_step = n_inputs,
                     .a_scale = in[2].data,
                     .packed = node->packed,
                     .finish = {.c = node->out[0].data, .add = in[3].data}};
}

size_t vg_cpu_linear_dx_workspace(const vg_node *node, int n_threads)
{
    const vg_gemm g = backward(node);
    return vg_ragged_workspace(&g, &node->in[0], &node->in[COUNTS], n_threads);
}

size_t vg_cpu_linear_dx_packed_bytes(const vg_node *node)
{
    return vg_gemm_packed_bytes(node->in[1].shape.dim[1], node->in[1].shape.dim[0]);
}

void vg_cpu_linear_dx_pack(const vg_node *node, void *packed)
{
    const vg_gemm g = backward(node);
    vg_gemm_pack(&g, packed);
}

vg_status vg_cpu_linear_dx(vg_stream *stream, const vg_node *node)
{
    const vg_gemm g = backward(node);
    vg_ragged_run(stream, &g, &node->in[0], &node->in[COUNTS], node->workspace);
    return VG_OK;
}
