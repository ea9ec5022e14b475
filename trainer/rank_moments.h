/* AdamW's moments where this rank keeps them: beside the weights, or of its slices of the gradients alone (train.zero).
 *
 *     VG_TRY(vg_rank_moments_open(&params, gradients, compute, &m));       0, as a stage begins
 *     VG_TRY(vg_rank_moments_load(&m, checkpoint));                        or as they were saved
 *     for (int i = 0; i < vg_gradients_slices(gradients); i++) vg_rank_moments_slice(&m, i, &moment1, &moment2);
 *     VG_TRY(vg_rank_moments_fetch(&m, first, count, moment1, moment2));   a part that a checkpoint has of all */
#ifndef VG_TRAINER_RANK_MOMENTS_H
#define VG_TRAINER_RANK_MOMENTS_H

#include "kernels/params.h"
#include "trainer/gradients.h"

typedef struct vg_rank_moments {
    vg_params *params;
    vg_gradients *gradients;
    vg_compute *compute;
    vg_arena memory; /* both moments of the slices, one after the other, where params has none */
    int64_t n;       /* floats of all slices */
} vg_rank_moments;

/* Local. All are kept. Where params->moments_elsewhere is set the slices get memory of their own, which is 0. Errors:
 * VG_E_NOMEM, VG_E_DEVICE. */
vg_status vg_rank_moments_open(vg_params *params, vg_gradients *gradients, vg_compute *compute, vg_rank_moments *out);
void vg_rank_moments_release(vg_rank_moments *m);

/* Local. Where the moments of slice i lie. */
void vg_rank_moments_slice(const vg_rank_moments *m, int i, float **moment1, float **moment2);

/* Local. What vg_checkpoint_load_moments fills, to where kernels work, with the weights that the host has. Slices need
 * room for a whole moment on the host meanwhile. Errors: as for that, VG_E_NOMEM, VG_E_DEVICE. */
vg_status vg_rank_moments_load(vg_rank_moments *m, const char *checkpoint);

/* Collective, between steps, where the ranks have slices. Floats first .. first + count - 1 of either moment, whosever
 * they are, to the host: each rank asks for what it likes. A moment takes the place of the next leaf's gradient on the
 * way. Errors: VG_E_COMM, VG_E_DEVICE. */
vg_status vg_rank_moments_fetch(vg_rank_moments *m, int64_t first, int64_t count, float *moment1, float *moment2);

#endif
