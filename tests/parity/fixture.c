#include "tests/parity/fixture.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(vg_status st)
{
    if (st == VG_OK) return;
    fprintf(stderr, "parity: %s\n", vg_error_text());
    exit(1);
}

/* ---- reading ---- */

enum { ELEMENTS, NORM, LARGEST, ERROR, ERROR_NORM, STATS }; /* columns of the recorded statistics */

static void *read_tensor(const fixture *f, const char *name)
{
    const int i = vg_tensors_find(f->file, name);
    if (i < 0) return NULL;
    void *data = vg_new0((size_t)vg_tensors_get(f->file, i)->bytes + 1);
    must(vg_tensors_read_bytes(f->file, i, data));
    return data;
}

static const json_t *config_of(const fixture *f)
{
    return json_object_get(f->description, "config");
}

static const json_t *setting(const fixture *f, const char *group, const char *key)
{
    const json_t *config = config_of(f);
    return json_object_get(group ? json_object_get(config, group) : config, key);
}

static long long integer(const fixture *f, const char *group, const char *key)
{
    return json_integer_value(setting(f, group, key));
}

static void fill_sets(const fixture *f, char sets[][96], const char **pointers, int *n)
{
    static const struct {
        const char *option, *group, *key;
    } integers[] = {{"vision.patch", "vision", "patch"},
                    {"vision.width", "vision", "width"},
                    {"vision.depth", "vision", "depth"},
                    {"vision.heads", "vision", "heads"},
                    {"vision.mlp", "vision", "mlp"},
                    {"vision.registers", "vision", "registers"},
                    {"text.width", "text", "width"},
                    {"text.depth", "text", "depth"},
                    {"text.heads", "text", "heads"},
                    {"text.mlp", "text", "mlp"},
                    {"text.vocab", "text", "vocab"},
                    {"text.positions", "text", "positions"},
                    {"text.max_tokens", NULL, "text_tokens"},
                    {"fusion.width", "fusion", "d"},
                    {"fusion.heads", "fusion", "heads"},
                    {"fusion.mlp", "fusion", "ffn"},
                    {"fusion.encoder_layers", "fusion", "encoder_layers"},
                    {"fusion.decoder_layers", "fusion", "decoder_layers"},
                    {"fusion.queries", "fusion", "queries"},
                    {"data.side", NULL, "side"},
                    {"data.phrases", NULL, "phrases"},
                    {"data.max_targets", NULL, "max_targets"},
                    {"train.micro_batch", NULL, "images"},
                    {"train.seed", NULL, "seed"}};
    static const struct {
        const char *option, *key, *when_true, *when_false;
    } flags[] = {{"fusion.norm", "pre_norm", "pre", "post"},
                 {"fusion.positions_in_values", "pos_in_values", "true", "false"},
                 {"fusion.query_style", "query_input", "input", "added"},
                 {"fusion.text_positions", "text_pos", "learned", "zero"},
                 {"fusion.projection_norm", "proj_norm", "true", "false"},
                 {"fusion.modality", "modality", "true", "false"},
                 {"fusion.image_positions", "image_pos", "sine", "none"},
                 {"loss.auxiliary", "aux", "true", "false"}};
    int k = 0;
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        snprintf(sets[k++], 96, "%s=%lld", integers[i].option, integer(f, integers[i].group, integers[i].key));
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        snprintf(sets[k++], 96, "%s=%s", flags[i].option,
                 json_is_true(setting(f, "fusion", flags[i].key)) ? flags[i].when_true : flags[i].when_false);
    snprintf(sets[k++], 96, "vision.grid=%lld", integer(f, NULL, "side") / integer(f, "vision", "patch"));
    snprintf(sets[k++], 96, "fusion.text_tokens=%s", json_string_value(setting(f, "fusion", "text_tokens")));
    snprintf(sets[k++], 96, "fusion.dropout=%.17g", json_number_value(setting(f, "fusion", "dropout")));
    snprintf(sets[k++], 96, "text.dropout=0");
    snprintf(sets[k++], 96, "loss.no_object=%.17g", json_number_value(setting(f, "loss", "eos")));
    snprintf(sets[k++], 96, "loss.align=%.17g", json_number_value(setting(f, "loss", "align")));
    for (int i = 0; i < k; i++) pointers[i] = sets[i];
    *n = k;
}

static int64_t count_of(const fixture *f, const char *name)
{
    const int i = vg_tensors_find(f->file, name);
    return i < 0 ? -1 : vg_tensors_get(f->file, i)->count;
}

/* The table of statistics has a row per name, and the samples are as many as the table says. */
static void check_record(const fixture *f, const char *path)
{
    int64_t samples = 0;
    if (count_of(f, "stats") != (int64_t)f->n_names * STATS)
        must(vg_fail(VG_E_DATA, "%s: stats is not [%d,%d]; record the case again", path, f->n_names, STATS));
    for (int i = 0; i < f->n_names; i++) {
        const double elements = f->stats[STATS * i + ELEMENTS];
        samples += elements < f->n_samples_each ? (int64_t)elements : f->n_samples_each;
    }
    if (count_of(f, "samples") != samples)
        must(vg_fail(VG_E_DATA, "%s: %lld samples are wanted; record the case again", path, (long long)samples));
}

void fixture_open(const char *path, fixture *f)
{
    char sets[48][96];
    const char *pointers[48];
    int n = 0;
    *f = (fixture){0};
    must(vg_tensors_open(path, &f->file));
    const char *text = vg_tensors_metadata(f->file, "case");
    f->description = text ? json_loads(text, 0, NULL) : NULL;
    if (!f->description) must(vg_fail(VG_E_DATA, "%s: no case in the metadata", path));
    fill_sets(f, sets, pointers, &n);
    must(vg_options_read(&f->options, NULL, pointers, n));
    f->stats = read_tensor(f, "stats");
    f->samples = read_tensor(f, "samples");
    f->n_names = (int)json_array_size(json_object_get(f->description, "names"));
    f->n_samples_each = (int)integer(f, NULL, "samples");
    check_record(f, path);
}

void fixture_close(fixture *f)
{
    must(vg_tensors_close(f->file));
    json_decref(f->description);
    vg_options_release(&f->options);
    free(f->stats);
    free(f->samples);
}

/* ---- inputs ---- */

static void copy_tensor(const fixture *f, const char *name, void *to)
{
    const int i = vg_tensors_find(f->file, name);
    if (i < 0) must(vg_fail(VG_E_DATA, "the case has no tensor '%s'", name));
    must(vg_tensors_read_bytes(f->file, i, to));
}

static bool image_is_used(const vg_batch *b, int image)
{
    for (int j = 0; j < b->shape.phrases; j++)
        if (b->filled[image * b->shape.phrases + j]) return true;
    return false;
}

void fixture_batch(const fixture *f, vg_batch *batch)
{
    const vg_batch_shape shape = vg_model_batch_shape(&f->options);
    const vg_rng_key key = vg_rng_key_of((uint64_t)f->options.train_seed, vg_rng_purpose("input.pixels"));
    must(vg_batch_init(batch, &shape));
    copy_tensor(f, "token_ids", batch->token_ids);
    copy_tensor(f, "token_counts", batch->token_counts);
    copy_tensor(f, "image_index", batch->image_index);
    copy_tensor(f, "targets", batch->targets);
    copy_tensor(f, "n_targets", batch->n_targets);
    copy_tensor(f, "filled", batch->filled);
    copy_tensor(f, "keys", batch->keys);
    const size_t image_bytes = (size_t)shape.side * (size_t)shape.side * 3;
    for (size_t e = 0; e < image_bytes * (size_t)shape.images; e += 4) {
        uint32_t word[4];
        vg_rng_block(key, 0, 0, (uint32_t)(e / 4), word);
        for (size_t j = 0; j < 4 && e + j < image_bytes * (size_t)shape.images; j++)
            batch->pixels[e + j] = (uint8_t)(word[j] >> 24);
    }
    for (int i = 0; i < shape.images; i++)
        if (!image_is_used(batch, i)) memset(batch->pixels + (size_t)i * image_bytes, 0, image_bytes);
}

/* ---- weights ---- */

static bool part_before_is_norm(const char *name, const char *last)
{
    char part[64] = "";
    const char *begin = last - 1;
    while (begin > name && begin[-1] != '.') begin--;
    for (int i = 0; begin + i < last - 1 && i < 63; i++) part[i] = (char)tolower((unsigned char)begin[i]);
    return last > name && strstr(part, "norm") != NULL;
}

static bool is_one_of(const char *word, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(word, *words) == 0) return true;
    return false;
}

static void fill(float *x, const char *name, int64_t count, int64_t rows, uint64_t seed)
{
    static const char *const tables[] = {"pos_embed", "cls_token", "reg_token", NULL};
    static const char *const embeddings[] = {"modality_embed.weight", "text_pos.weight", NULL};
    const vg_rng_key key = vg_rng_key_of(seed, vg_rng_purpose(name));
    const char *dot = strrchr(name, '.'), *last = dot ? dot + 1 : name;
    if (strcmp(name, "align_scale") == 0)
        vg_fill_uniform(x, count, key, 1.5F, 2.5F);
    else if (strcmp(name, "align_bias") == 0)
        vg_fill_uniform(x, count, key, -2.5F, -1.5F);
    else if (strcmp(name, "query_embed.weight") == 0)
        vg_fill_normal(x, count, key, 0, 3);
    else if (strcmp(last, "gamma") == 0 || (strcmp(last, "weight") == 0 && part_before_is_norm(name, last)))
        vg_fill_uniform(x, count, key, 0.5F, 1.5F);
    else if (strcmp(last, "bias") == 0 || strcmp(last, "in_proj_bias") == 0)
        vg_fill_uniform(x, count, key, -0.2F, 0.2F);
    else if (is_one_of(last, tables) || strstr(name, "embeddings.") || is_one_of(name, embeddings))
        vg_fill_normal(x, count, key, 0, 0.5F);
    else {
        const float r = (float)(1.5 / sqrt((double)(count / rows)));
        vg_fill_uniform(x, count, key, -r, r);
    }
}

void fixture_fill_param(const vg_params *params, int index, uint64_t seed)
{
    const vg_param *p = &params->items[index];
    fill(vg_params_data(params, index), p->name, p->count, p->shape.dim[0], seed);
}

/* The stored table has a side of its own and is resampled to the grid. */
static void fill_positions(const fixture *f, const vg_params *params)
{
    const int index = vg_params_find(params, "vision.pos_embed"), from = (int)integer(f, "vision", "table");
    const int to = (int)f->options.vision_grid;
    const int64_t c = f->options.vision_width, count = (int64_t)from * from * c;
    float *table = vg_new0_array((size_t)count, sizeof *table);
    fill(table, "vision.pos_embed", count, 1, (uint64_t)f->options.train_seed);
    if (from == to)
        memcpy(vg_params_data(params, index), table, (size_t)count * sizeof *table);
    else
        must(vg_resample_positions(table, from, vg_params_data(params, index), to, c));
    free(table);
}

/* ---- running ---- */

static bool all_train(const void *context, int param)
{
    (void)context;
    (void)param;
    return true;
}

void fixture_run_open(const fixture *f, const vg_backend *backend, int n_threads, fixture_run *run)
{
    vg_graph *g = NULL;
    const vg_program_spec spec = {.shape = vg_model_batch_shape(&f->options),
                                  .loss = true,
                                  .text_trains = true,
                                  .image_positions_train = true,
                                  .keep_features = true};
    *run = (fixture_run){0};
    must(vg_params_new(&run->params));
    must(vg_model_declare(&f->options, run->params));
    must(vg_params_layout(run->params, NULL, 0));
    must(vg_graph_new(run->params, &g));
    must(vg_model_build(&f->options, &spec, run->params, g));
    must(vg_graph_differentiate(g, all_train, NULL));
    int *order = vg_new0_array((size_t)run->params->n, sizeof *order), n = 0;
    vg_graph_gradient_order(g, order, &n);
    must(vg_params_layout(run->params, order, n));
    free(order);
    must(vg_graph_plan(g, backend, n_threads, &run->program));
    vg_graph_free(g);
    must(vg_arena_init(&run->arena, vg_program_arena_bytes(run->program)));
    must(vg_arena_init(&run->gradients, (size_t)run->params->n_trainable * sizeof(float)));
    fixture_batch(f, &run->batch);
    run->key_counts = vg_new0_array((size_t)run->batch.shape.images * (size_t)run->batch.shape.phrases, 4);
    for (int i = 0; i < run->params->n; i++) fixture_fill_param(run->params, i, (uint64_t)f->options.train_seed);
    fill_positions(f, run->params);
    copy_tensor(f, "scales", run->scales);
    must(vg_program_attach(run->program, run->arena.base));
    vg_program_bind_gradients(run->program, (float *)(void *)run->gradients.base);
    must(vg_model_bind(&f->options, run->program, &run->batch, run->key_counts));
    must(vg_program_bind(run->program, "scales", run->scales));
    must(vg_program_run(run->program));
}

void fixture_run_again(const fixture *f, fixture_run *run)
{
    (void)f;
    must(vg_program_run(run->program));
}

void fixture_run_close(fixture_run *run)
{
    vg_program_free(run->program);
    vg_params_free(run->params);
    vg_arena_release(&run->arena);
    vg_arena_release(&run->gradients);
    vg_batch_release(&run->batch);
    free(run->key_counts);
}

/* ---- comparing ---- */

/* Text states with the rows behind a phrase's last token as 0: nobody reads those. */
static const float *copy_real_rows(const fixture_run *run, float *out)
{
    vg_shape shape;
    const float *x = vg_program_output(run->program, "text_features", &shape);
    const int64_t rows = shape.dim[1], c = shape.dim[2];
    for (int64_t b = 0; b < shape.dim[0]; b++)
        for (int64_t t = 0; t < rows && t < run->batch.token_counts[b]; t++)
            memcpy(out + (b * rows + t) * c, x + (b * rows + t) * c, (size_t)c * sizeof *x);
    return out;
}

/* Where the program has a recorded tensor; NULL: it does not keep it. Doubles are narrowed into `narrow`. */
static const float *find_value(const fixture_run *run, const char *name, int64_t count, float *narrow)
{
    if (strncmp(name, "grad.", 5) == 0) {
        const int i = vg_params_find(run->params, name + 5);
        if (i < 0) return NULL;
        return (const float *)(const void *)run->gradients.base + run->params->items[i].offset;
    }
    const char *what = name + strlen("value.");
    if (strcmp(what, "parts") == 0 || strcmp(what, "align_parts") == 0) {
        const double *wide = vg_program_output(run->program, what, NULL);
        for (int64_t i = 0; i < count; i++) narrow[i] = (float)wide[i];
        return narrow;
    }
    if (strcmp(what, "text") == 0) return copy_real_rows(run, narrow);
    if (strcmp(what, "image") == 0) return vg_program_output(run->program, "image_features", NULL);
    if (strcmp(what, "logits") == 0 || strcmp(what, "boxes") == 0) return vg_program_output(run->program, what, NULL);
    return NULL;
}

static int64_t sample_index(int64_t n, int64_t k, int64_t j)
{
    if (n <= k) return j;
    uint32_t word[4];
    vg_rng_block(vg_rng_key_of(0, vg_rng_purpose("sample")), 0, 0, (uint32_t)(j / 4), word);
    return j * n / k + (int64_t)(word[j % 4] % (uint64_t)(n / k));
}

static bool tensor_is_near(const float *x, const double *stat, const float *samples, int64_t k, double *worst,
                           double *bound)
{
    const int64_t n = (int64_t)stat[ELEMENTS];
    double norm = 0;
    *bound = parity_bound(stat[ERROR], stat[LARGEST]);
    *worst = 0;
    for (int64_t i = 0; i < n; i++) norm += (double)x[i] * (double)x[i];
    for (int64_t j = 0; j < (n < k ? n : k); j++) {
        const double off = fabs((double)x[sample_index(n, k, j)] - (double)samples[j]);
        if (!(off <= *worst)) *worst = off; /* NaN counts as worst */
    }
    const double norm_off = fabs(sqrt(norm) - stat[NORM]) / sqrt((double)(n ? n : 1));
    if (!(norm_off <= *worst)) *worst = norm_off;
    return *worst <= *bound;
}

static bool matches_agree(const fixture *f, const fixture_run *run)
{
    const int i = vg_tensors_find(f->file, "match");
    const size_t bytes = (size_t)vg_tensors_get(f->file, i)->bytes;
    int32_t *want = read_tensor(f, "match");
    const bool same = memcmp(want, vg_program_output(run->program, "match", NULL), bytes) == 0;
    free(want);
    return same;
}

int fixture_compare(const fixture *f, const fixture_run *run, bool verbose, int *n_compared)
{
    const json_t *names = json_object_get(f->description, "names");
    const float *samples = f->samples;
    int off = matches_agree(f, run) ? 0 : 1;
    *n_compared = 1;
    if (off && verbose) fprintf(stderr, "match differs\n");
    for (int i = 0; i < f->n_names; i++) {
        const char *name = json_string_value(json_array_get(names, (size_t)i));
        const double *stat = f->stats + STATS * i;
        const int64_t n = (int64_t)stat[ELEMENTS], k = f->n_samples_each;
        float *narrow = vg_new0_array((size_t)n, sizeof *narrow);
        double worst = 0, bound = 0;
        const float *x = find_value(run, name, n, narrow);
        if (x) {
            const bool near = tensor_is_near(x, stat, samples, k, &worst, &bound);
            (*n_compared)++;
            off += !near;
            if (!near && verbose)
                fprintf(stderr, "%-60s off by %.3g, bound %.3g, largest %.3g\n", name, worst, bound, stat[LARGEST]);
        }
        free(narrow);
        samples += n < k ? n : k;
    }
    return off;
}
