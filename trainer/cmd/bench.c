#include "dist/reduce.h"

#include "trainer/cmd/arguments.h"
#include "trainer/network.h"
#include "trainer/vlgtr.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 15, MAX_ROWS = 16, COUNTS = 8 };

/* One collective between ranks that came to it together. */
typedef struct measured {
    vg_comm *comm;
    vg_reducer *reducer; /* of a gradient sum */
    int64_t bytes;
} measured;

typedef vg_status collective_fn(measured *m);

static vg_status agree(measured *m)
{
    return vg_comm_agree(m->comm, VG_OK);
}

/* The message before each step. */
static vg_status counts(measured *m)
{
    int64_t mine[COUNTS] = {0};
    int64_t *all = vg_new0_array((size_t)vg_comm_size(m->comm), sizeof mine);
    VG_CHECK(all, VG_E_NOMEM, "no memory for the counts of %d ranks", vg_comm_size(m->comm));
    const vg_status st = vg_comm_allgather(m->comm, mine, sizeof mine, all);
    free(all);
    return st;
}

static vg_status gradients(measured *m)
{
    const float *total = NULL;
    return vg_reducer_finish(m->reducer, &total);
}

/* What comes before a sum and is not the sum. */
static void write_leaf(measured *m)
{
    if (!m->reducer) return;
    float *leaf = vg_reducer_leaf(m->reducer);
    memset(leaf, 0, (size_t)m->bytes);
    vg_reducer_push(m->reducer, false);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds until the last rank has it; the median of REPEATS. Collective. */
static vg_status time_of(measured *m, collective_fn *run, double *seconds)
{
    double times[REPEATS];
    for (int i = 0; i < REPEATS; i++) {
        write_leaf(m);
        VG_TRY(vg_comm_barrier(m->comm));
        const double start_s = vg_now_s();
        VG_TRY(run(m));
        int64_t slowest_ns = (int64_t)(1e9 * (vg_now_s() - start_s));
        VG_TRY(vg_comm_max_i64(m->comm, &slowest_ns, 1));
        times[i] = 1e-9 * (double)slowest_ns;
    }
    qsort(times, REPEATS, sizeof *times, ascending);
    *seconds = times[REPEATS / 2];
    return VG_OK;
}

/* t = alpha + bytes / beta through the smallest and the largest. Those between lie on other lines: protocols change
 * with the size, and a link that is shaped lets short bursts pass. */
static void fit(const double *bytes, const double *seconds, int n, double *alpha, double *beta)
{
    *beta = (bytes[n - 1] - bytes[0]) / (seconds[n - 1] - seconds[0]);
    *alpha = fmax(0, seconds[0] - bytes[0] / *beta);
}

static vg_status time_sum(vg_comm *comm, int64_t bytes, double *seconds)
{
    measured m = {.comm = comm, .bytes = bytes};
    const int64_t n = bytes / (int64_t)sizeof(float);
    const vg_sum_plan plan = {.n = n, .n_leaves = vg_comm_size(comm), .n_buckets = 1, .bucket_ends = &n};
    VG_TRY(vg_reducer_new(comm, &plan, NULL, NULL, &m.reducer));
    const vg_status st = time_of(&m, gradients, seconds);
    vg_reducer_free(m.reducer);
    return st;
}

/* t = alpha + bytes / beta of the sum of gradients. */
static vg_status bench_sums(vg_comm *comm, int64_t max_bytes, double *alpha, double *beta)
{
    const bool speaks = vg_comm_rank(comm) == 0;
    double bytes[MAX_ROWS] = {0}, seconds[MAX_ROWS] = {0};
    int n = 0;
    if (speaks) printf("gradients: %12s %12s %10s\n", "bytes", "us", "GB/s");
    for (int64_t size = 4096; size <= max_bytes && n < MAX_ROWS; size *= 4, n++) {
        VG_TRY(time_sum(comm, size, &seconds[n]));
        bytes[n] = (double)size;
        if (speaks)
            printf("           %12lld %12.1f %10.3f\n", (long long)size, 1e6 * seconds[n],
                   1e-9 * bytes[n] / seconds[n]);
    }
    fit(bytes, seconds, n, alpha, beta);
    if (speaks && *beta > 0)
        printf("gradients: t = %.1f us + bytes / %.3f GB/s (alpha and beta, through the smallest and the largest)\n",
               1e6 * *alpha, 1e-9 * *beta);
    else if (speaks)
        printf("gradients: no beta: large messages took no longer than small ones; measure without other work\n");
    return VG_OK;
}

/* What lies between the hosts, for `vlgtr plan --network`. What ranks of a host sum among themselves is in it. */
static vg_status write_network(vg_comm *comm, const char *path, double alpha, double beta)
{
    const int host_ranks = vg_comm_local_size(comm), ranks = vg_comm_size(comm);
    const vg_sum_shape shape = vg_sum_shape_of(ranks, ranks, host_ranks);
    VG_CHECK(beta > 0, VG_E_COMM,
             "--out: large messages took no longer than small ones; measure again on hosts without other work");
    const vg_network network = {.host_ranks = host_ranks, .far = vg_network_fitted(&shape, alpha, 1 / beta)};
    return vg_comm_rank(comm) == 0 ? vg_network_write(path, &network) : VG_OK;
}

/* That there is something to measure, and a place for it. */
static vg_status check_out(const vg_comm *comm, const char *out)
{
    const int ranks = vg_comm_size(comm);
    VG_CHECK(!out || vg_sum_shape_of(ranks, ranks, vg_comm_local_size(comm)).hosts > 1, VG_E_USAGE,
             "--out: these ranks are on one host; a network is measured between several");
    return vg_comm_rank(comm) == 0 ? vg_argument_file("--out", out) : VG_OK;
}

static vg_status bench_comm(vg_comm *comm, int64_t max_bytes, const char *out)
{
    measured m = {.comm = comm};
    double agree_s, counts_s, alpha, beta;
    VG_TRY(time_of(&m, agree, &agree_s));
    VG_TRY(time_of(&m, counts, &counts_s));
    if (vg_comm_rank(comm) == 0)
        printf("%d ranks, %d of them on %s; medians of %d, until the last rank has it\nagree:     %.1f us\ncounts:    "
               "%.1f us "
               "(the message before a step, %zu bytes a rank)\n",
               vg_comm_size(comm), vg_comm_local_size(comm), vg_comm_host(comm), REPEATS, 1e6 * agree_s, 1e6 * counts_s,
               COUNTS * sizeof(int64_t));
    VG_TRY(bench_sums(comm, max_bytes, &alpha, &beta));
    return out ? vg_comm_agree(comm, write_network(comm, out, alpha, beta)) : VG_OK;
}

vg_status vg_cmd_bench(vg_context *context, int argc, char **argv)
{
    const char *mb = NULL, *out = NULL;
    int64_t max_mb = 64;
    const vg_argument table[] = {{.name = "--mb", .text = &mb}, {.name = "--out", .text = &out}};
    char *words[1];
    int n = 0;
    VG_TRY(vg_arguments_read(argc, argv, table, 2, words, 1, &n));
    VG_TRY(vg_argument_integer("--mb", mb, 1, 4096, &max_mb));
    VG_CHECK(n == 1 && strcmp(words[0], "comm") == 0, VG_E_USAGE, "vlgtr bench comm [--mb LARGEST] [--out NETWORK]");
    VG_CHECK(vg_comm_size(context->comm) > 1, VG_E_USAGE,
             "one rank has nobody to talk to: mpirun -n 2 vlgtr bench comm");
    VG_TRY(vg_comm_agree(context->comm, check_out(context->comm, out)));
    return bench_comm(context->comm, max_mb << 20, out);
}
