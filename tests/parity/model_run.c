#include "tests/parity/model_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- running ---- */

static bool all_train(const void *context, int param)
{
    (void)context;
    (void)param;
    return true;
}

static void compile(model_run *run)
{
    vg_graph *g = NULL;
    const vg_program_spec spec = {.shape = vg_model_batch_shape(&run->f->options),
                                  .loss = true,
                                  .text_trains = true,
                                  .image_positions_train = true,
                                  .keep_features = true};
    must(vg_graph_new(run->params, &g));
    must(vg_model_build(&run->f->options, &spec, run->params, g));
    must(vg_graph_differentiate(g, all_train, NULL));
    int *order = vg_new0_array((size_t)run->params->n, sizeof *order), n = 0;
    vg_graph_gradient_order(g, order, &n);
    must(vg_params_layout(run->params, order, n));
    free(order);
    must(vg_graph_plan(g, run->backend, run->stream->n_threads, &run->program));
    vg_graph_free(g);
}

static void read_scales(model_run *run)
{
    int64_t count = 0;
    float *scales = fixture_read(run->f, "scales", &count);
    if (count != 8) must(vg_fail(VG_E_DATA, "the case has %lld loss factors, not 8", (long long)count));
    memcpy(run->scales, scales, sizeof run->scales);
    free(scales);
}

void model_run_open(const fixture *f, const vg_backend *backend, vg_stream *stream, model_run *run)
{
    const vg_device_ops *d = backend->device;
    const vg_batch_shape shape = vg_model_batch_shape(&f->options);
    *run = (model_run){.f = f, .backend = backend, .stream = stream};
    must(vg_params_new(&run->params));
    must(vg_model_declare(&f->options, run->params));
    must(vg_params_layout(run->params, NULL, 0));
    compile(run);
    must(d->allocate(stream, vg_program_arena_bytes(run->program), &run->arena));
    must(d->allocate(stream, (size_t)run->params->n_trainable * sizeof(float), &run->device_gradients));
    run->gradients = vg_new0_array((size_t)run->params->n_trainable, sizeof *run->gradients);
    must(vg_batch_init(&run->batch, &shape));
    fixture_batch(f, 0, &run->batch);
    run->key_counts = vg_new0_array((size_t)shape.images * (size_t)shape.phrases, sizeof *run->key_counts);
    fixture_fill_params(f, run->params);
    read_scales(run);
    must(vg_params_place(run->params, d, stream));
    must(vg_program_attach(run->program, run->arena.base));
    vg_program_bind_gradients(run->program, (float *)(void *)run->device_gradients.base);
    must(vg_model_bind(&f->options, run->program, &run->batch, run->key_counts));
    must(vg_program_bind(run->program, "scales", run->scales));
}

void model_run_go(model_run *run)
{
    must(vg_params_send(run->params));
    must(vg_program_run(run->program));
    must(run->backend->device->download(run->stream, run->gradients, run->device_gradients.base,
                                        (size_t)run->params->n_trainable * sizeof *run->gradients));
    must(run->backend->device->wait(run->stream));
}

void model_run_close(model_run *run)
{
    vg_program_free(run->program);
    vg_params_free(run->params);
    run->backend->device->release(run->stream, &run->arena);
    run->backend->device->release(run->stream, &run->device_gradients);
    free(run->gradients);
    vg_batch_release(&run->batch);
    free(run->key_counts);
}

/* ---- what the program has of the recorded tensors ---- */

/* A tensor of the program, or one put together in `made`. */
typedef struct found {
    const float *x;
    float *made;
    int64_t count;
} found;

static found kept(const model_run *run, const char *name)
{
    vg_shape shape;
    const float *x = vg_program_output(run->program, name, &shape);
    return x ? (found){.x = x, .count = vg_shape_count(&shape)} : (found){0};
}

static found made(int64_t count)
{
    float *x = vg_new0_array((size_t)count, sizeof *x);
    return (found){.x = x, .made = x, .count = count};
}

static found narrowed(const model_run *run, const char *name)
{
    vg_shape shape;
    const double *wide = vg_program_output(run->program, name, &shape);
    if (!wide) return (found){0};
    found out = made(vg_shape_count(&shape));
    for (int64_t i = 0; i < out.count; i++) out.made[i] = (float)wide[i];
    return out;
}

static double sum_of(const model_run *run, const char *name, int first, int stride)
{
    vg_shape shape;
    const double *x = vg_program_output(run->program, name, &shape);
    double sum = 0;
    for (int64_t i = first; x && i < vg_shape_count(&shape); i += stride) sum += x[i];
    return sum;
}

/* The loss that is differentiated: the numerators with the factors of the step (w_object is 1). */
static found total(const model_run *run)
{
    found out = made(1);
    out.made[0] =
        (float)(run->scales[0] * sum_of(run, "parts", 0, 3) + run->scales[2] * sum_of(run, "parts", 1, 3) +
                run->scales[3] * sum_of(run, "parts", 2, 3) + run->scales[4] * sum_of(run, "align_parts", 0, 1));
    return out;
}

/* Rows of text [B,L,c] of slot b up to its last token go to `to`; the others belong to nobody and stay 0. */
static void copy_real_rows(const model_run *run, int64_t b, const float *text, int64_t rows, int64_t c, float *to)
{
    const int64_t real = run->batch.token_counts[b] < rows ? run->batch.token_counts[b] : rows;
    memcpy(to, text + b * rows * c, (size_t)(real * c) * sizeof *to);
}

static found text_features(const model_run *run)
{
    vg_shape shape;
    const float *x = vg_program_output(run->program, "text_features", &shape);
    const int64_t rows = shape.dim[1], c = shape.dim[2];
    found out = made(vg_shape_count(&shape));
    for (int64_t b = 0; b < shape.dim[0]; b++) copy_real_rows(run, b, x, rows, c, out.made + b * rows * c);
    return out;
}

/* What the decoder reads, [B,P+L,d]: the encoder's output, or the rows of image and text as they are. */
static found memory(const model_run *run)
{
    vg_shape image_shape, text_shape;
    const float *joint = vg_program_output(run->program, "joint_memory", NULL);
    const float *image = vg_program_output(run->program, "image_rows", &image_shape);
    const float *text = vg_program_output(run->program, "text_rows", &text_shape);
    const int64_t p = image_shape.dim[1], c = image_shape.dim[2], slots = text_shape.dim[0], rows = text_shape.dim[1];
    found out = made(slots * (p + rows) * c);
    for (int64_t b = 0; b < slots; b++) {
        float *to = out.made + b * (p + rows) * c;
        const float *from = joint ? joint + b * (p + rows) * c : image + run->batch.image_index[b] * p * c;
        memcpy(to, from, (size_t)(p * c) * sizeof *to);
        if (joint) {
            const int64_t real = run->batch.token_counts[b] < rows ? run->batch.token_counts[b] : rows;
            memcpy(to + p * c, from + p * c, (size_t)(real * c) * sizeof *to);
        } else {
            copy_real_rows(run, b, text, rows, c, to + p * c);
        }
    }
    return out;
}

static found gradient(const model_run *run, const char *param)
{
    const int i = vg_params_find(run->params, param);
    if (i < 0) return (found){0};
    const vg_param *p = &run->params->items[i];
    return (found){.x = run->gradients + p->offset, .count = p->count};
}

static found position_table(const model_run *run)
{
    const int i = vg_params_find(run->params, "vision.pos_embed");
    return (found){.x = vg_params_data(run->params, i), .count = run->params->items[i].count};
}

/* Gradients of activations have no name in the program: nothing is found for them. */
static found find(const model_run *run, const char *name)
{
    if (strncmp(name, "grad.", 5) == 0) return gradient(run, name + 5);
    const char *what = name + strlen("value.");
    if (strcmp(what, "parts") == 0 || strcmp(what, "align_parts") == 0) return narrowed(run, what);
    if (strcmp(what, "total") == 0) return total(run);
    if (strcmp(what, "memory") == 0) return memory(run);
    if (strcmp(what, "text") == 0) return text_features(run);
    if (strcmp(what, "image") == 0) return kept(run, "image_features");
    if (strcmp(what, "pos_embed") == 0) return position_table(run);
    return kept(run, what);
}

static bool matches_agree(const model_run *run)
{
    int64_t count = 0;
    vg_shape shape;
    int32_t *want = fixture_read(run->f, "match", &count);
    const int32_t *match = vg_program_output(run->program, "match", &shape);
    const bool same = count == vg_shape_count(&shape) && memcmp(want, match, (size_t)count * sizeof *want) == 0;
    free(want);
    return same;
}

int model_run_compare(const model_run *run, parity_tally *tally)
{
    const bool same = matches_agree(run);
    tally->n++;
    tally->n_off += !same;
    if (!same && tally->verbose) fprintf(stderr, "the matching differs\n");
    for (int i = 0; i < run->f->n_names; i++) {
        const found value = find(run, fixture_name(run->f, i));
        if (value.x) fixture_compare(run->f, i, value.x, value.count, &run->f->rounding, tally);
        free(value.made);
    }
    return tally->n_off;
}

double model_run_off(const model_run *run, const char *name)
{
    parity_tally tally = {0};
    for (int i = 0; i < run->f->n_names; i++) {
        if (strcmp(fixture_name(run->f, i), name) != 0) continue;
        const found value = find(run, name);
        const double off = value.x ? fixture_compare(run->f, i, value.x, value.count, &run->f->rounding, &tally) : NAN;
        free(value.made);
        return off;
    }
    return NAN;
}
