/* What a step would take on GPUs, on paper: a roofline of every kernel, with the shares of the peaks that kernels
 * reach. A forecast, not a measurement; devices.def names the sources.
 *
 *     vg_gpu_step s = {.gpu = gpu, .precision = VG_PRECISION_BF16, .ranks = 8, .leaves = 4,
 *                      .bucket_bytes = 16 << 20};
 *     vg_program_each_cost(program, vg_gpu_add_kernel, &s);      the kernels of one micro-batch
 *     vg_gpu_finish(&s, n_trainable);                            merges, exchange, update, and the sum
 *
 * Local. */
#ifndef VG_TRAINER_GPU_FORECAST_H
#define VG_TRAINER_GPU_FORECAST_H

#include "kernels/graph.h"
#include "trainer/network.h"

typedef struct vg_gpu {
    const char *name, *title;
    double multiprocessors, bf16_tflops, fp32_tflops, memory_gb_s, memory_gb;
    double near_gb_s; /* NVLink, one way */
    int host_gpus;
    double far_gb_s; /* network, a GPU, one way */
    double bf16_products, bf16_attention;
    const char *sources;
} vg_gpu;

/* Errors: VG_E_USAGE, which names those that are known. */
vg_status vg_gpu_find(const char *name, const vg_gpu **out);

/* Every figure behind a forecast for the device, with its source; heap text, NULL when there is no memory. */
char *vg_gpu_assumptions(const vg_gpu *gpu);

/* What its ranks exchange gradients on: NVLink and the device's own network, at the shares of them that are reached. */
vg_network vg_gpu_network(const vg_gpu *gpu);

typedef enum vg_precision { VG_PRECISION_FP32, VG_PRECISION_BF16, VG_PRECISIONS } vg_precision;

typedef enum vg_gpu_part {
    VG_GPU_PRODUCTS,
    VG_GPU_ATTENTION,
    VG_GPU_MEMORY,   /* kernels bound by memory */
    VG_GPU_STARTS,   /* of all kernels */
    VG_GPU_MERGES,   /* of this rank's micro-batches */
    VG_GPU_EXCHANGE, /* of gradients, where backward does not hide it */
    VG_GPU_UPDATE,   /* norm and AdamW */
    VG_GPU_PARTS
} vg_gpu_part;

/* A part of the step on the fullest rank. */
typedef struct vg_gpu_line {
    double kernels, flops, bytes;
    double peak_s;     /* at the peaks of the device */
    double reached_s;  /* at the shares of them that full processors reach */
    double expected_s; /* where some of them have nothing to do, too */
} vg_gpu_line;

typedef struct vg_gpu_step {
    const vg_gpu *gpu;
    vg_precision precision; /* of the program; what a kernel multiplies, its cost says */
    int ranks, leaves;      /* leaves: micro-batches of the fullest rank */
    double bucket_bytes;    /* of gradients that are exchanged at a time */
    vg_gpu_line lines[VG_GPU_PARTS];
    double model_flops; /* of a rank: without what is computed twice */
    double backward_s;  /* of one micro-batch */
    double exchange_s, hidden_s;
    double step_s, mfu;
    double of_peak, of_reachable; /* share of the step that the kernels' rooflines and the update account for */
} vg_gpu_step;

/* Adds a kernel that every micro-batch runs; context is the vg_gpu_step. */
void vg_gpu_add_kernel(void *context, vg_op op, const vg_cost *cost);

/* Completes the step for n trainable parameters. */
void vg_gpu_finish(vg_gpu_step *s, double n_trainable);

const char *vg_gpu_part_name(vg_gpu_part part);

#endif
