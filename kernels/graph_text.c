#include "kernels/graph_impl.h"

#include <stdlib.h>

/* " %17 [8,10,256]", with a name where the value has one; " -" for an absent operand. */
static vg_status add_value(vg_text *text, const vg_graph *g, int value)
{
    const vg_graph_value *v = &g->values[value];
    char shape[64];
    vg_shape_text(&v->shape, shape);
    switch (v->kind) {
    case VG_VALUE_NONE: return vg_text_add(text, " -");
    case VG_VALUE_INPUT:
    case VG_VALUE_CONST: return vg_text_add(text, " %s %s", v->name, shape);
    case VG_VALUE_PARAM:
        return vg_text_add(text, " %s%s %s", g->params->items[v->param].name, v->first ? "+" : "", shape);
    case VG_VALUE_GRADIENT:
        return vg_text_add(text, " d(%s%s) %s", g->params->items[v->param].name, v->first ? "+" : "", shape);
    case VG_VALUE_NODE: return vg_text_add(text, " %%%d %s", value, shape);
    }
    return VG_OK;
}

static vg_status add_values(vg_text *text, const vg_graph *g, const int *values, int n)
{
    while (n > 0 && !values[n - 1]) n--;
    for (int i = 0; i < n; i++) VG_TRY(add_value(text, g, values[i]));
    return VG_OK;
}

static vg_status add_node(vg_text *text, const vg_graph *g, const vg_graph_node *n)
{
    const char *scope = g->scopes[n->scope];
    VG_TRY(vg_text_add(text, "%s%s%s", scope, *scope ? ": " : "", vg_op_name(n->op)));
    VG_TRY(add_values(text, g, n->in, VG_MAX_IN));
    VG_TRY(vg_text_add(text, n->accumulate ? " +>" : " ->"));
    VG_TRY(add_values(text, g, n->out, VG_MAX_OUT));
    return vg_text_add(text, "\n");
}

char *vg_graph_text(const vg_graph *g)
{
    vg_text text = {0};
    vg_status st = vg_text_add(&text, "%s", "");
    for (size_t i = 0; i < g->n_nodes && st == VG_OK; i++) st = add_node(&text, g, &g->nodes[i]);
    if (st == VG_OK) return text.data;
    free(text.data);
    return NULL;
}
