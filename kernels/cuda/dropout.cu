/* Dropout, with a residual where there is one. */
#include "kernels/cuda/cuda_impl.h"
#include "kernels/cuda/philox.h"

enum { THREADS = 256 };

struct dropout_args {
    const float *x, *res;
    const uint4 *keys; /* [B] */
    float *y;
    struct keep_rule rule;
    int64_t slots, size, blocks; /* size: elements of a slot; blocks: of four elements, in a slot */
};

/* What is dropped is 0 even where it was not finite. */
static __device__ float kept(float x, float factor)
{
    return factor != 0.0F ? x * factor : 0.0F;
}

/* A thread per block of four elements, which share a draw; the last block of a slot may be short, and slots then start
 * anywhere. Memory bound: 8 bytes a number, 12 with a residual. */
KERNEL(THREADS) void dropout_elements(const struct dropout_args p)
{
    const int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x, slot = at / p.blocks;
    if (slot >= p.slots) return;
    const int64_t block = at - slot * p.blocks, first = slot * p.size + 4 * block;
    const float4 keep = keep_factors(p.rule, p.keys[slot], (uint32_t)block);
    if (p.size % 4 == 0) {
        const float4 x = *(const float4 *)(p.x + first);
        const float4 res = p.res ? *(const float4 *)(p.res + first) : make_float4(0, 0, 0, 0);
        *(float4 *)(p.y + first) = make_float4(res.x + kept(x.x, keep.x), res.y + kept(x.y, keep.y),
                                               res.z + kept(x.z, keep.z), res.w + kept(x.w, keep.w));
        return;
    }
    const float factor[4] = {keep.x, keep.y, keep.z, keep.w};
#pragma unroll
    for (int k = 0; k < 4; k++)
        if (4 * block + k < p.size)
            p.y[first + k] = (p.res ? p.res[first + k] : 0.0F) + kept(p.x[first + k], factor[k]);
}
KERNEL_ENTRY(dropout_elements, struct dropout_args)

extern "C" vg_status vg_cuda_dropout(vg_stream *stream, const vg_node *node)
{
    dropout_args p;
    p.x = (const float *)node->in[0].data;
    p.keys = (const uint4 *)node->in[1].data;
    p.res = (const float *)node->in[2].data;
    p.y = (float *)node->out[0].data;
    p.rule = keep_rule_of(node->attr.dropout.key, node->attr.dropout.p);
    p.slots = node->in[0].shape.dim[0];
    p.size = vg_shape_count(&node->in[0].shape) / p.slots;
    p.blocks = (p.size + 3) / 4;
    LAUNCH(dropout_elements, (unsigned)((p.slots * p.blocks + THREADS - 1) / THREADS), THREADS, 0,
           vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("dropout");
}
