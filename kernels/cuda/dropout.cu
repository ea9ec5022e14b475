/* Dropout, with a residual where there is one. */
#include "kernels/cuda/philox.h"
#include "kernels/cuda/rows.h"

enum { THREADS = 256 };

struct dropout_args {
    const void *x, *res;
    const uint4 *keys; /* [B] */
    void *y;
    struct keep_rule rule;
    int64_t slots, size, blocks; /* size: elements of a slot; blocks: of four elements, in a slot */
    bool bf16;
};

/* What is dropped is 0 even where it was not finite. */
static __device__ float kept(float x, float factor)
{
    return factor != 0.0F ? x * factor : 0.0F;
}

template <class T> static __device__ void drop(const struct dropout_args &p)
{
    const int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x, slot = at / p.blocks;
    if (slot >= p.slots) return;
    const int64_t block = at - slot * p.blocks, first = slot * p.size + 4 * block;
    const float4 keep = keep_factors(p.rule, p.keys[slot], (uint32_t)block);
    const float factor[4] = {keep.x, keep.y, keep.z, keep.w};
    const T *x = (const T *)p.x + first, *res = p.res ? (const T *)p.res + first : nullptr;
    T *y = (T *)p.y + first;
    if (p.size % 4 == 0) {
        const pack<4> four = load<4>(x);
        pack<4> sum = res ? load<4>(res) : pack<4>{};
#pragma unroll
        for (int k = 0; k < 4; k++) sum.v[k] += kept(four.v[k], factor[k]);
        store<4>(y, sum);
        return;
    }
#pragma unroll
    for (int k = 0; k < 4; k++)
        if (4 * block + k < p.size)
            store<1>(y + k, pack<1>{(res ? load<1>(res + k).v[0] : 0.0F) + kept(load<1>(x + k).v[0], factor[k])});
}

/* A thread per block of four elements, which share a draw; the last block of a slot may be short, and slots then start
 * anywhere. Memory bound: 8 bytes a number, 12 with a residual, half of it in bf16. */
KERNEL(THREADS) void dropout_elements(const struct dropout_args p)
{
    p.bf16 ? drop<bf16>(p) : drop<float>(p);
}
KERNEL_ENTRY(dropout_elements, struct dropout_args)

extern "C" vg_status vg_cuda_dropout(vg_stream *stream, const vg_node *node)
{
    dropout_args p;
    p.x = node->in[0].data;
    p.keys = (const uint4 *)node->in[1].data;
    p.res = node->in[2].data;
    p.y = node->out[0].data;
    p.bf16 = is_bf16(&node->in[0]);
    p.rule = keep_rule_of(node->attr.dropout.key, node->attr.dropout.p);
    p.slots = node->in[0].shape.dim[0];
    p.size = vg_shape_count(&node->in[0].shape) / p.slots;
    p.blocks = (p.size + 3) / 4;
    LAUNCH(dropout_elements, (unsigned)((p.slots * p.blocks + THREADS - 1) / THREADS), THREADS, 0,
           vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("dropout");
}
