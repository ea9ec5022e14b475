/* Attention of wide heads to rows that are read where they lie, in both directions: for queries that are one block and
 * have an image to themselves. Scores lie across, a row of queries for every key, so that rows of keys and values are
 * left operands as they are: of a block's products only the queries are packed, once, instead of every panel of keys.
 * All chains and sums are those of the packed attention, whose bits these are. */
#ifndef VG_ATTENTION_WIDE_LANES_IMPL_H
#define VG_ATTENTION_WIDE_LANES_IMPL_H

#include "kernels/cpu/attention_grad_lanes_impl.h"

enum { LANES = (GROUPS * ROWS + VF_LANES - 1) / VF_LANES * VF_LANES };

/* A block of queries. */
typedef struct wide_block {
    int64_t n, lanes;  /* queries, and up to whole vectors: those have q = 0 */
    int64_t size, row; /* D, and from one row of it to the next */
    int64_t first;
    attn_reader r;
    vg_attn_seen seen;
    vg_keep keep;
    uint32_t block[GROUPS * ROWS], kept[LANES]; /* of Philox, where each query's row begins; see wide_keep */
    rows_ahead *ahead;
} wide_block;

static bool wide_fits(const vg_attn *a)
{
    return a->size >= WIDE && a->size % VF_LANES == 0 && !a->bias && a->n_queries > 0 && a->n_queries <= GROUPS * ROWS;
}

static bool wide_takes(const vg_attn *a, const vg_attn_part *part)
{
    const vg_attn_slots slots = vg_attn_slots_of(a, part->image);
    return wide_fits(a) && slots.end - slots.first == 1;
}

static void wide_block_of(const vg_attn *a, const vg_attn_part *part, rows_ahead *ahead, wide_block *b)
{
    const int64_t n = part->end - part->first, slot = vg_attn_slots_of(a, part->image).first;
    *b = (wide_block){.n = n,
                      .lanes = round_up(n, VF_LANES),
                      .size = a->size,
                      .row = attn_sizes_of(a).row,
                      .first = part->first,
                      .r = {.image = part->image, .slot = slot, .head = part->head},
                      .seen = vg_attn_seen_by(a, slot),
                      .keep = attn_keep_of(a, slot),
                      .ahead = ahead};
    for (int64_t i = 0; i < n; i++) b->block[i] = attn_block_of(a, part->head, part->first + i);
}

/* Rows of the block, times factor, and zeros up to its lanes. */
static void wide_rows(const wide_block *b, float *to, const float *from, int64_t stride, float factor)
{
    for (int64_t i = 0; i < b->n; i++) scale_row(to + i * b->row, from + i * stride, b->size, factor);
    memset(to + b->n * b->row, 0, (size_t)((b->lanes - b->n) * b->row) * sizeof *to);
}

/* Such rows as panels [D][COLUMNS]. */
static void wide_panels(const wide_block *b, float *panels, const float *rows)
{
    pack_panels(panels, 0, rows, b->row, b->lanes, b->size);
}

/* Products of columns begin..end-1, a row of x each, with all queries: to [end - begin][lanes]. */
static void wide_scores(const vg_attn *a, const wide_block *b, const vg_heads *of_image, const vg_heads *of_slot,
                        int64_t begin, int64_t end, const float *panels, float *to)
{
    attn_segment s[2];
    attn_segments(a, of_image, of_slot, b->r, begin, end, s);
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; s[k].n > 0 && i < b->lanes; i += COLUMNS)
            product(&(tile){.n_k = b->size,
                            .a = s[k].rows,
                            .a_row = s[k].stride,
                            .a_step = 1,
                            .a_chunk = COLUMNS,
                            .b = panels + i * b->size,
                            .b_row = COLUMNS,
                            .c = to + (s[k].first - begin) * b->lanes + i,
                            .c_row = b->lanes,
                            .ahead = b->ahead},
                    s[k].n, b->lanes - i < COLUMNS ? b->lanes - i : COLUMNS);
}

/* Adds to sums [n][row] the rows of columns begin..end-1, weighted by scores, the first of which is that of `begin`. */
static void wide_weigh(const vg_attn *a, const wide_block *b, const vg_heads *of_image, const vg_heads *of_slot,
                       int64_t begin, int64_t end, const float *scores, float *sums)
{
    attn_segment s[2];
    attn_segments(a, of_image, of_slot, b->r, begin, end, s);
    for (int k = 0; k < 2; k++)
        if (s[k].n > 0)
            product(&(tile){.n_k = s[k].n,
                            .a = scores + (s[k].first - begin) * b->lanes,
                            .a_row = 1,
                            .a_step = b->lanes,
                            .a_chunk = COLUMNS * b->lanes,
                            .b = s[k].rows,
                            .b_row = s[k].stride,
                            .c = sums,
                            .c_row = b->row,
                            .add = true,
                            .ahead = b->ahead},
                    b->n, b->size);
}

/* What a dropout keeps of the COLUMNS columns from `column` on, as bits of each query. */
static void wide_keep(wide_block *b, int64_t column)
{
    for (int64_t i = 0; i < b->n; i++) b->kept[i] = keep_bits(&b->keep, b->block[i] + (uint32_t)(column / 4));
}

/* How often rows are asked for while a panel of keys is multiplied: once with each chunk of each tile. */
typedef struct wide_times {
    int64_t scores, weigh, keys;
} wide_times;

static wide_times wide_times_of(const vg_attn *a, int64_t n)
{
    const int64_t across = round_up(n, COLUMNS) / COLUMNS, wide = round_up(a->size, COLUMNS) / COLUMNS;
    const int64_t panel = (COLUMNS + ROWS - 1) / ROWS, block = (n + ROWS - 1) / ROWS;
    return (wide_times){.scores = panel * across * wide, .weigh = block * wide, .keys = panel * wide * across};
}

/* Rows of scores become x. */
static void wide_fill(const wide_block *b, float *scores, int64_t n, float x)
{
    for (int64_t k = 0; k < n * b->lanes; k++) scores[k] = x;
}

/* ---- forward ---- */

typedef struct wide_work {
    wide_block b;
    float *queries; /* panels */
    float *scores;  /* [columns][lanes] */
    float *sums;    /* [lanes][row] */
    float *largest; /* [lanes] */
    float *powers;  /* [COLUMNS][lanes]: sums over columns that are as many apart, */
    float *left;    /* [VF_LANES][lanes]: and of what a dropout kept */
} wide_work;

/* Returns the bytes in use. */
static size_t wide_work_cut(wide_work *w, const vg_attn *a, float *scratch)
{
    attn_cutter c = {.base = scratch};
    const attn_sizes s = attn_sizes_of(a);
    const int64_t lanes = round_up(a->n_queries, VF_LANES);
    w->queries = cut(&c, round_up(lanes, COLUMNS) * a->size);
    w->scores = cut(&c, s.columns * lanes);
    w->sums = cut(&c, lanes * s.row);
    w->largest = cut(&c, lanes);
    w->powers = cut(&c, COLUMNS * lanes);
    w->left = cut(&c, VF_LANES * lanes);
    return (size_t)c.used * sizeof(float);
}

/* The largest score of each query, of these n keys and those before. */
static void wide_largest(const wide_work *w, const float *scores, int64_t n)
{
    for (int64_t i = 0; i < w->b.lanes; i += VF_LANES) {
        vf top = vf_load(w->largest + i);
        for (int64_t j = 0; j < n; j++) top = vf_max(top, vf_load(scores + j * w->b.lanes + i));
        vf_store(w->largest + i, top);
    }
}

static inline void vf_add_to(float *sum, vf x)
{
    vf_store(sum, vf_load(sum) + x);
}

/* A key's scores become powers of two, dropped ones 0; j is its place in the panel. */
static inline __attribute__((always_inline)) void wide_soften_key(const wide_work *w, float *scores, int64_t j,
                                                                  const bool drops)
{
    const int64_t lanes = w->b.lanes;
    for (int64_t i = 0; i < lanes; i += VF_LANES) {
        const vf p = power_of_two(vf_load(scores + i) - vf_load(w->largest + i));
        const vf left = drops ? vf_kept(p, mask_of_bit(w->b.kept + i, 1U << j)) : p;
        vf_add_to(w->powers + j * lanes + i, p);
        if (drops) vf_add_to(w->left + j % VF_LANES * lanes + i, left);
        vf_store(scores + i, left);
    }
}

/* Rows of `lanes` sums: those of the lanes of a vector are added in the order of vf_sum, into the first. */
static void wide_add_up(float *sums, int64_t lanes)
{
    for (int64_t half = VF_LANES / 2; half > 0; half /= 2)
        for (int64_t k = 0; k < half * lanes; k++) sums[k] += sums[half * lanes + k];
}

/* Softmax and dropout of the first n keys, n a multiple of VF_LANES. */
static void wide_soften(const vg_attn *a, wide_work *w, int64_t n)
{
    const int64_t lanes = w->b.lanes, vector = VF_LANES * lanes;
    memset(w->powers, 0, (size_t)(COLUMNS * lanes) * sizeof(float));
    memset(w->left, 0, (size_t)vector * sizeof(float));
    for (int64_t column = 0; column < n; column += COLUMNS) {
        float *scores = w->scores + column * lanes;
        const int64_t here = n - column < COLUMNS ? n - column : COLUMNS;
        if (a->rng) wide_keep(&w->b, column);
        if (a->rng)
            for (int64_t j = 0; j < here; j++) wide_soften_key(w, scores + j * lanes, j, true);
        else
            for (int64_t j = 0; j < here; j++) wide_soften_key(w, scores + j * lanes, j, false);
    }
    for (int64_t v = 1; v < VECTORS; v++)
        for (int64_t k = 0; k < vector; k++) w->powers[k] += w->powers[v * vector + k];
    wide_add_up(w->powers, lanes);
    wide_add_up(w->left, lanes);
}

/* Scores of columns begin..end-1. */
static void wide_score(const vg_attn *a, const wide_work *w, int64_t begin, int64_t end)
{
    for (int64_t j = begin; j < end; j += COLUMNS) {
        const int64_t n = end - j < COLUMNS ? end - j : COLUMNS;
        float *scores = w->scores + j * w->b.lanes;
        wide_scores(a, &w->b, &a->k, &a->k2, j, j + n, w->queries, scores);
        wide_largest(w, scores, n);
    }
}

/* The values of columns begin..end-1, a run at a time. */
static void wide_values(const vg_attn *a, const wide_work *w, int64_t begin, int64_t end)
{
    for (int64_t j = begin; j < end; j += RUN)
        wide_weigh(a, &w->b, &a->v, &a->v2, j, end - j < RUN ? end : j + RUN, w->scores + j * w->b.lanes, w->sums);
}

/* What a part will read and write, and the next one's first panel. Asked for in three quarters of the time, so that it
 * is there before it is read. */
static rows_ahead wide_ahead_of(const vg_attn *a, const vg_attn_part *part, const vg_attn_part *next)
{
    const wide_times t = wide_times_of(a, part->end - part->first);
    const vg_heads o = attn_o_of(a, a->o);
    rows_ahead ahead = {.size = a->size, .times = round_up(a->keys, COLUMNS) / COLUMNS * (t.scores + t.weigh) * 3 / 4};
    ahead_add_some_keys(&ahead, a, &a->k, part, COLUMNS, a->n_first);
    ahead_add_keys(&ahead, a, &a->v, part);
    ahead_add_queries(&ahead, a, &o, part);
    if (next) ahead_add_queries(&ahead, a, &a->q, next);
    if (next) ahead_add_some_keys(&ahead, a, &a->k, next, 0, COLUMNS);
    return ahead;
}

static void wide_attention(const vg_attn *a, const vg_attn_part *part, const vg_attn_part *next, float *scratch)
{
    wide_work w;
    wide_work_cut(&w, a, scratch);
    rows_ahead ahead = wide_ahead_of(a, part, next);
    const wide_block *b = &w.b;
    wide_block_of(a, part, &ahead, &w.b);
    const vg_attn_seen seen = b->seen;
    const bool second = seen.second_end > a->n_first;
    const int64_t end = second ? seen.second_end : seen.first_end, columns = round_up(end, VF_LANES);
    const float *q = vg_heads_row(&a->q, b->r.slot, a->n_queries, b->first, b->r.head, a->size);
    wide_rows(b, w.sums, q, a->q.stride, a->scale * LOG2_E);
    wide_panels(b, w.queries, w.sums);
    wide_fill(b, w.largest, 1, end ? -INFINITY : 0.0F);
    wide_score(a, &w, 0, seen.first_end);
    wide_score(a, &w, a->n_first, seen.second_end);
    if (second) wide_fill(b, w.scores + seen.first_end * b->lanes, a->n_first - seen.first_end, -INFINITY);
    wide_fill(b, w.scores + end * b->lanes, columns - end, -INFINITY);
    wide_soften(a, &w, columns);
    memset(w.sums, 0, (size_t)(b->n * b->row) * sizeof(float));
    wide_values(a, &w, 0, seen.first_end);
    wide_values(a, &w, a->n_first, seen.second_end);
    for (int64_t i = 0; i < b->n; i++)
        finish_row(a, w.sums + i * b->row, &(softened){w.largest[i], w.powers[i], w.left[i]}, b->keep.scale, b->r.slot,
                   b->r.head, b->first + i);
}

/* ---- backward ---- */

typedef struct wide_grad {
    wide_block b;
    float *queries, *d_o_panels; /* panels; the queries times scale / ln 2 */
    float *q, *d_o, *dq;         /* [lanes][row] */
    float *p;                    /* [COLUMNS][lanes] of the panel at hand */
    float *ds;                   /* [PANELS * COLUMNS][lanes], until dq gets them */
    float *log_sum, *delta;      /* [lanes] in units of log 2; <dO, O> + dsums * sums */
    float *dsums;                /* [lanes] */
} wide_grad;

/* Returns the bytes in use. */
static size_t wide_grad_cut(wide_grad *w, const vg_attn *a, float *scratch)
{
    attn_cutter c = {.base = scratch};
    const attn_sizes s = attn_sizes_of(a);
    const int64_t lanes = round_up(a->n_queries, VF_LANES), panels = round_up(lanes, COLUMNS) * a->size;
    w->queries = cut(&c, panels);
    w->d_o_panels = cut(&c, panels);
    w->q = cut(&c, lanes * s.row);
    w->d_o = cut(&c, lanes * s.row);
    w->dq = cut(&c, lanes * s.row);
    w->p = cut(&c, COLUMNS * lanes);
    w->ds = cut(&c, PANELS * COLUMNS * lanes);
    w->log_sum = cut(&c, lanes);
    w->delta = cut(&c, lanes);
    w->dsums = cut(&c, lanes);
    return (size_t)c.used * sizeof(float);
}

/* Queries, and what the softmax left behind. */
static void wide_grad_queries(const vg_attn_grad *g, const wide_grad *w)
{
    const vg_attn *a = &g->a;
    const wide_block *b = &w->b;
    const int64_t o_stride = a->heads * a->size, slot = b->r.slot;
    const int64_t at = slot * a->n_queries * o_stride + b->r.head * a->size;
    const int64_t row = (slot * a->heads + b->r.head) * a->n_queries;
    const float *q = vg_heads_row(&a->q, slot, a->n_queries, 0, b->r.head, a->size);
    wide_rows(b, w->dq, q, a->q.stride, a->scale * LOG2_E);
    wide_panels(b, w->queries, w->dq);
    wide_rows(b, w->q, q, a->q.stride, 1.0F);
    wide_rows(b, w->d_o, g->d_o + at, o_stride, 1.0F);
    wide_panels(b, w->d_o_panels, w->d_o);
    for (int64_t i = 0; i < b->lanes; i++) {
        const bool is = i < b->n;
        w->dsums[i] = is && g->dsums ? g->dsums[row + i] : 0.0F;
        w->delta[i] = !is ? 0.0F
                          : grad_delta(w->d_o + i * b->row, a->o + at + i * o_stride, a->size) +
                                (g->dsums ? w->dsums[i] * a->sums[row + i] : 0.0F);
        w->log_sum[i] = is ? a->lse[row + i] * LOG2_E : 0.0F;
    }
    memset(w->dq, 0, (size_t)(b->n * b->row) * sizeof(float));
}

/* A key's scores, at place j of its panel: p becomes the kept probabilities, ds the gradient of the scores. */
static inline __attribute__((always_inline)) void wide_grad_soften(const wide_grad *w, float *p, float *ds, int64_t j,
                                                                   const bool drops)
{
    const vf scale = vf_set(w->b.keep.scale);
    for (int64_t i = 0; i < w->b.lanes; i += VF_LANES) {
        const vf e = power_of_two(vf_load(p + i) - vf_load(w->log_sum + i));
        vf dp = vf_load(ds + i) + vf_load(w->dsums + i), kept = e;
        if (drops) {
            const keep_mask mask = mask_of_bit(w->b.kept + i, 1U << j);
            dp = vf_kept(dp * scale, mask);
            kept = vf_kept(e * scale, mask);
        }
        vf_store(p + i, kept);
        vf_store(ds + i, e * (dp - vf_load(w->delta + i)));
    }
}

/* Columns begin..end-1 of a panel are not seen. */
static void wide_hide(const wide_grad *w, float *ds, int64_t begin, int64_t end)
{
    if (begin < 0) begin = 0;
    if (begin >= end) return;
    wide_fill(&w->b, w->p + begin * w->b.lanes, end - begin, 0.0F);
    wide_fill(&w->b, ds + begin * w->b.lanes, end - begin, 0.0F);
}

/* The softmax of n columns, those of the panel at `column`. */
static void wide_grad_softmax(const vg_attn *a, wide_grad *w, float *ds, int64_t column, int64_t n)
{
    const int64_t lanes = w->b.lanes, middle = a->n_first - column;
    if (a->rng) wide_keep(&w->b, column);
    if (a->rng)
        for (int64_t j = 0; j < n; j++) wide_grad_soften(w, w->p + j * lanes, ds + j * lanes, j, true);
    else
        for (int64_t j = 0; j < n; j++) wide_grad_soften(w, w->p + j * lanes, ds + j * lanes, j, false);
    wide_hide(w, ds, w->b.seen.first_end - column, middle < n ? middle : n);
    wide_hide(w, ds, w->b.seen.second_end - column, n);
}

/* Gradients of keys or of values, which are sums of rows [n][row] of queries or dO weighted by scores. */
typedef struct wide_sums {
    const vg_heads *first, *second, *acc; /* acc is added to the first */
    const float *scores, *rows;
    float factor;
} wide_sums;

/* n rows of one segment, `row` and what is added to it being the first. */
static void wide_grad_rows(const wide_block *b, const wide_sums *s, const float *scores, float *row, int64_t stride,
                           const float *plus, int64_t n)
{
    product(&(tile){.n_k = b->n,
                    .a = scores,
                    .a_row = b->lanes,
                    .a_step = 1,
                    .a_chunk = COLUMNS,
                    .b = s->rows,
                    .b_row = b->row,
                    .c = row,
                    .c_row = stride,
                    .far = true,
                    .factor = s->factor,
                    .plus = plus,
                    .ahead = b->ahead},
            n, b->size);
}

/* Those of columns begin..end-1. */
static void wide_grad_keys(const vg_attn *a, const wide_block *b, const wide_sums *s, int64_t begin, int64_t end)
{
    const int64_t first = a->n_first, middle = end < first ? end : first, second = begin > first ? begin : first;
    const attn_reader r = b->r;
    if (s->first->data && begin < middle)
        wide_grad_rows(
            b, s, s->scores, vg_heads_row(s->first, r.image, first, begin, r.head, b->size), s->first->stride,
            s->acc->data ? vg_heads_row(s->acc, r.image, first, begin, r.head, b->size) : NULL, middle - begin);
    if (s->second->data && second < end)
        wide_grad_rows(b, s, s->scores + (second - begin) * b->lanes,
                       vg_heads_row(s->second, r.slot, a->n_second, second - first, r.head, b->size), s->second->stride,
                       NULL, end - second);
}

/* While a panel is multiplied, what the next one reads and writes is asked for, or the next part's first; and some of
 * the part's queries that will be written and of the next part's that will be read. */
static rows_ahead wide_grad_ahead(const vg_attn_grad *g, const vg_attn_part *part, const vg_attn_part *next,
                                  int64_t column)
{
    const vg_attn *a = &g->a;
    const bool last = column + COLUMNS >= a->n_first;
    const int64_t columns = round_up(a->keys, COLUMNS), first = a->n_queries * column / columns;
    const int64_t end = a->n_queries * (column + COLUMNS) / columns;
    const vg_heads o = attn_o_of(a, a->o), d_o = attn_o_of(a, g->d_o);
    const vg_heads *const keys[] = {&a->k, &a->v, &g->dk, &g->dv, &g->acc_k, &g->acc_v};
    const vg_heads *const queries[] = {&g->dq, &a->q, &o, &d_o};
    const wide_times t = wide_times_of(a, a->n_queries);
    rows_ahead ahead = {.size = a->size, .times = 2 * (t.scores + t.keys)};
    for (int i = 0; i < 6 && (next || !last); i++)
        if (i < 4 || keys[i]->data != keys[i - 2]->data)
            ahead_add_some_keys(&ahead, a, keys[i], last ? next : part, last ? 0 : column + COLUMNS, COLUMNS);
    for (int i = 0; i < (next ? 4 : 1); i++) {
        vg_attn_part some = i ? *next : *part;
        some.first = first;
        some.end = end;
        ahead_add_queries(&ahead, a, queries[i], &some);
    }
    return ahead;
}

/* Columns begin..end-1, a panel, whose scores' gradient goes to ds. */
static void wide_grad_panel(const vg_attn_grad *g, wide_grad *w, int64_t begin, int64_t end, float *ds)
{
    const vg_attn *a = &g->a;
    wide_scores(a, &w->b, &a->k, &a->k2, begin, end, w->queries, w->p);
    wide_scores(a, &w->b, &a->v, &a->v2, begin, end, w->d_o_panels, ds);
    wide_grad_softmax(a, w, ds, begin, end - begin);
    const wide_sums dv = {&g->dv, &g->dv2, &g->acc_v, w->p, w->d_o, 1.0F};
    const wide_sums dk = {&g->dk, &g->dk2, &g->acc_k, ds, w->q, a->scale};
    wide_grad_keys(a, &w->b, &dv, begin, end);
    wide_grad_keys(a, &w->b, &dk, begin, end);
}

/* dQ gets columns begin..end-1 of those whose scores' gradients begin with column `run`. */
static void wide_grad_run(const vg_attn *a, const wide_grad *w, int64_t begin, int64_t end, int64_t run)
{
    if (begin < end) wide_weigh(a, &w->b, &a->k, &a->k2, begin, end, w->ds + (begin - run) * w->b.lanes, w->dq);
}

/* Panels that the queries do not see are written too. */
static void wide_attention_grad(const vg_attn_grad *g, const vg_attn_part *part, const vg_attn_part *next,
                                float *scratch)
{
    const vg_attn *a = &g->a;
    wide_grad w;
    wide_grad_cut(&w, a, scratch);
    rows_ahead ahead;
    wide_block_of(a, part, &ahead, &w.b);
    wide_grad_queries(g, &w);
    const int64_t first_end = w.b.seen.first_end, second_end = w.b.seen.second_end;
    for (int64_t run = 0; run < a->keys; run += PANELS * COLUMNS) {
        const int64_t end = a->keys - run < PANELS * COLUMNS ? a->keys : run + PANELS * COLUMNS;
        for (int64_t j = run; j < end; j += COLUMNS) {
            ahead = wide_grad_ahead(g, part, next, j);
            wide_grad_panel(g, &w, j, end - j < COLUMNS ? end : j + COLUMNS, w.ds + (j - run) * w.b.lanes);
        }
        if (!g->dq.data) continue;
        wide_grad_run(a, &w, run, end < first_end ? end : first_end, run);
        wide_grad_run(a, &w, run < a->n_first ? a->n_first : run, end < second_end ? end : second_end, run);
    }
    write_rows(&g->dq, NULL, w.b.r.slot, a->n_queries, 0, w.b.r.head, a->size, w.dq, w.b.row, w.b.n, a->scale);
}

/* ---- either way ---- */

static size_t attention_scratch(const vg_attn *a)
{
    attn_work packed;
    wide_work wide;
    const size_t n = attn_work_cut(&packed, a, NULL), m = wide_fits(a) ? wide_work_cut(&wide, a, NULL) : 0;
    return n > m ? n : m;
}

static size_t attention_grad_scratch(const vg_attn *a)
{
    grad_work packed;
    wide_grad wide;
    const size_t n = grad_work_cut(&packed, a, NULL), m = wide_fits(a) ? wide_grad_cut(&wide, a, NULL) : 0;
    return n > m ? n : m;
}

static void attention(const vg_attn *a, const vg_attn_part *part, const vg_attn_part *next, float *scratch)
{
    (wide_takes(a, part) ? wide_attention : packed_attention)(a, part, next, scratch);
}

static void attention_grad(const vg_attn_grad *g, const vg_attn_part *part, const vg_attn_part *next, float *scratch)
{
    (wide_takes(&g->a, part) ? wide_attention_grad : packed_attention_grad)(g, part, next, scratch);
}

#endif
