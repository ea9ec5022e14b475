/* What follows backward on each rank: the sum of gradients, the norm, AdamW; of everything on every rank, or of slices
 * (train.zero), with the weights gathered. Rounds of both take turns; the ratio is the median of pairs.
 *
 *     mpirun -n RANKS bench_update ROUNDS MIB            of gradients */
#include "trainer/update.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_ROUNDS = 999 };

/* What both work on, one after the other. */
typedef struct bench {
    vg_comm *comm;
    vg_compute compute;
    vg_options options;
    vg_params *params; /* one trains, and fills the space */
    vg_stage_run stage;
    float *tables; /* [2, blocks] */
    double *block_squares;
    vg_update device_update;
    vg_gradients *gradients[2]; /* of everything, of slices */
    vg_rank_moments moments[2];
} bench;

static void must(vg_status st)
{
    if (st == VG_OK) return;
    fprintf(stderr, "bench_update: %s\n", vg_error_text());
    exit(vg_exit_code(st));
}

/* Seconds until all ranks have all weights. */
static double time_of(bench *b, int sliced)
{
    const vg_updater updater = {.options = &b->options,
                                .stage = &b->stage,
                                .params = b->params,
                                .gradients = b->gradients[sliced],
                                .moments = &b->moments[sliced]};
    vg_update update = {.course = 1};
    const float *total = NULL;
    must(vg_comm_barrier(b->comm));
    const double start_s = vg_now_s();
    must(vg_gradients_push(updater.gradients, false));
    must(vg_gradients_settle(updater.gradients));
    must(vg_gradients_finish(updater.gradients, &total));
    must(vg_update_weights(&updater, total, &update));
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
    for (int i = 0; i < 2; i++) time_of(b, i); /* pages are found */
    for (int k = 0; k < rounds; k++) {
        for (int i = 0; i < 2; i++) times[(i + k) % 2][k] = time_of(b, (i + k) % 2);
        ratios[k] = times[1][k] / times[0][k];
    }
    if (vg_comm_rank(b->comm) != 0) return;
    printf("%.0f MiB, %d ranks, %d of them on a host: ", (double)b->params->n_trainable / (1 << 18),
           vg_comm_size(b->comm), vg_comm_local_size(b->comm));
    for (int i = 0; i < 2; i++) printf("%s %.1f ms, ", i ? "slices" : "everything", 1e3 * median_of(times[i], rounds));
    printf("ratio %.2f\n", median_of(ratios, rounds));
}

static void open_optimizer(bench *b)
{
    const int64_t blocks = b->params->n_trainable / VG_PARAM_BLOCK;
    b->tables = vg_new0_array(2 * (size_t)blocks, sizeof *b->tables);
    b->block_squares = vg_new0_array((size_t)blocks, sizeof *b->block_squares);
    if (!b->tables || !b->block_squares) must(vg_fail(VG_E_NOMEM, "no memory"));
    for (int64_t i = 0; i < 2 * blocks; i++) b->tables[i] = 1e-4F;
    b->stage = (vg_stage_run){.compute = &b->compute,
                              .optimizer = {.n_blocks = blocks,
                                            .block_lr = b->tables,
                                            .block_decay = b->tables + blocks,
                                            .block_squares = b->block_squares,
                                            .update = &b->device_update}};
}

static void open_bench(bench *b, double mib)
{
    const vg_shape shape = VG_SHAPE((int64_t)(mib * (1 << 18)) / VG_PARAM_BLOCK, VG_PARAM_BLOCK);
    int index;
    must(vg_options_read(&b->options, NULL, NULL, 0));
    must(vg_compute_open(b->comm, &(vg_compute_spec){.device = "cpu", .threads = 1}, &b->compute));
    must(vg_params_new(&b->params));
    must(vg_params_add(b->params, "weights", &shape, &index));
    must(vg_params_layout(b->params, &index, 1));
    open_optimizer(b);
    for (int i = 0; i < 2; i++) {
        vg_gradients_plan plan = vg_gradients_plan_of(&b->options, b->params->n_trainable, i);
        plan.n_leaves = vg_comm_size(b->comm);
        must(vg_gradients_new(b->comm, &b->compute, &plan, &b->gradients[i]));
        must(vg_rank_moments_open(b->params, b->gradients[i], &b->compute, &b->moments[i]));
    }
}

static void close_bench(bench *b)
{
    for (int i = 0; i < 2; i++) {
        vg_rank_moments_release(&b->moments[i]);
        vg_gradients_free(b->gradients[i]);
    }
    free(b->tables);
    free(b->block_squares);
    vg_params_free(b->params);
    vg_compute_close(&b->compute);
    vg_options_release(&b->options);
}

int main(int argc, char **argv)
{
    bench b = {0};
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
