/* A whole training step of the trainer, case by case: 8-bit pixels and token ids in, updated weights out (one
 * micro-batch, gradient norm, clipped AdamW). ViT-S/14 at 224 pixels, 8 images, a phrase of at most 24 tokens each,
 * fp32, dropout 0.1 in the fusion part. The peer is torch_step.py, whose cases have the same names.
 *
 *     bench_step [--threads N] [--rounds N] [--profile] [case...]      one JSON object: {"peak_gflops": .., "cases":
 * ..}
 *
 * A case is PRESET-STAGE: seed-stage1, strong-unfreeze4, seed-unfreeze12, ..; with -cached the phrases' features are
 * given, with -stored those of images too; -518: at 518 pixels. gflop counts products and attention, without the
 * padding of phrases, which is left out; so `floor` = gflop
 * / (ms * peak) is the share that they would take at the peak of the multiply-add units, measured in the same moment.
 */
#define _POSIX_C_SOURCE 200809L
#include "tests/bench/bench.h"
#include "trainer/stage.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGES = 8, TOKENS = 24, WARM_UP = 2, MAX_ROUNDS = 1000 };

static const char *const cases[] = {
    "seed-stage1",          "seed-unfreeze4",          "seed-unfreeze12",
    "strong-stage1",        "strong-unfreeze4",        "strong-unfreeze12",
    "seed-stage1-cached",   "seed-unfreeze4-cached",   "seed-unfreeze12-cached",
    "strong-stage1-cached", "strong-unfreeze4-cached", "strong-unfreeze12-cached",
    "seed-stage1-stored",   "seed-stage1-stored-518",  "strong-stage1-stored",
};

typedef struct measurement {
    const char *name;
    int n_threads, rounds;
    bool profile;
    vg_options options;
    vg_compute compute;
    vg_params *params;
    vg_stage_run *stage;
    vg_batch batch;
    vg_arena buffers; /* gradients, then text features */
    float *gradients, *text_features;
    vg_update update;
} measurement;

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
    return strstr(name, "-518") ? 518 : 224;
}

static vg_status read_options(measurement *m)
{
    char yaml[1024];
    const int n = snprintf(yaml, sizeof yaml,
                           "model: {preset: %.*s}\n"
                           "vision: {grid: %d}\n"
                           "text: {max_tokens: %d}\n"
                           "data: {side: %d}\n"
                           "train: {global_batch: %d, micro_batch: %d, allow_from_scratch: true}\n"
                           "features: {phrases: %s}\n"
                           "schedule:\n  - {name: stage, unfreeze_blocks: %d}\n",
                           (int)strcspn(m->name, "-"), m->name, side_of(m->name) / 14, TOKENS, side_of(m->name), IMAGES,
                           IMAGES, is_cached(m->name) ? "memory" : "off", blocks_of(m->name));
    return vg_options_parse(&m->options, yaml, (size_t)n, m->name, NULL, 0);
}

/* Random pixels; phrases of 3 to TOKENS tokens; one box each. */
static void fill_batch(vg_batch *b)
{
    const vg_rng_key key = vg_rng_key_of(1, vg_rng_purpose("bench.batch"));
    const int64_t side = b->shape.side, n_pixels = b->shape.image_floats ? 0 : IMAGES * side * side * 3;
    for (int64_t i = 0; i < n_pixels; i += 4) {
        uint32_t word[4];
        vg_rng_block(key, (uint64_t)i, 0, 0, word);
        for (int k = 0; k < 4; k++) b->pixels[i + k] = (uint8_t)(word[k] >> 24);
    }
    if (b->shape.image_floats) vg_fill_normal(b->image_features, IMAGES * b->shape.image_floats, key, 0, 1);
    for (int s = 0; s < IMAGES; s++) {
        const float box[4] = {0.3F + 0.05F * (float)s, 0.6F - 0.03F * (float)s, 0.2F, 0.3F};
        b->token_counts[s] = 3 + s * (TOKENS - 3) / (IMAGES - 1);
        for (int t = 0; t < TOKENS; t++) {
            const int last = b->token_counts[s] - 1;
            b->token_ids[s * TOKENS + t] = t == 0 ? 0 : t < last ? 4 + 397 * (s + 8 * t) : t == last ? 2 : 1;
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
    const vg_batch_shape shape = vg_model_batch_shape(o);
    m->compute = (vg_compute){.backend = vg_backend_cpu(), .stream = {.n_threads = m->n_threads}};
    VG_TRY(vg_params_new(&m->params));
    VG_TRY(vg_model_declare(o, m->params));
    VG_TRY(vg_params_layout(m->params, NULL, 0));
    VG_TRY(vg_model_init(o, m->params));
    VG_TRY(vg_stage_enter(o, 0, is_stored(m->name), m->params, &m->compute, &m->stage));
    VG_TRY(vg_batch_init(&m->batch, &m->stage->shape));
    fill_batch(&m->batch);
    const int64_t n_features = (int64_t)IMAGES * vg_model_text_rows(o, &shape) * o->text_width;
    VG_TRY(vg_arena_init(&m->buffers, (size_t)(m->params->n_trainable + n_features) * sizeof(float)));
    m->gradients = (float *)m->buffers.base;
    m->text_features = m->gradients + m->params->n_trainable;
    vg_fill_normal(m->text_features, n_features, vg_rng_key_of(1, 2), 0, 1);
    m->update = (vg_update){.course = 1};
    return VG_OK;
}

static vg_status update_weights(measurement *m)
{
    const vg_options *o = &m->options;
    const vg_backend *backend = m->compute.backend;
    const vg_optimizer *opt = &m->stage->optimizer;
    const vg_grad_norm norm = {.block_sums = opt->block_squares,
                               .n_blocks = opt->n_blocks,
                               .clip_norm = o->train_clip_norm,
                               .beta1 = o->train_beta1,
                               .beta2 = o->train_beta2,
                               .update = &m->update};
    const vg_adamw adamw = {.param = m->params->master,
                            .moment1 = m->params->moment1,
                            .moment2 = m->params->moment2,
                            .grad = m->gradients,
                            .n_blocks = opt->n_blocks,
                            .block_lr = opt->block_lr,
                            .block_decay = opt->block_decay,
                            .beta1 = (float)o->train_beta1,
                            .beta2 = (float)o->train_beta2,
                            .eps = (float)o->train_eps,
                            .update = &m->update};
    VG_TRY(backend->sum_squares(&m->compute.stream, m->gradients, opt->n_blocks, opt->block_squares));
    VG_TRY(backend->norm(&m->compute.stream, &norm));
    return backend->adamw(&m->compute.stream, &adamw);
}

static vg_status step(measurement *m)
{
    vg_program *program = m->stage->train;
    int32_t key_counts[IMAGES];
    /* one box per phrase: 8 matched queries of 80, as the trainer forms them */
    float scales[8] = {1 / 15.2F, 0.1F / 15.2F, 5.0F / IMAGES, 2.0F / IMAGES};
    VG_TRY(vg_model_bind(&m->options, program, &m->batch, key_counts));
    VG_TRY(vg_program_bind(program, "scales", scales));
    if (is_cached(m->name)) VG_TRY(vg_program_bind(program, "text_features", m->text_features));
    vg_program_bind_gradients(program, m->gradients);
    VG_TRY(vg_program_run(program));
    VG_TRY(vg_program_wait(program));
    return update_weights(m);
}

/* Multiply-adds, twice, that the phrase encoder would do for padding: every product of a layer, the last one's only for
 * keys and values where the rest of it is the first token's. */
static double padding_flops(const measurement *m)
{
    const vg_options *o = &m->options;
    const double c = (double)o->text_width, keys_and_values = 2 * c * c, rest = 2 * c * c + 2 * c * (double)o->text_mlp;
    const bool first_only = vg_model_text_rows(o, &m->batch.shape) == 1;
    int padding = 0;
    for (int s = 0; s < IMAGES; s++) padding += TOKENS - m->batch.token_counts[s];
    if (is_cached(m->name)) return 0;
    return 2.0 * padding * ((double)o->text_depth * (keys_and_values + rest) - (first_only ? rest : 0));
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

static vg_status measure(measurement *m, const char *comma)
{
    double seconds[MAX_ROUNDS];
    for (int i = 0; i < WARM_UP; i++) VG_TRY(step(m));
    vg_program_profile(m->stage->train, m->profile);
    const double begin = process_s();
    for (int i = 0; i < m->rounds; i++) {
        const double start = vg_now_s();
        VG_TRY(step(m));
        seconds[i] = vg_now_s() - start;
    }
    const double processor = (process_s() - begin) / m->rounds;
    qsort(seconds, (size_t)m->rounds, sizeof *seconds, by_value);
    const double median = seconds[m->rounds / 2],
                 gflop = 1e-9 * (vg_program_cost(m->stage->train).flops - padding_flops(m));
    const double peak = 1e-9 * peak_flops(m->n_threads, strstr(vg_backend_cpu()->profile(NULL), "avx512") != NULL);
    printf("%s\n  \"%s\": {\"ms\": %.1f, \"min_ms\": %.1f, \"cpu_ms\": %.1f, \"gflop\": %.1f, \"gflops\": %.1f, "
           "\"peak_gflops\": %.1f, \"floor\": %.3f, \"arena_mb\": %zu, \"packed_mb\": %zu}",
           comma, m->name, 1e3 * median, 1e3 * seconds[0], 1e3 * processor, gflop, gflop / median, peak,
           gflop / (median * peak), vg_stage_arena_bytes(m->stage) >> 20,
           vg_program_constant_bytes(m->stage->train) >> 20);
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
    vg_stage_leave(m.stage);
    vg_batch_release(&m.batch);
    vg_arena_release(&m.buffers);
    vg_params_free(m.params);
    vg_options_release(&m.options);
    return st;
}

static bool is_case(const char *name)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(cases[i], name) == 0) return true;
    return false;
}

int main(int argc, char **argv)
{
    measurement settings = {.n_threads = 2, .rounds = 10};
    const char *names[sizeof cases / sizeof *cases];
    int n = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--profile") == 0)
            settings.profile = true;
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            settings.n_threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            settings.rounds = atoi(argv[++i]);
        else if (is_case(argv[i]) && n < (int)(sizeof cases / sizeof *cases))
            names[n++] = argv[i];
        else
            return fprintf(stderr, "bench_step: %s?\n", argv[i]), 64;
    }
    if (settings.rounds < 1 || settings.rounds > MAX_ROUNDS || settings.n_threads < 1) return 64;
    for (size_t i = 0; n == 0 && i < sizeof cases / sizeof *cases; i++) names[i] = cases[i];
    if (n == 0) n = (int)(sizeof cases / sizeof *cases);
    vg_status st = VG_OK;
    printf("{\"profile\": \"%s\", \"threads\": %d, \"cases\": {", vg_backend_cpu()->profile(NULL), settings.n_threads);
    for (int i = 0; i < n && st == VG_OK; i++) st = run_case(&settings, names[i], i ? "," : "");
    printf("}}\n");
    if (st != VG_OK) fprintf(stderr, "bench_step: %s\n", vg_error_text());
    return vg_exit_code(st);
}
