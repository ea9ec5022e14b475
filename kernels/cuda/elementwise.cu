/* Sums, repetitions and stacks: everything here is bound by memory. */
#include "kernels/cuda/rows.h"

enum { THREADS = 256, REPEATS = 8 };

struct add_args {
    const float *a, *b;
    float *y;
    int64_t n;
    bool wide;
};

/* Four numbers a thread, 128 bits at a time; the last thread takes what is left. Memory bound: 12 bytes a number. */
KERNEL(THREADS) void add_numbers(const struct add_args p)
{
    const int64_t i = 4 * ((int64_t)blockIdx.x * THREADS + threadIdx.x);
    if (p.wide && i + 4 <= p.n)
        store<4>(p.y + i, load<4>(p.a + i) + load<4>(p.b + i));
    else
        for (int64_t j = i; j < i + 4 && j < p.n; j++) p.y[j] = p.a[j] + p.b[j];
}
KERNEL_ENTRY(add_numbers, struct add_args)

extern "C" vg_status vg_cuda_add(vg_stream *stream, const vg_node *node)
{
    struct add_args p = {};
    p.a = (const float *)node->in[0].data;
    p.b = (const float *)node->in[1].data;
    p.y = (float *)node->out[0].data;
    p.n = vg_shape_count(&node->in[0].shape);
    p.wide = is_aligned(p.a, p.b, p.y);
    LAUNCH(add_numbers, blocks_for(p.n, 4 * THREADS), THREADS, 0, vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("add");
}

/* --- one tensor over many ----------------------------------------------------------------------------------------- */

struct spread_args {
    const float *x, *p; /* [n,period] or NULL; [period] */
    float *y;           /* [n,period] */
    int64_t n, period;
    unsigned tiles; /* blocks that a period takes */
    bool wide;
};

template <int W> static __device__ void spread_tile(const struct spread_args &p)
{
    const int64_t column = ((int64_t)(blockIdx.x % p.tiles) * THREADS + threadIdx.x) * W;
    if (column >= p.period) return;
    const pack<W> each = load<W>(p.p + column);
    const int64_t first = (int64_t)(blockIdx.x / p.tiles) * REPEATS;
    for (int64_t i = first; i < first + REPEATS && i < p.n; i++) {
        const int64_t at = i * p.period + column;
        store<W>(p.y + at, p.x ? load<W>(p.x + at) + each : each);
    }
}

/* y = x + p, or p again and again. A thread keeps its columns of p for REPEATS rows. Memory bound: x is read and y
 * written once, p once in REPEATS rows; (8 + 4 / REPEATS) * n * period bytes, less 4 without x. */
KERNEL(THREADS) void spread_rows(const struct spread_args p)
{
    p.wide ? spread_tile<4>(p) : spread_tile<1>(p);
}
KERNEL_ENTRY(spread_rows, struct spread_args)

static void spread(vg_stream *stream, struct spread_args p)
{
    p.wide = is_wide(p.period, p.x, p.p, p.y);
    p.tiles = blocks_for(p.period, THREADS * (p.wide ? 4 : 1));
    LAUNCH(spread_rows, p.tiles * blocks_for(p.n, REPEATS), THREADS, 0, vg_cuda_queue(stream), p);
}

extern "C" vg_status vg_cuda_add_rows(vg_stream *stream, const vg_node *node)
{
    struct spread_args p = {};
    p.x = (const float *)node->in[0].data;
    p.p = (const float *)node->in[1].data;
    p.y = (float *)node->out[0].data;
    p.period = vg_shape_count(&node->in[1].shape);
    p.n = vg_shape_count(&node->in[0].shape) / p.period;
    spread(stream, p);
    return VG_CUDA_LAUNCHED("add_rows");
}

extern "C" vg_status vg_cuda_repeat(vg_stream *stream, const vg_node *node)
{
    struct spread_args p = {};
    p.p = (const float *)node->in[0].data;
    p.y = (float *)node->out[0].data;
    p.period = vg_shape_count(&node->in[0].shape);
    p.n = node->attr.repeat.count;
    spread(stream, p);
    return VG_CUDA_LAUNCHED("repeat");
}

/* --- many tensors in one ------------------------------------------------------------------------------------------ */

struct stack_args {
    float *part[VG_MAX_IN]; /* [size] each, or NULL */
    float *whole;           /* [n_parts,size] */
    int64_t size;
    bool wide;
};

template <int W> static __device__ void stack_tile(const struct stack_args &p, bool apart)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * W;
    float *part = nullptr, *whole = p.whole + (int64_t)blockIdx.y * p.size;
#pragma unroll
    for (int k = 0; k < VG_MAX_IN;
         k++) /* an index that is known only at run time would put the table in local memory */
        if (k == (int)blockIdx.y) part = p.part[k];
    if (!part || i >= p.size) return;
    store<W>(apart ? part + i : whole + i, load<W>(apart ? whole + i : part + i));
}

/* A row of blocks a part, four numbers a thread. Memory bound: 8 bytes a number. */
KERNEL(THREADS) void stack_parts(const struct stack_args p)
{
    p.wide ? stack_tile<4>(p, false) : stack_tile<1>(p, false);
}
KERNEL_ENTRY(stack_parts, struct stack_args)

/* The way back, likewise. */
KERNEL(THREADS) void unstack_parts(const struct stack_args p)
{
    p.wide ? stack_tile<4>(p, true) : stack_tile<1>(p, true);
}
KERNEL_ENTRY(unstack_parts, struct stack_args)

/* The whole has n_parts parts, the operands here and there one. */
static struct stack_args stack_of(const vg_operand *whole, const vg_operand *parts, int64_t n_parts)
{
    struct stack_args p = {};
    p.whole = (float *)whole->data;
    p.size = vg_shape_count(&whole->shape) / n_parts;
    p.wide = is_wide(p.size, p.whole);
    for (int i = 0; i < VG_MAX_IN && i < n_parts; i++) {
        p.part[i] = (float *)parts[i].data;
        p.wide = p.wide && is_wide(p.size, p.part[i]);
    }
    return p;
}

static dim3 stack_grid(const struct stack_args &p, int64_t n_parts)
{
    return dim3(blocks_for(p.size, THREADS * (p.wide ? 4 : 1)), (unsigned)n_parts);
}

extern "C" vg_status vg_cuda_stack(vg_stream *stream, const vg_node *node)
{
    const int64_t n_parts = node->out[0].shape.dim[0];
    const struct stack_args p = stack_of(&node->out[0], node->in, n_parts);
    LAUNCH(stack_parts, stack_grid(p, n_parts), THREADS, 0, vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("stack");
}

extern "C" vg_status vg_cuda_stack_grad(vg_stream *stream, const vg_node *node)
{
    const int64_t n_parts = node->in[0].shape.dim[0];
    const struct stack_args p = stack_of(&node->in[0], node->out, n_parts);
    LAUNCH(unstack_parts, stack_grid(p, n_parts), THREADS, 0, vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("stack_grad");
}
