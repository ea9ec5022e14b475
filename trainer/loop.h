/* Training: the schedule from its first or saved step to its last. */
#ifndef VG_TRAINER_LOOP_H
#define VG_TRAINER_LOOP_H

#include "dist/comm.h"
#include "trainer/inject.h"
#include "trainer/options.h"

/* Collective. Trains what the options say, in run.folder: resumes from its newest checkpoint that verifies, else starts
 * afresh. Leaves config.yaml, metrics.jsonl, log.txt and checkpoints/. `allow_new_bits` lets a run go on under another
 * configuration; `faults` is what shall go wrong on the way. Errors: any room's; VG_E_STOPPED after a
 * checkpoint that a signal asked for. */
vg_status vg_train(vg_comm *comm, const vg_options *options, bool allow_new_bits, const vg_injections *faults);

#endif
