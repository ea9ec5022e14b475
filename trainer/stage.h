/* A stage of the schedule, compiled: what trains, the programs with their shared arena, the optimizer's tables.
 *
 *     VG_TRY(vg_stage_enter(&options, 0, false, params, &compute, &stage));    lays the parameters out anew, on the
 * device
 *     ... vg_program_run(stage->train) ...
 *     vg_stage_leave(stage);
 *
 * Local: every rank compiles the same. */
#ifndef VG_TRAINER_STAGE_H
#define VG_TRAINER_STAGE_H

#include "trainer/compute.h"
#include "trainer/model/model.h"

/* What the optimizer reads and writes beside the parameters, in memory of the device. */
typedef struct vg_optimizer {
    int64_t n_blocks;                    /* of the trainable space */
    const float *block_lr, *block_decay; /* [n_blocks] */
    double *block_squares;               /* [n_blocks] */
    vg_update *update;
    vg_arena memory; /* holds the above */
} vg_optimizer;

typedef struct vg_stage_run {
    const vg_stage *stage;
    vg_batch_shape shape; /* of the batches that `train` takes */
    vg_program *train;    /* for pictures of the stage's largest side */
    struct vg_smaller_program {
        int side;
        vg_program *train;
    } smaller[VG_MAX_SIDES - 1]; /* for its others */
    int n_smaller;
    vg_program *answer; /* the last layer's logits and boxes, for evaluation while training */
    vg_program *text;   /* the phrase encoder alone, or NULL when its features are not kept */

    /* once entered */
    vg_compute *compute;
    vg_arena arena; /* shared by the programs */
    vg_optimizer optimizer;
} vg_stage_run;

/* Compiles stage `index`, with stored_images over features of images instead of their pixels: chooses what trains,
 * plans the programs, lays out params (moments are fresh). The programs have no memory yet. Errors: VG_E_CONFIG
 * (nothing trains; a random tower would train without allow_from_scratch), VG_E_NOMEM. */
vg_status vg_stage_compile(const vg_options *o, int index, bool stored_images, vg_params *params,
                           const vg_backend *backend, int n_threads, vg_stage_run **out);

/* vg_stage_compile, then memory on the device: parameters, arena, packed frozen weights, the optimizer's tables. Ready
 * to run. compute is kept until the stage is left; the host's parameters are those of stage entry until
 * vg_params_fetch. Errors: also VG_E_DEVICE. */
vg_status vg_stage_enter(const vg_options *o, int index, bool stored_images, vg_params *params, vg_compute *compute,
                         vg_stage_run **out);
void vg_stage_leave(vg_stage_run *run);

/* The training program for batches of pictures of this side. */
vg_program *vg_stage_program(const vg_stage_run *run, int side);

/* Bytes of constants, and of inputs on a device, of all programs. */
size_t vg_stage_constant_bytes(const vg_stage_run *run);
size_t vg_stage_input_bytes(const vg_stage_run *run);

/* Bytes of the arena that the stage's programs share, and of the optimizer's tables. */
size_t vg_stage_arena_bytes(const vg_stage_run *run);
size_t vg_stage_optimizer_bytes(const vg_params *params);

/* Learning rate of a parameter in a stage before its course over the steps; 0: frozen. */
double vg_stage_lr_of(const vg_options *o, const vg_stage *stage, const char *name);

/* The course: the share of the base learning rate at step `step` (0-based) of the stage. */
double vg_stage_course(const vg_stage *stage, int64_t step);

/* Fixed views of each image in the stage: features.views where it augments and nothing of the vision tower trains, else
 * 0. */
int vg_stage_views(const vg_options *o, const vg_stage *stage, const vg_params *params);

/* Whether the stage may take image features from a store: the options ask for it, nothing of the vision tower
 * trains, and pictures are of one size and taken as they are or in fixed views. */
bool vg_stage_wants_images(const vg_options *o, const vg_stage *stage, const vg_params *params);

/* Why it does not although the options ask for it, in words; NULL where it does or they do not. */
const char *vg_stage_without_images(const vg_options *o, const vg_stage *stage, const vg_params *params);

#endif
