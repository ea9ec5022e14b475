/* What follows backward on each rank: the sum of gradients, the norm, AdamW; of everything on every rank, or of slices
 * (train.zero), with the weights gathered. Rounds of both take turns; the ratio is the median of pairs.
 *
 *     mpirun -n RANKS bench_update ROUNDS MIB            of gradients */
#include "dist/reduce.h"
#include "kernels/backend.h"
#include "kernels/params.h"

#include <stdio.h>
#include <stdlib.h>

enum { BUCKET_FLOATS = 4 << 20, MAX_ROUNDS = 999 };

/* What both work on, one after the other. */
typedef struct bench {
    vg_comm *comm;
    const vg_backend *backend;
    vg_stream stream;
    int64_t n;
    vg_arena memory; /* [3, n] */
    float *param, *moment1, *moment2;
    float *tables; /* [2, blocks] */
    double *block_squares;
    vg_update update;
    vg_reducer *reducers[2]; /* of everything, of slices */
    vg_sum_plan plan;
} bench;

static void must(vg_status st)
{
    if (st == VG_OK) return;
    fprintf(stderr, "bench_update: %s\n", vg_error_text());
    exit(vg_exit_code(st));
}

static void sum_squares(bench *b, const vg_reducer *r, const float *total)
{
    for (int i = 0; i < b->plan.n_buckets; i++) {
        int64_t first, count;
        vg_reducer_slice(r, i, &first, &count);
        must(b->backend->sum_squares(&b->stream, total + first, count / VG_PARAM_BLOCK,
                                     b->block_squares + first / VG_PARAM_BLOCK));
    }
}

static void update_slices(bench *b, const vg_reducer *r, const float *total)
{
    const int64_t blocks = b->n / VG_PARAM_BLOCK;
    for (int i = 0; i < b->plan.n_buckets; i++) {
        int64_t first, count;
        vg_reducer_slice(r, i, &first, &count);
        const vg_adamw adamw = {.param = b->param + first,
                                .moment1 = b->moment1 + first,
                                .moment2 = b->moment2 + first,
                                .grad = total + first,
                                .n_blocks = count / VG_PARAM_BLOCK,
                                .block_lr = b->tables + first / VG_PARAM_BLOCK,
                                .block_decay = b->tables + blocks + first / VG_PARAM_BLOCK,
                                .beta1 = 0.9F,
                                .beta2 = 0.999F,
                                .eps = 1e-8F,
                                .update = &b->update};
        must(b->backend->adamw(&b->stream, &adamw));
    }
}

/* Seconds until all ranks have all weights. */
static double time_of(bench *b, vg_reducer *r)
{
    const vg_grad_norm norm = {.block_sums = b->block_squares,
                               .n_blocks = b->n / VG_PARAM_BLOCK,
                               .beta1 = 0.9,
                               .beta2 = 0.999,
                               .update = &b->update};
    const float *total = NULL;
    must(vg_comm_barrier(b->comm));
    const double start_s = vg_now_s();
    vg_reducer_push(r, false);
    must(vg_reducer_finish(r, &total));
    sum_squares(b, r, total);
    must(vg_reducer_gather(r, (float *)(void *)b->block_squares, sizeof(double) / sizeof(float)));
    must(b->backend->norm(&b->stream, &norm));
    update_slices(b, r, total);
    must(vg_reducer_gather(r, b->param, VG_PARAM_BLOCK));
    must(vg_comm_barrier(b->comm));
    return vg_now_s() - start_s;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
    return values[n / 2];
}

static void hold(bench *b, int rounds)
{
    static double times[2][MAX_ROUNDS], ratios[MAX_ROUNDS];
    for (int i = 0; i < 2; i++) time_of(b, b->reducers[i]); /* pages are found */
    for (int k = 0; k < rounds; k++) {
        for (int i = 0; i < 2; i++) times[(i + k) % 2][k] = time_of(b, b->reducers[(i + k) % 2]);
        ratios[k] = times[1][k] / times[0][k];
    }
    if (vg_comm_rank(b->comm) != 0) return;
    printf("%.0f MiB, %d ranks, %d of them on a host: ", (double)b->n / (1 << 18), vg_comm_size(b->comm),
           vg_comm_local_size(b->comm));
    for (int i = 0; i < 2; i++) printf("%s %.1f ms, ", i ? "slices" : "everything", 1e3 * median_of(times[i], rounds));
    printf("ratio %.2f\n", median_of(ratios, rounds));
}

static void open_bench(bench *b, double mib)
{
    b->n = (int64_t)(mib * (1 << 18)) / VG_PARAM_BLOCK * VG_PARAM_BLOCK;
    const int64_t blocks = b->n / VG_PARAM_BLOCK;
    const int n_buckets = (int)((b->n + BUCKET_FLOATS - 1) / BUCKET_FLOATS);
    int64_t *ends = vg_new0_array((size_t)n_buckets, sizeof *ends);
    b->tables = vg_new0_array(2 * (size_t)blocks, sizeof *b->tables);
    b->block_squares = vg_new0_array((size_t)blocks, sizeof *b->block_squares);
    if (!ends || !b->tables || !b->block_squares) must(vg_fail(VG_E_NOMEM, "no memory"));
    for (int i = 0; i < n_buckets; i++) ends[i] = i + 1 < n_buckets ? (int64_t)(i + 1) * BUCKET_FLOATS : b->n;
    for (int64_t i = 0; i < 2 * blocks; i++) b->tables[i] = 1e-4F;
    must(vg_arena_init(&b->memory, 3 * (size_t)b->n * sizeof(float)));
    b->param = (float *)(void *)b->memory.base;
    b->moment1 = b->param + b->n;
    b->moment2 = b->moment1 + b->n;
    b->plan = (vg_sum_plan){.n = b->n, .n_leaves = vg_comm_size(b->comm), .n_buckets = n_buckets, .bucket_ends = ends};
    for (int i = 0; i < 2; i++) {
        b->plan.sliced = i;
        must(vg_reducer_new(b->comm, &b->plan, NULL, NULL, &b->reducers[i]));
    }
    free(ends);
}

static void close_bench(bench *b)
{
    for (int i = 0; i < 2; i++) vg_reducer_free(b->reducers[i]);
    vg_arena_release(&b->memory);
    free(b->tables);
    free(b->block_squares);
}

int main(int argc, char **argv)
{
    bench b = {.backend = vg_backend_cpu(), .stream = {.n_threads = 1}, .update = {.course = 1}};
    must(vg_comm_open(&b.comm));
    const int rounds = argc == 3 ? atoi(argv[1]) : 0;
    if (rounds < 1 || rounds > MAX_ROUNDS || atof(argv[2]) <= 0)
        must(vg_fail(VG_E_USAGE, "mpirun -n RANKS bench_update ROUNDS MIB, at most %d rounds", MAX_ROUNDS));
    open_bench(&b, atof(argv[2]));
    hold(&b, rounds);
    close_bench(&b);
    must(vg_comm_close(b.comm));
    return 0;
}
