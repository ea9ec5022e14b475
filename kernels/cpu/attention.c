#include "kernels/cpu/attention_impl.h"

#include <math.h>
#include <string.h>

static vg_heads heads_of(const vg_operand *x, int column)
{
    return (vg_heads){.data = x->data, .stride = vg_shape_last(&x->shape), .column = column};
}

vg_status vg_attn_of(const vg_node *node, int first, vg_attn *out)
{
    const vg_operand *in = node->in + first;
    const bool dropout = node->attr.attention.dropout > 0.0F;
    *out = (vg_attn){.q = heads_of(&in[0], node->attr.attention.q_col),
                     .k = heads_of(&in[1], node->attr.attention.k_col),
                     .v = heads_of(&in[2], node->attr.attention.v_col),
                     .k2 = heads_of(&in[3], node->attr.attention.k2_col),
                     .v2 = heads_of(&in[4], node->attr.attention.v2_col),
                     .counts = in[5].data,
                     .bias = in[6].data,
                     .index = &in[7],
                     .rng = dropout ? in[8].data : NULL,
                     .slots = in[0].shape.dim[0],
                     .images = in[1].shape.dim[0],
                     .n_queries = in[0].shape.dim[1],
                     .n_first = in[1].shape.dim[1],
                     .n_second = in[3].shape.rank == 3 ? in[3].shape.dim[1] : 0,
                     .heads = node->attr.attention.heads,
                     .size = node->attr.attention.head_size,
                     .scale = node->attr.attention.scale,
                     .dropout = node->attr.attention.dropout,
                     .keep_scale = 1.0F / (1.0F - node->attr.attention.dropout),
                     .rng_key = node->attr.attention.key,
                     .mask_second = node->attr.attention.mask_second};
    out->keys = out->n_first + out->n_second;
    VG_CHECK(!dropout || out->rng, VG_E_BUG, "attention with dropout needs the keys of its slots");
    return VG_OK;
}

static int64_t clamp_count(int64_t count, int64_t n)
{
    return count < 0 ? 0 : count < n ? count : n;
}

vg_attn_seen vg_attn_seen_by(const vg_attn *a, int64_t slot)
{
    vg_attn_seen seen = {.first = a->n_first, .second = a->n_second};
    if (a->counts && a->mask_second) seen.second = clamp_count(a->counts[slot], a->n_second);
    if (a->counts && !a->mask_second) seen.first = clamp_count(a->counts[slot], a->n_first);
    return seen;
}

static size_t row_bytes(const vg_attn *a)
{
    return vg_round_up((size_t)a->keys * sizeof(float), 64);
}

size_t vg_cpu_attention_workspace(const vg_node *node, int n_threads)
{
    vg_attn a;
    vg_node planned = *node;
    planned.attr.attention.dropout = 0.0F;
    return vg_attn_of(&planned, 0, &a) == VG_OK ? (size_t)n_threads * row_bytes(&a) : 0;
}

static float dot(const float *x, const float *y, int64_t n)
{
    float sum = 0.0F;
    for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

static const float *key_row(const vg_attn *a, const vg_heads *first, const vg_heads *second, int64_t slot, int64_t j,
                            int64_t head)
{
    if (j < a->n_first) return vg_heads_row(first, vg_cpu_image_of(a->index, slot), a->n_first, j, head, a->size);
    return vg_heads_row(second, slot, a->n_second, j - a->n_first, head, a->size);
}

static bool seen(const vg_attn *a, const vg_attn_seen *s, int64_t j)
{
    return j < a->n_first ? j < s->first : j - a->n_first < s->second;
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

static void attend(const vg_attn *a, int64_t b, int64_t h, int64_t i, float *p, float *o, float *lse)
{
    const vg_attn_seen s = vg_attn_seen_by(a, b);
    const float *q = vg_heads_row(&a->q, b, a->n_queries, i, h, a->size);
    const int64_t row = h * a->n_queries + i;
    float top = -INFINITY, sum = 0.0F;
    for (int64_t j = 0; j < a->keys; j++) {
        if (!seen(a, &s, j)) continue;
        p[j] = a->scale * dot(q, key_row(a, &a->k, &a->k2, b, j, h), a->size);
        if (a->bias) p[j] += a->bias[row * a->keys + j];
        top = fmaxf(top, p[j]);
    }
    memset(o, 0, (size_t)a->size * sizeof *o);
    for (int64_t j = 0; j < a->keys; j++) {
        if (!seen(a, &s, j)) continue;
        const float e = expf(p[j] - top), w = e * keep(a, b, row, j);
        const float *v = key_row(a, &a->v, &a->v2, b, j, h);
        sum += e;
        for (int64_t d = 0; d < a->size; d++) o[d] += w * v[d];
    }
    for (int64_t d = 0; d < a->size && sum > 0.0F; d++) o[d] /= sum;
    if (lse) lse[b * a->heads * a->n_queries + row] = top + logf(sum);
}

vg_status vg_cpu_attention(vg_stream *stream, const vg_node *node)
{
    vg_attn a;
    VG_TRY(vg_attn_of(node, 0, &a));
    VG_TRY(vg_cpu_check_index(a.index, a.slots, a.images));
    float *o = node->out[0].data, *lse = node->out[1].data;
#pragma omp parallel for num_threads(stream->n_threads) collapse(2)
    for (int64_t b = 0; b < a.slots; b++)
        for (int64_t h = 0; h < a.heads; h++) {
            float *p = (float *)((char *)node->workspace + (size_t)vg_cpu_thread() * row_bytes(&a));
            for (int64_t i = 0; i < a.n_queries; i++)
                attend(&a, b, h, i, p, o + ((b * a.n_queries + i) * a.heads + h) * a.size, lse);
        }
    return VG_OK;
}
