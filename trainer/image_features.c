/* The vision tower alone, over every image of a split, into a store. */
#include "dist/health.h"
#include "trainer/features.h"
#include "trainer/weights_hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCHES = 3 };

/* One rank's walk over its share: micro-batches rank, rank + R, ... of the images in order. */
typedef struct walk {
    const vg_feature_source *source;
    vg_feature_store *store;
    vg_batch_shape shape;
    vg_loader_stage views; /* from the first position on */
    int64_t n_rows;
    vg_program *tower;
    vg_arena arena;
    vg_batch batches[BATCHES];
    vg_loader *loader;
    float *scratch;  /* a row */
    int64_t *wanted; /* first images of the micro-batches with a row that is missing */
    int64_t n_wanted, n_put;
    vg_feature_progress progress;
} walk;

int64_t vg_features_image_floats(const vg_options *o)
{
    const int64_t grid = o->data_side / o->vision_patch;
    return grid * grid * o->vision_width;
}

static int64_t rows_of(const vg_feature_source *s)
{
    return vg_split_image_count(s->split) * (s->views ? s->views->views : 1);
}

static vg_feature_key key_of(const vg_options *o, int64_t n_rows, const char *text)
{
    return (vg_feature_key){.text = text,
                            .n_rows = n_rows,
                            .row_floats = vg_features_image_floats(o),
                            .bf16 = strcmp(o->features_dtype, "bf16") == 0};
}

size_t vg_features_image_bytes(const vg_options *o, int64_t n_rows)
{
    const vg_feature_key key = key_of(o, n_rows, "");
    return vg_feature_store_bytes(&key);
}

/* What the views follow from beside the pictures; nothing where there are none. */
static vg_status views_text(const vg_feature_source *s, vg_text *text)
{
    if (!s->views) return VG_OK;
    const vg_augment *a = &s->views->augment;
    return vg_text_add(text, "views: %d of seed %lld, crop %g keeping %g, flip %g, colour %g%s\n", s->views->views,
                       (long long)s->options->train_seed, a->crop, a->crop_keep, a->flip, a->colour,
                       a->colour_safe ? " where safe" : "");
}

static vg_status key_text(const vg_feature_source *s, vg_text *text)
{
    const vg_options *o = s->options;
    VG_TRY(vg_text_add(text,
                       "features: image\nsplit: %s, %lld images, data %016llx\nweights: vision %016llx\n"
                       "model: patch %lld, width %lld, depth %lld, heads %lld, registers %lld\n"
                       "picture: %lld x %lld, %s, decoded in reduced size from %g\ncomputed by: %s\ntype: %s\n",
                       vg_split_name(s->split), (long long)vg_split_image_count(s->split),
                       (unsigned long long)vg_split_hash(s->split),
                       (unsigned long long)vg_weights_hash(s->params, "vision."), (long long)o->vision_patch,
                       (long long)o->vision_width, (long long)o->vision_depth, (long long)o->vision_heads,
                       (long long)o->vision_registers, (long long)o->data_side, (long long)o->data_side,
                       VG_LOADER_PICTURE, o->data_reduced, vg_compute_profile(s->compute), o->features_dtype));
    return views_text(s, text);
}

/* ---- opening ---- */

static vg_status open_tower(walk *w)
{
    vg_compute *compute = w->source->compute;
    const vg_device_ops *device = compute->backend->device;
    vg_graph *g = NULL;
    VG_TRY(vg_graph_new(w->source->params, &g));
    vg_status st = vg_model_build_image(w->source->options, &w->shape, w->source->params, g);
    if (st == VG_OK)
        st = vg_model_plan(g, w->source->params, compute->backend, compute->stream.n_threads,
                           vg_options_bf16(w->source->options), &w->tower);
    vg_graph_free(g);
    if (st == VG_OK) st = vg_params_place(w->source->params, device, &compute->stream);
    if (st == VG_OK) st = device->allocate(&compute->stream, vg_program_arena_bytes(w->tower), &w->arena);
    return st == VG_OK ? vg_program_attach(w->tower, w->arena.base) : st;
}

static vg_status open_loader(walk *w)
{
    const vg_feature_source *s = w->source;
    const vg_loader_spec spec = {.split = s->split,
                                 .tokenizer = s->tokenizer,
                                 .shape = w->shape,
                                 .images_only = true,
                                 .seed = (uint64_t)s->options->train_seed,
                                 .stages = &w->views,
                                 .n_stages = s->views != NULL,
                                 .reduced = s->options->data_reduced,
                                 .n_workers = vg_compute_workers(s->compute, s->options->data_workers)};
    for (int i = 0; i < BATCHES; i++) VG_TRY(vg_batch_init(&w->batches[i], &w->shape));
    return vg_loader_open(&spec, w->batches, BATCHES, &w->loader);
}

static bool is_done(const walk *w, int64_t first)
{
    for (int64_t i = first; i < w->n_rows && i < first + w->shape.images; i++)
        if (!vg_features_row_is_whole(w->store, i, w->scratch)) return false;
    return true;
}

static vg_status find_wanted(walk *w)
{
    const int64_t n = w->n_rows, m = w->shape.images;
    const int64_t ranks = vg_comm_size(w->source->comm);
    w->scratch = vg_new0_array((size_t)vg_features_image_floats(w->source->options), sizeof *w->scratch);
    w->wanted = vg_new0_array((size_t)(n / m / ranks + 1), sizeof *w->wanted);
    VG_CHECK(w->scratch && w->wanted, VG_E_NOMEM, "no memory to compute image features");
    for (int64_t first = vg_comm_rank(w->source->comm) * m; first < n; first += ranks * m) {
        VG_TRY(vg_stop_check());
        if (!is_done(w, first)) w->wanted[w->n_wanted++] = first;
    }
    return VG_OK;
}

static void close_walk(walk *w)
{
    const vg_device_ops *device = w->source->compute->backend->device;
    if (w->loader) vg_loader_close(w->loader);
    for (int i = 0; i < BATCHES; i++) vg_batch_release(&w->batches[i]);
    vg_program_free(w->tower);
    device->release(&w->source->compute->stream, &w->arena);
    free(w->scratch);
    free(w->wanted);
}

/* ---- computing ---- */

static vg_status put_batch(walk *w, const vg_batch *batch)
{
    VG_TRY(vg_program_bind(w->tower, "pixels", batch->pixels));
    VG_TRY(vg_program_run(w->tower));
    VG_TRY(vg_program_wait(w->tower));
    const float *rows = vg_program_output(w->tower, "image_features", NULL);
    const int64_t floats = vg_features_image_floats(w->source->options);
    for (int i = 0; i < batch->shape.images; i++)
        if (batch->images[i] >= 0) VG_TRY(vg_feature_store_put(w->store, batch->first_position + i, rows + i * floats));
    return VG_OK;
}

/* Asks for the micro-batch with place `i` among those wanted. */
static vg_status want(walk *w, int64_t i)
{
    return i < w->n_wanted ? vg_loader_want(w->loader, w->wanted[i]) : VG_OK;
}

static vg_status begin(void *context, vg_feature_store *store)
{
    walk *w = context;
    w->store = store;
    w->shape = vg_model_batch_shape(w->source->options);
    w->shape.phrases = w->shape.max_targets = 1;
    VG_TRY(find_wanted(w));
    VG_TRY(open_tower(w));
    VG_TRY(open_loader(w));
    for (int64_t i = 0; i < BATCHES; i++) VG_TRY(want(w, i));
    return VG_OK;
}

static vg_status put_next(void *context, bool *more)
{
    walk *w = context;
    vg_batch *batch = NULL;
    if ((*more = w->n_put < w->n_wanted)) {
        vg_health_phase(w->source->comm, VG_PHASE_start, -1, w->wanted[w->n_put]);
        VG_TRY(vg_loader_take(w->loader, &batch));
        const vg_status st = put_batch(w, batch);
        vg_loader_give_back(w->loader, batch);
        VG_TRY(st);
        VG_TRY(want(w, w->n_put++ + BATCHES));
        vg_features_tell(&w->progress, "image", w->n_wanted * w->shape.images, w->shape.images);
    }
    return VG_OK;
}

static void end(void *context)
{
    close_walk(context);
}

/* ---- how long it will take ---- */

static vg_status time_tower(walk *w, vg_feature_pace *out)
{
    VG_TRY(open_tower(w));
    VG_TRY(vg_batch_init(&w->batches[0], &w->shape));
    VG_TRY(vg_program_bind(w->tower, "pixels", w->batches[0].pixels));
    double start_s = 0;
    for (int i = 0; i < 2; i++) { /* the first run meets cold memory */
        start_s = vg_now_s();
        VG_TRY(vg_program_run(w->tower));
        VG_TRY(vg_program_wait(w->tower));
    }
    out->image_s = vg_now_s() - start_s;
    out->flops_per_s = vg_program_cost(w->tower).flops / out->image_s;
    return VG_OK;
}

vg_status vg_features_measure(const vg_options *o, int n_threads, vg_feature_pace *out)
{
    vg_compute compute = {.backend = vg_backend_cpu(), .stream = {.n_threads = n_threads}};
    vg_feature_source source = {.options = o, .compute = &compute};
    walk w = {.source = &source, .shape = vg_model_batch_shape(o)};
    w.shape.images = w.shape.phrases = w.shape.max_targets = 1;
    VG_TRY(vg_params_new(&source.params));
    vg_status st = vg_model_declare(o, source.params);
    if (st == VG_OK) st = vg_params_layout(source.params, NULL, 0);
    if (st == VG_OK) st = time_tower(&w, out);
    close_walk(&w);
    vg_params_free(source.params);
    return st;
}

/* ---- the store ---- */

vg_status vg_features_of_images(const vg_feature_source *source, vg_feature_store **out)
{
    vg_text text = {0};
    char kind[24] = "";
    if (source->views) snprintf(kind, sizeof kind, "-views%d", source->views->views);
    vg_status st = vg_comm_agree(source->comm, key_text(source, &text));
    walk w = {.source = source, .n_rows = rows_of(source)};
    if (source->views) w.views = *source->views;
    w.views.first_position = 0;
    const vg_feature_job job = {.what = "image",
                                .kind = kind,
                                .key = key_of(source->options, rows_of(source), text.data),
                                .begin = begin,
                                .put = put_next,
                                .end = end,
                                .context = &w};
    if (st == VG_OK) st = vg_features_provide(source, &job, out);
    free(text.data);
    return st;
}
