/* Parameters live in one flat space. The trainable ones of a stage lie in one fp32 master buffer in the order in which
 * backward completes their gradients; gradients, moments and the average mirror the offsets. Frozen ones lie in a
 * second buffer. Every parameter starts at a multiple of VG_PARAM_BLOCK floats: a block belongs to one parameter and is
 * the unit of the learning-rate table, the norm and the hash. Padding is 0 in every buffer and stays so.
 *
 *     vg_params *p; VG_TRY(vg_params_new(&p));
 *     ... builders call vg_params_add, the trainer fills values with vg_params_data ...
 *     VG_TRY(vg_params_layout(p, order, n_order));      stage entry: values move, moments are fresh
 *     VG_TRY(vg_params_place(p, device, &stream));      kernels work on copies in a device's memory
 *     ... steps ...
 *     VG_TRY(vg_params_fetch(p));                       before the host reads what they changed */
#ifndef VG_KERNELS_PARAMS_H
#define VG_KERNELS_PARAMS_H

#include "kernels/tensor.h"

enum { VG_PARAM_BLOCK = 1024, VG_NORM_LANES = 1024 };

typedef struct vg_param {
    char *name; /* `vision.blocks.0.norm1.weight`: see the model's naming */
    vg_shape shape;
    int64_t count;  /* elements */
    bool trainable; /* of the current layout */
    int64_t offset; /* floats, in master when trainable, else in frozen; -1 before a layout knows it */
} vg_param;

struct vg_device_ops;
struct vg_stream;

/* One set of the buffers. */
typedef struct vg_param_space {
    float *master, *moment1, *moment2; /* [n_trainable]; the moments NULL where they are elsewhere */
    float *average;                    /* [n_trainable], NULL unless kept; starts as a copy of master */
    float *frozen;                     /* [n_frozen] */
    vg_bf16 *mirror;                   /* [n_trainable + n_frozen] master and frozen in bf16; NULL unless wanted */
} vg_param_space;

typedef struct vg_params {
    vg_param *items;
    int n;
    size_t capacity;
    int64_t n_trainable, n_frozen;            /* floats with padding */
    float *master, *moment1, *moment2;        /* [n_trainable]; the moments NULL where they are elsewhere */
    float *average;                           /* [n_trainable], NULL unless kept; starts as a copy of master */
    bool keep_average;                        /* set before vg_params_layout */
    bool moments_elsewhere;                   /* set before vg_params_layout: others keep the moments */
    float *frozen;                            /* [n_frozen] */
    vg_arena trainable_memory, frozen_memory; /* hold the above */

    /* Set before vg_params_place on a device: keeps bf16 copies of all values there, made by this (vg_backend.to_bf16).
     */
    vg_status (*to_bf16)(struct vg_stream *stream, vg_bf16 *to, const float *from, int64_t n);
    vg_param_space at;                  /* where kernels work: the above, or their place on a device */
    const struct vg_device_ops *device; /* NULL on the host */
    struct vg_stream *stream;
    vg_arena device_trainable, device_frozen, device_mirror;
} vg_params;

vg_status vg_params_new(vg_params **out);
void vg_params_free(vg_params *params);

/* The index of a parameter, made on first use (frozen, zero) and found afterwards. Errors: VG_E_SHAPE when the name is
 * known with another shape. New parameters have storage only after the next vg_params_layout. */
vg_status vg_params_add(vg_params *params, const char *name, const vg_shape *shape, int *index);
int vg_params_find(const vg_params *params, const char *name); /* -1 when there is none */

/* Lays the space out anew: order[n_order] are the trainable ones, first-complete first; all others are frozen. Values
 * are kept, moments are zero. Pointers into the old buffers are void. Errors: VG_E_NOMEM, VG_E_BUG (an index that is
 * unknown or comes twice); everything is then as it was. */
vg_status vg_params_layout(vg_params *params, const int *order, int n_order);

/* Gives a frozen parameter another shape and values (copied): a position table resampled to another grid. Pointers into
 * the frozen buffer are void. Errors: VG_E_NOMEM, VG_E_BUG (trainable, or not laid out); everything is then as it was.
 */
vg_status vg_params_reshape(vg_params *params, int index, const vg_shape *shape, const float *values);

/* Where a parameter's values are now, [count] floats; NULL before the first layout that knows it. On the host, and
 * where kernels read and write them. */
float *vg_params_data(const vg_params *params, int index);
float *vg_params_at(const vg_params *params, int index);
/* Its bf16 copy, for kernels; NULL where there is none. */
vg_bf16 *vg_params_mirror_at(const vg_params *params, int index);

/* Gives kernels copies of all buffers in a device's memory, until the next layout (device and stream are kept until
 * then); on the host they go on with the buffers themselves. Errors: VG_E_NOMEM,
 * VG_E_DEVICE. */
vg_status vg_params_place(vg_params *params, const struct vg_device_ops *device, struct vg_stream *stream);

/* Host to device: all values, where the host changed some. Device to host: what trains with what mirrors it, once the
 * stream has got there. Nothing to do on the host. Errors: VG_E_DEVICE. */
vg_status vg_params_send(vg_params *params);
vg_status vg_params_fetch(vg_params *params);

/* Enqueues the bf16 copies of what trains anew, after kernels changed it. Nothing to do where there are none. */
vg_status vg_params_mirror(vg_params *params);

/* Exchanges what trains with its average, here and on the device; there must be one. Errors: VG_E_DEVICE. */
vg_status vg_params_swap_average(vg_params *params);

/* Bytes of the current layout: master, both moments unless they are elsewhere, the average where kept, n_gradients
 * buffers that mirror master, the frozen buffer, and the bf16 copies where wanted. */
size_t vg_params_bytes(const vg_params *params, int n_gradients);

#endif
