#include "kernels/cpu/cpu_impl.h"
#include "kernels/cpu/gemm_impl.h"

#include <string.h>

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

/* Of the list of rows that are no padding. */
static size_t list_bytes(const vg_node *node)
{
    const bool ragged = node->in[COUNTS].shape.rank > 0;
    return ragged ? vg_round_up((size_t)vg_shape_rows(&node->in[0].shape) * sizeof(int32_t), 64) : 0;
}

size_t vg_cpu_linear_workspace(const vg_node *node, int n_threads)
{
    const vg_gemm g = forward(node);
    return list_bytes(node) + vg_gemm_workspace(&g, n_threads);
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

static void clear_rows(float *y, int64_t first, int64_t end, int64_t n)
{
    if (y) memset(y + first * n, 0, (size_t)((end - first) * n) * sizeof *y);
}

/* The product of the rows that mean something, listed in `rows`; padding becomes 0. */
static void run_ragged(vg_stream *stream, const vg_node *node, vg_gemm *g, int32_t *rows, void *workspace)
{
    const int64_t slots = node->in[0].shape.dim[0], length = node->in[0].shape.dim[1];
    const int32_t *counts = node->in[COUNTS].data;
    g->rows = rows;
    g->m = 0;
    for (int64_t b = 0; b < slots; b++)
        for (int64_t t = 0; t < length && t < counts[b]; t++) rows[g->m++] = (int32_t)(b * length + t);
    if (g->m) vg_gemm_run(stream, g, workspace);
#pragma omp parallel for num_threads(stream->n_threads) if (stream->n_threads > 1)
    for (int64_t b = 0; b < slots; b++) {
        const int64_t count = counts[b] < 0 ? 0 : counts[b] < length ? counts[b] : length;
        clear_rows(g->finish.c, b * length + count, (b + 1) * length, g->n);
        clear_rows(g->finish.z, b * length + count, (b + 1) * length, g->n);
    }
}

vg_status vg_cpu_linear(vg_stream *stream, const vg_node *node)
{
    vg_gemm g = forward(node);
    unsigned char *memory = node->workspace;
    if (node->in[COUNTS].data)
        run_ragged(stream, node, &g, (int32_t *)memory, memory + list_bytes(node));
    else
        vg_gemm_run(stream, &g, memory);
    return VG_OK;
}
