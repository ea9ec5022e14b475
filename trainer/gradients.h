/* The gradients of a step where they are computed, and their canonical sum over leaves and ranks: in host memory
 * (dist/reduce.h), or on devices that their memory never leaves (dist/device.h). The same tree, so the same bits. In
 * both a bucket of gradients leaves as soon as the backward of the rank's last leaf has completed it.
 *
 *     for each leaf of this rank:
 *         float *g = vg_gradients_leaf(s);           enqueue what writes it
 *         VG_TRY(vg_gradients_push(s, false));
 *     VG_TRY(vg_gradients_settle(s));                no call of the process group since the last leaf began
 *     VG_TRY(vg_gradients_finish(s, &total));        enqueue what reads it */
#ifndef VG_TRAINER_GRADIENTS_H
#define VG_TRAINER_GRADIENTS_H

#include "kernels/graph.h"
#include "trainer/compute.h"
#include "trainer/options.h"

typedef struct vg_gradients vg_gradients;

typedef struct vg_gradients_plan {
    int64_t n; /* floats, a multiple of VG_PARAM_BLOCK */
    int n_leaves;
    double deadline_s;   /* how long a rank waits for the other ranks' devices */
    double bucket_bytes; /* what is exchanged at a time */
    bool fast;           /* devices use their library's own sum: other bits for other numbers of ranks */
    bool sliced;         /* each rank gets slices of the total alone */
} vg_gradients_plan;

/* Local. Bytes of n floats that are exchanged at a time: train.bucket_mb, or where that is 0 a quarter of them, so that
 * those of a small model leave behind backward, too, but at least 1 MiB, less is not worth a meeting of the ranks, and
 * at most 16. The bits do not depend on it. */
double vg_bucket_bytes(const vg_options *options, int64_t n);

/* Local. What the options say of it, for n floats. */
vg_gradients_plan vg_gradients_plan_of(const vg_options *options, int64_t n, bool sliced);

/* Local. Bytes of device memory that the sum needs on the fullest of n_ranks ranks, host_ranks on a host: for a
 * forecast. Errors: VG_E_NOMEM. */
vg_status vg_gradients_device_bytes(const vg_gradients_plan *plan, int n_ranks, int host_ranks, size_t *bytes);

/* Collective. comm and compute are kept until it is freed. Errors: VG_E_CONFIG (more ranks than leaves; several ranks
 * on GPUs in a build without NCCL), VG_E_NOMEM, VG_E_COMM, VG_E_DEVICE. */
vg_status vg_gradients_new(vg_comm *comm, vg_compute *compute, const vg_gradients_plan *plan, vg_gradients **out);
void vg_gradients_free(vg_gradients *s);

/* Local. From now on runs of the program say how far backward has come, so that what is complete is exchanged while the
 * rest is computed. Errors: VG_E_NOMEM. */
vg_status vg_gradients_follow(vg_gradients *s, vg_program *program);

/* Local. Where the next leaf goes, [n] in memory of the device; its padding is left alone. `empty`: nobody computed it,
 * it counts as zeros. */
float *vg_gradients_leaf(vg_gradients *s);
vg_status vg_gradients_push(vg_gradients *s, bool empty);

/* Collective. After the rank's last leaf, or where one failed: what ranks exchange by the process group has come to its
 * end, and others may call it again. Errors: VG_E_COMM. */
vg_status vg_gradients_settle(vg_gradients *s);

/* When what of the last step went on, on this rank's clock (vg_now_s); in host memory alone. */
typedef struct vg_exchange_times {
    double backward_start_s, backward_end_s; /* of the last leaf */
    double settle_start_s, settle_end_s;     /* the step waited for the rest of the exchange */
    int n_buckets;                           /* that ranks exchanged: 0 for a lone one */
} vg_exchange_times;

/* Local. False where nothing is known: on devices. */
bool vg_gradients_times(const vg_gradients *s, vg_exchange_times *times);
void vg_gradients_bucket_times(const vg_gradients *s, int bucket, double *start_s, double *end_s);

/* Collective. After the rank's last leaf; *total [n], or this rank's slices of it, is valid until the next leaf. */
vg_status vg_gradients_finish(vg_gradients *s, const float **total);

/* Local. This rank's slices of the total, whole blocks: one that is all of it, unless the plan has it cut. */
int vg_gradients_slices(const vg_gradients *s);
void vg_gradients_slice(const vg_gradients *s, int i, int64_t *first, int64_t *count);

/* Collective. Each rank has enqueued what writes its slices of an array of block_floats floats a block of the total
 * (VG_PARAM_BLOCK, and the total is void, or 2); what is enqueued from now on finds all of it. */
vg_status vg_gradients_share(vg_gradients *s, float *array, int64_t block_floats);

/* Local. Before the host waits for work that reads the total: looks after the other ranks meanwhile. Errors: VG_E_COMM,
 * when one of them is gone. */
vg_status vg_gradients_wait(vg_gradients *s);

#endif
