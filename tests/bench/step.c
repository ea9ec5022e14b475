/* A whole training step of the trainer, case by case: 8-bit pixels and token ids in host memory, updated weights out
 * (one micro-batch, gradient norm, clipped AdamW), with the trainer's own programs, graph replay, sum of gradients and
 * waits. ViT-S/14, a phrase of at most 24 tokens for each image, dropout 0.1 in the fusion part. The peer is
 * torch_step.py, whose cases have the same names.
 *
 *     bench_step [--device cpu|cuda] [--precision fp32|bf16] [--batch N] [--threads N] [--rounds N] [--steps N]
 *                [--seconds S] [--peak TFLOPS] [--profile] [case...]
 *
 * prints one JSON object. A round is --steps steps in a row (1 on the CPU, 10 on a GPU), ms the median over rounds of a
 * round's time by its steps; update_ms is the part of it behind the program, from its end to the new weights. There are
 * no more rounds than fit into --seconds, but for the first.
 *
 * A case is PRESET-STAGE: seed-stage1, strong-unfreeze4, seed-unfreeze12, ..; with -cached the phrases' features are
 * given, with -stored those of images too; -518: at 518 pixels, else 224. The tiny ones have 32, for an emulated GPU.
 * gflop counts products and attention, without the padding of phrases, which is left out; so `floor` = gflop
 * / (ms * peak) is the share that they would take at the peak of the multiply-add units: on the CPU that of this
 * moment, on a GPU the one that --peak says.
 */
#define _POSIX_C_SOURCE 200809L
#include "tests/bench/bench.h"
#include "trainer/update.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 24, WARM_UP = 3, MAX_ROUNDS = 1000, MAX_IMAGES = 1024 };

static const char *const cases[] = {
    "seed-stage1",          "seed-unfreeze4",          "seed-unfreeze12",
    "strong-stage1",        "strong-unfreeze4",        "strong-unfreeze12",
    "seed-stage1-518",      "seed-unfreeze4-518",      "seed-unfreeze12-518",
    "strong-stage1-518",    "strong-unfreeze4-518",    "strong-unfreeze12-518",
    "seed-stage1-cached",   "seed-unfreeze4-cached",   "seed-unfreeze12-cached",
    "strong-stage1-cached", "strong-unfreeze4-cached", "strong-unfreeze12-cached",
    "seed-stage1-stored",   "seed-stage1-stored-518",  "strong-stage1-stored",
    "tiny-stage1",          "tiny-unfreeze1",          "tiny-stage1-cached",
};

typedef struct measurement {
    const char *name;
    const char *device, *precision;
    int n_threads, rounds, steps, images;
    double seconds, peak_tflops;
    bool profile;
    vg_comm *comm;
    vg_compute *compute;

    vg_options options;
    vg_params *params;
    vg_stage_run *stage;
    vg_gradients *gradients;
    vg_rank_moments moments;
    vg_batch batch;
    int32_t key_counts[MAX_IMAGES];
    vg_arena text_features; /* of the host, where they are given */
    vg_update update;
    double update_s; /* since it was last set to 0 */
} measurement;

static bool is_tiny(const char *name)
{
    return strncmp(name, "tiny", 4) == 0;
}

static int blocks_of(const char *name)
{
    const char *unfreeze = strstr(name, "unfreeze");
    return unfreeze ? atoi(unfreeze + strlen("unfreeze")) : 0;
}

static bool is_stored(const char *name)
{
    return strstr(name, "-stored") != NULL;
}

static bool is_cached(const char *name)
{
    return strstr(name, "-cached") != NULL || is_stored(name);
}

static int side_of(const char *name)
{
    return is_tiny(name) ? 32 : strstr(name, "-518") ? 518 : 224;
}

static vg_status read_options(measurement *m)
{
    char yaml[1024];
    const int side = side_of(m->name);
    const int n =
        snprintf(yaml, sizeof yaml,
                 "model: {preset: %.*s}\n"
                 "vision: {grid: %d}\n"
                 "text: {max_tokens: %d}\n"
                 "data: {side: %d}\n"
                 "train: {global_batch: %d, micro_batch: %d, allow_from_scratch: true, precision: %s}\n"
                 "features: {phrases: %s}\n"
                 "schedule:\n  - {name: stage, unfreeze_blocks: %d}\n",
                 (int)strcspn(m->name, "-"), m->name, side / (is_tiny(m->name) ? 8 : 14), TOKENS, side, m->images,
                 m->images, m->precision, is_cached(m->name) ? "memory" : "off", blocks_of(m->name));
    return vg_options_parse(&m->options, yaml, (size_t)n, m->name, NULL, 0);
}

/* Random pixels. */
static void fill_images(vg_batch *b, vg_rng_key key)
{
    const int64_t side = b->shape.side;
    const int64_t n_pixels = b->shape.image_floats ? 0 : b->shape.images * side * side * 3;
    for (int64_t i = 0; i < n_pixels; i += 4) {
        uint32_t word[4];
        vg_rng_block(key, (uint64_t)i, 0, 0, word);
        for (int64_t k = 0; k < 4 && i + k < n_pixels; k++) b->pixels[i + k] = (uint8_t)(word[k] >> 24);
    }
    if (b->shape.image_floats) vg_fill_normal(b->image_features, b->shape.images * b->shape.image_floats, key, 0, 1);
}

/* Phrases of 3 to TOKENS tokens; one box each. */
static void fill_batch(vg_batch *b, int64_t vocab)
{
    fill_images(b, vg_rng_key_of(1, vg_rng_purpose("bench.batch")));
    for (int s = 0; s < b->shape.images; s++) {
        const float box[4] = {0.3F + 0.05F * (float)(s % 8), 0.6F - 0.03F * (float)(s % 8), 0.2F, 0.3F};
        b->token_counts[s] = 3 + (s % 8) * (TOKENS - 3) / 7;
        for (int t = 0; t < TOKENS; t++) {
            const int last = b->token_counts[s] - 1, word = 4 + (int)(397LL * (s + 8 * t) % (vocab - 4));
            b->token_ids[s * TOKENS + t] = t == 0 ? 0 : t < last ? word : t == last ? 2 : 1;
        }
        memcpy(b->targets + 4 * s, box, sizeof box);
        b->image_index[s] = s;
        b->n_targets[s] = b->filled[s] = 1;
        b->keys[4 * s + 2] = (uint32_t)(1000 + s);
    }
}

static vg_status prepare(measurement *m)
{
    const vg_options *o = &m->options;
    VG_TRY(vg_params_new(&m->params));
    VG_TRY(vg_model_declare(o, m->params));
    VG_TRY(vg_params_layout(m->params, NULL, 0));
    VG_TRY(vg_model_init(o, m->params));
    VG_TRY(vg_stage_enter(o, 0, is_stored(m->name), m->params, m->compute, &m->stage));
    const vg_gradients_plan plan = vg_gradients_plan_of(o, m->params->n_trainable, false);
    VG_TRY(vg_gradients_new(m->comm, m->compute, &plan, &m->gradients));
    VG_TRY(vg_gradients_follow(m->gradients, m->stage->train));
    VG_TRY(vg_rank_moments_open(m->params, m->gradients, m->compute, &m->moments));
    VG_TRY(vg_batch_init(&m->batch, &m->stage->shape));
    fill_batch(&m->batch, o->text_vocab);
    const int64_t n_features = m->images * vg_model_text_rows(o, &m->stage->shape) * o->text_width;
    VG_TRY(vg_arena_init(&m->text_features, (size_t)n_features * sizeof(float)));
    vg_fill_normal((float *)(void *)m->text_features.base, n_features, vg_rng_key_of(1, 2), 0, 1);
    return VG_OK;
}

/* ---- a step, in the trainer's order (trainer/step.c) ---- */

/* Binds the next batch and begins to bring it to the device. */
static vg_status stage_batch(measurement *m)
{
    vg_program *program = m->stage->train;
    if (is_cached(m->name)) VG_TRY(vg_program_bind(program, "text_features", m->text_features.base));
    VG_TRY(vg_model_bind(&m->options, program, &m->batch, m->key_counts));
    return vg_program_stage(program);
}

static vg_status run_program(measurement *m)
{
    vg_program *program = m->stage->train;
    const float images = (float)m->images, classes = images * (1 + 0.1F * (float)(m->options.fusion_queries - 1));
    float scales[8] = {1 / classes, 0.1F / classes, 5 / images, 2 / images};
    VG_TRY(vg_program_bind(program, "scales", scales));
    vg_program_bind_gradients(program, vg_gradients_leaf(m->gradients));
    VG_TRY(vg_program_run(program));
    VG_TRY(stage_batch(m));
    VG_TRY(vg_program_wait(program));
    return vg_gradients_push(m->gradients, false);
}

static vg_status update_weights(measurement *m)
{
    const float *total = NULL;
    VG_TRY(vg_gradients_settle(m->gradients));
    VG_TRY(vg_gradients_finish(m->gradients, &total));
    m->update = (vg_update){.course = 1, .steps = m->update.steps};
    const vg_updater updater = {.options = &m->options,
                                .stage = m->stage,
                                .params = m->params,
                                .gradients = m->gradients,
                                .moments = &m->moments};
    return vg_update_weights(&updater, total, &m->update);
}

static vg_status step(measurement *m)
{
    VG_TRY(run_program(m));
    const double start = vg_now_s();
    VG_TRY(update_weights(m));
    m->update_s += vg_now_s() - start;
    VG_CHECK(!m->update.skip, VG_E_NUMERICS, "%s: the gradient's norm is %g", m->name, m->update.norm);
    return VG_OK;
}

/* ---- measuring ---- */

/* Multiply-adds forward for a row of the phrase encoder: every product of a layer, the last one's only for keys and
 * values where the rest of it is the first token's. */
static double text_products(const measurement *m)
{
    const vg_options *o = &m->options;
    const double c = (double)o->text_width, keys_and_values = 2 * c * c, rest = 2 * c * c + 2 * c * (double)o->text_mlp;
    const bool first_only = vg_model_text_rows(o, &m->batch.shape) == 1;
    if (is_cached(m->name)) return 0;
    return (double)o->text_depth * (keys_and_values + rest) - (first_only ? rest : 0);
}

/* And for a row of the fusion encoder. */
static double fusion_products(const measurement *m)
{
    const vg_options *o = &m->options;
    const double d = (double)o->fusion_width;
    return (double)o->fusion_encoder_layers * (4 * d * d + 2 * d * (double)o->fusion_mlp);
}

/* Multiply-adds, twice, that products would do for padding; where a layer trains, backward twice what they are
 * forward. */
static double padding_flops(const measurement *m)
{
    const int word = vg_params_find(m->params, "text.embeddings.word_embeddings.weight");
    const double text_passes = m->params->items[word].trainable ? 3 : 1;
    int padding = 0;
    for (int s = 0; s < m->images; s++) padding += TOKENS - m->batch.token_counts[s];
    return 2.0 * padding * (text_passes * text_products(m) + 3 * fusion_products(m));
}

static double process_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* In operations per second; 0 where nobody says it. */
static double peak_of(const measurement *m)
{
    if (m->peak_tflops > 0) return 1e12 * m->peak_tflops;
    return m->compute->backend == vg_backend_cpu() ? peak_flops(m->n_threads) : 0;
}

static void print_times(const measurement *m, const char *comma, const double *seconds, int n, double processor_s)
{
    const double median = seconds[n / 2], gflop = 1e-9 * (vg_program_cost(m->stage->train).flops - padding_flops(m));
    const double peak = 1e-9 * peak_of(m);
    printf("%s\n  \"%s\": {\"ms\": %.3f, \"min_ms\": %.3f, \"cpu_ms\": %.3f, \"update_ms\": %.3f, \"rounds\": %d, "
           "\"gflop\": %.1f, \"gflops\": %.1f, \"arena_mb\": %zu, \"packed_mb\": %zu",
           comma, m->name, 1e3 * median, 1e3 * seconds[0], 1e3 * processor_s, 1e3 * m->update_s / (n * m->steps), n,
           gflop, gflop / median, vg_stage_arena_bytes(m->stage) >> 20,
           vg_program_constant_bytes(m->stage->train) >> 20);
    if (peak > 0) printf(", \"peak_gflops\": %.1f, \"floor\": %.3f", peak, gflop / (median * peak));
    printf("}");
    fflush(stdout);
}

static vg_status measure(measurement *m, const char *comma)
{
    double seconds[MAX_ROUNDS];
    VG_TRY(stage_batch(m));
    for (int i = 0; i < WARM_UP; i++) VG_TRY(step(m));
    vg_program_profile(m->stage->train, m->profile);
    m->update_s = 0;
    const double begin = process_s(), end = vg_now_s() + m->seconds;
    int n = 0;
    for (; n < m->rounds && (n == 0 || vg_now_s() < end); n++) {
        const double start = vg_now_s();
        for (int i = 0; i < m->steps; i++) VG_TRY(step(m));
        seconds[n] = (vg_now_s() - start) / m->steps;
    }
    const double processor_s = (process_s() - begin) / (n * m->steps);
    qsort(seconds, (size_t)n, sizeof *seconds, by_value);
    print_times(m, comma, seconds, n, processor_s);
    if (!m->profile) return VG_OK;
    char *text = vg_program_profile_text(m->stage->train);
    if (text) fprintf(stderr, "%s\n%s", m->name, text);
    free(text);
    return VG_OK;
}

static vg_status run_case(const measurement *settings, const char *name, const char *comma)
{
    measurement m = *settings;
    m.name = name;
    VG_TRY(read_options(&m));
    vg_status st = prepare(&m);
    if (st == VG_OK) st = measure(&m, comma);
    vg_rank_moments_release(&m.moments);
    vg_gradients_free(m.gradients);
    vg_stage_leave(m.stage);
    vg_batch_release(&m.batch);
    vg_arena_release(&m.text_features);
    vg_params_free(m.params);
    vg_options_release(&m.options);
    return st;
}

static vg_status run_cases(measurement *m, vg_compute *compute, const char *const *names, int n)
{
    const vg_compute_spec spec = {.device = m->device, .threads = m->n_threads, .bf16 = *m->precision == 'b'};
    VG_TRY(vg_comm_open(&m->comm));
    VG_TRY(vg_compute_open(m->comm, &spec, compute));
    m->compute = compute;
    printf("{\"profile\": \"%s\", \"threads\": %d, \"batch\": %d, \"steps\": %d, \"cases\": {",
           vg_compute_profile(compute), m->n_threads, m->images, m->steps);
    vg_status st = VG_OK;
    for (int i = 0; i < n && st == VG_OK; i++) st = run_case(m, names[i], i ? "," : "");
    printf("}}\n");
    vg_compute_close(compute);
    VG_KEEP(st, vg_comm_close(m->comm));
    return st;
}

/* ---- arguments ---- */

static bool is_case(const char *name)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(cases[i], name) == 0) return true;
    return false;
}

/* An option that takes a value. */
static bool take(measurement *m, const char *name, const char *value)
{
    if (strcmp(name, "--device") == 0)
        return m->device = value, strcmp(value, "cpu") == 0 || strcmp(value, "cuda") == 0;
    if (strcmp(name, "--precision") == 0)
        return m->precision = value, strcmp(value, "fp32") == 0 || strcmp(value, "bf16") == 0;
    if (strcmp(name, "--batch") == 0) return m->images = atoi(value), m->images >= 1 && m->images <= MAX_IMAGES;
    if (strcmp(name, "--threads") == 0) return m->n_threads = atoi(value), m->n_threads >= 1;
    if (strcmp(name, "--rounds") == 0) return m->rounds = atoi(value), m->rounds >= 1 && m->rounds <= MAX_ROUNDS;
    if (strcmp(name, "--steps") == 0) return m->steps = atoi(value), m->steps >= 1;
    if (strcmp(name, "--seconds") == 0) return m->seconds = atof(value), m->seconds > 0;
    if (strcmp(name, "--peak") == 0) return m->peak_tflops = atof(value), m->peak_tflops > 0;
    return false;
}

int main(int argc, char **argv)
{
    measurement m = {.device = "cpu", .precision = "fp32", .n_threads = 2, .rounds = 10, .images = 8, .seconds = 1e9};
    vg_compute compute = {0};
    const char *names[sizeof cases / sizeof *cases];
    int n = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--profile") == 0)
            m.profile = true;
        else if (is_case(argv[i]) && n < (int)(sizeof cases / sizeof *cases))
            names[n++] = argv[i];
        else if (i + 1 < argc && take(&m, argv[i], argv[i + 1]))
            i++;
        else
            return fprintf(stderr, "bench_step: %s?\n", argv[i]), 64;
    }
    for (size_t i = 0; n == 0 && i < sizeof cases / sizeof *cases; i++) names[i] = cases[i];
    if (n == 0) n = (int)(sizeof cases / sizeof *cases);
    if (!m.steps) m.steps = strcmp(m.device, "cpu") == 0 ? 1 : 10;
    const vg_status st = run_cases(&m, &compute, names, n);
    if (st != VG_OK) fprintf(stderr, "bench_step: %s\n", vg_error_text());
    return vg_exit_code(st);
}
