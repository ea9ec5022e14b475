/* What the three operations on heads are about (ops.def): n rows of queries, heads H of size D, rows of C. */
#ifndef VG_KERNELS_HEADS_IMPL_H
#define VG_KERNELS_HEADS_IMPL_H

#include "kernels/backend.h"

typedef struct vg_heads_sizes {
    int64_t n, heads, size, width;
} vg_heads_sizes;

static inline vg_heads_sizes vg_heads_sizes_of(const vg_node *node)
{
    const vg_shape *x = &node->in[0].shape, *w = &node->in[1].shape;
    const int64_t heads = node->attr.heads.heads, rows = vg_shape_rows(x), last = vg_shape_last(x);
    const vg_heads_sizes contract = {rows / heads, heads, w->dim[0] / heads, last};
    const vg_heads_sizes other = {rows, heads, last / heads, vg_shape_last(w)};
    return node->op == VG_OP_heads_contract ? contract : other;
}

#endif
