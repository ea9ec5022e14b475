/* Token sequences put together and taken apart: everything here is bound by memory. */
#include "kernels/cuda/rows.h"

enum { THREADS = 256, IMAGES = 8 };

/* --- the sequence of a vision transformer ------------------------------------------------------------------------- */

struct vit_args {
    const float *patches, *pos, *cls, *reg; /* [m,P,C], [P,C], [C], [R,C] */
    float *x;                               /* [m,N,C] */
    int64_t images, sequence, prefix;       /* floats of a sequence, N * C; and of what stands before the patches */
    int width;
    unsigned tiles; /* blocks that a sequence takes */
    bool wide;
};

/* What every image has at this place of the sequence. */
static __forceinline__ __device__ const float *constant_at(const struct vit_args &p, int64_t at)
{
    if (at >= p.prefix) return p.pos + (at - p.prefix);
    if (p.cls && at < p.width) return p.cls + at;
    return p.reg + (p.cls ? at - p.width : at);
}

template <int W> static __device__ void vit_tile(const struct vit_args &p)
{
    const int64_t at = ((int64_t)(blockIdx.x % p.tiles) * THREADS + threadIdx.x) * W;
    if (at >= p.sequence) return;
    const pack<W> each = load<W>(constant_at(p, at));
    const int64_t first = (int64_t)(blockIdx.x / p.tiles) * IMAGES, size = p.sequence - p.prefix;
    for (int64_t i = first; i < first + IMAGES && i < p.images; i++)
        store<W>(p.x + i * p.sequence + at,
                 at < p.prefix ? each : load<W>(p.patches + i * size + at - p.prefix) + each);
}

/* A thread keeps its columns of the positions (or of the prefix) for IMAGES images. Memory bound: patches are read and
 * x written once, positions once in IMAGES images; (8 + 4 / IMAGES) * m * N * C bytes. */
KERNEL(THREADS) void vit_sequence(const struct vit_args p)
{
    p.wide ? vit_tile<4>(p) : vit_tile<1>(p);
}
KERNEL_ENTRY(vit_sequence, struct vit_args)

extern "C" vg_status vg_cuda_vit_tokens(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in;
    struct vit_args p = {};
    p.patches = (const float *)in[0].data;
    p.pos = (const float *)in[1].data;
    p.cls = (const float *)in[2].data;
    p.reg = (const float *)in[3].data;
    p.x = (float *)node->out[0].data;
    p.images = in[0].shape.dim[0];
    p.width = (int)in[0].shape.dim[2];
    p.sequence = node->out[0].shape.dim[1] * p.width;
    p.prefix = p.sequence - in[0].shape.dim[1] * p.width;
    p.wide = is_wide(p.width, p.patches, p.pos, p.cls, p.reg, p.x);
    p.tiles = blocks_for(p.sequence, THREADS * (p.wide ? 4 : 1));
    LAUNCH(vit_sequence, p.tiles * blocks_for(p.images, IMAGES), THREADS, 0, vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("vit_tokens");
}

struct vit_grad_args {
    const void *dx;                                          /* [m,N,C] */
    void *dpatches;                                          /* like dx; or NULL */
    float *dpos, *dcls, *dreg;                               /* any may be NULL */
    int64_t images, sequence, first_patch, first_reg, width; /* where patches and registers begin, in numbers */
    bool bf16, wide, accumulate;
};

/* The table that sums the images at this place; NULL for none. */
static __forceinline__ __device__ float *table_at(const struct vit_grad_args &p, int64_t at)
{
    if (at >= p.first_patch) return p.dpos ? p.dpos + (at - p.first_patch) : nullptr;
    if (p.dreg && at >= p.first_reg) return p.dreg + (at - p.first_reg);
    return p.dcls && at < p.width ? p.dcls + at : nullptr;
}

template <int W, class T> static __device__ void vit_grad_tile(const struct vit_grad_args &p)
{
    const int64_t at = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * W;
    if (at >= p.sequence) return;
    float *table = table_at(p, at);
    T *patches = at >= p.first_patch ? (T *)p.dpatches : nullptr;
    pack<W> sum = {};
    for (int64_t i = 0; i < p.images; i++) {
        const pack<W> d = load<W>((const T *)p.dx + i * p.sequence + at);
        if (patches) store<W>(patches + i * (p.sequence - p.first_patch) + at - p.first_patch, d);
        sum = sum + d;
    }
    if (table) store<W>(table, p.accumulate ? load<W>(table) + sum : sum);
}

/* A thread walks its columns of the sequence through the images in order. Memory bound: dx is read once, what is wanted
 * written once; 8 * m * N * C bytes, 4 of bf16. */
KERNEL(THREADS) void vit_sequence_grad(const struct vit_grad_args p)
{
    BY_TYPE_AND_FP32(p.bf16, p.wide, vit_grad_tile, p);
}
KERNEL_ENTRY(vit_sequence_grad, struct vit_grad_args)

extern "C" vg_status vg_cuda_vit_tokens_grad(vg_stream *stream, const vg_node *node)
{
    const vg_operand *out = node->out;
    struct vit_grad_args p = {};
    p.dx = node->in[0].data;
    p.bf16 = is_bf16(&node->in[0]);
    p.dpatches = out[0].data;
    p.dpos = (float *)out[1].data;
    p.dcls = (float *)out[2].data;
    p.dreg = (float *)out[3].data;
    p.images = node->in[0].shape.dim[0];
    p.width = node->in[0].shape.dim[2];
    p.sequence = node->in[0].shape.dim[1] * p.width;
    const int64_t n_patches = p.dpatches ? out[0].shape.dim[1] : p.dpos ? out[1].shape.dim[0] : 0;
    const int64_t reg = p.dreg ? out[3].shape.dim[1] * p.width : 0;
    /* The registers stand between cls and the patches; either neighbour places them. */
    p.first_patch = p.sequence - n_patches * p.width;
    p.first_reg = n_patches ? p.first_patch - reg : p.dcls ? p.width : 0;
    if (!n_patches) p.first_patch = p.first_reg + reg;
    p.accumulate = node->accumulate;
    p.wide = is_wide(p.width, p.dx, p.dpatches, p.dpos, p.dcls, p.dreg);
    LAUNCH(vit_sequence_grad, blocks_for(p.sequence, THREADS * (p.wide ? 4 : 1)), THREADS, 0, vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("vit_tokens_grad");
}

/* --- slices ------------------------------------------------------------------------------------------------------- */

struct slice_args {
    const void *x, *acc; /* what is copied; what is added to it or NULL */
    void *y;
    int64_t rows;                               /* of y */
    int width, tokens_of_x, tokens_of_y, shift; /* row t of y is row t + shift of x where x has it, else 0 */
    bool bf16, wide;
};

template <int W, class T> static __device__ void slice_row(const struct slice_args &p, int64_t row)
{
    const int64_t b = row / p.tokens_of_y, t = row % p.tokens_of_y + p.shift;
    const T *x = t >= 0 && t < p.tokens_of_x ? (const T *)p.x + (b * p.tokens_of_x + t) * p.width : nullptr;
    const T *acc = p.acc ? (const T *)p.acc + row * p.width : nullptr;
    sum_of_rows<W, T>((T *)p.y + row * p.width, acc, x, nullptr, p.width);
}

/* A warp writes a row of y. Memory bound: a number of the slice is read and written, and what the rest of dx takes. */
KERNEL(ROW_THREADS) void shift_tokens(const struct slice_args p)
{
    const int64_t row = row_of_warp();
    if (row >= p.rows) return;
    BY_TYPE(p.bf16, p.wide, slice_row, p, row);
}
KERNEL_ENTRY(shift_tokens, struct slice_args)

static void shift(vg_stream *stream, const vg_node *node, const void *acc, int64_t by)
{
    const vg_shape *x = &node->in[0].shape, *y = &node->out[0].shape;
    struct slice_args p = {};
    p.x = node->in[0].data;
    p.acc = acc;
    p.y = node->out[0].data;
    p.bf16 = is_bf16(&node->in[0]);
    p.rows = vg_shape_rows(y);
    p.width = (int)y->dim[2];
    p.tokens_of_x = (int)x->dim[1];
    p.tokens_of_y = (int)y->dim[1];
    p.shift = (int)by;
    p.wide = is_wide_in(p.bf16, p.width, p.x, p.acc, p.y);
    LAUNCH(shift_tokens, blocks_for(p.rows, ROW_WARPS), ROW_THREADS, 0, vg_cuda_queue(stream), p);
}

extern "C" vg_status vg_cuda_slice_tokens(vg_stream *stream, const vg_node *node)
{
    shift(stream, node, NULL, node->attr.slice.first);
    return VG_CUDA_LAUNCHED("slice_tokens");
}

extern "C" vg_status vg_cuda_slice_tokens_grad(vg_stream *stream, const vg_node *node)
{
    shift(stream, node, node->in[1].data, -node->attr.slice.first);
    return VG_CUDA_LAUNCHED("slice_tokens_grad");
}

/* --- two sequences in one ----------------------------------------------------------------------------------------- */

struct concat_args {
    void *a, *b, *whole;           /* [m,P,C], [B,L,C], [B,P+L,C]; a or b may be NULL in the gradient */
    const int32_t *index;          /* [B] images in ascending order, or NULL: slot b is image b */
    int64_t slots, rows_a, rows_b; /* B; rows that warps take: those of a, then those of b */
    int width, tokens_a, tokens;   /* C, P, P + L */
    bool bf16, wide;
};

/* The slots of an image stand one after another: how many there are and which is the first. */
static __device__ int slots_of_image(const struct concat_args &p, int64_t image, int *first)
{
    if (!p.index) {
        *first = (int)image;
        return 1;
    }
    int before = 0, mine = 0;
    for (int64_t s = lane_of_warp(); s < p.slots; s += WARP) {
        before += p.index[s] < image;
        mine += p.index[s] == image;
    }
    *first = warp_sum(before);
    return warp_sum(mine);
}

/* Token t of image `row / P`, to all slots of the image. */
template <int W, class T> static __device__ void join_row_a(const struct concat_args &p, int64_t row)
{
    const int64_t image = row / p.tokens_a, t = row % p.tokens_a, size = (int64_t)p.tokens * p.width;
    int first = 0;
    const int n = slots_of_image(p, image, &first);
    T *to = (T *)p.whole + first * size + t * p.width;
    for (int c = lane_of_warp() * W; c < p.width; c += WARP * W) {
        const pack<W> x = load<W>((const T *)p.a + row * p.width + c);
        for (int s = 0; s < n; s++) store<W>(to + s * size + c, x);
    }
}

/* Where row `row` of b stands in the whole. */
template <class T> static __forceinline__ __device__ T *place_of_b(const struct concat_args &p, int64_t row)
{
    const int tokens_b = p.tokens - p.tokens_a;
    return (T *)p.whole + (row / tokens_b * p.tokens + row % tokens_b + p.tokens_a) * p.width;
}

template <int W, class T> static __device__ void join_row_b(const struct concat_args &p, int64_t row)
{
    sum_of_rows<W, T>(place_of_b<T>(p, row), (const T *)p.b + row * p.width, nullptr, nullptr, p.width);
}

/* A warp copies a row of a to the slots of its image, or a row of b. Memory bound: a and b are read and the whole is
 * written once. */
KERNEL(ROW_THREADS) void join_tokens(const struct concat_args p)
{
    const int64_t row = row_of_warp();
    if (row < p.rows_a)
        BY_TYPE(p.bf16, p.wide, join_row_a, p, row);
    else if (row < p.rows_a + p.rows_b)
        BY_TYPE(p.bf16, p.wide, join_row_b, p, row - p.rows_a);
}
KERNEL_ENTRY(join_tokens, struct concat_args)

template <int W, class T> static __device__ void split_row_a(const struct concat_args &p, int64_t row)
{
    const int64_t image = row / p.tokens_a, t = row % p.tokens_a, size = (int64_t)p.tokens * p.width;
    int first = 0;
    const int n = slots_of_image(p, image, &first);
    const T *from = (const T *)p.whole + first * size + t * p.width;
    for (int c = lane_of_warp() * W; c < p.width; c += WARP * W) {
        pack<W> sum = {};
        for (int s = 0; s < n; s++) sum = sum + load<W>(from + s * size + c);
        store<W>((T *)p.a + row * p.width + c, sum);
    }
}

template <int W, class T> static __device__ void split_row_b(const struct concat_args &p, int64_t row)
{
    sum_of_rows<W, T>((T *)p.b + row * p.width, place_of_b<T>(p, row), nullptr, nullptr, p.width);
}

/* A warp writes a row of da, slots in order, or a row of db. Memory bound: dy is read once, da and db are written. */
KERNEL(ROW_THREADS) void split_tokens(const struct concat_args p)
{
    const int64_t row = row_of_warp();
    if (row < p.rows_a)
        BY_TYPE(p.bf16, p.wide, split_row_a, p, row);
    else if (row < p.rows_a + p.rows_b)
        BY_TYPE(p.bf16, p.wide, split_row_b, p, row - p.rows_a);
}
KERNEL_ENTRY(split_tokens, struct concat_args)

static struct concat_args concat_of(const vg_operand *a, const vg_operand *b, const vg_operand *index,
                                    const vg_operand *whole)
{
    struct concat_args p = {};
    p.a = a->data;
    p.b = b->data;
    p.whole = whole->data;
    p.bf16 = is_bf16(whole);
    p.index = (const int32_t *)index->data;
    p.slots = whole->shape.dim[0];
    p.tokens = (int)whole->shape.dim[1];
    p.width = (int)whole->shape.dim[2];
    p.tokens_a = p.a ? (int)a->shape.dim[1] : p.tokens - (int)b->shape.dim[1];
    p.rows_a = p.a ? a->shape.dim[0] * p.tokens_a : 0;
    p.rows_b = p.b ? p.slots * (p.tokens - p.tokens_a) : 0;
    p.wide = is_wide_in(p.bf16, p.width, p.a, p.b, p.whole);
    return p;
}

extern "C" vg_status vg_cuda_concat_tokens(vg_stream *stream, const vg_node *node)
{
    const struct concat_args p = concat_of(&node->in[0], &node->in[1], &node->in[2], &node->out[0]);
    LAUNCH(join_tokens, blocks_for(p.rows_a + p.rows_b, ROW_WARPS), ROW_THREADS, 0, vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("concat_tokens");
}

extern "C" vg_status vg_cuda_concat_tokens_grad(vg_stream *stream, const vg_node *node)
{
    const struct concat_args p = concat_of(&node->out[0], &node->out[1], &node->in[1], &node->in[0]);
    LAUNCH(split_tokens, blocks_for(p.rows_a + p.rows_b, ROW_WARPS), ROW_THREADS, 0, vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("concat_tokens_grad");
}
