#include "kernels/cpu/cpu_impl.h"

#include <string.h>

enum { COLUMNS = 64 }; /* a thread's share of the width when gradients scatter */

typedef struct embed_shape {
    const int32_t *ids, *counts;
    int64_t batch, length, words, positions;
} embed_shape;

static int64_t word_of(const embed_shape *e, int64_t row)
{
    const int32_t id = e->ids[row];
    return id >= 0 && id < e->words ? id : 0;
}

/* Real tokens stand at 2, 3, ..; pads at row 1, as their position embedding was trained. */
static int64_t position_of(const embed_shape *e, int64_t row)
{
    const int64_t t = row % e->length;
    return t < e->counts[row / e->length] ? t + 2 : 1;
}

vg_status vg_cpu_text_embed(vg_stream *stream, const vg_node *node)
{
    const float *word = node->in[2].data, *pos = node->in[3].data, *type = node->in[4].data;
    float *x = node->out[0].data;
    const embed_shape e = {.ids = node->in[0].data,
                           .counts = node->in[1].data,
                           .batch = node->in[0].shape.dim[0],
                           .length = node->in[0].shape.dim[1],
                           .words = node->in[2].shape.dim[0],
                           .positions = node->in[3].shape.dim[0]};
    const int64_t width = vg_shape_last(&node->in[2].shape);
    VG_CHECK(e.length + 2 <= e.positions, VG_E_BUG, "%lld tokens do not fit %lld positions", (long long)e.length,
             (long long)e.positions);
#pragma omp parallel for num_threads(stream->n_threads) if (e.batch * e.length * width > VG_CPU_FEW)
    for (int64_t row = 0; row < e.batch * e.length; row++) {
        const float *w = word + word_of(&e, row) * width, *p = pos + position_of(&e, row) * width;
        for (int64_t c = 0; c < width; c++) x[row * width + c] = w[c] + type[c] + p[c];
    }
    return VG_OK;
}

/* Adds dx's rows to the rows of `out` that `row_of` names, in order; threads share the columns. */
static void scatter_rows(const vg_stream *stream, const embed_shape *e, const float *dx, int64_t width,
                         int64_t (*row_of)(const embed_shape *, int64_t), float *out)
{
#pragma omp parallel for num_threads(stream->n_threads) if (e->batch * e->length * width > VG_CPU_FEW)
    for (int64_t first = 0; first < width; first += COLUMNS) {
        const int64_t end = first + COLUMNS < width ? first + COLUMNS : width;
        for (int64_t row = 0; row < e->batch * e->length; row++) {
            float *to = out + row_of(e, row) * width;
            for (int64_t c = first; c < end; c++) to[c] += dx[row * width + c];
        }
    }
}

vg_status vg_cpu_text_embed_grad(vg_stream *stream, const vg_node *node)
{
    const float *dx = node->in[0].data;
    const int64_t width = vg_shape_last(&node->in[0].shape);
    const embed_shape e = {.ids = node->in[1].data,
                           .counts = node->in[2].data,
                           .batch = node->in[1].shape.dim[0],
                           .length = node->in[1].shape.dim[1],
                           .words = node->out[0].shape.dim[0],
                           .positions = node->out[1].shape.dim[0]};
    float *tables[2] = {node->out[0].data, node->out[1].data}, *dtype = node->out[2].data;
    VG_CHECK(!tables[1] || e.length + 2 <= e.positions, VG_E_BUG, "%lld tokens do not fit %lld positions",
             (long long)e.length, (long long)e.positions);
    for (int k = 0; k < 2; k++) {
        if (!tables[k]) continue;
        const size_t bytes = (size_t)vg_shape_count(&node->out[k].shape) * sizeof(float);
        if (!node->accumulate) memset(tables[k], 0, bytes);
        scatter_rows(stream, &e, dx, width, k == 0 ? word_of : position_of, tables[k]);
    }
    if (dtype) vg_cpu_sum_slices(stream, dx, e.batch * e.length, width, width, node->accumulate, dtype);
    return VG_OK;
}
