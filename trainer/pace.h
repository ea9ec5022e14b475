/* How long each rank computes: who makes all others wait.
 *
 *     vg_pace_add(&pace, rank, busy_us, micro_batches);       each rank, each step
 *     if (vg_pace_slowest(&pace, &slowest)) ...               then the count begins anew */
#ifndef VG_TRAINER_PACE_H
#define VG_TRAINER_PACE_H

#include "kernels/base/base.h"

typedef struct vg_pace {
    int n_ranks;
    int steps;         /* that were added */
    double *now, *sum; /* [n_ranks] milliseconds per micro-batch: in this step, and over all */
    int *late;         /* [n_ranks] steps in which it took more than three times the median */
    double *in_order;  /* [n_ranks] scratch */
    double usual_sum;  /* of the medians */
    int told;          /* rank that was named last; -1: none */
    char (*hosts)[64]; /* [n_ranks] */
} vg_pace;

typedef struct vg_slow_rank {
    int rank;
    const char *host;
    double ms, usual_ms; /* per micro-batch: its own, and the ranks' median; means over steps */
} vg_slow_rank;

vg_status vg_pace_init(vg_pace *pace, int n_ranks); /* Errors: VG_E_NOMEM. */
void vg_pace_release(vg_pace *pace);

/* What its share of a step cost a rank, without waiting for others. Ranks come in order; after the last one the next
 * step begins. */
void vg_pace_add(vg_pace *pace, int rank, int64_t busy_us, int micro_batches);

/* Whether some rank took more than three times the median per micro-batch in nearly all steps since the last call, of
 * five or more; and was not named by the call before. A single late step, or one that all share, is no reason. Begins
 * anew once there were five. */
bool vg_pace_slowest(vg_pace *pace, vg_slow_rank *out);

#endif
