/* The shape of the canonical sum. A node is a sub-tree: the leaves start .. start + 2^level - 1 that exist. A node
 * whose right sibling would begin beyond the last leaf is its own parent, and is always named by its highest such
 * level, so that two nodes are siblings exactly when their names say so. */
#ifndef VG_DIST_TREE_IMPL_H
#define VG_DIST_TREE_IMPL_H

#include "dist/reduce.h"

typedef struct vg_tree_node {
    int start, level;
    int owner; /* the rank that holds its sum, or the group of ranks */
    int slot;  /* which of the owner's buffers */
} vg_tree_node;

/* Puts a node on a stack of nodes in leaf order and joins the top two for as long as they are siblings, like a binary
 * counter. A joined node takes owner and slot of its left part. Returns how many joins there were. */
int vg_tree_push(int n_leaves, vg_tree_node *stack, int *depth, vg_tree_node node);

/* Enough room for the stack or the nodes of one rank: 2 * 31 + 2. */
enum { VG_TREE_DEPTH = 64 };

/* What is left of a rank's leaves when all are pushed, slot = place in its stack: nodes [VG_TREE_DEPTH]. Returns their
 * number; *n_slots is the most buffers that were in use at a time. */
int vg_tree_of_rank(int n_leaves, int n_ranks, int rank, vg_tree_node *nodes, int *n_slots);

/* How nodes are added up: sums and copies over memory of one kind, and scratch for as many nodes as there are. */
typedef struct vg_tree_adder {
    vg_sum_fn sum;
    void (*copy)(void *context, float *dst, const float *src, int64_t n);
    void *context;
    vg_tree_node *stack; /* [nodes] */
    float **at;          /* [nodes] */
    float *between;      /* [nodes, stride] for what comes before a root, or NULL: joins overwrite their left parts */
    int64_t stride;
} vg_tree_adder;

/* Sums and copies of such an adder over the host's memory. */
void vg_sum_floats(void *context, float *dst, const float *a, const float *b, int64_t n);
void vg_copy_floats(void *context, float *dst, const float *src, int64_t n);

/* Joins n floats of nodes[n_nodes] in leaf order, which lie at from[]. Where the nodes make the whole tree, its root
 * goes to `root`; else (NULL) a joined node lies where its left part did. */
void vg_tree_add(const vg_tree_adder *adder, int n_leaves, const vg_tree_node *nodes, int n_nodes, float *const *from,
                 int64_t n, float *root);

#endif
