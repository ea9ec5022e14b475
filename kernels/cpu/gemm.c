/* The loops around the tiles. K is cut into spans, so that a packed block of A fits the second-level cache; a
 * span is a multiple of VG_GEMM_RUN, and the sums of earlier spans wait in the workspace and are added to in order, so
 * spans do not show in the bits either. */
#include "kernels/cpu/cpu_impl.h"
#include "kernels/cpu/gemm_impl.h"

#include <assert.h>
#include <omp.h>

enum {
    SPAN = 16 * VG_GEMM_RUN,   /* steps of K at a time */
    ACROSS_SPAN = VG_GEMM_RUN, /* where rows of A lie side by side: few steps of many rows are read faster */
    ACROSS_STEPS = 8,          /* of those, as many as stay in the first-level cache */
    BLOCK_FLOATS = 96 * 1024,  /* of A: a good part of the second-level cache */
    MAX_BLOCK_ROWS = 256
};

const vg_gemm_isa *vg_gemm_isa_get(void)
{
#if defined(__x86_64__)
    const vg_isa isa = vg_cpu_isa();
    return isa == VG_ISA_AVX512 ? &vg_gemm_avx512 : isa == VG_ISA_AVX2 ? &vg_gemm_avx2 : &vg_gemm_openblas;
#else
    return &vg_gemm_openblas;
#endif
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Number of pieces of `size` that cover n. */
static int64_t pieces(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* Where things lie in the workspace, and how the work is cut. */
typedef struct layout {
    const vg_gemm_isa *isa;
    int64_t row_panels, column_panels;
    int64_t k;            /* that there are */
    int64_t span;         /* the longest */
    int64_t block_panels; /* of mr rows: a block of A */
    float *partial;       /* [column_panels][row_panels*mr][nr] sums of earlier spans, or NULL */
    float *b;             /* [column_panels][span][nr], or NULL when B is packed */
    float *threads;       /* per thread: a block of A, then its sums */
    size_t thread_floats, total_floats;
} layout;

/* Columns of B must follow one another: single lines of many rows are better fetched for all panels at once. */
static bool can_pack_on_the_way(const vg_gemm *g)
{
    return !g->packed && g->b_step == 1;
}

static layout plan(const vg_gemm *g, int n_threads, float *workspace)
{
    layout l = {.isa = vg_gemm_isa_get(),
                .k = g->steps ? g->n_steps : g->k,
                .span = least(g->k, g->a_step == 1 ? SPAN : ACROSS_SPAN)};
    const int64_t mr = l.isa->mr, nr = l.isa->nr;
    l.row_panels = pieces(g->m, mr);
    l.column_panels = pieces(g->n, nr);
    const int64_t limit = least(MAX_BLOCK_ROWS / mr, BLOCK_FLOATS / (mr * l.span) + 1);
    const int64_t most = can_pack_on_the_way(g) ? 2 * limit : limit; /* rather one large block than B kept for two */
    l.block_panels = l.row_panels <= most ? l.row_panels : limit;
    const int64_t room = least(most, l.row_panels); /* that fewer rows may need */
    const size_t partial = g->k > l.span ? vg_round_up((size_t)(l.column_panels * nr * l.row_panels * mr), 16) : 0;
    const size_t b = g->packed ? 0 : vg_round_up((size_t)(l.column_panels * nr * l.span), 16);
    l.thread_floats = vg_round_up((size_t)(room * mr * l.span), 16) + vg_round_up((size_t)(room * mr * nr), 16) + 16;
    l.total_floats = partial + b + (size_t)n_threads * l.thread_floats;
    if (workspace) {
        l.partial = partial ? workspace : NULL;
        l.b = b ? workspace + partial : NULL;
        l.threads = workspace + partial + b;
    }
    return l;
}

size_t vg_gemm_workspace(const vg_gemm *g, int n_threads)
{
    return plan(g, n_threads, NULL).total_floats * sizeof(float);
}

size_t vg_gemm_packed_bytes(int64_t n, int64_t k)
{
    const int64_t nr = vg_gemm_isa_get()->nr;
    return (size_t)(pieces(n, nr) * nr * k) * sizeof(float);
}

/* What is packed: panels of `width` lanes out of n_lanes. */
typedef struct source {
    const float *data;
    int64_t lane, step, n_lanes;
    const int32_t *lanes, *steps; /* which ones, or NULL */
    const float *scale;
    float *sums; /* of its lanes, or NULL */
    int width;
    bool asks; /* while a panel is packed, for the next one */
} source;

static source source_a(const vg_gemm *g, const vg_gemm_isa *isa)
{
    return (source){g->a, g->a_row, g->a_step, g->m, g->rows, g->steps, g->a_scale, NULL, isa->mr, true};
}

static source source_b(const vg_gemm *g, const vg_gemm_isa *isa)
{
    return (source){g->b, g->b_column, g->b_step, g->n, NULL, g->steps, NULL, NULL, isa->nr, true};
}

/* Of the n steps from `start` on, how many are neighbours in the source. */
static int64_t neighbours(const source *s, int64_t start, int64_t n)
{
    int64_t count = 1;
    while (s->steps && count < n && s->steps[start + count] == s->steps[start] + count) count++;
    return s->steps ? count : n;
}

/* Panels first..end-1, steps start..start+length-1, as [panel][length][width]. Where lanes lie side by side, so do
 * panels: a few steps of all of them are taken at a time, while their cache lines are near. */
static void pack_panels(const vg_gemm_isa *isa, const source *s, int64_t first, int64_t end, int64_t start,
                        int64_t length, float *packed)
{
    const int64_t at_once = s->step == 1 ? length : ACROSS_STEPS;
    const int ahead = !s->asks ? 0 : s->step == 1 ? s->width : ACROSS_STEPS;
    if (s->sums && start == 0)
        for (int64_t i = first * s->width; i < least(end * s->width, s->n_lanes); i++) s->sums[i] = 0;
    for (int64_t p = 0, n; p < length; p += n) {
        n = neighbours(s, start + p, least(at_once, length - p));
        for (int64_t panel = first; panel < end; panel++) {
            const int64_t lane = panel * s->width, step = s->steps ? s->steps[start + p] : start + p;
            isa->pack(packed + ((panel - first) * length + p) * s->width, s->width,
                      s->data + (s->lanes ? 0 : lane) * s->lane + step * s->step, s->lane, s->step,
                      s->lanes ? s->lanes + lane : NULL, (int)least(s->width, s->n_lanes - lane), n,
                      s->scale ? s->scale + step : NULL, s->sums ? s->sums + lane : NULL, ahead);
        }
    }
}

void vg_gemm_pack(const vg_gemm *g, float *packed)
{
    const vg_gemm_isa *isa = vg_gemm_isa_get();
    const source b = source_b(g, isa);
    pack_panels(isa, &b, 0, pieces(g->n, isa->nr), 0, g->k, packed);
}

/* One thread's part: row panels first_row..end_row, column panels first_column..end_column. */
typedef struct part {
    int64_t first_row, end_row, first_column, end_column;
    bool has_all_rows; /* as every other part */
} part;

/* The n_threads threads form a grid, the one whose largest part costs least: its tiles, and each panel about one more
 * for packing or fetching it. */
static part part_of(const layout *l, int thread, int n_threads)
{
    int best = 1;
    int64_t least_cost = INT64_MAX;
    for (int across = 1; across <= n_threads; across++) {
        if (n_threads % across) continue;
        const int64_t rows = pieces(l->row_panels, n_threads / across), columns = pieces(l->column_panels, across);
        const int64_t cost = (rows + 1) * (columns + 1);
        if (cost < least_cost) {
            least_cost = cost;
            best = across;
        }
    }
    const int down = n_threads / best, row = thread / best, column = thread % best;
    return (part){l->row_panels * row / down, l->row_panels * (row + 1) / down, l->column_panels * column / best,
                  l->column_panels * (column + 1) / best, down == 1};
}

/* Whether a panel of B is packed when it is used: by one thread and for one block of A, so that there is no later use
 * to keep it for. */
static bool packs_on_the_way(const vg_gemm *g, const layout *l, part mine)
{
    return can_pack_on_the_way(g) && mine.has_all_rows && l->row_panels <= l->block_panels;
}

/* Where a tile that finishes will read and write: in C, and in what it adds to or else keeps the sums in. */
static void ask_for_c(const vg_gemm *g, int64_t row, int64_t column, vg_gemm_ahead *ahead)
{
    const vg_gemm_finish *f = &g->finish;
    const int64_t at = vg_gemm_row_of_c(g, row) + column;
    ahead->c = f->c + at;
    ahead->beside = f->add ? f->add + at : f->z ? f->z + at : ahead->c;
    ahead->row = f->c_row ? f->c_row : g->n;
}

/* A column panel of B over one span, packed ([length][nr]); and the next one, or what that will be packed from. */
typedef struct panel {
    const float *b, *next;
    bool next_is_packed;
} panel;

/* What tile i asks for in the run that begins at step p: its share, floats a step, of the packed run that follows, or
 * of as much of what the next panel is packed from. */
static void ask_for_b(const layout *l, const panel *b, int64_t p, int64_t length, int64_t i, int64_t share,
                      vg_gemm_ahead *ahead)
{
    const int64_t nr = l->isa->nr, steps = least(VG_GEMM_RUN, length - p);
    const bool stays = b->next_is_packed && p + steps < length;
    const float *next = stays ? b->b + (p + steps) * nr : b->next_is_packed ? b->next : b->next + p * nr;
    ahead->b = next + i * steps * share;
    ahead->b_step = share;
}

/* Whether the sums of a tile are what C wants of it: it is finished where it stores them. */
static bool is_plain(const vg_gemm *g)
{
    const vg_gemm_finish *f = &g->finish;
    return g->k <= VG_GEMM_RUN && !g->rows && !f->z && !f->add && !f->bias && !f->scale && f->act == VG_ACT_NONE;
}

/* Row panels first.. of A (packed, n_panels of [length][mr]) times column panel j over one span. A tile is finished
 * while its sums are in the first-level cache, and its stores leave behind the next tile's products; while the panels
 * share a run of B, they fetch what follows it. */
static void run_panel(const vg_gemm *g, const layout *l, const float *a, int64_t first, int64_t n_panels,
                      const panel *b, int64_t j, int64_t start, int64_t length, float *sums)
{
    const vg_gemm_isa *isa = l->isa;
    const int64_t mr = isa->mr, nr = isa->nr, share = pieces(nr, n_panels);
    const bool plain = is_plain(g) && j * nr + nr <= g->n;
    for (int64_t p = 0; p < length; p += VG_GEMM_RUN) {
        const int64_t steps = least(VG_GEMM_RUN, length - p);
        const bool finishes = start + p + steps == l->k;
        for (int64_t i = 0; i < n_panels; i++) {
            float *sum = sums + i * mr * nr;
            const int64_t row = (first + i) * mr;
            vg_gemm_ahead ahead = {.c = sum, .beside = sum, .row = nr};
            ask_for_b(l, b, p, length, i, share, &ahead);
            if (finishes) ask_for_c(g, row, j * nr, &ahead);
            const bool in_c = plain && row + mr <= g->m;
            isa->tile(steps, a + (i * length + p) * mr, b->b + p * nr,
                      in_c ? g->finish.c + row * ahead.row + j * nr : sum, in_c ? ahead.row : nr, start + p > 0,
                      &ahead);
            if (finishes && !in_c) isa->finish(g, sum, row, least(mr, g->m - row), j * nr);
        }
    }
}

/* Column panel j, which this thread alone uses, and at once: it is packed into the place of the one before. Others may
 * be in another span. */
static panel pack_on_the_way(const vg_gemm *g, const layout *l, part mine, int64_t j, int64_t start, int64_t length)
{
    const int64_t nr = l->isa->nr;
    float *packed = l->b + mine.first_column * nr * l->span;
    source b = source_b(g, l->isa);
    b.asks = false; /* the tiles do */
    pack_panels(l->isa, &b, j, j + 1, start, length, packed);
    return (panel){packed, g->b + (j + 1) * nr * g->b_column + start, false};
}

/* The same where it lies packed. */
static panel packed_panel(const vg_gemm *g, const layout *l, int64_t j, int64_t start, int64_t length)
{
    const int64_t size = (g->packed ? l->k : length) * l->isa->nr;
    const float *b = g->packed ? g->packed + start * l->isa->nr : l->b;
    return (panel){b + j * size, b + (j + 1) * size, true};
}

static void run_part(const vg_gemm *g, const layout *l, part mine, int64_t start, int64_t length, float *memory)
{
    const vg_gemm_isa *isa = l->isa;
    const int64_t mr = isa->mr, nr = isa->nr;
    if (mine.first_column == mine.end_column) return; /* more threads than panels */
    source from = source_a(g, isa);
    if (mine.first_column == 0) from.sums = g->a_sums; /* one of the threads that pack these rows */
    float *a = memory, *tiles = memory + vg_round_up((size_t)(l->block_panels * mr * l->span), 16);
    const int64_t n_mine = mine.end_row - mine.first_row, n_blocks = pieces(n_mine, l->block_panels);
    for (int64_t block = 0; block < n_blocks; block++) {
        const int64_t i = mine.first_row + n_mine * block / n_blocks;
        const int64_t n_panels = mine.first_row + n_mine * (block + 1) / n_blocks - i;
        pack_panels(isa, &from, i, i + n_panels, start, length, a);
        for (int64_t j = mine.first_column; j < mine.end_column; j++) {
            float *sums = l->partial ? l->partial + (j * l->row_panels + i) * mr * nr : tiles;
            const panel here = packs_on_the_way(g, l, mine) ? pack_on_the_way(g, l, mine, j, start, length)
                                                            : packed_panel(g, l, j, start, length);
            run_panel(g, l, a, i, n_panels, &here, j, start, length, sums);
        }
    }
}

/* Steps of the span that begins at `start`: it holds those of the span that would be there if there were all. */
static int64_t span_from(const vg_gemm *g, const layout *l, int64_t start)
{
    if (!g->steps) return least(l->span, l->k - start);
    int64_t length = 1;
    while (start + length < l->k && g->steps[start + length] / l->span == g->steps[start] / l->span) length++;
    return length;
}

/* A product shorter than this takes less time than it takes to wake a thread. */
static int threads_for(const vg_gemm *g, int n_threads)
{
    enum { MULTIPLY_ADDS_PER_THREAD = 1 << 18 };
    return (int)least(n_threads, 1 + g->m * g->n * g->k / MULTIPLY_ADDS_PER_THREAD);
}

/* A span of B, for all threads: each packs as many panels, when nobody reads the span before any more. */
static void pack_share(const vg_gemm *g, const layout *l, int thread, int n_threads, int64_t start, int64_t length)
{
    const source b = source_b(g, l->isa);
    const int64_t first = l->column_panels * thread / n_threads, end = l->column_panels * (thread + 1) / n_threads;
    if (start > 0) {
#pragma omp barrier
    }
    pack_panels(l->isa, &b, first, end, start, length, l->b + first * l->isa->nr * length);
#pragma omp barrier
}

void vg_gemm_run(const vg_stream *stream, const vg_gemm *g, void *workspace)
{
    assert(!g->steps || (g->n_steps > 0 && g->a_row == 1 && g->b_column == 1 && !g->packed));
    const layout l = plan(g, stream->n_threads, workspace);
    const int n_asked = threads_for(g, stream->n_threads);
    if (l.isa->prepare) l.isa->prepare();
#pragma omp parallel num_threads(n_asked) if (n_asked > 1)
    {
        const int thread = omp_get_thread_num(), n_threads = omp_get_num_threads();
        const part mine = part_of(&l, thread, n_threads);
        const bool shares_b = !g->packed && !packs_on_the_way(g, &l, mine);
        for (int64_t start = 0, length; start < l.k; start += length) {
            length = span_from(g, &l, start);
            if (shares_b) pack_share(g, &l, thread, n_threads, start, length);
            run_part(g, &l, mine, start, length, l.threads + (size_t)thread * l.thread_floats);
        }
    }
}
