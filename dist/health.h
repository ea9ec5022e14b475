/* Whether all ranks are alive and getting on. A thread of every rank tells rank 0 once a second where its rank stands,
 * and hears back; who falls silent, or stays in one phase for longer than that phase may take, is named, and the job
 * ends instead of waiting for ever.
 *
 *     VG_TRY(vg_health_watch(comm, &limits));
 *     vg_health_phase(comm, VG_PHASE_data, step, position);        from here on the rank waits for data
 *     ... vg_comm_close ends the watch ...
 *
 * The end: rank 0 prints one line, at once where a rank died (the others where rank 0 is the one that fell silent), a
 * rank that stood still prints its stack, every process ends with the code of VG_E_COMM. Checkpoints are whole at any
 * moment, so nothing else is done first. */
#ifndef VG_DIST_HEALTH_H
#define VG_DIST_HEALTH_H

#include "dist/comm.h"

/* What a rank may be doing. In `exchange` it waits for others, and is not to blame. */
#define VG_PHASES_OF(row)   row(start) row(data) row(compute) row(exchange) row(save) row(evaluate)
#define VG_PHASE_NAME(name) VG_PHASE_##name,
typedef enum vg_phase { VG_PHASES_OF(VG_PHASE_NAME) VG_PHASES } vg_phase;
#undef VG_PHASE_NAME

/* Seconds; 0: no limit. */
typedef struct vg_health_limits {
    double silence; /* without a sign of life from a rank's process */
    double phase[VG_PHASES];
} vg_health_limits;

/* Collective. Begins the watch, in phase `start`. The ranks reach rank 0 by TCP, over whatever address of its host
 * answers; where one cannot, and goes on so for limits->silence, all go on with the limits of phases alone, after one
 * warning. Errors: VG_E_COMM, VG_E_NOMEM. */
vg_status vg_health_watch(vg_comm *comm, const vg_health_limits *limits);

/* Local and quick; without a watch nothing. step (-1: none) and position (in the sample stream; -1: none) are for the
 * message. */
void vg_health_phase(vg_comm *comm, vg_phase phase, int64_t step, int64_t position);

#endif
