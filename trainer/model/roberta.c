/* The phrase encoder: RoBERTa, post-norm, without the pooler. Source: vl-gtr-model 2.2; hf/roberta. */
#include "trainer/model/model_impl.h"

#include <stdio.h>

static const float NORM_EPS = 1e-5F;

static vg_value projection(vg_builder *b, const char *layer, const char *name, vg_rows in, int64_t n, int64_t k,
                           vg_act act)
{
    char part[128];
    snprintf(part, sizeof part, "%s.%s", layer, name);
    return vg_model_linear_ragged(b, part, in, n, k, act);
}

/* LN(x + dropout(y)) */
static vg_value close_half(vg_builder *b, const char *layer, const char *name, vg_value x, vg_value y)
{
    char part[128];
    snprintf(part, sizeof part, "%s.%s.dropout", layer, name);
    const vg_value dropped = vg_model_dropout(b, part, y, VG_NONE, b->text_trains ? b->o->text_dropout : 0);
    snprintf(part, sizeof part, "%s.%s.LayerNorm", layer, name);
    return vg_model_layernorm(b, part, dropped, x, b->o->text_width, NORM_EPS);
}

/* One layer whose output has the rows of `queries`: all of the text, or its first token alone. */
static vg_value layer_build(vg_builder *b, const char *layer, vg_rows text, vg_rows queries)
{
    const int64_t c = b->o->text_width, heads = b->o->text_heads, hidden = b->o->text_mlp;
    vg_attention attention = {.q = projection(b, layer, "attention.self.query", queries, c, c, VG_ACT_NONE),
                              .k = projection(b, layer, "attention.self.key", text, c, c, VG_ACT_NONE),
                              .v = projection(b, layer, "attention.self.value", text, c, c, VG_ACT_NONE),
                              .counts = text.counts,
                              .heads = (int)heads,
                              .head_size = (int)(c / heads)};
    if (b->text_trains && b->o->text_dropout > 0) {
        attention.dropout = (float)b->o->text_dropout;
        attention.keys = vg_graph_input(b->g, "keys", VG_U32, VG_SHAPE(vg_builder_slots(b), 4));
        char place[128];
        snprintf(place, sizeof place, "%s.attention.self.dropout", layer);
        attention.key = vg_model_dropout_key(b, place);
    }
    vg_graph_scope(b->g, layer);
    const vg_value mixed = vg_graph_attention(b->g, &attention);
    vg_rows rows = {mixed, queries.counts};
    const vg_value a = projection(b, layer, "attention.output.dense", rows, c, c, VG_ACT_NONE);
    const vg_value half = rows.x = close_half(b, layer, "attention.output", queries.x, a);
    rows.x = projection(b, layer, "intermediate.dense", rows, hidden, c, VG_ACT_GELU);
    return close_half(b, layer, "output", half, projection(b, layer, "output.dense", rows, c, hidden, VG_ACT_NONE));
}

vg_value vg_roberta_build(vg_builder *b)
{
    const vg_options *o = b->o;
    const int64_t slots = vg_builder_slots(b), length = b->shape.text_tokens, c = o->text_width;
    const vg_value ids = vg_graph_input(b->g, "token_ids", VG_I32, VG_SHAPE(slots, length));
    const vg_value counts = vg_graph_input(b->g, "token_counts", VG_I32, VG_SHAPE(slots));
    vg_graph_scope(b->g, "text.embeddings");
    const vg_value word = vg_graph_param(b->g, "text.embeddings.word_embeddings.weight", VG_SHAPE(o->text_vocab, c));
    const vg_value position =
        vg_graph_param(b->g, "text.embeddings.position_embeddings.weight", VG_SHAPE(o->text_positions, c));
    const vg_value type = vg_graph_param(b->g, "text.embeddings.token_type_embeddings.weight", VG_SHAPE(1, c));
    const vg_value e = vg_graph_text_embed(b->g, ids, counts, word, position, type);
    vg_value x = vg_model_layernorm(b, "text.embeddings.LayerNorm", e, VG_NONE, c, NORM_EPS);
    x = vg_model_dropout(b, "text.embeddings.dropout", x, VG_NONE, b->text_trains ? o->text_dropout : 0);
    const bool first_only = vg_model_text_rows(o, &b->shape) == 1;
    for (int64_t i = 0; i < o->text_depth; i++) {
        char layer[64];
        snprintf(layer, sizeof layer, "text.encoder.layer.%d", (int)i);
        vg_rows queries = {x, counts};
        if (first_only && i == o->text_depth - 1) /* nobody reads the other rows of the last layer */
            queries = (vg_rows){vg_graph_slice_tokens(b->g, x, 0, 1), VG_NONE};
        x = layer_build(b, layer, (vg_rows){x, counts}, queries);
    }
    return x;
}
