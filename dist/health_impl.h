/* Between the two files of the watch: what goes over the wire, and the wire. */
#ifndef VG_DIST_HEALTH_IMPL_H
#define VG_DIST_HEALTH_IMPL_H

#include "dist/comm_impl.h"
#include "dist/health.h"

/* A sign of life, of a rank to rank 0 and of rank 0 to all. Both ends are the same binary on like machines. */
typedef struct vg_sign {
    int32_t phase;
    int32_t leaving; /* the rank closes its group: its silence means nothing from here on */
    int32_t ends;    /* the job does; the rank says why */
    int64_t step, position;
    double phase_s; /* in this phase so far */
} vg_sign;

/* Collective. Connects every rank with rank 0: (*fds)[0] on the others, (*fds)[rank] on rank 0, -1 for itself. *all is
 * false, on all ranks alike, where some rank cannot be reached in patience_s, or in the time that trying every address
 * takes, if that is longer; then there is nothing. */
vg_status vg_health_connect(vg_comm *comm, double patience_s, int **fds, bool *all);
void vg_health_disconnect(int **fds, int n); /* Local */

/* Whole messages only, without waiting. receive: 1 for one, 0 for none yet, -1 for an end. */
void vg_health_send(int fd, const void *message, size_t bytes);
int vg_health_receive(int fd, void *message, size_t bytes);

/* ---- health.c ---- */

/* Local. Ends the watch, and tells the others that this rank's silence is no news. */
void vg_health_leave(vg_comm *comm);

/* Local. The job ends and somebody says why: that ranks are gone is no news any more. */
void vg_health_hush(vg_comm *comm);

/* Local. For a message: which rank the others wait for, of those this one hears (rank 0 all, the others rank 0), and
 * where it was seen last. False, and no text, without a watch and where all of them wait. */
bool vg_health_latest(vg_comm *comm, char *text, size_t size);

#endif
