/* Sums, repetitions and stacks: everything here is bound by memory. */
#include "kernels/cuda/cuda_impl.h"
#include "kernels/cuda/dev.h"

enum { THREADS = 256 };

struct add_args {
    const float *a, *b;
    float *y;
    int64_t n;
};

/* Four numbers a thread, 128 bits at a time; the last thread takes what is left. Memory bound: 12 bytes a number. */
KERNEL(THREADS) void add_numbers(const struct add_args p)
{
    const int64_t i = 4 * ((int64_t)blockIdx.x * THREADS + threadIdx.x);
    if (i + 4 <= p.n) {
        const float4 a = *reinterpret_cast<const float4 *>(p.a + i), b = *reinterpret_cast<const float4 *>(p.b + i);
        *reinterpret_cast<float4 *>(p.y + i) = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
    } else {
        for (int64_t j = i; j < p.n; j++) p.y[j] = p.a[j] + p.b[j];
    }
}
KERNEL_ENTRY(add_numbers, struct add_args)

extern "C" vg_status vg_cuda_add(vg_stream *stream, const vg_node *node)
{
    const struct add_args p = {(const float *)node->in[0].data, (const float *)node->in[1].data,
                               (float *)node->out[0].data, vg_shape_count(&node->in[0].shape)};
    LAUNCH(add_numbers, (unsigned)((p.n + 4 * THREADS - 1) / (4 * THREADS)), THREADS, 0, vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("add");
}
