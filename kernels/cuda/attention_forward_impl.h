/* What the forward kernels of attention share: how results are written, and how the shares of warps that walked
 * different keys of the same queries are merged. */
#ifndef VG_KERNELS_CUDA_ATTENTION_FORWARD_IMPL_H
#define VG_KERNELS_CUDA_ATTENTION_FORWARD_IMPL_H

#include "kernels/cuda/attention_tiles_impl.h"

constexpr int WARPS = 4, THREADS = WARPS * WARP;

/* Enqueues attention of bf16 values; p.tiles blocks a head. */
void vg_cuda_attention_bf16(vg_stream *stream, const struct attention_args *args);

/* Enqueues attention of heads that the other kernels don't take: above LARGEST_HEAD columns, folded, or with sums. */
void vg_cuda_attention_wide(vg_stream *stream, const struct attention_args *args, bool bf16_values);

/* Rows of o and lse of one slot and head. */
struct result_rows {
    int slot, head, seen_end; /* no key is seen when this is 0 */
};

template <class T>
static __device__ __forceinline__ T *result_row(const struct attention_args &p, const struct result_rows &where,
                                                int query)
{
    return (T *)p.o + (((int64_t)where.slot * p.n_queries + query) * p.heads + where.head) * p.size;
}

/* What sums of weights are multiplied by; a slot that sees no key attends to nothing. */
static __device__ __forceinline__ float part_of(float sum, const struct result_rows &where)
{
    return where.seen_end == 0 ? 0.0F : 1.0F / sum;
}

/* What scores are counted from: the largest so far, and 0 as long as every key is hidden. */
static __device__ __forceinline__ float base_of(float top)
{
    return top == -INFINITY ? 0.0F : top;
}

static __device__ __forceinline__ void write_lse(const struct attention_args &p, const struct result_rows &where,
                                                 int query, float top, float sum)
{
    if (p.lse && query < p.n_queries)
        p.lse[((int64_t)where.slot * p.heads + where.head) * p.n_queries + query] = (top + log2f(sum)) * LN_2;
}

template <class T>
static __device__ __forceinline__ void write_chunk(const struct attention_args &p, const struct result_rows &where,
                                                   int query, int chunk, float4 value)
{
    if (query < p.n_queries) store4(result_row<T>(p, where, query) + 4 * chunk, value, p.size - 4 * chunk, p.wide);
}

/* What each warp made of its share of the keys, for the same 16 rows. */
struct shares {
    float top[WARPS][OWNED], sum[WARPS][OWNED];
};

/* Adds the shares in the order of warps. `out` holds 16 lines of each warp, `apart` lines from the next one's. */
template <int HD, class T>
static __device__ __forceinline__ void merge(const struct attention_args &p, const struct result_rows &where,
                                             const struct shares *s, const struct line<HD> *out, int apart)
{
    for (int n = (int)threadIdx.x; n < OWNED * HD / 4; n += THREADS) {
        const int row = n / (HD / 4), chunk = n % (HD / 4);
        float top = s->top[0][row], sum = 0.0F;
        float4 all = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
        for (int w = 1; w < WARPS; w++) top = fmaxf(top, s->top[w][row]);
        for (int w = 0; w < WARPS; w++) {
            const float part = exp2f(s->top[w][row] - base_of(top));
            sum += part * s->sum[w][row];
            add_product(&all, part, out[w * apart + row].chunk[chunk]);
        }
        write_chunk<T>(p, where, row, chunk, times(all, part_of(sum, where)));
        if (chunk == 0) write_lse(p, where, row, top, sum);
    }
}

#endif
