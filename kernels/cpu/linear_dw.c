/* G = dz^T x over the rows in order. Without gamma it goes straight to dW; with gamma it waits in the workspace, since
 * dgamma needs it as it is. */
#include "kernels/cpu/ragged_impl.h"

enum { DZ, X, W, BIAS, GAMMA, COUNTS };

typedef struct weights {
    int64_t n_rows, n, k; /* rows of dz and x; dz has n columns, x has k */
    const float *dz, *x, *w, *b, *gamma;
    float *dw, *db, *dgamma;
    bool accumulate;
    float *sums;    /* [n] column sums of dz */
    float *product; /* G [n,k], where it is kept */
} weights;

static weights weights_of(const vg_node *node)
{
    const vg_operand *in = node->in, *out = node->out;
    return (weights){.n_rows = vg_shape_rows(&in[DZ].shape),
                     .n = vg_shape_last(&in[DZ].shape),
                     .k = vg_shape_last(&in[X].shape),
                     .dz = in[DZ].data,
                     .x = in[X].data,
                     .w = in[W].data,
                     .b = in[BIAS].data,
                     .gamma = in[GAMMA].data,
                     .dw = out[0].data,
                     .db = out[1].data,
                     .dgamma = out[2].data,
                     .accumulate = node->accumulate};
}

static vg_gemm product(const weights *w)
{
    return (vg_gemm){.m = w->n,
                     .n = w->k,
                     .k = w->n_rows,
                     .a = w->dz,
                     .a_row = 1,
                     .a_step = w->n,
                     .a_sums = w->sums,
                     .b = w->x,
                     .b_column = 1,
                     .b_step = w->k};
}

static size_t sums_bytes(const weights *w)
{
    return vg_round_up((size_t)w->n * sizeof(float), 64);
}

size_t vg_cpu_linear_dw_workspace(const vg_node *node, int n_threads)
{
    const weights w = weights_of(node);
    const vg_gemm g = product(&w);
    const bool has_gamma = node->in[GAMMA].shape.rank > 0;
    const size_t product_bytes = has_gamma ? vg_round_up((size_t)(w.n * w.k) * sizeof(float), 64) : 0;
    return sums_bytes(&w) + product_bytes + vg_ragged_workspace(&g, &node->in[DZ], &node->in[COUNTS], n_threads);
}

/* Column sums, rows in order: what packing does on the way when there is a product. */
static void column_sums(const weights *w)
{
    for (int64_t j = 0; j < w->n; j++) w->sums[j] = 0;
    for (int64_t i = 0; i < w->n_rows; i++)
#pragma omp simd
        for (int64_t j = 0; j < w->n; j++) w->sums[j] += w->dz[i * w->n + j];
}

static void put(float *where, float value, bool accumulate)
{
    *where = accumulate ? *where + value : value;
}

/* <w[i], G[i]>: sixteen partial sums, then those in order. */
static float row_dot(const float *a, const float *b, int64_t k)
{
    enum { LANES = 16 };
    float sums[LANES] = {0}, total = 0;
    int64_t j = 0;
    for (; j + LANES <= k; j += LANES)
        for (int l = 0; l < LANES; l++) sums[l] += a[j + l] * b[j + l];
    for (int l = 0; j + l < k; l++) sums[l] += a[j + l] * b[j + l];
    for (int l = 0; l < LANES; l++) total += sums[l];
    return total;
}

/* Output i of a layer with gamma, from its row of G and its sum. */
static void scale_row(const weights *w, int64_t i)
{
    const float *g = w->product + i * w->k, gamma = w->gamma[i];
    float *dw = w->dw + i * w->k;
    if (w->dgamma) {
        const float bias = w->b ? w->b[i] * w->sums[i] : 0.0F;
        put(w->dgamma + i, row_dot(w->w + i * w->k, g, w->k) + bias, w->accumulate);
    }
    if (w->dw && w->accumulate)
#pragma omp simd
        for (int64_t j = 0; j < w->k; j++) dw[j] += gamma * g[j];
    else if (w->dw)
#pragma omp simd
        for (int64_t j = 0; j < w->k; j++) dw[j] = gamma * g[j];
}

/* Rows of padding are left out, where there are others. */
static void run_product(const vg_stream *stream, const vg_node *node, const weights *w, unsigned char *memory)
{
    const vg_operand *dz = &node->in[DZ], *counts = &node->in[COUNTS];
    vg_gemm g = product(w);
    g.finish.c = w->gamma ? w->product : w->dw;
    g.finish.add = w->accumulate && !w->gamma ? w->dw : NULL;
    if (counts->data) g.n_steps = vg_ragged_rows(dz, counts, (int32_t *)memory);
    if (g.n_steps) g.steps = (int32_t *)memory;
    vg_gemm_run(stream, &g, memory + vg_ragged_bytes(dz, counts));
}

vg_status vg_cpu_linear_dw(vg_stream *stream, const vg_node *node)
{
    weights w = weights_of(node);
    unsigned char *memory = node->workspace;
    w.sums = (float *)memory;
    memory += sums_bytes(&w);
    const bool wants_product = w.dw || w.dgamma;
    if (w.gamma && wants_product) {
        w.product = (float *)memory;
        memory += vg_round_up((size_t)(w.n * w.k) * sizeof(float), 64);
    }
    if (wants_product)
        run_product(stream, node, &w, memory);
    else
        column_sums(&w);
    for (int64_t i = 0; w.db && i < w.n; i++) put(w.db + i, w.gamma ? w.gamma[i] * w.sums[i] : w.sums[i], w.accumulate);
    if (!w.product) return VG_OK;
#pragma omp parallel for num_threads(stream->n_threads) if (stream->n_threads > 1) schedule(static)
    for (int64_t i = 0; i < w.n; i++) scale_row(&w, i);
    return VG_OK;
}
