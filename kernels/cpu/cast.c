#include "kernels/cpu/cpu_impl.h"

static float number(const vg_operand *x, int64_t i)
{
    return x->dtype == VG_BF16 ? vg_bf16_to_float(((const vg_bf16 *)x->data)[i]) : ((const float *)x->data)[i];
}

vg_status vg_cpu_cast(vg_stream *stream, const vg_node *node)
{
    const vg_operand *x = &node->in[0], *y = &node->out[0];
    const int64_t n = vg_shape_count(&x->shape);
#pragma omp parallel for num_threads(stream->n_threads) if (n > VG_CPU_FEW)
    for (int64_t i = 0; i < n; i++) {
        if (y->dtype == VG_BF16)
            ((vg_bf16 *)y->data)[i] = vg_bf16_from(number(x, i));
        else
            ((float *)y->data)[i] = number(x, i);
    }
    return VG_OK;
}
