#include "kernels/cpu/lanes_impl.h"

static vg_heads heads_of(const vg_operand *x, int column)
{
    return (vg_heads){.data = x->data, .stride = vg_shape_last(&x->shape), .column = column};
}

void vg_attn_of(const vg_node *node, int first, vg_attn *out)
{
    const vg_operand *in = node->in + first;
    *out = (vg_attn){.q = heads_of(&in[0], node->attr.attention.q_col),
                     .k = heads_of(&in[1], node->attr.attention.k_col),
                     .v = heads_of(&in[2], node->attr.attention.v_col),
                     .k2 = heads_of(&in[3], node->attr.attention.k2_col),
                     .v2 = heads_of(&in[4], node->attr.attention.v2_col),
                     .counts = in[5].data,
                     .bias = in[6].data,
                     .index = &in[7],
                     .rng = node->attr.attention.dropout > 0.0F ? in[8].data : NULL,
                     .slots = in[0].shape.dim[0],
                     .images = in[1].shape.dim[0],
                     .n_queries = in[0].shape.dim[1],
                     .n_first = in[1].shape.dim[1],
                     .n_second = in[3].shape.rank == 3 ? in[3].shape.dim[1] : 0,
                     .heads = node->attr.attention.heads,
                     .size = node->attr.attention.head_size,
                     .fold = node->attr.attention.fold,
                     .scale = node->attr.attention.scale,
                     .dropout = node->attr.attention.dropout,
                     .rng_key = node->attr.attention.key,
                     .mask_second = node->attr.attention.mask_second};
    out->keys = out->n_first + out->n_second;
}

vg_status vg_attn_check(const vg_attn *a)
{
    VG_CHECK(a->dropout <= 0.0F || a->rng, VG_E_BUG, "attention with dropout needs the keys of its slots");
    return vg_cpu_check_index(a->index, a->slots, a->images);
}

static int64_t clamp_count(int64_t count, int64_t n)
{
    return count < 0 ? 0 : count < n ? count : n;
}

vg_attn_seen vg_attn_seen_by(const vg_attn *a, int64_t slot)
{
    vg_attn_seen seen = {.first_end = a->n_first, .second_end = a->keys};
    if (a->counts && a->mask_second) seen.second_end = a->n_first + clamp_count(a->counts[slot], a->n_second);
    if (a->counts && !a->mask_second) seen.first_end = clamp_count(a->counts[slot], a->n_first);
    return seen;
}

vg_attn_slots vg_attn_slots_of(const vg_attn *a, int64_t image)
{
    if (!a->index->data) return (vg_attn_slots){.first = image, .end = image + 1};
    vg_attn_slots s = {0};
    while (s.first < a->slots && vg_cpu_image_of(a->index, s.first) < image) s.first++;
    for (s.end = s.first; s.end < a->slots && vg_cpu_image_of(a->index, s.end) == image;) s.end++;
    return s;
}

size_t vg_cpu_attention_workspace(const vg_node *node, int n_threads)
{
    vg_attn a;
    vg_attn_of(node, 0, &a);
    return (size_t)n_threads * vg_lanes_get()->attention_scratch(&a);
}

/* Few images and heads leave threads idle unless queries are shared too; keys are then packed once per share, which is
 * why a share is at least this many queries. */
enum { SHARE = 128 };

static int64_t shares_of(const vg_attn *a, int n_threads)
{
    const int64_t units = a->images * a->heads, most = (a->n_queries + SHARE - 1) / SHARE;
    const int64_t wanted = units >= 4 * n_threads || units == 0 ? 1 : (4 * n_threads + units - 1) / units;
    return wanted < most ? wanted : most;
}

vg_status vg_cpu_attention(vg_stream *stream, const vg_node *node)
{
    const vg_lanes *lanes = vg_lanes_get();
    vg_attn a;
    vg_attn_of(node, 0, &a);
    VG_TRY(vg_attn_check(&a));
    a.o = node->out[0].data;
    a.lse = node->out[1].data;
    a.sums = node->out[2].data;
    const size_t scratch = lanes->attention_scratch(&a);
    const int64_t shares = shares_of(&a, stream->n_threads), units = a.images * a.heads * shares;
    const int64_t ahead = stream->n_threads;
    /* A multiply-add is cheaper than moving a float, though less so where keys are few. */
#pragma omp parallel for num_threads(stream->n_threads) if (a.slots * a.heads * a.n_queries * a.keys * a.size > \
                                                            4 * VG_CPU_FEW) schedule(dynamic)
    for (int64_t u = 0; u < units; u++) {
        const vg_attn_part part = vg_attn_part_of(&a, shares, u), next = vg_attn_part_of(&a, shares, u + ahead);
        lanes->attention(&a, &part, u + ahead < units ? &next : NULL,
                         (float *)((char *)node->workspace + (size_t)vg_cpu_thread() * scratch));
    }
    return VG_OK;
}
