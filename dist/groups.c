#include "dist/groups_impl.h"

#include "dist/comm_impl.h"

#include <stdlib.h>
#include <string.h>

vg_span vg_span_slice(vg_span of, int n, int i)
{
    vg_span s;
    vg_slice_of(of.count, VG_SLICE_UNIT, n, i, &s.first, &s.count);
    s.first += of.first;
    return s;
}

void vg_cut_buckets(const vg_sum_plan *plan, vg_span *buckets)
{
    int64_t first = 0;
    for (int b = 0; b < plan->n_buckets; b++) {
        buckets[b] = (vg_span){first, plan->bucket_ends[b] - first};
        first = plan->bucket_ends[b];
    }
}

int64_t vg_longest_slice(const vg_span *buckets, int n_buckets, int n)
{
    int64_t longest = 0;
    for (int b = 0; b < n_buckets; b++) {
        const int64_t count = vg_span_slice(buckets[b], n, 0).count;
        if (count > longest) longest = count;
    }
    return longest;
}

/* Which group each rank is in, [n_ranks], and the counts that follow. `members` is scratch, [n_ranks]. */
static void find_groups(vg_groups *g, int n_ranks, int rank, const int *leaders, int *group_of, int *members)
{
    g->n_groups = 0;
    for (int i = 0; i < n_ranks; i++) {
        group_of[i] = leaders[i] == i ? g->n_groups++ : group_of[leaders[i]]; /* a leader is its group's first */
        if (i == rank) g->lane = members[group_of[i]];
        members[group_of[i]]++;
    }
    g->group = group_of[rank];
    g->n_mates = members[g->group];
    g->n_lanes = n_ranks;
    for (int i = 0; i < g->n_groups; i++)
        if (members[i] < g->n_lanes) g->n_lanes = members[i];
}

/* What the ranks of one group hold: parts as they are, nodes joined as far as they go; both have room. */
static void nodes_of_group(vg_groups *g, int n_ranks, int n_leaves, const int *group_of, int group, vg_tree_node *parts,
                           int *n_parts, vg_tree_node *nodes, int *n_nodes)
{
    int place = 0;
    *n_parts = *n_nodes = 0;
    for (int rank = 0; rank < n_ranks; rank++) {
        if (group_of[rank] != group) continue;
        if (place < g->n_lanes) g->peers[group * g->n_lanes + place] = rank;
        if (group == g->group) g->mates[place] = rank;
        vg_tree_node held[VG_TREE_DEPTH];
        int n_slots;
        const int n_held = vg_tree_of_rank(n_leaves, n_ranks, rank, held, &n_slots);
        for (int i = 0; i < n_held; i++) {
            held[i].owner = place;
            parts[(*n_parts)++] = held[i];
            vg_tree_push(n_leaves, nodes, n_nodes, held[i]);
        }
        place++;
    }
}

static int by_start(const void *a, const void *b)
{
    const vg_tree_node *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

static void fill_nodes(vg_groups *g, int n_ranks, int n_leaves, const int *group_of, vg_tree_node *parts,
                       vg_tree_node *nodes)
{
    for (int i = 0; i < g->n_groups; i++) {
        int n_parts, n_nodes;
        nodes_of_group(g, n_ranks, n_leaves, group_of, i, parts, &n_parts, nodes, &n_nodes);
        if (i == g->group) {
            g->n_parts = n_parts;
            g->n_own = n_nodes;
            memcpy(g->parts, parts, (size_t)n_parts * sizeof *parts);
            memcpy(g->own, nodes, (size_t)n_nodes * sizeof *nodes);
        }
        for (int n = 0; n < n_nodes; n++) nodes[n].owner = i;
        memcpy(g->nodes + g->n_nodes, nodes, (size_t)n_nodes * sizeof *nodes);
        g->n_nodes += n_nodes;
    }
    qsort(g->nodes, (size_t)g->n_nodes, sizeof *g->nodes, by_start);
}

/* One more than all ranks hold together. */
static size_t node_room(int n_ranks, int n_leaves)
{
    size_t room = 1;
    for (int rank = 0; rank < n_ranks; rank++) {
        vg_tree_node nodes[VG_TREE_DEPTH];
        int n_slots;
        room += (size_t)vg_tree_of_rank(n_leaves, n_ranks, rank, nodes, &n_slots);
    }
    return room;
}

vg_status vg_groups_plan(vg_groups *g, int n_ranks, int rank, const int *leaders, int n_leaves)
{
    const size_t room = node_room(n_ranks, n_leaves);
    int *ranks = vg_new0_array(2 * (size_t)n_ranks, sizeof *ranks);
    vg_tree_node *nodes = vg_new0_array(2 * room, sizeof *nodes);
    g->parts = vg_new0_array(room, sizeof *g->parts);
    g->own = vg_new0_array(room, sizeof *g->own);
    g->nodes = vg_new0_array(room, sizeof *g->nodes);
    if (ranks) {
        find_groups(g, n_ranks, rank, leaders, ranks, ranks + n_ranks);
        g->mates = vg_new0_array((size_t)g->n_mates, sizeof *g->mates);
        g->peers = vg_new0_array((size_t)g->n_groups * (size_t)g->n_lanes, sizeof *g->peers);
    }
    const bool there = nodes && g->parts && g->own && g->nodes && g->mates && g->peers;
    if (there) fill_nodes(g, n_ranks, n_leaves, ranks, nodes, nodes + room);
    free(ranks);
    free(nodes);
    return there ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the plan of the sum");
}

vg_status vg_groups_init(vg_groups *g, vg_comm *comm, int n_leaves, bool near)
{
    const int leader = near ? comm->leader : comm->rank;
    int *leaders = vg_new0_array((size_t)comm->size, sizeof *leaders);
    vg_status st = vg_comm_agree(comm, leaders ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the plan of the sum"));
    if (st == VG_OK) st = vg_comm_allgather(comm, &leader, sizeof leader, leaders);
    if (st == VG_OK) st = vg_comm_agree(comm, vg_groups_plan(g, comm->size, comm->rank, leaders, n_leaves));
    free(leaders);
    return st;
}

void vg_groups_release(vg_groups *g)
{
    free(g->mates);
    free(g->peers);
    free(g->parts);
    free(g->own);
    free(g->nodes);
    *g = (vg_groups){0};
}
