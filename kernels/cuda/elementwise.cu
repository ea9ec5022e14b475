/* Sums, repetitions and stacks: everything here is bound by memory. */
#include "kernels/cuda/rows.h"

enum { THREADS = 256, REPEATS = 8 };

struct add_args {
    const void *a, *b;
    void *y;
    int64_t n;
    bool bf16, wide;
};

template <int W, class T> static __device__ void add_some(const struct add_args &p)
{
    const int64_t i = W * ((int64_t)blockIdx.x * THREADS + threadIdx.x);
    const T *a = (const T *)p.a, *b = (const T *)p.b;
    T *y = (T *)p.y;
    if (p.wide && i + W <= p.n)
        store<W>(y + i, load<W>(a + i) + load<W>(b + i));
    else
        for (int64_t j = i; j < i + W && j < p.n; j++) store<1>(y + j, load<1>(a + j) + load<1>(b + j));
}

/* 128 bits a thread; the last thread takes what is left. Memory bound: 12 bytes a number, 6 of bf16. */
KERNEL(THREADS) void add_numbers(const struct add_args p)
{
    p.bf16 ? add_some<8, bf16>(p) : add_some<4, float>(p);
}
KERNEL_ENTRY(add_numbers, struct add_args)

extern "C" vg_status vg_cuda_add(vg_stream *stream, const vg_node *node)
{
    struct add_args p = {};
    p.a = node->in[0].data;
    p.b = node->in[1].data;
    p.y = node->out[0].data;
    p.n = vg_shape_count(&node->in[0].shape);
    p.bf16 = is_bf16(&node->in[0]);
    p.wide = is_aligned(p.a, p.b, p.y);
    LAUNCH(add_numbers, blocks_for(p.n, (p.bf16 ? 8 : 4) * THREADS), THREADS, 0, vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("add");
}

/* --- one tensor over many ----------------------------------------------------------------------------------------- */

struct spread_args {
    const void *x;  /* [n,period] or NULL */
    const float *p; /* [period] */
    void *y;        /* [n,period] */
    int64_t n, period;
    unsigned tiles; /* blocks that a period takes */
    bool bf16, wide;
};

template <int W, class T> static __device__ void spread_tile(const struct spread_args &p)
{
    const int64_t column = ((int64_t)(blockIdx.x % p.tiles) * THREADS + threadIdx.x) * W;
    if (column >= p.period) return;
    const pack<W> each = load<W>(p.p + column);
    const int64_t first = (int64_t)(blockIdx.x / p.tiles) * REPEATS;
    for (int64_t i = first; i < first + REPEATS && i < p.n; i++) {
        const int64_t at = i * p.period + column;
        store<W>((T *)p.y + at, p.x ? load<W>((const T *)p.x + at) + each : each);
    }
}

/* y = x + p, or p again and again. A thread keeps its columns of p for REPEATS rows. Memory bound: x is read and y
 * written once, p once in REPEATS rows; (8 + 4 / REPEATS) * n * period bytes, less 4 without x, half of the 8 in bf16.
 */
KERNEL(THREADS) void spread_rows(const struct spread_args p)
{
    BY_TYPE_AND_FP32(p.bf16, p.wide, spread_tile, p);
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
    p.x = node->in[0].data;
    p.p = (const float *)node->in[1].data;
    p.y = node->out[0].data;
    p.bf16 = is_bf16(&node->out[0]);
    p.period = vg_shape_count(&node->in[1].shape);
    p.n = vg_shape_count(&node->in[0].shape) / p.period;
    spread(stream, p);
    return VG_CUDA_LAUNCHED("add_rows");
}

extern "C" vg_status vg_cuda_repeat(vg_stream *stream, const vg_node *node)
{
    struct spread_args p = {};
    p.p = (const float *)node->in[0].data;
    p.y = node->out[0].data;
    p.bf16 = is_bf16(&node->out[0]);
    p.period = vg_shape_count(&node->in[0].shape);
    p.n = node->attr.repeat.count;
    spread(stream, p);
    return VG_CUDA_LAUNCHED("repeat");
}

/* --- many tensors in one ------------------------------------------------------------------------------------------ */

struct stack_args {
    void *part[VG_MAX_IN]; /* [size] each, or NULL */
    void *whole;           /* [n_parts,size] */
    int64_t size;
    bool bf16, wide;
};

template <int W, class T> static __device__ void stack_tile(const struct stack_args &p, bool apart)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * W;
    T *part = nullptr, *whole = (T *)p.whole + (int64_t)blockIdx.y * p.size;
#pragma unroll
    for (int k = 0; k < VG_MAX_IN;
         k++) /* an index that is known only at run time would put the table in local memory */
        if (k == (int)blockIdx.y) part = (T *)p.part[k];
    if (!part || i >= p.size) return;
    store<W>(apart ? part + i : whole + i, load<W>(apart ? whole + i : part + i));
}

/* A row of blocks a part, 128 bits a thread. Memory bound: a number is read and written once. */
KERNEL(THREADS) void stack_parts(const struct stack_args p)
{
    BY_TYPE(p.bf16, p.wide, stack_tile, p, false);
}
KERNEL_ENTRY(stack_parts, struct stack_args)

/* The way back, likewise. */
KERNEL(THREADS) void unstack_parts(const struct stack_args p)
{
    BY_TYPE(p.bf16, p.wide, stack_tile, p, true);
}
KERNEL_ENTRY(unstack_parts, struct stack_args)

/* The whole has n_parts parts, the operands here and there one. */
static struct stack_args stack_of(const vg_operand *whole, const vg_operand *parts, int64_t n_parts)
{
    struct stack_args p = {};
    p.whole = whole->data;
    p.size = vg_shape_count(&whole->shape) / n_parts;
    p.bf16 = is_bf16(whole);
    p.wide = is_wide_in(p.bf16, p.size, p.whole);
    for (int i = 0; i < VG_MAX_IN && i < n_parts; i++) {
        p.part[i] = parts[i].data;
        p.wide = p.wide && is_aligned(p.part[i]);
    }
    return p;
}

static dim3 stack_grid(const struct stack_args &p, int64_t n_parts)
{
    return dim3(blocks_for(p.size, THREADS * (!p.wide ? 1 : p.bf16 ? 8 : 4)), (unsigned)n_parts);
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
