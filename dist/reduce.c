/* The canonical sum over memory. Ranks that share a window are a group; without one each rank is a group of its own.
 * A group sums its nodes as far as they are siblings, slice by slice; the groups exchange what is left. */
#include "dist/comm_impl.h"
#include "dist/groups_impl.h"

#include <stdlib.h>
#include <string.h>

enum {
    UNIT = VG_SLICE_UNIT,
    PIECE = 8192,      /* floats summed at a time: all sources of a piece stay in the second-level cache */
    STAGING = 1 << 19, /* floats on their way from other groups at a time: large messages, and they stay in the cache */
};

struct vg_reducer {
    vg_comm *comm;
    int64_t n, stride; /* floats of a total, and from buffer to buffer */
    int n_leaves;

    int first, count, next; /* own leaves, and how many are pushed */
    vg_tree_node stack[VG_TREE_DEPTH];
    int depth;

    vg_window window;
    vg_arena memory; /* own buffers where there is no window */
    float *buffers;  /* own [n_slots, stride] */
    float *total;    /* [stride], one a group; a lone rank's is its first buffer */

    vg_groups groups;           /* the ranks that share a window, or each alone */
    float **parts_at, **own_at; /* where the groups' parts and own nodes lie */
    float **from;               /* scratch: where the nodes of one sum lie */
    vg_tree_adder adder;
    float *staging; /* [n_nodes - n_own, step] */
    int64_t step;   /* floats of a node that are exchanged at a time */
    vg_message *sends, *recvs;
};

static void plain_sum(void *context, float *dst, const float *a, const float *b, int64_t n)
{
    (void)context;
    for (int64_t i = 0; i < n; i++) dst[i] = a[i] + b[i];
}

static void plain_copy(void *context, float *dst, const float *src, int64_t n)
{
    (void)context;
    memcpy(dst, src, (size_t)n * sizeof *dst);
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
        r->adder.sum(r->adder.context, left, left, left + r->stride, r->n);
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

/* The nodes of our group within a span: summed to where own_at says, or to `root` when they make the whole tree. */
static void fold_group(vg_reducer *r, vg_span where, float *root)
{
    for (int64_t done = 0; done < where.count; done += PIECE) {
        const int64_t at = where.first + done, left = where.count - done;
        for (int i = 0; i < r->groups.n_parts; i++) r->from[i] = r->parts_at[i] + at;
        vg_tree_add(&r->adder, r->n_leaves, r->groups.parts, r->groups.n_parts, r->from, left < PIECE ? left : PIECE,
                    root ? root + at : NULL);
    }
}

/* What of a group's share of our slice is dealt with in one round. */
static vg_span round_of(const vg_reducer *r, vg_span own, int group, int64_t round)
{
    vg_span s = vg_span_slice(own, r->groups.n_groups, group);
    const int64_t skip = round * r->step < s.count ? round * r->step : s.count;
    s.first += skip;
    s.count = s.count - skip < r->step ? s.count - skip : r->step;
    return s;
}

static vg_message message(const vg_reducer *r, int group, float *data, int64_t n)
{
    return (vg_message){.peer = r->groups.peers[group * r->groups.n_lanes + r->groups.lane],
                        .data = data,
                        .bytes = (size_t)n * sizeof(float)};
}

/* Each group gets the nodes of all others for its share, and sums them in tree order into the total. */
static vg_status scatter_round(vg_reducer *r, vg_span own, int64_t round)
{
    const vg_span mine = round_of(r, own, r->groups.group, round);
    int n_sends = 0, n_recvs = 0, n_own = 0;
    for (int g = 0; g < r->groups.n_groups; g++) {
        const vg_span theirs = round_of(r, own, g, round);
        fold_group(r, theirs, NULL);
        for (int i = 0; i < r->groups.n_own && g != r->groups.group && theirs.count; i++)
            r->sends[n_sends++] = message(r, g, r->own_at[i] + theirs.first, theirs.count);
    }
    for (int i = 0; i < r->groups.n_nodes; i++) {
        const int owner = r->groups.nodes[i].owner;
        if (owner == r->groups.group) {
            r->from[i] = r->own_at[n_own++] + mine.first;
            continue;
        }
        r->from[i] = r->staging + (i - n_own) * r->step;
        if (mine.count) r->recvs[n_recvs++] = message(r, owner, r->from[i], mine.count);
    }
    VG_TRY(r->comm->ops->exchange(r->comm, r->sends, n_sends, r->recvs, n_recvs));
    for (int64_t done = 0; done < mine.count; done += PIECE) {
        const int64_t left = mine.count - done;
        vg_tree_add(&r->adder, r->n_leaves, r->groups.nodes, r->groups.n_nodes, r->from, left < PIECE ? left : PIECE,
                    r->total + mine.first + done);
        for (int i = 0; i < r->groups.n_nodes; i++) r->from[i] += PIECE;
    }
    return VG_OK;
}

static vg_status gather_round(vg_reducer *r, vg_span own, int64_t round)
{
    const vg_span mine = round_of(r, own, r->groups.group, round);
    int n_sends = 0, n_recvs = 0;
    for (int g = 0; g < r->groups.n_groups; g++) {
        const vg_span theirs = round_of(r, own, g, round);
        if (g == r->groups.group) continue;
        if (mine.count) r->sends[n_sends++] = message(r, g, r->total + mine.first, mine.count);
        if (theirs.count) r->recvs[n_recvs++] = message(r, g, r->total + theirs.first, theirs.count);
    }
    return r->comm->ops->exchange(r->comm, r->sends, n_sends, r->recvs, n_recvs);
}

static vg_status sum_slice(vg_reducer *r, vg_span own)
{
    if (r->groups.n_groups == 1) {
        fold_group(r, own, r->total);
        return VG_OK;
    }
    const vg_span longest = vg_span_slice(own, r->groups.n_groups, 0);
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
        if (r->groups.lane < r->groups.n_lanes)
            VG_TRY(sum_slice(r, vg_span_slice((vg_span){0, r->n}, r->groups.n_lanes, r->groups.lane)));
        VG_TRY(r->comm->ops->fence(r->comm, &r->window));
    }
    r->next = r->depth = 0;
    *total = r->total;
    return VG_OK;
}

/* ---- making the plan ---- */

static float *buffer_of(const vg_reducer *r, const vg_tree_node *part)
{
    float *base = r->window.of ? (float *)(void *)r->window.of[part->owner] : r->buffers;
    return base + part->slot * r->stride;
}

/* Where the nodes lie, and scratch for adding them. */
static vg_status plan_nodes(vg_reducer *r)
{
    const vg_groups *g = &r->groups;
    const size_t room = (size_t)(g->n_parts > g->n_nodes ? g->n_parts : g->n_nodes) + 1;
    r->parts_at = vg_new0_array(room, sizeof *r->parts_at);
    r->own_at = vg_new0_array(room, sizeof *r->own_at);
    r->from = vg_new0_array(room, sizeof *r->from);
    r->adder.stack = vg_new0_array(room, sizeof *r->adder.stack);
    r->adder.at = vg_new0_array(room, sizeof *r->adder.at);
    r->adder.between = vg_new0_array(room, PIECE * sizeof *r->adder.between);
    r->adder.stride = PIECE;
    VG_CHECK(r->parts_at && r->own_at && r->from && r->adder.stack && r->adder.at && r->adder.between, VG_E_NOMEM,
             "no memory for the plan of the sum");
    for (int i = 0; i < g->n_parts; i++) r->parts_at[i] = buffer_of(r, &g->parts[i]);
    for (int i = 0; i < g->n_own; i++) r->own_at[i] = buffer_of(r, &g->own[i]);
    return VG_OK;
}

/* Room for what the groups exchange. */
static vg_status plan_messages(vg_reducer *r)
{
    if (r->groups.n_groups == 1) return VG_OK;
    const int others = r->groups.n_nodes - r->groups.n_own, per_group = r->groups.n_own > 1 ? r->groups.n_own : 1;
    const int64_t longest =
        vg_span_slice(vg_span_slice((vg_span){0, r->n}, r->groups.n_lanes, 0), r->groups.n_groups, 0).count;
    const int64_t whole = (int64_t)vg_round_up((size_t)longest, UNIT);
    r->step = STAGING / r->groups.n_nodes / UNIT * UNIT; /* the same on all ranks, or messages do not match */
    if (r->step < UNIT) r->step = UNIT;
    if (r->step > whole) r->step = whole;
    r->sends = vg_new0_array((size_t)r->groups.n_groups * (size_t)per_group, sizeof *r->sends);
    r->recvs = vg_new0_array((size_t)r->groups.n_groups + (size_t)others, sizeof *r->recvs);
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
    vg_tree_node nodes[VG_TREE_DEPTH];
    int n_slots;
    vg_tree_of_rank(r->n_leaves, size, r->comm->rank, nodes, &n_slots);
    vg_leaves_of(r->n_leaves, size, r->comm->rank, &r->first, &r->count);
    VG_TRY(place_buffers(r, n_slots));
    if (size == 1) return VG_OK;
    VG_TRY(vg_groups_init(&r->groups, r->comm, r->n_leaves, r->window.of != NULL));
    vg_status st = plan_nodes(r);
    if (st == VG_OK) st = plan_messages(r);
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
    r->adder = (vg_tree_adder){.sum = sum ? sum : plain_sum, .copy = plain_copy, .context = context};
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
    vg_groups_release(&r->groups);
    free(r->parts_at);
    free(r->own_at);
    free(r->from);
    free(r->adder.stack);
    free(r->adder.at);
    free(r->adder.between);
    free(r->staging);
    free(r->sends);
    free(r->recvs);
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
