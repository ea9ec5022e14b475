/* The whole model as nodes: towers, memory, decoder, heads, losses. */
#include "trainer/model/model_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

vg_batch_shape vg_model_batch_shape(const vg_options *o)
{
    return (vg_batch_shape){.images = (int)o->train_micro_batch,
                            .phrases = (int)o->data_phrases,
                            .side = (int)o->data_side,
                            .text_tokens = (int)((o->text_max_tokens + 7) / 8 * 8),
                            .max_targets = (int)o->data_max_targets};
}

int vg_model_text_rows(const vg_options *o, const vg_batch_shape *shape)
{
    return strcmp(o->fusion_text_tokens, "all") == 0 ? shape->text_tokens : 1;
}

static vg_value pixels_input(vg_builder *b)
{
    return vg_graph_input(b->g, "pixels", VG_U8, VG_SHAPE(b->shape.images, b->shape.side, b->shape.side, 3));
}

static vg_value slots_input(vg_builder *b, const char *name)
{
    return vg_graph_input(b->g, name, VG_I32, VG_SHAPE(vg_builder_slots(b)));
}

static vg_value scales_input(vg_builder *b)
{
    return vg_graph_input(b->g, "scales", VG_F32, VG_SHAPE(8));
}

static vg_value targets_input(vg_builder *b)
{
    return vg_graph_input(b->g, "targets", VG_F32, VG_SHAPE(vg_builder_slots(b), b->shape.max_targets, 4));
}

/* The position table for this side: the parameter where it fits, else a resampled constant. */
static vg_status vision_positions(vg_builder *b, vg_params *params, bool trains, vg_value *out)
{
    const int from = (int)b->o->vision_grid, to = (int)(b->shape.side / b->o->vision_patch);
    const int64_t c = b->o->vision_width;
    *out = vg_graph_param(b->g, "vision.pos_embed", VG_SHAPE(1, (int64_t)from * from, c));
    if (from == to) return VG_OK;
    VG_CHECK(
        !trains, VG_E_CONFIG,
        "vision.grid: the position table (%d x %d) trains only at its own size; set vision.grid to %d, the weights "
        "file's table is then resampled once, when it is read",
        from, from, to);
    float *table = vg_new0_array((size_t)to * (size_t)to * (size_t)c, sizeof *table);
    VG_CHECK(table, VG_E_NOMEM, "no memory for the position table");
    const vg_status st =
        vg_resample_positions(vg_params_data(params, vg_params_find(params, "vision.pos_embed")), from, table, to, c);
    if (st == VG_OK) *out = vg_graph_const(b->g, "vision_positions", VG_SHAPE((int64_t)to * to, c), table);
    free(table);
    return st;
}

/* logits [L,B,Q,2] and boxes [L,B,Q,4] from the hidden states of every layer at once. */
static void heads_build(vg_builder *b, vg_value hidden, vg_value *logits, vg_value *boxes)
{
    const int64_t d = b->o->fusion_width;
    *logits = vg_model_linear(b, "class_embed", hidden, 2, d, VG_ACT_NONE);
    const vg_value h = vg_model_linear(b, "bbox_embed.layers.0", hidden, d, d, VG_ACT_RELU);
    const vg_value h2 = vg_model_linear(b, "bbox_embed.layers.1", h, d, d, VG_ACT_RELU);
    *boxes = vg_model_linear(b, "bbox_embed.layers.2", h2, 4, d, VG_ACT_SIGMOID);
    vg_graph_keep(b->g, "logits", *logits);
    vg_graph_keep(b->g, "boxes", *boxes);
}

static void detection_loss(vg_builder *b, vg_value logits, vg_value boxes)
{
    vg_graph_scope(b->g, "loss.detection");
    const vg_detr_loss loss = {.logits = logits,
                               .boxes = boxes,
                               .targets = targets_input(b),
                               .n_targets = slots_input(b, "n_targets"),
                               .filled = slots_input(b, "filled"),
                               .scales = scales_input(b),
                               .eos = (float)b->o->loss_no_object,
                               .cost_class = (float)b->o->loss_cost_class,
                               .cost_l1 = (float)b->o->loss_cost_l1,
                               .cost_giou = (float)b->o->loss_cost_giou};
    vg_graph_detr_loss(b->g, &loss);
}

static void alignment_loss(vg_builder *b, const vg_fused *fused)
{
    const int64_t d = b->o->fusion_width;
    const int grid = (int)(b->shape.side / b->o->vision_patch);
    const vg_value a = vg_model_linear(b, "align_proj", fused->image, d, d, VG_ACT_NONE);
    vg_graph_scope(b->g, "loss.alignment");
    const vg_align_loss loss = {.a = a,
                                .u = vg_graph_slice_tokens(b->g, fused->text, 0, 1),
                                .scale = vg_graph_param(b->g, "align_scale", VG_SHAPE(1)),
                                .shift = vg_graph_param(b->g, "align_bias", VG_SHAPE(1)),
                                .targets = targets_input(b),
                                .n_targets = slots_input(b, "n_targets"),
                                .filled = slots_input(b, "filled"),
                                .index = slots_input(b, "image_index"),
                                .scales = scales_input(b),
                                .gh = grid,
                                .gw = grid};
    vg_graph_align_loss(b->g, &loss);
}

static vg_value text_build(vg_builder *b, bool cached)
{
    if (!cached) return vg_roberta_build(b);
    return vg_graph_input(b->g, "text_features", VG_F32,
                          VG_SHAPE(vg_builder_slots(b), vg_model_text_rows(b->o, &b->shape), b->o->text_width));
}

/* Every buffer of a batch is an input of every program, read or not, so that binding a batch is one list. */
static void declare_inputs(vg_builder *b)
{
    static const char *const per_slot[] = {"token_counts", "image_index", "key_counts", "n_targets", "filled"};
    const int64_t slots = vg_builder_slots(b);
    pixels_input(b);
    targets_input(b);
    scales_input(b);
    for (size_t i = 0; i < sizeof per_slot / sizeof *per_slot; i++) slots_input(b, per_slot[i]);
    vg_graph_input(b->g, "token_ids", VG_I32, VG_SHAPE(slots, b->shape.text_tokens));
    vg_graph_input(b->g, "keys", VG_U32, VG_SHAPE(slots, 4));
}

static void keep_features(vg_graph *g, vg_value image, vg_value text, const vg_fused *fused, vg_value hidden)
{
    vg_graph_keep(g, "image_features", image);
    vg_graph_keep(g, "text_features", text);
    vg_graph_keep(g, "image_rows", fused->image);
    vg_graph_keep(g, "text_rows", fused->text);
    if (fused->joint.id) vg_graph_keep(g, "joint_memory", fused->joint);
    vg_graph_keep(g, "hidden", hidden);
}

static vg_status image_build(vg_builder *b, const vg_program_spec *build, vg_params *params, vg_value *out)
{
    const int64_t grid = b->shape.side / b->o->vision_patch, c = b->o->vision_width;
    if (b->shape.image_floats) {
        *out = vg_graph_input(b->g, "image_features", VG_F32, VG_SHAPE(b->shape.images, grid * grid, c));
        return VG_OK;
    }
    vg_value positions;
    VG_TRY(vision_positions(b, params, build->image_positions_train, &positions));
    *out = vg_vit_build(b, pixels_input(b), positions);
    return VG_OK;
}

vg_status vg_model_build(const vg_options *o, const vg_program_spec *build, vg_params *params, vg_graph *g)
{
    vg_builder b = {.o = o,
                    .g = g,
                    .shape = build->shape,
                    .training = build->loss,
                    .text_trains = build->loss && build->text_trains};
    vg_value image;
    declare_inputs(&b);
    VG_TRY(image_build(&b, build, params, &image));
    const vg_value text = text_build(&b, build->cached_text);
    const vg_fused fused = vg_fusion_build(&b, image, text);
    const vg_value hidden = vg_decoder_build(&b, &fused.memory, build->loss && o->loss_auxiliary);
    vg_value logits, boxes;
    heads_build(&b, hidden, &logits, &boxes);
    if (build->keep_features) keep_features(g, image, text, &fused, hidden);
    if (build->loss) {
        detection_loss(&b, logits, boxes);
        if (o->loss_align > 0) alignment_loss(&b, &fused);
    }
    return vg_graph_status(g);
}

vg_status vg_model_build_text(const vg_options *o, const vg_batch_shape *shape, vg_graph *g)
{
    vg_builder b = {.o = o, .g = g, .shape = *shape};
    vg_graph_keep(g, "text_features", vg_roberta_build(&b));
    return vg_graph_status(g);
}

vg_status vg_model_build_image(const vg_options *o, const vg_batch_shape *shape, vg_params *params, vg_graph *g)
{
    vg_builder b = {.o = o, .g = g, .shape = *shape};
    const vg_program_spec build = {.shape = *shape};
    vg_value image;
    VG_TRY(image_build(&b, &build, params, &image));
    vg_graph_keep(g, "image_features", image);
    return vg_graph_status(g);
}

vg_status vg_model_plan(vg_graph *g, vg_params *params, const vg_backend *backend, int n_threads, bool bf16,
                        vg_program **out)
{
    params->to_bf16 = bf16 ? backend->to_bf16 : NULL;
    if (bf16) VG_TRY(vg_graph_to_bf16(g));
    return vg_graph_plan(g, backend, n_threads, out);
}

vg_status vg_model_bind(const vg_options *o, vg_program *program, const vg_batch *batch, int32_t *key_counts)
{
    const int64_t grid = batch->shape.side / o->vision_patch;
    const int n = batch->shape.images * batch->shape.phrases;
    for (int i = 0; i < n; i++) key_counts[i] = (int32_t)(grid * grid) + batch->token_counts[i];
    if (batch->shape.image_floats)
        VG_TRY(vg_program_bind(program, "image_features", batch->image_features));
    else
        VG_TRY(vg_program_bind(program, "pixels", batch->pixels));
    VG_TRY(vg_program_bind(program, "token_ids", batch->token_ids));
    VG_TRY(vg_program_bind(program, "token_counts", batch->token_counts));
    VG_TRY(vg_program_bind(program, "image_index", batch->image_index));
    VG_TRY(vg_program_bind(program, "key_counts", key_counts));
    VG_TRY(vg_program_bind(program, "keys", batch->keys));
    VG_TRY(vg_program_bind(program, "targets", batch->targets));
    VG_TRY(vg_program_bind(program, "n_targets", batch->n_targets));
    return vg_program_bind(program, "filled", batch->filled);
}
