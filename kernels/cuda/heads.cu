/* Queries of all heads as rows of one wide head, and back: a product per head, by cuBLASLt, all heads at once; and what
 * the bias of the heads' values takes, in small passes. */
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/rows.h"
#include "kernels/heads_impl.h"

/* --- the bias ----------------------------------------------------------------------------------------------------- */

/* Row i of x or y belongs to head i % heads. */
struct bias_args {
    const float *b;    /* [H*D] */
    const float *s_in; /* [n*H]; NULL: all 1 */
    const void *x;     /* [n*H,D], of fp32 or bf16 */
    void *y;           /* likewise */
    float *s_out;      /* [n*H] */
    int64_t rows;      /* n*H */
    int heads, size;
    bool bf16;
};

template <class T> static __device__ void spread_row(const struct bias_args &p, int64_t row)
{
    const float s = p.s_in ? p.s_in[row] : 1.0F, *b = p.b + row % p.heads * p.size;
    T *y = (T *)p.y + row * p.size;
    for (int d = lane_of_warp(); d < p.size; d += WARP) store<1>(y + d, pack<1>{{s * b[d]}});
}

/* y_h = s_h b_h, a warp a row of a head. Memory bound: y is written once. */
KERNEL(ROW_THREADS) void heads_spread_bias(const struct bias_args p)
{
    const int64_t row = row_of_warp();
    if (row >= p.rows) return;
    p.bf16 ? spread_row<bf16>(p, row) : spread_row<float>(p, row);
}
KERNEL_ENTRY(heads_spread_bias, struct bias_args)

template <class T> static __device__ float bias_product(const struct bias_args &p, int64_t row)
{
    const float *b = p.b + row % p.heads * p.size;
    const T *x = (const T *)p.x + row * p.size;
    float sum = 0.0F;
    for (int d = lane_of_warp(); d < p.size; d += WARP) sum += load<1>(x + d).v[0] * b[d];
    return warp_sum(sum);
}

/* s_h = <x_h, b_h>, a warp a row of a head. Memory bound: x is read once. */
KERNEL(ROW_THREADS) void heads_bias_products(const struct bias_args p)
{
    const int64_t row = row_of_warp();
    if (row >= p.rows) return;
    const float s = p.bf16 ? bias_product<bf16>(p, row) : bias_product<float>(p, row);
    if (lane_of_warp() == 0) p.s_out[row] = s;
}
KERNEL_ENTRY(heads_bias_products, struct bias_args)

static struct bias_args bias_args_of(const vg_heads_sizes &s, const vg_operand *typed)
{
    struct bias_args p = {};
    p.rows = s.n * s.heads;
    p.heads = (int)s.heads;
    p.size = (int)s.size;
    p.bf16 = is_bf16(typed);
    return p;
}

/* --- the products ------------------------------------------------------------------------------------------------- */

static vg_matmul product_of(const vg_node *node, const vg_heads_sizes &s)
{
    vg_matmul product = {};
    product.factors = node->in[0].dtype;
    product.sums = node->out[0].dtype;
    product.a = node->in[0].data;
    product.b = node->in[1].data;
    product.d = node->out[0].data;
    product.batch = s.heads;
    return product;
}

/* Rows of heads side by side; rows of a head below each other; the rows of W. */
static vg_matmul_rows narrow_rows(const vg_heads_sizes &s)
{
    return {s.heads * s.size, s.size};
}

static vg_matmul_rows wide_rows(const vg_heads_sizes &s)
{
    return {s.heads * s.width, s.width};
}

static vg_matmul_rows weight_rows(const vg_heads_sizes &s)
{
    return {s.width, s.size * s.width};
}

extern "C" vg_status vg_cuda_heads_expand(vg_stream *stream, const vg_node *node)
{
    const vg_heads_sizes s = vg_heads_sizes_of(node);
    vg_matmul product = product_of(node, s);
    product.m = s.n;
    product.n = s.width;
    product.k = s.size;
    product.a_rows = narrow_rows(s);
    product.b_rows = weight_rows(s);
    product.d_rows = wide_rows(s);
    VG_TRY(vg_cuda_matmul(stream, &product, node->workspace, NULL));
    if (node->out[1].data) {
        struct bias_args p = bias_args_of(s, &node->in[0]);
        p.b = (const float *)node->in[2].data;
        p.x = node->in[0].data;
        p.s_out = (float *)node->out[1].data;
        LAUNCH(heads_bias_products, blocks_for(p.rows, ROW_WARPS), ROW_THREADS, 0, vg_cuda_queue(stream), p);
    }
    return VG_CUDA_LAUNCHED("heads_expand");
}

extern "C" vg_status vg_cuda_heads_contract(vg_stream *stream, const vg_node *node)
{
    const vg_heads_sizes s = vg_heads_sizes_of(node);
    vg_matmul product = product_of(node, s);
    product.m = s.n;
    product.n = s.size;
    product.k = s.width;
    product.b_transposed = true;
    product.a_rows = wide_rows(s);
    product.b_rows = weight_rows(s);
    product.d_rows = narrow_rows(s);
    if (node->in[2].data) {
        struct bias_args p = bias_args_of(s, &node->out[0]);
        p.b = (const float *)node->in[2].data;
        p.s_in = (const float *)node->in[3].data;
        p.y = node->out[0].data;
        LAUNCH(heads_spread_bias, blocks_for(p.rows, ROW_WARPS), ROW_THREADS, 0, vg_cuda_queue(stream), p);
        product.c = p.y;
    }
    VG_TRY(vg_cuda_matmul(stream, &product, node->workspace, NULL));
    return VG_CUDA_LAUNCHED("heads_contract");
}

extern "C" size_t vg_cuda_heads_workspace(const vg_node *node)
{
    const vg_heads_sizes s = vg_heads_sizes_of(node);
    if (node->op != VG_OP_heads_dw || !node->out[1].shape.rank) return VG_MATMUL_WORKSPACE_BYTES;
    return VG_MATMUL_WORKSPACE_BYTES + vg_cuda_column_sums_workspace(s.n, s.heads * s.size);
}

/* db = the sums of the rows of s a. */
static void sum_bias(vg_stream *stream, const vg_node *node, const vg_heads_sizes &s)
{
    vg_column_sums sums = {};
    sums.x = node->in[0].data;
    sums.bf16 = is_bf16(&node->in[0]);
    sums.n = s.n;
    sums.columns = sums.stride = sums.split = s.heads * s.size;
    sums.out = (float *)node->out[1].data;
    sums.scale = (const float *)node->in[2].data;
    sums.scaled = s.size;
    sums.accumulate = node->accumulate;
    vg_cuda_column_sums(stream, &sums, (unsigned char *)node->workspace + VG_MATMUL_WORKSPACE_BYTES);
}

extern "C" vg_status vg_cuda_heads_dw(vg_stream *stream, const vg_node *node)
{
    const vg_heads_sizes s = vg_heads_sizes_of(node);
    vg_matmul product = product_of(node, s);
    product.m = s.size;
    product.n = s.width;
    product.k = s.n;
    product.a_transposed = true;
    product.a_rows = narrow_rows(s);
    product.b_rows = wide_rows(s);
    product.d_rows = weight_rows(s);
    product.c = node->accumulate ? product.d : NULL;
    if (product.d) VG_TRY(vg_cuda_matmul(stream, &product, node->workspace, NULL));
    if (node->out[1].data) sum_bias(stream, node, s);
    return VG_CUDA_LAUNCHED("heads_dw");
}
