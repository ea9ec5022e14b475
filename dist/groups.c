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

/* Which group each rank is in, [size], and the counts that follow. `leaders` and `members` are scratch, [size]. */
static vg_status find_groups(vg_groups *g, vg_comm *comm, bool near, int *group_of, int *leaders, int *members)
{
    const int leader = near ? comm->leader : comm->rank;
    VG_TRY(vg_comm_allgather(comm, &leader, sizeof leader, leaders));
    g->n_groups = 0;
    for (int i = 0; i < comm->size; i++) {
        group_of[i] = leaders[i] == i ? g->n_groups++ : group_of[leaders[i]]; /* a leader is its group's first */
        if (i == comm->rank) g->lane = members[group_of[i]];
        members[group_of[i]]++;
    }
    g->group = group_of[comm->rank];
    g->n_mates = members[g->group];
    g->n_lanes = comm->size;
    for (int i = 0; i < g->n_groups; i++)
        if (members[i] < g->n_lanes) g->n_lanes = members[i];
    return VG_OK;
}

/* What the ranks of one group hold: parts as they are, nodes joined as far as they go; both have room. */
static void nodes_of_group(vg_groups *g, const vg_comm *comm, int n_leaves, const int *group_of, int group,
                           vg_tree_node *parts, int *n_parts, vg_tree_node *nodes, int *n_nodes)
{
    int place = 0;
    *n_parts = *n_nodes = 0;
    for (int rank = 0; rank < comm->size; rank++) {
        if (group_of[rank] != group) continue;
        if (place < g->n_lanes) g->peers[group * g->n_lanes + place] = rank;
        if (group == g->group) g->mates[place] = rank;
        vg_tree_node held[VG_TREE_DEPTH];
        int n_slots;
        const int n_held = vg_tree_of_rank(n_leaves, comm->size, rank, held, &n_slots);
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

static void fill_nodes(vg_groups *g, const vg_comm *comm, int n_leaves, const int *group_of, vg_tree_node *parts,
                       vg_tree_node *nodes)
{
    for (int i = 0; i < g->n_groups; i++) {
        int n_parts, n_nodes;
        nodes_of_group(g, comm, n_leaves, group_of, i, parts, &n_parts, nodes, &n_nodes);
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
static size_t node_room(const vg_comm *comm, int n_leaves)
{
    size_t room = 1;
    for (int rank = 0; rank < comm->size; rank++) {
        vg_tree_node nodes[VG_TREE_DEPTH];
        int n_slots;
        room += (size_t)vg_tree_of_rank(n_leaves, comm->size, rank, nodes, &n_slots);
    }
    return room;
}

static vg_status groups_fill(vg_groups *g, vg_comm *comm, int n_leaves, bool near, int *ranks, vg_tree_node *nodes,
                             size_t room)
{
    int *const group_of = ranks;
    VG_TRY(find_groups(g, comm, near, group_of, ranks + comm->size, ranks + 2 * comm->size));
    g->mates = vg_new0_array((size_t)g->n_mates, sizeof *g->mates);
    g->peers = vg_new0_array((size_t)g->n_groups * (size_t)g->n_lanes, sizeof *g->peers);
    const vg_status st = g->mates && g->peers ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the plan of the sum");
    VG_TRY(vg_comm_agree(comm, st));
    fill_nodes(g, comm, n_leaves, group_of, nodes, nodes + room);
    return VG_OK;
}

vg_status vg_groups_init(vg_groups *g, vg_comm *comm, int n_leaves, bool near)
{
    const size_t room = node_room(comm, n_leaves);
    int *ranks = vg_new0_array(3 * (size_t)comm->size, sizeof *ranks);
    vg_tree_node *nodes = vg_new0_array(2 * room, sizeof *nodes);
    g->parts = vg_new0_array(room, sizeof *g->parts);
    g->own = vg_new0_array(room, sizeof *g->own);
    g->nodes = vg_new0_array(room, sizeof *g->nodes);
    vg_status st = ranks && nodes && g->parts && g->own && g->nodes
                       ? VG_OK
                       : vg_fail(VG_E_NOMEM, "no memory for the plan of the sum");
    st = vg_comm_agree(comm, st);
    if (st == VG_OK) st = groups_fill(g, comm, n_leaves, near, ranks, nodes, room);
    free(ranks);
    free(nodes);
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
