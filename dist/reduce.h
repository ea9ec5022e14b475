/* The canonical sum: the gradients of micro-batches 0..K-1 (leaves) are added in one fixed binary tree, so that the
 * bits of the total do not depend on how many ranks computed them.
 *
 *     for stride = 1, 2, 4, .. < K:   g[i] += g[i + stride]   for each i divisible by 2 * stride with i + stride < K
 *
 * Rank r owns the leaves r*c .. min(K, (r+1)*c) - 1, c = K / R rounded up (the last ranks may own fewer, or none). It
 * adds the aligned sub-trees inside its run as they complete, like a binary counter; exactly one is left when c is a
 * power of two, a few otherwise. Those of the ranks of one host lie in a shared window, where each rank sums one slice
 * of all of them, in one pass; equal slices of the hosts are then exchanged, summed in tree order, and handed round.
 *
 *     vg_reducer_leaves(r, &first, &count);
 *     for (int i = first; i < first + count; i++) {
 *         float *g = vg_reducer_leaf(r);              a place for the gradient of leaf i
 *         ... write g, never its padding; after each part of the last leaf's backward:
 *         vg_reducer_complete(r, end);                gradients below `end` are written
 *         vg_reducer_push(r, false);
 *     }
 *     VG_TRY(vg_reducer_settle(r));
 *     VG_TRY(vg_reducer_finish(r, &total));
 *
 * Of a sliced sum (ZeRO-1: Rajbhandari et al. 2020) a rank gets its slice of every bucket alone, as it would otherwise
 * hand it round; what it makes of them, such as weights, goes to all ranks the same way with vg_reducer_gather.
 *
 * A thread of the reducer's own sums the buckets that are complete while the rank goes on computing. From the first
 * `complete` until `settle` the process group is that thread's: nobody else calls it. */
#ifndef VG_DIST_REDUCE_H
#define VG_DIST_REDUCE_H

#include "dist/comm.h"

typedef struct vg_reducer vg_reducer;

/* dst = a + b over n floats; dst may be a. NULL stands for a plain loop. */
typedef void (*vg_sum_fn)(void *context, float *dst, const float *a, const float *b, int64_t n);

/* Local. The leaves of one rank of R. */
void vg_leaves_of(int n_leaves, int n_ranks, int rank, int *first, int *count);

/* What is summed: n floats over n_leaves leaves, in buckets that end at bucket_ends (ascending, multiples of 1024 but
 * for the last, which is n; that one, too, where the plan is sliced). A bucket leaves as soon as the rank's last leaf
 * has completed it. */
typedef struct vg_sum_plan {
    int64_t n;
    int n_leaves, n_buckets;
    const int64_t *bucket_ends; /* borrowed */
    bool fast;                  /* devices only: the library's own all-reduce, whose bits depend on the ranks */
    bool sliced;                /* each rank gets its slices of the total alone; not with fast */
} vg_sum_plan;

/* Collective. A reducer as planned; comm, sum (for what a rank sums itself) and context are kept until it is freed.
 * Buffers are made and zeroed here: a step allocates nothing. Where /dev/shm is too small for the shared window, plain
 * memory and messages take its place, with a warning and the same bits. Errors: VG_E_CONFIG (more ranks than leaves),
 * VG_E_NOMEM, VG_E_COMM. */
vg_status vg_reducer_new(vg_comm *comm, const vg_sum_plan *plan, vg_sum_fn sum, void *context, vg_reducer **out);

/* Collective (the window is given back by all). */
void vg_reducer_free(vg_reducer *reducer);

/* Local. The leaves that this rank owns. */
void vg_reducer_leaves(const vg_reducer *reducer, int *first, int *count);

/* Local. Where the next leaf's gradient goes, [n], until it is pushed. Contents are undefined except for what no leaf
 * ever wrote, which is 0: padding that is left alone stays 0 in the total. */
float *vg_reducer_leaf(vg_reducer *reducer);

/* Local. The leaf is written and joins the tree; `empty` makes it a leaf of zeros that nobody computed. */
void vg_reducer_push(vg_reducer *reducer, bool empty);

/* Local and quick. During the rank's last leaf: gradients below `end` are written for good, so that buckets that end
 * there or before may leave. Not needed: what it leaves out goes with vg_reducer_settle. */
void vg_reducer_complete(vg_reducer *reducer, int64_t end);

/* Collective. After the rank's last leaf: the rest of the tree. A rank whose leaf failed takes part with whatever lies
 * there, so that the others do not wait for it; the total is worth nothing then. Errors: VG_E_COMM. */
vg_status vg_reducer_settle(vg_reducer *reducer);

/* Collective. Settles where that was not done. *total [n] is the same on all ranks, or holds this rank's slices of it
 * alone; valid until the next vg_reducer_leaf or _gather, and the next step's first leaf follows. Ranks of a host share
 * it: do not write. Errors: VG_E_COMM, VG_E_BUG (a leaf is missing). */
vg_status vg_reducer_finish(vg_reducer *reducer, const float **total);

/* Local. Whether the ranks have slices: not so for a lone rank, whatever the plan says. */
bool vg_reducer_is_sliced(const vg_reducer *reducer);

/* Local. The slice of a bucket that this rank owns, whole blocks of 1024 floats: all buckets are cut alike, so that the
 * ranks' shares are even. A rank beyond those of the smallest host has none. */
void vg_reducer_slice(const vg_reducer *reducer, int bucket, int64_t *first, int64_t *count);

/* Collective, between finish and the next step's first leaf. Every rank has written its slices of an array with
 * block_floats floats for each 1024 of the total, and has all of it afterwards: 1024, an array that mirrors the total,
 * whose place it takes on the way, where a host has a window; or 2, a number in fp64 for each block, which leaves the
 * total as it is. Errors: VG_E_COMM. */
vg_status vg_reducer_gather(vg_reducer *reducer, float *array, int64_t block_floats);

/* Local. When a bucket of the last total began to be summed and had come to its end on this rank (vg_now_s). Nothing
 * is exchanged by a lone rank: both are 0. */
void vg_reducer_bucket_times(const vg_reducer *reducer, int bucket, double *start_s, double *end_s);

/* Local. Bytes that `rank` of n_ranks brings for such a reducer, for a forecast; rank 0 counts the total, which each
 * host holds once. Messages between hosts need up to 32 MiB a rank more, and among more than 32 hosts, where pieces are
 * not cut any shorter, up to the bytes of eight buckets. */
size_t vg_reducer_bytes(const vg_sum_plan *plan, int n_ranks, int rank);

/* What travels in such a sum: a host's ranks give each other slices of their `parts`, equal ranks of the hosts slices
 * of the host's `nodes`, and the sums, or what is made of slices, go back the same way (two hosts may give each other
 * all instead: as many bytes). 1 and 1 where all ranks have as many leaves, and those of a rank and of a host are a
 * power of two. */
typedef struct vg_sum_shape {
    int mates, hosts; /* ranks of a host that is full, and how many hosts there are */
    int parts, nodes; /* of the rank and the host that have most */
} vg_sum_shape;

/* Local. Of n_ranks ranks, host_ranks on a host, for a forecast. */
vg_sum_shape vg_sum_shape_of(int n_leaves, int n_ranks, int host_ranks);

/* Collective. The same tree over fp64 values, for logged losses: own [count, n] of this rank's leaves in order,
 * total [n] everywhere. Errors: VG_E_NOMEM, and the group is left; VG_E_COMM. */
vg_status vg_tree_sum_f64(vg_comm *comm, int n_leaves, const double *own, int n, double *total);

#endif
