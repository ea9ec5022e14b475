/* From graph to program: drop what nobody needs, find out how long each value lives, give it a place in the arena. */
#include "kernels/program_impl.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

/* --- what is needed --- */

typedef struct needs {
    bool *value; /* [n_values] somebody reads it */
    bool *node;  /* [n_nodes] one of its outputs is read, or is the gradient of a parameter */
} needs;

static bool node_is_needed(const vg_graph *g, const vg_graph_node *node, const needs *n)
{
    for (int i = 0; i < VG_MAX_OUT; i++) {
        const int v = node->out[i];
        if (v && (n->value[v] || g->values[v].kind == VG_VALUE_GRADIENT)) return true;
    }
    return false;
}

/* One sweep from the end is enough: nodes read only what earlier nodes wrote. */
static void find_needs(const vg_graph *g, const needs *n)
{
    for (size_t i = 0; i < g->n_kept; i++) n->value[g->kept[i].value] = true;
    for (size_t i = g->n_nodes; i-- > 0;) {
        const vg_graph_node *node = &g->nodes[i];
        n->node[i] = node_is_needed(g, node, n);
        for (int j = 0; n->node[i] && j < VG_MAX_IN; j++) n->value[node->in[j]] = true;
    }
}

static bool output_is_present(const vg_graph_node *node, int i, const needs *n)
{
    const bool optional = (vg_op_optional_outputs(node->op) >> i) & 1;
    return node->out[i] && (!optional || n->value[node->out[i]]);
}

static vg_status check_backend(const vg_graph *g, const needs *n, const vg_backend *backend)
{
    vg_text lacking = {0};
    bool named[VG_OP_COUNT] = {false};
    for (size_t i = 0; i < g->n_nodes; i++) {
        const vg_op op = g->nodes[i].op;
        if (!n->node[i] || backend->kernels[op] || named[op]) continue;
        named[op] = true;
        vg_text_add(&lacking, " %s", vg_op_name(op));
    }
    const vg_status st = lacking.length ? vg_fail(VG_E_BUG, "the %s backend has no kernel for:%s", backend->name,
                                                  lacking.data ? lacking.data : "")
                                        : VG_OK;
    free(lacking.data);
    return st;
}

/* --- placement --- */

static int by_size(const void *a, const void *b)
{
    const vg_temporary *x = *(const vg_temporary *const *)a, *y = *(const vg_temporary *const *)b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x < y ? -1 : x > y; /* equal ones in the order of their making, so that a plan is always the same */
}

static bool alive_together(const vg_temporary *a, const vg_temporary *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* The smallest gap that fits between those placed (sorted by offset) that live at the same time. */
static size_t best_gap(const vg_temporary *t, vg_temporary *const *placed, size_t n)
{
    size_t end = 0, best = SIZE_MAX, least = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        const vg_temporary *other = placed[i];
        if (!alive_together(t, other)) continue;
        if (other->offset >= end + t->bytes && other->offset - end < least) {
            least = other->offset - end;
            best = end;
        }
        if (other->offset + other->bytes > end) end = other->offset + other->bytes;
    }
    return best != SIZE_MAX ? best : end;
}

/* Largest first, each into the tightest gap: large activations settle at the bottom, small ones fill the seams. */
vg_status vg_place_temporaries(vg_temporary *temporaries, size_t n, size_t *arena_bytes)
{
    vg_temporary **sorted = vg_new0_array(2 * n, sizeof(vg_temporary *)), **placed = sorted + n;
    VG_CHECK(sorted, VG_E_NOMEM, "no memory to plan %zu temporaries", n);
    for (size_t i = 0; i < n; i++) sorted[i] = &temporaries[i];
    qsort(sorted, n, sizeof(vg_temporary *), by_size);
    *arena_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        vg_temporary *t = sorted[i];
        t->bytes = vg_round_up(t->bytes, ALIGN);
        t->offset = best_gap(t, placed, i);
        if (t->offset + t->bytes > *arena_bytes) *arena_bytes = t->offset + t->bytes;
        size_t at = i;
        for (; at > 0 && placed[at - 1]->offset > t->offset; at--) placed[at] = placed[at - 1];
        placed[at] = t;
    }
    free(sorted);
    return VG_OK;
}

/* --- the program --- */

typedef struct planner {
    const vg_graph *g;
    vg_program *p;
    needs needs;
    int *temporary; /* [n_values] its temporary, -1 for none */
    int *input;     /* [n_values] its input, -1 for none */
    size_t *reader; /* [n_values] the last node that reads it; behind all nodes for what is kept */
    size_t *offset; /* [n_values] of constants */
    bool *trained;  /* [n params] this program writes its gradient */
    size_t temporaries_capacity;
} planner;

static size_t value_bytes(const vg_graph_value *v)
{
    return (size_t)vg_shape_count(&v->shape) * vg_dtype_bytes(v->dtype);
}

static vg_status add_temporary(planner *pl, size_t bytes, int node, int *index)
{
    vg_program *p = pl->p;
    VG_TRY(vg_grow(&p->temporaries, &pl->temporaries_capacity, p->n_temporaries + 1, sizeof *p->temporaries));
    p->temporaries[p->n_temporaries] = (vg_temporary){.first = node, .last = node, .bytes = bytes};
    *index = (int)p->n_temporaries++;
    return VG_OK;
}

static vg_status take_inputs(planner *pl)
{
    vg_program *p = pl->p;
    p->inputs = vg_new0_array(pl->g->n_values, sizeof *p->inputs);
    VG_CHECK(p->inputs, VG_E_NOMEM, "no memory for the inputs of a program");
    for (size_t i = 1; i < pl->g->n_values; i++) {
        const vg_graph_value *v = &pl->g->values[i];
        if (v->kind != VG_VALUE_INPUT) continue;
        pl->input[i] = (int)p->n_inputs;
        vg_program_input *input = &p->inputs[p->n_inputs++];
        *input = (vg_program_input){.name = vg_copy_string(v->name),
                                    .read = pl->needs.value[i],
                                    .bytes = value_bytes(v),
                                    .offset = p->inbox_bytes};
        VG_CHECK(input->name, VG_E_NOMEM, "no memory for the input %s", v->name);
        if (input->read) p->inbox_bytes += vg_round_up(input->bytes, ALIGN);
    }
    return VG_OK;
}

static vg_status take_constants(planner *pl)
{
    vg_program *p = pl->p;
    for (size_t i = 1; i < pl->g->n_values; i++) {
        if (pl->g->values[i].kind != VG_VALUE_CONST || !pl->needs.value[i]) continue;
        pl->offset[i] = p->constants_bytes;
        p->constants_bytes += vg_round_up(value_bytes(&pl->g->values[i]), ALIGN);
    }
    if (!p->constants_bytes) return VG_OK;
    VG_TRY(vg_arena_init(&p->constants, p->constants_bytes));
    for (size_t i = 1; i < pl->g->n_values; i++) {
        const vg_graph_value *v = &pl->g->values[i];
        if (v->kind == VG_VALUE_CONST && pl->needs.value[i])
            memcpy(p->constants.base + pl->offset[i], v->data, value_bytes(v));
    }
    return VG_OK;
}

static vg_status take_scopes(planner *pl)
{
    vg_program *p = pl->p;
    p->scopes = vg_new0_array(pl->g->n_scopes, sizeof *p->scopes);
    VG_CHECK(p->scopes, VG_E_NOMEM, "no memory for the scopes of a program");
    for (; p->n_scopes < pl->g->n_scopes; p->n_scopes++) {
        p->scopes[p->n_scopes] = vg_copy_string(pl->g->scopes[p->n_scopes]);
        VG_CHECK(p->scopes[p->n_scopes], VG_E_NOMEM, "no memory for the scopes of a program");
    }
    return VG_OK;
}

/* Where a value lies. The offset of a temporary is not known yet: index tells which it is. */
static vg_location locate(const planner *pl, int value)
{
    const vg_graph_value *v = &pl->g->values[value];
    switch (v->kind) {
    case VG_VALUE_INPUT: return (vg_location){.place = VG_PLACE_INPUT, .index = pl->input[value]};
    case VG_VALUE_CONST: return (vg_location){.place = VG_PLACE_CONSTANT, .offset = pl->offset[value]};
    case VG_VALUE_PARAM:
        return (vg_location){v->dtype == VG_BF16 ? VG_PLACE_MIRROR : VG_PLACE_PARAM, v->param,
                             (size_t)v->first * vg_dtype_bytes(v->dtype)};
    case VG_VALUE_GRADIENT: return (vg_location){VG_PLACE_GRADIENT, v->param, (size_t)v->first * sizeof(float)};
    default: return (vg_location){.place = VG_PLACE_ARENA, .index = pl->temporary[value]};
    }
}

static vg_status add_operand(planner *pl, int node, bool is_output, int slot, int value)
{
    vg_operand *operand = is_output ? &pl->p->nodes[node].out[slot] : &pl->p->nodes[node].in[slot];
    const vg_graph_value *v = &pl->g->values[value];
    *operand = (vg_operand){.dtype = v->dtype, .shape = v->shape};
    const vg_location at = locate(pl, value);
    vg_refs *refs = &pl->p->refs[at.place];
    VG_TRY(vg_grow(&refs->items, &refs->capacity, refs->n + 1, sizeof *refs->items));
    refs->items[refs->n++] = (vg_ref){.node = node, .is_output = is_output, .slot = slot, .at = at};
    return VG_OK;
}

static void find_last_readers(planner *pl)
{
    const vg_graph *g = pl->g;
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int j = 0; pl->needs.node[i] && j < VG_MAX_IN; j++) pl->reader[g->nodes[i].in[j]] = i;
    for (size_t i = 0; i < g->n_kept; i++) pl->reader[g->kept[i].value] = g->n_nodes;
}

/* The temporary of an input that output i may be written over, since nobody else reads it; -1 for none. */
static int place_to_take(const planner *pl, const vg_graph_node *from, int i)
{
    const vg_graph_value *values = pl->g->values;
    const int input = pl->p->backend->in_place ? pl->p->backend->in_place(from->op, i) : -1;
    const int in = input >= 0 ? from->in[input] : 0;
    if (!in || pl->reader[in] != (size_t)(from - pl->g->nodes)) return -1;
    for (int j = 0; j < VG_MAX_IN; j++)
        if (j != input && from->in[j] == in) return -1;
    return value_bytes(&values[in]) == value_bytes(&values[from->out[i]]) ? pl->temporary[in] : -1;
}

/* A value that the node at `index` is the first to write. */
static vg_status take_temporary(planner *pl, const vg_graph_node *from, int i, int index)
{
    const int v = from->out[i], taken = place_to_take(pl, from, i);
    if (taken < 0) return add_temporary(pl, value_bytes(&pl->g->values[v]), index, &pl->temporary[v]);
    pl->temporary[v] = taken;
    return VG_OK;
}

static vg_status take_node(planner *pl, const vg_graph_node *from, int index)
{
    vg_node *node = &pl->p->nodes[index];
    const vg_op_row *row = vg_op_row_of(from->op);
    *node = (vg_node){
        .op = from->op, .n_in = row->n_in, .n_out = row->n_out, .attr = from->attr, .accumulate = from->accumulate};
    pl->p->infos[index] = (vg_node_info){.scope = from->scope, .temporary = -1};
    for (int i = 0; i < row->n_in; i++) {
        if (!from->in[i]) continue;
        VG_TRY(add_operand(pl, index, false, i, from->in[i]));
        if (pl->temporary[from->in[i]] >= 0) pl->p->temporaries[pl->temporary[from->in[i]]].last = index;
    }
    for (int i = 0; i < row->n_out; i++) {
        const int v = from->out[i];
        if (!output_is_present(from, i, &pl->needs)) continue;
        if (pl->g->values[v].kind == VG_VALUE_NODE && pl->temporary[v] < 0) VG_TRY(take_temporary(pl, from, i, index));
        VG_TRY(add_operand(pl, index, true, i, v));
    }
    return VG_OK;
}

/* The weight in a node's second operand and the parameters right behind it, where this program trains none of them. */
static int frozen_params(const planner *pl, const vg_graph_node *from, int out[VG_MOST_PACKED])
{
    int n = 0;
    for (int i = 0; i < VG_MOST_PACKED; i++) {
        const vg_graph_value *v = &pl->g->values[from->in[1 + i]];
        const bool is_param = from->in[1 + i] && v->kind == VG_VALUE_PARAM;
        if (is_param ? pl->trained[v->param] : i == 0) return 0;
        if (is_param) out[n++] = v->param;
    }
    return n;
}

/* Scratch memory and the packed form of frozen parameters, as the backend asks for them. */
static vg_status ask_backend(planner *pl, const vg_graph_node *from, int index)
{
    const vg_program *p = pl->p;
    vg_node_info *info = &p->infos[index];
    const size_t bytes =
        p->backend->workspace_bytes ? p->backend->workspace_bytes(&p->nodes[index], p->stream.n_threads) : 0;
    if (bytes) VG_TRY(add_temporary(pl, bytes, index, &info->temporary));
    info->n_frozen = frozen_params(pl, from, info->frozen);
    if (info->n_frozen && p->backend->packed_bytes) info->packed_bytes = p->backend->packed_bytes(&p->nodes[index]);
    return VG_OK;
}

static vg_status take_nodes(planner *pl)
{
    vg_program *p = pl->p;
    p->nodes = vg_new0_array(pl->g->n_nodes, sizeof *p->nodes);
    p->infos = vg_new0_array(pl->g->n_nodes, sizeof *p->infos);
    VG_CHECK(p->nodes && p->infos, VG_E_NOMEM, "no memory for a program of %zu nodes", pl->g->n_nodes);
    for (size_t i = 0; i < pl->g->n_nodes; i++) {
        if (!pl->needs.node[i]) continue;
        VG_TRY(take_node(pl, &pl->g->nodes[i], p->n_nodes));
        VG_TRY(ask_backend(pl, &pl->g->nodes[i], p->n_nodes));
        p->n_nodes++;
    }
    return VG_OK;
}

static vg_status take_outputs(planner *pl)
{
    vg_program *p = pl->p;
    p->outputs = vg_new0_array(pl->g->n_kept, sizeof *p->outputs);
    VG_CHECK(p->outputs, VG_E_NOMEM, "no memory for the outputs of a program");
    for (size_t i = 0; i < pl->g->n_kept; i++) {
        const vg_graph_kept *kept = &pl->g->kept[i];
        vg_program_output_entry *out = &p->outputs[p->n_outputs++];
        *out = (vg_program_output_entry){.name = vg_copy_string(kept->name),
                                         .at = locate(pl, kept->value),
                                         .shape = pl->g->values[kept->value].shape,
                                         .bytes = value_bytes(&pl->g->values[kept->value]),
                                         .offset = p->outbox_bytes};
        VG_CHECK(out->name, VG_E_NOMEM, "no memory for the output %s", kept->name);
        p->outbox_bytes += vg_round_up(out->bytes, ALIGN);
        if (out->at.place == VG_PLACE_ARENA) p->temporaries[out->at.index].last = p->n_nodes; /* to the end */
    }
    return VG_OK;
}

static vg_status place(planner *pl)
{
    vg_program *p = pl->p;
    VG_TRY(vg_place_temporaries(p->temporaries, p->n_temporaries, &p->arena_bytes));
    vg_refs *refs = &p->refs[VG_PLACE_ARENA];
    for (size_t i = 0; i < refs->n; i++) refs->items[i].at.offset = p->temporaries[refs->items[i].at.index].offset;
    for (size_t i = 0; i < p->n_outputs; i++) {
        vg_location *at = &p->outputs[i].at;
        if (at->place == VG_PLACE_ARENA) at->offset = p->temporaries[at->index].offset;
    }
    return VG_OK;
}

static vg_status fill(planner *pl)
{
    const vg_graph *g = pl->g;
    pl->needs.value = vg_new0_array(g->n_values, sizeof(bool));
    pl->needs.node = vg_new0_array(g->n_nodes, sizeof(bool));
    pl->temporary = vg_new0_array(g->n_values, sizeof(int));
    pl->input = vg_new0_array(g->n_values, sizeof(int));
    pl->reader = vg_new0_array(g->n_values, sizeof(size_t));
    pl->offset = vg_new0_array(g->n_values, sizeof(size_t));
    pl->trained = vg_new0_array((size_t)g->params->n, sizeof(bool));
    VG_CHECK(pl->needs.value && pl->needs.node && pl->temporary && pl->input && pl->reader && pl->offset && pl->trained,
             VG_E_NOMEM, "no memory to plan %zu nodes", g->n_nodes);
    for (size_t i = 0; i < g->n_values; i++) {
        pl->temporary[i] = -1;
        if (g->values[i].kind == VG_VALUE_GRADIENT) pl->trained[g->values[i].param] = true;
    }
    find_needs(g, &pl->needs);
    find_last_readers(pl);
    VG_TRY(check_backend(g, &pl->needs, pl->p->backend));
    VG_TRY(take_inputs(pl));
    VG_TRY(take_constants(pl));
    VG_TRY(take_scopes(pl));
    VG_TRY(take_nodes(pl));
    VG_TRY(take_outputs(pl));
    return place(pl);
}

vg_status vg_graph_plan(vg_graph *g, const vg_backend *backend, int n_threads, vg_program **out)
{
    VG_TRY(vg_graph_status(g));
    vg_program *p = vg_new0(sizeof *p);
    VG_CHECK(p, VG_E_NOMEM, "no memory for a program");
    p->backend = backend;
    p->stream.n_threads = n_threads;
    p->params = g->params;
    p->may_record = true;
    planner pl = {.g = g, .p = p};
    const vg_status st = fill(&pl);
    free(pl.needs.value);
    free(pl.needs.node);
    free(pl.temporary);
    free(pl.input);
    free(pl.reader);
    free(pl.offset);
    free(pl.trained);
    if (st != VG_OK) {
        vg_program_free(p);
        return st;
    }
    *out = p;
    return VG_OK;
}
