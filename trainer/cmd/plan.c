#include "trainer/cmd/arguments.h"
#include "trainer/forecast.h"
#include "trainer/vlgtr.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static double mb(size_t bytes)
{
    return (double)bytes / 1e6;
}

static void print_stage(const vg_options *o, int i, const vg_stage_forecast *f)
{
    printf("stage %d '%s': %lld steps, %.3f M of %.3f M parameters train, %.2f GFLOP and %.2f GB moved a step\n", i,
           o->schedule[i].name, (long long)o->schedule[i].steps, f->n_trainable * 1e-6, f->n_parameters * 1e-6,
           f->step_flops * 1e-9, f->step_bytes * 1e-9);
    printf("  weights        %10.1f MB\n  moments        %10.1f MB\n  gradients      %10.1f MB in %d buffers\n"
           "  activations    %10.1f MB\n  packed weights %10.1f MB\n  batches        %10.1f MB\n"
           "  phrases        %10.1f MB\n  entering       %10.1f MB\n  peak           %10.1f MB\n",
           mb(f->weights), mb(f->moments), mb(f->gradients), f->gradient_buffers, mb(f->arena), mb(f->constants),
           mb(f->batches), mb(f->phrases), mb(f->entering), mb(f->peak));
}

static size_t largest_peak(const vg_stage_forecast *f, int n)
{
    size_t peak = 0;
    for (int i = 0; i < n; i++) peak = f[i].peak > peak ? f[i].peak : peak;
    return peak;
}

/* The largest micro-batch that divides the global batch, leaves a leaf for every rank, and fits. */
static vg_status suggest(vg_options *o, int ranks, const vg_forecast_data *data, size_t memory)
{
    const int64_t configured = o->train_micro_batch;
    vg_stage_forecast f[VG_MAX_STAGES];
    vg_status st = VG_OK;
    for (int64_t m = o->train_global_batch / ranks; m >= 1; m--) {
        if (o->train_global_batch % m) continue;
        o->train_micro_batch = m;
        st = vg_forecast(o, ranks, data, f);
        if (st != VG_OK) break;
        if (largest_peak(f, o->n_stages) > memory) continue;
        printf("largest micro-batch that fits %.1f GB a rank: %lld (peak %.1f MB); configured: %lld\n",
               (double)memory / 1e9, (long long)m, mb(largest_peak(f, o->n_stages)), (long long)configured);
        break;
    }
    o->train_micro_batch = configured;
    return st;
}

static vg_status plan(vg_options *o, int ranks, size_t memory)
{
    vg_stage_forecast f[VG_MAX_STAGES];
    const int64_t leaves = o->train_global_batch / o->train_micro_batch;
    VG_CHECK(o->n_stages > 0, VG_E_CONFIG, "the schedule has no stage");
    VG_CHECK(ranks <= leaves, VG_E_CONFIG, "%d ranks, but a step has %lld micro-batches; at most %lld ranks", ranks,
             (long long)leaves, (long long)leaves);
    const vg_forecast_data data = vg_forecast_data_of(o);
    VG_TRY(vg_forecast(o, ranks, &data, f));
    printf("%d ranks, %lld micro-batches of %lld images a step; figures are for one rank\n", ranks, (long long)leaves,
           (long long)o->train_micro_batch);
    if (!data.images) printf("the shards are not there yet: kept images and phrases are not counted\n");
    for (int i = 0; i < o->n_stages; i++) print_stage(o, i, &f[i]);
    return suggest(o, ranks, &data, memory);
}

vg_status vg_cmd_plan(vg_context *context, int argc, char **argv)
{
    const char *ranks_text = NULL, *memory_text = NULL;
    vg_argument_list sets = {0};
    const vg_argument table[] = {{.name = "--ranks", .text = &ranks_text},
                                 {.name = "--memory-gb", .text = &memory_text},
                                 {.name = "--set", .list = &sets}};
    char *words[1];
    int n_words = 0;
    int64_t ranks = 1, memory_gb = 0;
    (void)context;
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, 1, &n_words));
    VG_CHECK(n_words == 1, VG_E_USAGE, "a run configuration is missing: vlgtr plan RUN.yaml");
    VG_TRY(vg_argument_integer("--ranks", ranks_text, 1, VG_MAX_FORECAST_RANKS, &ranks));
    VG_TRY(vg_argument_integer("--memory-gb", memory_text, 1, 1 << 20, &memory_gb));
    vg_options o;
    VG_TRY(vg_options_read(&o, words[0], sets.items, sets.n));
    const size_t host = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    const size_t memory = memory_gb ? (size_t)memory_gb * 1000000000 : host / (size_t)ranks;
    const vg_status st = plan(&o, (int)ranks, memory);
    vg_options_release(&o);
    return st;
}
