/* What a run will need, known before its first step. */
#ifndef VG_TRAINER_FORECAST_H
#define VG_TRAINER_FORECAST_H

#include "trainer/compute.h"
#include "trainer/gpu_forecast.h"
#include "trainer/options.h"

#include <stddef.h>

enum { VG_MAX_FORECAST_RANKS = 65536 };

/* One stage on the fullest rank, in bytes. */
typedef struct vg_stage_forecast {
    size_t weights;     /* all parameters, fp32, and the running average where one is kept */
    size_t moments;     /* of what trains; with train.zero a rank's share of them */
    size_t gradients;   /* buffers of the canonical sum */
    size_t arena;       /* activations and scratch */
    size_t constants;   /* packed frozen weights, position tables */
    size_t batches;     /* loader buffers and the cache of decoded images, as far as the split fills it */
    size_t phrases;     /* kept phrase features */
    int64_t image_rows; /* images, or their fixed views */
    size_t images_on_disk, phrases_on_disk; /* stores of features, of all ranks; 0: none */
    size_t saving;                          /* copy that checkpoints are written from, of rank 0 */
    size_t device;                          /* of all this, what lies in the memory of a GPU; 0 on the CPU */
    size_t entering;            /* while the stage is laid out: weights, and moments beside them, of two stages */
    size_t peak;                /* the larger of running and entering, with the program itself */
    size_t images_wanted;       /* the image store that is asked for; more than images_on_disk where it is refused */
    const char *without_images; /* why none is made although one is asked for, NULL for no reason */
    double phrases_flops;       /* to compute that store */
    double step_flops, step_bytes;
    double backward_flops; /* of one micro-batch, whose work in all is step_flops over the step's micro-batches */
    double n_trainable, n_parameters;
    int gradient_buffers;             /* of the fullest rank */
    vg_gpu_step gpu[VG_PRECISIONS];   /* filled where a GPU is named, whatever precision the run has */
    size_t gpu_memory[VG_PRECISIONS]; /* likewise, `device` of each */
} vg_stage_forecast;

/* Size of the data that the forecast is for; zero where unknown. */
typedef struct vg_forecast_data {
    int64_t images, phrases, swapped_phrases; /* distinct ones; with those of mirrored pictures */
} vg_forecast_data;

/* Local. Compiles every stage for `ranks` ranks without running it, of this host or, where gpu is not NULL, on such
 * GPUs; out [o->n_stages]. Errors: VG_E_CONFIG, VG_E_NOMEM. */
vg_status vg_forecast(const vg_options *o, int ranks, const vg_forecast_data *data, const vg_gpu *gpu,
                      vg_stage_forecast *out);

/* Local. Whether every stage of the run can be entered, which is known before the first: compiles them all, and
 * compares what the largest needs with what the device has. host_need: bytes of memory that the ranks of this host take
 * in the stage that takes most, without pictures and phrases that are kept; 0 where it fails before. The host needs
 * room for the parameters of two stages meanwhile. Errors: VG_E_CONFIG; VG_E_NOMEM, naming that stage and what to
 * change; VG_E_DEVICE. */
vg_status vg_forecast_fits(const vg_options *o, const vg_comm *comm, vg_compute *compute, double *host_need);

/* Local. Reads the size of the training split; zeros where it cannot be opened, and vg_error_text says why. */
vg_forecast_data vg_forecast_data_of(const vg_options *o);

#endif
