/* VL-GTR as a graph: an image tower, a phrase encoder, their combined memory, a decoder of learned queries, two heads.
 * Source: vl-gtr-model, sections 1 to 4; the names of the parameters are those of section 3.5.
 *
 *     VG_TRY(vg_model_declare(&options, params));                every parameter by name and shape
 *     VG_TRY(vg_params_layout(params, NULL, 0));
 *     VG_TRY(vg_model_init(&options, params));                   random values, then the weights files
 *     VG_TRY(vg_model_build(&options, &build, params, graph));   appends the nodes
 *
 * Local throughout. */
#ifndef VG_TRAINER_MODEL_H
#define VG_TRAINER_MODEL_H

#include "data/loader.h"
#include "kernels/graph.h"
#include "trainer/options.h"

/* What a program is for. */
typedef struct vg_program_spec {
    vg_batch_shape shape;       /* with image_floats the input "image_features" [m,P,C] stands in for the image tower */
    bool loss;                  /* criterion and dropout; else the last layer's answer alone */
    bool text_trains;           /* the phrase encoder's own dropout is on */
    bool keep_features;         /* for tests: also keeps what lies between the parts, see vg_model_build */
    bool cached_text;           /* the input "text_features" [B,Lc,C] stands in for the phrase encoder */
    bool image_positions_train; /* vision.pos_embed is used as it is and must fit the grid */
} vg_program_spec;

/* Adds every parameter of the model. Errors: VG_E_SHAPE, VG_E_NOMEM. */
vg_status vg_model_declare(const vg_options *o, vg_params *params);

/* Fills every parameter: random values keyed by (train.seed, name), then the towers' weights files where configured.
 * Errors: VG_E_DATA naming file and tensor. */
vg_status vg_model_init(const vg_options *o, vg_params *params);

/* Appends the program's nodes to g. Inputs (bound by vg_model_bind): pixels, token_ids, token_counts, image_index,
 * key_counts, keys and, with a loss, targets, n_targets, filled, scales [8]. Kept values: logits [L,B,Q,2] and
 * boxes [L,B,Q,4] (L = 1 without a loss), with a loss also parts, match, bad and align_parts (kernels/graph.h).
 * With keep_features also image_features [m,P,C] and text_features [B,Lc,C], what they are projected to, image_rows
 * [m,P,d] and text_rows [B,Lc,d], joint_memory [B,P+Lc,d] where there are encoder layers, and hidden [L,B,Q,d].
 * Values of params are read for constants (a resampled position table), so they must be loaded. */
vg_status vg_model_build(const vg_options *o, const vg_program_spec *build, vg_params *params, vg_graph *g);

/* The phrase encoder alone: keeps "text_features" [B,Lc,C], Lc = 1 (cls) or text_tokens (all). */
vg_status vg_model_build_text(const vg_options *o, const vg_batch_shape *shape, vg_graph *g);

/* The image tower alone: keeps "image_features" [m,P,C]. Values of params are read as in vg_model_build. */
vg_status vg_model_build_image(const vg_options *o, const vg_batch_shape *shape, vg_params *params, vg_graph *g);

/* A finished graph as a program: of bf16 values where wanted, with the copies of parameters that they need from the
 * next vg_params_place on. Errors: as vg_graph_plan. */
vg_status vg_model_plan(vg_graph *g, vg_params *params, const vg_backend *backend, int n_threads, bool bf16,
                        vg_program **out);

/* Binds the batch's buffers. key_counts [m*P] is filled here and kept bound: visible keys of the joint memory. */
vg_status vg_model_bind(const vg_options *o, vg_program *program, const vg_batch *batch, int32_t *key_counts);

/* Bicubic, antialiased resampling of a position table [1,from*from,c] to [1,to*to,c]; fp64 sums, rounded once. Source:
 * vl-gtr-model 1.5. Errors: VG_E_NOMEM. */
vg_status vg_resample_positions(const float *table, int from, float *out, int to, int64_t c);

/* The shape of a micro-batch that the options ask for. */
vg_batch_shape vg_model_batch_shape(const vg_options *o);

/* Rows of text per phrase that enter the memory. */
int vg_model_text_rows(const vg_options *o, const vg_batch_shape *shape);

#endif
