/* The image tower: a vision transformer with register tokens and LayerScale. Source: vl-gtr-model 1.2; timm
 * `vit_small_patch14_reg4_dinov2`. */
#include "trainer/model/model_impl.h"

#include <stdio.h>

static const float NORM_EPS = 1e-6F;

/* x + gamma * Attn(LN(x)) */
static vg_value attention_half(vg_builder *b, const char *block, vg_value x)
{
    const int64_t c = b->o->vision_width, heads = b->o->vision_heads;
    char part[128];
    snprintf(part, sizeof part, "%s.norm1", block);
    const vg_value normed = vg_model_layernorm(b, part, x, VG_NONE, c, NORM_EPS);
    snprintf(part, sizeof part, "%s.attn.qkv", block);
    const vg_value qkv = vg_model_linear(b, part, normed, 3 * c, c, VG_ACT_NONE);
    vg_graph_scope(b->g, block);
    const vg_attention attention = {.q = qkv,
                                    .k = qkv,
                                    .v = qkv,
                                    .heads = (int)heads,
                                    .head_size = (int)(c / heads),
                                    .k_col = (int)c,
                                    .v_col = (int)(2 * c)};
    const vg_value mixed = vg_graph_attention(b->g, &attention);
    const vg_value w = vg_model_param(b, block, "attn.proj.weight", VG_SHAPE(c, c));
    const vg_value bias = vg_model_param(b, block, "attn.proj.bias", VG_SHAPE(c));
    return vg_graph_linear_residual(b->g, mixed, w, bias, vg_model_param(b, block, "ls1.gamma", VG_SHAPE(c)), x);
}

/* x + gamma * MLP(LN(x)) */
static vg_value mlp_half(vg_builder *b, const char *block, vg_value x)
{
    const int64_t c = b->o->vision_width, hidden = b->o->vision_mlp;
    char part[128];
    snprintf(part, sizeof part, "%s.norm2", block);
    const vg_value normed = vg_model_layernorm(b, part, x, VG_NONE, c, NORM_EPS);
    snprintf(part, sizeof part, "%s.mlp.fc1", block);
    const vg_value h = vg_model_linear(b, part, normed, hidden, c, VG_ACT_GELU);
    const vg_value w = vg_model_param(b, block, "mlp.fc2.weight", VG_SHAPE(c, hidden));
    const vg_value bias = vg_model_param(b, block, "mlp.fc2.bias", VG_SHAPE(c));
    return vg_graph_linear_residual(b->g, h, w, bias, vg_model_param(b, block, "ls2.gamma", VG_SHAPE(c)), x);
}

vg_value vg_vit_build(vg_builder *b, vg_value pixels, vg_value positions)
{
    const vg_options *o = b->o;
    const int64_t c = o->vision_width, p = o->vision_patch, registers = o->vision_registers;
    vg_graph_scope(b->g, "vision.patch_embed");
    const vg_value patches = vg_graph_patchify(b->g, pixels, (int)p);
    /* the convolution's weight read as a matrix: one row per output channel, columns channel, row, column */
    const vg_value w = vg_graph_param(b->g, "vision.patch_embed.proj.weight", VG_SHAPE(c, 3, p, p));
    const vg_value bias = vg_graph_param(b->g, "vision.patch_embed.proj.bias", VG_SHAPE(c));
    const vg_value embedded = vg_graph_linear(b->g, patches, w, bias, VG_ACT_NONE);
    const vg_value cls = vg_graph_param(b->g, "vision.cls_token", VG_SHAPE(1, 1, c));
    const vg_value reg = registers ? vg_graph_param(b->g, "vision.reg_token", VG_SHAPE(1, registers, c)) : VG_NONE;
    vg_value x = vg_graph_vit_tokens(b->g, embedded, positions, cls, reg);
    for (int64_t i = 0; i < o->vision_depth; i++) {
        char block[64];
        snprintf(block, sizeof block, "vision.blocks.%d", (int)i);
        x = mlp_half(b, block, attention_half(b, block, x));
    }
    const int64_t side = b->shape.side / p;
    vg_graph_scope(b->g, "vision.norm");
    const vg_value image_rows = vg_graph_slice_tokens(b->g, x, 1 + registers, side * side);
    return vg_model_layernorm(b, "vision.norm", image_rows, VG_NONE, c, NORM_EPS);
}
