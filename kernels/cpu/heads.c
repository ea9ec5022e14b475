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
    return ((size_t)n_threads * scratch_of(&p) + sums_of(node)) * sizeof(float);
}

/* With `add`, to what is there. */
static void run_heads(const vg_stream *stream, const vg_node *node, bool add)
{
    const head_product p = product(node);
    const size_t scratch = scratch_of(&p);
    const vg_stream alone = {.n_threads = 1};
    const int64_t work = p.first.m * p.first.n * p.first.k;
#pragma omp parallel for num_threads(stream->n_threads) if (work > VG_CPU_FEW) schedule(dynamic)
    for (int64_t h = 0; h < node->attr.heads.heads; h++) {
        vg_gemm g = p.first;
        g.a += h * p.a;
        g.b += h * p.b;
        g.finish.c += h * p.c;
        g.finish.add = add ? g.finish.c : NULL;
        vg_gemm_run(&alone, &g, (float *)node->workspace + (size_t)vg_cpu_thread() * scratch);
    }
}

vg_status vg_cpu_heads_expand(vg_stream *stream, const vg_node *node)
{
    const vg_heads_sizes s = vg_heads_sizes_of(node);
    const float *x = node->in[0].data, *bias = node->in[2].data;
    float *shares = node->out[1].data; /* row-major in queries and heads, as x is */
    run_heads(stream, node, false);
    for (int64_t i = 0; shares && i < s.n * s.heads; i++, x += s.size) {
        const float *b = bias + i % s.heads * s.size;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t d = 0; d < s.size; d++) sum += x[d] * b[d];
        shares[i] = sum;
    }
    return VG_OK;
}

vg_status vg_cpu_heads_contract(vg_stream *stream, const vg_node *node)
{
    const vg_heads_sizes s = vg_heads_sizes_of(node);
    const float *bias = node->in[2].data, *sums = node->in[3].data;
    float *y = node->out[0].data;
    for (int64_t i = 0; bias && i < s.n * s.heads; i++, y += s.size) {
        const float sum = sums ? sums[i] : 1.0F, *b = bias + i % s.heads * s.size;
#pragma omp simd
        for (int64_t d = 0; d < s.size; d++) y[d] = sum * b[d];
    }
    run_heads(stream, node, bias != NULL);
    return VG_OK;
}

/* db, by way of sums in the workspace: rows in order, then what was there. */
static void bias_gradient(const vg_node *node, float *db, float *total)
{
    const vg_heads_sizes s = vg_heads_sizes_of(node);
    const float *a = node->in[0].data, *sums = node->in[2].data;
    for (int64_t j = 0; j < s.heads * s.size; j++) total[j] = 0;
    for (int64_t i = 0; i < s.n * s.heads; i++, a += s.size) {
        const float factor = sums ? sums[i] : 1.0F;
        float *here = total + i % s.heads * s.size;
#pragma omp simd
        for (int64_t d = 0; d < s.size; d++) here[d] += factor * a[d];
    }
    for (int64_t j = 0; j < s.heads * s.size; j++) db[j] = node->accumulate ? db[j] + total[j] : total[j];
}

vg_status vg_cpu_heads_dw(vg_stream *stream, const vg_node *node)
{
    const head_product p = product(node);
    float *db = node->out[1].data, *total = (float *)node->workspace + (size_t)stream->n_threads * scratch_of(&p);
    if (node->out[0].data) run_heads(stream, node, node->accumulate);
    if (db) bias_gradient(node, db, total);
    return VG_OK;
}
