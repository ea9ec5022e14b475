/* The few combinations that every part of the model is made of. */
#include "trainer/model/model_impl.h"

#include <stdio.h>

vg_value vg_model_param(vg_builder *b, const char *prefix, const char *name, vg_shape shape)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s%s", prefix, *prefix ? "." : "", name);
    return vg_graph_param(b->g, full, shape);
}

vg_value vg_model_linear(vg_builder *b, const char *prefix, vg_value x, int64_t n, int64_t k, vg_act act)
{
    return vg_model_linear_ragged(b, prefix, (vg_rows){x, VG_NONE}, n, k, act);
}

vg_value vg_model_linear_ragged(vg_builder *b, const char *prefix, vg_rows in, int64_t n, int64_t k, vg_act act)
{
    vg_graph_scope(b->g, prefix);
    const vg_value w = vg_model_param(b, prefix, "weight", VG_SHAPE(n, k));
    return vg_graph_linear_ragged(b->g, in.x, in.counts, w, vg_model_param(b, prefix, "bias", VG_SHAPE(n)), act);
}

vg_value vg_model_layernorm(vg_builder *b, const char *prefix, vg_value x, vg_value res, int64_t c, float eps)
{
    vg_graph_scope(b->g, prefix);
    const vg_value gamma = vg_model_param(b, prefix, "weight", VG_SHAPE(c));
    return vg_graph_layernorm(b->g, x, res, gamma, vg_model_param(b, prefix, "bias", VG_SHAPE(c)), eps);
}

vg_rng_key vg_model_dropout_key(const vg_builder *b, const char *place)
{
    return vg_rng_key_of((uint64_t)b->o->train_seed, vg_rng_purpose(place));
}

static vg_value keys_input(vg_builder *b)
{
    return vg_graph_input(b->g, "keys", VG_U32, VG_SHAPE(vg_builder_slots(b), 4));
}

vg_value vg_model_dropout(vg_builder *b, const char *place, vg_value x, vg_value res, double p)
{
    if (p <= 0) return res.id ? vg_graph_add(b->g, x, res) : x;
    vg_graph_scope(b->g, place);
    return vg_graph_dropout(b->g, x, res, keys_input(b), (float)p, vg_model_dropout_key(b, place));
}
