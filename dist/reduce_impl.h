/* A canonical sum over memory from within: reduce_plan.c makes one, reduce.c sums, reduce_slices.c hands round what
 * ranks make of their slices. */
#ifndef VG_DIST_REDUCE_IMPL_H
#define VG_DIST_REDUCE_IMPL_H

#include "dist/comm_impl.h"
#include "dist/groups_impl.h"
#include "dist/worker_impl.h"

enum {
    VG_SUM_PIECE = 8192, /* floats summed at a time: all sources of a piece stay in the second-level cache */
    VG_ROUNDS_AT_ONCE = VG_EXCHANGES / 2, /* on their way */
};

/* When a bucket was dealt with. */
typedef struct vg_bucket_times {
    double start_s, end_s;
} vg_bucket_times;

/* What groups exchange at a time: of each one's share of a slice of a bucket, `step` floats behind the first `skip`. */
typedef struct vg_exchange_round {
    int bucket;
    int64_t skip;
} vg_exchange_round;

struct vg_reducer {
    vg_comm *comm;
    int64_t n, stride; /* floats of a total, and from buffer to buffer */
    int n_leaves, n_buckets;
    bool sliced;      /* what groups hand round is not the total, but what ranks make of their slices */
    vg_span *buckets; /* [n_buckets] */
    vg_sum_fn sum;    /* of what the rank adds up itself, before its last leaf */
    void *sum_context;

    int first, count, next; /* own leaves, and how many are pushed */
    vg_tree_node stack[VG_TREE_DEPTH];
    int depth;

    vg_worker *worker;      /* its jobs are the buckets; NULL: a lone rank has none */
    atomic_int n_complete;  /* buckets that may leave */
    bool settled;           /* all have come to their end */
    vg_bucket_times *times; /* [n_buckets] */

    vg_window window;
    vg_arena memory; /* own buffers where there is no window */
    float *buffers;  /* own [n_slots, stride] */
    float *total;    /* [total_floats], one a group; a lone rank's is its first buffer */

    vg_groups groups;           /* the ranks that share a window, or each alone */
    float **parts_at, **own_at; /* where the groups' parts and own nodes lie */
    float **from;               /* scratch: where the nodes of one sum lie */
    vg_tree_adder adder;
    float *staging;            /* [VG_ROUNDS_AT_ONCE, n_nodes - n_own, step] */
    int n_shares;              /* of a slice: one for each group that sums; 1: every group sums all of it */
    int64_t step;              /* floats of a node that are exchanged at a time */
    vg_exchange_round *rounds; /* [n_rounds] in the order of buckets */
    int n_rounds;
    int n_prepared, n_begun, n_summed; /* buckets, and rounds, of this step so far */
    vg_message *sends, *recvs;
};

/* Our slice of a bucket; none where there are more of us than lanes. */
vg_span vg_reducer_lane(const vg_reducer *r, int bucket);

/* n floats to or from the rank of a group that has our lane. */
vg_message vg_reducer_message(const vg_reducer *r, int group, float *data, int64_t n);

/* Collective among the ranks that share the window: what each wrote there, the others read. */
vg_status vg_reducer_fence(vg_reducer *r);

/* A job of the worker: everything that is left to do for a bucket. */
vg_status vg_reducer_bucket_job(void *reducer, int bucket);

#endif
