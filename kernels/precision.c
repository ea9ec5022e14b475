/* Which values of a graph are bf16: those that every node that reads or writes them can take so. What products multiply
 * is bf16 in any case, by a cast where the value itself is not; parameters are then read from their bf16 copies. */
#include "kernels/graph_impl.h"

#include <stdlib.h>

#define BIT(i) (1u << (i))
#define ALL    (~0u)

/* A layer that scales its result, or adds to a residual stream, stays fp32: small steps would be lost in the sum. */
vg_bf16_operands vg_op_bf16_operands(vg_op op, bool closes_block)
{
    switch (op) {
    case VG_OP_patchify: return (vg_bf16_operands){.loose = {0, BIT(0)}};
    case VG_OP_linear: return (vg_bf16_operands){.tied = {0, closes_block ? 0 : BIT(0) | BIT(1)}, .loose = {BIT(0), 0}};
    case VG_OP_layernorm: return (vg_bf16_operands){.tied = {BIT(0) | BIT(3), BIT(3)}, .loose = {0, BIT(0)}};
    case VG_OP_add: return (vg_bf16_operands){.tied = {BIT(0) | BIT(1), BIT(0)}};
    case VG_OP_add_rows: return (vg_bf16_operands){.tied = {BIT(0), BIT(0)}};
    case VG_OP_repeat: return (vg_bf16_operands){.loose = {0, BIT(0)}};
    case VG_OP_attention: return (vg_bf16_operands){.tied = {0x1f, BIT(0)}}; /* q, k, v, k2, v2; o */
    case VG_OP_heads_expand:
    case VG_OP_heads_contract: return (vg_bf16_operands){.tied = {0, BIT(0)}, .loose = {BIT(0), 0}};
    case VG_OP_slice_tokens:
    case VG_OP_concat_tokens:
    case VG_OP_concat_tokens_grad:
    case VG_OP_slice_tokens_grad:
    case VG_OP_stack:
    case VG_OP_stack_grad: return (vg_bf16_operands){.tied = {ALL, ALL}};
    case VG_OP_dropout: return (vg_bf16_operands){.tied = {BIT(0) | BIT(2), BIT(0)}};
    case VG_OP_act_grad: return (vg_bf16_operands){.tied = {BIT(0) | BIT(1), BIT(0)}};
    case VG_OP_linear_dx: return (vg_bf16_operands){.tied = {BIT(3), BIT(0)}, .loose = {BIT(0), 0}};
    case VG_OP_linear_dw: return (vg_bf16_operands){.loose = {BIT(0) | BIT(1), 0}};
    case VG_OP_layernorm_grad: return (vg_bf16_operands){.tied = {BIT(0) | BIT(5), BIT(0)}, .loose = {BIT(1), 0}};
    case VG_OP_attention_grad:
        return (vg_bf16_operands){
            .tied = {0x3f | BIT(10) | BIT(14) | BIT(15), 0x1f}}; /* do, q .. v2, o, acc_k, acc_v; dq .. dv2 */
    case VG_OP_heads_dw: return (vg_bf16_operands){.loose = {BIT(0) | BIT(1), 0}};
    case VG_OP_sum_rows: return (vg_bf16_operands){.loose = {BIT(0), 0}};
    case VG_OP_vit_tokens_grad: return (vg_bf16_operands){.tied = {BIT(0), BIT(0)}};
    case VG_OP_text_embed_grad: return (vg_bf16_operands){.loose = {BIT(0), 0}};
    default: return (vg_bf16_operands){0};
    }
}

/* Inputs that a product multiplies, without the weight. */
static unsigned multiplied(vg_op op)
{
    switch (op) {
    case VG_OP_linear:
    case VG_OP_linear_dx:
    case VG_OP_heads_expand:
    case VG_OP_heads_contract: return BIT(0);
    case VG_OP_linear_dw:
    case VG_OP_heads_dw: return BIT(0) | BIT(1);
    default: return 0;
    }
}

/* Sets of values that have one type among them, as a forest. */
typedef struct sets {
    int *parent;   /* [n_values] */
    bool *blocked; /* [n_values] of a root: somebody can take the set in fp32 only */
} sets;

static int root_of(const sets *s, int value)
{
    while (s->parent[value] != value) value = s->parent[value] = s->parent[s->parent[value]];
    return value;
}

static void tie(const sets *s, int a, int b)
{
    const int x = root_of(s, a), y = root_of(s, b);
    s->parent[y] = x;
    s->blocked[x] = s->blocked[x] || s->blocked[y];
}

static void block(const sets *s, int value)
{
    s->blocked[root_of(s, value)] = true;
}

static void judge_operands(const vg_graph *g, const sets *s, const int *values, int n, unsigned tied, unsigned loose,
                           int *tied_to)
{
    for (int i = 0; i < n; i++) {
        if (!values[i] || g->values[values[i]].dtype != VG_F32) continue;
        if (!(((tied | loose) >> i) & 1)) block(s, values[i]);
        if (!((tied >> i) & 1)) continue;
        if (*tied_to) tie(s, *tied_to, values[i]);
        *tied_to = values[i];
    }
}

static void judge(const vg_graph *g, const sets *s)
{
    for (size_t i = 1; i < g->n_values; i++) {
        s->parent[i] = (int)i;
        s->blocked[i] = g->values[i].kind != VG_VALUE_NODE || g->values[i].dtype != VG_F32;
    }
    for (size_t i = 0; i < g->n_kept; i++) block(s, g->kept[i].value);
    for (size_t i = 0; i < g->n_nodes; i++) {
        const vg_graph_node *n = &g->nodes[i];
        const vg_bf16_operands c = vg_op_bf16_operands(n->op, n->op == VG_OP_linear && (n->in[3] || n->in[4]));
        int tied_to = 0;
        judge_operands(g, s, n->in, VG_MAX_IN, c.tied.in, c.loose.in, &tied_to);
        judge_operands(g, s, n->out, VG_MAX_OUT, c.tied.out, c.loose.out, &tied_to);
    }
}

/* --- what products multiply --- */

/* The value in bf16: itself, a parameter's copy, or a cast of it, made on first use. casts [values before]. */
static int in_bf16(vg_graph *g, int value, int *casts)
{
    vg_graph_value v = g->values[value];
    if (v.dtype == VG_BF16) return value;
    if (v.kind == VG_VALUE_PARAM) {
        v.dtype = VG_BF16;
        return vg_graph_param_view(g, &v).id;
    }
    if (!casts[value]) casts[value] = vg_graph_apply(g, VG_OP_cast, (vg_attr){0}, &(vg_value){value}, 1).id;
    return casts[value];
}

/* Operands of a product. With gamma the weight stays fp32, is multiplied by it and rounded once. A bias has the type of
 * what it is added to. */
static void lower_product(vg_graph *g, vg_graph_node *n, int *casts)
{
    const int gamma = n->op == VG_OP_linear ? n->in[3] : n->op == VG_OP_linear_dx ? n->in[2] : 0;
    const bool has_weight = multiplied(n->op) == BIT(0);
    for (int i = 0; i < VG_MAX_IN; i++)
        if ((multiplied(n->op) >> i) & 1) n->in[i] = in_bf16(g, n->in[i], casts);
    if (has_weight && !gamma) n->in[1] = in_bf16(g, n->in[1], casts);
    if (n->op == VG_OP_linear && n->in[2] && g->values[n->out[0]].dtype == VG_BF16)
        n->in[2] = in_bf16(g, n->in[2], casts);
}

/* Lets the nodes go by and puts casts before those that need them. */
static void lower_products(vg_graph *g, int *casts)
{
    vg_graph_node *nodes = g->nodes;
    const size_t n_nodes = g->n_nodes;
    g->nodes = NULL;
    g->n_nodes = g->nodes_capacity = 0;
    for (size_t i = 0; i < n_nodes && g->status == VG_OK; i++) {
        g->scope = nodes[i].scope;
        if (multiplied(nodes[i].op)) lower_product(g, &nodes[i], casts);
        vg_graph_add_node(g, &nodes[i]);
    }
    free(nodes);
}

vg_status vg_graph_to_bf16(vg_graph *g)
{
    VG_TRY(vg_graph_status(g));
    const size_t n = g->n_values;
    const sets s = {vg_new0_array(n, sizeof *s.parent), vg_new0_array(n, sizeof *s.blocked)};
    int *casts = vg_new0_array(n, sizeof *casts);
    if (s.parent && s.blocked && casts) {
        judge(g, &s);
        for (size_t i = 1; i < n; i++)
            if (!s.blocked[root_of(&s, (int)i)]) g->values[i].dtype = VG_BF16;
        lower_products(g, casts);
    } else {
        vg_graph_blame(g, vg_fail(VG_E_NOMEM, "no memory to choose the types of %zu values", n));
    }
    free(s.parent);
    free(s.blocked);
    free(casts);
    return vg_graph_status(g);
}
