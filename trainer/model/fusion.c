/* The combined image-text memory, and what encoder and decoder layers share. Source: vl-gtr-model 3.2 and 3.3;
 * detr/models/transformer.py. */
#include "trainer/model/model_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const float NORM_EPS = 1e-5F;

/* ---- layers ---- */

static vg_value projected(vg_builder *b, vg_rows in, vg_value w, vg_value bias, int64_t first, int64_t count)
{
    return vg_graph_linear_ragged(b->g, in.x, in.counts, vg_graph_param_rows(b->g, w, first, count),
                                  vg_graph_param_rows(b->g, bias, first, count), VG_ACT_NONE);
}

/* Keys and values of one run; one product where both read the same rows. */
static void project_run(vg_builder *b, vg_rows key, vg_rows value, vg_value w, vg_value bias, vg_value *k, vg_value *v,
                        int *v_col)
{
    const int64_t d = b->o->fusion_width;
    if (key.x.id == value.x.id) {
        *k = *v = projected(b, key, w, bias, d, 2 * d);
        *v_col = (int)d;
    } else {
        *k = projected(b, key, w, bias, d, d);
        *v = projected(b, value, w, bias, 2 * d, d);
    }
}

/* Rows of the memory's first run, or second, of which some may be padding. */
static vg_rows rows_of_run(const vg_memory *memory, vg_value x, bool second)
{
    return (vg_rows){x, memory->mask_second == second ? memory->counts : VG_NONE};
}

/* In self-attention the queries are the keys, padding and all. */
static vg_rows rows_of_queries(const vg_memory *memory, vg_value query)
{
    return query.id == memory->key.id ? rows_of_run(memory, query, false) : (vg_rows){query, VG_NONE};
}

/* Every head reads projections of the keys and values. */
static vg_value attend_projected(vg_builder *b, vg_attention *a, vg_value query, const vg_memory *memory, vg_value w,
                                 vg_value bias)
{
    const int64_t d = b->o->fusion_width;
    const vg_rows queries = rows_of_queries(memory, query), key = rows_of_run(memory, memory->key, false);
    const vg_rows value = rows_of_run(memory, memory->value, false);
    a->heads = (int)b->o->fusion_heads;
    a->head_size = (int)(d / a->heads);
    if (query.id == memory->key.id && query.id != memory->value.id) { /* self-attention: queries and keys agree */
        a->q = a->k = projected(b, queries, w, bias, 0, 2 * d);
        a->k_col = (int)d;
        a->v = projected(b, value, w, bias, 2 * d, d);
    } else {
        a->q = projected(b, queries, w, bias, 0, d);
        project_run(b, key, value, w, bias, &a->k, &a->v, &a->v_col);
    }
    if (memory->key2.id)
        project_run(b, rows_of_run(memory, memory->key2, true), rows_of_run(memory, memory->value2, true), w, bias,
                    &a->k2, &a->v2, &a->v2_col);
    return vg_graph_attention(b->g, a);
}

/* The queries of all heads read the memory as it is: vg_graph_heads_expand says how. */
static vg_value attend_in_place(vg_builder *b, vg_attention *a, vg_value query, const vg_memory *memory, vg_value w,
                                vg_value bias)
{
    const int64_t d = b->o->fusion_width;
    const int heads = (int)b->o->fusion_heads;
    const vg_value w_key = vg_graph_param_rows(b->g, w, d, d), w_value = vg_graph_param_rows(b->g, w, 2 * d, d);
    const vg_value b_key = vg_graph_param_rows(b->g, bias, d, d), b_value = vg_graph_param_rows(b->g, bias, 2 * d, d);
    vg_value sums = VG_NONE;
    const vg_rows queries = {query, VG_NONE};
    a->q = vg_graph_heads_expand(b->g, projected(b, queries, w, bias, 0, d), w_key, b_key, heads);
    a->k = memory->key;
    a->v = memory->value;
    a->k2 = memory->key2;
    a->v2 = memory->value2;
    a->heads = 1;
    a->fold = heads;
    a->head_size = (int)d;
    a->scale = (float)(1 / sqrt((double)d / heads));
    a->sums = a->dropout > 0 ? &sums : NULL;
    const vg_value mixed = vg_graph_attention(b->g, a);
    return vg_graph_heads_contract(b->g, mixed, w_value, b_value, sums, heads);
}

/* Multiply-adds for each row of a memory that `slots` slots read, over 2 d: heads * queries in place, or the row's own
 * projection and the queries. In bf16 the joint memory of a slot may yet be fp32, which the alignment loss reads: its
 * projections are bf16 products on tensor cores, attention to its rows would not be. */
static bool is_read_in_place(const vg_builder *b, vg_value query, const vg_memory *memory)
{
    enum { WIDEST_HEAD = 256 }; /* that a GPU takes; one decision for all backends */
    const bool joint = !memory->index.id;
    const int64_t slots = joint ? 1 : b->shape.phrases, queries = slots * b->o->fusion_queries;
    const bool is_less = queries * b->o->fusion_heads < b->o->fusion_width + queries;
    return query.id != memory->key.id && is_less && b->o->fusion_width <= WIDEST_HEAD &&
           !(joint && vg_options_bf16(b->o));
}

vg_value vg_fusion_attention(vg_builder *b, const char *prefix, vg_value query, const vg_memory *memory)
{
    const int64_t d = b->o->fusion_width;
    vg_graph_scope(b->g, prefix);
    const vg_value w = vg_model_param(b, prefix, "in_proj_weight", VG_SHAPE(3 * d, d));
    const vg_value bias = vg_model_param(b, prefix, "in_proj_bias", VG_SHAPE(3 * d));
    vg_attention a = {.index = memory->index, .counts = memory->counts, .mask_second = memory->mask_second};
    if (b->training && b->o->fusion_dropout > 0) {
        a.dropout = (float)b->o->fusion_dropout;
        a.keys = vg_graph_input(b->g, "keys", VG_U32, VG_SHAPE(vg_builder_slots(b), 4));
        a.key = vg_model_dropout_key(b, prefix);
    }
    const vg_value mixed = is_read_in_place(b, query, memory) ? attend_in_place(b, &a, query, memory, w, bias)
                                                              : attend_projected(b, &a, query, memory, w, bias);
    char part[128];
    snprintf(part, sizeof part, "%s.out_proj", prefix);
    return vg_model_linear_ragged(b, part, (vg_rows){mixed, rows_of_queries(memory, query).counts}, d, d, VG_ACT_NONE);
}

vg_value vg_fusion_mlp(vg_builder *b, const char *prefix, vg_rows in)
{
    const int64_t d = b->o->fusion_width, hidden = b->o->fusion_mlp;
    char part[128];
    snprintf(part, sizeof part, "%s.linear1", prefix);
    const vg_value h = vg_model_linear_ragged(b, part, in, hidden, d, VG_ACT_RELU);
    snprintf(part, sizeof part, "%s.dropout", prefix);
    const vg_value dropped = vg_model_dropout(b, part, h, VG_NONE, b->training ? b->o->fusion_dropout : 0);
    snprintf(part, sizeof part, "%s.linear2", prefix);
    return vg_model_linear_ragged(b, part, (vg_rows){dropped, in.counts}, d, hidden, VG_ACT_NONE);
}

vg_value vg_fusion_close(vg_builder *b, const char *layer, int sublayer, vg_value x, vg_value y)
{
    const double p = b->training ? b->o->fusion_dropout : 0;
    char part[128];
    snprintf(part, sizeof part, "%s.dropout%d", layer, sublayer);
    if (strcmp(b->o->fusion_norm, "pre") == 0) return vg_model_dropout(b, part, y, x, p);
    const vg_value dropped = vg_model_dropout(b, part, y, VG_NONE, p);
    snprintf(part, sizeof part, "%s.norm%d", layer, sublayer);
    return vg_model_layernorm(b, part, dropped, x, b->o->fusion_width, NORM_EPS);
}

/* ---- the two kinds of rows ---- */

static vg_value project_rows(vg_builder *b, const char *kind, vg_value x, int64_t width, int modality)
{
    const int64_t d = b->o->fusion_width;
    char part[64];
    snprintf(part, sizeof part, "%s_proj", kind);
    vg_value rows = vg_model_linear(b, part, x, d, width, VG_ACT_NONE);
    if (b->o->fusion_projection_norm) {
        snprintf(part, sizeof part, "%s_norm", kind);
        rows = vg_model_layernorm(b, part, rows, VG_NONE, d, NORM_EPS);
    }
    if (!b->o->fusion_modality) return rows;
    const vg_value table = vg_graph_param(b->g, "modality_embed.weight", VG_SHAPE(2, d));
    return vg_graph_add_rows(b->g, rows, vg_graph_param_rows(b->g, table, modality, 1));
}

/* Sine positions of the image rows followed by `text_rows` zero rows, as a constant [n,d]. */
static vg_value positions_const(vg_builder *b, int64_t text_rows)
{
    const int grid = (int)(b->shape.side / b->o->vision_patch);
    const int64_t d = b->o->fusion_width, n = (int64_t)grid * grid + text_rows;
    float *table = vg_new0_array((size_t)(n * d), sizeof *table);
    if (!table) return VG_NONE; /* the graph's own allocation of the copy reports it */
    if (strcmp(b->o->fusion_image_positions, "sine") == 0) vg_sine_positions(table, grid, grid, (int)d);
    const vg_value v = vg_graph_const(b->g, text_rows ? "memory_positions" : "image_positions", VG_SHAPE(n, d), table);
    free(table);
    return v;
}

static vg_value text_positions(vg_builder *b)
{
    return vg_graph_param(b->g, "text_pos.weight", VG_SHAPE(vg_model_text_rows(b->o, &b->shape), b->o->fusion_width));
}

/* ---- the memory as two runs: image rows once per image, text rows per slot ---- */

static vg_memory memory_in_two_runs(vg_builder *b, vg_value image, vg_value text)
{
    const vg_options *o = b->o;
    const bool sine = strcmp(o->fusion_image_positions, "sine") == 0;
    const bool learned = strcmp(o->fusion_text_positions, "learned") == 0;
    vg_graph_scope(b->g, "memory");
    const vg_value image_key = sine ? vg_graph_add_rows(b->g, image, positions_const(b, 0)) : image;
    const vg_value text_key = learned ? vg_graph_add_rows(b->g, text, text_positions(b)) : text;
    vg_memory memory = {.key = image_key,
                        .value = o->fusion_positions_in_values ? image_key : image,
                        .key2 = text_key,
                        .value2 = o->fusion_positions_in_values ? text_key : text,
                        .index = vg_graph_input(b->g, "image_index", VG_I32, VG_SHAPE(vg_builder_slots(b)))};
    if (vg_model_text_rows(o, &b->shape) > 1) {
        memory.counts = vg_graph_input(b->g, "token_counts", VG_I32, VG_SHAPE(vg_builder_slots(b)));
        memory.mask_second = true;
    }
    return memory;
}

/* ---- the memory as one run per slot, through the encoder layers ---- */

static vg_value joint_positions(vg_builder *b)
{
    const int64_t text_rows = vg_model_text_rows(b->o, &b->shape);
    if (strcmp(b->o->fusion_text_positions, "learned") != 0) return positions_const(b, text_rows);
    const vg_value image = vg_graph_repeat(b->g, positions_const(b, 0), 1);
    return vg_graph_concat_tokens(b->g, image, vg_graph_repeat(b->g, text_positions(b), 1), VG_NONE);
}

static vg_value encoder_layer(vg_builder *b, const char *layer, vg_value x, vg_value positions, vg_value counts)
{
    const bool pre = strcmp(b->o->fusion_norm, "pre") == 0;
    const int64_t d = b->o->fusion_width;
    char part[128];
    snprintf(part, sizeof part, "%s.norm1", layer);
    const vg_value value = pre ? vg_model_layernorm(b, part, x, VG_NONE, d, NORM_EPS) : x;
    const vg_value key = vg_graph_add_rows(b->g, value, positions);
    const vg_memory self = {.key = key, .value = value, .counts = counts};
    snprintf(part, sizeof part, "%s.self_attn", layer);
    x = vg_fusion_close(b, layer, 1, x, vg_fusion_attention(b, part, key, &self));
    snprintf(part, sizeof part, "%s.norm2", layer);
    const vg_value h = pre ? vg_model_layernorm(b, part, x, VG_NONE, d, NORM_EPS) : x;
    return vg_fusion_close(b, layer, 2, x, vg_fusion_mlp(b, layer, (vg_rows){h, counts}));
}

static vg_memory memory_in_one_run(vg_builder *b, vg_value image, vg_value text, vg_value *joint)
{
    const vg_options *o = b->o;
    const int64_t slots = vg_builder_slots(b);
    vg_graph_scope(b->g, "memory");
    const vg_value index = vg_graph_input(b->g, "image_index", VG_I32, VG_SHAPE(slots));
    const vg_value positions = joint_positions(b);
    const vg_value counts =
        vg_model_text_rows(o, &b->shape) > 1 ? vg_graph_input(b->g, "key_counts", VG_I32, VG_SHAPE(slots)) : VG_NONE;
    vg_value x = vg_graph_concat_tokens(b->g, image, text, index);
    for (int64_t i = 0; i < o->fusion_encoder_layers; i++) {
        char layer[64];
        snprintf(layer, sizeof layer, "encoder.layers.%d", (int)i);
        x = encoder_layer(b, layer, x, positions, counts);
    }
    if (strcmp(o->fusion_norm, "pre") == 0)
        x = vg_model_layernorm(b, "encoder.norm", x, VG_NONE, o->fusion_width, NORM_EPS);
    vg_graph_scope(b->g, "memory");
    const vg_value key = vg_graph_add_rows(b->g, x, positions);
    *joint = x;
    return (vg_memory){.key = key, .value = o->fusion_positions_in_values ? key : x, .counts = counts};
}

vg_fused vg_fusion_build(vg_builder *b, vg_value image_features, vg_value text_features)
{
    vg_fused fused = {0};
    fused.image = project_rows(b, "visual", image_features, b->o->vision_width, 0);
    fused.text = project_rows(b, "text", text_features, b->o->text_width, 1);
    fused.memory = b->o->fusion_encoder_layers ? memory_in_one_run(b, fused.image, fused.text, &fused.joint)
                                               : memory_in_two_runs(b, fused.image, fused.text);
    return fused;
}
