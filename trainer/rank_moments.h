/* AdamW's moments where this rank keeps them: beside the weights, or of its slices of the gradients alone (train.zero).
 *
 *     VG_TRY(vg_rank_moments_open(&params, gradients, compute, &m));       as the host has them
 *     for (int i = 0; i < vg_gradients_slices(gradients); i++) vg_rank_moments_slice(&m, i, &moment1, &moment2);
 *     VG_TRY(vg_rank_moments_fetch(&m));                                   the host has all of them again */
#ifndef VG_TRAINER_RANK_MOMENTS_H
#define VG_TRAINER_RANK_MOMENTS_H

#include "kernels/params.h"
#include "trainer/gradients.h"

typedef struct vg_rank_moments {
    vg_params *params;
    vg_gradients *gradients;
    vg_compute *compute;
    vg_arena memory; /* both moments of the slices, one after the other, where params has none on the device */
    int64_t n;       /* floats of all slices */
} vg_rank_moments;

/* Local. All are kept. Where params->moments_elsewhere is set the slices get memory of their own, with the host's
 * values. Errors: VG_E_NOMEM, VG_E_DEVICE. */
vg_status vg_rank_moments_open(vg_params *params, vg_gradients *gradients, vg_compute *compute, vg_rank_moments *out);
void vg_rank_moments_release(vg_rank_moments *m);

/* Local. Where the moments of slice i lie. */
void vg_rank_moments_slice(const vg_rank_moments *m, int i, float **moment1, float **moment2);

/* Local. Host to device, after the host changed them. */
vg_status vg_rank_moments_send(vg_rank_moments *m);

/* Collective, between steps. Device to host, with the weights: every rank's host has all moments then. Takes the place
 * of the next leaf's gradient on the way. */
vg_status vg_rank_moments_fetch(vg_rank_moments *m);

#endif
