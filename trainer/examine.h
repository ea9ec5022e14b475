/* Looks a host over before a long run: what the run would otherwise meet after hours. */
#ifndef VG_TRAINER_EXAMINE_H
#define VG_TRAINER_EXAMINE_H

#include "dist/comm.h"
#include "trainer/options.h"

/* Collective. One rank of each host looks at its host, all together at what must be alike; rank 0 prints a line for
 * each finding, `ok`, `warn` or `fail` with what to do. Errors: VG_E_CONFIG, with their number, where something failed;
 * VG_E_COMM, VG_E_NOMEM. */
vg_status vg_doctor(vg_comm *comm, const vg_options *options);

#endif
