/* From one element type to another. */
#include "kernels/cuda/device_impl.h"
#include "kernels/cuda/rows.h"

enum { THREADS = 256, EACH = 4 };

struct cast_args {
    const void *x;
    void *y;
    int64_t n;
    bool from_bf16, to_bf16, wide;
};

template <class from, class to> static __device__ void cast_some(const struct cast_args &p, int64_t i)
{
    const from *x = (const from *)p.x;
    to *y = (to *)p.y;
    if (p.wide && i + EACH <= p.n)
        store<EACH>(y + i, load<EACH>(x + i));
    else
        for (int64_t j = i; j < i + EACH && j < p.n; j++) store<1>(y + j, load<1>(x + j));
}

/* Four numbers a thread, so that fp32 comes 128 bits at a time; the last thread takes what is left. Memory bound: 6
 * bytes a number from fp32 to bf16. */
KERNEL(THREADS) void cast_numbers(const struct cast_args p)
{
    const int64_t i = EACH * ((int64_t)blockIdx.x * THREADS + threadIdx.x);
    if (p.from_bf16)
        p.to_bf16 ? cast_some<bf16, bf16>(p, i) : cast_some<bf16, float>(p, i);
    else
        p.to_bf16 ? cast_some<float, bf16>(p, i) : cast_some<float, float>(p, i);
}
KERNEL_ENTRY(cast_numbers, struct cast_args)

static void cast(vg_stream *stream, struct cast_args p)
{
    p.wide = is_aligned(p.x, p.y);
    LAUNCH(cast_numbers, blocks_for(p.n, EACH * THREADS), THREADS, 0, vg_cuda_queue(stream), p);
}

/* Any kernel tells: all are compiled for the same architectures. */
extern "C" bool vg_cuda_has_code(void)
{
    struct cudaFuncAttributes found;
    const cudaError_t result = cudaFuncGetAttributes(&found, (const void *)cast_numbers);
    return result != cudaErrorNoKernelImageForDevice && result != cudaErrorInvalidDeviceFunction;
}

extern "C" vg_status vg_cuda_to_bf16(vg_stream *stream, vg_bf16 *to, const float *from, int64_t n)
{
    if (n == 0) return VG_OK;
    cast(stream, {from, to, n, false, true, false});
    return VG_CUDA_LAUNCHED("to_bf16");
}

extern "C" vg_status vg_cuda_cast(vg_stream *stream, const vg_node *node)
{
    const vg_operand *x = &node->in[0], *y = &node->out[0];
    cast(stream, {x->data, y->data, vg_shape_count(&x->shape), is_bf16(x), is_bf16(y), false});
    return VG_CUDA_LAUNCHED("cast");
}
