/* The canonical sum beside what MPI offers for the same: every algorithm of its tuned all-reduce, whole and in chunks,
 * and, where all ranks share memory, a plain sum in a shared window. All are run in turn, round after round, so that a
 * busy machine is busy for all of them; the fastest of each kind runs again beside the canonical sum.
 *
 *     OMPI_MCA_coll_tuned_use_dynamic_rules=1 mpirun -n 2 bench_allreduce ROUNDS MIB...
 *
 * Prints a table for each size, and behind `ratio` the median over rounds of the canonical sum's time over that of the
 * fastest of those. */
#include "dist/reduce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mpi.h>

enum {
    ALGORITHMS = 7,
    CONTESTANTS = 2 + 2 * ALGORITHMS,
    MAX_ROUNDS = 101,
    QUALIFYING = 5,
    CHUNK = 1 << 18,
    PIECE = 4096
};

typedef struct contest {
    vg_comm *comm;
    int ranks, rank;
    int64_t n;
    vg_reducer *reducer;
    float *own;              /* [n] that MPI reduces in place */
    MPI_Comm by[ALGORITHMS]; /* whose all-reduce is of that number */
    MPI_Win win;
    float **parts, *total; /* [ranks] of [n] in a window, and [n] behind the first; NULL: not all ranks share memory */
} contest;

static void must(vg_status st)
{
    if (st == VG_OK) return;
    fprintf(stderr, "bench_allreduce: %s\n", vg_error_text());
    MPI_Abort(MPI_COMM_WORLD, vg_exit_code(st));
}

/* ---- the contestants ---- */

static void sum_canonical(contest *c, int unused)
{
    (void)unused;
    const float *total;
    vg_reducer_push(c->reducer, false);
    must(vg_reducer_finish(c->reducer, &total));
}

static void sum_whole(contest *c, int algorithm)
{
    MPI_Allreduce(MPI_IN_PLACE, c->own, (int)c->n, MPI_FLOAT, MPI_SUM, c->by[algorithm]);
}

static void sum_in_chunks(contest *c, int algorithm)
{
    for (int64_t i = 0; i < c->n; i += CHUNK)
        MPI_Allreduce(MPI_IN_PLACE, c->own + i, (int)(c->n - i < CHUNK ? c->n - i : CHUNK), MPI_FLOAT, MPI_SUM,
                      c->by[algorithm]);
}

/* Each rank a slice of all, piece by piece. */
static void sum_in_window(contest *c, int unused)
{
    (void)unused;
    int64_t first, count;
    vg_slice_of(c->n, PIECE, c->ranks, c->rank, &first, &count);
    MPI_Win_sync(c->win);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int64_t at = first; at < first + count; at += PIECE) {
        const int64_t end = first + count - at < PIECE ? first + count : at + PIECE;
        const float *left = c->parts[0];
        for (int r = 1; r < c->ranks; r++, left = c->total)
            for (int64_t i = at; i < end; i++) c->total[i] = left[i] + c->parts[r][i];
    }
    MPI_Win_sync(c->win);
    MPI_Barrier(MPI_COMM_WORLD);
}

typedef struct contestant {
    const char *name;
    void (*sum)(contest *c, int algorithm);
    int algorithm;
} contestant;

/* The numbers are those of coll_tuned_allreduce_algorithm. */
static const contestant contestants[CONTESTANTS] = {
    {"canonical", sum_canonical, 0},
    {"MPI's choice", sum_whole, 0},
    {"linear", sum_whole, 1},
    {"reduce, broadcast", sum_whole, 2},
    {"recursive doubling", sum_whole, 3},
    {"ring", sum_whole, 4},
    {"segmented ring", sum_whole, 5},
    {"Rabenseifner", sum_whole, 6},
    {"MPI's choice, 1 MiB each", sum_in_chunks, 0},
    {"linear, 1 MiB each", sum_in_chunks, 1},
    {"reduce, broadcast, 1 MiB each", sum_in_chunks, 2},
    {"recursive doubling, 1 MiB each", sum_in_chunks, 3},
    {"ring, 1 MiB each", sum_in_chunks, 4},
    {"segmented ring, 1 MiB each", sum_in_chunks, 5},
    {"Rabenseifner, 1 MiB each", sum_in_chunks, 6},
    {"shared window", sum_in_window, 0},
};

/* ---- what they need ---- */

/* The setting counts for communicators that are made under it. */
static MPI_Comm communicator_by(int algorithm)
{
    int index, count, level;
    MPI_T_cvar_handle handle;
    MPI_Comm made;
    MPI_T_init_thread(MPI_THREAD_SINGLE, &level);
    if (MPI_T_cvar_get_index("coll_tuned_allreduce_algorithm", &index) != MPI_SUCCESS ||
        MPI_T_cvar_handle_alloc(index, NULL, &handle, &count) != MPI_SUCCESS)
        must(vg_fail(VG_E_USAGE, "set OMPI_MCA_coll_tuned_use_dynamic_rules=1"));
    MPI_T_cvar_write(handle, &algorithm);
    MPI_T_cvar_handle_free(&handle);
    MPI_Comm_dup(MPI_COMM_WORLD, &made);
    MPI_T_finalize();
    return made;
}

static void make_window(contest *c)
{
    MPI_Info info;
    void *mine;
    if (vg_comm_local_size(c->comm) < c->ranks) return;
    const int64_t floats = c->rank == 0 ? 2 * c->n : c->n;
    MPI_Info_create(&info);
    MPI_Info_set(info, "alloc_shared_noncontig", "true");
    MPI_Win_allocate_shared((MPI_Aint)((size_t)floats * sizeof(float)), 1, info, MPI_COMM_WORLD, &mine, &c->win);
    MPI_Info_free(&info);
    MPI_Win_lock_all(MPI_MODE_NOCHECK, c->win);
    c->parts = vg_new0_array((size_t)c->ranks, sizeof *c->parts);
    for (int r = 0; r < c->ranks; r++) {
        MPI_Aint size;
        int unit;
        MPI_Win_shared_query(c->win, r, &size, &unit, &c->parts[r]);
    }
    c->total = c->parts[0] + c->n;
    memset(mine, 0, (size_t)floats * sizeof(float));
}

static void open_size(contest *c, int64_t n)
{
    const vg_sum_plan plan = {.n = n, .n_leaves = c->ranks, .n_buckets = 1, .bucket_ends = &n};
    c->n = n;
    c->own = vg_new0_array((size_t)n, sizeof *c->own);
    must(vg_reducer_new(c->comm, &plan, NULL, NULL, &c->reducer));
    make_window(c);
}

static void close_size(contest *c)
{
    vg_reducer_free(c->reducer);
    free(c->own);
    if (!c->parts) return;
    MPI_Win_unlock_all(c->win);
    MPI_Win_free(&c->win);
    free(c->parts);
    c->parts = NULL;
}

/* ---- the contest ---- */

/* A gradient is written before it is summed, where it will be. */
static void write_gradient(contest *c, const contestant *who)
{
    float *own = c->own;
    if (who->sum == sum_canonical) own = vg_reducer_leaf(c->reducer);
    if (who->sum == sum_in_window) own = c->parts[c->rank];
    memset(own, 0, (size_t)c->n * sizeof *own);
}

/* Seconds until the last rank has it. */
static double time_of(contest *c, const contestant *who)
{
    MPI_Barrier(MPI_COMM_WORLD);
    const double start_s = vg_now_s();
    who->sum(c, who->algorithm);
    double seconds = vg_now_s() - start_s;
    MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return seconds;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(const double *values, int n)
{
    double sorted[MAX_ROUNDS];
    memcpy(sorted, values, (size_t)n * sizeof *values);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* A round of those that take part, every other time from the last to the first: a connection remembers what went
 * before. */
static void hold_round(contest *c, const bool *takes_part, double times[CONTESTANTS][MAX_ROUNDS], int round)
{
    for (int place = 0; place < CONTESTANTS; place++) {
        const int i = round % 2 ? CONTESTANTS - 1 - place : place;
        if (!takes_part[i]) continue;
        write_gradient(c, &contestants[i]);
        times[i][round] = time_of(c, &contestants[i]);
    }
}

/* The fastest of those that sum so; -1 where none does. */
static int best_of(void (*sum)(contest *, int), const bool *takes_part, double times[CONTESTANTS][MAX_ROUNDS],
                   int rounds)
{
    int best = -1;
    for (int i = 0; i < CONTESTANTS; i++) {
        if (contestants[i].sum != sum || !takes_part[i]) continue;
        if (best < 0 || median_of(times[i], rounds) < median_of(times[best], rounds)) best = i;
    }
    return best;
}

static void print_times(const bool *takes_part, double times[CONTESTANTS][MAX_ROUNDS], int rounds)
{
    for (int i = 0; i < CONTESTANTS; i++)
        if (takes_part[i]) printf("  %-32s %9.3f\n", contestants[i].name, 1e3 * median_of(times[i], rounds));
}

static void print_ratio(const bool *finalist, double times[CONTESTANTS][MAX_ROUNDS], int rounds)
{
    int best = 0;
    double ratios[MAX_ROUNDS];
    for (int i = 1; i < CONTESTANTS; i++)
        if (finalist[i] && (!best || median_of(times[i], rounds) < median_of(times[best], rounds))) best = i;
    for (int round = 0; round < rounds; round++) ratios[round] = times[0][round] / times[best][round];
    printf("ratio %.3f of %s\n", median_of(ratios, rounds), contestants[best].name);
    fflush(stdout);
}

static void hold(contest *c, int rounds)
{
    static double times[CONTESTANTS][MAX_ROUNDS];
    bool all[CONTESTANTS], finalist[CONTESTANTS] = {true};
    for (int i = 0; i < CONTESTANTS; i++) all[i] = contestants[i].sum != sum_in_window || c->parts;
    hold_round(c, all, times, 0); /* does not count: connections are made, pages are found */
    for (int round = 0; round < QUALIFYING; round++) hold_round(c, all, times, round);
    void (*const kinds[])(contest *, int) = {sum_whole, sum_in_chunks, sum_in_window};
    for (int k = 0; k < 3; k++) {
        int best = best_of(kinds[k], all, times, QUALIFYING);
        MPI_Bcast(&best, 1, MPI_INT, 0, MPI_COMM_WORLD);
        if (best >= 0) finalist[best] = true;
    }
    if (c->rank == 0) {
        printf("%.2f MiB, %d ranks, %d of them on a host; ms, medians of %d\n", (double)c->n / (1 << 18), c->ranks,
               vg_comm_local_size(c->comm), QUALIFYING);
        print_times(all, times, QUALIFYING);
    }
    for (int round = 0; round < rounds; round++) hold_round(c, finalist, times, round);
    if (c->rank == 0) {
        printf("  the best of each kind again, medians of %d\n", rounds);
        print_times(finalist, times, rounds);
        print_ratio(finalist, times, rounds);
    }
}

int main(int argc, char **argv)
{
    contest c = {0};
    must(vg_comm_open(&c.comm));
    c.ranks = vg_comm_size(c.comm);
    c.rank = vg_comm_rank(c.comm);
    const int rounds = argc > 2 ? atoi(argv[1]) : 0;
    if (rounds < 1 || rounds > MAX_ROUNDS || c.ranks < 2)
        must(vg_fail(VG_E_USAGE, "mpirun -n RANKS bench_allreduce ROUNDS MIB..., at most %d rounds", MAX_ROUNDS));
    for (int a = 0; a < ALGORITHMS; a++) c.by[a] = communicator_by(a);
    for (int i = 2; i < argc; i++) {
        open_size(&c, (int64_t)(atof(argv[i]) * (1 << 18)));
        hold(&c, rounds);
        close_size(&c);
    }
    for (int a = 0; a < ALGORITHMS; a++) MPI_Comm_free(&c.by[a]);
    must(vg_comm_close(c.comm));
    return 0;
}
