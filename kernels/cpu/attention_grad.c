#include "kernels/cpu/attention_impl.h"

#include <math.h>
#include <string.h>

typedef struct attn_grad {
    vg_attn a;
    const float *d_o, *o, *lse;
    vg_heads dq, dk, dv, dk2, dv2;
    float *dbias;
} attn_grad;

size_t vg_cpu_attention_grad_workspace(const vg_node *node, int n_threads)
{
    (void)node, (void)n_threads;
    return 0;
}

static vg_heads like(const vg_heads *x, const vg_operand *out)
{
    return (vg_heads){.data = out->data, .stride = x->stride, .column = x->column};
}

static float dot(const float *x, const float *y, int64_t n)
{
    float sum = 0.0F;
    for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

static void add_scaled(float *y, float w, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += w * x[i];
}

static float keep(const vg_attn *a, int64_t slot, int64_t row, int64_t j)
{
    if (!a->rng) return 1.0F;
    const uint32_t *key = a->rng + 4 * slot;
    const uint64_t e = (uint64_t)row * vg_round_up((size_t)a->keys, 4) + (uint64_t)j;
    uint32_t word[4];
    vg_rng_block(a->rng_key, key[2] | (uint64_t)key[3] << 32, key[1], (uint32_t)(e / 4), word);
    return vg_uniform(word[e % 4]) >= a->dropout ? a->keep_scale : 0.0F;
}

static float *row_or_null(const vg_heads *x, int64_t item, int64_t rows, int64_t row, int64_t head, int64_t size)
{
    return x->data ? vg_heads_row(x, item, rows, row, head, size) : NULL;
}

static void clear_rows(const vg_heads *x, int64_t item, int64_t rows, int64_t head, int64_t size)
{
    for (int64_t r = 0; x->data && r < rows; r++)
        memset(vg_heads_row(x, item, rows, r, head, size), 0, (size_t)size * sizeof(float));
}

static void query_grad(const attn_grad *g, int64_t b, int64_t h, int64_t i)
{
    const vg_attn *a = &g->a;
    const vg_attn_seen seen = vg_attn_seen_by(a, b);
    const int64_t row = h * a->n_queries + i, size = a->size, image = vg_cpu_image_of(a->index, b);
    const int64_t at = ((b * a->n_queries + i) * a->heads + h) * size;
    const float *q = vg_heads_row(&a->q, b, a->n_queries, i, h, size), *d_o = g->d_o + at;
    const float delta = dot(d_o, g->o + at, size), lse = g->lse[b * a->heads * a->n_queries + row];
    float *dq = row_or_null(&g->dq, b, a->n_queries, i, h, size);
    for (int64_t j = 0; j < a->keys; j++) {
        const bool one = j < a->n_first;
        const int64_t item = one ? image : b, rows = one ? a->n_first : a->n_second, r = one ? j : j - a->n_first;
        if (r >= (one ? seen.first : seen.second)) continue;
        const float *k = vg_heads_row(one ? &a->k : &a->k2, item, rows, r, h, size);
        const float *v = vg_heads_row(one ? &a->v : &a->v2, item, rows, r, h, size);
        float *dk = row_or_null(one ? &g->dk : &g->dk2, item, rows, r, h, size);
        float *dv = row_or_null(one ? &g->dv : &g->dv2, item, rows, r, h, size);
        const float bias = a->bias ? a->bias[row * a->keys + j] : 0.0F, kept = keep(a, b, row, j);
        const float p = expf(a->scale * dot(q, k, size) + bias - lse), ds = p * (dot(d_o, v, size) * kept - delta);
        if (dv) add_scaled(dv, p * kept, d_o, size);
        if (dq) add_scaled(dq, ds * a->scale, k, size);
        if (dk) add_scaled(dk, ds * a->scale, q, size);
        if (g->dbias) g->dbias[row * a->keys + j] += ds;
    }
}

static void image_grad(const attn_grad *g, int64_t image, int64_t h)
{
    const vg_attn *a = &g->a;
    clear_rows(&g->dk, image, a->n_first, h, a->size);
    clear_rows(&g->dv, image, a->n_first, h, a->size);
    for (int64_t b = 0; b < a->slots; b++) {
        if (vg_cpu_image_of(a->index, b) != image) continue;
        clear_rows(&g->dq, b, a->n_queries, h, a->size);
        clear_rows(&g->dk2, b, a->n_second, h, a->size);
        clear_rows(&g->dv2, b, a->n_second, h, a->size);
        for (int64_t i = 0; i < a->n_queries; i++) query_grad(g, b, h, i);
    }
}

vg_status vg_cpu_attention_grad(vg_stream *stream, const vg_node *node)
{
    attn_grad g = {
        .d_o = node->in[0].data, .o = node->in[10].data, .lse = node->in[11].data, .dbias = node->out[5].data};
    VG_TRY(vg_attn_of(node, 1, &g.a));
    VG_TRY(vg_cpu_check_index(g.a.index, g.a.slots, g.a.images));
    g.dq = like(&g.a.q, &node->out[0]);
    g.dk = like(&g.a.k, &node->out[1]);
    g.dv = like(&g.a.v, &node->out[2]);
    g.dk2 = like(&g.a.k2, &node->out[3]);
    g.dv2 = like(&g.a.v2, &node->out[4]);
    const int64_t row = g.a.n_queries * g.a.keys;
    /* The bias is shared by all slots, so with its gradient a head's images are one thread's work. */
    const int64_t groups = g.dbias ? 1 : g.a.images, per_group = g.dbias ? g.a.images : 1;
#pragma omp parallel for num_threads(stream->n_threads) collapse(2)
    for (int64_t group = 0; group < groups; group++)
        for (int64_t h = 0; h < g.a.heads; h++) {
            if (g.dbias) memset(g.dbias + h * row, 0, (size_t)row * sizeof(float));
            for (int64_t i = 0; i < per_group; i++) image_grad(&g, group * per_group + i, h);
        }
    return VG_OK;
}
