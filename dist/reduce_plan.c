/* Making a canonical sum over memory: where its buffers lie, who sends what to whom in which rounds. */
#include "dist/reduce_impl.h"

#include <stdlib.h>
#include <string.h>

enum {
    NUMBER = sizeof(double) / sizeof(float), /* floats a block of an array with a number for each */
    /* Floats of a round, so large that VG_ROUNDS_AT_ONCE of them take a bucket of 16 MiB at once: MPI asks before it
     * sends a long message, and over TCP the question and its answer wait behind all that is on its way. */
    STAGING = 1 << 20,
    SHORT = 1 << 15, /* floats of a message that is hardly slower than its bytes */
};

/* Buffers of a rank. One that has no leaves needs a place for what it gathers. */
static int slots_of(int n_leaves, int n_ranks, int rank, bool sliced)
{
    vg_tree_node nodes[VG_TREE_DEPTH];
    int n_slots;
    vg_tree_of_rank(n_leaves, n_ranks, rank, nodes, &n_slots);
    return n_slots || !sliced ? n_slots : 1;
}

/* The total, and behind it room for a number of each block, which ranks of a group give each other there. */
static int64_t total_floats(int64_t stride, bool sliced)
{
    return sliced ? stride + stride / VG_SLICE_UNIT * NUMBER : stride;
}

size_t vg_reducer_bytes(const vg_sum_plan *plan, int n_ranks, int rank)
{
    const int64_t stride = (int64_t)vg_round_up((size_t)plan->n, VG_SLICE_UNIT);
    const bool sliced = plan->sliced && n_ranks > 1;
    const int64_t buffers = slots_of(plan->n_leaves, n_ranks, rank, sliced) * stride;
    const int64_t total = n_ranks > 1 && rank == 0 ? total_floats(stride, sliced) : 0;
    return (size_t)(buffers + total) * sizeof(float);
}

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
    r->adder.between = vg_new0_array(room, VG_SUM_PIECE * sizeof *r->adder.between);
    r->adder.stride = VG_SUM_PIECE;
    VG_CHECK(r->parts_at && r->own_at && r->from && r->adder.stack && r->adder.at && r->adder.between, VG_E_NOMEM,
             "no memory for the plan of the sum");
    for (int i = 0; i < g->n_parts; i++) r->parts_at[i] = buffer_of(r, &g->parts[i]);
    for (int i = 0; i < g->n_own; i++) r->own_at[i] = buffer_of(r, &g->own[i]);
    return VG_OK;
}

/* Floats of a node in a round, the same on all ranks, or messages would not match. A short slice makes several rounds,
 * too, as long as their messages are not too short for the link. */
static int64_t step_of(const vg_reducer *r, int64_t longest)
{
    const int64_t most = STAGING / r->groups.n_nodes / VG_SLICE_UNIT * VG_SLICE_UNIT,
                  shared = longest / VG_ROUNDS_AT_ONCE / VG_SLICE_UNIT * VG_SLICE_UNIT;
    const int64_t least = SHORT < longest ? SHORT : longest;
    const int64_t step = shared < most ? shared : most;
    return step > least ? step : least > VG_SLICE_UNIT ? least : VG_SLICE_UNIT;
}

/* Two groups with a node each send as many bytes when they give each other all of it, and nobody waits for totals. */
static int shares_of(const vg_groups *groups, bool sliced)
{
    return groups->n_groups == 2 && groups->n_nodes == 2 && !sliced ? 1 : groups->n_groups;
}

/* The rounds of our slices, or their number where there is no room yet. */
static int cut_rounds(const vg_reducer *r, vg_exchange_round *rounds)
{
    int n = 0;
    for (int b = 0; b < r->n_buckets; b++) {
        const int64_t longest = vg_span_slice(vg_reducer_lane(r, b), r->n_shares, 0).count;
        for (int64_t skip = 0; skip < longest; skip += r->step, n++)
            if (rounds) rounds[n] = (vg_exchange_round){b, skip};
    }
    return n;
}

/* Room for what the groups exchange. */
static vg_status plan_messages(vg_reducer *r)
{
    if (r->groups.n_groups == 1) return VG_OK;
    const int others = r->groups.n_nodes - r->groups.n_own, per_group = r->groups.n_own > 1 ? r->groups.n_own : 1;
    const vg_span lane = {0, vg_longest_slice(r->buckets, r->n_buckets, r->groups.n_lanes)};
    r->n_shares = shares_of(&r->groups, r->sliced);
    const int64_t whole = (int64_t)vg_round_up((size_t)vg_span_slice(lane, r->n_shares, 0).count, VG_SLICE_UNIT);
    r->step = step_of(r, whole);
    r->n_rounds = cut_rounds(r, NULL);
    r->rounds = vg_new0_array((size_t)r->n_rounds, sizeof *r->rounds);
    r->sends = vg_new0_array((size_t)r->groups.n_groups * (size_t)per_group, sizeof *r->sends);
    r->recvs = vg_new0_array((size_t)r->groups.n_groups + (size_t)others, sizeof *r->recvs);
    r->staging = vg_new0_array((size_t)(VG_ROUNDS_AT_ONCE * others), (size_t)r->step * sizeof *r->staging);
    VG_CHECK(r->rounds && r->sends && r->recvs && r->staging, VG_E_NOMEM, "no memory for the exchange of the sum");
    cut_rounds(r, r->rounds);
    return VG_OK;
}

/* Own buffers and the total: in the window, or in plain memory. */
static vg_status place_buffers(vg_reducer *r)
{
    const vg_comm *comm = r->comm;
    const bool lone = comm->size == 1;
    const int64_t own = slots_of(r->n_leaves, comm->size, comm->rank, r->sliced) * r->stride;
    const int64_t total = total_floats(r->stride, r->sliced);
    const size_t shared_bytes = (size_t)(own + (comm->local_rank == 0 ? total : 0)) * sizeof(float);
    if (!lone) VG_TRY(comm->ops->share(r->comm, shared_bytes, &r->window));
    if (r->window.of) {
        r->buffers = (float *)(void *)r->window.of[comm->local_rank];
        r->total =
            (float *)(void *)r->window.of[0] + slots_of(r->n_leaves, comm->size, comm->leader, r->sliced) * r->stride;
        if (shared_bytes) memset(r->buffers, 0, shared_bytes); /* a rank may have no leaves, so no buffers */
        return VG_OK;
    }
    VG_TRY(vg_comm_agree(r->comm, vg_arena_init(&r->memory, (size_t)(lone ? own : own + total) * sizeof(float))));
    r->buffers = (float *)(void *)r->memory.base;
    r->total = lone ? r->buffers : r->buffers + own;
    return VG_OK;
}

/* What several ranks need to exchange. Collective. */
static vg_status plan_exchange(vg_reducer *r)
{
    VG_TRY(vg_groups_init(&r->groups, r->comm, r->n_leaves, r->window.of != NULL));
    vg_status st = plan_nodes(r);
    if (st == VG_OK) st = plan_messages(r);
    if (st == VG_OK) st = vg_worker_start(vg_reducer_bucket_job, r, &r->worker);
    return vg_comm_agree(r->comm, st);
}

static vg_status reducer_fill(vg_reducer *r)
{
    vg_leaves_of(r->n_leaves, r->comm->size, r->comm->rank, &r->first, &r->count);
    VG_TRY(place_buffers(r));
    return r->comm->size > 1 ? plan_exchange(r) : VG_OK;
}

static vg_status new_reducer(vg_comm *comm, const vg_sum_plan *plan, vg_reducer **out)
{
    vg_reducer *r = *out = vg_new0(sizeof *r);
    VG_CHECK(r, VG_E_NOMEM, "no memory for the canonical sum");
    *r = (vg_reducer){.comm = comm,
                      .n = plan->n,
                      .stride = (int64_t)vg_round_up((size_t)plan->n, VG_SLICE_UNIT),
                      .n_leaves = plan->n_leaves,
                      .n_buckets = plan->n_buckets,
                      .sliced = plan->sliced && comm->size > 1};
    r->buckets = vg_new0_array((size_t)r->n_buckets, sizeof *r->buckets);
    r->times = vg_new0_array((size_t)r->n_buckets, sizeof *r->times);
    VG_CHECK(r->buckets && r->times, VG_E_NOMEM, "no memory for %d buckets of gradients", r->n_buckets);
    vg_cut_buckets(plan, r->buckets);
    return VG_OK;
}

vg_status vg_reducer_new(vg_comm *comm, const vg_sum_plan *plan, vg_sum_fn sum, void *context, vg_reducer **out)
{
    VG_CHECK(plan->n >= 0 && plan->n_leaves >= 1 && plan->n_buckets >= 1, VG_E_BUG,
             "a sum of %lld floats over %d leaves in %d buckets", (long long)plan->n, plan->n_leaves, plan->n_buckets);
    VG_CHECK(!plan->sliced || (!plan->fast && plan->n % VG_SLICE_UNIT == 0), VG_E_BUG,
             "slices of a sum of %lld floats%s", (long long)plan->n, plan->fast ? " by a fast reduction" : "");
    VG_CHECK(comm->size <= plan->n_leaves, VG_E_CONFIG,
             "%d ranks for the %d micro-batches of a step: start at most %d ranks, or raise train.global_batch",
             comm->size, plan->n_leaves, plan->n_leaves);
    vg_reducer *r = NULL;
    vg_status st = vg_comm_agree(comm, new_reducer(comm, plan, &r));
    if (st == VG_OK) {
        r->sum = sum ? sum : vg_sum_floats;
        r->sum_context = context;
        r->adder = (vg_tree_adder){.sum = vg_sum_floats, .copy = vg_copy_floats};
        st = reducer_fill(r);
    }
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
    vg_worker_free(r->worker);
    r->comm->ops->unshare(r->comm, &r->window);
    vg_arena_release(&r->memory);
    vg_groups_release(&r->groups);
    free(r->buckets);
    free(r->times);
    free(r->parts_at);
    free(r->own_at);
    free(r->from);
    free(r->adder.stack);
    free(r->adder.at);
    free(r->adder.between);
    free(r->staging);
    free(r->rounds);
    free(r->sends);
    free(r->recvs);
    free(r);
}
