/* Between the files of the model. A builder borrows everything for the call. */
#ifndef VG_TRAINER_MODEL_IMPL_H
#define VG_TRAINER_MODEL_IMPL_H

#include "trainer/model/model.h"

typedef struct vg_builder {
    const vg_options *o;
    vg_graph *g;
    vg_batch_shape shape;
    bool training; /* dropout of the fusion layers is on */
    bool text_trains;
} vg_builder;

static inline int64_t vg_builder_slots(const vg_builder *b)
{
    return (int64_t)b->shape.images * b->shape.phrases;
}

/* A parameter called prefix.name. */
vg_value vg_model_param(vg_builder *b, const char *prefix, const char *name, vg_shape shape);

/* x W^T + b with `prefix.weight` [n,k] and `prefix.bias` [n]. */
vg_value vg_model_linear(vg_builder *b, const char *prefix, vg_value x, int64_t n, int64_t k, vg_act act);

/* Rows x [B,L,C] of which slot b has counts[b], the rest being padding; counts is VG_NONE where there is none. */
typedef struct vg_rows {
    vg_value x, counts;
} vg_rows;

/* The same of rows with padding. */
vg_value vg_model_linear_ragged(vg_builder *b, const char *prefix, vg_rows in, int64_t n, int64_t k, vg_act act);

/* layernorm(x + res) with `prefix.weight` and `prefix.bias` [c]. */
vg_value vg_model_layernorm(vg_builder *b, const char *prefix, vg_value x, vg_value res, int64_t c, float eps);

/* Dropout under a key of its own: its place is the name that the module has in the reference implementation. */
vg_value vg_model_dropout(vg_builder *b, const char *place, vg_value x, vg_value res, double p);
vg_rng_key vg_model_dropout_key(const vg_builder *b, const char *place);

/* One attention of the fusion part: q [.., from `query`] against up to two runs of keys. */
typedef struct vg_memory {
    vg_value key, value;   /* [Bk,N,d]: with positions, without; the same value where they agree */
    vg_value key2, value2; /* [B,N2,d] a second run per slot, or VG_NONE */
    vg_value index, counts;
    bool mask_second;
} vg_memory;

/* The towers. vision: [m,P,C] image rows after the final norm. text: [B,Lc,C] final states. */
vg_value vg_vit_build(vg_builder *b, vg_value pixels, vg_value positions);
vg_value vg_roberta_build(vg_builder *b);

/* The combined memory and its parts. */
typedef struct vg_fused {
    vg_value image, text; /* [m,P,d], [B,Lc,d] before any encoder layer */
    vg_value joint;       /* [B,P+Lc,d] after them, without positions; VG_NONE where there are none */
    vg_memory memory;
} vg_fused;
vg_fused vg_fusion_build(vg_builder *b, vg_value image_features, vg_value text_features);

/* Hidden states of every decoder layer that the heads read: [L,B,Q,d] after the shared norm. */
vg_value vg_decoder_build(vg_builder *b, const vg_memory *memory, bool all_layers);

/* A multi-head attention with packed in_proj and out_proj under `prefix`; returns the projected output, residual not
 * added. query == key.key shares one projection. */
vg_value vg_fusion_attention(vg_builder *b, const char *prefix, vg_value query, const vg_memory *memory);

/* linear2(dropout(act(linear1(x)))) under `prefix`. */
vg_value vg_fusion_mlp(vg_builder *b, const char *prefix, vg_rows in);

/* The closing of a layer's sub-layer 1, 2 or 3: norm(x + dropout(y)), or x + dropout(y) where norms come first. */
vg_value vg_fusion_close(vg_builder *b, const char *layer, int sublayer, vg_value x, vg_value y);

/* The fixed 2-D sine positions [gh*gw,d]. */
void vg_sine_positions(float *out, int gh, int gw, int d);

/* Loads the towers' files into params. */
vg_status vg_model_load_towers(const vg_options *o, vg_params *params);

#endif
