#include "trainer/forecast.h"

#include "checkpoints/checkpoint.h"
#include "dist/reduce.h"
#include "trainer/features.h"
#include "trainer/gradients.h"
#include "trainer/phrases.h"
#include "trainer/splits.h"
#include "trainer/stage.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Resident bytes of this process: what libraries and code cost before the model is there. */
static size_t resident_bytes(void)
{
    unsigned long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    const int n = fscanf(f, "%lu %lu", &total, &resident);
    fclose(f);
    return n == 2 ? (size_t)resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

/* Distinct phrases of the split, with swapped ones; all sentences where there is no memory to compare them. */
static int64_t phrase_count(const vg_options *o, const vg_split *split, bool swaps)
{
    vg_phrase_table phrases;
    if (vg_phrase_table_init(&phrases, split, o->data_blind, swaps) != VG_OK) return vg_split_sentence_count(split);
    const int64_t n = phrases.n_rows;
    vg_phrase_table_release(&phrases);
    return n;
}

vg_forecast_data vg_forecast_data_of(const vg_options *o)
{
    vg_split *split = NULL;
    if (vg_open_train_split(o, &split) != VG_OK) return (vg_forecast_data){0};
    const vg_forecast_data data = {vg_split_image_count(split), phrase_count(o, split, false),
                                   phrase_count(o, split, true)};
    vg_split_close(split);
    return data;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t batch_bytes(const vg_batch_shape *s)
{
    const size_t slots = (size_t)s->images * (size_t)s->phrases;
    const size_t slot = (size_t)s->text_tokens * 4 + (size_t)s->max_targets * 16 + 5 * 4 + 16 + 8;
    const size_t pixels = (size_t)s->side * (size_t)s->side * 3, features = (size_t)s->image_floats * sizeof(float);
    return (size_t)s->images * ((features ? features : pixels) + sizeof(int64_t) + sizeof(int32_t)) + slots * slot;
}

static size_t loader_bytes(const vg_options *o, const vg_batch_shape *s, int leaves, const vg_forecast_data *data)
{
    const size_t image = (size_t)s->side * (size_t)s->side * 3;
    const size_t cache = s->image_floats ? 0 : smaller((size_t)o->data_cache_mb << 20, (size_t)data->images * image);
    return 2 * (size_t)leaves * batch_bytes(s) + cache;
}

/* Sub-trees that are open at once while c leaves are added one by one, and the leaf being written. */
static int gradient_buffers(size_t bytes, int64_t n)
{
    return n ? (int)(bytes / ((size_t)n * sizeof(float))) : 0;
}

/* Of a store of image features in this stage. */
static int64_t image_rows(const vg_options *o, const vg_stage *stage, const vg_params *params,
                          const vg_forecast_data *data)
{
    const int views = vg_stage_views(o, stage, params);
    return data->images * (views ? views : 1);
}

/* The ranks that a forecast is for. */
typedef struct crew {
    int ranks, of_host;
} crew;

static vg_status fill_device(const vg_options *o, const vg_params *params, const vg_stage_run *run, crew on,
                             vg_stage_forecast *f)
{
    const vg_gradients_plan plan = vg_gradients_plan_of(o, params->n_trainable, params->moments_elsewhere);
    size_t sum = 0;
    VG_TRY(vg_gradients_device_bytes(&plan, on.ranks, on.of_host, &sum));
    f->device = vg_params_bytes(params, 0) + (params->moments_elsewhere ? f->moments : 0) + sum + f->arena +
                f->constants + vg_stage_input_bytes(run) + vg_stage_optimizer_bytes(params);
    return VG_OK;
}

static void add_backward(void *context, vg_op op, const vg_cost *cost)
{
    if (vg_op_is_backward(op)) *(double *)context += cost->flops;
}

static void fill(const vg_options *o, const vg_params *params, const vg_stage_run *run, int ranks,
                 const vg_forecast_data *data, vg_stage_forecast *f)
{
    const int leaves = (int)(o->train_global_batch / o->train_micro_batch);
    const int64_t phrases = run->stage->flip > 0 ? data->swapped_phrases : data->phrases;
    int first = 0, count = 0;
    vg_leaves_of(leaves, ranks, 0, &first, &count);
    f->weights = (size_t)(params->n_trainable + params->n_frozen) * sizeof(float);
    if (params->average) f->weights += (size_t)params->n_trainable * sizeof(float);
    f->moments = 2 * (size_t)params->n_trainable * sizeof(float);
    if (params->moments_elsewhere) f->moments = (f->moments + (size_t)ranks - 1) / (size_t)ranks;
    const vg_sum_plan sum = {.n = params->n_trainable, .n_leaves = leaves, .sliced = params->moments_elsewhere};
    f->gradients = vg_reducer_bytes(&sum, ranks, 0);
    f->gradient_buffers = gradient_buffers(f->gradients, params->n_trainable);
    f->arena = vg_stage_arena_bytes(run);
    f->constants = vg_stage_constant_bytes(run);
    vg_batch_shape batches = run->shape;
    batches.side = vg_options_largest_side(o);
    f->batches = loader_bytes(o, &batches, count, data);
    f->phrases = run->text ? vg_phrases_bytes(o, phrases) : 0;
    f->phrases_on_disk = run->text ? vg_phrases_store_bytes(o, phrases) : 0;
    if (f->phrases_on_disk)
        f->phrases_flops =
            vg_program_cost(run->text).flops * (double)phrases / (double)(o->train_micro_batch * o->data_phrases);
    f->image_rows = image_rows(o, run->stage, params, data);
    f->images_on_disk = run->shape.image_floats ? vg_features_image_bytes(o, f->image_rows) : 0;
    f->saving = vg_checkpoint_writer_bytes(params, ranks, 0);
    f->step_flops = vg_program_cost(run->train).flops * leaves;
    f->step_bytes = vg_program_cost(run->train).bytes * leaves;
    vg_program_each_cost(run->train, add_backward, &f->backward_flops);
    f->n_trainable = (double)params->n_trainable;
    f->n_parameters = (double)(params->n_trainable + params->n_frozen);
}

/* Bytes of the store of image features that a stage asks for. */
static size_t wanted_images(const vg_options *o, int stage, const vg_params *params, const vg_forecast_data *data)
{
    const vg_stage *s = &o->schedule[stage];
    return vg_stage_wants_images(o, s, params) ? vg_features_image_bytes(o, image_rows(o, s, params, data)) : 0;
}

static bool stores_images(const vg_options *o, int stage, const vg_params *params, const vg_forecast_data *data)
{
    return vg_stage_wants_images(o, &o->schedule[stage], params) &&
           (double)wanted_images(o, stage, params, data) * 1e-9 <= o->features_max_gb;
}

/* Who the forecast is for. */
typedef struct forecaster {
    crew on;
    const vg_forecast_data *data;
    const vg_gpu *gpu; /* or NULL */
    const vg_backend *backend;
    vg_params *params;
} forecaster;

/* One stage by itself; step, where it is not NULL, gets the kernels of its micro-batches. */
static vg_status forecast_stage(const vg_options *o, int i, const forecaster *by, vg_gpu_step *step,
                                vg_stage_forecast *f)
{
    vg_stage_run *run = NULL;
    VG_TRY(vg_stage_compile(o, i, stores_images(o, i, by->params, by->data), by->params, by->backend, 1, &run));
    *f = (vg_stage_forecast){0};
    fill(o, by->params, run, by->on.ranks, by->data, f);
    f->images_wanted = wanted_images(o, i, by->params, by->data);
    f->without_images = vg_stage_without_images(o, &o->schedule[i], by->params);
    const bool apart = by->backend->device != &vg_host_device;
    const vg_status st = apart ? fill_device(o, by->params, run, by->on, f) : VG_OK;
    if (step) {
        vg_program_each_cost(run->train, vg_gpu_add_kernel, step);
        step->bucket_bytes = vg_bucket_bytes(o, (int64_t)f->n_trainable);
        vg_gpu_finish(step, f->n_trainable);
    }
    vg_stage_leave(run);
    return st;
}

/* The stage on the GPU in either precision, whichever is asked for. */
static vg_status forecast_gpu(const vg_options *o, int i, const forecaster *by, vg_stage_forecast *f)
{
    char names[VG_PRECISIONS][8] = {[VG_PRECISION_FP32] = "fp32", [VG_PRECISION_BF16] = "bf16"};
    int first = 0, count = 0;
    vg_leaves_of((int)(o->train_global_batch / o->train_micro_batch), by->on.ranks, 0, &first, &count);
    for (int p = 0; p < VG_PRECISIONS; p++) {
        vg_options in = *o;
        vg_stage_forecast alone;
        in.train_precision = names[p];
        f->gpu[p] = (vg_gpu_step){.gpu = by->gpu, .precision = p, .ranks = by->on.ranks, .leaves = count};
        VG_TRY(forecast_stage(&in, i, by, &f->gpu[p], &alone));
        f->gpu_memory[p] = alone.device;
    }
    return VG_OK;
}

static vg_status forecast_stages(const vg_options *o, const forecaster *by, vg_stage_forecast *out)
{
    const size_t program = resident_bytes();
    size_t before = 0;
    VG_TRY(vg_model_declare(o, by->params));
    VG_TRY(vg_params_layout(by->params, NULL, 0));
    before = (size_t)by->params->n_frozen * sizeof(float);
    for (int i = 0; i < o->n_stages; i++) {
        vg_stage_forecast *f = &out[i];
        VG_TRY(forecast_stage(o, i, by, NULL, f));
        if (by->gpu) VG_TRY(forecast_gpu(o, i, by, f));
        const size_t running =
            f->weights + f->moments + f->gradients + f->arena + f->constants + f->batches + f->phrases + f->saving;
        const size_t laid_out = f->weights + (by->params->moments_elsewhere ? 0 : f->moments);
        f->entering = before + laid_out;
        f->peak = program + larger(running, f->entering + f->batches);
        before = laid_out;
    }
    return VG_OK;
}

static vg_status forecast(const vg_options *o, crew on, const vg_forecast_data *data, const vg_gpu *gpu,
                          const vg_backend *backend, vg_stage_forecast *out)
{
    vg_params *params = NULL;
    VG_TRY(vg_params_new(&params));
    params->keep_average = o->train_average_decay > 0;
    params->moments_elsewhere = o->train_zero && on.ranks > 1;
    const forecaster by = {on, data, gpu, backend, params};
    const vg_status st = forecast_stages(o, &by, out);
    vg_params_free(params);
    return st;
}

vg_status vg_forecast(const vg_options *o, int ranks, const vg_forecast_data *data, const vg_gpu *gpu,
                      vg_stage_forecast *out)
{
    const vg_backend *cuda = gpu ? vg_backend_find("cuda") : NULL;
    const crew on = {.ranks = ranks, .of_host = gpu ? gpu->host_gpus : ranks};
    return forecast(o, on, data, gpu, cuda ? cuda : vg_backend_cpu(), out);
}

/* Bytes of its memory that a host's ranks take in the stage that takes most. */
static double host_need_of(const vg_stage_forecast *stages, int n_stages, int ranks)
{
    double most = 0;
    for (int i = 0; i < n_stages; i++) {
        const vg_stage_forecast *f = &stages[i];
        const double total = f->device ? 0 : 4 * f->n_trainable; /* of the gradients, which is there once */
        most = fmax(most, ranks * ((double)f->peak - (double)f->device) - (ranks - 1) * total);
    }
    return most;
}

vg_status vg_forecast_fits(const vg_options *o, const vg_comm *comm, vg_compute *compute, double *host_need)
{
    const vg_device_ops *device = compute->backend->device;
    vg_stage_forecast f[VG_MAX_STAGES];
    size_t room = 0;
    *host_need = 0;
    const crew on = {.ranks = vg_comm_size(comm), .of_host = vg_comm_local_size(comm)};
    VG_TRY(forecast(o, on, &(vg_forecast_data){0}, NULL, compute->backend, f));
    *host_need = host_need_of(f, o->n_stages, on.of_host);
    if (!device->room) return VG_OK;
    VG_TRY(device->room(&compute->stream, &room));
    int most = 0;
    for (int i = 1; i < o->n_stages; i++)
        if (f[i].device > f[most].device) most = i;
    VG_CHECK(
        f[most].device <= room, VG_E_NOMEM,
        "stage '%s' needs %zu MiB of the GPU's memory, %zu MiB are free; lower train.micro_batch (now %lld), or see "
        "in nvidia-smi who else uses it",
        o->schedule[most].name, (f[most].device >> 20) + 1, room >> 20, (long long)o->train_micro_batch);
    return VG_OK;
}
