/* A program at work: memory, bindings, the walk over its nodes. */
#include "kernels/program_impl.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

/* Whether the device's memory is apart from the host's. */
static bool is_apart(const vg_program *p)
{
    return p->backend->device != &vg_host_device;
}

static void forget_runs(vg_program *p)
{
    while (p->n_recorded) p->backend->device->capture_free(p->recorded[--p->n_recorded].capture);
    p->warm = false;
}

/* Gives back what the program holds on its device. */
static void detach(vg_program *p)
{
    const vg_device_ops *d = p->backend->device;
    if (!p->attached) return;
    forget_runs(p);
    d->release(&p->stream, &p->packed);
    d->release(&p->stream, &p->device_constants);
    d->release(&p->stream, &p->landing);
    d->release(&p->stream, &p->inbox);
    d->release_staging(&p->stream, &p->staging);
    d->release_staging(&p->stream, &p->outbox);
    d->close(&p->copies);
    p->attached = p->under_way = p->staged = false;
}

void vg_program_free(vg_program *p)
{
    if (!p) return;
    for (int i = 0; i < VG_PLACES; i++) free(p->refs[i].items);
    for (size_t i = 0; i < p->n_inputs; i++) free(p->inputs[i].name);
    for (size_t i = 0; i < p->n_outputs; i++) free(p->outputs[i].name);
    for (size_t i = 0; i < p->n_scopes; i++) free(p->scopes[i]);
    detach(p);
    vg_arena_release(&p->constants);
    free(p->recorded);
    free(p->parts);
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

/* Parameters are packed while nothing trains them. */
static bool is_packed(const vg_program *p, const vg_node_info *info)
{
    for (int i = 0; i < info->n_frozen; i++)
        if (p->params->items[info->frozen[i]].trainable) return false;
    return info->packed_bytes > 0;
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

size_t vg_program_input_bytes(const vg_program *p)
{
    return 2 * p->inbox_bytes; /* those of a run, and the next ones */
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
    case VG_PLACE_CONSTANT: return behind(is_apart(p) ? p->device_constants.base : p->constants.base, at->offset);
    case VG_PLACE_INPUT:
        return is_apart(p) ? p->inbox.base + p->inputs[at->index].offset : (void *)p->inputs[at->index].data;
    case VG_PLACE_PARAM: return behind(vg_params_at(p->params, at->index), at->offset);
    case VG_PLACE_MIRROR: return behind(vg_params_mirror_at(p->params, at->index), at->offset);
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
    const size_t bytes = packed_bytes(p);
    if (bytes) VG_TRY(p->backend->device->allocate(&p->stream, bytes, &p->packed));
    size_t offset = 0;
    for (int i = 0; i < p->n_nodes; i++) {
        if (!is_packed(p, &p->infos[i])) continue;
        VG_TRY(p->backend->pack(&p->stream, &p->nodes[i], p->packed.base + offset));
        p->nodes[i].packed = p->packed.base + offset;
        offset += vg_round_up(p->infos[i].packed_bytes, ALIGN);
    }
    return VG_OK;
}

/* A parameter's place must be known, in this program's kind of memory, and be trainable exactly where the program
 * writes its gradient. */
static vg_status check_layout(const vg_program *p)
{
    VG_CHECK((p->params->device ? p->params->device : &vg_host_device) == p->backend->device, VG_E_BUG,
             "the parameters are not on the device of the %s backend; call vg_params_place before attach",
             p->backend->name);
    for (size_t i = 0; i < p->refs[VG_PLACE_PARAM].n; i++) {
        const vg_param *param = &p->params->items[p->refs[VG_PLACE_PARAM].items[i].at.index];
        VG_CHECK(param->offset >= 0, VG_E_BUG, "parameter %s has no storage; lay the parameters out before attach",
                 param->name);
    }
    VG_CHECK(!p->refs[VG_PLACE_MIRROR].n || p->params->at.mirror, VG_E_BUG,
             "the program reads bf16 copies of parameters, and there are none");
    for (size_t i = 0; i < p->refs[VG_PLACE_GRADIENT].n; i++) {
        const vg_param *param = &p->params->items[p->refs[VG_PLACE_GRADIENT].items[i].at.index];
        VG_CHECK(param->trainable, VG_E_BUG, "parameter %s is frozen in this layout, but the program trains it",
                 param->name);
    }
    return VG_OK;
}

/* What lies on the device beside the arena: constants, and the way in and out. */
static vg_status make_boxes(vg_program *p)
{
    const vg_device_ops *d = p->backend->device;
    VG_TRY(d->allocate(&p->stream, p->constants_bytes, &p->device_constants));
    VG_TRY(d->open_beside(&p->stream, &p->copies));
    VG_TRY(d->allocate(&p->stream, p->inbox_bytes, &p->landing));
    VG_TRY(d->allocate(&p->stream, p->inbox_bytes, &p->inbox));
    VG_TRY(d->allocate_staging(&p->stream, p->inbox_bytes, &p->staging));
    VG_TRY(d->allocate_staging(&p->stream, p->outbox_bytes, &p->outbox));
    VG_TRY(d->upload(&p->stream, p->device_constants.base, p->constants.base, p->constants_bytes));
    return d->wait(&p->stream);
}

vg_status vg_program_attach(vg_program *p, void *arena)
{
    const vg_stream *stream = p->params->stream;
    VG_TRY(check_layout(p));
    detach(p);
    p->stream.cuda = stream ? stream->cuda : NULL;
    p->arena = arena;
    p->attached = true;
    if (is_apart(p)) VG_TRY(make_boxes(p));
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

vg_status vg_program_bind(vg_program *p, const char *name, const void *data)
{
    for (size_t i = 0; i < p->n_inputs; i++) {
        if (strcmp(p->inputs[i].name, name) != 0) continue;
        p->inputs[i].data = data;
        p->inputs[i].fresh = true;
        if (!is_apart(p)) resolve_refs(p, VG_PLACE_INPUT);
        return VG_OK;
    }
    return vg_fail(VG_E_BUG, "the program has no input '%s'", name);
}

const void *vg_program_output(const vg_program *p, const char *name, vg_shape *shape)
{
    for (size_t i = 0; i < p->n_outputs; i++) {
        const vg_program_output_entry *out = &p->outputs[i];
        if (strcmp(out->name, name) != 0) continue;
        if (shape) *shape = out->shape;
        return is_apart(p) ? behind(p->outbox.base, out->offset) : resolve(p, &out->at);
    }
    return NULL;
}

/* --- the walk --- */

static vg_status check_bindings(const vg_program *p)
{
    VG_CHECK(p->attached, VG_E_BUG, "the program has no arena; call vg_program_attach first");
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
    vg_status st = p->backend->kernels[node->op](&p->stream, node);
    if (p->profiling) {
        if (st == VG_OK) st = p->backend->device->wait(&p->stream);
        info->seconds += vg_now_s() - start;
        info->runs++;
    }
    if (st == VG_OK) return VG_OK;
    const char *scope = p->scopes[info->scope];
    return vg_fail_at(st, "%s%s%s", scope, *scope ? ": " : "", vg_op_name(node->op));
}

/* --- parts of a run --- */

/* Where backward begins. */
static int first_writer(const vg_program *p)
{
    const vg_refs *refs = &p->refs[VG_PLACE_GRADIENT];
    int node = p->n_nodes;
    for (size_t i = 0; i < refs->n; i++)
        if (refs->items[i].node < node) node = refs->items[i].node;
    return node;
}

/* The first node behind all that write gradients below `end`: order of completion is order of offsets. */
static int node_behind(const vg_program *p, int64_t end)
{
    const vg_refs *refs = &p->refs[VG_PLACE_GRADIENT];
    int node = first_writer(p);
    for (size_t i = 0; i < refs->n; i++)
        if (p->params->items[refs->items[i].at.index].offset < end && refs->items[i].node >= node)
            node = refs->items[i].node + 1;
    return node;
}

vg_status vg_program_tell(vg_program *p, const int64_t *ends, int n, vg_program_told told, void *context)
{
    vg_program_part *parts = vg_new0_array((size_t)n, sizeof *parts);
    VG_CHECK(parts || !n, VG_E_NOMEM, "no memory for the parts of a program");
    for (int i = 0; i < n; i++)
        parts[i] = (vg_program_part){.end_node = i + 1 < n ? node_behind(p, ends[i]) : p->n_nodes, .end = ends[i]};
    forget_runs(p);
    free(p->parts);
    p->parts = parts;
    p->n_parts = n;
    p->told = told;
    p->told_context = context;
    return VG_OK;
}

static int count_parts(const vg_program *p)
{
    return p->n_parts ? p->n_parts : 1;
}

static int first_node(const vg_program *p, int part)
{
    return part ? p->parts[part - 1].end_node : 0;
}

static int end_node(const vg_program *p, int part)
{
    return p->n_parts ? p->parts[part].end_node : p->n_nodes;
}

static vg_status walk_part(vg_program *p, int part)
{
    for (int i = first_node(p, part); i < end_node(p, part); i++) {
        if (!is_apart(p)) VG_TRY(vg_stop_check());
        VG_TRY(run_node(p, i));
    }
    return VG_OK;
}

static vg_status tell_part(const vg_program *p, int part)
{
    return p->n_parts ? p->told(p->told_context, p->parts[part].end) : VG_OK;
}

static vg_status walk(vg_program *p)
{
    for (int part = 0; part < count_parts(p); part++) {
        VG_TRY(walk_part(p, part));
        VG_TRY(tell_part(p, part));
    }
    return VG_OK;
}

/* --- the walk on a device apart --- */

static void put_input(vg_program *p, vg_program_input *input)
{
    memcpy(p->staging.base + input->offset, input->data, input->bytes);
    input->fresh = false;
}

/* The landing place is free when the copy out of it is done, which comes before this one on the same stream. */
static vg_status stage_inputs(vg_program *p)
{
    const vg_device_ops *d = p->backend->device;
    VG_TRY(d->wait(&p->copies)); /* the staging memory is free again */
    for (size_t i = 0; i < p->n_inputs; i++)
        if (p->inputs[i].read && p->inputs[i].data) put_input(p, &p->inputs[i]);
    p->staged = true;
    return d->upload(&p->copies, p->landing.base, p->staging.base, p->inbox_bytes);
}

/* What was bound since the others were staged. */
static vg_status stage_rest(vg_program *p)
{
    const vg_device_ops *d = p->backend->device;
    VG_TRY(d->wait(&p->copies));
    for (size_t i = 0; i < p->n_inputs; i++) {
        vg_program_input *input = &p->inputs[i];
        if (!input->read || !input->fresh) continue;
        put_input(p, input);
        VG_TRY(d->upload(&p->copies, p->landing.base + input->offset, p->staging.base + input->offset, input->bytes));
    }
    return VG_OK;
}

/* The run before has been waited for: nobody reads the inbox. */
static vg_status take_inputs(vg_program *p)
{
    const vg_device_ops *d = p->backend->device;
    VG_TRY(p->staged ? stage_rest(p) : stage_inputs(p));
    p->staged = false;
    VG_TRY(d->copy(&p->copies, p->inbox.base, p->landing.base, p->inbox_bytes));
    return d->follow(&p->stream, &p->copies);
}

/* Outputs go with the last part. */
static vg_status enqueue_part(vg_program *p, int part)
{
    const vg_device_ops *d = p->backend->device;
    VG_TRY(walk_part(p, part));
    for (size_t i = 0; i < p->n_outputs && part + 1 == count_parts(p); i++) {
        const vg_program_output_entry *out = &p->outputs[i];
        VG_TRY(d->download(&p->stream, p->outbox.base + out->offset, resolve(p, &out->at), out->bytes));
    }
    return VG_OK;
}

/* Several offsets may fall into one parameter. */
static bool has_work(const vg_program *p, int part)
{
    return part + 1 == count_parts(p) || first_node(p, part) < end_node(p, part);
}

/* The part with the gradients where they are now, recorded on first use. */
static vg_status find_recorded(vg_program *p, int part, vg_capture **out)
{
    const vg_device_ops *d = p->backend->device;
    for (size_t i = 0; i < p->n_recorded; i++)
        if (p->recorded[i].gradients == p->gradients && p->recorded[i].part == part) {
            *out = p->recorded[i].capture;
            return VG_OK;
        }
    VG_TRY(vg_grow(&p->recorded, &p->recorded_capacity, p->n_recorded + 1, sizeof *p->recorded));
    VG_TRY(d->capture_begin(&p->stream));
    vg_status st = enqueue_part(p, part);
    VG_KEEP(st, d->capture_end(&p->stream, out));
    if (st == VG_OK)
        p->recorded[p->n_recorded++] = (vg_recorded_part){p->gradients, part, *out};
    else if (*out)
        d->capture_free(*out);
    return st;
}

static vg_status replay_part(vg_program *p, int part)
{
    vg_capture *recorded = NULL;
    VG_TRY(find_recorded(p, part, &recorded));
    return p->backend->device->replay(&p->stream, recorded);
}

static vg_status run_apart(vg_program *p)
{
    const vg_device_ops *d = p->backend->device;
    const bool record = p->may_record && p->warm && !p->profiling && d->capture_begin;
    VG_TRY(vg_program_wait(p)); /* inbox and outbox are free again */
    VG_TRY(take_inputs(p));
    p->under_way = p->warm = true;
    for (int part = 0; part < count_parts(p); part++) {
        if (has_work(p, part)) VG_TRY(record ? replay_part(p, part) : enqueue_part(p, part));
        VG_TRY(tell_part(p, part));
    }
    return VG_OK;
}

vg_status vg_program_stage(vg_program *p)
{
    VG_CHECK(p->attached, VG_E_BUG, "the program has no arena; call vg_program_attach first");
    return is_apart(p) ? stage_inputs(p) : VG_OK;
}

vg_status vg_program_run(vg_program *p)
{
    VG_TRY(check_bindings(p));
    return is_apart(p) ? run_apart(p) : walk(p);
}

vg_status vg_program_wait(vg_program *p)
{
    if (!p->under_way) return VG_OK;
    p->under_way = false;
    return p->backend->device->wait(&p->stream);
}

void vg_program_record(vg_program *p, bool on)
{
    p->may_record = on;
}
