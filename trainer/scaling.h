/* How a run would go on more ranks: what a step computes, and what of its exchange nothing hides. A forecast.
 *
 *     vg_workload loads[VG_MAX_STAGES];
 *     VG_TRY(vg_workloads_on_gpu(o, gpu, loads));              or vg_workloads_measured
 *     vg_scaling s = vg_scaling_of(&loads[0], &network, 64, 64 * leaves_of_a_rank);
 *
 * Local. */
#ifndef VG_TRAINER_SCALING_H
#define VG_TRAINER_SCALING_H

#include "trainer/gpu_forecast.h"
#include "trainer/network.h"
#include "trainer/options.h"

/* What a stage asks of a rank. */
typedef struct vg_workload {
    double leaf_s;   /* computing a micro-batch */
    double update_s; /* once a step */
    double leaf_images;
    vg_exchange_plan exchange;
} vg_workload;

/* The model's times on a GPU, in the precision of the run; out [o->n_stages]. Errors: as vg_forecast. */
vg_status vg_workloads_on_gpu(const vg_options *o, const vg_gpu *gpu, vg_workload *out);

/* From what a step of each stage takes on one host of host_ranks ranks, step_s [o->n_stages]: what these exchange is in
 * it, and stays as it is. Errors: VG_E_CONFIG (more ranks than micro-batches); as vg_forecast. */
vg_status vg_workloads_measured(const vg_options *o, const double *step_s, int host_ranks, vg_workload *out);

/* A step of n_leaves micro-batches on so many ranks. */
typedef struct vg_scaling {
    int ranks, hosts;
    double images;
    double compute_s;  /* of the fullest rank */
    double exchange_s; /* of gradients and messages */
    double exposed_s;  /* what of that no computing hides */
    double step_s, images_per_s;
    double efficiency; /* of the ranks: 1 where all compute all the time */
} vg_scaling;

vg_scaling vg_scaling_of(const vg_workload *load, const vg_network *network, int ranks, int64_t n_leaves);

#endif
