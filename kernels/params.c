#include "kernels/params.h"

#include "kernels/backend.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_PARAM_FLOATS = 1 << 30 }; /* of one parameter: any table of a model we know, far below overflow */

vg_status vg_params_new(vg_params **out)
{
    vg_params *params = vg_new0(sizeof *params);
    VG_CHECK(params, VG_E_NOMEM, "no memory for a parameter space");
    *out = params;
    return VG_OK;
}

static void work_on_host(vg_params *params)
{
    params->device = NULL;
    params->stream = NULL;
    params->device_trainable = params->device_frozen = params->device_mirror = (vg_arena){0};
    params->at = (vg_param_space){.master = params->master,
                                  .moment1 = params->moment1,
                                  .moment2 = params->moment2,
                                  .average = params->average,
                                  .frozen = params->frozen};
}

static void leave_device(vg_params *params)
{
    if (params->device) {
        params->device->release(params->stream, &params->device_trainable);
        params->device->release(params->stream, &params->device_frozen);
        params->device->release(params->stream, &params->device_mirror);
    }
    work_on_host(params);
}

void vg_params_free(vg_params *params)
{
    if (!params) return;
    leave_device(params);
    for (int i = 0; i < params->n; i++) free(params->items[i].name);
    free(params->items);
    vg_arena_release(&params->trainable_memory);
    vg_arena_release(&params->frozen_memory);
    free(params);
}

int vg_params_find(const vg_params *params, const char *name)
{
    for (int i = 0; i < params->n; i++)
        if (strcmp(params->items[i].name, name) == 0) return i;
    return -1;
}

/* Counts the elements of a parameter's shape; numbers may come from a file. */
static vg_status count_of(const char *name, const vg_shape *shape, int64_t *count)
{
    int64_t n = 1;
    VG_CHECK(shape->rank >= 1 && shape->rank <= VG_MAX_RANK, VG_E_SHAPE, "parameter %s has %d axes; 1 to %d are known",
             name, shape->rank, VG_MAX_RANK);
    for (int i = 0; i < shape->rank; i++) {
        VG_CHECK(shape->dim[i] >= 1 && shape->dim[i] <= MAX_PARAM_FLOATS / n, VG_E_SHAPE,
                 "parameter %s: axis %d of %lld does not fit; a parameter holds 1 to %d numbers", name, i,
                 (long long)shape->dim[i], MAX_PARAM_FLOATS);
        n *= shape->dim[i];
    }
    *count = n;
    return VG_OK;
}

vg_status vg_params_add(vg_params *params, const char *name, const vg_shape *shape, int *index)
{
    const int known = vg_params_find(params, name);
    if (known >= 0) {
        char have[64], want[64];
        VG_CHECK(vg_shape_equal(&params->items[known].shape, shape), VG_E_SHAPE,
                 "parameter %s is %s and asked for as %s", name, vg_shape_text(&params->items[known].shape, have),
                 vg_shape_text(shape, want));
        *index = known;
        return VG_OK;
    }
    int64_t count = 0;
    VG_TRY(count_of(name, shape, &count));
    VG_TRY(vg_grow(&params->items, &params->capacity, (size_t)params->n + 1, sizeof *params->items));
    char *copy = vg_copy_string(name);
    VG_CHECK(copy, VG_E_NOMEM, "no memory for parameter %s", name);
    params->items[params->n] = (vg_param){.name = copy, .shape = *shape, .count = count, .offset = -1};
    *index = params->n++;
    return VG_OK;
}

float *vg_params_data(const vg_params *params, int index)
{
    const vg_param *p = &params->items[index];
    if (p->offset < 0) return NULL;
    return (p->trainable ? params->master : params->frozen) + p->offset;
}

float *vg_params_at(const vg_params *params, int index)
{
    const vg_param *p = &params->items[index];
    if (p->offset < 0) return NULL;
    return (p->trainable ? params->at.master : params->at.frozen) + p->offset;
}

vg_bf16 *vg_params_mirror_at(const vg_params *params, int index)
{
    const vg_param *p = &params->items[index];
    if (p->offset < 0 || !params->at.mirror) return NULL;
    return params->at.mirror + (p->trainable ? 0 : params->n_trainable) + p->offset;
}

static size_t mirror_bytes(const vg_params *params)
{
    return params->to_bf16 ? (size_t)(params->n_trainable + params->n_frozen) * sizeof(vg_bf16) : 0;
}

/* Of what trains, in one piece: master, its moments where they belong to it, the average. */
static size_t n_buffers(const vg_params *params)
{
    return (params->moments_elsewhere ? 1 : 3) + (size_t)params->keep_average;
}

size_t vg_params_bytes(const vg_params *params, int n_gradients)
{
    const size_t buffers = n_buffers(params) + (size_t)n_gradients;
    return sizeof(float) * ((size_t)params->n_trainable * buffers + (size_t)params->n_frozen) + mirror_bytes(params);
}

static int64_t blocks_of(int64_t count)
{
    return (int64_t)vg_round_up((size_t)count, VG_PARAM_BLOCK);
}

/* Gives the trainable ones their place in the order asked for. */
static vg_status place_trainable(vg_params *next, const int *order, int n_order)
{
    for (int i = 0; i < next->n; i++) next->items[i].trainable = false;
    next->n_trainable = 0;
    for (int i = 0; i < n_order; i++) {
        VG_CHECK(order[i] >= 0 && order[i] < next->n, VG_E_BUG, "layout: parameter %d of %d is unknown", order[i],
                 next->n);
        vg_param *p = &next->items[order[i]];
        VG_CHECK(!p->trainable, VG_E_BUG, "layout: parameter %s comes twice", p->name);
        p->trainable = true;
        p->offset = next->n_trainable;
        next->n_trainable += blocks_of(p->count);
    }
    return VG_OK;
}

static void place_frozen(vg_params *next)
{
    next->n_frozen = 0;
    for (int i = 0; i < next->n; i++) {
        vg_param *p = &next->items[i];
        if (p->trainable) continue;
        p->offset = next->n_frozen;
        next->n_frozen += blocks_of(p->count);
    }
}

/* Of what trains, the buffers in memory that has room for them. */
static vg_param_space space_at(const vg_params *params, unsigned char *base)
{
    const size_t n = (size_t)params->n_trainable;
    vg_param_space space = {.master = (float *)(void *)base};
    if (!params->moments_elsewhere) {
        space.moment1 = space.master + n;
        space.moment2 = space.master + 2 * n;
    }
    if (params->keep_average) space.average = space.master + (n_buffers(params) - 1) * n;
    return space;
}

static vg_status map_trainable(vg_params *next)
{
    next->trainable_memory = (vg_arena){0};
    VG_TRY(vg_arena_init(&next->trainable_memory, n_buffers(next) * (size_t)next->n_trainable * sizeof(float)));
    const vg_param_space host = space_at(next, next->trainable_memory.base);
    next->master = host.master;
    next->moment1 = host.moment1;
    next->moment2 = host.moment2;
    next->average = host.average;
    return VG_OK;
}

static vg_status map_frozen(vg_params *next)
{
    next->frozen_memory = (vg_arena){0};
    VG_TRY(vg_arena_init(&next->frozen_memory, (size_t)next->n_frozen * sizeof(float)));
    next->frozen = (float *)(void *)next->frozen_memory.base;
    return VG_OK;
}

/* A copy of params whose items can be placed anew while the old ones still tell where the values are. */
static vg_status next_of(const vg_params *params, vg_params *next)
{
    *next = *params;
    next->items = vg_new0_array(params->capacity, sizeof *next->items);
    VG_CHECK(next->items, VG_E_NOMEM, "no memory to lay out %d parameters", params->n);
    if (params->n) memcpy(next->items, params->items, (size_t)params->n * sizeof *next->items);
    return VG_OK;
}

static void copy_values(const vg_params *params, const vg_params *next, int index)
{
    const float *values = vg_params_data(params, index);
    if (values) memcpy(vg_params_data(next, index), values, (size_t)params->items[index].count * sizeof(float));
}

vg_status vg_params_layout(vg_params *params, const int *order, int n_order)
{
    vg_params next;
    VG_TRY(next_of(params, &next));
    vg_status st = place_trainable(&next, order, n_order);
    if (st == VG_OK) {
        place_frozen(&next);
        st = map_trainable(&next);
    }
    if (st == VG_OK) {
        st = map_frozen(&next);
        if (st != VG_OK) vg_arena_release(&next.trainable_memory);
    }
    if (st != VG_OK) {
        free(next.items);
        return st;
    }
    for (int i = 0; i < params->n; i++) copy_values(params, &next, i);
    if (next.average && next.n_trainable) memcpy(next.average, next.master, (size_t)next.n_trainable * sizeof(float));
    leave_device(params);
    vg_arena_release(&params->trainable_memory);
    vg_arena_release(&params->frozen_memory);
    free(params->items);
    *params = next;
    work_on_host(params);
    return VG_OK;
}

vg_status vg_params_reshape(vg_params *params, int index, const vg_shape *shape, const float *values)
{
    const vg_param *p = &params->items[index];
    VG_CHECK(!p->trainable && p->offset >= 0 && !params->device, VG_E_BUG,
             "parameter %s cannot change its shape: it is %s", p->name,
             p->trainable     ? "trainable"
             : p->offset >= 0 ? "on a device"
                              : "not laid out yet");
    int64_t count = 0;
    VG_TRY(count_of(p->name, shape, &count));
    vg_params next;
    VG_TRY(next_of(params, &next));
    next.items[index].shape = *shape;
    next.items[index].count = count;
    place_frozen(&next);
    const vg_status st = map_frozen(&next);
    if (st != VG_OK) {
        free(next.items);
        return st;
    }
    for (int i = 0; i < params->n; i++)
        if (i != index && !params->items[i].trainable) copy_values(params, &next, i);
    memcpy(vg_params_data(&next, index), values, (size_t)count * sizeof(float));
    vg_arena_release(&params->frozen_memory);
    free(params->items);
    *params = next;
    work_on_host(params);
    return VG_OK;
}

/* ---- on a device ---- */

static size_t trainable_bytes(const vg_params *params)
{
    return n_buffers(params) * (size_t)params->n_trainable * sizeof(float);
}

static size_t frozen_bytes(const vg_params *params)
{
    return (size_t)params->n_frozen * sizeof(float);
}

static void find_buffers(vg_params *params)
{
    params->at = space_at(params, params->device_trainable.base);
    params->at.frozen = (float *)(void *)params->device_frozen.base;
    if (params->to_bf16) params->at.mirror = (vg_bf16 *)(void *)params->device_mirror.base;
}

vg_status vg_params_place(vg_params *params, const vg_device_ops *device, vg_stream *stream)
{
    leave_device(params);
    if (device == &vg_host_device) return VG_OK;
    params->device = device;
    params->stream = stream;
    vg_status st = device->allocate(stream, trainable_bytes(params), &params->device_trainable);
    if (st == VG_OK) st = device->allocate(stream, frozen_bytes(params), &params->device_frozen);
    if (st == VG_OK) st = device->allocate(stream, mirror_bytes(params), &params->device_mirror);
    if (st == VG_OK) {
        find_buffers(params);
        st = vg_params_send(params);
    }
    if (st != VG_OK) leave_device(params);
    return st;
}

vg_status vg_params_mirror(vg_params *params)
{
    if (!params->at.mirror) return VG_OK;
    return params->to_bf16(params->stream, params->at.mirror, params->at.master, params->n_trainable);
}

vg_status vg_params_send(vg_params *params)
{
    const vg_device_ops *d = params->device;
    if (!d) return VG_OK;
    VG_TRY(d->upload(params->stream, params->at.master, params->master, trainable_bytes(params)));
    VG_TRY(d->upload(params->stream, params->at.frozen, params->frozen, frozen_bytes(params)));
    VG_TRY(vg_params_mirror(params));
    if (params->at.mirror)
        VG_TRY(params->to_bf16(params->stream, params->at.mirror + params->n_trainable, params->at.frozen,
                               params->n_frozen));
    return d->wait(params->stream);
}

vg_status vg_params_fetch(vg_params *params)
{
    const vg_device_ops *d = params->device;
    if (!d) return VG_OK;
    VG_TRY(d->download(params->stream, params->master, params->at.master, trainable_bytes(params)));
    return d->wait(params->stream);
}

vg_status vg_params_swap_average(vg_params *params)
{
    VG_TRY(vg_params_fetch(params));
    for (int64_t i = 0; i < params->n_trainable; i++) {
        const float value = params->master[i];
        params->master[i] = params->average[i];
        params->average[i] = value;
    }
    return vg_params_send(params);
}
