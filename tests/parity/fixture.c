#include "tests/parity/fixture.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void must(vg_status st)
{
    if (st == VG_OK) return;
    fprintf(stderr, "parity: %s\n", vg_error_text());
    exit(1);
}

/* ---- reading ---- */

enum { ELEMENTS, NORM, LARGEST, ERROR, ERROR_NORM, STATS }; /* columns of the recorded statistics */

void *fixture_read(const fixture *f, const char *name, int64_t *count)
{
    const int i = vg_tensors_find(f->file, name);
    if (i < 0) must(vg_fail(VG_E_DATA, "the case has no tensor '%s'; record it again", name));
    const vg_tensor_entry *e = vg_tensors_get(f->file, i);
    void *data = vg_new0((size_t)e->bytes + 1);
    if (count) *count = e->count;
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
                    {"train.global_batch", NULL, "images"},
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

/* The stage of a training run: constant learning rate, everything else from the recorded settings. */
static void stage_sets(const fixture *f, char sets[][96], const char **pointers, int *n)
{
    static const struct {
        const char *option, *key;
    } rows[] = {{"schedule.0.steps", "steps"},
                {"schedule.0.unfreeze_blocks", "unfreeze_blocks"},
                {"schedule.0.lr", "lr"},
                {"schedule.0.vision_lr", "vision_lr"},
                {"schedule.0.weight_decay", "decay"},
                {"train.clip_norm", "clip"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(sets[*n], 96, "%s=%.17g", rows[i].option, json_number_value(setting(f, "train", rows[i].key)));
        pointers[*n] = sets[*n];
        ++*n;
    }
    pointers[(*n)++] = "train.allow_from_scratch=true";
    pointers[(*n)++] = "features.phrases=off"; /* phrases are given as tokens, not as sentences of a split */
}

/* The program adds the rows of a batch one after the other where PyTorch adds in a tree: over n rows the rounding walks
 * about sqrt(n) units away. The longest sums run over the memory of all slots. */
static parity_limits rounding_of(const fixture *f)
{
    const vg_batch_shape shape = vg_model_batch_shape(&f->options);
    const int64_t grid = shape.side / f->options.vision_patch;
    const int64_t rows = shape.images * shape.phrases * (grid * grid + vg_model_text_rows(&f->options, &shape));
    const double share = fmax(PARITY_UNITS, sqrt((double)rows)) * 0x1p-23;
    return (parity_limits){share, share};
}

/* The table of statistics has a row per name, and the samples are as many as the table says. */
static void read_record(fixture *f, const char *path)
{
    int64_t count = 0, n_samples = 0;
    f->n_names = (int)json_array_size(json_object_get(f->description, "names"));
    f->n_samples_each = (int)integer(f, NULL, "samples");
    f->stats = fixture_read(f, "stats", &count);
    f->samples = fixture_read(f, "samples", &n_samples);
    f->first_sample = vg_new0_array((size_t)f->n_names + 1, sizeof *f->first_sample);
    if (count != (int64_t)f->n_names * STATS)
        must(vg_fail(VG_E_DATA, "%s: stats is not [%d,%d]; record the case again", path, f->n_names, STATS));
    for (int i = 0; i < f->n_names; i++) {
        const int64_t n = fixture_count(f, i), k = f->n_samples_each;
        f->first_sample[i + 1] = f->first_sample[i] + (n < k ? n : k);
    }
    if (n_samples != f->first_sample[f->n_names])
        must(vg_fail(VG_E_DATA, "%s: %lld samples are wanted, %lld are there; record the case again", path,
                     (long long)f->first_sample[f->n_names], (long long)n_samples));
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
    f->n_steps = (int)integer(f, "train", "steps");
    fill_sets(f, sets, pointers, &n);
    if (f->n_steps) stage_sets(f, sets, pointers, &n);
    const char *stage = f->n_steps ? "schedule:\n  - name: recorded\n" : "";
    must(vg_options_parse(&f->options, stage, strlen(stage), path, pointers, n));
    f->rounding = rounding_of(f);
    read_record(f, path);
}

void fixture_close(fixture *f)
{
    must(vg_tensors_close(f->file));
    json_decref(f->description);
    vg_options_release(&f->options);
    free(f->stats);
    free(f->samples);
    free(f->first_sample);
}

/* ---- inputs ---- */

/* Elements [step * count ..] of a tensor: what belongs to one step. */
static void copy_step(const fixture *f, const char *name, int step, void *to, size_t bytes)
{
    int64_t count = 0;
    unsigned char *all = fixture_read(f, name, &count);
    const int n_steps = f->n_steps ? f->n_steps : 1;
    if ((size_t)count * sizeof(int32_t) != bytes * (size_t)n_steps || step >= n_steps)
        must(vg_fail(VG_E_DATA, "'%s' does not fit the case's settings; record it again", name));
    memcpy(to, all + (size_t)step * bytes, bytes);
    free(all);
}

static bool image_is_used(const vg_batch *b, int image)
{
    for (int j = 0; j < b->shape.phrases; j++)
        if (b->filled[image * b->shape.phrases + j]) return true;
    return false;
}

static uint64_t seed_of_pixels(const fixture *f, int step)
{
    if (!f->n_steps) return (uint64_t)f->options.train_seed;
    int32_t seed = 0, *seeds = fixture_read(f, "seeds", NULL);
    seed = seeds[step];
    free(seeds);
    return (uint64_t)seed;
}

static void fill_pixels(const fixture *f, int step, const vg_batch *batch)
{
    const vg_batch_shape *shape = &batch->shape;
    const vg_rng_key key = vg_rng_key_of(seed_of_pixels(f, step), vg_rng_purpose("input.pixels"));
    const size_t image_bytes = (size_t)shape->side * (size_t)shape->side * 3;
    const size_t bytes = image_bytes * (size_t)shape->images;
    for (size_t e = 0; e < bytes; e += 4) {
        uint32_t word[4];
        vg_rng_block(key, 0, 0, (uint32_t)(e / 4), word);
        for (size_t j = 0; j < 4 && e + j < bytes; j++) batch->pixels[e + j] = (uint8_t)(word[j] >> 24);
    }
    for (int i = 0; i < shape->images; i++)
        if (!image_is_used(batch, i)) memset(batch->pixels + (size_t)i * image_bytes, 0, image_bytes);
}

void fixture_batch(const fixture *f, int step, vg_batch *batch)
{
    const vg_batch_shape *shape = &batch->shape;
    const size_t slots = (size_t)shape->images * (size_t)shape->phrases;
    copy_step(f, "token_ids", step, batch->token_ids, slots * (size_t)shape->text_tokens * 4);
    copy_step(f, "token_counts", step, batch->token_counts, slots * 4);
    copy_step(f, "image_index", step, batch->image_index, slots * 4);
    copy_step(f, "targets", step, batch->targets, slots * (size_t)shape->max_targets * 4 * 4);
    copy_step(f, "n_targets", step, batch->n_targets, slots * 4);
    copy_step(f, "filled", step, batch->filled, slots * 4);
    copy_step(f, "keys", step, batch->keys, slots * 4 * 4);
    fill_pixels(f, step, batch);
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

void fixture_fill_params(const fixture *f, const vg_params *params)
{
    for (int i = 0; i < params->n; i++) {
        const vg_param *p = &params->items[i];
        fill(vg_params_data(params, i), p->name, p->count, p->shape.dim[0], (uint64_t)f->options.train_seed);
    }
    fill_positions(f, params);
}

/* ---- comparing ---- */

const char *fixture_name(const fixture *f, int i)
{
    return json_string_value(json_array_get(json_object_get(f->description, "names"), (size_t)i));
}

int64_t fixture_count(const fixture *f, int i)
{
    return (int64_t)f->stats[STATS * i + ELEMENTS];
}

double fixture_largest(const fixture *f, int i)
{
    return f->stats[STATS * i + LARGEST];
}

static int64_t sample_index(int64_t n, int64_t k, int64_t j)
{
    if (n <= k) return j;
    uint32_t word[4];
    vg_rng_block(vg_rng_key_of(0, vg_rng_purpose("sample")), 0, 0, (uint32_t)(j / 4), word);
    return j * n / k + (int64_t)(word[j % 4] % (uint64_t)(n / k));
}

/* The largest element among all tensors of tensor i's kind: of the same word before the first dot. */
static double largest_of_kind(const fixture *f, int i)
{
    const char *name = fixture_name(f, i);
    const size_t n = strcspn(name, ".");
    double largest = 0;
    for (int k = 0; k < f->n_names; k++)
        if (strncmp(fixture_name(f, k), name, n + 1) == 0) largest = fmax(largest, fixture_largest(f, k));
    return largest;
}

/* What the whole of a tensor says beside its samples. */
static void measure(const float *x, int64_t n, double *norm, double *largest)
{
    double sum = 0;
    *largest = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
        *largest = fmax(*largest, fabs((double)x[i]));
    }
    *norm = sqrt(sum);
}

/* The distance over its bound. What is known to be 0 must be 0. */
static double share_of(double off, double bound)
{
    return bound > 0 || off > 0 ? off / bound : off;
}

double fixture_compare(const fixture *f, int i, const float *x, int64_t count, const parity_limits *limits,
                       parity_tally *tally)
{
    const double *stat = f->stats + STATS * i, bound = parity_bound(stat[ERROR], stat[LARGEST], limits->element);
    const int64_t n = fixture_count(f, i), k = f->n_samples_each;
    const char *name = fixture_name(f, i);
    double norm, largest, worst = 0;
    if (count != n)
        must(vg_fail(VG_E_DATA, "%s has %lld elements, recorded are %lld", name, (long long)count, (long long)n));
    measure(x, n, &norm, &largest);
    for (int64_t j = 0; j < (n < k ? n : k); j++)
        worst =
            parity_worse(worst, fabs((double)x[sample_index(n, k, j)] - (double)f->samples[f->first_sample[i] + j]));
    worst = parity_worse(worst, fabs(largest - stat[LARGEST]));
    const double norm_off = fabs(norm - stat[NORM]),
                 norm_bound = parity_bound(stat[ERROR_NORM], stat[NORM], limits->norm);
    const double share = parity_worse(share_of(worst, bound), share_of(norm_off, norm_bound));
    const double unit = fmax(stat[LARGEST], 1e-3 * largest_of_kind(f, i));

    tally->n++;
    tally->n_off += !(share <= 1);
    if (tally->verbose && !(share <= 1))
        fprintf(stderr, "%-60s off by %.3g (bound %.3g), its norm by %.3g (bound %.3g); largest %.3g\n", name, worst,
                bound, norm_off, norm_bound, stat[LARGEST]);
    if (unit > 0) {
        if (parity_worse(tally->relative, worst / unit) != tally->relative) tally->relative_name = name;
        tally->relative = parity_worse(tally->relative, worst / unit);
        tally->pytorch_relative = parity_worse(tally->pytorch_relative, stat[ERROR] / unit);
    }
    if (parity_worse(tally->share, share) != tally->share) tally->share_name = name;
    tally->share = parity_worse(tally->share, share);
    return worst;
}

void parity_print(const parity_tally *tally)
{
    printf("%d tensors compared, %d off\n", tally->n, tally->n_off);
    printf("largest relative error %.2g (%s), of PyTorch in fp32 %.2g\n", tally->relative, tally->relative_name,
           tally->pytorch_relative);
    printf("nearest to its bound: %s, at %.2f of it\n", tally->share_name, tally->share);
}
