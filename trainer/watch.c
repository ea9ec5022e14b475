#include "trainer/watch.h"

#include "trainer/loop_impl.h"

vg_status vg_watch_ranks(vg_comm *comm, const vg_options *o)
{
    const vg_health_limits limits = {.silence = o->watch_silence,
                                     .phase = {[VG_PHASE_start] = o->watch_start,
                                               [VG_PHASE_data] = o->watch_data,
                                               [VG_PHASE_compute] = o->watch_compute,
                                               [VG_PHASE_exchange] = o->watch_exchange,
                                               [VG_PHASE_save] = o->watch_save,
                                               [VG_PHASE_evaluate] = o->watch_evaluate}};
    return vg_health_watch(comm, &limits);
}

static const char *const names[VG_PHASES] = {[VG_PHASE_start] = "stage entry",
                                             [VG_PHASE_data] = "wait for batches",
                                             [VG_PHASE_compute] = "micro-batches",
                                             [VG_PHASE_exchange] = "counts, sums, gradients",
                                             [VG_PHASE_save] = "copy or commit a checkpoint",
                                             [VG_PHASE_evaluate] = "evaluation"};

void vg_run_phase(vg_run *r, vg_phase phase)
{
    const int64_t position = r->step * r->o->train_global_batch + r->first_leaf * r->o->train_micro_batch;
    vg_health_phase(r->comm, phase, r->step, position);
    vg_trace_phase(&r->trace, phase, names[phase]);
}
