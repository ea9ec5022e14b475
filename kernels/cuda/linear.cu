/* The linear layer and its gradients: a product by cuBLASLt with what its epilogue can do exactly (bias, relu, the sum
 * with a residual or another gradient, sums of dz), and small passes for the rest:
 * - gamma is multiplied into the rows of W and into b before the product. That costs N * K numbers, where a pass over
 *   the result would cost rows * N, and leaves the residual to the epilogue.
 * - gelu and sigmoid are passes over z: the library's gelu is the tanh approximation, ours is exact.
 * - with gamma, the gradient of W waits in the workspace, since dgamma needs it as it is. */
#include "kernels/cuda/activation.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/rows.h"

/* --- gamma and the weight ----------------------------------------------------------------------------------------- */

struct scale_args {
    const float *w, *b, *gamma; /* [N,K], [N] or NULL, [N] */
    float *scaled_w, *scaled_b;
    int64_t rows;
    int width;
    bool wide;
};

template <int W> static __device__ void scale_row(const struct scale_args &p, int64_t row)
{
    const float gamma = p.gamma[row];
    for (int c = lane_of_warp() * W; c < p.width; c += WARP * W) {
        pack<W> w = load<W>(p.w + row * p.width + c);
        for (int i = 0; i < W; i++) w.v[i] *= gamma;
        store<W>(p.scaled_w + row * p.width + c, w);
    }
    if (p.b && lane_of_warp() == 0) p.scaled_b[row] = p.b[row] * gamma;
}

/* A warp scales a row of W. Memory bound: 8 * N * K bytes. */
KERNEL(ROW_THREADS) void scale_weight(const struct scale_args p)
{
    const int64_t row = row_of_warp();
    if (row >= p.rows) return;
    p.wide ? scale_row<4>(p, row) : scale_row<1>(p, row);
}
KERNEL_ENTRY(scale_weight, struct scale_args)

static size_t floats_bytes(int64_t n)
{
    return vg_round_up((size_t)n * sizeof(float), 64);
}

static size_t scaled_bytes(const vg_operand *w, const vg_operand *gamma)
{
    return gamma->shape.rank ? floats_bytes(w->shape.dim[0] * w->shape.dim[1]) + floats_bytes(w->shape.dim[0]) : 0;
}

/* Puts gamma W and gamma b into the workspace behind that of the product; without gamma, W and b are as they are. */
static void scaled(vg_stream *stream, const vg_node *node, const float **w, const float **b, const float *gamma)
{
    if (!gamma) return;
    const vg_shape *shape = &node->in[1].shape;
    struct scale_args p = {};
    p.w = *w;
    p.b = *b;
    p.gamma = gamma;
    p.rows = shape->dim[0];
    p.width = (int)shape->dim[1];
    p.scaled_w = (float *)((unsigned char *)node->workspace + VG_MATMUL_WORKSPACE_BYTES);
    p.scaled_b = (float *)((unsigned char *)p.scaled_w + floats_bytes(p.rows * p.width));
    p.wide = is_wide(p.width, p.w, p.scaled_w);
    LAUNCH(scale_weight, blocks_for(p.rows, ROW_WARPS), ROW_THREADS, 0, vg_cuda_queue(stream), p);
    *w = p.scaled_w;
    if (p.b) *b = p.scaled_b;
}

/* --- forward ------------------------------------------------------------------------------------------------------ */

extern "C" size_t vg_cuda_linear_workspace(const vg_node *node)
{
    return VG_MATMUL_WORKSPACE_BYTES + scaled_bytes(&node->in[1], &node->in[3]);
}

extern "C" vg_status vg_cuda_linear(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in;
    const vg_act act = node->attr.linear.act;
    float *y = (float *)node->out[0].data, *z = (float *)node->out[1].data;
    vg_matmul product = {};
    product.m = vg_shape_rows(&in[0].shape);
    product.n = in[1].shape.dim[0];
    product.k = in[1].shape.dim[1];
    product.a = (const float *)in[0].data;
    product.b = (const float *)in[1].data;
    product.bias = (const float *)in[2].data;
    product.c = (const float *)in[4].data;
    product.d = z ? z : y;
    product.b_transposed = true;
    product.relu = act == VG_ACT_RELU;
    scaled(stream, node, &product.b, &product.bias, (const float *)in[3].data);
    VG_TRY(vg_cuda_matmul(stream, &product, node->workspace, NULL));
    if (act == VG_ACT_GELU || act == VG_ACT_SIGMOID) vg_cuda_activate(stream, act, product.d, y, product.m * product.n);
    return VG_CUDA_LAUNCHED("linear");
}

/* --- the gradient of x -------------------------------------------------------------------------------------------- */

extern "C" size_t vg_cuda_linear_dx_workspace(const vg_node *node)
{
    return VG_MATMUL_WORKSPACE_BYTES + scaled_bytes(&node->in[1], &node->in[2]);
}

extern "C" vg_status vg_cuda_linear_dx(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in;
    vg_matmul product = {};
    product.m = vg_shape_rows(&in[0].shape);
    product.n = in[1].shape.dim[1];
    product.k = in[1].shape.dim[0];
    product.a = (const float *)in[0].data;
    product.b = (const float *)in[1].data;
    product.c = (const float *)in[3].data;
    product.d = (float *)node->out[0].data;
    const float *no_bias = NULL;
    scaled(stream, node, &product.b, &no_bias, (const float *)in[2].data);
    VG_TRY(vg_cuda_matmul(stream, &product, node->workspace, NULL));
    return VG_CUDA_LAUNCHED("linear_dx");
}

/* --- the gradients of the parameters ------------------------------------------------------------------------------ */

struct dw_args {
    const float *product, *w, *b, *gamma, *sums; /* G [N,K]; [N,K]; [N] each. All but gamma may be NULL */
    float *dw, *db, *dgamma;                     /* any may be NULL */
    int64_t rows;
    int width;
    bool wide, accumulate;
};

static __forceinline__ __device__ void put(float *to, float x, bool accumulate)
{
    *to = accumulate ? *to + x : x;
}

/* Row n of dW, and <W[n], G[n]> where dgamma wants it. */
template <int W> static __device__ float dw_row(const struct dw_args &p, int64_t row)
{
    const float gamma = p.gamma[row];
    float along = 0;
    for (int c = lane_of_warp() * W; c < p.width; c += WARP * W) {
        const int64_t at = row * p.width + c;
        pack<W> g = load<W>(p.product + at);
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

/* Outputs of a layer with gamma, a warp each, from its row of G and its sum of dz. Memory bound: G and W are read and
 * dW written once; 12 * N * K bytes. */
KERNEL(ROW_THREADS, 4) void finish_dw(const struct dw_args p)
{
    const int64_t row = row_of_warp();
    if (row >= p.rows) return;
    const float along = !p.product ? 0.0F : p.wide ? dw_row<4>(p, row) : dw_row<1>(p, row);
    if (lane_of_warp() > 0) return;
    if (p.db) put(p.db + row, p.gamma[row] * p.sums[row], p.accumulate);
    if (p.dgamma) put(p.dgamma + row, along + (p.b ? p.b[row] * p.sums[row] : 0.0F), p.accumulate);
}
KERNEL_ENTRY(finish_dw, struct dw_args)

/* Where things lie in the workspace behind that of the product. */
struct dw_space {
    float *sums, *product; /* [N], [N,K] */
    void *partial;         /* of the column sums */
};

static size_t dw_space_of(const vg_node *node, struct dw_space *out)
{
    const int64_t rows = vg_shape_rows(&node->in[0].shape), n = vg_shape_last(&node->in[0].shape);
    unsigned char *memory = (unsigned char *)node->workspace;
    size_t at = VG_MATMUL_WORKSPACE_BYTES;
    out->sums = (float *)(memory + at);
    at += floats_bytes(n);
    out->product = (float *)(memory + at);
    if (node->in[4].shape.rank) at += floats_bytes(n * vg_shape_last(&node->in[1].shape));
    out->partial = memory + at;
    return at + vg_cuda_column_sums_workspace(rows, n);
}

extern "C" size_t vg_cuda_linear_dw_workspace(const vg_node *node)
{
    struct dw_space space;
    return dw_space_of(node, &space);
}

/* to [columns] = (or, where it is added to, +=) the sum of the rows of x. */
static void sum_rows_of(vg_stream *stream, const float *x, int64_t rows, int64_t columns, float *to, bool accumulate,
                        void *partial)
{
    vg_column_sums sums = {};
    sums.x = x;
    sums.n = rows;
    sums.stride = sums.columns = sums.split = columns;
    sums.out = to;
    sums.accumulate = accumulate;
    vg_cuda_column_sums(stream, &sums, partial);
}

/* G = dz^T x into `product`, added to what is there where that is dW and node->accumulate; sums of dz into `sums`.
 * Either may be NULL. */
static vg_status multiply(vg_stream *stream, const vg_node *node, float *product, float *sums, void *partial)
{
    const vg_operand *dz = &node->in[0], *x = &node->in[1];
    vg_matmul g = {};
    g.m = vg_shape_last(&dz->shape);
    g.n = vg_shape_last(&x->shape);
    g.k = vg_shape_rows(&dz->shape);
    g.a = (const float *)dz->data;
    g.b = (const float *)x->data;
    g.a_transposed = true;
    g.c = node->accumulate && product == node->out[0].data ? product : NULL;
    g.d = product;
    g.a_sums = sums;
    bool summed = false;
    if (product) VG_TRY(vg_cuda_matmul(stream, &g, node->workspace, &summed));
    if (sums && !summed) sum_rows_of(stream, g.a, g.k, g.m, sums, false, partial);
    return VG_OK;
}

static void finish(vg_stream *stream, const vg_node *node, const float *product, const float *sums)
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
    p.accumulate = node->accumulate;
    p.wide = is_wide(p.width, p.product, p.w, p.dw);
    LAUNCH(finish_dw, blocks_for(p.rows, ROW_WARPS), ROW_THREADS, 0, vg_cuda_queue(stream), p);
}

extern "C" vg_status vg_cuda_linear_dw(vg_stream *stream, const vg_node *node)
{
    const bool gamma = node->in[4].data, b = node->in[3].data;
    float *dw = (float *)node->out[0].data, *db = (float *)node->out[1].data, *dgamma = (float *)node->out[2].data;
    struct dw_space space;
    dw_space_of(node, &space);
    float *product = gamma && (dw || dgamma) ? space.product : dw;
    float *sums = !db && !(dgamma && b) ? NULL : gamma || node->accumulate ? space.sums : db;
    VG_TRY(multiply(stream, node, product, sums, space.partial));
    if (gamma)
        finish(stream, node, product, sums);
    else if (sums && sums != db)
        sum_rows_of(stream, sums, 1, vg_shape_last(&node->in[0].shape), db, true, NULL);
    return VG_CUDA_LAUNCHED("linear_dw");
}
