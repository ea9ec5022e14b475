/* Starting values. Every value is a function of (train.seed, parameter name, index) alone. Source: vl-gtr-model 3.6;
 * the towers, when nothing is loaded, start as their reference implementations would train them from scratch. */
#include "trainer/model/model_impl.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum init_kind {
    CONSTANT, /* value */
    NORMAL,   /* N(0, value) */
    XAVIER,   /* uniform +-sqrt(6 / (fan_in + fan_out)) */
    FAN_IN    /* uniform +-1/sqrt(fan_in) of the weight beside it */
} init_kind;

/* The first row whose pattern matches counts. */
static const struct init_rule {
    const char *pattern;
    init_kind kind;
    float value;
} rules[] = {
    {"align_scale", CONSTANT, 2},
    {"align_bias", CONSTANT, -2},
    {"query_embed.weight", NORMAL, 1},
    {"modality_embed.weight", NORMAL, 0.02F},
    {"text_pos.weight", NORMAL, 0.02F},
    {"vision.pos_embed", NORMAL, 0.02F},
    {"vision.*_token", NORMAL, 0.02F},
    {"*[nN]orm*.weight", CONSTANT, 1},
    {"*[nN]orm*.bias", CONSTANT, 0},
    {"text.*.weight", NORMAL, 0.02F},
    {"*.linear[12].bias", FAN_IN, 0},
    {"class_embed.*", FAN_IN, 0},
    {"bbox_embed.*", FAN_IN, 0},
    {"*bias", CONSTANT, 0},
    {"*", XAVIER, 0},
};

static const struct init_rule *rule_of(const char *name)
{
    const struct init_rule *rule = rules;
    while (fnmatch(rule->pattern, name, 0) != 0) rule++;
    return rule;
}

/* Columns of the matrix `name.weight` that a weight or bias belongs to. */
static int64_t fan_in_of(const vg_params *params, const vg_param *p)
{
    char weight[256];
    const char *dot = strrchr(p->name, '.');
    snprintf(weight, sizeof weight, "%.*s.weight", (int)(dot - p->name), p->name);
    const int i = vg_params_find(params, weight);
    const vg_param *w = i < 0 ? p : &params->items[i];
    return w->count / w->shape.dim[0];
}

static void init_param(const vg_options *o, vg_params *params, int i)
{
    const vg_param *p = &params->items[i];
    const struct init_rule *rule = rule_of(p->name);
    const vg_rng_key key = vg_rng_key_of((uint64_t)o->train_seed, vg_rng_purpose(p->name));
    float *x = vg_params_data(params, i);
    const bool gamma = fnmatch("*.ls?.gamma", p->name, 0) == 0;
    if (gamma || rule->kind == CONSTANT) {
        const float value = gamma ? (float)o->vision_layer_scale : rule->value;
        for (int64_t j = 0; j < p->count; j++) x[j] = value;
    } else if (rule->kind == NORMAL) {
        vg_fill_normal(x, p->count, key, 0, rule->value);
    } else {
        const int64_t rows = p->shape.dim[0], columns = p->count / rows;
        const double bound =
            rule->kind == XAVIER ? sqrt(6.0 / (double)(rows + columns)) : 1 / sqrt((double)fan_in_of(params, p));
        vg_fill_uniform(x, p->count, key, (float)-bound, (float)bound);
    }
}

vg_status vg_model_init(const vg_options *o, vg_params *params)
{
    for (int i = 0; i < params->n; i++) init_param(o, params, i);
    return vg_model_load_towers(o, params);
}

/* Building the graph names every parameter. At the position table's own side nothing is read from values, which do not
 * exist yet. */
vg_status vg_model_declare(const vg_options *o, vg_params *params)
{
    vg_graph *g = NULL;
    VG_TRY(vg_graph_new(params, &g));
    vg_program_spec build = {.shape = vg_model_batch_shape(o), .loss = true, .image_positions_train = true};
    build.shape.side = (int)(o->vision_grid * o->vision_patch);
    const vg_status st = vg_model_build(o, &build, params, g);
    vg_graph_free(g);
    return st;
}
