/* What both directions of attention read from a node. */
#ifndef VG_KERNELS_CPU_ATTENTION_IMPL_H
#define VG_KERNELS_CPU_ATTENTION_IMPL_H

#include "kernels/cpu/cpu_impl.h"

/* Rows of one operand, `stride` floats apart; head h begins at column + h * D of each. */
typedef struct vg_heads {
    float *data;
    int64_t stride, column;
} vg_heads;

typedef struct vg_attn {
    vg_heads q, k, v, k2, v2;
    const int32_t *counts;
    const float *bias; /* [H,Nq,keys] */
    const vg_operand *index;
    const uint32_t *rng;                                       /* [B,4]; NULL without dropout */
    int64_t slots, images, n_queries, n_first, n_second, keys; /* keys = n_first + n_second */
    int64_t heads, size;                                       /* H, D */
    float scale, keep_scale;                                   /* keep_scale = 1 / (1 - dropout) */
    float dropout;
    vg_rng_key rng_key;
    bool mask_second;
} vg_attn;

/* `first` is the place of q among the inputs: 0 in attention, 1 in its gradient. Operand data may be NULL (planning).
 */
vg_status vg_attn_of(const vg_node *node, int first, vg_attn *out);

/* Keys that slot b sees: rows 0..first-1 of the first segment and 0..second-1 of the second. */
typedef struct vg_attn_seen {
    int64_t first, second;
} vg_attn_seen;
vg_attn_seen vg_attn_seen_by(const vg_attn *a, int64_t slot);

/* Head `head` of row `row` among the `rows` of item `item` (a slot or an image). */
static inline float *vg_heads_row(const vg_heads *x, int64_t item, int64_t rows, int64_t row, int64_t head,
                                  int64_t size)
{
    return x->data + (item * rows + row) * x->stride + x->column + head * size;
}

#endif
