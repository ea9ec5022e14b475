/* Who holds which node of the tree, and who sums which slice. Ranks that are near each other make a group: they first
 * sum what they hold, each rank one slice (its lane) of all of it; then equal lanes of the groups exchange the rest. */
#ifndef VG_DIST_GROUPS_IMPL_H
#define VG_DIST_GROUPS_IMPL_H

#include "dist/tree_impl.h"

typedef struct vg_groups {
    int n_groups, group; /* ours */
    int n_mates, lane;   /* ranks of our group, and our place among them */
    int n_lanes;         /* ranks of each group that have a slice: the size of the smallest group */
    int *mates;          /* [n_mates] the ranks of our group */
    int *peers;          /* [n_groups, n_lanes] the ranks of all groups that have a slice */
    int n_parts, n_own, n_nodes;
    vg_tree_node *parts; /* [n_parts] what the ranks of our group hold, in leaf order; owner is a place in the group */
    vg_tree_node *own;   /* [n_own] those joined as far as they go; owner and slot of their left part */
    vg_tree_node *nodes; /* [n_nodes] what the groups hold then, in leaf order; owner is a group */
} vg_groups;

/* Collective. Fills zeroed groups: the local ranks of a host are one each, or (near false) every rank is. Errors:
 * VG_E_NOMEM (on all ranks alike), VG_E_COMM; release them all the same. */
vg_status vg_groups_init(vg_groups *groups, vg_comm *comm, int n_leaves, bool near);
void vg_groups_release(vg_groups *groups);

/* Local. The same for `rank` of n_ranks whose groups are known: leaders [n_ranks], the first rank of each one's. */
vg_status vg_groups_plan(vg_groups *groups, int n_ranks, int rank, const int *leaders, int n_leaves);

/* A run of floats. */
typedef struct vg_span {
    int64_t first, count;
} vg_span;

enum { VG_SLICE_UNIT = 1024 }; /* floats: slices begin at multiples of it */

/* Slice i of n of a span. */
vg_span vg_span_slice(vg_span of, int n, int i);

/* The buckets of a plan, [n_buckets]; and the length of the longest slice, where each is cut in n. */
void vg_cut_buckets(const vg_sum_plan *plan, vg_span *buckets);
int64_t vg_longest_slice(const vg_span *buckets, int n_buckets, int n);

#endif
