/* Queries of all heads as rows of one wide head, and back: a product per head, too small for more than one thread. */
#include "kernels/cpu/cpu_impl.h"
#include "kernels/cpu/gemm_impl.h"
#include "kernels/heads_impl.h"

/* The product of head 0, and how far its operands are from those of the next. */
typedef struct head_product {
    vg_gemm first;
    int64_t a, b, c;
} head_product;

static head_product product(const vg_node *node)
{
    const vg_operand *in = node->in;
    const vg_heads_sizes s = vg_heads_sizes_of(node);
    const int64_t narrow = s.heads * s.size, wide = s.heads * s.width, weights = s.size * s.width;
    vg_gemm g = {.m = s.n, .n = s.width, .k = s.size, .a = in[0].data, .b = in[1].data, .finish.c = node->out[0].data};
    if (node->op == VG_OP_heads_expand) {
        g.a_row = narrow;
        g.a_step = g.b_column = 1;
        g.b_step = s.width;
        g.finish.c_row = wide;
        return (head_product){g, s.size, weights, s.width};
    }
    if (node->op == VG_OP_heads_contract) {
        g.n = s.size;
        g.k = s.width;
        g.a_row = wide;
        g.a_step = g.b_step = 1;
        g.b_column = s.width;
        g.finish.c_row = narrow;
        return (head_product){g, s.width, weights, s.size};
    }
    g.m = s.size;
    g.k = s.n;
    g.a_step = narrow;
    g.a_row = g.b_column = 1;
    g.b_step = wide;
    return (head_product){g, s.size, s.width, weights};
}

/* Floats of one thread. */
static size_t scratch_of(const head_product *p)
{
    return vg_round_up(vg_gemm_workspace(&p->first, 1), 64) / sizeof(float);
}

static size_t sums_of(const vg_node *node)
{
    const vg_heads_sizes s = vg_heads_sizes_of(node);
    return node->op == VG_OP_heads_dw ? vg_round_up((size_t)(s.heads * s.size), 16) : 0;
}

size_t vg_cpu_heads_workspace(const vg_node *node, int n_threads)
{
    const head_product p = product(node);
    return (sums_of(node) + (size_t)n_threads * scratch_of(&p)) * sizeof(float);
}

/* What a head does with its bias before its product; or NULL. */
typedef void bias_part(const vg_node *node, vg_heads_sizes s, int64_t h);

/* With `add`, products go to what is there. */
static void run_heads(const vg_stream *stream, const vg_node *node, bias_part *of_bias, bool add)
{
    const vg_heads_sizes s = vg_heads_sizes_of(node);
    const head_product p = product(node);
    const size_t scratch = scratch_of(&p);
    const vg_stream alone = {.n_threads = 1};
    const int64_t work = s.n * s.size * s.width;
    float *workspace = (float *)node->workspace + sums_of(node);
#pragma omp parallel for num_threads(stream->n_threads) if (work > VG_CPU_FEW) schedule(static)
    for (int64_t h = 0; h < s.heads; h++) {
        if (of_bias) of_bias(node, s, h);
        if (!node->out[0].data) continue;
        vg_gemm g = p.first;
        g.a += h * p.a;
        g.b += h * p.b;
        g.finish.c += h * p.c;
        g.finish.add = add ? g.finish.c : NULL;
        vg_gemm_run(&alone, &g, workspace + (size_t)vg_cpu_thread() * scratch);
    }
}

/* shares = x bias, row-major in queries and heads, as x is. */
static void share_of_bias(const vg_node *node, vg_heads_sizes s, int64_t h)
{
    const float *x = node->in[0].data, *bias = (const float *)node->in[2].data + h * s.size;
    float *shares = node->out[1].data;
    for (int64_t i = h; i < s.n * s.heads; i += s.heads) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t d = 0; d < s.size; d++) sum += x[i * s.size + d] * bias[d];
        shares[i] = sum;
    }
}

vg_status vg_cpu_heads_expand(vg_stream *stream, const vg_node *node)
{
    run_heads(stream, node, node->out[1].data ? share_of_bias : NULL, false);
    return VG_OK;
}

/* y = bias, times the row's sum where there is one. */
static void start_from_bias(const vg_node *node, vg_heads_sizes s, int64_t h)
{
    const float *bias = (const float *)node->in[2].data + h * s.size, *sums = node->in[3].data;
    float *y = node->out[0].data;
    for (int64_t i = h; i < s.n * s.heads; i += s.heads) {
        const float sum = sums ? sums[i] : 1.0F;
#pragma omp simd
        for (int64_t d = 0; d < s.size; d++) y[i * s.size + d] = sum * bias[d];
    }
}

vg_status vg_cpu_heads_contract(vg_stream *stream, const vg_node *node)
{
    const bool has_bias = node->in[2].data != NULL;
    run_heads(stream, node, has_bias ? start_from_bias : NULL, has_bias);
    return VG_OK;
}

/* db, by way of sums in the workspace: rows in order, then what was there. */
static void bias_gradient(const vg_node *node, vg_heads_sizes s, int64_t h)
{
    const float *a = node->in[0].data, *sums = node->in[2].data;
    float *db = (float *)node->out[1].data + h * s.size, *total = (float *)node->workspace + h * s.size;
    for (int64_t d = 0; d < s.size; d++) total[d] = 0;
    for (int64_t i = h; i < s.n * s.heads; i += s.heads) {
        const float factor = sums ? sums[i] : 1.0F;
#pragma omp simd
        for (int64_t d = 0; d < s.size; d++) total[d] += factor * a[i * s.size + d];
    }
    for (int64_t d = 0; d < s.size; d++) db[d] = node->accumulate ? db[d] + total[d] : total[d];
}

vg_status vg_cpu_heads_dw(vg_stream *stream, const vg_node *node)
{
    run_heads(stream, node, node->out[1].data ? bias_gradient : NULL, node->accumulate);
    return VG_OK;
}
