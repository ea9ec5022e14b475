/* Attention, forward: the keys of an image and head are packed once, then blocks of queries hold a row of scores for
 * every key, in the second-level cache at worst. A block is a group of up to ROWS queries, whose sums are in registers;
 * of a wide head it is several, so that a panel of keys is fetched for all of them once. Scores are in units of log 2,
 * so that softmax needs powers of two alone. Where one block is all that an image has, it packs a panel of keys and a
 * run of values when it comes to them, each over the one before, in the first-level cache. A row's bits depend on its
 * query, its keys and nothing else: every score is one chain over D, every sum of the softmax runs in fixed lanes,
 * every output is one chain over the keys in order. Source: Vaswani et al. 2017, section 3.2.1; the softmax is the
 * plain two-pass one. */
#ifndef VG_ATTENTION_LANES_IMPL_H
#define VG_ATTENTION_LANES_IMPL_H

#include "kernels/cpu/keep_lanes_impl.h"
#include "kernels/cpu/tile_lanes_impl.h"

#include <math.h>

#define LOG2_E 0x1.715476p+0F
#define LN_2   0x1.62e430p-1F

static inline int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Sizes that both directions plan with. */
typedef struct attn_sizes {
    int64_t padded_size;  /* D up to whole vectors */
    int64_t row;          /* and from one row of D to the next */
    int64_t chunked_size; /* D up to whole chunks */
    int64_t columns;      /* keys up to whole panels */
    int64_t rows;         /* queries of a group, at most ROWS: groups are as even as they can be */
    int64_t groups;       /* of a block, forward */
} attn_sizes;

enum {
    FEW_SETS = 128,      /* rows so many floats apart, or a multiple, share a small part of the first-level cache */
    GROUPS = 6,          /* of queries that a block has at most */
    WIDE = 128,          /* a head whose panel of keys fills the first-level cache */
    PIECE = 4 * COLUMNS, /* of D at a time */
    RUN = 8 * COLUMNS    /* of values at a time */
};

static attn_sizes attn_sizes_of(const vg_attn *a)
{
    const int64_t groups = (a->n_queries + ROWS - 1) / ROWS;
    const int64_t padded = round_up(a->size, VF_LANES);
    return (attn_sizes){.padded_size = padded,
                        .row = padded % FEW_SETS ? padded : padded + LINE,
                        .chunked_size = round_up(a->size, COLUMNS),
                        .columns = round_up(a->keys, COLUMNS),
                        .rows = groups ? (a->n_queries + groups - 1) / groups : 0,
                        .groups = a->size < WIDE    ? 1
                                  : groups < GROUPS ? groups
                                                    : GROUPS};
}

/* The scratch of one thread is cut into arrays, each on a cache line; without memory, it is only measured. */
typedef struct attn_cutter {
    float *base;
    int64_t used;
} attn_cutter;

static float *cut(attn_cutter *c, int64_t n_floats)
{
    float *here = c->base ? c->base + c->used : NULL;
    c->used += round_up(n_floats, 16);
    return here;
}

typedef struct attn_work {
    attn_sizes s;
    bool in_passing;   /* keys and values are packed by the block that reads them */
    rows_ahead *ahead; /* nothing in passing, unless keys are few: rows lie side by side, where the hardware follows */
    float *keys;       /* panels [D][COLUMNS] */
    float *values;     /* [columns][row] */
    float *queries;    /* [D / COLUMNS][queries of the block][COLUMNS], times scale / ln 2 */
    float *scores;     /* [groups] of [panels][rows][COLUMNS] */
    float *sums;       /* [groups * rows][row] */
} attn_work;

/* Returns the bytes in use. */
static size_t attn_work_cut(attn_work *w, const vg_attn *a, float *scratch)
{
    attn_cutter c = {.base = scratch};
    w->s = attn_sizes_of(a);
    const int64_t block = w->s.groups * w->s.rows;
    w->keys = cut(&c, w->s.columns * a->size);
    w->values = cut(&c, w->s.columns * w->s.row);
    w->queries = cut(&c, block * w->s.chunked_size);
    w->scores = cut(&c, block * w->s.columns);
    w->sums = cut(&c, block * w->s.row);
    return (size_t)c.used * sizeof(float);
}

static vg_keep attn_keep_of(const vg_attn *a, int64_t slot)
{
    return a->rng ? vg_keep_of(a->rng_key, a->rng + 4 * slot, a->dropout) : (vg_keep){.scale = 1.0F};
}

/* The block of Philox where the row of a query begins; rows take whole blocks. */
static uint32_t attn_block_of(const vg_attn *a, int64_t head, int64_t query)
{
    const int64_t row = head * a->n_queries + query % a->fold * (a->n_queries / a->fold) + query / a->fold;
    return (uint32_t)((uint64_t)row * (uint64_t)((a->keys + 3) / 4));
}

/* Whose keys and values they are. */
typedef struct attn_reader {
    int64_t image, slot, head;
} attn_reader;

/* Rows of one segment, as columns first..first+n-1 of a row of scores. */
typedef struct attn_segment {
    const float *rows;
    int64_t stride, first, n;
} attn_segment;

/* What columns begin..end-1 are made of: rows of the image, then of the slot; n may be 0. */
static void attn_segments(const vg_attn *a, const vg_heads *of_image, const vg_heads *of_slot, attn_reader r,
                          int64_t begin, int64_t end, attn_segment out[2])
{
    const int64_t first = a->n_first, middle = end < first ? end : first, second = begin > first ? begin : first;
    out[0] = out[1] = (attn_segment){0};
    if (begin < middle)
        out[0] = (attn_segment){vg_heads_row(of_image, r.image, first, begin, r.head, a->size), of_image->stride, begin,
                                middle - begin};
    if (second < end)
        out[1] = (attn_segment){vg_heads_row(of_slot, r.slot, a->n_second, second - first, r.head, a->size),
                                of_slot->stride, second, end - second};
}

/* Rows are asked for with each chunk of each of a part's products of queries and keys. */
static rows_ahead attn_ahead_of(const vg_attn *a, const attn_sizes *s, const vg_attn_part *part, int products)
{
    const vg_attn_slots slots = vg_attn_slots_of(a, part->image);
    const int64_t groups = (slots.end - slots.first) * ((part->end - part->first + s->rows - 1) / s->rows);
    const int64_t times = products * groups * s->columns / COLUMNS * s->chunked_size / COLUMNS;
    return (rows_ahead){.size = a->size, .times = times ? times : 1};
}

/* Queries of a part, in q or what is shaped like it: of all slots where it has all of theirs, else about as many. */
static void ahead_add_queries(rows_ahead *f, const vg_attn *a, const vg_heads *x, const vg_attn_part *part)
{
    const vg_attn_slots slots = vg_attn_slots_of(a, part->image);
    ahead_add(f, x, slots.first, a->n_queries, part->first, (slots.end - slots.first) * (part->end - part->first),
              part->head);
}

/* Keys of the image from the first on, at most n, in k or what is shaped like it. */
static void ahead_add_some_keys(rows_ahead *f, const vg_attn *a, const vg_heads *x, const vg_attn_part *part,
                                int64_t first, int64_t n)
{
    const int64_t left = a->n_first - first;
    if (left > 0) ahead_add(f, x, part->image, a->n_first, first, left < n ? left : n, part->head);
}

static void ahead_add_keys(rows_ahead *f, const vg_attn *a, const vg_heads *x, const vg_attn_part *part)
{
    ahead_add_some_keys(f, a, x, part, 0, a->n_first);
}

/* Rows of o or what is shaped like it. */
static vg_heads attn_o_of(const vg_attn *a, const float *o)
{
    return (vg_heads){.data = (float *)o, .stride = a->heads * a->size};
}

/* Narrow heads lie side by side, where the hardware follows, unless they end before it does. */
static bool attn_is_short(const vg_attn *a)
{
    return a->size < WIDE && a->keys <= COLUMNS;
}

/* What an attention reads. */
static void ahead_add_part(rows_ahead *f, const vg_attn *a, const vg_attn_part *part)
{
    ahead_add_keys(f, a, &a->k, part);
    ahead_add_keys(f, a, &a->v, part);
    ahead_add_queries(f, a, &a->q, part);
}

/* Columns begin..end-1 of panels that start with column `origin`. */
static void attn_pack_panels(const vg_attn *a, float *panels, const vg_heads *of_image, const vg_heads *of_slot,
                             attn_reader r, int64_t begin, int64_t end, int64_t origin)
{
    attn_segment s[2];
    attn_segments(a, of_image, of_slot, r, begin, end, s);
    for (int i = 0; i < 2; i++) pack_panels(panels, s[i].first - origin, s[i].rows, s[i].stride, s[i].n, a->size);
}

/* The same as rows. */
static void attn_pack_rows(const vg_attn *a, float *rows, int64_t row, const vg_heads *of_image,
                           const vg_heads *of_slot, attn_reader r, int64_t begin, int64_t end, int64_t origin)
{
    attn_segment s[2];
    attn_segments(a, of_image, of_slot, r, begin, end, s);
    for (int i = 0; i < 2; i++)
        pack_rows(rows + (s[i].first - origin) * row, row, s[i].rows, s[i].stride, s[i].n, a->size);
}

/* 2^x for x <= 0, at least 2^-125. */
static inline vf power_of_two(vf x)
{
    x = vf_max(vf_set(-125.0F), x);
    const vf n = vf_round(x);
    return vf_exp2_parts(n, x - n);
}

/* One row of a block: its scores lie COLUMNS at a time, `step` floats apart. */
typedef struct score_row {
    float *scores;
    int64_t step;
    const float *bias; /* [keys] or NULL */
    uint32_t block;    /* of Philox */
} score_row;

/* Columns begin..end-1 become minus infinity. */
static void hide(const score_row *r, int64_t begin, int64_t end)
{
    while (begin < end) {
        float *x = r->scores + begin / COLUMNS * r->step;
        const int64_t chunk_end = begin / COLUMNS * COLUMNS + COLUMNS, stop = chunk_end < end ? chunk_end : end;
        for (; begin < stop; begin++) x[begin % COLUMNS] = -INFINITY;
    }
}

/* Columns from end on, to the end of its vector. */
static inline void hide_rest(const score_row *r, int64_t end)
{
    const int count = (int)(end % VF_LANES);
    float *x = r->scores + end / COLUMNS * r->step + end % COLUMNS - count;
    if (count) vf_store(x, vf_load_else(x, count, vf_set(-INFINITY)));
}

static void add_bias(const score_row *r, int64_t n)
{
    for (int64_t j = 0; j < n; j++) r->scores[j / COLUMNS * r->step + j % COLUMNS] += r->bias[j] * LOG2_E;
}

/* What the softmax of a row leaves behind: its largest score, the sum of its powers, and that of those which a dropout
 * kept. */
typedef struct softened {
    float largest, sum, kept;
} softened;

/* The first n scores, n a multiple of VF_LANES. */
static inline float largest_of(const score_row *r, int64_t n)
{
    const float *x = r->scores;
    vf top[VECTORS];
    for (int v = 0; v < VECTORS; v++) top[v] = vf_load(x);
    for (; n >= COLUMNS; n -= COLUMNS, x += r->step)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) top[v] = vf_max(top[v], vf_load(x + v * VF_LANES));
    for (; n > 0; n -= VF_LANES, x += VF_LANES) top[0] = vf_max(top[0], vf_load(x));
    for (int v = 1; v < VECTORS; v++) top[0] = vf_max(top[0], top[v]);
    return vf_largest(top[0]);
}

/* Sums of a row's powers, and of those which a dropout kept. */
typedef struct power_sums {
    vf all[VECTORS], kept;
} power_sums;

/* The first n scores from x on, of one chunk, become 2^(score - highest), dropped ones 0. */
static inline __attribute__((always_inline)) void soften_chunk(power_sums *sums, float *x, int64_t n, vf highest,
                                                               const vg_keep *keep, uint32_t block)
{
    keep_mask mask[VECTORS];
    if (keep) keep_masks(keep, block, mask);
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
        if (v * VF_LANES >= n) return;
        const vf p = power_of_two(vf_load(x + v * VF_LANES) - highest), left = keep ? vf_kept(p, mask[v]) : p;
        sums->all[v] += p;
        if (keep) sums->kept += left;
        vf_store(x + v * VF_LANES, left);
    }
}

/* The same for the first n scores of a row, n a multiple of VF_LANES, whose largest is known. */
static inline __attribute__((always_inline)) void soften(const score_row *r, int64_t n, const vg_keep *keep,
                                                         softened *s)
{
    const vf highest = vf_set(s->largest);
    power_sums sums = {.kept = vf_set(0.0F)};
    float *x = r->scores;
    uint32_t block = r->block;
    for (int v = 0; v < VECTORS; v++) sums.all[v] = vf_set(0.0F);
    for (; n >= COLUMNS; n -= COLUMNS, x += r->step, block += COLUMNS / 4)
        soften_chunk(&sums, x, COLUMNS, highest, keep, block);
    if (n > 0) soften_chunk(&sums, x, n, highest, keep, block);
    for (int v = 1; v < VECTORS; v++) sums.all[0] += sums.all[v];
    s->sum = vf_sum(sums.all[0]);
    s->kept = vf_sum(sums.kept);
}

/* Queries of the group that begins at i, in a block of n. */
static inline int group_rows(const attn_sizes *s, int64_t i, int64_t n)
{
    return (int)(n - i < s->rows ? n - i : s->rows);
}

/* A block of n queries [D / COLUMNS][n][COLUMNS] times a panel of keys [D][COLUMNS], of which `width` columns matter.
 * The scores of a group lie from its first query times `row` on, [panels][rows][COLUMNS], and these at `column` of
 * them. A piece of D at a time, which stays near while all groups use it. */
static void score_panel(const attn_sizes *s, int64_t size, const float *queries, int64_t n, const float *panel,
                        int64_t width, float *scores, int64_t row, int64_t column, rows_ahead *ahead)
{
    for (int64_t d = 0; d < size; d += PIECE)
        for (int64_t i = 0; i < n; i += s->rows) {
            const int rows = group_rows(s, i, n);
            product(&(tile){.n_k = size - d < PIECE ? size - d : PIECE,
                            .a = queries + d * n + i * COLUMNS,
                            .a_row = COLUMNS,
                            .a_step = 1,
                            .a_chunk = n * COLUMNS,
                            .b = panel + d * COLUMNS,
                            .b_row = COLUMNS,
                            .c = scores + i * row + column * rows,
                            .c_row = COLUMNS,
                            .add = d > 0,
                            .ahead = ahead},
                    rows, width);
        }
}

/* Scores of a block of n queries against the first `end` columns. */
static void score(const vg_attn *a, const attn_work *w, attn_reader r, int64_t n, int64_t end)
{
    for (int64_t j = 0; j < end; j += COLUMNS) {
        const int64_t width = round_up(end - j, VF_LANES), origin = w->in_passing ? j : 0;
        if (w->in_passing) attn_pack_panels(a, w->keys, &a->k, &a->k2, r, j, end - j < COLUMNS ? end : j + COLUMNS, j);
        score_panel(&w->s, a->size, w->queries, n, w->keys + (j - origin) * a->size, width < COLUMNS ? width : COLUMNS,
                    w->scores, w->s.columns, j, w->ahead);
    }
}

/* Adds to a block of n sums the values of columns first..end-1, weighted by the scores: a run inside one chunk, or one
 * that begins with a chunk. Some columns of some values at a time, which stay near while all groups use them. */
static void weigh_run(const attn_work *w, const float *values, int64_t n, int64_t first, int64_t end, bool add)
{
    const int64_t size = w->s.padded_size, at_once = w->s.groups > 1 ? COLUMNS : size;
    for (int64_t d = 0; d < size; d += at_once)
        for (int64_t i = 0; i < n; i += w->s.rows) {
            const int rows = group_rows(&w->s, i, n);
            product(&(tile){.n_k = end - first,
                            .a = w->scores + i * w->s.columns + first / COLUMNS * rows * COLUMNS + first % COLUMNS,
                            .a_row = COLUMNS,
                            .a_step = 1,
                            .a_chunk = rows * COLUMNS,
                            .b = values + d,
                            .b_row = w->s.row,
                            .c = w->sums + i * w->s.row + d,
                            .c_row = w->s.row,
                            .add = add,
                            .ahead = w->ahead},
                    rows, size - d < at_once ? size - d : at_once);
        }
}

/* The same for any run, as long as it may be. */
static void weigh(const vg_attn *a, const attn_work *w, attn_reader r, int64_t n, int64_t first, int64_t end, bool add)
{
    while (first < end) {
        const int64_t inside = first % COLUMNS, most = inside ? COLUMNS - inside : RUN;
        const int64_t stop = end - first < most ? end : first + most;
        const int64_t origin = w->in_passing ? first : 0;
        if (w->in_passing) attn_pack_rows(a, w->values, w->s.row, &a->v, &a->v2, r, first, stop, origin);
        weigh_run(w, w->values + (first - origin) * w->s.row, n, first, stop, add);
        first = stop;
        add = true;
    }
}

static score_row score_row_of(const vg_attn *a, const attn_work *w, int64_t head, int64_t query, int64_t i,
                              int64_t block)
{
    const int64_t group = i / w->s.rows * w->s.rows;
    return (score_row){.scores = w->scores + group * w->s.columns + (i - group) * COLUMNS,
                       .step = group_rows(&w->s, group, block) * COLUMNS,
                       .bias = a->bias ? a->bias + (head * a->n_queries + query) * a->keys : NULL,
                       .block = a->rng ? attn_block_of(a, head, query) : 0};
}

/* Softmax and dropout of a block of n queries from `first` on, whose sums are not yet divided by. Largest scores come
 * first, all of them: a row's is waited for. */
static void soften_block(const vg_attn *a, const attn_work *w, const vg_attn_seen *seen, const vg_keep *keep,
                         int64_t head, int64_t first, int64_t n, softened *rest)
{
    const bool second = seen->second_end > a->n_first;
    const int64_t end = second ? seen->second_end : seen->first_end, columns = round_up(end, VF_LANES);
    score_row rows[GROUPS * ROWS];
    for (int64_t i = 0; i < n; i++) {
        const score_row *r = &rows[i];
        rows[i] = score_row_of(a, w, head, first + i, i, n);
        if (r->bias) add_bias(r, end);
        if (second) hide(r, seen->first_end, a->n_first);
        hide_rest(r, end);
        rest[i].largest = end ? largest_of(r, columns) : 0.0F;
    }
    if (a->rng)
        for (int64_t i = 0; i < n; i++) soften(&rows[i], columns, keep, &rest[i]);
    else
        for (int64_t i = 0; i < n; i++) soften(&rows[i], columns, NULL, &rest[i]);
}

/* A row whose sum of values waits for its factor. */
static void finish_row(const vg_attn *a, const float *sum, const softened *r, float keep_scale, int64_t slot,
                       int64_t head, int64_t query)
{
    const int64_t at = (slot * a->n_queries + query) * a->heads + head;
    const int64_t row = (slot * a->heads + head) * a->n_queries + query;
    const float factor = r->sum > 0.0F ? keep_scale / r->sum : 0.0F;
    scale_row(a->o + at * a->size, sum, a->size, factor);
    if (a->lse) a->lse[row] = (r->largest + log2f(r->sum)) * LN_2; /* minus infinity where no key is seen */
    if (a->sums) a->sums[row] = a->rng || factor == 0.0F ? r->kept * factor : 1.0F;
}

/* Queries first..first+n-1 of a slot: a block. */
static void attend_block(const vg_attn *a, const attn_work *w, attn_reader r, int64_t first, int64_t n)
{
    const int64_t slot = r.slot, head = r.head;
    const vg_attn_seen seen = vg_attn_seen_by(a, slot);
    const int64_t end = seen.second_end > a->n_first ? seen.second_end : seen.first_end;
    const vg_keep keep = attn_keep_of(a, slot);
    softened rest[GROUPS * ROWS];
    const float *q = vg_heads_row(&a->q, slot, a->n_queries, first, head, a->size);
    pack_left(w->queries, q, a->q.stride, n, a->size, a->scale * LOG2_E);
    score(a, w, r, n, end);
    soften_block(a, w, &seen, &keep, head, first, n, rest);
    weigh(a, w, r, n, 0, seen.first_end, false);
    weigh(a, w, r, n, a->n_first, seen.second_end, seen.first_end > 0);
    if (!end) memset(w->sums, 0, (size_t)(n * w->s.row) * sizeof(float));
    for (int64_t i = 0; i < n; i++) finish_row(a, w->sums + i * w->s.row, &rest[i], keep.scale, slot, head, first + i);
}

/* Columns begin..end-1 in their place among all. */
static void attn_pack(const vg_attn *a, const attn_work *w, attn_reader r, int64_t begin, int64_t end)
{
    attn_pack_panels(a, w->keys, &a->k, &a->k2, r, begin, end, 0);
    attn_pack_rows(a, w->values, w->s.row, &a->v, &a->v2, r, begin, end, 0);
}

/* What a part will write, and what the next one will read. */
static rows_ahead attention_ahead_of(const vg_attn *a, const attn_sizes *s, const vg_attn_part *part,
                                     const vg_attn_part *next)
{
    const vg_heads o = attn_o_of(a, a->o);
    rows_ahead ahead = attn_ahead_of(a, s, part, 2);
    ahead_add_queries(&ahead, a, &o, part);
    if (next) ahead_add_part(&ahead, a, next);
    return ahead;
}

static void packed_attention(const vg_attn *a, const vg_attn_part *part, const vg_attn_part *next, float *scratch)
{
    attn_work w;
    attn_work_cut(&w, a, scratch);
    const vg_attn_slots slots = vg_attn_slots_of(a, part->image);
    const int64_t block = w.s.groups * w.s.rows;
    attn_reader r = {.image = part->image, .slot = slots.first, .head = part->head};
    if (slots.first == slots.end || part->first == part->end) return;
    w.in_passing = slots.end - slots.first == 1 && part->end - part->first <= block;
    rows_ahead ahead = {0};
    w.ahead = &ahead;
    if (!w.in_passing || attn_is_short(a)) ahead = attention_ahead_of(a, &w.s, part, next);
    if (!w.in_passing) attn_pack(a, &w, r, 0, a->n_first);
    for (; r.slot < slots.end; r.slot++) {
        if (!w.in_passing) attn_pack(a, &w, r, a->n_first, a->keys);
        for (int64_t i = part->first; i < part->end; i += block)
            attend_block(a, &w, r, i, part->end - i < block ? part->end - i : block);
    }
}

#endif
