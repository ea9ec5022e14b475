/* What the rows of ops.def say of an operation, above all its shape rule: which operands fit together, and what comes
 * out. A rule returns NULL, or what does not fit. */
#include "kernels/graph_impl.h"

#include <stddef.h>

/* Leaves a rule with the sentence that did not hold. */
#define FITS(condition, sentence)            \
    do {                                     \
        if (!(condition)) return (sentence); \
    } while (0)

/* Checks presence and element types: one letter per operand, f (f32), i (i32), u (u32), b (u8); a capital may be
 * absent. */
static const char *operands(const vg_shaping *s, const char *letters)
{
    for (int i = 0; letters[i]; i++) {
        const char upper = (char)(letters[i] & ~0x20);
        const vg_dtype dtype = upper == 'F' ? VG_F32 : upper == 'I' ? VG_I32 : upper == 'U' ? VG_U32 : VG_U8;
        FITS(s->in[i] || letters[i] == upper, "an operand is missing");
        FITS(!s->in[i] || s->in[i]->dtype == dtype, "an operand has another element type");
    }
    return NULL;
}

#define OPERANDS(letters)                          \
    do {                                           \
        const char *wrong_ = operands(s, letters); \
        if (wrong_) return wrong_;                 \
    } while (0)

static void output(vg_shaping *s, int i, vg_dtype dtype, vg_shape shape)
{
    s->out[i].present = true;
    s->out[i].dtype = dtype;
    s->out[i].shape = shape;
}

static vg_shape shape_of(const vg_shaping *s, int i)
{
    return s->in[i]->shape;
}

/* Axis j of operand i, 0 when there is none: no dim is 0, so that a comparison with a real one fails. */
static int64_t dim(const vg_shaping *s, int i, int j)
{
    return s->in[i] && j < s->in[i]->shape.rank ? s->in[i]->shape.dim[j] : 0;
}

static int rank(const vg_shaping *s, int i)
{
    return s->in[i] ? s->in[i]->shape.rank : 0;
}

static int64_t last(const vg_shaping *s, int i)
{
    return s->in[i] ? vg_shape_last(&s->in[i]->shape) : 0;
}

/* Operand i has exactly this shape, or is absent: OPERANDS has said which may be. */
static bool is_shaped(const vg_shaping *s, int i, vg_shape shape)
{
    return !s->in[i] || vg_shape_equal(&s->in[i]->shape, &shape);
}

static const char *shape_patchify(vg_shaping *s)
{
    OPERANDS("b");
    const int64_t patch = s->attr->patchify.patch, side = dim(s, 0, 1);
    FITS(rank(s, 0) == 4 && dim(s, 0, 2) == side && dim(s, 0, 3) == 3, "pixels must be [m,S,S,3]");
    FITS(patch > 0 && side % patch == 0, "the image side is no multiple of the patch");
    const int64_t grid = side / patch;
    output(s, 0, VG_F32, VG_SHAPE(dim(s, 0, 0), grid * grid, 3 * patch * patch));
    return NULL;
}

static const char *shape_linear(vg_shaping *s)
{
    OPERANDS("ffFFFI");
    FITS(rank(s, 1) == 2 && dim(s, 1, 1) == last(s, 0), "W must be [N,K] with K the last axis of x");
    vg_shape y = shape_of(s, 0);
    y.dim[y.rank - 1] = dim(s, 1, 0);
    FITS(is_shaped(s, 2, VG_SHAPE(dim(s, 1, 0))), "the bias must be [N]");
    FITS(is_shaped(s, 3, VG_SHAPE(dim(s, 1, 0))), "gamma must be [N]");
    FITS(is_shaped(s, 4, y), "res must have the shape of the result");
    FITS(!s->in[5] || rank(s, 0) == 3, "x must be [B,L,K] where there are counts");
    FITS(is_shaped(s, 5, VG_SHAPE(dim(s, 0, 0))), "counts must be [B]");
    FITS(s->attr->linear.act == VG_ACT_NONE || (!s->in[3] && !s->in[4]), "gamma and res go with no activation");
    output(s, 0, VG_F32, y);
    if (s->attr->linear.act == VG_ACT_GELU) output(s, 1, VG_F32, y);
    return NULL;
}

static const char *shape_layernorm(vg_shaping *s)
{
    OPERANDS("fffF");
    const vg_shape x = shape_of(s, 0), row = VG_SHAPE(last(s, 0));
    FITS(is_shaped(s, 1, row) && is_shaped(s, 2, row), "gamma and beta must be [C] with C the last axis of x");
    FITS(is_shaped(s, 3, x), "res must have the shape of x");
    FITS(s->attr->layernorm.eps > 0, "eps must be above 0");
    output(s, 0, VG_F32, x);
    output(s, 1, VG_F32, VG_SHAPE(vg_shape_rows(&x)));
    output(s, 2, VG_F32, VG_SHAPE(vg_shape_rows(&x)));
    if (s->in[3]) output(s, 3, VG_F32, x);
    return NULL;
}

static const char *shape_same(vg_shaping *s)
{
    OPERANDS("ff");
    FITS(is_shaped(s, 1, shape_of(s, 0)), "both must have one shape");
    output(s, 0, VG_F32, shape_of(s, 0));
    return NULL;
}

static const char *shape_add_rows(vg_shaping *s)
{
    OPERANDS("ff");
    int ones = 0; /* leading axes of length 1 say nothing */
    while (ones < rank(s, 1) && dim(s, 1, ones) == 1) ones++;
    const int lead = rank(s, 0) - rank(s, 1);
    FITS(lead + ones >= 0, "p has more axes than x");
    for (int i = ones; i < rank(s, 1); i++) FITS(dim(s, 0, lead + i) == dim(s, 1, i), "p must be the last axes of x");
    output(s, 0, VG_F32, shape_of(s, 0));
    return NULL;
}

static const char *shape_repeat(vg_shaping *s)
{
    OPERANDS("f");
    vg_shape y = {.rank = rank(s, 0) + 1, .dim = {s->attr->repeat.count}};
    FITS(y.rank <= VG_MAX_RANK, "p has too many axes to be repeated");
    for (int i = 0; i < rank(s, 0); i++) y.dim[i + 1] = dim(s, 0, i);
    output(s, 0, VG_F32, y);
    return NULL;
}

/* Columns col .. col + width - 1 lie in the rows of operand i. */
static bool has_columns(const vg_shaping *s, int i, int64_t col, int64_t width)
{
    return col >= 0 && col + width <= last(s, i);
}

static const char *shape_attention(vg_shaping *s)
{
    enum { Q, K, V, K2, V2, COUNTS, BIAS, INDEX, KEYS };
    OPERANDS("fffFFIFIU");
    const int64_t B = dim(s, Q, 0), Nq = dim(s, Q, 1), Nk = dim(s, K, 1), N2 = dim(s, K2, 1);
    const int64_t H = s->attr->attention.heads, D = s->attr->attention.head_size;
    FITS(rank(s, Q) == 3 && rank(s, K) == 3 && rank(s, V) == 3, "q, k and v must have three axes");
    FITS(H > 0 && D > 0 && has_columns(s, Q, s->attr->attention.q_col, H * D), "q lacks columns for its heads");
    FITS(has_columns(s, K, s->attr->attention.k_col, H * D), "k lacks columns for its heads");
    FITS(has_columns(s, V, s->attr->attention.v_col, H * D), "v lacks columns for its heads");
    FITS(dim(s, V, 0) == dim(s, K, 0) && dim(s, V, 1) == Nk, "k and v must have the same rows");
    FITS(s->in[INDEX] ? dim(s, K, 0) <= B : dim(s, K, 0) == B, "k must have as many slots as q, or fewer and an index");
    FITS(!s->in[K2] == !s->in[V2], "k2 and v2 come together");
    if (s->in[K2]) {
        FITS(rank(s, K2) == 3 && dim(s, K2, 0) == B, "k2 must be [B,N2,*]");
        FITS(rank(s, V2) == 3 && dim(s, V2, 0) == B && dim(s, V2, 1) == N2, "v2 must have the rows of k2");
        FITS(has_columns(s, K2, s->attr->attention.k2_col, H * D), "k2 lacks columns for its heads");
        FITS(has_columns(s, V2, s->attr->attention.v2_col, H * D), "v2 lacks columns for its heads");
    }
    FITS(!s->attr->attention.mask_second || s->in[K2], "mask_second needs a second segment");
    FITS(is_shaped(s, COUNTS, VG_SHAPE(B)), "counts must be [B]");
    FITS(is_shaped(s, BIAS, VG_SHAPE(H, Nq, Nk + N2)), "bias must be [H,Nq,Nk+N2]");
    FITS(is_shaped(s, INDEX, VG_SHAPE(B)), "index must be [B]");
    FITS(is_shaped(s, KEYS, VG_SHAPE(B, 4)), "keys must be [B,4]");
    FITS(s->attr->attention.fold > 0 && Nq % s->attr->attention.fold == 0, "fold must divide the queries");
    FITS(s->attr->attention.dropout >= 0 && s->attr->attention.dropout < 1, "dropout must be in [0,1)");
    FITS(s->attr->attention.dropout == 0 || s->in[KEYS], "dropout needs keys");
    output(s, 0, VG_F32, VG_SHAPE(B, Nq, H * D));
    output(s, 1, VG_F32, VG_SHAPE(B, H, Nq));
    output(s, 2, VG_F32, VG_SHAPE(B, H, Nq));
    return NULL;
}

static const char *shape_heads_expand(vg_shaping *s)
{
    OPERANDS("ffF");
    const int64_t H = s->attr->heads.heads, B = dim(s, 0, 0), Q = dim(s, 0, 1), width = dim(s, 0, 2);
    FITS(rank(s, 0) == 3 && H > 0 && width % H == 0, "x must be [B,Q,H*D]");
    FITS(rank(s, 1) == 2 && dim(s, 1, 0) == width, "W must be [H*D,C]");
    FITS(is_shaped(s, 2, VG_SHAPE(width)), "the bias must be [H*D]");
    output(s, 0, VG_F32, VG_SHAPE(B, Q * H, dim(s, 1, 1)));
    if (s->in[2]) output(s, 1, VG_F32, VG_SHAPE(B, 1, Q * H));
    return NULL;
}

static const char *shape_heads_contract(vg_shaping *s)
{
    OPERANDS("ffFF");
    const int64_t H = s->attr->heads.heads, B = dim(s, 0, 0), rows = dim(s, 0, 1), width = dim(s, 1, 0);
    FITS(rank(s, 0) == 3 && H > 0 && rows % H == 0, "x must be [B,Q*H,C]");
    FITS(rank(s, 1) == 2 && width % H == 0 && dim(s, 1, 1) == dim(s, 0, 2), "W must be [H*D,C]");
    FITS(is_shaped(s, 2, VG_SHAPE(width)), "the bias must be [H*D]");
    FITS(is_shaped(s, 3, VG_SHAPE(B, 1, rows)), "s must be [B,1,Q*H]");
    output(s, 0, VG_F32, VG_SHAPE(B, rows / H, width));
    return NULL;
}

static const char *shape_vit_tokens(vg_shaping *s)
{
    OPERANDS("ffFF");
    const int64_t m = dim(s, 0, 0), P = dim(s, 0, 1), C = dim(s, 0, 2), R = dim(s, 3, 1);
    FITS(rank(s, 0) == 3, "patches must be [m,P,C]");
    FITS(is_shaped(s, 1, VG_SHAPE(P, C)), "pos must be [P,C]");
    FITS(is_shaped(s, 2, VG_SHAPE(1, 1, C)), "cls must be [1,1,C]");
    FITS(is_shaped(s, 3, VG_SHAPE(1, R, C)), "reg must be [1,R,C]");
    output(s, 0, VG_F32, VG_SHAPE(m, (s->in[2] ? 1 : 0) + R + P, C));
    return NULL;
}

static const char *shape_text_embed(vg_shaping *s)
{
    OPERANDS("iifff");
    const int64_t B = dim(s, 0, 0), L = dim(s, 0, 1), C = dim(s, 2, 1);
    FITS(rank(s, 0) == 2 && is_shaped(s, 1, VG_SHAPE(B)), "ids must be [B,L] and counts [B]");
    FITS(rank(s, 2) == 2, "word must be [V,C]");
    FITS(rank(s, 3) == 2 && dim(s, 3, 1) == C, "pos must be [M,C]");
    FITS(dim(s, 3, 0) >= L + 2, "pos has too few rows for the text length (L + 2)");
    FITS(is_shaped(s, 4, VG_SHAPE(1, C)), "type must be [1,C]");
    output(s, 0, VG_F32, VG_SHAPE(B, L, C));
    return NULL;
}

static const char *shape_slice(vg_shaping *s)
{
    OPERANDS("f");
    const int64_t first = s->attr->slice.first, count = s->attr->slice.count;
    FITS(rank(s, 0) == 3, "x must be [B,N,C]");
    FITS(first >= 0 && count >= 1 && first <= dim(s, 0, 1) - count, "the slice leaves x");
    output(s, 0, VG_F32, VG_SHAPE(dim(s, 0, 0), count, dim(s, 0, 2)));
    return NULL;
}

static const char *shape_concat(vg_shaping *s)
{
    OPERANDS("ffI");
    const int64_t m = dim(s, 0, 0), B = dim(s, 1, 0);
    FITS(rank(s, 0) == 3 && rank(s, 1) == 3 && dim(s, 0, 2) == dim(s, 1, 2), "a must be [m,P,C] and b [B,L,C]");
    FITS(s->in[2] ? m <= B : m == B, "a must have as many slots as b, or fewer and an index");
    FITS(is_shaped(s, 2, VG_SHAPE(B)), "index must be [B]");
    output(s, 0, VG_F32, VG_SHAPE(B, dim(s, 0, 1) + dim(s, 1, 1), dim(s, 1, 2)));
    return NULL;
}

static const char *shape_stack(vg_shaping *s)
{
    OPERANDS("fFFFFFFFFFFFFFFF");
    vg_shape y = {.rank = rank(s, 0) + 1};
    FITS(y.rank <= VG_MAX_RANK, "the parts have too many axes to be stacked");
    for (int i = 0; i < rank(s, 0); i++) y.dim[i + 1] = dim(s, 0, i);
    for (int i = 0; i < VG_MAX_IN && s->in[i]; i++) {
        FITS(is_shaped(s, i, shape_of(s, 0)), "the parts must have one shape");
        y.dim[0]++;
    }
    output(s, 0, VG_F32, y);
    return NULL;
}

static const char *shape_first(vg_shaping *s) /* dropout */
{
    OPERANDS("fuF");
    FITS(is_shaped(s, 1, VG_SHAPE(dim(s, 0, 0), 4)), "keys must be [B,4]");
    FITS(is_shaped(s, 2, shape_of(s, 0)), "res must have the shape of x");
    FITS(s->attr->dropout.p >= 0 && s->attr->dropout.p < 1, "p must be in [0,1)");
    output(s, 0, VG_F32, shape_of(s, 0));
    return NULL;
}

static const char *shape_cast(vg_shaping *s)
{
    OPERANDS("f");
    output(s, 0, VG_BF16, shape_of(s, 0));
    return NULL;
}

static const char *shape_detr_loss(vg_shaping *s)
{
    OPERANDS("fffiif");
    const int64_t L = dim(s, 0, 0), B = dim(s, 0, 1), Q = dim(s, 0, 2);
    FITS(rank(s, 0) == 4 && dim(s, 0, 3) == 2, "logits must be [L,B,Q,2]");
    FITS(is_shaped(s, 1, VG_SHAPE(L, B, Q, 4)), "boxes must be [L,B,Q,4]");
    FITS(rank(s, 2) == 3 && dim(s, 2, 0) == B && dim(s, 2, 2) == 4, "targets must be [B,T,4]");
    FITS(is_shaped(s, 3, VG_SHAPE(B)) && is_shaped(s, 4, VG_SHAPE(B)), "n_targets and filled must be [B]");
    FITS(is_shaped(s, 5, VG_SHAPE(8)), "scales must be [8]");
    output(s, 0, VG_F64, VG_SHAPE(B, L, 3));
    output(s, 1, VG_I32, VG_SHAPE(B, L, Q));
    output(s, 2, VG_F32, shape_of(s, 0));
    output(s, 3, VG_F32, shape_of(s, 1));
    output(s, 4, VG_I32, VG_SHAPE(B));
    return NULL;
}

static const char *shape_align_loss(vg_shaping *s)
{
    OPERANDS("fffffiiIf");
    const int64_t m = dim(s, 0, 0), C = dim(s, 0, 2), B = dim(s, 1, 0);
    const int64_t cells = (int64_t)s->attr->align.gh * s->attr->align.gw;
    FITS(rank(s, 0) == 3 && cells == dim(s, 0, 1), "a must be [m,P,C] with P = gh * gw");
    FITS(last(s, 1) == C && vg_shape_count(&s->in[1]->shape) == B * C, "u must be [B,C] or [B,1,C]");
    FITS(is_shaped(s, 2, VG_SHAPE(1)) && is_shaped(s, 3, VG_SHAPE(1)), "scale and shift must be [1]");
    FITS(rank(s, 4) == 3 && dim(s, 4, 0) == B && dim(s, 4, 2) == 4, "targets must be [B,T,4]");
    FITS(is_shaped(s, 5, VG_SHAPE(B)) && is_shaped(s, 6, VG_SHAPE(B)), "n_targets and filled must be [B]");
    FITS(s->in[7] ? m <= B : m == B, "a must have as many slots as u, or fewer and an index");
    FITS(is_shaped(s, 7, VG_SHAPE(B)), "index must be [B]");
    FITS(is_shaped(s, 8, VG_SHAPE(8)), "scales must be [8]");
    output(s, 0, VG_F64, VG_SHAPE(B));
    for (int i = 0; i < 4; i++) output(s, 1 + i, VG_F32, shape_of(s, i)); /* the gradients of a, u, scale, shift */
    return NULL;
}

/* A gradient has the shape of what it is the gradient of: differentiate.c gives it. */
static const char *shape_backward(vg_shaping *s)
{
    (void)s;
    return NULL;
}

static const char *(*const rules[VG_OP_COUNT])(vg_shaping *s) = {
#define VG_OP(name, n_in, n_out, shape, grad, cost) [VG_OP_##name] = shape,
#include "kernels/ops.def"
#undef VG_OP
};

const char *vg_op_shape(vg_op op, vg_shaping *s)
{
    return rules[op](s);
}

const char *vg_op_name(vg_op op)
{
    static const char *const names[VG_OP_COUNT] = {
#define VG_OP(name, n_in, n_out, shape, grad, cost) [VG_OP_##name] = #name,
#include "kernels/ops.def"
#undef VG_OP
    };
    return names[op];
}

static const vg_op_row rows[VG_OP_COUNT] = {
#define VG_OP(name, n_in, n_out, shape, grad, cost) [VG_OP_##name] = {n_in, n_out},
#include "kernels/ops.def"
#undef VG_OP
};

const vg_op_row *vg_op_row_of(vg_op op)
{
    return &rows[op];
}

/* Bit i is output i; see the names with ? in ops.def. Gradients are made only where they are needed. */
unsigned vg_op_optional_outputs(vg_op op)
{
    switch (op) {
    case VG_OP_linear: return 1u << 1;                        /* z */
    case VG_OP_layernorm: return 1u << 1 | 1u << 2 | 1u << 3; /* mean, rstd, sum */
    case VG_OP_attention: return 1u << 1 | 1u << 2;           /* lse, sums */
    case VG_OP_heads_expand: return 1u << 1;                  /* s */
    default: return 0;
    }
}

unsigned vg_op_parameter_outputs(vg_op op)
{
    switch (op) {
    case VG_OP_align_loss: return 1u << 3 | 1u << 4; /* dscale, dshift */
    case VG_OP_linear_dw:
    case VG_OP_heads_dw: return ~0u;
    case VG_OP_layernorm_grad: return 1u << 1 | 1u << 2; /* dgamma, dbeta */
    case VG_OP_sum_rows: return 1u;
    case VG_OP_vit_tokens_grad: return 1u << 1 | 1u << 2 | 1u << 3; /* dpos, dcls, dreg */
    case VG_OP_text_embed_grad: return ~0u;
    default: return 0;
    }
}
