/* A program at work: memory, bindings, the walk over its nodes. */
#include "kernels/program_impl.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

void vg_program_free(vg_program *p)
{
    if (!p) return;
    for (int i = 0; i < VG_PLACES; i++) free(p->refs[i].items);
    for (size_t i = 0; i < p->n_inputs; i++) free(p->inputs[i].name);
    for (size_t i = 0; i < p->n_outputs; i++) free(p->outputs[i].name);
    for (size_t i = 0; i < p->n_scopes; i++) free(p->scopes[i]);
    vg_arena_release(&p->constants);
    vg_arena_release(&p->packed);
    free(p->inputs);
    free(p->outputs);
    free(p->scopes);
    free(p->temporaries);
    free(p->infos);
    free(p->nodes);
    free(p);
}

size_t vg_program_arena_bytes(const vg_program *p)
{
    return p->arena_bytes;
}

/* A weight is packed while nothing trains it. */
static bool is_packed(const vg_program *p, const vg_node_info *info)
{
    return info->frozen >= 0 && !p->params->items[info->frozen].trainable;
}

static size_t packed_bytes(const vg_program *p)
{
    size_t bytes = 0;
    for (int i = 0; i < p->n_nodes; i++)
        if (is_packed(p, &p->infos[i])) bytes += vg_round_up(p->infos[i].packed_bytes, ALIGN);
    return bytes;
}

size_t vg_program_constant_bytes(const vg_program *p)
{
    return p->constants_bytes + packed_bytes(p);
}

/* --- where things lie --- */

static unsigned char *behind(void *base, size_t offset)
{
    return base ? (unsigned char *)base + offset : NULL;
}

static void *resolve(const vg_program *p, const vg_location *at)
{
    switch (at->place) {
    case VG_PLACE_ARENA: return behind(p->arena, at->offset);
    case VG_PLACE_CONSTANT: return behind(p->constants.base, at->offset);
    case VG_PLACE_INPUT: return p->inputs[at->index].data;
    case VG_PLACE_PARAM: return behind(vg_params_data(p->params, at->index), at->offset);
    case VG_PLACE_GRADIENT:
        return behind(p->gradients, (size_t)p->params->items[at->index].offset * sizeof(float) + at->offset);
    default: return NULL;
    }
}

static void resolve_refs(const vg_program *p, vg_place place)
{
    const vg_refs *refs = &p->refs[place];
    for (size_t i = 0; i < refs->n; i++) {
        const vg_ref *ref = &refs->items[i];
        vg_node *node = &p->nodes[ref->node];
        (ref->is_output ? node->out : node->in)[ref->slot].data = resolve(p, &ref->at);
    }
}

static vg_status pack_weights(vg_program *p)
{
    for (int i = 0; i < p->n_nodes; i++) p->nodes[i].packed = NULL;
    vg_arena_release(&p->packed);
    const size_t bytes = packed_bytes(p);
    if (bytes) VG_TRY(vg_arena_init(&p->packed, bytes));
    size_t offset = 0;
    for (int i = 0; i < p->n_nodes; i++) {
        if (!is_packed(p, &p->infos[i])) continue;
        p->backend->pack(&p->nodes[i], p->packed.base + offset);
        p->nodes[i].packed = p->packed.base + offset;
        offset += vg_round_up(p->infos[i].packed_bytes, ALIGN);
    }
    return VG_OK;
}

/* A parameter's place must be known, and be trainable exactly where this program writes its gradient. */
static vg_status check_layout(const vg_program *p)
{
    for (size_t i = 0; i < p->refs[VG_PLACE_PARAM].n; i++) {
        const vg_param *param = &p->params->items[p->refs[VG_PLACE_PARAM].items[i].at.index];
        VG_CHECK(param->offset >= 0, VG_E_BUG, "parameter %s has no storage; lay the parameters out before attach",
                 param->name);
    }
    for (size_t i = 0; i < p->refs[VG_PLACE_GRADIENT].n; i++) {
        const vg_param *param = &p->params->items[p->refs[VG_PLACE_GRADIENT].items[i].at.index];
        VG_CHECK(param->trainable, VG_E_BUG, "parameter %s is frozen in this layout, but the program trains it",
                 param->name);
    }
    return VG_OK;
}

vg_status vg_program_attach(vg_program *p, void *arena)
{
    VG_TRY(check_layout(p));
    p->arena = arena;
    for (int place = 0; place < VG_PLACES; place++) resolve_refs(p, (vg_place)place);
    for (int i = 0; i < p->n_nodes; i++) {
        const int workspace = p->infos[i].temporary;
        p->nodes[i].workspace = workspace >= 0 ? p->arena + p->temporaries[workspace].offset : NULL;
    }
    return pack_weights(p);
}

void vg_program_bind_gradients(vg_program *p, float *gradients)
{
    p->gradients = gradients;
    resolve_refs(p, VG_PLACE_GRADIENT);
}

vg_status vg_program_bind(vg_program *p, const char *name, void *data)
{
    for (size_t i = 0; i < p->n_inputs; i++) {
        if (strcmp(p->inputs[i].name, name) != 0) continue;
        p->inputs[i].data = data;
        const vg_refs *refs = &p->refs[VG_PLACE_INPUT];
        for (size_t j = 0; j < refs->n; j++)
            if (refs->items[j].at.index == (int)i) p->nodes[refs->items[j].node].in[refs->items[j].slot].data = data;
        return VG_OK;
    }
    return vg_fail(VG_E_BUG, "the program has no input '%s'", name);
}

void *vg_program_output(const vg_program *p, const char *name, vg_shape *shape)
{
    for (size_t i = 0; i < p->n_outputs; i++) {
        if (strcmp(p->outputs[i].name, name) != 0) continue;
        if (shape) *shape = p->outputs[i].shape;
        return resolve(p, &p->outputs[i].at);
    }
    return NULL;
}

/* --- the walk --- */

static vg_status check_bindings(const vg_program *p)
{
    VG_CHECK(p->arena || !p->arena_bytes, VG_E_BUG, "the program has no arena; call vg_program_attach first");
    VG_CHECK(p->gradients || !p->refs[VG_PLACE_GRADIENT].n, VG_E_BUG, "the program has no gradient buffer");
    for (size_t i = 0; i < p->n_inputs; i++)
        VG_CHECK(p->inputs[i].data || !p->inputs[i].read, VG_E_BUG, "the input '%s' is not bound", p->inputs[i].name);
    return VG_OK;
}

static vg_status run_node(vg_program *p, int i)
{
    const vg_node *node = &p->nodes[i];
    vg_node_info *info = &p->infos[i];
    const double start = p->profiling ? vg_now_s() : 0;
    const vg_status st = p->backend->kernels[node->op](&p->stream, node);
    if (p->profiling) {
        info->seconds += vg_now_s() - start;
        info->runs++;
    }
    if (st == VG_OK) return VG_OK;
    const char *scope = p->scopes[info->scope];
    return vg_fail_at(st, "%s%s%s", scope, *scope ? ": " : "", vg_op_name(node->op));
}

vg_status vg_program_run(vg_program *p)
{
    VG_TRY(check_bindings(p));
    for (int i = 0; i < p->n_nodes; i++) VG_TRY(run_node(p, i));
    return VG_OK;
}
