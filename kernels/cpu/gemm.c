/* The loops around the tiles. K is cut into spans, so that a packed block of A fits the second-level cache; a
 * span is a multiple of VG_GEMM_RUN, and the sums of earlier spans wait in the workspace and are added to in order, so
 * spans do not show in the bits either. */
#include "kernels/cpu/cpu_impl.h"
#include "kernels/cpu/gemm_impl.h"

#include <assert.h>
#include <omp.h>

enum {
    SPAN = 16 * VG_GEMM_RUN,   /* steps of K at a time, at most */
    ACROSS_SPAN = VG_GEMM_RUN, /* where rows of A lie side by side: few steps of many rows are read faster */
    ACROSS_STEPS = 8,          /* of those, as many as stay in the first-level cache */
    BLOCK_FLOATS = 96 * 1024,  /* of A: a good part of the second-level cache */
    MAX_BLOCK_ROWS = 272       /* 256 and what fills their last panel */
};

const vg_gemm_isa *vg_gemm_isa_get(void)
{
#if defined(__x86_64__)
    const vg_isa isa = vg_cpu_isa();
    return isa == VG_ISA_AVX512 ? &vg_gemm_avx512 : isa == VG_ISA_AVX2 ? &vg_gemm_avx2 : &vg_gemm_base;
#else
    return &vg_gemm_base;
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
    float *threads;       /* per thread: a block of A, its sums, a run of a panel of B */
    size_t thread_floats, total_floats;
} layout;

/* Columns of B follow one another: a panel is packed by itself, by turning squares of it. */
static bool turns_b(const vg_gemm *g)
{
    return !g->packed && g->b_step == 1;
}

/* Few rows get a span short enough to be one block. */
static int64_t span_of(const vg_gemm *g, int64_t rows)
{
    const int64_t fitting = BLOCK_FLOATS / rows / VG_GEMM_RUN * VG_GEMM_RUN;
    if (g->a_step != 1) return ACROSS_SPAN;
    return rows > MAX_BLOCK_ROWS ? SPAN : fitting < VG_GEMM_RUN ? VG_GEMM_RUN : least(SPAN, fitting);
}

static layout plan(const vg_gemm *g, int n_threads, float *workspace)
{
    layout l = {.isa = vg_gemm_isa_get(), .k = g->steps ? g->n_steps : g->k};
    const int64_t mr = l.isa->mr, nr = l.isa->nr;
    l.row_panels = pieces(g->m, mr);
    l.column_panels = pieces(g->n, nr);
    l.span = least(g->k, span_of(g, l.row_panels * mr));
    const int64_t limit = least(MAX_BLOCK_ROWS / mr, BLOCK_FLOATS / (mr * l.span) + 1);
    const int64_t most = turns_b(g) ? 2 * limit : limit; /* rather one large block than B kept for two */
    l.block_panels = l.row_panels <= most ? l.row_panels : limit;
    const int64_t room = least(most, l.row_panels); /* that fewer rows may need */
    const size_t partial = g->k > l.span ? vg_round_up((size_t)(l.column_panels * nr * l.row_panels * mr), 16) : 0;
    const size_t b = g->packed ? 0 : vg_round_up((size_t)(l.column_panels * nr * l.span), 16);
    const size_t run = g->packed ? 0 : (size_t)(least(VG_GEMM_RUN, l.span) * nr);
    l.thread_floats =
        vg_round_up((size_t)(room * mr * l.span), 16) + vg_round_up((size_t)(room * mr * nr), 16) + run + 16;
    l.total_floats = partial + b + (size_t)n_threads * l.thread_floats;
    if (workspace) {
        l.partial = partial ? workspace : NULL;
        l.b = b ? workspace + partial : NULL;
        l.threads = workspace + partial + b;
    }
    return l;
}

/* Fewer rows may have a longer span, or partial sums where more have none. */
size_t vg_gemm_workspace(const vg_gemm *g, int n_threads)
{
    size_t most = plan(g, n_threads, NULL).total_floats;
    vg_gemm fewer = *g;
    const int64_t mr = vg_gemm_isa_get()->mr, rows = least(g->m, MAX_BLOCK_ROWS);
    for (fewer.m = mr; fewer.m <= rows; fewer.m += mr) {
        const size_t floats = plan(&fewer, n_threads, NULL).total_floats;
        if (floats > most) most = floats;
    }
    return most * sizeof(float);
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

/* Whether a panel of B is packed when it is used. Where its rows only move together, tiles do that beside their
 * products; turning it is work of its own, worth it where no other thread and no later block of A uses it too. */
static bool packs_on_the_way(const vg_gemm *g, const layout *l, part mine)
{
    if (g->packed || g->steps) return false;
    return !turns_b(g) || (mine.has_all_rows && l->row_panels <= l->block_panels);
}

/* Where a tile that finishes will read and write: in C, and in what it adds to or else keeps the sums in; where there
 * is no such thing, half of C is asked for in its place. */
static void ask_for_c(const vg_gemm *g, const layout *l, int64_t row, int64_t column, vg_gemm_ahead *ahead)
{
    const vg_gemm_finish *f = &g->finish;
    const int64_t at = vg_gemm_row_of_c(g, row) + column;
    ahead->row = f->c_row ? f->c_row : g->n;
    ahead->c = f->c + at;
    ahead->beside = f->add ? f->add + at : f->z ? f->z + at : ahead->c + l->isa->mr / 2 * ahead->row;
}

/* A column panel of B over one span: packed ([length][nr]), or packed when it is used. */
typedef struct panel {
    const float *b;    /* packed; or what it is packed from */
    const float *next; /* the same of the panel that follows */
    float *kept;       /* where a run of it is packed; NULL: it lies packed */
} panel;

/* What tile i asks for in the run that begins at step p: the run that follows, be it packed or what it is packed from,
 * of this panel or, at the end, of the next. Where they lie apart, a tile takes a line of each step; what some tiles
 * leave is no work for the others. */
static void ask_for_b(const vg_gemm *g, const layout *l, const panel *b, int64_t p, int64_t length, int64_t i,
                      int64_t n_panels, vg_gemm_ahead *ahead)
{
    const int64_t nr = l->isa->nr, steps = least(VG_GEMM_RUN, length - p);
    const bool stays = p + steps < length;
    ahead->b = b->b;
    ahead->b_step = ahead->b_turn = 0;
    if (!b->kept) {
        ahead->b_step = pieces(nr, n_panels);
        ahead->b = (stays ? b->b + (p + steps) * nr : b->next) + i * steps * ahead->b_step;
        return;
    }
    const int64_t lines = pieces(nr, VG_GEMM_LINE), line = i % lines, step = i / lines * steps;
    if (step >= VG_GEMM_RUN) return;
    ahead->b =
        (stays ? b->b + (p + steps) * g->b_step : b->next) + step * g->b_step + line * VG_GEMM_LINE * g->b_column;
    ahead->b_step = turns_b(g) ? g->b_column : g->b_step;
    if (turns_b(g)) ahead->b_turn = VG_GEMM_LINE * (1 - g->b_column);
}

/* A run of it. */
typedef struct run_of_b {
    float *packed;     /* [steps][nr] */
    const float *rows; /* where the first tile finds it, to leave it packed; or NULL */
} run_of_b;

/* The one at step p of a span: packed here where the tiles can't. */
static run_of_b run_from(const vg_gemm *g, const layout *l, const panel *b, int64_t j, int64_t start, int64_t p,
                         int64_t steps)
{
    const int64_t nr = l->isa->nr;
    if (!b->kept) return (run_of_b){(float *)b->b + p * nr, NULL};
    if (!turns_b(g) && j * nr + nr <= g->n) return (run_of_b){b->kept, b->b + p * g->b_step};
    source from = source_b(g, l->isa);
    from.asks = false; /* the tiles do */
    pack_panels(l->isa, &from, j, j + 1, start + p, steps, b->kept);
    return (run_of_b){b->kept, NULL};
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
    const int64_t mr = isa->mr, nr = isa->nr;
    const bool plain = is_plain(g) && j * nr + nr <= g->n;
    for (int64_t p = 0; p < length; p += VG_GEMM_RUN) {
        const int64_t steps = least(VG_GEMM_RUN, length - p);
        const bool finishes = start + p + steps == l->k;
        const run_of_b run = run_from(g, l, b, j, start, p, steps);
        vg_gemm_tile tile = {.k = steps, .b_row = g->b_step, .add = start + p > 0};
        for (int64_t i = 0; i < n_panels; i++) {
            float *sum = sums + i * mr * nr;
            const int64_t row = (first + i) * mr, n_rows = least(mr, g->m - row);
            const bool keeps = i == 0 && run.rows, in_c = plain && n_rows == mr;
            tile.n_rows = (int)n_rows;
            tile.a = a + (i * length + p) * mr;
            tile.b = keeps ? run.rows : run.packed;
            tile.kept = keeps ? run.packed : NULL;
            tile.c = sum;
            tile.c_row = tile.ahead.row = nr;
            tile.ahead.c = tile.ahead.beside = sum;
            ask_for_b(g, l, b, p, length, i, n_panels, &tile.ahead);
            if (finishes) ask_for_c(g, l, row, j * nr, &tile.ahead);
            if (in_c) {
                tile.c_row = tile.ahead.row;
                tile.c = g->finish.c + row * tile.c_row + j * nr;
            }
            isa->tile(&tile);
            if (finishes && !in_c) isa->finish(g, sum, row, n_rows, j * nr);
        }
    }
}

/* Column panel j, packed when it is used. Others may be in another span. */
static panel panel_on_the_way(const vg_gemm *g, const layout *l, part mine, int64_t j, int64_t start, int64_t length,
                              float *run)
{
    const int64_t nr = l->isa->nr;
    const bool is_last = j + 1 == mine.end_column && start + length < l->k; /* then the first one's next span follows */
    const float *here = g->b + j * nr * g->b_column + start * g->b_step, *next = here + nr * g->b_column;
    if (is_last) next = g->b + mine.first_column * nr * g->b_column + (start + length) * g->b_step;
    return (panel){here, next, run};
}

/* The same where it lies packed. */
static panel packed_panel(const vg_gemm *g, const layout *l, int64_t j, int64_t start, int64_t length)
{
    const int64_t size = (g->packed ? l->k : length) * l->isa->nr;
    const float *b = g->packed ? g->packed + start * l->isa->nr : l->b;
    return (panel){b + j * size, b + (j + 1) * size, NULL};
}

static void run_part(const vg_gemm *g, const layout *l, part mine, int64_t start, int64_t length, float *memory)
{
    const vg_gemm_isa *isa = l->isa;
    const int64_t mr = isa->mr, nr = isa->nr;
    if (mine.first_column == mine.end_column) return; /* more threads than panels */
    source from = source_a(g, isa);
    if (mine.first_column == 0) from.sums = g->a_sums; /* one of the threads that pack these rows */
    float *a = memory, *tiles = memory + vg_round_up((size_t)(l->block_panels * mr * l->span), 16);
    float *run = tiles + vg_round_up((size_t)(l->block_panels * mr * nr), 16);
    const int64_t n_mine = mine.end_row - mine.first_row, n_blocks = pieces(n_mine, l->block_panels);
    const bool on_the_way = packs_on_the_way(g, l, mine);
    for (int64_t block = 0; block < n_blocks; block++) {
        const int64_t i = mine.first_row + n_mine * block / n_blocks;
        const int64_t n_panels = mine.first_row + n_mine * (block + 1) / n_blocks - i;
        pack_panels(isa, &from, i, i + n_panels, start, length, a);
        for (int64_t j = mine.first_column; j < mine.end_column; j++) {
            float *sums = l->partial ? l->partial + (j * l->row_panels + i) * mr * nr : tiles;
            const panel here =
                on_the_way ? panel_on_the_way(g, l, mine, j, start, length, run) : packed_panel(g, l, j, start, length);
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

/* A product shorter than this takes less time than it takes to wake a thread. Tiles compute whole panels of columns,
 * and their sums take time to store, as some steps do. */
static int threads_for(const vg_gemm *g, const layout *l, int n_threads)
{
    enum { MULTIPLY_ADDS_PER_THREAD = 1 << 18, STEPS_TO_STORE = 16 };
    const int64_t columns = l->column_panels * l->isa->nr;
    return (int)least(n_threads, 1 + g->m * columns * (g->k + STEPS_TO_STORE) / MULTIPLY_ADDS_PER_THREAD);
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
    const int n_asked = threads_for(g, &l, stream->n_threads);
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
