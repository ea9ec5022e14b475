/* From the sum of gradients to new weights: the norm, its clip factor, one pass of AdamW over this rank's slices of the
 * sum, and the weights that other ranks made of theirs. */
#ifndef VG_TRAINER_UPDATE_H
#define VG_TRAINER_UPDATE_H

#include "trainer/rank_moments.h"
#include "trainer/stage.h"

typedef struct vg_updater {
    const vg_options *options;
    const vg_stage_run *stage; /* entered: its tables, its device */
    vg_params *params;
    vg_gradients *gradients;
    const vg_rank_moments *moments;
    /* Told of each time that ranks gathered what they made of their slices, where it is known (vg_gradients_times); or
     * NULL. */
    void (*gathered)(void *context, double start_s, double end_s);
    void *context;
} vg_updater;

/* Collective, when vg_gradients_finish has given `total`. *update says at which share of the learning rate, after how
 * many updates and whether at all; then what came of it: a norm that is not finite changes nothing. Waits for the
 * device; the weights are on their way to where programs read them. Errors: VG_E_COMM, VG_E_DEVICE. */
vg_status vg_update_weights(const vg_updater *u, const float *total, vg_update *update);

#endif
