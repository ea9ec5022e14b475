/* Jobs 0, 1, 2, .. of one owner, done in this order and one at a time: by a thread behind it as soon as it allows them,
 * and from vg_worker_finish on by the owner itself, which then has nothing else to do.
 *
 *     VG_TRY(vg_worker_start(run, context, &w));
 *     vg_worker_allow(w, 3);                    run(context, 0 .. 2) may happen from here on
 *     VG_TRY(vg_worker_finish(w, 5));           all five are done; the next to be allowed is job 0 again */
#ifndef VG_DIST_WORKER_IMPL_H
#define VG_DIST_WORKER_IMPL_H

#include "kernels/base/base.h"

typedef struct vg_worker vg_worker;

typedef vg_status (*vg_worker_job)(void *context, int job);

/* run and context are kept. Errors: VG_E_NOMEM. */
vg_status vg_worker_start(vg_worker_job run, void *context, vg_worker **out);

/* Waits for the job under way. NULL is fine. */
void vg_worker_free(vg_worker *w);

/* Jobs below `end` may be done. What they read is written by now. Quick. */
void vg_worker_allow(vg_worker *w, int end);

/* Does what is left of the first n jobs. Returns what the first that failed did, with its sentence; those behind it
 * are left out. */
vg_status vg_worker_finish(vg_worker *w, int n);

#endif
