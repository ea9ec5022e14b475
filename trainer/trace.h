/* What each rank does when, for chrome://tracing and ui.perfetto.dev: a process for each rank, with a lane for each of
 * its phases, one for checkpoints that are written behind the steps, and two that show which buckets of gradients were
 * exchanged while backward went on (on CPUs).
 *
 *     VG_TRY(vg_trace_open(&trace, comm, 20));                   20 steps from here on; 0: nothing is recorded
 *     vg_trace_phase(&trace, VG_PHASE_compute, "micro-batches"); ends what went on before
 *     if (vg_trace_full(&trace, steps)) VG_TRY(vg_trace_write(&trace, comm, "run/trace.json"));
 *
 * Source: "Trace Event Format" of the Chromium project (complete events, metadata events). */
#ifndef VG_TRAINER_TRACE_H
#define VG_TRAINER_TRACE_H

#include "dist/health.h"

enum { VG_LANE_SAVING = VG_PHASES, VG_LANE_BACKWARD, VG_LANE_BUCKETS, VG_LANES };

typedef struct vg_trace_span {
    int lane; /* a vg_phase, or one of those above */
    const char *name;
    double start_s, end_s;
} vg_trace_span;

typedef struct vg_trace {
    vg_trace_span *spans; /* [capacity] */
    size_t n, capacity;
    int64_t steps;
    double start_s;
    vg_trace_span now; /* the phase under way; name NULL: none */
} vg_trace;

/* Collective: clocks begin together. Errors: VG_E_NOMEM, VG_E_COMM, on all ranks alike. */
vg_status vg_trace_open(vg_trace *trace, vg_comm *comm, int64_t steps);
void vg_trace_release(vg_trace *trace);

/* Local; names are borrowed for good. What there is no memory for is left out. */
void vg_trace_phase(vg_trace *trace, vg_phase phase, const char *name);
void vg_trace_add(vg_trace *trace, int lane, const char *name, double start_s, double end_s);

/* Local. Whether what was to be recorded is, after so many steps. */
bool vg_trace_full(const vg_trace *trace, int64_t steps_done);

/* Collective. Rank 0 writes the file; nothing more is recorded. Errors, on all ranks alike: VG_E_STORAGE, VG_E_NOMEM,
 * VG_E_COMM. */
vg_status vg_trace_write(vg_trace *trace, vg_comm *comm, const char *path);

#endif
