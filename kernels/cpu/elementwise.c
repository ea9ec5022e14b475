/* Sums, repetitions and stacks: everything here is bound by memory. */
#include "kernels/cpu/cpu_impl.h"

#include <string.h>

enum { CHUNK = 2048, LINE = 16, LEAST_COLUMNS = 64, MOST_COLUMNS = 1024 };

static int64_t chunk_end(int64_t first, int64_t n)
{
    return first + CHUNK < n ? first + CHUNK : n;
}

VG_EACH_CPU static void add_some(float *y, const float *a, const float *b, int64_t n)
{
    int64_t i = 0;
    for (; i + LINE <= n; i += LINE) {
        __builtin_prefetch(a + i + VG_FLOATS_AHEAD);
        __builtin_prefetch(b + i + VG_FLOATS_AHEAD);
        __builtin_prefetch(y + i + VG_FLOATS_AHEAD, 1);
#pragma omp simd
        for (int l = 0; l < LINE; l++) y[i + l] = a[i + l] + b[i + l];
    }
    for (; i < n; i++) y[i] = a[i] + b[i];
}

vg_status vg_cpu_add(vg_stream *stream, const vg_node *node)
{
    const float *a = node->in[0].data, *b = node->in[1].data;
    float *y = node->out[0].data;
    const int64_t n = vg_shape_count(&node->in[0].shape);
#pragma omp parallel for num_threads(stream->n_threads) if (n > VG_CPU_FEW)
    for (int64_t first = 0; first < n; first += CHUNK)
        add_some(y + first, a + first, b + first, chunk_end(first, n) - first);
    return VG_OK;
}

vg_status vg_cpu_add_rows(vg_stream *stream, const vg_node *node)
{
    const float *x = node->in[0].data, *p = node->in[1].data;
    float *y = node->out[0].data;
    const int64_t period = vg_shape_count(&node->in[1].shape);
    const int64_t n = period ? vg_shape_count(&node->in[0].shape) / period : 0;
#pragma omp parallel for num_threads(stream->n_threads) if (n * period > VG_CPU_FEW) collapse(2)
    for (int64_t r = 0; r < n; r++)
        for (int64_t first = 0; first < period; first += CHUNK)
            add_some(y + r * period + first, x + r * period + first, p + first, chunk_end(first, period) - first);
    return VG_OK;
}

vg_status vg_cpu_repeat(vg_stream *stream, const vg_node *node)
{
    const float *p = node->in[0].data;
    float *y = node->out[0].data;
    const int64_t period = vg_shape_count(&node->in[0].shape);
#pragma omp parallel for num_threads(stream->n_threads) if (node->attr.repeat.count * period > VG_CPU_FEW)
    for (int64_t r = 0; r < node->attr.repeat.count; r++) memcpy(y + r * period, p, (size_t)period * sizeof *p);
    return VG_OK;
}

VG_EACH_CPU static void sum_columns(const float *x, int64_t n, int64_t stride, int64_t width, float *restrict sum)
{
    const int64_t ahead = (VG_FLOATS_AHEAD / width + 1) * stride;
    for (int64_t c = 0; c < width; c++) sum[c] = 0;
    for (int64_t i = 0; i < n; i++, x += stride) {
        for (int64_t c = 0; c < width; c += LINE) __builtin_prefetch(x + ahead + c);
        for (int64_t c = 0; c < width; c++) sum[c] += x[c];
    }
}

/* As many columns at a time as leave each thread some. */
void vg_cpu_sum_slices(const vg_stream *stream, const float *x, int64_t n, int64_t stride, int64_t columns,
                       bool accumulate, float *out)
{
    const int64_t share =
        (int64_t)vg_round_up((size_t)((columns + stream->n_threads - 1) / stream->n_threads), LEAST_COLUMNS);
    const int64_t chunk = share < MOST_COLUMNS ? share : MOST_COLUMNS;
#pragma omp parallel for num_threads(stream->n_threads) if (n * columns > VG_CPU_FEW)
    for (int64_t first = 0; first < columns; first += chunk) {
        const int64_t width = first + chunk < columns ? chunk : columns - first;
        float sum[MOST_COLUMNS];
        sum_columns(x + first, n, stride, width, sum);
        for (int64_t c = 0; c < width; c++) out[first + c] = accumulate ? out[first + c] + sum[c] : sum[c];
    }
}

vg_status vg_cpu_sum_rows(vg_stream *stream, const vg_node *node)
{
    const int64_t period = vg_shape_count(&node->out[0].shape);
    const int64_t n = period ? vg_shape_count(&node->in[0].shape) / period : 0;
    vg_cpu_sum_slices(stream, node->in[0].data, n, period, period, node->accumulate, node->out[0].data);
    return VG_OK;
}

vg_status vg_cpu_stack(vg_stream *stream, const vg_node *node)
{
    const int64_t size = vg_shape_count(&node->in[0].shape);
    float *y = node->out[0].data;
#pragma omp parallel for num_threads(stream->n_threads) if (node->n_in * size > VG_CPU_FEW)
    for (int l = 0; l < node->n_in; l++)
        if (node->in[l].data) memcpy(y + l * size, node->in[l].data, (size_t)size * sizeof *y);
    return VG_OK;
}

vg_status vg_cpu_stack_grad(vg_stream *stream, const vg_node *node)
{
    const float *dy = node->in[0].data;
    const int64_t layers = node->in[0].shape.dim[0];
    const int64_t size = layers ? vg_shape_count(&node->in[0].shape) / layers : 0;
#pragma omp parallel for num_threads(stream->n_threads) if (layers * size > VG_CPU_FEW)
    for (int l = 0; l < node->n_out; l++)
        if (l < layers && node->out[l].data) memcpy(node->out[l].data, dy + l * size, (size_t)size * sizeof *dy);
    return VG_OK;
}
