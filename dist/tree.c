/* Who adds what: leaves, slices, and the nodes of the tree. */
#include "dist/tree_impl.h"

#include <assert.h>
#include <string.h>

void vg_leaves_of(int n_leaves, int n_ranks, int rank, int *first, int *count)
{
    const int64_t each = ((int64_t)n_leaves + n_ranks - 1) / n_ranks;
    const int64_t begin = each * rank < n_leaves ? each * rank : n_leaves;
    const int64_t end = begin + each < n_leaves ? begin + each : n_leaves;
    *first = (int)begin;
    *count = (int)(end - begin);
}

static bool is_left(const vg_tree_node *node)
{
    return (node->start >> node->level) % 2 == 0;
}

static vg_tree_node lifted(int n_leaves, vg_tree_node node)
{
    while (is_left(&node) && node.start + ((int64_t)1 << node.level) >= n_leaves &&
           ((int64_t)1 << node.level) < n_leaves)
        node.level++;
    return node;
}

static bool siblings(const vg_tree_node *left, const vg_tree_node *right)
{
    return left->level == right->level && is_left(left) && right->start == left->start + ((int64_t)1 << left->level);
}

int vg_tree_push(int n_leaves, vg_tree_node *stack, int *depth, vg_tree_node node)
{
    int joins = 0;
    stack[(*depth)++] = lifted(n_leaves, node);
    while (*depth > 1 && siblings(&stack[*depth - 2], &stack[*depth - 1])) {
        vg_tree_node joined = stack[--*depth - 1];
        joined.level++;
        stack[*depth - 1] = lifted(n_leaves, joined);
        joins++;
    }
    return joins;
}

int vg_tree_of_rank(int n_leaves, int n_ranks, int rank, vg_tree_node *nodes, int *n_slots)
{
    int first, count, depth = 0;
    vg_leaves_of(n_leaves, n_ranks, rank, &first, &count);
    *n_slots = 0;
    for (int i = first; i < first + count; i++) {
        assert(depth < VG_TREE_DEPTH);
        if (depth + 1 > *n_slots) *n_slots = depth + 1;
        vg_tree_push(n_leaves, nodes, &depth, (vg_tree_node){.start = i, .owner = rank, .slot = depth});
    }
    return depth;
}

VG_EACH_CPU void vg_sum_floats(void *context, float *dst, const float *a, const float *b, int64_t n)
{
    (void)context;
    for (int64_t i = 0; i < n; i++) dst[i] = a[i] + b[i];
}

void vg_copy_floats(void *context, float *dst, const float *src, int64_t n)
{
    (void)context;
    memcpy(dst, src, (size_t)n * sizeof *dst);
}

void vg_tree_add(const vg_tree_adder *adder, int n_leaves, const vg_tree_node *nodes, int n_nodes, float *const *from,
                 int64_t n, float *root)
{
    float **at = adder->at;
    int depth = 0;
    for (int i = 0; i < n_nodes; i++) {
        at[depth] = from[i];
        int top = depth;
        for (int joins = vg_tree_push(n_leaves, adder->stack, &depth, nodes[i]); joins > 0; joins--, top--) {
            const bool last = i == n_nodes - 1 && top == 1;
            float *dst = at[top - 1];
            if (root && last)
                dst = root;
            else if (root && adder->between)
                dst = adder->between + (top - 1) * adder->stride;
            adder->sum(adder->context, dst, at[top - 1], at[top], n);
            at[top - 1] = dst;
        }
    }
    if (root && n_nodes == 1 && root != at[0]) adder->copy(adder->context, root, at[0], n);
}

/* What a host's ranks hold together, joined as far as it goes; *parts becomes the most that one of them holds. */
static int nodes_of_host(int n_leaves, int n_ranks, int first, int end, int *parts)
{
    vg_tree_node joined[VG_TREE_DEPTH], held[VG_TREE_DEPTH];
    int n_joined = 0, n_slots;
    for (int rank = first; rank < end; rank++) {
        const int n_held = vg_tree_of_rank(n_leaves, n_ranks, rank, held, &n_slots);
        for (int i = 0; i < n_held; i++) vg_tree_push(n_leaves, joined, &n_joined, held[i]);
        if (n_held > *parts) *parts = n_held;
    }
    return n_joined;
}

vg_sum_shape vg_sum_shape_of(int n_leaves, int n_ranks, int host_ranks)
{
    vg_sum_shape shape = {.mates = host_ranks < n_ranks ? host_ranks : n_ranks};
    for (int first = 0; first < n_ranks; first += shape.mates, shape.hosts++) {
        const int end = first + shape.mates < n_ranks ? first + shape.mates : n_ranks;
        const int nodes = nodes_of_host(n_leaves, n_ranks, first, end, &shape.parts);
        if (nodes > shape.nodes) shape.nodes = nodes;
    }
    return shape;
}
