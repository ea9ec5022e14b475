/* What the kernels of the gradient of attention share, for fp32 and bf16. */
#ifndef VG_KERNELS_CUDA_ATTENTION_GRAD_IMPL_H
#define VG_KERNELS_CUDA_ATTENTION_GRAD_IMPL_H

#include "kernels/cuda/attention_tiles_impl.h"

struct attention_grad_args {
    struct attention_args a;
    const void *d_o;                           /* like o */
    float *delta;                              /* [B,H,Q], the workspace: <dO, O> + dsums * sums */
    const float *d_sums;                       /* [B,H,Q]; NULL: nobody used the sums */
    struct head_rows dq, dk, dv, add_k, add_v; /* add_k and add_v are added to dk and dv */
    float *dbias;                              /* [H,Nq,keys] */
    bool second;                               /* dk and dv are those of the second segment */
    int column;                                /* where the first tile of keys begins, a multiple of 4 */
    bool bf16;
};

/* Enqueue the gradients of bf16 values, as attention_grad.cu does those of fp32. */
void vg_cuda_attention_dq_bf16(vg_stream *stream, const struct attention_grad_args *args);
void vg_cuda_attention_dkv_bf16(vg_stream *stream, const struct attention_grad_args *args);
void vg_cuda_attention_dbias_bf16(vg_stream *stream, const struct attention_grad_args *args);

/* The same of heads that those don't take: above LARGEST_HEAD columns, folded, or with sums or something to
 * add; either type. */
void vg_cuda_attention_dq_wide(vg_stream *stream, const struct attention_grad_args *args);
void vg_cuda_attention_dkv_wide(vg_stream *stream, const struct attention_grad_args *args);
void vg_cuda_attention_dbias_wide(vg_stream *stream, const struct attention_grad_args *args);

/* --- gradients of scores --------------------------------------------------------------------------------------------
 */

/* What the forward pass left of a row of scores. Rows past the last have a probability of 0. */
struct row_state {
    float lse, delta; /* lse in units of log 2 */
};

static __device__ __forceinline__ struct row_state row_state_of(const struct attention_grad_args &p, int slot, int head,
                                                                int query)
{
    const int64_t n = ((int64_t)slot * p.a.heads + head) * p.a.n_queries + query;
    struct row_state r = {INFINITY, 0.0F};
    if (query < p.a.n_queries) {
        r.lse = p.a.lse[n] * LOG2_E;
        r.delta = p.delta[n];
    }
    return r;
}

struct score_grad {
    float kept, ds; /* P * keep, dS */
};

static __device__ __forceinline__ struct score_grad score_grad_of(bool seen, float score, float d_p, float keep,
                                                                  struct row_state row)
{
    const float probability = seen ? exp2f(score - row.lse) : 0.0F;
    const struct score_grad g = {probability * keep, seen ? probability * (d_p * keep - row.delta) : 0.0F};
    return g;
}

/* dO, like q with the rows of o. */
template <class T>
static __device__ __forceinline__ struct strip<T> d_o_strip(const struct attention_grad_args &p, int slot, int head) {
    const struct head_rows d_o = {const_cast<void *>(p.d_o), p.a.heads *p.a.size};
    return plain_strip<T>(p.a, d_o, slot, p.a.n_queries, head);
}

/* The first slot of those from 0 on whose image is at least `image`; the index is in order. */
static __device__ __forceinline__ int
first_slot_of(const struct attention_args &p, int image)
{
    if (!p.index) return image;
    int low = 0, high = p.slots;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (p.index[middle] < image)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The segment of which keys are owned; the other one's columns are not there. */
template <class T>
static __device__ __forceinline__ struct strip<T> owned_strip(const struct attention_grad_args &p,
                                                              const struct head_rows &x, int item, int n, int head,
                                                              const struct seen_keys &owned) {
    const T *rows = head_of<T>(p.a, x, item, n, head);
    const struct strip<T> s = {
        rows, rows, x.stride, x.stride, owned
    };
    return s;
}

#endif
