/* What both directions of attention read from a node, and how their work is cut. */
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
    const uint32_t *rng;   /* [B,4]; NULL without dropout */
    float *o, *lse, *sums; /* [B,Nq,H*D], [B,H,Nq] twice; the last two may be NULL in attention, sums in its gradient */
    int64_t slots, images, n_queries, n_first, n_second, keys; /* keys = n_first + n_second */
    int64_t heads, size, fold;                                 /* H, D */
    float scale, dropout;
    vg_rng_key rng_key;
    bool mask_second;
} vg_attn;

typedef struct vg_attn_grad {
    vg_attn a;
    const float *d_o, *dsums;      /* dsums may be NULL */
    vg_heads dq, dk, dv, dk2, dv2; /* data may be NULL */
    vg_heads acc_k, acc_v;         /* added to dk and dv; data may be NULL */
    float *dbias;                  /* zeroed before the first image */
} vg_attn_grad;

/* Queries first..end-1 of every slot of an image, for one head. */
typedef struct vg_attn_part {
    int64_t image, head, first, end;
} vg_attn_part;

/* Unit u of a work that is cut into images, heads and `shares` of the queries. */
static inline vg_attn_part vg_attn_part_of(const vg_attn *a, int64_t shares, int64_t u)
{
    const int64_t n = a->n_queries, share = u % shares, head = u / shares % a->heads;
    return (vg_attn_part){u / shares / a->heads, head, n * share / shares, n * (share + 1) / shares};
}

/* `first` is the place of q among the inputs: 0 in attention, 1 in its gradient. Operand data may be NULL (planning).
 */
void vg_attn_of(const vg_node *node, int first, vg_attn *out);

/* What a run needs beyond shapes that fit: an index in order, keys for a dropout. */
vg_status vg_attn_check(const vg_attn *a);

/* Keys that a slot sees: columns 0..first_end-1 and n_first..second_end-1 of its row of scores, where column j is row j
 * of the first segment and column n_first + j is row j of the second. */
typedef struct vg_attn_seen {
    int64_t first_end, second_end;
} vg_attn_seen;
vg_attn_seen vg_attn_seen_by(const vg_attn *a, int64_t slot);

/* The slots of an image are neighbours: first..end-1. */
typedef struct vg_attn_slots {
    int64_t first, end;
} vg_attn_slots;
vg_attn_slots vg_attn_slots_of(const vg_attn *a, int64_t image);

/* Head `head` of row `row` among the `rows` of item `item` (a slot or an image). */
static inline float *vg_heads_row(const vg_heads *x, int64_t item, int64_t rows, int64_t row, int64_t head,
                                  int64_t size)
{
    return x->data + (item * rows + row) * x->stride + x->column + head * size;
}

#endif
