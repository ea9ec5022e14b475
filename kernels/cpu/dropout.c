#include "kernels/cpu/cpu_impl.h"

vg_status vg_cpu_dropout(vg_stream *stream, const vg_node *node)
{
    const float *x = node->in[0].data, *res = node->in[2].data;
    const uint32_t *keys = node->in[1].data;
    float *y = node->out[0].data;
    const int64_t slots = node->in[0].shape.dim[0];
    const int64_t size = slots ? vg_shape_count(&node->in[0].shape) / slots : 0;
    const float p = node->attr.dropout.p, scale = 1.0F / (1.0F - p);
#pragma omp parallel for num_threads(stream->n_threads) collapse(2)
    for (int64_t b = 0; b < slots; b++)
        for (int64_t first = 0; first < size; first += 4) {
            const uint32_t *key = keys + 4 * b;
            uint32_t word[4];
            vg_rng_block(node->attr.dropout.key, key[2] | (uint64_t)key[3] << 32, key[1], (uint32_t)(first / 4), word);
            for (int64_t e = first; e < size && e < first + 4; e++) {
                const int64_t at = b * size + e;
                const float kept = vg_uniform(word[e % 4]) >= p ? x[at] * scale : 0.0F;
                y[at] = res ? res[at] + kept : kept;
            }
        }
    return VG_OK;
}
