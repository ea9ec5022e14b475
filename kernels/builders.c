/* The builders of the door: each puts its operands in the order of ops.def. */
#include "kernels/graph_impl.h"

#include <assert.h>
#include <math.h>

/* Output i of the newest node. */
static vg_value output_of_last(const vg_graph *g, int i)
{
    return g->status == VG_OK ? (vg_value){g->nodes[g->n_nodes - 1].out[i]} : VG_NONE;
}

/* A position table [1,P,C], as files have it, seen as [P,C]. */
static vg_value as_table(vg_graph *g, vg_value pos)
{
    if (g->status != VG_OK || !pos.id || g->values[pos.id].kind != VG_VALUE_PARAM) return pos;
    vg_graph_value view = g->values[pos.id];
    if (view.shape.rank == 3 && view.shape.dim[0] == 1) view.shape = VG_SHAPE(view.shape.dim[1], view.shape.dim[2]);
    return vg_graph_param_view(g, &view);
}

/* A weight seen as [N,K]: a convolution whose kernel is its stride is a product with [N, channels*p*p]. */
static vg_value as_matrix(vg_graph *g, vg_value w)
{
    if (g->status != VG_OK || !w.id || g->values[w.id].kind != VG_VALUE_PARAM) return w;
    vg_graph_value view = g->values[w.id];
    view.shape = VG_SHAPE(view.shape.dim[0], vg_shape_count(&view.shape) / view.shape.dim[0]);
    return vg_graph_param_view(g, &view);
}

vg_value vg_graph_patchify(vg_graph *g, vg_value pixels, int patch)
{
    return vg_graph_apply(g, VG_OP_patchify, (vg_attr){.patchify = {patch}}, &pixels, 1);
}

vg_value vg_graph_linear(vg_graph *g, vg_value x, vg_value w, vg_value b, vg_act act)
{
    return vg_graph_linear_ragged(g, x, VG_NONE, w, b, act);
}

vg_value vg_graph_linear_ragged(vg_graph *g, vg_value x, vg_value counts, vg_value w, vg_value b, vg_act act)
{
    return vg_graph_apply(g, VG_OP_linear, (vg_attr){.linear = {act}},
                          (vg_value[]){x, as_matrix(g, w), b, VG_NONE, VG_NONE, counts}, 6);
}

vg_value vg_graph_linear_residual(vg_graph *g, vg_value x, vg_value w, vg_value b, vg_value gamma, vg_value res)
{
    return vg_graph_apply(g, VG_OP_linear, (vg_attr){.linear = {VG_ACT_NONE}},
                          (vg_value[]){x, as_matrix(g, w), b, gamma, res}, 5);
}

vg_value vg_graph_layernorm(vg_graph *g, vg_value x, vg_value res, vg_value gamma, vg_value beta, float eps)
{
    return vg_graph_apply(g, VG_OP_layernorm, (vg_attr){.layernorm = {eps}}, (vg_value[]){x, gamma, beta, res}, 4);
}

vg_value vg_graph_add(vg_graph *g, vg_value a, vg_value b)
{
    return vg_graph_apply(g, VG_OP_add, (vg_attr){0}, (vg_value[]){a, b}, 2);
}

vg_value vg_graph_add_rows(vg_graph *g, vg_value x, vg_value p)
{
    return vg_graph_apply(g, VG_OP_add_rows, (vg_attr){0}, (vg_value[]){x, p}, 2);
}

vg_value vg_graph_repeat(vg_graph *g, vg_value p, int64_t count)
{
    return vg_graph_apply(g, VG_OP_repeat, (vg_attr){.repeat = {count}}, &p, 1);
}

vg_value vg_graph_attention(vg_graph *g, const vg_attention *a)
{
    const vg_attr attr = {.attention = {.heads = a->heads,
                                        .head_size = a->head_size,
                                        .fold = a->fold > 0 ? a->fold : 1,
                                        .q_col = a->q_col,
                                        .k_col = a->k_col,
                                        .v_col = a->v_col,
                                        .k2_col = a->k2_col,
                                        .v2_col = a->v2_col,
                                        .scale = a->scale > 0 ? a->scale : (float)(1 / sqrt((double)a->head_size)),
                                        .mask_second = a->mask_second,
                                        .dropout = a->dropout,
                                        .key = a->key}};
    const vg_value o =
        vg_graph_apply(g, VG_OP_attention, attr,
                       (vg_value[]){a->q, a->k, a->v, a->k2, a->v2, a->counts, a->bias, a->index, a->keys}, 9);
    if (a->sums) *a->sums = output_of_last(g, 2);
    return o;
}

vg_value vg_graph_heads_expand(vg_graph *g, vg_value x, vg_value w, vg_value b, int heads)
{
    return vg_graph_apply(g, VG_OP_heads_expand, (vg_attr){.heads = {heads}}, (vg_value[]){x, w, b}, 3);
}

vg_value vg_graph_heads_contract(vg_graph *g, vg_value x, vg_value w, vg_value b, vg_value sums, int heads)
{
    return vg_graph_apply(g, VG_OP_heads_contract, (vg_attr){.heads = {heads}}, (vg_value[]){x, w, b, sums}, 4);
}

vg_value vg_graph_vit_tokens(vg_graph *g, vg_value patches, vg_value pos, vg_value cls, vg_value reg)
{
    return vg_graph_apply(g, VG_OP_vit_tokens, (vg_attr){0}, (vg_value[]){patches, as_table(g, pos), cls, reg}, 4);
}

vg_value vg_graph_text_embed(vg_graph *g, vg_value ids, vg_value counts, vg_value word, vg_value pos, vg_value type)
{
    return vg_graph_apply(g, VG_OP_text_embed, (vg_attr){.embed = {.pad = 1}},
                          (vg_value[]){ids, counts, word, pos, type}, 5);
}

vg_value vg_graph_slice_tokens(vg_graph *g, vg_value x, int64_t first, int64_t count)
{
    return vg_graph_apply(g, VG_OP_slice_tokens, (vg_attr){.slice = {first, count}}, &x, 1);
}

vg_value vg_graph_concat_tokens(vg_graph *g, vg_value a, vg_value b, vg_value index)
{
    return vg_graph_apply(g, VG_OP_concat_tokens, (vg_attr){0}, (vg_value[]){a, b, index}, 3);
}

vg_value vg_graph_stack(vg_graph *g, const vg_value *x, int n)
{
    assert(n >= 1 && n <= VG_MAX_IN);
    return vg_graph_apply(g, VG_OP_stack, (vg_attr){0}, x, n);
}

vg_value vg_graph_dropout(vg_graph *g, vg_value x, vg_value res, vg_value keys, float p, vg_rng_key key)
{
    if (p == 0) return res.id ? vg_graph_add(g, x, res) : x;
    return vg_graph_apply(g, VG_OP_dropout, (vg_attr){.dropout = {p, key}}, (vg_value[]){x, keys, res}, 3);
}

void vg_graph_detr_loss(vg_graph *g, const vg_detr_loss *loss)
{
    const vg_attr attr = {.detr_loss = {loss->eos, loss->cost_class, loss->cost_l1, loss->cost_giou}};
    vg_graph_apply(g, VG_OP_detr_loss, attr,
                   (vg_value[]){loss->logits, loss->boxes, loss->targets, loss->n_targets, loss->filled, loss->scales},
                   6);
    vg_graph_keep(g, "parts", output_of_last(g, 0));
    vg_graph_keep(g, "match", output_of_last(g, 1));
    vg_graph_keep(g, "bad", output_of_last(g, 4));
}

void vg_graph_align_loss(vg_graph *g, const vg_align_loss *loss)
{
    vg_graph_apply(g, VG_OP_align_loss, (vg_attr){.align = {loss->gh, loss->gw}},
                   (vg_value[]){loss->a, loss->u, loss->scale, loss->shift, loss->targets, loss->n_targets,
                                loss->filled, loss->index, loss->scales},
                   9);
    vg_graph_keep(g, "align_parts", output_of_last(g, 0));
}
