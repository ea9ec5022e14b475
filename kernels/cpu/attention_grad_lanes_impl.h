/* Attention, backward, without the scores: probabilities are made again from the log-sum-exp, a panel of keys against a
 * block of queries at a time, and used while they are in the first-level cache.
 *     P = softmax(S), O = (P * keep) V:   dV = (P * keep)^T dO,  dP = (dO V^T) * keep,  dS = P * (dP - <dO, O>),
 *     dQ = scale dS K,  dK = scale dS^T Q
 * The sums of P * keep are one more column of O, that of values which are all 1: their gradient goes the same way.
 * Every element of dQ is one chain over the keys in order, of dK and dV one chain over the slots of the image in order
 * and their queries in order. Source: Dao et al. 2022 (FlashAttention), appendix B. */
#ifndef VG_ATTENTION_GRAD_LANES_IMPL_H
#define VG_ATTENTION_GRAD_LANES_IMPL_H

#include "kernels/cpu/attention_lanes_impl.h"

/* Panels that dQ gets at a time: for each time it is loaded and stored. */
enum { PANELS = 4 };

typedef struct grad_work {
    attn_sizes s;
    bool in_passing;        /* one block of queries meets each panel once: it packs and writes it, in one place */
    float *keys, *values;   /* panels [D][COLUMNS] */
    float *copied;          /* rows of keys [columns][padded D] */
    float *dk, *dv;         /* [columns][padded D] */
    float *left_q;          /* [D / COLUMNS][queries of the block][COLUMNS], times scale / ln 2 */
    float *q, *d_o;         /* q and dO the same way, as they are */
    float *dq;              /* [GROUPS * rows][padded D] */
    float *p, *ds;          /* [GROUPS * rows][COLUMNS] of the panel at hand */
    float *ds_run;          /* [PANELS] of the latter, until dq gets them */
    float *log_sum, *delta; /* [GROUPS * rows] in units of log 2; <dO, O> + dsums * sums */
    uint32_t *block;        /* [GROUPS * rows] attn_block_of each */
    const float *dsums;     /* of the queries at hand, or NULL */
    vg_attn_seen seen;      /* of the slot at hand */
    vg_keep keep;
    rows_ahead *ahead;
} grad_work;

static size_t grad_work_cut(grad_work *w, const vg_attn *a, float *scratch)
{
    attn_cutter c = {.base = scratch};
    w->s = attn_sizes_of(a);
    const int64_t block = GROUPS * w->s.rows, wide = w->s.row;
    w->keys = cut(&c, w->s.columns * a->size);
    w->values = cut(&c, w->s.columns * a->size);
    w->copied = cut(&c, w->s.columns * wide);
    w->dk = cut(&c, w->s.columns * wide);
    w->dv = cut(&c, w->s.columns * wide);
    w->left_q = cut(&c, block * w->s.chunked_size);
    w->q = cut(&c, block * w->s.chunked_size);
    w->d_o = cut(&c, block * w->s.chunked_size);
    w->dq = cut(&c, block * wide);
    w->p = cut(&c, block * COLUMNS);
    w->ds_run = cut(&c, PANELS * block * COLUMNS);
    w->log_sum = cut(&c, block);
    w->delta = cut(&c, block);
    w->block = (uint32_t *)cut(&c, block);
    return (size_t)c.used * sizeof(float);
}

/* Columns begin..end-1 of arrays that start with column `origin`, and zeros where their gradients gather. */
static void grad_pack_keys(const vg_attn *a, grad_work *w, attn_reader r, int64_t begin, int64_t end, int64_t origin)
{
    const int64_t wide = w->s.row, at = (begin - origin) * wide;
    const size_t bytes = (size_t)((end - begin) * wide) * sizeof(float);
    attn_pack_panels(a, w->keys, &a->k, &a->k2, r, begin, end, origin);
    attn_pack_panels(a, w->values, &a->v, &a->v2, r, begin, end, origin);
    attn_pack_rows(a, w->copied, wide, &a->k, &a->k2, r, begin, end, 0);
    if (w->in_passing) return;
    memset(w->dk + at, 0, bytes);
    memset(w->dv + at, 0, bytes);
}

/* Writes rows of one head as a gradient, times factor; acc, where there is one, is added. */
static void write_rows(const vg_heads *to, const vg_heads *acc, int64_t item, int64_t n, int64_t first, int64_t head,
                       int64_t size, const float *from, int64_t padded, int64_t count, float factor)
{
    for (int64_t r = 0; to->data && r < count; r++, from += padded) {
        float *row = vg_heads_row(to, item, n, first + r, head, size);
        if (acc && acc->data)
            scale_add_row(row, from, size, factor, vg_heads_row(acc, item, n, first + r, head, size));
        else
            scale_row(row, from, size, factor);
    }
}

/* The gradients of columns begin..end-1, from arrays that start with column `origin`. */
static void grad_write_keys(const vg_attn_grad *g, const grad_work *w, attn_reader r, int64_t begin, int64_t end,
                            int64_t origin)
{
    const vg_attn *a = &g->a;
    const int64_t wide = w->s.row, first = a->n_first, second = begin > first ? begin : first;
    const int64_t n = (end < first ? end : first) - begin, at = (begin - origin) * wide, at2 = (second - origin) * wide;
    write_rows(&g->dk, &g->acc_k, r.image, first, begin, r.head, a->size, w->dk + at, wide, n, a->scale);
    write_rows(&g->dv, &g->acc_v, r.image, first, begin, r.head, a->size, w->dv + at, wide, n, 1.0F);
    write_rows(&g->dk2, NULL, r.slot, a->n_second, second - first, r.head, a->size, w->dk + at2, wide, end - second,
               a->scale);
    write_rows(&g->dv2, NULL, r.slot, a->n_second, second - first, r.head, a->size, w->dv + at2, wide, end - second,
               1.0F);
}

/* <dO, O> of one row. */
static float grad_delta(const float *d_o, const float *o, int64_t size)
{
    vf sum = vf_set(0.0F);
    for (int64_t d = 0; d < size; d += VF_LANES)
        sum = vf_fma(load_some(o + d, size - d), load_some(d_o + d, size - d), sum);
    return vf_sum(sum);
}

/* Queries first..first+n-1 of a slot, and what the softmax left behind. */
static void grad_pack_queries(const vg_attn_grad *g, grad_work *w, int64_t slot, int64_t head, int64_t first, int64_t n)
{
    const vg_attn *a = &g->a;
    const int64_t o_stride = a->heads * a->size;
    const int64_t at = (slot * a->n_queries + first) * o_stride + head * a->size;
    const int64_t row = (slot * a->heads + head) * a->n_queries + first;
    const float *q = vg_heads_row(&a->q, slot, a->n_queries, first, head, a->size);
    pack_left(w->left_q, q, a->q.stride, n, a->size, a->scale * LOG2_E);
    pack_left(w->q, q, a->q.stride, n, a->size, 1.0F);
    pack_left(w->d_o, g->d_o + at, o_stride, n, a->size, 1.0F);
    w->dsums = g->dsums ? g->dsums + row : NULL;
    for (int64_t i = 0; i < n; i++) {
        w->delta[i] = grad_delta(g->d_o + at + i * o_stride, a->o + at + i * o_stride, a->size) +
                      (w->dsums ? w->dsums[i] * a->sums[row + i] : 0.0F);
        w->log_sum[i] = a->lse[row + i] * LOG2_E;
        w->block[i] = attn_block_of(a, head, first + i);
    }
    memset(w->dq, 0, (size_t)(n * w->s.row) * sizeof(float));
}

/* One row of a panel, of which `width` columns matter: p becomes the kept probabilities, ds the gradient of the scores.
 */
static inline __attribute__((always_inline)) void grad_soften(const grad_work *w, int64_t i, int64_t width,
                                                              const vg_keep *keep, uint32_t block)
{
    float *p = w->p + i * COLUMNS, *ds = w->ds + i * COLUMNS;
    const vf log_sum = vf_set(w->log_sum[i]), delta = vf_set(w->delta[i]);
    const vf dsum = vf_set(w->dsums ? w->dsums[i] : 0.0F), scale = vf_set(keep ? keep->scale : 1.0F);
    keep_mask mask[VECTORS];
    if (keep) keep_masks(keep, block, mask);
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
        if (v * VF_LANES >= width) return;
        const vf e = power_of_two(vf_load(p + v * VF_LANES) - log_sum);
        vf dp = vf_load(ds + v * VF_LANES) + dsum, kept = e;
        if (keep) {
            dp = vf_kept(dp * scale, mask[v]);
            kept = vf_kept(e * scale, mask[v]);
        }
        vf_store(p + v * VF_LANES, kept);
        vf_store(ds + v * VF_LANES, e * (dp - delta));
    }
}

/* Columns begin..end-1 of a panel are not seen. */
static void grad_hide(const grad_work *w, int64_t n, int64_t begin, int64_t end)
{
    if (begin < 0) begin = 0;
    for (int64_t i = 0; i < n && begin < end; i++)
        for (int64_t j = begin; j < end; j++) w->p[i * COLUMNS + j] = w->ds[i * COLUMNS + j] = 0.0F;
}

/* Adds `from`, times factor, to the first `width` columns of n rows. */
static void grad_add(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t n, int64_t width,
                     float factor)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < width; j++) to[i * to_row + j] += from[i * from_row + j] * factor;
}

/* The softmax of `left` columns, those of the panel at `column`. */
static void grad_rows(const vg_attn_grad *g, const grad_work *w, int64_t head, int64_t first, int64_t n, int64_t column,
                      int64_t left)
{
    const vg_attn *a = &g->a;
    const int64_t middle = a->n_first - column;
    const int64_t at = (head * a->n_queries + first) * a->keys + column;
    if (a->bias) grad_add(w->p, COLUMNS, a->bias + at, a->keys, n, left, LOG2_E);
    if (a->rng)
        for (int64_t i = 0; i < n; i++) grad_soften(w, i, left, &w->keep, w->block[i] + (uint32_t)(column / 4));
    else
        for (int64_t i = 0; i < n; i++) grad_soften(w, i, left, NULL, 0);
    grad_hide(w, n, w->seen.first_end - column, middle < left ? middle : left);
    grad_hide(w, n, w->seen.second_end - column, left);
    if (g->dbias) grad_add(g->dbias + at, a->keys, w->ds, COLUMNS, n, left, 1.0F);
}

/* dQ gets columns begin..end-1 of the panels that wait: a run inside one, or one that begins with one. */
static void grad_queries_run(const grad_work *w, int64_t n, int64_t begin, int64_t end)
{
    const int64_t size = w->s.padded_size, panel = GROUPS * w->s.rows * COLUMNS;
    for (int64_t d = 0; d < size; d += COLUMNS)
        for (int64_t i = 0; i < n; i += w->s.rows)
            product(&(tile){.n_k = end - begin,
                            .a = w->ds_run + begin / COLUMNS % PANELS * panel + i * COLUMNS + begin % COLUMNS,
                            .a_row = COLUMNS,
                            .a_step = 1,
                            .a_chunk = panel,
                            .b = w->copied + begin * w->s.row + d,
                            .b_row = w->s.row,
                            .c = w->dq + i * w->s.row + d,
                            .c_row = w->s.row,
                            .add = true,
                            .ahead = w->ahead},
                    group_rows(&w->s, i, n), size - d < COLUMNS ? size - d : COLUMNS);
}

/* The same for those that are seen, begin..end-1 of one segment. */
static void grad_queries(const grad_work *w, int64_t n, int64_t begin, int64_t end)
{
    while (begin < end) {
        const int64_t inside = begin % COLUMNS, panel_end = begin - inside + COLUMNS;
        const int64_t stop = inside && panel_end < end ? panel_end : end;
        grad_queries_run(w, n, begin, stop);
        begin = stop;
    }
}

/* A panel's `left` rows of dK or dV [columns][row] get theirs: scores^T rows, rows being q or dO. */
static void grad_keys(const grad_work *w, int64_t n, int64_t left, const float *scores, const float *rows, float *to)
{
    const int64_t size = w->s.padded_size;
    for (int64_t d = 0; d < size; d += COLUMNS)
        product(&(tile){.n_k = n,
                        .a = scores,
                        .a_row = 1,
                        .a_step = COLUMNS,
                        .a_chunk = COLUMNS * COLUMNS,
                        .b = rows + d * n,
                        .b_row = COLUMNS,
                        .c = to + d,
                        .c_row = w->s.row,
                        .add = !w->in_passing,
                        .ahead = w->ahead},
                left, size - d < COLUMNS ? size - d : COLUMNS);
}

/* A panel of keys, `at` columns behind the first of the arrays, against a block of n queries. */
static void grad_panel(const vg_attn_grad *g, const grad_work *w, attn_reader r, int64_t first, int64_t n,
                       int64_t column, int64_t at)
{
    const vg_attn *a = &g->a;
    const int64_t left = a->keys - column < COLUMNS ? a->keys - column : COLUMNS, width = round_up(left, VF_LANES);
    score_panel(&w->s, a->size, w->left_q, n, w->keys + at * a->size, width, w->p, COLUMNS, 0, w->ahead);
    score_panel(&w->s, a->size, w->d_o, n, w->values + at * a->size, width, w->ds, COLUMNS, 0, w->ahead);
    grad_rows(g, w, r.head, first, n, column, left);
    if (g->dv.data || g->dv2.data) grad_keys(w, n, left, w->p, w->d_o, w->dv + at * w->s.row);
    if (g->dk.data || g->dk2.data) grad_keys(w, n, left, w->ds, w->q, w->dk + at * w->s.row);
}

/* Columns begin..end-1, whose panels wait. */
static void grad_run(const vg_attn *a, const grad_work *w, int64_t n, int64_t begin, int64_t end)
{
    const int64_t second = begin < a->n_first ? a->n_first : begin;
    grad_queries(w, n, begin, end < w->seen.first_end ? end : w->seen.first_end);
    grad_queries(w, n, second, end < w->seen.second_end ? end : w->seen.second_end);
}

/* Queries first..first+n-1 of a slot. In passing, panels that it does not see are written too. */
static void grad_block(const vg_attn_grad *g, grad_work *w, attn_reader r, int64_t first, int64_t n)
{
    const vg_attn *a = &g->a;
    const bool second = w->seen.second_end > a->n_first;
    const int64_t seen = second ? w->seen.second_end : w->seen.first_end, end = w->in_passing ? a->keys : seen;
    grad_pack_queries(g, w, r.slot, r.head, first, n);
    for (int64_t column = 0; column < end; column += COLUMNS) {
        const int64_t stop = end - column < COLUMNS ? end : column + COLUMNS;
        if (w->in_passing) grad_pack_keys(a, w, r, column, stop, column);
        const int64_t waiting = column / COLUMNS % PANELS;
        w->ds = w->ds_run + waiting * GROUPS * w->s.rows * COLUMNS;
        grad_panel(g, w, r, first, n, column, w->in_passing ? 0 : column);
        if (w->in_passing) grad_write_keys(g, w, r, column, stop, column);
        if (g->dq.data && (waiting == PANELS - 1 || stop == end)) grad_run(a, w, n, column - waiting * COLUMNS, stop);
    }
    write_rows(&g->dq, NULL, r.slot, a->n_queries, first, r.head, a->size, w->dq, w->s.row, n, a->scale);
}

static void grad_slot(const vg_attn_grad *g, grad_work *w, attn_reader r)
{
    const vg_attn *a = &g->a;
    const int64_t block = GROUPS * w->s.rows;
    w->seen = vg_attn_seen_by(a, r.slot);
    w->keep = attn_keep_of(a, r.slot);
    if (!w->in_passing) grad_pack_keys(a, w, r, a->n_first, a->keys, 0);
    for (int64_t i = 0; i < a->n_queries; i += block)
        grad_block(g, w, r, i, a->n_queries - i < block ? a->n_queries - i : block);
    if (!w->in_passing) grad_write_keys(g, w, r, a->n_first, a->keys, 0);
}

static rows_ahead grad_ahead_of(const vg_attn_grad *g, const attn_sizes *s, const vg_attn_part *part,
                                const vg_attn_part *next)
{
    const vg_attn *a = &g->a;
    const vg_heads o = attn_o_of(a, a->o), d_o = attn_o_of(a, g->d_o);
    rows_ahead ahead = attn_ahead_of(a, s, part, 5);
    ahead_add_keys(&ahead, a, &g->dk, part);
    ahead_add_keys(&ahead, a, &g->dv, part);
    ahead_add_queries(&ahead, a, &g->dq, part);
    if (!next) return ahead;
    ahead_add_part(&ahead, a, next);
    ahead_add_queries(&ahead, a, &o, next);
    ahead_add_queries(&ahead, a, &d_o, next);
    return ahead;
}

static void packed_attention_grad(const vg_attn_grad *g, const vg_attn_part *part, const vg_attn_part *next,
                                  float *scratch)
{
    const vg_attn *a = &g->a;
    grad_work w;
    grad_work_cut(&w, a, scratch);
    const vg_attn_slots slots = vg_attn_slots_of(a, part->image);
    attn_reader r = {.image = part->image, .slot = slots.first, .head = part->head};
    w.in_passing = slots.end - slots.first == 1 && a->n_queries <= GROUPS * w.s.rows && a->n_queries > 0;
    rows_ahead ahead = {0};
    w.ahead = &ahead;
    if (a->n_queries > 0 && (!w.in_passing || attn_is_short(a))) ahead = grad_ahead_of(g, &w.s, part, next);
    if (!w.in_passing) grad_pack_keys(a, &w, r, 0, a->n_first, 0);
    for (; r.slot < slots.end; r.slot++) grad_slot(g, &w, r);
    if (!w.in_passing) grad_write_keys(g, &w, r, 0, a->n_first, 0);
}

#endif
