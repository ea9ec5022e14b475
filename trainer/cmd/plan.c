#include "trainer/cmd/arguments.h"
#include "trainer/cmd/plan_scaling.h"
#include "trainer/features.h"
#include "trainer/forecast.h"
#include "trainer/process.h"
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
           "  phrases        %10.1f MB\n  saving         %10.1f MB\n  entering       %10.1f MB\n  peak           "
           "%10.1f MB\n",
           mb(f->weights), mb(f->moments), mb(f->gradients), f->gradient_buffers, mb(f->arena), mb(f->constants),
           mb(f->batches), mb(f->phrases), mb(f->saving), mb(f->entering), mb(f->peak));
}

static void print_step(const vg_gpu_step *fp32, const vg_gpu_step *bf16)
{
    printf("  %-14s %9s %8s %8s %9s %9s   %8s %8s %9s %9s\n", "a step, ms", "TFLOP", "fp32:  #", "GB", "peak",
           "expected", "bf16:  #", "GB", "peak", "expected");
    for (int i = 0; i < VG_GPU_PARTS; i++) {
        const vg_gpu_line *a = &fp32->lines[i], *b = &bf16->lines[i];
        printf("  %-14s %9.3f %8.0f %8.2f %9.3f %9.3f   %8.0f %8.2f %9.3f %9.3f\n", vg_gpu_part_name((vg_gpu_part)i),
               a->flops * 1e-12, a->kernels, a->bytes * 1e-9, a->peak_s * 1e3, a->expected_s * 1e3, b->kernels,
               b->bytes * 1e-9, b->peak_s * 1e3, b->expected_s * 1e3);
    }
}

static void print_sum(const char *precision, const vg_gpu_step *s, double images)
{
    printf("  %s: %.2f ms a step, %.0f images/s, MFU %.1f %%; exchange %.2f ms, of which %.2f hidden behind backward; "
           "%.1f %% of the step is kernels at the rates they reach, %.1f %% at peak rates\n",
           precision, s->step_s * 1e3, images / s->step_s, 100 * s->mfu, s->exchange_s * 1e3, s->hidden_s * 1e3,
           100 * s->of_reachable, 100 * s->of_peak);
}

static void print_gpu(const vg_options *o, const vg_stage_forecast *f)
{
    const vg_gpu *gpu = f->gpu[0].gpu;
    print_step(&f->gpu[VG_PRECISION_FP32], &f->gpu[VG_PRECISION_BF16]);
    print_sum("fp32", &f->gpu[VG_PRECISION_FP32], (double)o->train_global_batch);
    print_sum("bf16", &f->gpu[VG_PRECISION_BF16], (double)o->train_global_batch);
    if (f->device)
        printf("  memory of a GPU: %.2f GB of %.0f in fp32, %.2f in bf16\n",
               (double)f->gpu_memory[VG_PRECISION_FP32] * 1e-9, gpu->memory_gb,
               (double)f->gpu_memory[VG_PRECISION_BF16] * 1e-9);
    else
        printf("  memory of a GPU: a build without CUDA does not know it\n");
}

static vg_status print_assumptions(const vg_gpu *gpu)
{
    char *text = vg_gpu_assumptions(gpu);
    VG_CHECK(text, VG_E_NOMEM, "no memory for the table of assumptions");
    printf(
        "\nAll times are a forecast from a model, not a measurement of this configuration on such a card. Kernels (#) "
        "and\nbytes are those of the program in each precision. What the loader takes to bring the images is not "
        "in it. The\nfigures behind it:\n%s",
        text);
    free(text);
    return VG_OK;
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
    int64_t fits = 0;
    for (int64_t m = o->train_global_batch / ranks; m >= 1 && !fits && st == VG_OK; m--) {
        if (o->train_global_batch % m) continue;
        o->train_micro_batch = m;
        st = vg_forecast(o, ranks, data, NULL, f);
        if (st == VG_OK && largest_peak(f, o->n_stages) <= memory) fits = m;
    }
    o->train_micro_batch = configured;
    VG_TRY(st);
    if (fits)
        printf("largest micro-batch that fits %.1f GB a rank: %lld (peak %.1f MB); configured: %lld\n",
               (double)memory / 1e9, (long long)fits, mb(largest_peak(f, o->n_stages)), (long long)configured);
    else
        printf("no micro-batch fits %.1f GB a rank: with one image the peak is %.1f MB\n", (double)memory / 1e9,
               mb(largest_peak(f, o->n_stages)));
    return VG_OK;
}

/* Stores of features that stages would make: the size of each, and how long this host computes at it. */
static vg_status print_stores(const vg_options *o, const vg_stage_forecast *f, int n_threads)
{
    char size[VG_SIZE_TEXT_BYTES];
    vg_feature_pace pace = {0};
    for (int i = 0; i < o->n_stages; i++) {
        if (f[i].images_wanted > f[i].images_on_disk)
            printf("stage %d computes image features in every step: a store of %s is above features.max_gb %g\n", i,
                   vg_size_text((double)f[i].images_wanted, size), o->features_max_gb);
        if (f[i].without_images) printf("stage %d computes image features in every step: %s\n", i, f[i].without_images);
        if (!f[i].images_on_disk && !f[i].phrases_on_disk) continue;
        if (pace.image_s <= 0) VG_TRY(vg_features_measure(o, n_threads, &pace));
        if (f[i].images_on_disk)
            printf("stage %d reads image features from a store: %s on disk (features.max_gb: %g), made in about %.0f s "
                   "by this host alone\n",
                   i, vg_size_text((double)f[i].images_on_disk, size), o->features_max_gb,
                   pace.image_s * (double)f[i].image_rows);
        if (f[i].phrases_on_disk)
            printf("stage %d reads phrase features from a store: %s on disk, made in about %.0f s\n", i,
                   vg_size_text((double)f[i].phrases_on_disk, size), f[i].phrases_flops / pace.flops_per_s);
    }
    return VG_OK;
}

static vg_status plan(vg_options *o, int ranks, int n_threads, size_t memory, const vg_gpu *gpu)
{
    vg_stage_forecast f[VG_MAX_STAGES];
    const int64_t leaves = o->train_global_batch / o->train_micro_batch;
    VG_CHECK(o->n_stages > 0, VG_E_CONFIG, "the schedule has no stage");
    VG_CHECK(ranks <= leaves, VG_E_CONFIG, "%d ranks, but a step has %lld micro-batches; at most %lld ranks", ranks,
             (long long)leaves, (long long)leaves);
    const vg_forecast_data data = vg_forecast_data_of(o);
    char why[512] = "";
    if (!data.images) snprintf(why, sizeof why, "%s", vg_error_text());
    VG_TRY(vg_forecast(o, ranks, &data, gpu, f));
    printf("%d ranks, %lld micro-batches of %lld images a step; figures are for one rank%s\n", ranks, (long long)leaves,
           (long long)o->train_micro_batch, gpu ? "" : " on a CPU, in fp32");
    if (*why) printf("%s: kept images and phrases are not counted\n", why);
    for (int i = 0; i < o->n_stages; i++) {
        print_stage(o, i, &f[i]);
        if (gpu) print_gpu(o, &f[i]);
    }
    VG_TRY(print_stores(o, f, n_threads));
    if (gpu) return print_assumptions(gpu);
    return suggest(o, ranks, &data, memory);
}

/* Without a GPU to plan for, the plan is that of a CPU, which has no bf16. */
static vg_status plan_host(const vg_options *o, int ranks, int n_threads, size_t memory)
{
    char fp32[] = "fp32";
    vg_options host = *o;
    host.train_precision = fp32;
    if (vg_options_bf16(o))
        printf("train.precision: bf16 is for GPUs: add --gpu NAME to plan for them, in both precisions\n");
    return plan(&host, ranks, n_threads, memory, NULL);
}

/* The configuration and the ranks are known: one number of them, or many. */
static vg_status plan_options(vg_context *context, vg_options *o, const vg_scaling_arguments *scaling,
                              const char *memory_text, const vg_gpu *gpu)
{
    int64_t ranks = 1, memory_gb = 0;
    VG_CHECK(
        !memory_text || !(gpu || vg_scaling_wanted(scaling)), VG_E_USAGE,
        "--memory-gb is of a rank on a CPU: leave it out beside --gpu and where many numbers of ranks are asked for");
    if (vg_scaling_wanted(scaling)) return vg_scaling_print(o, gpu, scaling);
    VG_TRY(vg_argument_integer("--ranks", scaling->ranks, 1, VG_MAX_FORECAST_RANKS, &ranks));
    VG_TRY(vg_argument_integer("--memory-gb", memory_text, 1, 1 << 20, &memory_gb));
    const size_t host = (size_t)vg_host_memory();
    const size_t memory = memory_gb ? (size_t)memory_gb * 1000000000 : host / (size_t)ranks;
    vg_cores cores;
    VG_TRY(vg_cores_share(context->comm, o->train_threads, &cores));
    return gpu ? plan(o, (int)ranks, cores.threads, memory, gpu) : plan_host(o, (int)ranks, cores.threads, memory);
}

vg_status vg_cmd_plan(vg_context *context, int argc, char **argv)
{
    const char *memory_text = NULL, *gpu_name = NULL, *side_text = NULL;
    vg_scaling_arguments scaling = {0};
    vg_argument_list sets = {0};
    const vg_argument table[] = {{.name = "--ranks", .text = &scaling.ranks},
                                 {.name = "--memory-gb", .text = &memory_text},
                                 {.name = "--gpu", .text = &gpu_name},
                                 {.name = "--side", .text = &side_text},
                                 {.name = "--network", .text = &scaling.network},
                                 {.name = "--host-ranks", .text = &scaling.host_ranks},
                                 {.name = "--step-ms", .text = &scaling.step_ms},
                                 {.name = "--plot", .text = &scaling.plot},
                                 {.name = "--set", .list = &sets}};
    char *words[1];
    int n_words = 0;
    const vg_gpu *gpu = NULL;
    char side[64];
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, 1, &n_words));
    VG_CHECK(n_words == 1, VG_E_USAGE, "a run configuration is missing: vlgtr plan RUN.yaml");
    VG_TRY(vg_argument_file("--plot", scaling.plot));
    if (gpu_name) VG_TRY(vg_gpu_find(gpu_name, &gpu));
    if (side_text) {
        VG_CHECK(sets.n < VG_MAX_SETS, VG_E_USAGE, "--set: given more than %d times", VG_MAX_SETS - 1);
        snprintf(side, sizeof side, "data.side=%s", side_text);
        sets.items[sets.n++] = side;
    }
    vg_options o;
    VG_TRY(vg_options_read(&o, words[0], sets.items, sets.n));
    const vg_status st = plan_options(context, &o, &scaling, memory_text, gpu);
    vg_options_release(&o);
    return st;
}
