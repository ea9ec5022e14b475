/* The canonical sum over memory. Ranks that share a window are a group; without one each rank is a group of its own.
 * A group sums its nodes as far as they are siblings, slice by slice; the groups exchange what is left. */
#include "dist/comm_impl.h"
#include "dist/tree_impl.h"

#include <stdlib.h>
#include <string.h>

enum {
    UNIT = 1024,       /* floats: slices begin at multiples of it */
    PIECE = 8192,      /* floats summed at a time: all sources of a piece stay in the second-level cache */
    STAGING = 1 << 19, /* floats on their way from other groups at a time: large messages, and they stay in the cache */
};

typedef struct span {
    int64_t first, count;
} span;

struct vg_reducer {
    vg_comm *comm;
    int64_t n, stride; /* floats of a total, and from buffer to buffer */
    int n_leaves;
    vg_sum_fn sum;
    void *context;

    int first, count, next; /* own leaves, and how many are pushed */
    vg_tree_node stack[VG_TREE_DEPTH];
    int depth;

    vg_window window;
    vg_arena memory; /* own buffers where there is no window */
    float *buffers;  /* own [n_slots, stride] */
    float *total;    /* [stride], one a group; a lone rank's is its first buffer */

    int n_groups, group, lane; /* lane: which slice is ours */
    int n_lanes;               /* ranks of each group that have one: the size of the smallest group */
    int *peers;                /* [n_groups, n_lanes] their ranks */
    int n_parts, n_nodes, n_own;
    vg_tree_node *parts;        /* [n_parts] what the ranks of our group hold, in leaf order; owner is a local rank */
    vg_tree_node *nodes;        /* [n_nodes] what the groups hold, in leaf order; owner is a group, n_own are ours */
    float **parts_at, **own_at; /* [n_parts], [n_own] where those lie */
    float *staging;             /* [n_nodes - n_own, step] */
    int64_t step;               /* floats of a node that are exchanged at a time */
    vg_message *sends, *recvs;
    vg_tree_node *fold_nodes; /* scratch: [the larger of n_parts and n_nodes] */
    float **fold_at, **from;
    float *between; /* [the same, PIECE] */
};

static void plain_sum(void *context, float *dst, const float *a, const float *b, int64_t n)
{
    (void)context;
    for (int64_t i = 0; i < n; i++) dst[i] = a[i] + b[i];
}

/* ---- one rank's leaves ---- */

void vg_reducer_leaves(const vg_reducer *r, int *first, int *count)
{
    *first = r->first;
    *count = r->count;
}

float *vg_reducer_leaf(vg_reducer *r)
{
    return r->buffers + r->depth * r->stride;
}

void vg_reducer_push(vg_reducer *r, bool empty)
{
    if (empty) memset(vg_reducer_leaf(r), 0, (size_t)r->n * sizeof(float));
    const vg_tree_node leaf = {.start = r->first + r->next++, .slot = r->depth};
    int top = r->depth;
    for (int joins = vg_tree_push(r->n_leaves, r->stack, &r->depth, leaf); joins > 0; joins--, top--) {
        float *left = r->buffers + (top - 1) * r->stride;
        r->sum(r->context, left, left, left + r->stride, r->n);
    }
}

size_t vg_reducer_bytes(int64_t n, int n_leaves, int n_ranks, int rank)
{
    vg_tree_node nodes[VG_TREE_DEPTH];
    int n_slots;
    vg_tree_of_rank(n_leaves, n_ranks, rank, nodes, &n_slots);
    const int buffers = n_slots + (n_ranks > 1 && rank == 0);
    return (size_t)buffers * vg_round_up((size_t)n, UNIT) * sizeof(float);
}

/* ---- the rest of the tree ---- */

/* Joins n floats of nodes[n_nodes], which lie at r->from[]. Where the nodes make the whole tree, its root goes to
 * `root` and what comes between stays in the cache; else a join overwrites its left part. */
static void fold(vg_reducer *r, const vg_tree_node *nodes, int n_nodes, int64_t n, float *root)
{
    float **at = r->fold_at;
    int depth = 0;
    for (int i = 0; i < n_nodes; i++) {
        at[depth] = r->from[i];
        int top = depth;
        for (int joins = vg_tree_push(r->n_leaves, r->fold_nodes, &depth, nodes[i]); joins > 0; joins--, top--) {
            const bool last = i == n_nodes - 1 && top == 1;
            float *dst = !root ? at[top - 1] : last ? root : r->between + (top - 1) * PIECE;
            r->sum(r->context, dst, at[top - 1], at[top], n);
            at[top - 1] = dst;
        }
    }
    if (root && n_nodes == 1) memcpy(root, at[0], (size_t)n * sizeof(float));
}

/* The nodes of our group within a span: summed to where own_at says, or to `root` when they make the whole tree. */
static void fold_group(vg_reducer *r, span where, float *root)
{
    for (int64_t done = 0; done < where.count; done += PIECE) {
        const int64_t at = where.first + done, left = where.count - done;
        for (int i = 0; i < r->n_parts; i++) r->from[i] = r->parts_at[i] + at;
        fold(r, r->parts, r->n_parts, left < PIECE ? left : PIECE, root ? root + at : NULL);
    }
}

static span slice(span of, int n, int i)
{
    span s;
    vg_slice_of(of.count, UNIT, n, i, &s.first, &s.count);
    s.first += of.first;
    return s;
}

/* What of a group's share of our slice is dealt with in one round. */
static span round_of(const vg_reducer *r, span own, int group, int64_t round)
{
    span s = slice(own, r->n_groups, group);
    const int64_t skip = round * r->step < s.count ? round * r->step : s.count;
    s.first += skip;
    s.count = s.count - skip < r->step ? s.count - skip : r->step;
    return s;
}

static vg_message message(const vg_reducer *r, int group, float *data, int64_t n)
{
    return (vg_message){
        .peer = r->peers[group * r->n_lanes + r->lane], .data = data, .bytes = (size_t)n * sizeof(float)};
}

/* Each group gets the nodes of all others for its share, and sums them in tree order into the total. */
static vg_status scatter_round(vg_reducer *r, span own, int64_t round)
{
    const span mine = round_of(r, own, r->group, round);
    int n_sends = 0, n_recvs = 0, n_own = 0;
    for (int g = 0; g < r->n_groups; g++) {
        const span theirs = round_of(r, own, g, round);
        fold_group(r, theirs, NULL);
        for (int i = 0; i < r->n_own && g != r->group && theirs.count; i++)
            r->sends[n_sends++] = message(r, g, r->own_at[i] + theirs.first, theirs.count);
    }
    for (int i = 0; i < r->n_nodes; i++) {
        const int owner = r->nodes[i].owner;
        if (owner == r->group) {
            r->from[i] = r->own_at[n_own++] + mine.first;
            continue;
        }
        r->from[i] = r->staging + (i - n_own) * r->step;
        if (mine.count) r->recvs[n_recvs++] = message(r, owner, r->from[i], mine.count);
    }
    VG_TRY(r->comm->ops->exchange(r->comm, r->sends, n_sends, r->recvs, n_recvs));
    for (int64_t done = 0; done < mine.count; done += PIECE) {
        const int64_t left = mine.count - done;
        fold(r, r->nodes, r->n_nodes, left < PIECE ? left : PIECE, r->total + mine.first + done);
        for (int i = 0; i < r->n_nodes; i++) r->from[i] += PIECE;
    }
    return VG_OK;
}

static vg_status gather_round(vg_reducer *r, span own, int64_t round)
{
    const span mine = round_of(r, own, r->group, round);
    int n_sends = 0, n_recvs = 0;
    for (int g = 0; g < r->n_groups; g++) {
        const span theirs = round_of(r, own, g, round);
        if (g == r->group) continue;
        if (mine.count) r->sends[n_sends++] = message(r, g, r->total + mine.first, mine.count);
        if (theirs.count) r->recvs[n_recvs++] = message(r, g, r->total + theirs.first, theirs.count);
    }
    return r->comm->ops->exchange(r->comm, r->sends, n_sends, r->recvs, n_recvs);
}

static vg_status sum_slice(vg_reducer *r, span own)
{
    if (r->n_groups == 1) {
        fold_group(r, own, r->total);
        return VG_OK;
    }
    const span longest = slice(own, r->n_groups, 0);
    for (int64_t round = 0; round * r->step < longest.count; round++) {
        VG_TRY(scatter_round(r, own, round));
        VG_TRY(gather_round(r, own, round));
    }
    return VG_OK;
}

vg_status vg_reducer_finish(vg_reducer *r, const float **total)
{
    VG_CHECK(r->next == r->count, VG_E_BUG, "%d of the rank's %d leaves were pushed", r->next, r->count);
    if (r->comm->size > 1) {
        VG_TRY(r->comm->ops->fence(r->comm, &r->window)); /* all leaves are there, nobody reads the last total */
        if (r->lane < r->n_lanes) VG_TRY(sum_slice(r, slice((span){0, r->n}, r->n_lanes, r->lane)));
        VG_TRY(r->comm->ops->fence(r->comm, &r->window));
    }
    r->next = r->depth = 0;
    *total = r->total;
    return VG_OK;
}

/* ---- making the plan ---- */

/* Which group a rank is in, [size]: the ranks of a window, or each alone. Also the lanes. */
static vg_status plan_groups(vg_reducer *r, int *group_of)
{
    const int size = r->comm->size, leader = r->window.of ? r->comm->leader : r->comm->rank;
    int *leaders = vg_new0_array((size_t)size, sizeof *leaders),
        *members = vg_new0_array((size_t)size, sizeof *members);
    vg_status st = leaders && members ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the plan of the sum");
    st = vg_comm_agree(r->comm, st);
    if (st == VG_OK) st = vg_comm_allgather(r->comm, &leader, sizeof leader, leaders);
    for (int i = 0; i < size && st == VG_OK; i++) {
        group_of[i] = leaders[i] == i ? r->n_groups++ : group_of[leaders[i]]; /* a leader is its group's first */
        members[group_of[i]]++;
    }
    r->n_lanes = size;
    for (int g = 0; g < r->n_groups; g++)
        if (members[g] < r->n_lanes) r->n_lanes = members[g];
    r->group = group_of[r->comm->rank];
    r->lane = r->window.of ? r->comm->local_rank : 0;
    free(leaders);
    free(members);
    return st;
}

static int by_start(const void *a, const void *b)
{
    const vg_tree_node *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

/* What the ranks of one group hold: parts as they are, nodes joined as far as they go; both have room. Fills its row of
 * peers. */
static void plan_group(vg_reducer *r, const int *group_of, int group, vg_tree_node *parts, int *n_parts,
                       vg_tree_node *nodes, int *n_nodes)
{
    int place = 0;
    *n_parts = *n_nodes = 0;
    for (int rank = 0; rank < r->comm->size; rank++) {
        if (group_of[rank] != group) continue;
        if (place < r->n_lanes) r->peers[group * r->n_lanes + place] = rank;
        vg_tree_node held[VG_TREE_DEPTH];
        int n_slots;
        const int n_held = vg_tree_of_rank(r->n_leaves, r->comm->size, rank, held, &n_slots);
        for (int i = 0; i < n_held; i++) {
            held[i].owner = place;
            parts[(*n_parts)++] = held[i];
            vg_tree_push(r->n_leaves, nodes, n_nodes, held[i]);
        }
        place++;
    }
}

static float *buffer_of(const vg_reducer *r, const vg_tree_node *part)
{
    float *base = r->window.of ? (float *)(void *)r->window.of[part->owner] : r->buffers;
    return base + part->slot * r->stride;
}

/* All groups' nodes in leaf order; parts, n_own and own_at of our group. `room` nodes are more than all. */
static vg_status plan_nodes(vg_reducer *r, const int *group_of, size_t room)
{
    vg_tree_node *parts = vg_new0_array(room, sizeof *parts), *nodes = vg_new0_array(room, sizeof *nodes);
    r->parts = vg_new0_array(room, sizeof *r->parts);
    r->nodes = vg_new0_array(room, sizeof *r->nodes);
    r->parts_at = vg_new0_array(room, sizeof *r->parts_at);
    r->own_at = vg_new0_array(room, sizeof *r->own_at);
    r->fold_nodes = vg_new0_array(room, sizeof *r->fold_nodes);
    r->fold_at = vg_new0_array(room, sizeof *r->fold_at);
    r->from = vg_new0_array(room, sizeof *r->from);
    r->between = vg_new0_array(room, PIECE * sizeof *r->between);
    r->peers = vg_new0_array((size_t)r->n_groups * (size_t)r->n_lanes, sizeof *r->peers);
    const bool all = parts && nodes && r->parts && r->nodes && r->parts_at && r->own_at && r->fold_nodes &&
                     r->fold_at && r->from && r->between && r->peers;
    for (int g = 0; g < r->n_groups && all; g++) {
        int n_parts, n_nodes;
        plan_group(r, group_of, g, parts, &n_parts, nodes, &n_nodes);
        if (g == r->group) {
            r->n_parts = n_parts;
            r->n_own = n_nodes;
            memcpy(r->parts, parts, (size_t)n_parts * sizeof *parts);
            for (int i = 0; i < n_parts; i++) r->parts_at[i] = buffer_of(r, &parts[i]);
            for (int i = 0; i < n_nodes; i++) r->own_at[i] = buffer_of(r, &nodes[i]); /* joined in the left part */
        }
        for (int i = 0; i < n_nodes; i++) nodes[i].owner = g;
        memcpy(r->nodes + r->n_nodes, nodes, (size_t)n_nodes * sizeof *nodes);
        r->n_nodes += n_nodes;
    }
    free(parts);
    free(nodes);
    VG_CHECK(all, VG_E_NOMEM, "no memory for the plan of the sum");
    qsort(r->nodes, (size_t)r->n_nodes, sizeof *r->nodes, by_start);
    return VG_OK;
}

/* Room for what the groups exchange. */
static vg_status plan_messages(vg_reducer *r)
{
    if (r->n_groups == 1) return VG_OK;
    const int others = r->n_nodes - r->n_own, per_group = r->n_own > 1 ? r->n_own : 1;
    const int64_t longest = slice(slice((span){0, r->n}, r->n_lanes, 0), r->n_groups, 0).count;
    const int64_t whole = (int64_t)vg_round_up((size_t)longest, UNIT);
    r->step = STAGING / r->n_nodes / UNIT * UNIT; /* the same on all ranks, or messages do not match */
    if (r->step < UNIT) r->step = UNIT;
    if (r->step > whole) r->step = whole;
    r->sends = vg_new0_array((size_t)r->n_groups * (size_t)per_group, sizeof *r->sends);
    r->recvs = vg_new0_array((size_t)r->n_groups + (size_t)others, sizeof *r->recvs);
    r->staging = vg_new0_array((size_t)others, (size_t)r->step * sizeof *r->staging);
    VG_CHECK(r->sends && r->recvs && r->staging, VG_E_NOMEM, "no memory for the exchange of the sum");
    return VG_OK;
}

/* Own buffers and the total: in the window, or in plain memory. */
static vg_status place_buffers(vg_reducer *r, int n_slots)
{
    const size_t bytes = (size_t)r->stride * sizeof(float);
    const bool lone = r->comm->size == 1;
    const int n_shared = n_slots + (r->comm->local_rank == 0);
    if (!lone) VG_TRY(r->comm->ops->share(r->comm, (size_t)n_shared * bytes, &r->window));
    if (r->window.of) {
        vg_tree_node nodes[VG_TREE_DEPTH];
        int n_leader;
        vg_tree_of_rank(r->n_leaves, r->comm->size, r->comm->leader, nodes, &n_leader);
        r->buffers = (float *)(void *)r->window.of[r->comm->local_rank];
        r->total = (float *)(void *)r->window.of[0] + n_leader * r->stride;
        if (n_shared) memset(r->buffers, 0, (size_t)n_shared * bytes); /* a rank may have no leaves, so no buffers */
        return VG_OK;
    }
    VG_TRY(vg_comm_agree(r->comm, vg_arena_init(&r->memory, (size_t)(n_slots + !lone) * bytes)));
    r->buffers = (float *)(void *)r->memory.base;
    r->total = lone ? r->buffers : r->buffers + n_slots * r->stride;
    return VG_OK;
}

static vg_status reducer_fill(vg_reducer *r)
{
    const int size = r->comm->size;
    size_t room = 1;
    int n_slots = 0;
    for (int rank = 0; rank < size; rank++) {
        vg_tree_node nodes[VG_TREE_DEPTH];
        int slots;
        room += (size_t)vg_tree_of_rank(r->n_leaves, size, rank, nodes, &slots);
        if (rank == r->comm->rank) n_slots = slots;
    }
    vg_leaves_of(r->n_leaves, size, r->comm->rank, &r->first, &r->count);
    VG_TRY(place_buffers(r, n_slots));
    if (size == 1) return VG_OK;
    int *group_of = vg_new0_array((size_t)size, sizeof *group_of);
    vg_status st = group_of ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the plan of the sum");
    st = vg_comm_agree(r->comm, st);
    if (st == VG_OK) st = plan_groups(r, group_of);
    if (st == VG_OK) st = plan_nodes(r, group_of, room);
    if (st == VG_OK) st = plan_messages(r);
    free(group_of);
    return vg_comm_agree(r->comm, st);
}

vg_status vg_reducer_new(vg_comm *comm, int64_t n, int n_leaves, vg_sum_fn sum, void *context, vg_reducer **out)
{
    VG_CHECK(n >= 0 && n_leaves >= 1, VG_E_BUG, "a sum of %lld floats over %d leaves", (long long)n, n_leaves);
    VG_CHECK(comm->size <= n_leaves, VG_E_CONFIG,
             "%d ranks for the %d micro-batches of a step: start at most %d ranks, or raise train.global_batch",
             comm->size, n_leaves, n_leaves);
    vg_reducer *r = vg_new0(sizeof *r);
    vg_status st = r ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the canonical sum");
    VG_TRY(vg_comm_agree(comm, st));
    *r = (vg_reducer){.comm = comm, .n = n, .stride = (int64_t)vg_round_up((size_t)n, UNIT), .n_leaves = n_leaves};
    r->sum = sum ? sum : plain_sum;
    r->context = context;
    st = reducer_fill(r);
    if (st != VG_OK) {
        vg_reducer_free(r);
        return st;
    }
    *out = r;
    return VG_OK;
}

void vg_reducer_free(vg_reducer *r)
{
    if (!r) return;
    r->comm->ops->unshare(r->comm, &r->window);
    vg_arena_release(&r->memory);
    free(r->peers);
    free(r->parts);
    free(r->nodes);
    free(r->parts_at);
    free(r->own_at);
    free(r->staging);
    free(r->sends);
    free(r->recvs);
    free(r->fold_nodes);
    free(r->fold_at);
    free(r->from);
    free(r->between);
    free(r);
}

/* ---- a few numbers ---- */

vg_status vg_tree_sum_f64(vg_comm *comm, int n_leaves, const double *own, int n, double *total)
{
    int first, count;
    vg_leaves_of(n_leaves, comm->size, comm->rank, &first, &count);
    const size_t row = (size_t)n * sizeof(double);
    const size_t each = ((size_t)n_leaves + (size_t)comm->size - 1) / (size_t)comm->size; /* leaves of a full rank */
    vg_status st = vg_grow(&comm->scratch, &comm->scratch_bytes, (each + each * (size_t)comm->size) * row, 1);
    if (st != VG_OK) return st;
    double *mine = (double *)comm->scratch, *all = mine + each * (size_t)n;
    if (count) memcpy(mine, own, (size_t)count * row);
    VG_TRY(vg_comm_allgather(comm, mine, each * row, all)); /* leaf i lies at row i: only the last ranks fall short */
    for (int64_t stride = 1; stride < n_leaves; stride *= 2)
        for (int64_t i = 0; i + stride < n_leaves; i += 2 * stride)
            for (int j = 0; j < n; j++) all[i * n + j] += all[(i + stride) * n + j];
    memcpy(total, all, row);
    return VG_OK;
}
