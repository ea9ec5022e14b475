#include "trainer/cmd/plan_scaling.h"

#include "trainer/chart.h"
#include "trainer/cmd/arguments.h"
#include "trainer/forecast.h"
#include "trainer/scaling.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Counts of ranks, doubled from the first to the last. */
enum { MOST_COUNTS = 20, MOST_LEAVES = 1 << 24 };

typedef struct counts {
    int ranks[MOST_COUNTS], n;
} counts;

/* How steps grow with the ranks: their batch, too, or not. */
typedef enum growth { BATCH_GROWS, BATCH_STAYS, GROWTHS } growth;

typedef struct scaler {
    const vg_options *o;
    vg_network network;
    counts counts;
    int64_t leaves;      /* micro-batches of a step as configured */
    int64_t rank_leaves; /* of the fullest rank of the fewest */
    vg_workload loads[VG_MAX_STAGES];
} scaler;

bool vg_scaling_wanted(const vg_scaling_arguments *a)
{
    return a->network || a->host_ranks || a->step_ms || a->plot || (a->ranks && strstr(a->ranks, ".."));
}

/* ---- arguments ---- */

static vg_status read_counts(const char *text, counts *out)
{
    char first_text[32] = "1";
    const char *dots = text ? strstr(text, "..") : NULL;
    int64_t first = 1, last = 1;
    VG_CHECK(text, VG_E_USAGE, "for how many ranks is not said: --ranks 8..1024");
    snprintf(first_text, sizeof first_text, "%.*s", (int)(dots ? dots - text : (int)strlen(text)), text);
    VG_TRY(vg_argument_integer("--ranks", first_text, 1, VG_MAX_FORECAST_RANKS, &first));
    last = first;
    if (dots) VG_TRY(vg_argument_integer("--ranks", dots + 2, first, VG_MAX_FORECAST_RANKS, &last));
    for (int64_t ranks = first; ranks < last; ranks *= 2) out->ranks[out->n++] = (int)ranks;
    out->ranks[out->n++] = (int)last;
    return VG_OK;
}

/* One number for each stage. */
static vg_status read_step_ms(const char *text, int n_stages, double *seconds)
{
    const char *at = text;
    for (int i = 0; i < n_stages; i++) {
        char *end = NULL;
        const double ms = strtod(at, &end);
        VG_CHECK(
            end != at && ms > 0 && ms < 1e9 && *end == (i + 1 < n_stages ? ',' : '\0'), VG_E_USAGE,
            "--step-ms: '%s' is not a number of milliseconds for each of the schedule's stages, which are %d, with "
            "commas between",
            text, n_stages);
        seconds[i] = 1e-3 * ms;
        at = end + 1;
    }
    return VG_OK;
}

/* What --network names, between hosts as --host-ranks or the file or the GPU's own have them. */
static vg_status read_network(const vg_gpu *gpu, const vg_scaling_arguments *a, vg_network *out)
{
    vg_network named = {0};
    int64_t host_ranks = 0;
    VG_CHECK(gpu || a->network, VG_E_USAGE,
             "what lies between the hosts is not said: --network NAME, or a file of `vlgtr bench comm --out`");
    *out = gpu ? vg_gpu_network(gpu) : (vg_network){.host_ranks = 1};
    if (a->network) {
        VG_TRY(vg_network_read(a->network, &named));
        out->far = named.far;
        if (named.host_ranks) out->host_ranks = named.host_ranks;
    }
    VG_TRY(vg_argument_integer("--host-ranks", a->host_ranks, 1, VG_MAX_FORECAST_RANKS, &host_ranks));
    if (host_ranks) out->host_ranks = (int)host_ranks;
    return VG_OK;
}

static vg_status read_workloads(scaler *s, const vg_gpu *gpu, const char *step_ms)
{
    double step_s[VG_MAX_STAGES] = {0};
    VG_CHECK(
        !gpu != !step_ms, VG_E_USAGE,
        "what a step computes is to come from --gpu NAME or from --step-ms, what this configuration's steps take on "
        "one host (step_ms in metrics.jsonl)");
    if (gpu) return vg_workloads_on_gpu(s->o, gpu, s->loads);
    VG_TRY(read_step_ms(step_ms, s->o->n_stages, step_s));
    return vg_workloads_measured(s->o, step_s, s->network.host_ranks, s->loads);
}

/* ---- tables ---- */

/* Micro-batches of a step on so many ranks; 0: they are too many. */
static int64_t leaves_on(const scaler *s, growth how, int ranks)
{
    if (how == BATCH_GROWS) return ranks * s->rank_leaves;
    return ranks <= s->leaves ? s->leaves : 0;
}

static void print_head(const scaler *s, growth how)
{
    if (how == BATCH_GROWS)
        printf("  the batch grows with the ranks, %lld micro-batches of %lld images each\n", (long long)s->rank_leaves,
               (long long)s->o->train_micro_batch);
    else
        printf("  the batch as configured, %lld micro-batches of %lld images: at most %lld ranks\n",
               (long long)s->leaves, (long long)s->o->train_micro_batch, (long long)s->leaves);
    printf("  %7s %7s %9s %11s %12s %11s %10s %11s %11s\n", "ranks", "hosts", "batch", "compute ms", "exchange ms",
           "exposed ms", "step ms", "images/s", "efficiency");
}

static void print_row(const vg_scaling *r)
{
    printf("  %7d %7d %9.0f %11.2f %12.2f %11.2f %10.2f %11.1f %11.3f\n", r->ranks, r->hosts, r->images,
           r->compute_s * 1e3, r->exchange_s * 1e3, r->exposed_s * 1e3, r->step_s * 1e3, r->images_per_s,
           r->efficiency);
}

static void print_stage(const scaler *s, int stage)
{
    const vg_workload *load = &s->loads[stage];
    printf("stage %d '%s': %.3f MB of gradients; a micro-batch computes for %.2f ms, the update takes %.2f; at most "
           "%.2f ms of exchange hide behind backward\n",
           stage, s->o->schedule[stage].name, load->exchange.bytes * 1e-6, load->leaf_s * 1e3, load->update_s * 1e3,
           load->exchange.backward_s * 1e3);
    for (growth how = 0; how < GROWTHS; how++) {
        print_head(s, how);
        for (int i = 0; i < s->counts.n; i++) {
            const int ranks = s->counts.ranks[i];
            const int64_t leaves = leaves_on(s, how, ranks);
            if (!leaves) continue;
            const vg_scaling row = vg_scaling_of(load, &s->network, ranks, leaves);
            print_row(&row);
        }
    }
}

static vg_status print_sources(const vg_gpu *gpu, const char *network)
{
    char *text = NULL;
    printf("\nA forecast from a model: a message of n bytes takes alpha + n / beta, those of a rank go one after the "
           "other.\n"
           "What the loader needs to bring the images is not in it%s. The network:\n",
           gpu ? "" : ", nor what processors spend on an exchange while they compute");
    if (network) {
        text = vg_network_source(network);
        VG_CHECK(text, VG_E_NOMEM, "no memory for the figures of the network");
        printf("%s", text);
        free(text);
    }
    if (!gpu) return VG_OK;
    text = vg_gpu_assumptions(gpu);
    VG_CHECK(text, VG_E_NOMEM, "no memory for the table of assumptions");
    printf("%s", text);
    free(text);
    return VG_OK;
}

/* ---- the plot ---- */

enum { GROWS_RATE, STAYS_RATE, IDEAL_RATE, GROWS_SHARE, STAYS_SHARE, CURVES, CHARTS = 2 };

/* The curves of a stage's two charts. */
typedef struct stage_plot {
    double ranks[MOST_COUNTS], values[CURVES][MOST_COUNTS];
    vg_curve curves[CURVES];
    char titles[CHARTS][256];
} stage_plot;

static void add_point(stage_plot *p, int curve, double value)
{
    p->values[curve][p->curves[curve].n++] = value;
}

static void fill_plot(const scaler *s, int stage, stage_plot *p)
{
    static const char *const keys[CURVES] = {[GROWS_RATE] = "batch grows",
                                             [STAYS_RATE] = "batch stays",
                                             [IDEAL_RATE] = "ideal",
                                             [GROWS_SHARE] = "batch grows",
                                             [STAYS_SHARE] = "batch stays"};
    for (int c = 0; c < CURVES; c++)
        p->curves[c] = (vg_curve){.key = keys[c], .steps = p->ranks, .values = p->values[c]};
    for (int i = 0; i < s->counts.n; i++) {
        const int ranks = s->counts.ranks[i];
        const vg_scaling grows = vg_scaling_of(&s->loads[stage], &s->network, ranks, leaves_on(s, BATCH_GROWS, ranks));
        p->ranks[i] = ranks;
        add_point(p, GROWS_RATE, grows.images_per_s);
        add_point(p, IDEAL_RATE, grows.images / grows.compute_s);
        add_point(p, GROWS_SHARE, grows.efficiency);
        if (!leaves_on(s, BATCH_STAYS, ranks)) continue;
        const vg_scaling stays = vg_scaling_of(&s->loads[stage], &s->network, ranks, s->leaves);
        add_point(p, STAYS_RATE, stays.images_per_s);
        add_point(p, STAYS_SHARE, stays.efficiency);
    }
    snprintf(p->titles[0], sizeof p->titles[0], "stage %d '%s': images a second on so many ranks", stage,
             s->o->schedule[stage].name);
    snprintf(p->titles[1], sizeof p->titles[1], "stage %d '%s': efficiency of the ranks", stage,
             s->o->schedule[stage].name);
}

static vg_status write_plot(const scaler *s, const char *path)
{
    vg_chart charts[CHARTS * VG_MAX_STAGES];
    stage_plot *plots = vg_new0_array((size_t)s->o->n_stages, sizeof *plots);
    VG_CHECK(plots, VG_E_NOMEM, "no memory for the plot");
    for (int i = 0; i < s->o->n_stages; i++) {
        stage_plot *p = &plots[i];
        fill_plot(s, i, p);
        charts[CHARTS * i] =
            (vg_chart){.title = p->titles[0],
                       .curves = {&p->curves[GROWS_RATE], &p->curves[STAYS_RATE], &p->curves[IDEAL_RATE]},
                       .n = 3,
                       .log_values = true,
                       .doublings = true};
        charts[CHARTS * i + 1] = (vg_chart){.title = p->titles[1],
                                            .curves = {&p->curves[GROWS_SHARE], &p->curves[STAYS_SHARE]},
                                            .n = 2,
                                            .from_zero = true,
                                            .doublings = true};
    }
    const vg_status st = vg_chart_write(path, charts, CHARTS * s->o->n_stages);
    free(plots);
    return st;
}

vg_status vg_scaling_print(const vg_options *o, const vg_gpu *gpu, const vg_scaling_arguments *a)
{
    scaler s = {.o = o, .leaves = o->train_global_batch / o->train_micro_batch};
    VG_CHECK(o->n_stages > 0, VG_E_CONFIG, "the schedule has no stage");
    VG_TRY(read_counts(a->ranks, &s.counts));
    VG_CHECK(!a->plot || s.counts.n > 1, VG_E_USAGE,
             "--plot: a curve needs more than one number of ranks: --ranks A..B");
    VG_TRY(read_network(gpu, a, &s.network));
    VG_TRY(read_workloads(&s, gpu, a->step_ms));
    s.rank_leaves = (s.leaves + s.counts.ranks[0] - 1) / s.counts.ranks[0];
    VG_CHECK(
        s.rank_leaves * s.counts.ranks[s.counts.n - 1] <= MOST_LEAVES, VG_E_CONFIG,
        "%lld micro-batches on each of %d ranks are more than %d; begin with more ranks, or raise train.micro_batch",
        (long long)s.rank_leaves, s.counts.ranks[s.counts.n - 1], MOST_LEAVES);
    printf("ranks of a host: %d\n", s.network.host_ranks);
    for (int i = 0; i < o->n_stages; i++) print_stage(&s, i);
    VG_TRY(print_sources(gpu, a->network));
    return a->plot ? write_plot(&s, a->plot) : VG_OK;
}
