/* Rows that are no padding, listed for the products of a linear layer. */
#include "kernels/cpu/ragged_impl.h"

#include <string.h>

size_t vg_ragged_bytes(const vg_operand *x, const vg_operand *counts)
{
    return counts->shape.rank ? vg_round_up((size_t)vg_shape_rows(&x->shape) * sizeof(int32_t), 64) : 0;
}

static int64_t count_of(const vg_operand *counts, int64_t slot, int64_t length)
{
    const int64_t count = ((const int32_t *)counts->data)[slot];
    return count < 0 ? 0 : count < length ? count : length;
}

int64_t vg_ragged_rows(const vg_operand *x, const vg_operand *counts, int32_t *list)
{
    const int64_t slots = x->shape.dim[0], length = x->shape.dim[1];
    int64_t n = 0;
    for (int64_t b = 0; b < slots; b++)
        for (int64_t t = 0, end = count_of(counts, b, length); t < end; t++) list[n++] = (int32_t)(b * length + t);
    return n;
}

size_t vg_ragged_workspace(const vg_gemm *g, const vg_operand *x, const vg_operand *counts, int n_threads)
{
    return vg_ragged_bytes(x, counts) + vg_gemm_workspace(g, n_threads);
}

static void clear_padding(const vg_stream *stream, const vg_operand *x, const vg_operand *counts, float *y, int64_t n)
{
    const int64_t slots = x->shape.dim[0], length = x->shape.dim[1];
#pragma omp parallel for num_threads(stream->n_threads) if (slots * length * n > VG_CPU_FEW)
    for (int64_t b = 0; b < slots; b++) {
        const int64_t count = count_of(counts, b, length);
        memset(y + (b * length + count) * n, 0, (size_t)((length - count) * n) * sizeof *y);
    }
}

void vg_ragged_run(const vg_stream *stream, const vg_gemm *g, const vg_operand *x, const vg_operand *counts,
                   void *workspace)
{
    if (!counts->data) {
        vg_gemm_run(stream, g, workspace);
        return;
    }
    vg_gemm some = *g;
    some.rows = workspace;
    some.m = vg_ragged_rows(x, counts, workspace);
    if (some.m) vg_gemm_run(stream, &some, (unsigned char *)workspace + vg_ragged_bytes(x, counts));
    clear_padding(stream, x, counts, g->finish.c, g->n);
    if (g->finish.z) clear_padding(stream, x, counts, g->finish.z, g->n);
}
