/* Activations that a matrix product's epilogue cannot do, and the gradients of all. Bound by memory. */
#include "kernels/cuda/activation.h"

#include "kernels/cuda/rows.h"

enum { THREADS = 256 };

struct activation_args {
    const void *dy, *x; /* dy NULL: forward. x is z, or y in the gradients of relu and sigmoid */
    void *out;
    int64_t n;
    vg_act act;
    float scale; /* of the gradient */
    bool bf16, wide;
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

template <int W, class T> static __device__ void activate(const struct activation_args &p, int64_t i)
{
    pack<W> x = load<W>((const T *)p.x + i);
    const pack<W> dy = p.dy ? load<W>((const T *)p.dy + i) : pack<W>{};
    for (int k = 0; k < W; k++) x.v[k] = p.dy ? dy.v[k] * p.scale * slope(p.act, x.v[k]) : activated(p.act, x.v[k]);
    store<W>((T *)p.out + i, x);
}

/* 128 bits a thread, so W numbers; the last thread takes what is left. */
template <int W, class T> static __device__ void activate_some(const struct activation_args &p)
{
    const int64_t i = W * ((int64_t)blockIdx.x * THREADS + threadIdx.x);
    if (p.wide && i + W <= p.n)
        activate<W, T>(p, i);
    else
        for (int64_t j = i; j < i + W && j < p.n; j++) activate<1, T>(p, j);
}

/* Memory bound: two numbers moved for one, three in the gradient; erf hides behind them. */
KERNEL(THREADS, 4) void activate_numbers(const struct activation_args p)
{
    p.bf16 ? activate_some<8, bf16>(p) : activate_some<4, float>(p);
}
KERNEL_ENTRY(activate_numbers, struct activation_args)

static void activate_all(vg_stream *stream, struct activation_args p)
{
    p.wide = is_aligned(p.dy, p.x, p.out);
    LAUNCH(activate_numbers, blocks_for(p.n, (p.bf16 ? 8 : 4) * THREADS), THREADS, 0, vg_cuda_queue(stream), p);
}

extern "C" void vg_cuda_activate(vg_stream *stream, vg_act act, const vg_operand *z, const vg_operand *y)
{
    activate_all(stream, {NULL, z->data, y->data, vg_shape_count(&z->shape), act, 1.0F, is_bf16(z), false});
}

extern "C" vg_status vg_cuda_act_grad(vg_stream *stream, const vg_node *node)
{
    const vg_operand *dy = &node->in[0];
    activate_all(stream, {dy->data, node->in[1].data, node->out[0].data, vg_shape_count(&dy->shape),
                          node->attr.linear.act, 1.0F / (1.0F - node->attr.linear.dropout), is_bf16(dy), false});
    return VG_CUDA_LAUNCHED("act_grad");
}
