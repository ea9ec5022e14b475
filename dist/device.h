/* The ranks' devices: a group of GPUs beside the process group, and the canonical sum of gradients that never leave
 * their memory. The tree is that of reduce.h, and so are the bits.
 *
 *     vg_device_group *group;
 *     VG_TRY(vg_device_group_open(comm, &device, &group));
 *     VG_TRY(vg_device_reducer_new(group, &plan, memory, &r));
 *     for (int i = first; i < first + count; i++) {
 *         float *g = vg_device_reducer_leaf(r);
 *         ... enqueue work that writes g; after each part of the last leaf's backward:
 *         VG_TRY(vg_device_reducer_complete(r, end));        gradients below `end` are written by what is enqueued
 *         VG_TRY(vg_device_reducer_push(r, false));
 *     }
 *     VG_TRY(vg_device_reducer_finish(r, &total));
 *     ... enqueue work that reads total ...
 *     VG_TRY(vg_device_group_wait(group));                   before the host waits for that work
 *
 * Two streams of the device take part: the caller computes on one, messages and the sums that they need run on the
 * other beside it. Everything here enqueues and returns; only open, new, wait and close wait. Inside a host ranks sum
 * first, then equal local ranks of the hosts exchange, so that a host sends a total once and not once a rank.
 *
 * A peer that dies, or does not answer within the deadline, ends in VG_E_COMM from whatever call notices it: the group
 * is aborted then, the process group is broken (vg_comm_broken), and the way out is vg_comm_abort. */
#ifndef VG_DIST_DEVICE_H
#define VG_DIST_DEVICE_H

#include "dist/reduce.h"

typedef struct vg_device_group vg_device_group;
typedef struct vg_device_reducer vg_device_reducer;

/* What a device brings, as kernels/backend.h declares it; streams are opaque here. `queue` is what the libraries of the
 * device call a stream (a cudaStream_t). A lone rank may give the same stream twice. Kept until the group is closed. */
typedef struct vg_stream vg_stream;
typedef struct vg_device {
    vg_stream *compute, *exchange;
    vg_status (*sum)(vg_stream *stream, float *dst, const float *a, const float *b, int64_t n); /* dst may be a or b */
    vg_status (*copy)(vg_stream *stream, void *to, const void *from, size_t bytes);
    vg_status (*zero)(vg_stream *stream, void *to, size_t bytes);
    vg_status (*follow)(vg_stream *stream, vg_stream *earlier);
    vg_status (*wait)(vg_stream *stream);
    void *(*queue)(const vg_stream *stream);
    double deadline_s; /* how long a rank waits for the others */
} vg_device;

/* Collective. The device is the calling thread's current one; no two ranks share one. Errors: VG_E_CONFIG (several
 * ranks in a build without NCCL), VG_E_COMM, VG_E_DEVICE, VG_E_NOMEM. */
vg_status vg_device_group_open(vg_comm *comm, const vg_device *device, vg_device_group **out);
/* After vg_device_group_wait it waits for the others, a few seconds; with messages under way it gives them up. NULL is
 * fine. */
void vg_device_group_close(vg_device_group *group);

/* Waits until the exchange stream is empty, looking after the peers meanwhile. */
vg_status vg_device_group_wait(vg_device_group *group);

/* Collective. Bytes of device memory that this rank's reducer needs. Errors: VG_E_NOMEM, VG_E_COMM. */
vg_status vg_device_reducer_bytes(vg_device_group *group, const vg_sum_plan *plan, size_t *bytes);

/* Local. The same for the fullest of n_ranks ranks, host_ranks on a host: for a forecast. Errors: VG_E_NOMEM. */
vg_status vg_device_sum_bytes(const vg_sum_plan *plan, int n_ranks, int host_ranks, size_t *bytes);

/* Collective. `memory` is zeroed device memory of so many bytes, aligned to 64; kept. The ranks' connections are made
 * here. Errors: VG_E_CONFIG (more ranks than leaves), VG_E_NOMEM, VG_E_COMM, VG_E_DEVICE. */
vg_status vg_device_reducer_new(vg_device_group *group, const vg_sum_plan *plan, void *memory, vg_device_reducer **out);
void vg_device_reducer_free(vg_device_reducer *reducer);

/* As in reduce.h; padding that is left alone stays 0 in the total. */
void vg_device_reducer_leaves(const vg_device_reducer *reducer, int *first, int *count);
float *vg_device_reducer_leaf(vg_device_reducer *reducer);
vg_status vg_device_reducer_push(vg_device_reducer *reducer, bool empty);

/* During the rank's last leaf: gradients below `end` are written by what is on the compute stream now. */
vg_status vg_device_reducer_complete(vg_device_reducer *reducer, int64_t end);

/* Collective. The rest of the tree. What follows on the compute stream finds *total [n], or this rank's slices of it,
 * until the next vg_device_reducer_leaf. */
vg_status vg_device_reducer_finish(vg_device_reducer *reducer, float **total);

/* Whether the ranks have slices: not so for a lone rank, whatever the plan says. */
bool vg_device_reducer_is_sliced(const vg_device_reducer *reducer);

/* Local. The library that GPUs of several ranks exchange by; false where this build has none. */
bool vg_device_library(vg_library *out);

/* The slice of a bucket that this rank owns: all buckets cut alike, so that the work on slices is even at any time. */
void vg_device_reducer_slice(const vg_device_reducer *reducer, int bucket, int64_t *first, int64_t *count);

/* Collective. Every rank has written its slices of an array of `block_floats` floats for each 1024 of the total (1024:
 * an array that mirrors it); what follows on the compute stream finds all of it. */
vg_status vg_device_reducer_gather(vg_device_reducer *reducer, float *array, int64_t block_floats);

#endif
