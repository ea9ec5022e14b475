#include "kernels/cpu/lanes_impl.h"

enum { CHUNK = 8192 };

vg_status vg_cpu_dropout(vg_stream *stream, const vg_node *node)
{
    const vg_lanes *lanes = vg_lanes_get();
    const float *x = node->in[0].data, *res = node->in[2].data;
    const uint32_t *keys = node->in[1].data;
    float *y = node->out[0].data;
    const int64_t slots = node->in[0].shape.dim[0];
    const int64_t size = slots ? vg_shape_count(&node->in[0].shape) / slots : 0;
#pragma omp parallel for num_threads(stream->n_threads) if (slots * size > VG_CPU_FEW) collapse(2)
    for (int64_t b = 0; b < slots; b++)
        for (int64_t first = 0; first < size; first += CHUNK) {
            const vg_keep keep = vg_keep_of(node->attr.dropout.key, keys + 4 * b, node->attr.dropout.p);
            const int64_t end = first + CHUNK < size ? first + CHUNK : size, at = b * size;
            lanes->dropout(&keep, x + at, res ? res + at : NULL, y + at, first, end);
        }
    return VG_OK;
}
