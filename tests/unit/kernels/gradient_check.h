/* A graph with losses, ready to run, and its gradients against finite differences. */
#ifndef GRADIENT_CHECK_H
#define GRADIENT_CHECK_H

#include "kernels/program_impl.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct trial {
    vg_params *params;
    vg_graph *g;
    vg_program *program;
    vg_arena arena;
    float *gradients; /* [n_trainable] */
} trial;

typedef vg_graph *(*trial_build)(vg_params *params);

/* Values that depend on the name alone: the same in every trial. Norm weights stay near 1, as in life. */
static inline void trial_fill(vg_params *params)
{
    for (int i = 0; i < params->n; i++) {
        const vg_param *p = &params->items[i];
        const bool near_one = strstr(p->name, "gamma") != NULL;
        vg_fill_normal(vg_params_data(params, i), p->count, vg_rng_key_of(7, vg_rng_purpose(p->name)), near_one, 0.3F);
    }
}

static inline void trial_open(trial *t, trial_build build, vg_trainable trainable, const void *context,
                              const vg_backend *backend, int n_threads)
{
    *t = (trial){0};
    assert_int_equal(vg_params_new(&t->params), VG_OK);
    t->g = build(t->params);
    if (vg_graph_differentiate(t->g, trainable, context) != VG_OK) fail_msg("%s", vg_error_text());
    int *order = vg_new0_array((size_t)t->params->n, sizeof *order), n = 0;
    vg_graph_gradient_order(t->g, order, &n);
    assert_int_equal(vg_params_layout(t->params, order, n), VG_OK);
    free(order);
    trial_fill(t->params);
    assert_int_equal(vg_graph_plan(t->g, backend, n_threads, &t->program), VG_OK);
    assert_int_equal(vg_arena_init(&t->arena, vg_program_arena_bytes(t->program)), VG_OK);
    assert_int_equal(vg_program_attach(t->program, t->arena.base), VG_OK);
    t->gradients = vg_new0_array((size_t)t->params->n_trainable, sizeof(float));
    vg_program_bind_gradients(t->program, t->gradients);
}

static inline void trial_close(trial *t)
{
    vg_program_free(t->program);
    vg_graph_free(t->g);
    vg_params_free(t->params);
    vg_arena_release(&t->arena);
    free(t->gradients);
}

/* The gradient of a parameter by name. */
static inline const float *trial_gradient(const trial *t, const char *name)
{
    return t->gradients + t->params->items[vg_params_find(t->params, name)].offset;
}

/* Runs, and adds up what the losses report: parts [.., 3] times weights[3], and align_parts times weights[3]. */
static inline double trial_loss(trial *t, const double weights[4])
{
    if (vg_program_run(t->program) != VG_OK) fail_msg("%s", vg_error_text());
    vg_shape shape;
    double loss = 0;
    const double *parts = vg_program_output(t->program, "parts", &shape);
    for (int64_t i = 0; parts && i < vg_shape_count(&shape); i++) loss += parts[i] * weights[i % 3];
    const double *align = vg_program_output(t->program, "align_parts", &shape);
    for (int64_t i = 0; align && i < vg_shape_count(&shape); i++) loss += align[i] * weights[3];
    return loss;
}

/* (loss(p + h d) - loss(p - h d)) / 2h, which is <gradient, d> but for the third derivative times h^2 and the rounding
 * of an fp32 forward pass, loss * 2^-24 / h. */
static inline double trial_difference(trial *t, const double weights[4], int param, const float *d, double h)
{
    const int64_t count = t->params->items[param].count;
    float *value = vg_params_data(t->params, param), *old = vg_new0((size_t)count * sizeof(float));
    double loss[2];
    memcpy(old, value, (size_t)count * sizeof(float));
    for (int side = 0; side < 2; side++) {
        for (int64_t j = 0; j < count; j++) value[j] = old[j] + (float)(side ? -h : h) * d[j];
        loss[side] = trial_loss(t, weights);
    }
    memcpy(value, old, (size_t)count * sizeof(float));
    free(old);
    return (loss[0] - loss[1]) / (2 * h);
}

/* Along a random direction of each trainable parameter, within a tolerance for the third derivative. */
static inline void trial_check_gradients(trial *t, const double weights[4], double h, double tolerance)
{
    int n = 0, n_good = 0;
    const double rounding = fabs(trial_loss(t, weights)) * 0x1p-24 / h;
    float *gradients = vg_new0_array((size_t)t->params->n_trainable, sizeof(float));
    memcpy(gradients, t->gradients, (size_t)t->params->n_trainable * sizeof(float));
    for (int i = 0; i < t->params->n; i++) {
        const vg_param *p = &t->params->items[i];
        if (!p->trainable) continue;
        n++;
        float *d = vg_new0((size_t)p->count * sizeof(float));
        vg_fill_normal(d, p->count, vg_rng_key_of(11, vg_rng_purpose(p->name)), 0, (float)(1 / sqrt((double)p->count)));
        double expected = 0, norm = 0;
        for (int64_t j = 0; j < p->count; j++) {
            expected += (double)gradients[p->offset + j] * (double)d[j];
            norm += (double)gradients[p->offset + j] * (double)gradients[p->offset + j] / (double)p->count;
        }
        const double measured = trial_difference(t, weights, i, d, h), scale = fabs(expected) + sqrt(norm);
        if (norm > 0 && fabs(measured - expected) <= tolerance * scale + rounding)
            n_good++;
        else
            print_error(
                "%s: the gradient says %.8g, the difference %.8g, and with half the step %.8g (gradient norm %.3g). "
                "Where the last two agree, a rule is wrong; else a kink lies within the step: give the model "
                "other numbers\n",
                p->name, expected, measured, trial_difference(t, weights, i, d, h / 2), sqrt(norm));
        free(d);
    }
    free(gradients);
    assert_int_equal(n_good, n);
}

static inline bool train_all(const void *context, int param)
{
    (void)context;
    (void)param;
    return true;
}

#endif
