/* Activations that a matrix product's epilogue cannot do, and the gradients of all. Bound by memory. */
#include "kernels/cuda/activation.h"

#include "kernels/cuda/rows.h"

enum { THREADS = 256 };

struct activation_args {
    const float *dy, *x; /* dy NULL: forward. x is z, or y in the gradients of relu and sigmoid */
    float *out;
    int64_t n;
    vg_act act;
    bool wide;
};

/* The standard normal distribution function. */
static __forceinline__ __device__ float normal(float z)
{
    return 0.5F * (1.0F + erff(z * 0.70710678118F));
}

static __forceinline__ __device__ float activated(vg_act act, float z)
{
    return act == VG_ACT_GELU ? z * normal(z) : 1.0F / (1.0F + expf(-z));
}

static __forceinline__ __device__ float slope(vg_act act, float x)
{
    if (act == VG_ACT_RELU) return x > 0.0F ? 1.0F : 0.0F;
    if (act == VG_ACT_SIGMOID) return x * (1.0F - x);
    return normal(x) + x * 0.3989422804F * expf(-0.5F * x * x);
}

template <int W> static __device__ void activate(const struct activation_args &p, int64_t i)
{
    pack<W> x = load<W>(p.x + i);
    const pack<W> dy = p.dy ? load<W>(p.dy + i) : pack<W>{};
    for (int k = 0; k < W; k++) x.v[k] = p.dy ? dy.v[k] * slope(p.act, x.v[k]) : activated(p.act, x.v[k]);
    store<W>(p.out + i, x);
}

/* Four numbers a thread; the last thread takes what is left. Memory bound: 8 bytes a number, 12 in the gradient; erf
 * hides behind them. */
KERNEL(THREADS) void activate_numbers(const struct activation_args p)
{
    const int64_t i = 4 * ((int64_t)blockIdx.x * THREADS + threadIdx.x);
    if (p.wide && i + 4 <= p.n)
        activate<4>(p, i);
    else
        for (int64_t j = i; j < i + 4 && j < p.n; j++) activate<1>(p, j);
}
KERNEL_ENTRY(activate_numbers, struct activation_args)

extern "C" void vg_cuda_activate(vg_stream *stream, vg_act act, const float *z, float *y, int64_t n)
{
    const struct activation_args p = {NULL, z, y, n, act, is_aligned(z, y)};
    LAUNCH(activate_numbers, blocks_for(n, 4 * THREADS), THREADS, 0, vg_cuda_queue(stream), p);
}

extern "C" vg_status vg_cuda_act_grad(vg_stream *stream, const vg_node *node)
{
    struct activation_args p = {};
    p.dy = (const float *)node->in[0].data;
    p.x = (const float *)node->in[1].data;
    p.out = (float *)node->out[0].data;
    p.n = vg_shape_count(&node->in[0].shape);
    p.act = node->attr.linear.act;
    p.wide = is_aligned(p.dy, p.x, p.out);
    LAUNCH(activate_numbers, blocks_for(p.n, 4 * THREADS), THREADS, 0, vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("act_grad");
}
