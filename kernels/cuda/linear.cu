/* The linear layer and its gradients: a product by cuBLASLt with what its epilogue can do exactly (bias, relu, the sum
 * with a residual or another gradient, sums of dz), and small passes for the rest:
 * - gamma is multiplied into the rows of W and into b before the product. That costs N * K numbers, where a pass over
 *   the result would cost rows * N, and leaves the residual to the epilogue.
 * - gelu and sigmoid are passes over z: the library's gelu is the tanh approximation, ours is exact.
 * - the gradient of W waits in the workspace where many rows are multiplied in chunks, and with gamma, since dgamma
 *   needs it as it is.
 * - bf16 rows of x and W whose length is no multiple of 16 bytes, as that of patches of 14 x 14 pixels, are padded
 *   first: cuBLASLt's fast algorithms do not take them.
 *
 * What is multiplied is fp32 or bf16, sums and gradients of parameters are fp32, other results either. */
#include "kernels/cuda/linear.h"

#include "kernels/cuda/activation.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/padded_rows.h"
#include "kernels/cuda/row_chunks.h"
#include "kernels/cuda/rows.h"

/* --- gamma and the weight ----------------------------------------------------------------------------------------- */

struct scale_args {
    const float *w, *b, *gamma; /* [N,K], [N] or NULL, [N] */
    void *scaled_w;             /* fp32, or bf16 */
    float *scaled_b;
    int width;
    bool bf16, wide;
};

/* Weights have few rows and long ones: a block takes a row. */
enum { WEIGHT_WARPS = 4, WEIGHT_THREADS = WEIGHT_WARPS * WARP };

template <int W, class T> static __device__ void scale_row(const struct scale_args &p, int64_t row)
{
    const float gamma = p.gamma[row];
#pragma unroll 4
    for (int c = (int)threadIdx.x * W; c < p.width; c += WEIGHT_THREADS * W) {
        pack<W> w = load<W>(p.w + row * p.width + c);
        for (int i = 0; i < W; i++) w.v[i] *= gamma;
        store<W>((T *)p.scaled_w + row * p.width + c, w);
    }
    if (p.b && threadIdx.x == 0) p.scaled_b[row] = p.b[row] * gamma;
}

/* Memory bound: 8 * N * K bytes, 6 into bf16. */
KERNEL(WEIGHT_THREADS) void scale_weight(const struct scale_args p)
{
    BY_TYPE_AND_FP32(p.bf16, p.wide, scale_row, p, (int64_t)blockIdx.x);
}
KERNEL_ENTRY(scale_weight, struct scale_args)

static size_t floats_bytes(int64_t n)
{
    return vg_round_up((size_t)n * sizeof(float), 64);
}

/* What a layer, or the gradient of its x, is scaled by. */
static const vg_operand *gamma_of(const vg_node *node)
{
    return &node->in[node->op == VG_OP_linear ? 3 : 2];
}

/* Room for gamma W, behind which gamma b lies. */
static size_t weight_bytes(const vg_node *node)
{
    return floats_bytes(vg_shape_count(&node->in[1].shape));
}

static size_t scaled_bytes(const vg_node *node)
{
    return gamma_of(node)->shape.rank ? weight_bytes(node) + floats_bytes(node->in[1].shape.dim[0]) : 0;
}

/* Puts gamma W, in the type of what it is multiplied with, and gamma b of a layer at `to`. */
static void scale(vg_stream *stream, const vg_node *node, unsigned char *to)
{
    const vg_shape *shape = &node->in[1].shape;
    struct scale_args p = {};
    p.w = (const float *)node->in[1].data;
    p.b = node->op == VG_OP_linear ? (const float *)node->in[2].data : NULL;
    p.gamma = (const float *)gamma_of(node)->data;
    p.width = (int)shape->dim[1];
    p.scaled_w = to;
    p.scaled_b = (float *)(to + weight_bytes(node));
    p.bf16 = is_bf16(&node->in[0]);
    p.wide = is_wide(p.width, p.w, p.scaled_w);
    LAUNCH(scale_weight, (unsigned)shape->dim[0], WEIGHT_THREADS, 0, vg_cuda_queue(stream), p);
}

/* With gamma, what is multiplied is gamma W and gamma b: packed where they are frozen, or made now, in the workspace
 * behind that of the product. */
static void take_scaled(vg_stream *stream, const vg_node *node, vg_matmul *product)
{
    if (!gamma_of(node)->data) return;
    unsigned char *made = (unsigned char *)node->workspace + VG_MATMUL_WORKSPACE_BYTES;
    if (!node->packed) scale(stream, node, made);
    product->b = node->packed ? node->packed : made;
    if (product->bias) product->bias = (const unsigned char *)product->b + weight_bytes(node);
}

extern "C" size_t vg_cuda_linear_packed_bytes(const vg_node *node)
{
    return scaled_bytes(node);
}

extern "C" vg_status vg_cuda_linear_pack(vg_stream *stream, const vg_node *node, void *packed)
{
    scale(stream, node, (unsigned char *)packed);
    return VG_CUDA_LAUNCHED("linear_pack");
}

/* --- forward ------------------------------------------------------------------------------------------------------ */

static bool is_padded(const vg_operand *x)
{
    return is_bf16(x) && vg_padded_width(vg_shape_last(&x->shape)) != vg_shape_last(&x->shape);
}

static size_t padded_bytes(const vg_operand *x)
{
    return vg_padded_bytes(vg_shape_rows(&x->shape), vg_shape_last(&x->shape));
}

/* Multiplies x and W by way of padded rows, which lie behind the workspace of the product. */
static void take_padded(vg_stream *stream, const vg_node *node, vg_matmul *product)
{
    unsigned char *x = (unsigned char *)node->workspace + VG_MATMUL_WORKSPACE_BYTES,
                  *w = x + padded_bytes(&node->in[0]);
    vg_cuda_pad_rows(stream, &node->in[0], x);
    vg_cuda_pad_rows(stream, &node->in[1], w);
    product->a = x;
    product->b = w;
    product->k = vg_padded_width(product->k);
}

/* W is bf16 like x, but for a gamma. */
static bool multiplies_padded(const vg_node *node)
{
    return is_padded(&node->in[0]) && is_padded(&node->in[1]);
}

extern "C" size_t vg_cuda_linear_workspace(const vg_node *node)
{
    const size_t padded = multiplies_padded(node) ? padded_bytes(&node->in[0]) + padded_bytes(&node->in[1]) : 0;
    return VG_MATMUL_WORKSPACE_BYTES + scaled_bytes(node) + padded;
}

extern "C" vg_status vg_cuda_linear(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in, *y = &node->out[0], *z = node->out[1].data ? &node->out[1] : y;
    const vg_act act = node->attr.linear.act;
    vg_matmul product = {};
    product.m = vg_shape_rows(&in[0].shape);
    product.n = in[1].shape.dim[0];
    product.k = in[1].shape.dim[1];
    product.factors = in[0].dtype;
    product.sums = z->dtype;
    product.a = in[0].data;
    product.b = in[1].data;
    product.bias = in[2].data;
    product.c = in[4].data;
    product.d = z->data;
    product.b_transposed = true;
    product.relu = act == VG_ACT_RELU;
    take_scaled(stream, node, &product);
    if (multiplies_padded(node)) take_padded(stream, node, &product);
    VG_TRY(vg_cuda_matmul(stream, &product, node->workspace, NULL));
    if (act == VG_ACT_GELU || act == VG_ACT_SIGMOID) vg_cuda_activate(stream, act, z, y);
    return VG_CUDA_LAUNCHED("linear");
}

/* --- the gradient of x -------------------------------------------------------------------------------------------- */

extern "C" size_t vg_cuda_linear_dx_workspace(const vg_node *node)
{
    return VG_MATMUL_WORKSPACE_BYTES + scaled_bytes(node);
}

extern "C" vg_status vg_cuda_linear_dx(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in;
    vg_matmul product = {};
    product.m = vg_shape_rows(&in[0].shape);
    product.n = in[1].shape.dim[1];
    product.k = in[1].shape.dim[0];
    product.factors = in[0].dtype;
    product.sums = node->out[0].dtype;
    product.a = in[0].data;
    product.b = in[1].data;
    product.c = in[3].data;
    product.d = node->out[0].data;
    take_scaled(stream, node, &product);
    VG_TRY(vg_cuda_matmul(stream, &product, node->workspace, NULL));
    return VG_CUDA_LAUNCHED("linear_dx");
}

/* --- the gradients of the parameters ------------------------------------------------------------------------------ */

struct dw_args {
    const float *product, *sums; /* parts of G, each [N,stride]; parts of [N]. Or NULL */
    const float *w, *b, *gamma;  /* [N,K]; [N]; [N]. Or NULL */
    float *dw, *db, *dgamma;     /* any may be NULL */
    int64_t rows;
    int width, stride;    /* K; from a row of G to the next */
    int parts, sum_parts; /* of G, of sums */
    bool wide, accumulate;
};

static __forceinline__ __device__ void put(float *to, float x, bool accumulate)
{
    *to = accumulate ? *to + x : x;
}

/* The sum of the numbers at x in all parts, in the order of parts: fetched at once, then added. */
template <int W> static __forceinline__ __device__ pack<W> sum_of_parts(const float *x, int parts, int64_t apart)
{
    pack<W> of[VG_MOST_ROW_PARTS] = {};
#pragma unroll
    for (int i = 0; i < VG_MOST_ROW_PARTS; i++)
        if (i < parts) of[i] = load<W>(x + i * apart);
#pragma unroll
    for (int i = 1; i < VG_MOST_ROW_PARTS; i++)
        if (i < parts) of[0] = of[0] + of[i];
    return of[0];
}

/* Row n of dW, and the warp's share of <W[n], G[n]> where dgamma wants it. */
template <int W> static __device__ float dw_row(const struct dw_args &p, int64_t row, float gamma)
{
    float along = 0;
    for (int c = (int)threadIdx.x * W; c < p.width; c += WEIGHT_THREADS * W) {
        const int64_t at = row * p.width + c;
        pack<W> g = sum_of_parts<W>(p.product + row * p.stride + c, p.parts, p.rows * p.stride);
        if (p.dgamma) {
            const pack<W> w = load<W>(p.w + at);
            for (int i = 0; i < W; i++) along += w.v[i] * g.v[i];
        }
        if (!p.dw) continue;
        for (int i = 0; i < W; i++) g.v[i] *= gamma;
        store<W>(p.dw + at, p.accumulate ? load<W>(p.dw + at) + g : g);
    }
    return warp_sum(along);
}

/* Outputs of a layer whose rows were multiplied in parts, or that has a gamma: a block each, from its rows of G and its
 * sums of dz. Memory bound: the parts of G and, for dgamma, W are read and dW is written once; 4 * N * K bytes each. */
KERNEL(WEIGHT_THREADS) void finish_dw(const struct dw_args p)
{
    SHARED(float, of_warps, [WEIGHT_WARPS]);
    const int64_t row = blockIdx.x;
    const float gamma = p.gamma ? p.gamma[row] : 1.0F;
    const float of_warp = !p.product ? 0.0F : p.wide ? dw_row<4>(p, row, gamma) : dw_row<1>(p, row, gamma);
    if (lane_of_warp() == 0) of_warps[threadIdx.x / WARP] = of_warp;
    __syncthreads();
    if (threadIdx.x > 0) return;
    float along = of_warps[0];
    for (int w = 1; w < WEIGHT_WARPS; w++) along += of_warps[w];
    const float sum = p.sums ? sum_of_parts<1>(p.sums + row, p.sum_parts, p.rows).v[0] : 0.0F;
    if (p.db) put(p.db + row, gamma * sum, p.accumulate);
    if (p.dgamma) put(p.dgamma + row, along + (p.b ? p.b[row] * sum : 0.0F), p.accumulate);
}
KERNEL_ENTRY(finish_dw, struct dw_args)

/* How rows are divided, and where things lie in the workspace behind that of the product. */
struct dw_space {
    int64_t chunks, parts; /* row_chunks.h */
    int64_t width;         /* K, or that of padded rows */
    float *sums, *product; /* parts of [N], of [N,width] */
    void *x;               /* itself, or padded */
    void *partial;         /* of the column sums */
};

static size_t dw_space_of(const vg_node *node, struct dw_space *out)
{
    const int64_t rows = vg_shape_rows(&node->in[0].shape), n = vg_shape_last(&node->in[0].shape),
                  k = vg_shape_last(&node->in[1].shape);
    unsigned char *memory = (unsigned char *)node->workspace;
    size_t at = VG_MATMUL_WORKSPACE_BYTES;
    out->chunks = vg_row_chunks(rows, n, k);
    out->parts = vg_row_parts(rows, n, k);
    out->width = is_padded(&node->in[1]) ? vg_padded_width(k) : k;
    out->sums = (float *)(memory + at);
    at += floats_bytes(out->parts * n);
    out->product = (float *)(memory + at);
    if (node->in[4].shape.rank || out->parts > 1 || out->width > k) at += floats_bytes(out->parts * n * out->width);
    out->x = out->width > k ? memory + at : (unsigned char *)node->in[1].data;
    if (out->width > k) at += padded_bytes(&node->in[1]);
    out->partial = memory + at;
    return at + vg_cuda_column_sums_workspace(rows, n);
}

extern "C" size_t vg_cuda_linear_dw_workspace(const vg_node *node)
{
    struct dw_space space;
    return dw_space_of(node, &space);
}

/* sums [columns] = the sums of the rows of dz. */
static void sum_rows_of(vg_stream *stream, const vg_operand *dz, float *to, void *partial)
{
    vg_column_sums sums = {};
    sums.x = dz->data;
    sums.bf16 = is_bf16(dz);
    sums.n = vg_shape_rows(&dz->shape);
    sums.stride = sums.columns = sums.split = vg_shape_last(&dz->shape);
    sums.out = to;
    vg_cuda_column_sums(stream, &sums, partial);
}

/* to [n] += x [n] */
static void add_to(vg_stream *stream, float *to, const float *x, int64_t n)
{
    vg_column_sums sums = {};
    sums.x = x;
    sums.n = 1;
    sums.stride = sums.columns = sums.split = n;
    sums.out = to;
    sums.accumulate = true;
    vg_cuda_column_sums(stream, &sums, NULL);
}

/* G = dz^T x of `chunks` chunks of `rows` rows from row `first` on, one behind the other, and their sums of dz, which
 * may be NULL; `summed` becomes whether those were made. */
static vg_status multiply_chunks(vg_stream *stream, const vg_node *node, const struct dw_space *space, int64_t first,
                                 int64_t rows, int64_t chunks, bool add, float *g, float *sums, bool *summed)
{
    const vg_operand *dz = &node->in[0];
    vg_matmul product = {};
    product.m = vg_shape_last(&dz->shape);
    product.n = space->width;
    product.k = rows;
    product.batch = chunks;
    product.factors = dz->dtype;
    product.a = (const unsigned char *)dz->data + (size_t)(first * product.m) * vg_dtype_bytes(dz->dtype);
    product.b = (const unsigned char *)space->x + (size_t)(first * product.n) * vg_dtype_bytes(dz->dtype);
    product.a_transposed = true;
    product.c = add ? g : NULL;
    product.d = g;
    product.a_sums = sums;
    return vg_cuda_matmul(stream, &product, node->workspace, summed);
}

/* The parts of G into `product`, added to it where that is dW and node->accumulate; the parts of the sums of dz into
 * `sums`: how many those are becomes *sum_parts. Either may be NULL. */
static vg_status multiply(vg_stream *stream, const vg_node *node, const struct dw_space *space, float *product,
                          float *sums, int *sum_parts)
{
    const vg_operand *dz = &node->in[0];
    const int64_t rows = vg_shape_rows(&dz->shape), n = vg_shape_last(&dz->shape), chunks = space->chunks,
                  of_chunk = rows / chunks, left = rows % chunks;
    const bool add = node->accumulate && product == node->out[0].data;
    bool summed = false, left_summed = true;
    if (product) {
        if (is_padded(&node->in[1])) vg_cuda_pad_rows(stream, &node->in[1], space->x);
        VG_TRY(multiply_chunks(stream, node, space, 0, of_chunk, chunks, add, product, sums, &summed));
        if (left > 0)
            VG_TRY(multiply_chunks(stream, node, space, rows - left, left, 1, false,
                                   product + chunks * n * space->width, sums ? sums + chunks * n : NULL, &left_summed));
    }
    *sum_parts = summed && left_summed ? (int)space->parts : 1;
    if (sums && !(summed && left_summed)) sum_rows_of(stream, dz, sums, space->partial);
    return VG_OK;
}

static void finish(vg_stream *stream, const vg_node *node, const struct dw_space *space, const float *product,
                   const float *sums, int sum_parts)
{
    const vg_operand *in = node->in, *out = node->out;
    struct dw_args p = {};
    p.product = product;
    p.sums = sums;
    p.w = (const float *)in[2].data;
    p.b = (const float *)in[3].data;
    p.gamma = (const float *)in[4].data;
    p.dw = (float *)out[0].data;
    p.db = (float *)out[1].data;
    p.dgamma = (float *)out[2].data;
    p.rows = vg_shape_last(&in[0].shape);
    p.width = (int)vg_shape_last(&in[1].shape);
    p.stride = (int)space->width;
    p.parts = (int)space->parts;
    p.sum_parts = sum_parts;
    p.accumulate = node->accumulate;
    p.wide = is_wide(p.width | p.stride, p.product, p.w, p.dw);
    LAUNCH(finish_dw, (unsigned)p.rows, WEIGHT_THREADS, 0, vg_cuda_queue(stream), p);
}

extern "C" vg_status vg_cuda_linear_dw(vg_stream *stream, const vg_node *node)
{
    const bool gamma = node->in[4].data, b = node->in[3].data;
    float *dw = (float *)node->out[0].data, *db = (float *)node->out[1].data, *dgamma = (float *)node->out[2].data;
    struct dw_space space;
    dw_space_of(node, &space);
    const bool finished = gamma || (dw && (space.parts > 1 || is_padded(&node->in[1]))); /* by a pass over G */
    float *product = !dw && !dgamma ? NULL : finished ? space.product : dw;
    float *sums = !db && !(dgamma && b) ? NULL : finished || node->accumulate ? space.sums : db;
    int sum_parts = 1;
    VG_TRY(multiply(stream, node, &space, product, sums, &sum_parts));
    if (finished)
        finish(stream, node, &space, product, sums, sum_parts);
    else if (sums && sums != db)
        add_to(stream, db, sums, vg_shape_last(&node->in[0].shape));
    return VG_CUDA_LAUNCHED("linear_dw");
}
