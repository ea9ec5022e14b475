/* The watch over ranks (dist/health.h) as the options want it. */
#ifndef VG_TRAINER_WATCH_H
#define VG_TRAINER_WATCH_H

#include "dist/comm.h"
#include "trainer/options.h"

/* Collective. Begins it, until the group is closed. Errors: VG_E_COMM, VG_E_NOMEM. */
vg_status vg_watch_ranks(vg_comm *comm, const vg_options *options);

#endif
