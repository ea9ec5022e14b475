/* The decoder: learned queries read the memory, layer by layer. Source: vl-gtr-model 3.3; detr/models/transformer.py.
 */
#include "trainer/model/model_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const float NORM_EPS = 1e-5F;

enum { MAX_LAYERS = 12 };

/* What a sub-layer reads: x itself, or its norm in the pre-norm variant. */
static vg_value sublayer_input(vg_builder *b, const char *layer, const char *norm, vg_value x)
{
    if (strcmp(b->o->fusion_norm, "pre") != 0) return x;
    char part[128];
    snprintf(part, sizeof part, "%s.%s", layer, norm);
    return vg_model_layernorm(b, part, x, VG_NONE, b->o->fusion_width, NORM_EPS);
}

/* x + Q, Q the learned queries; x alone when they were the decoder's input. */
static vg_value with_queries(vg_builder *b, vg_value x, vg_value queries)
{
    return queries.id ? vg_graph_add_rows(b->g, x, queries) : x;
}

static vg_value decoder_layer(vg_builder *b, const char *layer, vg_value t, vg_value queries, const vg_memory *memory)
{
    char part[128];
    const vg_value self_in = sublayer_input(b, layer, "norm1", t);
    const vg_value self_query = with_queries(b, self_in, queries);
    const vg_memory self = {.key = self_query, .value = self_in};
    snprintf(part, sizeof part, "%s.self_attn", layer);
    t = vg_fusion_close(b, layer, 1, t, vg_fusion_attention(b, part, self_query, &self));
    const vg_value cross_query = with_queries(b, sublayer_input(b, layer, "norm2", t), queries);
    snprintf(part, sizeof part, "%s.multihead_attn", layer);
    t = vg_fusion_close(b, layer, 2, t, vg_fusion_attention(b, part, cross_query, memory));
    const vg_rows mlp_in = {sublayer_input(b, layer, "norm3", t), VG_NONE};
    return vg_fusion_close(b, layer, 3, t, vg_fusion_mlp(b, layer, mlp_in));
}

/* The decoder's first input [B,Q,d]: zeros, or the queries themselves. */
static vg_value first_input(vg_builder *b, vg_value queries, bool added)
{
    const int64_t n = b->o->fusion_queries, d = b->o->fusion_width;
    if (!added) return vg_graph_repeat(b->g, queries, vg_builder_slots(b));
    float *zeros = vg_new0_array((size_t)(n * d), sizeof *zeros);
    if (!zeros) return VG_NONE;
    const vg_value start = vg_graph_const(b->g, "decoder_start", VG_SHAPE(n, d), zeros);
    free(zeros);
    return vg_graph_repeat(b->g, start, vg_builder_slots(b));
}

vg_value vg_decoder_build(vg_builder *b, const vg_memory *memory, bool all_layers)
{
    const int64_t d = b->o->fusion_width;
    const bool added = strcmp(b->o->fusion_query_style, "added") == 0;
    vg_graph_scope(b->g, "decoder");
    const vg_value queries = vg_graph_param(b->g, "query_embed.weight", VG_SHAPE(b->o->fusion_queries, d));
    vg_value t = first_input(b, queries, added), outputs[MAX_LAYERS];
    int n = 0;
    for (int64_t i = 0; i < b->o->fusion_decoder_layers; i++) {
        char layer[64];
        snprintf(layer, sizeof layer, "decoder.layers.%d", (int)i);
        t = decoder_layer(b, layer, t, added ? queries : VG_NONE, memory);
        if (all_layers || i == b->o->fusion_decoder_layers - 1) outputs[n++] = t;
    }
    vg_graph_scope(b->g, "decoder");
    return vg_model_layernorm(b, "decoder.norm", vg_graph_stack(b->g, outputs, n), VG_NONE, d, NORM_EPS);
}
