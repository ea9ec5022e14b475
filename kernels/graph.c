/* The graph itself: leaves, nodes, kept values, the first error. */
#include "kernels/graph_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COUNT_LOG2 = 40 }; /* elements of one value: sizes in bytes stay far from overflow */

vg_status vg_graph_new(vg_params *params, vg_graph **out)
{
    vg_graph *g = vg_new0(sizeof *g);
    VG_CHECK(g, VG_E_NOMEM, "no memory for a graph");
    g->params = params;
    vg_graph_add_value(g, (vg_graph_value){.kind = VG_VALUE_NONE, .shape = VG_SHAPE(1)});
    vg_graph_scope(g, "");
    if (g->status != VG_OK) {
        const vg_status st = vg_graph_status(g);
        vg_graph_free(g);
        return st;
    }
    *out = g;
    return VG_OK;
}

void vg_graph_free(vg_graph *g)
{
    if (!g) return;
    for (size_t i = 0; i < g->n_values; i++) {
        free(g->values[i].name);
        free(g->values[i].data);
    }
    for (size_t i = 0; i < g->n_kept; i++) free(g->kept[i].name);
    for (size_t i = 0; i < g->n_scopes; i++) free(g->scopes[i]);
    free(g->values);
    free(g->nodes);
    free(g->kept);
    free(g->scopes);
    free(g->error);
    free(g);
}

vg_status vg_graph_status(const vg_graph *g)
{
    if (g->status == VG_OK) return VG_OK;
    return vg_fail(g->status, "%s", g->error ? g->error : "no memory for a graph");
}

void vg_graph_blame(vg_graph *g, vg_status st)
{
    if (st == VG_OK || g->status != VG_OK) return;
    g->status = st;
    g->error = vg_copy_string(vg_error_text());
}

int vg_graph_add_value(vg_graph *g, vg_graph_value value)
{
    if (g->status != VG_OK) return 0;
    int64_t room = INT64_C(1) << MAX_COUNT_LOG2;
    bool fits = value.shape.rank >= 1 && value.shape.rank <= VG_MAX_RANK;
    for (int i = 0; fits && i < value.shape.rank; i++) {
        fits = value.shape.dim[i] >= 1 && value.shape.dim[i] <= room;
        if (fits) room /= value.shape.dim[i];
    }
    char text[64];
    if (!fits) {
        vg_graph_blame(g, vg_fail(VG_E_SHAPE, "%s: %s is no shape; a value has 1 to %d axes and 1 to 2^%d elements",
                                  value.name ? value.name : g->scopes[g->scope], vg_shape_text(&value.shape, text),
                                  VG_MAX_RANK, MAX_COUNT_LOG2));
        return 0;
    }
    vg_graph_blame(g, vg_grow(&g->values, &g->values_capacity, g->n_values + 1, sizeof value));
    if (g->status != VG_OK) return 0;
    g->values[g->n_values] = value;
    return (int)g->n_values++;
}

/* A value that owns a copy of its name. */
static vg_value add_named(vg_graph *g, vg_graph_value value, const char *name)
{
    if (g->status != VG_OK) return VG_NONE;
    value.name = vg_copy_string(name);
    if (!value.name) vg_graph_blame(g, vg_fail(VG_E_NOMEM, "no memory for the name %s", name));
    const int id = vg_graph_add_value(g, value);
    if (!id) free(value.name);
    return (vg_value){id};
}

static const vg_graph_value *value_of(const vg_graph *g, vg_value v)
{
    assert(v.id >= 0 && (size_t)v.id < g->n_values);
    return &g->values[v.id];
}

vg_value vg_graph_input(vg_graph *g, const char *name, vg_dtype dtype, vg_shape shape)
{
    for (size_t i = 1; i < g->n_values; i++) {
        const vg_graph_value *v = &g->values[i];
        if (v->kind != VG_VALUE_INPUT || strcmp(v->name, name) != 0) continue;
        if (v->dtype == dtype && vg_shape_equal(&v->shape, &shape)) return (vg_value){(int32_t)i};
        char have[64], want[64];
        vg_graph_blame(g, vg_fail(VG_E_SHAPE, "input %s is %s %s and asked for as %s %s", name, vg_dtype_name(v->dtype),
                                  vg_shape_text(&v->shape, have), vg_dtype_name(dtype), vg_shape_text(&shape, want)));
        return VG_NONE;
    }
    return add_named(g, (vg_graph_value){.kind = VG_VALUE_INPUT, .dtype = dtype, .shape = shape}, name);
}

vg_value vg_graph_param_view(vg_graph *g, const vg_graph_value *view)
{
    if (g->status != VG_OK) return VG_NONE;
    for (size_t i = 1; i < g->n_values; i++) {
        const vg_graph_value *v = &g->values[i];
        if (v->kind == VG_VALUE_PARAM && v->param == view->param && v->first == view->first &&
            v->dtype == view->dtype && vg_shape_equal(&v->shape, &view->shape))
            return (vg_value){(int32_t)i};
    }
    return (vg_value){vg_graph_add_value(g, *view)};
}

vg_value vg_graph_param(vg_graph *g, const char *name, vg_shape shape)
{
    int param = 0;
    if (g->status == VG_OK) vg_graph_blame(g, vg_params_add(g->params, name, &shape, &param));
    return vg_graph_param_view(g, &(vg_graph_value){.kind = VG_VALUE_PARAM, .shape = shape, .param = param});
}

vg_value vg_graph_param_rows(vg_graph *g, vg_value param, int64_t first, int64_t count)
{
    if (g->status != VG_OK) return VG_NONE;
    const vg_graph_value v = *value_of(g, param);
    const int64_t rows = v.shape.dim[0];
    if (v.kind != VG_VALUE_PARAM || first < 0 || count < 1 || first > rows - count) {
        vg_graph_blame(g,
                       vg_fail(VG_E_SHAPE, "%s: rows %lld..%lld of %s do not exist; it has %lld", g->scopes[g->scope],
                               (long long)first, (long long)(first + count - 1),
                               v.kind == VG_VALUE_PARAM ? g->params->items[v.param].name : "a value that is computed",
                               (long long)rows));
        return VG_NONE;
    }
    vg_graph_value view = v;
    view.first += first * (vg_shape_count(&v.shape) / rows);
    view.shape.dim[0] = count;
    return vg_graph_param_view(g, &view);
}

vg_value vg_graph_const(vg_graph *g, const char *name, vg_shape shape, const float *data)
{
    const vg_value v = add_named(g, (vg_graph_value){.kind = VG_VALUE_CONST, .shape = shape}, name);
    if (!v.id) return VG_NONE;
    const size_t count = (size_t)vg_shape_count(&shape);
    float *copy = vg_new0_array(count, sizeof *copy);
    if (copy) memcpy(copy, data, count * sizeof *copy);
    g->values[v.id].data = copy;
    if (!copy) vg_graph_blame(g, vg_fail(VG_E_NOMEM, "no memory for the constant %s", name));
    return v;
}

vg_shape vg_graph_shape(const vg_graph *g, vg_value v)
{
    return value_of(g, v)->shape;
}

void vg_graph_scope(vg_graph *g, const char *name)
{
    for (size_t i = 0; i < g->n_scopes; i++)
        if (strcmp(g->scopes[i], name) == 0) {
            g->scope = (int)i;
            return;
        }
    char *copy = vg_copy_string(name);
    vg_graph_blame(g, copy ? vg_grow(&g->scopes, &g->scopes_capacity, g->n_scopes + 1, sizeof *g->scopes)
                           : vg_fail(VG_E_NOMEM, "no memory for the scope %s", name));
    if (g->status != VG_OK) {
        free(copy);
        return;
    }
    g->scope = (int)g->n_scopes;
    g->scopes[g->n_scopes++] = copy;
}

void vg_graph_add_node(vg_graph *g, const vg_graph_node *node)
{
    if (g->status == VG_OK) vg_graph_blame(g, vg_grow(&g->nodes, &g->nodes_capacity, g->n_nodes + 1, sizeof *node));
    if (g->status == VG_OK) g->nodes[g->n_nodes++] = *node;
}

/* "decoder.layers.0: linear: <what does not fit>; operands [8,10,256] [768,128] -". */
static void blame_operands(vg_graph *g, vg_op op, const char *wrong, const vg_shaping *s)
{
    vg_text text = {0};
    char shape[64];
    int n = vg_op_row_of(op)->n_in;
    while (n > 0 && !s->in[n - 1]) n--;
    for (int i = 0; i < n; i++) vg_text_add(&text, " %s", s->in[i] ? vg_shape_text(&s->in[i]->shape, shape) : "-");
    const char *scope = g->scopes[g->scope];
    vg_graph_blame(g, vg_fail(VG_E_SHAPE, "%s%s%s: %s; operands%s", scope, *scope ? ": " : "", vg_op_name(op), wrong,
                              text.data ? text.data : " -"));
    free(text.data);
}

vg_value vg_graph_apply(vg_graph *g, vg_op op, vg_attr attr, const vg_value *in, int n_in)
{
    if (g->status != VG_OK) return VG_NONE;
    vg_graph_node node = {.op = op, .attr = attr, .scope = g->scope};
    vg_shaping s = {.attr = &attr};
    assert(n_in <= vg_op_row_of(op)->n_in);
    for (int i = 0; i < n_in; i++) {
        node.in[i] = in[i].id;
        s.in[i] = in[i].id ? value_of(g, in[i]) : NULL;
    }
    const char *wrong = vg_op_shape(op, &s);
    if (wrong) {
        blame_operands(g, op, wrong, &s);
        return VG_NONE;
    }
    for (int i = 0; i < vg_op_row_of(op)->n_out; i++)
        if (s.out[i].present)
            node.out[i] = vg_graph_add_value(
                g, (vg_graph_value){.kind = VG_VALUE_NODE, .dtype = s.out[i].dtype, .shape = s.out[i].shape});
    vg_graph_add_node(g, &node);
    return g->status == VG_OK ? (vg_value){node.out[0]} : VG_NONE;
}

void vg_graph_keep(vg_graph *g, const char *name, vg_value v)
{
    if (g->status != VG_OK) return;
    if (!v.id) {
        vg_graph_blame(g, vg_fail(VG_E_BUG, "%s: there is no value to keep", name));
        return;
    }
    for (size_t i = 0; i < g->n_kept; i++)
        if (strcmp(g->kept[i].name, name) == 0) {
            vg_graph_blame(g, vg_fail(VG_E_BUG, "%s: two values are kept under this name", name));
            return;
        }
    char *copy = vg_copy_string(name);
    vg_graph_blame(g, copy ? vg_grow(&g->kept, &g->kept_capacity, g->n_kept + 1, sizeof *g->kept)
                           : vg_fail(VG_E_NOMEM, "no memory for the name %s", name));
    if (g->status != VG_OK) {
        free(copy);
        return;
    }
    g->kept[g->n_kept++] = (vg_graph_kept){.name = copy, .value = v.id};
}
