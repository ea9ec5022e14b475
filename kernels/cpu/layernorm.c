#include "kernels/cpu/lanes_impl.h"

enum { CHUNK = 8 }; /* rows; few, so that threads get as many each where there are few */

vg_status vg_cpu_layernorm(vg_stream *stream, const vg_node *node)
{
    const vg_lanes *lanes = vg_lanes_get();
    const vg_norm n = {.x = node->in[0].data,
                       .gamma = node->in[1].data,
                       .beta = node->in[2].data,
                       .res = node->in[3].data,
                       .y = node->out[0].data,
                       .mean = node->out[1].data,
                       .rstd = node->out[2].data,
                       .sum = node->out[3].data,
                       .width = vg_shape_last(&node->in[0].shape),
                       .eps = node->attr.layernorm.eps};
    const int64_t rows = vg_shape_rows(&node->in[0].shape);
#pragma omp parallel for num_threads(stream->n_threads) if (rows * n.width > VG_CPU_FEW)
    for (int64_t first = 0; first < rows; first += CHUNK)
        lanes->norm(&n, first, first + CHUNK < rows ? first + CHUNK : rows);
    return VG_OK;
}
