/* test_steps FIXTURE [teeth]: a recorded run of training steps through the trainer's own step, from given weights on
 * given batches: every loss, the gradient norm, the matchings, and what the run made of the weights. With `teeth` also
 * with settings of the optimizer changed one by one, each of which must show. */
#include "tests/device_test.h"
#include "tests/parity/fixture.h"
#include "trainer/loop_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_THREADS = 2 };

/* What is kept of every step, in the layout of the recorded tensors. */
typedef struct history {
    float *total, *norm, *parts;
    int32_t *match;
    int64_t n_parts, n_match; /* of one step */
    float *start;             /* the trainable weights before the first step */
} history;

/* ---- a run without data: one rank, one micro-batch a step ---- */

static void open_run(const fixture *f, vg_run *r, vg_batch *batch)
{
    const vg_batch_shape shape = vg_model_batch_shape(&f->options);
    static const vg_injections no_faults = {0};
    *r = (vg_run){.o = &f->options,
                  .faults = &no_faults,
                  .n_leaves = 1,
                  .n_all_leaves = 1,
                  .taken = vg_new0_array(1, sizeof(vg_batch *)),
                  .leaf_sums = vg_new0_array(N_SUMS, sizeof(double)),
                  .key_counts = vg_new0_array((size_t)shape.images * (size_t)shape.phrases, sizeof(int32_t)),
                  .rank_counts = vg_new0_array(N_COUNTS, sizeof(int64_t))};
    r->compute.backend = backend_under_test(N_THREADS, 0, &r->compute.stream);
    must(vg_comm_open(&r->comm));
    must(vg_pace_init(&r->pace, vg_comm_size(r->comm)));
    must(vg_batch_init(batch, &shape));
    r->taken[0] = batch;
    must(vg_params_new(&r->params));
    must(vg_model_declare(r->o, r->params));
    must(vg_params_layout(r->params, NULL, 0));
    fixture_fill_params(f, r->params);
    must(vg_run_enter_stage(r));
}

static void close_run(vg_run *r)
{
    vg_run_leave_stage(r);
    vg_params_free(r->params);
    vg_compute_close(&r->compute);
    vg_batch_release(r->taken[0]);
    free(r->taken);
    free(r->leaf_sums);
    free(r->key_counts);
    free(r->rank_counts);
    vg_pace_release(&r->pace);
    must(vg_comm_close(r->comm));
}

/* ---- the steps ---- */

static void open_history(const fixture *f, const vg_run *r, history *h)
{
    vg_shape parts, match;
    vg_program_output(r->stage->train, "parts", &parts);
    vg_program_output(r->stage->train, "match", &match);
    const size_t n = (size_t)f->n_steps;
    h->n_parts = vg_shape_count(&parts);
    h->n_match = vg_shape_count(&match);
    h->total = vg_new0_array(n, sizeof *h->total);
    h->norm = vg_new0_array(n, sizeof *h->norm);
    h->parts = vg_new0_array(n * (size_t)h->n_parts, sizeof *h->parts);
    h->match = vg_new0_array(n * (size_t)h->n_match, sizeof *h->match);
    h->start = vg_new0_array((size_t)r->params->n_trainable, sizeof *h->start);
    memcpy(h->start, r->params->master, (size_t)r->params->n_trainable * sizeof *h->start);
}

static void close_history(history *h)
{
    free(h->total);
    free(h->norm);
    free(h->parts);
    free(h->match);
    free(h->start);
}

static void step(const fixture *f, vg_run *r, int i, history *h)
{
    fixture_batch(f, i, r->taken[0]);
    must(vg_run_batches(r, VG_OK));
    const double *parts = vg_program_output(r->stage->train, "parts", NULL);
    for (int64_t k = 0; k < h->n_parts; k++) h->parts[i * h->n_parts + k] = (float)parts[k];
    memcpy(h->match + i * h->n_match, vg_program_output(r->stage->train, "match", NULL),
           (size_t)h->n_match * sizeof *h->match);
    h->total[i] =
        (float)(r->scales[0] * r->sums[SUM_CLASS] + r->scales[2] * r->sums[SUM_L1] + r->scales[3] * r->sums[SUM_GIOU]);
    h->norm[i] = (float)r->update.norm;
}

/* ---- comparing ---- */

/* A ReLU whose input lies within rounding of 0 passes a gradient in one run and none in another; from there on two runs
 * part, on each instruction set at a step of its own, as PyTorch's fp32 and fp64 do. Losses stay together, and so do
 * the norms of the updates; single elements and the gradient's norm on the way show it. */
static const double loss_limit = 1e-4;
static const parity_limits numerator_limits = {1e-4, 1e-4}, norm_limits = {1e-2, 1e-2}, update_limits = {3e-2, 1e-3};

/* Every loss by itself, relative. */
static int compare_losses(const fixture *f, const history *h, int record, bool verbose)
{
    double worst = 0;
    if (f->n_samples_each < f->n_steps) must(vg_fail(VG_E_DATA, "not every loss is recorded; record the case again"));
    for (int i = 0; i < f->n_steps; i++) {
        const double want = (double)f->samples[f->first_sample[record] + i];
        worst = parity_worse(worst, fabs((double)h->total[i] - want) / want);
    }
    if (verbose)
        printf("%d losses, %.4f to %.4f: largest relative difference %.2g, limit %g\n", f->n_steps, (double)h->total[0],
               (double)h->total[f->n_steps - 1], worst, loss_limit);
    return !(worst < loss_limit);
}

static int compare_matches(const fixture *f, const history *h, bool verbose)
{
    int64_t count = 0;
    int32_t *want = fixture_read(f, "match", &count);
    const bool same = count == f->n_steps * h->n_match && memcmp(want, h->match, (size_t)count * sizeof *want) == 0;
    free(want);
    if (verbose) printf("the matchings of all steps %s\n", same ? "agree" : "differ");
    return !same;
}

static void compare_update(const fixture *f, const vg_run *r, const history *h, int record, parity_tally *tally)
{
    const char *name = fixture_name(f, record) + strlen("update.");
    const int i = vg_params_find(r->params, name);
    if (i < 0 || !r->params->items[i].trainable) must(vg_fail(VG_E_DATA, "%s does not train", name));
    const vg_param *p = &r->params->items[i];
    float *update = vg_new0_array((size_t)p->count, sizeof *update);
    for (int64_t k = 0; k < p->count; k++) update[k] = r->params->master[p->offset + k] - h->start[p->offset + k];
    fixture_compare(f, record, update, p->count, &update_limits, tally);
    free(update);
}

static int n_trainable(const vg_params *params)
{
    int n = 0;
    for (int i = 0; i < params->n; i++) n += params->items[i].trainable;
    return n;
}

static int compare(const fixture *f, const vg_run *r, const history *h, bool verbose)
{
    parity_tally values = {.verbose = verbose}, updates = {.verbose = verbose};
    int off = compare_matches(f, h, verbose);
    for (int i = 0; i < f->n_names; i++) {
        const char *name = fixture_name(f, i);
        if (strncmp(name, "update.", 7) == 0)
            compare_update(f, r, h, i, &updates);
        else if (strcmp(name, "value.total") == 0)
            off += compare_losses(f, h, i, verbose);
        else if (strcmp(name, "value.norm") == 0)
            fixture_compare(f, i, h->norm, f->n_steps, &norm_limits, &values);
        else
            fixture_compare(f, i, h->parts, f->n_steps * h->n_parts, &numerator_limits, &values);
    }
    if (updates.n != n_trainable(r->params)) {
        fprintf(stderr, "%d parameters train, %d updates are recorded\n", n_trainable(r->params), updates.n);
        off++;
    }
    if (verbose) {
        printf("numerators and gradient norms: ");
        parity_print(&values);
        printf("updates of the weights: ");
        parity_print(&updates);
    }
    return off + values.n_off + updates.n_off;
}

/* ---- one run ---- */

/* Returns how much of the recorded run is not met. */
static int run_and_compare(const fixture *f, bool verbose)
{
    vg_run r;
    vg_batch batch;
    history h;
    open_run(f, &r, &batch);
    open_history(f, &r, &h);
    for (int i = 0; i < f->n_steps; i++) step(f, &r, i, &h);
    must(vg_params_fetch(r.params));
    const int off = compare(f, &r, &h, verbose);
    close_history(&h);
    close_run(&r);
    return off;
}

/* ---- teeth ---- */

static void no_clipping(vg_options *o)
{
    o->train_clip_norm = 0;
}

static void no_decay(vg_options *o)
{
    o->schedule[0].weight_decay = 0;
}

static void other_rate(vg_options *o)
{
    o->schedule[0].lr *= 1.01;
}

static void other_vision_rate(vg_options *o)
{
    o->schedule[0].vision_lr *= 1.01;
}

static void other_first_moment(vg_options *o)
{
    o->train_beta1 = 0.89;
}

static void other_second_moment(vg_options *o)
{
    o->train_beta2 = 0.99;
}

static int notice(const char *path)
{
    static const struct {
        const char *what;
        void (*spoil)(vg_options *);
    } rows[] = {{"no clipping", no_clipping},
                {"no weight decay", no_decay},
                {"a learning rate 1 % higher", other_rate},
                {"a vision rate 1 % higher", other_vision_rate},
                {"beta1 0.89", other_first_moment},
                {"beta2 0.99", other_second_moment}};
    int unnoticed = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        fixture_open(path, &f);
        rows[i].spoil(&f.options);
        const int off = run_and_compare(&f, false);
        printf("%s: %s\n", rows[i].what, off ? "noticed" : "goes unnoticed");
        unnoticed += !off;
        fixture_close(&f);
    }
    return unnoticed;
}

int main(int argc, char **argv)
{
    fixture f;
    if (argc < 2) return 64;
    fixture_open(argv[1], &f);
    if (!f.n_steps) must(vg_fail(VG_E_DATA, "%s is no run of steps", argv[1]));
    int off = run_and_compare(&f, true);
    fixture_close(&f);
    if (argc > 2 && off == 0) off = notice(argv[1]);
    return off != 0;
}
