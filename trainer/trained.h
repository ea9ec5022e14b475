/* A trained model, opened from a checkpoint for answering. */
#ifndef VG_TRAINER_TRAINED_H
#define VG_TRAINER_TRAINED_H

#include "dist/comm.h"
#include "trainer/compute.h"
#include "trainer/model/model.h"

/* Key of a number in the manifests of a run: its tokenizer's hash. */
#define VG_TOKENIZER_NUMBER "tokenizer"

/* So many bits of a hash as a number of a manifest holds. */
double vg_hash_number(uint64_t hash);

typedef struct vg_trained {
    vg_options options; /* of the checkpoint, with the caller's changes */
    vg_params *params;
    vg_tokenizer *tokenizer;
    double trained_tokenizer; /* vg_hash_number of the one it was trained with; 0 where the checkpoint does not tell */
    vg_compute compute;
    vg_program *answer; /* keeps logits and boxes */
    vg_arena arena;
    char *path; /* of the checkpoint */
} vg_trained;

/* The checkpoint that `path` means: itself, or the newest that verifies of a run's folder or a folder of checkpoints;
 * heap. Collective. Errors: VG_E_USAGE (there is none), VG_E_STORAGE. */
vg_status vg_trained_choose(vg_comm *comm, const char *path, char **out);

/* Local. Fills the weights from a checkpoint, those of its running average where it kept one. params: the model's,
 * nothing of it trainable yet. Errors: VG_E_STORAGE. */
vg_status vg_trained_weights(const char *checkpoint, vg_params *params);

/* Opens `path` (a checkpoint, or a folder of them: the newest that verifies) with `key=value` changes, and compiles the
 * answering program for the options' micro-batch, on `device` as train.device means it. Another tokenizer than the one
 * it was trained with is a warning. Collective. Errors: VG_E_STORAGE, VG_E_DATA, VG_E_CONFIG. */
vg_status vg_trained_open(vg_comm *comm, const char *path, const char *device, const char *const *sets, int n_sets,
                          vg_trained *out);
void vg_trained_release(vg_trained *trained);

#endif
