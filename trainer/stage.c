#include "trainer/stage.h"

#include "trainer/features.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what trains ---- */

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool pattern_matches(const char *pattern, const char *name)
{
    if (strcmp(pattern, "heads") == 0) return !starts_with(name, "vision.") && !starts_with(name, "text.");
    return fnmatch(pattern, name, 0) == 0;
}

/* Whether `unfreeze_blocks: n` reaches a parameter: the last n blocks, the final norm, and everything at full depth. */
static bool is_unfrozen(const vg_options *o, int64_t n, const char *name)
{
    if (n == 0 || !starts_with(name, "vision.")) return false;
    if (n == o->vision_depth || starts_with(name, "vision.norm.")) return true;
    int block = -1;
    return sscanf(name, "vision.blocks.%d.", &block) == 1 && block >= o->vision_depth - n;
}

double vg_stage_lr_of(const vg_options *o, const vg_stage *stage, const char *name)
{
    double lr = is_unfrozen(o, stage->unfreeze_blocks, name) ? stage->vision_lr : 0;
    for (int i = 0; i < stage->train.n; i++) {
        const char *item = stage->train.items[i], *equals = strrchr(item, '=');
        char pattern[VG_KEY_BYTES];
        snprintf(pattern, sizeof pattern, "%.*s", (int)(equals - item), item);
        if (pattern_matches(pattern, name)) lr = stage->lr * strtod(equals + 1, NULL);
    }
    return lr;
}

double vg_stage_course(const vg_stage *stage, int64_t step)
{
    if (step < stage->warmup) return (double)(step + 1) / (double)stage->warmup;
    if (strcmp(stage->decay, "constant") == 0) return 1;
    const int64_t length = stage->steps - stage->warmup;
    const double done = length > 1 ? (double)(step - stage->warmup) / (double)(length - 1) : 1;
    const double left = strcmp(stage->decay, "cosine") == 0 ? 0.5 * (1 + cos(3.14159265358979323846 * done)) : 1 - done;
    return stage->final_lr + (1 - stage->final_lr) * left;
}

typedef struct selection {
    const vg_options *o;
    const vg_stage *stage;
    const vg_params *params;
} selection;

static bool is_trainable(const void *context, int param)
{
    const selection *s = context;
    return vg_stage_lr_of(s->o, s->stage, s->params->items[param].name) > 0;
}

static bool any_trains(const selection *s, const char *prefix)
{
    for (int i = 0; i < s->params->n; i++)
        if (starts_with(s->params->items[i].name, prefix) && is_trainable(s, i)) return true;
    return false;
}

static vg_status check_selection(const selection *s, int index)
{
    const vg_options *o = s->o;
    VG_CHECK(any_trains(s, ""), VG_E_CONFIG, "schedule.%d.train: no parameter trains; check the patterns", index);
    const char *tower = !*o->vision_weights && any_trains(s, "vision.") ? "vision"
                        : !*o->text_weights && any_trains(s, "text.")   ? "text"
                                                                        : NULL;
    VG_CHECK(!tower || *o->model_weights || o->train_allow_from_scratch, VG_E_CONFIG,
             "schedule.%d: the %s tower would train from random weights, which goes to NaN or forgets in large models; "
             "set %s.weights, or train.allow_from_scratch: true for small ones",
             index, tower, tower);
    return VG_OK;
}

/* Whether phrase features are kept instead of encoding phrases in every step. */
static bool keeps_text(const selection *s)
{
    return strcmp(s->o->features_phrases, "off") != 0 && !any_trains(s, "text.");
}

static bool augments(const vg_stage *stage)
{
    return stage->crop > 0 || stage->flip > 0 || stage->colour > 0;
}

int vg_stage_views(const vg_options *o, const vg_stage *stage, const vg_params *params)
{
    const selection s = {o, stage, params};
    return augments(stage) && !any_trains(&s, "vision.") ? (int)o->features_views : 0;
}

static bool asks_for_images(const vg_options *o)
{
    return strcmp(o->features_images, "disk") == 0;
}

const char *vg_stage_without_images(const vg_options *o, const vg_stage *stage, const vg_params *params)
{
    const selection s = {o, stage, params};
    if (!asks_for_images(o)) return NULL;
    if (any_trains(&s, "vision.")) return "it trains the vision tower";
    if (stage->sides.n) return "its pictures have several sides";
    return augments(stage) && o->features_views == 0 ? "it augments, and features.views is 0" : NULL;
}

bool vg_stage_wants_images(const vg_options *o, const vg_stage *stage, const vg_params *params)
{
    return asks_for_images(o) && !vg_stage_without_images(o, stage, params);
}

/* ---- programs ---- */

typedef struct compile {
    const vg_options *o;
    const vg_stage *stage;
    vg_batch_shape shape; /* of the training program */
    vg_params *params;
    const vg_backend *backend;
    int n_threads;
} compile;

static vg_status plan_graph(const compile *c, vg_graph *g, vg_program **out)
{
    return vg_model_plan(g, c->params, c->backend, c->n_threads, vg_options_bf16(c->o), out);
}

/* The training program's graph, differentiated; the gradient order goes into order[params->n]. */
static vg_status train_graph(const compile *c, vg_graph *g, int *order, int *n_order)
{
    const selection s = {c->o, c->stage, c->params};
    const vg_program_spec spec = {.shape = c->shape,
                                  .loss = true,
                                  .text_trains = any_trains(&s, "text."),
                                  .image_positions_train = vg_stage_lr_of(c->o, c->stage, "vision.pos_embed") > 0,
                                  .cached_text = keeps_text(&s)};
    VG_TRY(vg_model_build(c->o, &spec, c->params, g));
    VG_TRY(vg_graph_differentiate(g, is_trainable, &s));
    vg_graph_gradient_order(g, order, n_order);
    return VG_OK;
}

/* The layout of the parameters is that of the first program; the others have the same order of gradients. */
static vg_status compile_train(const compile *c, bool first, vg_program **out)
{
    vg_graph *g = NULL;
    int *order = vg_new0_array((size_t)c->params->n, sizeof *order), n_order = 0;
    VG_CHECK(order, VG_E_NOMEM, "no memory to compile the stage");
    vg_status st = vg_graph_new(c->params, &g);
    if (st == VG_OK) st = train_graph(c, g, order, &n_order);
    if (st == VG_OK && first) st = vg_params_layout(c->params, order, n_order);
    if (st == VG_OK) st = plan_graph(c, g, out);
    vg_graph_free(g);
    free(order);
    return st;
}

/* A program for each side of the stage's pictures, the largest first. */
static vg_status compile_sides(compile c, vg_stage_run *run)
{
    int sides[VG_MAX_SIDES];
    const int n = vg_options_sides(c.o, c.stage, sides);
    c.shape.side = sides[0];
    for (int k = 1; k < n; k++)
        if (c.shape.side < sides[k]) c.shape.side = sides[k];
    run->shape = c.shape;
    VG_TRY(compile_train(&c, true, &run->train));
    for (int k = 0; k < n; k++) {
        if (sides[k] == run->shape.side) continue;
        c.shape.side = sides[k];
        run->smaller[run->n_smaller].side = sides[k];
        VG_TRY(compile_train(&c, false, &run->smaller[run->n_smaller++].train));
    }
    return VG_OK;
}

static vg_status compile_answer(const compile *c, vg_program **out)
{
    vg_graph *g = NULL;
    const selection s = {c->o, c->stage, c->params};
    const vg_program_spec spec = {.shape = vg_model_batch_shape(c->o), .cached_text = keeps_text(&s)};
    VG_TRY(vg_graph_new(c->params, &g));
    vg_status st = vg_model_build(c->o, &spec, c->params, g);
    if (st == VG_OK) st = plan_graph(c, g, out);
    vg_graph_free(g);
    return st;
}

static vg_status compile_text(const compile *c, vg_program **out)
{
    vg_graph *g = NULL;
    const vg_batch_shape shape = vg_model_batch_shape(c->o);
    VG_TRY(vg_graph_new(c->params, &g));
    vg_status st = vg_model_build_text(c->o, &shape, g);
    if (st == VG_OK) st = plan_graph(c, g, out);
    vg_graph_free(g);
    return st;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

vg_program *vg_stage_program(const vg_stage_run *run, int side)
{
    for (int k = 0; k < run->n_smaller; k++)
        if (run->smaller[k].side == side) return run->smaller[k].train;
    return run->train;
}

/* Program k of the stage, NULL behind the last. */
static vg_program *program_at(const vg_stage_run *run, int k)
{
    vg_program *const fixed[] = {run->train, run->answer, run->text};
    if (k < run->n_smaller) return run->smaller[k].train;
    k -= run->n_smaller;
    return k < (run->text ? 3 : 2) ? fixed[k] : NULL;
}

size_t vg_stage_arena_bytes(const vg_stage_run *run)
{
    size_t bytes = 0;
    for (int k = 0; program_at(run, k); k++) bytes = larger(bytes, vg_program_arena_bytes(program_at(run, k)));
    return bytes;
}

size_t vg_stage_constant_bytes(const vg_stage_run *run)
{
    size_t bytes = 0;
    for (int k = 0; program_at(run, k); k++) bytes += vg_program_constant_bytes(program_at(run, k));
    return bytes;
}

size_t vg_stage_input_bytes(const vg_stage_run *run)
{
    size_t bytes = 0;
    for (int k = 0; program_at(run, k); k++) bytes += vg_program_input_bytes(program_at(run, k));
    return bytes;
}

/* ---- the optimizer's tables ---- */

static bool decays(const vg_param *p)
{
    const bool token = fnmatch("vision.*_token", p->name, 0) == 0 || strcmp(p->name, "vision.pos_embed") == 0;
    return p->shape.rank >= 2 && !token;
}

/* Learning rate before its course over the steps, and weight decay. */
static void fill_tables(const vg_options *o, const vg_stage *stage, const vg_params *params, float *block_lr,
                        float *block_decay)
{
    for (int i = 0; i < params->n; i++) {
        const vg_param *p = &params->items[i];
        if (!p->trainable) continue;
        const int64_t first = p->offset / VG_PARAM_BLOCK, last = (p->offset + p->count - 1) / VG_PARAM_BLOCK;
        for (int64_t b = first; b <= last; b++) {
            block_lr[b] = (float)vg_stage_lr_of(o, stage, p->name);
            block_decay[b] = decays(p) ? (float)stage->weight_decay : 0;
        }
    }
}

/* In this order, so that all are aligned: sums of squares, update, rates, decays. */
size_t vg_stage_optimizer_bytes(const vg_params *params)
{
    const size_t n = (size_t)(params->n_trainable / VG_PARAM_BLOCK);
    return n * (sizeof(double) + 2 * sizeof(float)) + sizeof(vg_update);
}

static vg_status make_optimizer(vg_stage_run *run, const vg_options *o, const vg_params *params)
{
    const vg_device_ops *device = run->compute->backend->device;
    vg_optimizer *opt = &run->optimizer;
    const size_t n = (size_t)(params->n_trainable / VG_PARAM_BLOCK), table = n * sizeof(float);
    float *tables = vg_new0_array(2 * n, sizeof *tables);
    VG_CHECK(tables, VG_E_NOMEM, "no memory for the optimizer's tables");
    fill_tables(o, run->stage, params, tables, tables + n);
    vg_status st = device->allocate(&run->compute->stream, vg_stage_optimizer_bytes(params), &opt->memory);
    if (st == VG_OK) {
        opt->n_blocks = (int64_t)n;
        opt->block_squares = (double *)(void *)opt->memory.base;
        opt->update = (vg_update *)(void *)(opt->block_squares + n);
        float *block_lr = (float *)(void *)(opt->update + 1);
        opt->block_lr = block_lr;
        opt->block_decay = block_lr + n;
        st = device->upload(&run->compute->stream, block_lr, tables, 2 * table);
    }
    if (st == VG_OK) st = device->wait(&run->compute->stream);
    free(tables);
    return st;
}

/* ---- entering and leaving ---- */

static vg_status compile_all(vg_stage_run *run, const vg_options *o, int index, bool stored_images, vg_params *params,
                             const vg_backend *backend, int n_threads)
{
    run->stage = &o->schedule[index];
    run->shape = vg_model_batch_shape(o);
    if (stored_images) run->shape.image_floats = vg_features_image_floats(o);
    const selection s = {o, run->stage, params};
    VG_TRY(check_selection(&s, index));
    const compile c = {o, run->stage, run->shape, params, backend, n_threads};
    VG_TRY(compile_sides(c, run));
    VG_TRY(compile_answer(&c, &run->answer));
    return keeps_text(&s) ? compile_text(&c, &run->text) : VG_OK;
}

vg_status vg_stage_compile(const vg_options *o, int index, bool stored_images, vg_params *params,
                           const vg_backend *backend, int n_threads, vg_stage_run **out)
{
    vg_stage_run *run = vg_new0(sizeof *run);
    VG_CHECK(run, VG_E_NOMEM, "no memory for a stage");
    const vg_status st = compile_all(run, o, index, stored_images, params, backend, n_threads);
    if (st != VG_OK) {
        vg_stage_leave(run);
        return st;
    }
    *out = run;
    return VG_OK;
}

static vg_status attach_program(const vg_options *o, vg_program *program, void *arena)
{
    vg_program_record(program, o->train_record);
    return vg_program_attach(program, arena);
}

static vg_status attach_all(vg_stage_run *run, const vg_options *o, vg_params *params)
{
    const vg_device_ops *device = run->compute->backend->device;
    VG_TRY(vg_params_place(params, device, &run->compute->stream));
    VG_TRY(device->allocate(&run->compute->stream, vg_stage_arena_bytes(run), &run->arena));
    for (int k = 0; program_at(run, k); k++) VG_TRY(attach_program(o, program_at(run, k), run->arena.base));
    return make_optimizer(run, o, params);
}

vg_status vg_stage_enter(const vg_options *o, int index, bool stored_images, vg_params *params, vg_compute *compute,
                         vg_stage_run **out)
{
    vg_stage_run *run = NULL;
    VG_TRY(vg_stage_compile(o, index, stored_images, params, compute->backend, compute->stream.n_threads, &run));
    run->compute = compute;
    const vg_status st = attach_all(run, o, params);
    if (st != VG_OK) {
        vg_stage_leave(run);
        return st;
    }
    *out = run;
    return VG_OK;
}

void vg_stage_leave(vg_stage_run *run)
{
    if (!run) return;
    for (int k = 0; k < run->n_smaller; k++) vg_program_free(run->smaller[k].train);
    vg_program_free(run->train);
    vg_program_free(run->answer);
    vg_program_free(run->text);
    if (run->compute) {
        const vg_device_ops *device = run->compute->backend->device;
        device->release(&run->compute->stream, &run->arena);
        device->release(&run->compute->stream, &run->optimizer.memory);
    }
    free(run);
}
