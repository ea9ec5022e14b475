/* The canonical sum over memory. Ranks that share a window are a group; without one each rank is a group of its own.
 * A group sums its nodes as far as they are siblings, slice by slice; the groups exchange what is left, each to sum its
 * share and hand it round, or (two groups) all of it. A sliced sum ends before that. Buckets are
 * summed in their order, by a thread behind the caller while that one has leaves to compute. */
#include "dist/comm_impl.h"
#include "dist/groups_impl.h"
#include "dist/worker_impl.h"

#include <stdlib.h>
#include <string.h>

enum {
    UNIT = VG_SLICE_UNIT,
    NUMBER = sizeof(double) / sizeof(float), /* floats a block of an array with a number for each */
    PIECE = 8192, /* floats summed at a time: all sources of a piece stay in the second-level cache */
    /* Floats of a round, so large that DEPTH of them take a bucket of 16 MiB at once: MPI asks before it sends a long
     * message, and over TCP the question and its answer wait behind all that is on its way. */
    STAGING = 1 << 20,
    SHORT = 1 << 15,          /* floats of a message that is hardly slower than its bytes */
    DEPTH = VG_EXCHANGES / 2, /* rounds on their way at a time */
};

/* When a bucket was dealt with. */
typedef struct bucket_times {
    double start_s, end_s;
} bucket_times;

/* What groups exchange at a time: of each one's share of a slice of a bucket, `step` floats behind the first `skip`. */
typedef struct exchange_round {
    int bucket;
    int64_t skip;
} exchange_round;

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

    vg_worker *worker;     /* its jobs are the buckets; NULL: a lone rank has none */
    atomic_int n_complete; /* buckets that may leave */
    bool settled;          /* all have come to their end */
    bucket_times *times;   /* [n_buckets] */

    vg_window window;
    vg_arena memory; /* own buffers where there is no window */
    float *buffers;  /* own [n_slots, stride] */
    float *total;    /* [total_floats], one a group; a lone rank's is its first buffer */

    vg_groups groups;           /* the ranks that share a window, or each alone */
    float **parts_at, **own_at; /* where the groups' parts and own nodes lie */
    float **from;               /* scratch: where the nodes of one sum lie */
    vg_tree_adder adder;
    float *staging;         /* [DEPTH, n_nodes - n_own, step] */
    int n_shares;           /* of a slice: one for each group that sums; 1: every group sums all of it */
    int64_t step;           /* floats of a node that are exchanged at a time */
    exchange_round *rounds; /* [n_rounds] in the order of buckets */
    int n_rounds;
    int n_prepared, n_begun, n_summed; /* buckets, and rounds, of this step so far */
    vg_message *sends, *recvs;
};

VG_EACH_CPU static void plain_sum(void *context, float *dst, const float *a, const float *b, int64_t n)
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

/* The joins that a leaf brings, within a span. */
static void join_leaf(const vg_reducer *r, int leaf, vg_span where, vg_tree_node *stack, int *depth, vg_sum_fn sum)
{
    int top = *depth;
    const vg_tree_node node = {.start = leaf, .slot = *depth};
    for (int joins = vg_tree_push(r->n_leaves, stack, depth, node); joins > 0; joins--, top--) {
        float *left = r->buffers + (top - 1) * r->stride + where.first;
        sum(r->sum_context, left, left, left + r->stride, where.count);
    }
}

/* Of several ranks the last leaf joins when its buckets leave. */
static bool joins_in_buckets(const vg_reducer *r)
{
    return r->worker && r->next + 1 == r->count;
}

void vg_reducer_push(vg_reducer *r, bool empty)
{
    if (empty) memset(vg_reducer_leaf(r), 0, (size_t)r->n * sizeof(float));
    if (!joins_in_buckets(r)) join_leaf(r, r->first + r->next, (vg_span){0, r->n}, r->stack, &r->depth, r->sum);
    r->next++;
}

void vg_reducer_complete(vg_reducer *r, int64_t end)
{
    const int before = atomic_load(&r->n_complete);
    int n = before;
    if (!joins_in_buckets(r)) return;
    while (n < r->n_buckets && r->buckets[n].first + r->buckets[n].count <= end) n++;
    if (n == before) return;
    atomic_store(&r->n_complete, n);
    atomic_store(&r->comm->naps, true); /* the processor is busy with what comes next */
    vg_worker_allow(r->worker, n);
}

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
    return sliced ? stride + stride / UNIT * NUMBER : stride;
}

size_t vg_reducer_bytes(const vg_sum_plan *plan, int n_ranks, int rank)
{
    const int64_t stride = (int64_t)vg_round_up((size_t)plan->n, UNIT);
    const bool sliced = plan->sliced && n_ranks > 1;
    const int64_t buffers = slots_of(plan->n_leaves, n_ranks, rank, sliced) * stride;
    const int64_t total = n_ranks > 1 && rank == 0 ? total_floats(stride, sliced) : 0;
    return (size_t)(buffers + total) * sizeof(float);
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

/* Our slice of a bucket; none where there are more of us than lanes. */
static vg_span lane_of(const vg_reducer *r, int bucket)
{
    const vg_groups *g = &r->groups;
    const vg_span whole = r->buckets[bucket];
    return g->lane < g->n_lanes ? vg_span_slice(whole, g->n_lanes, g->lane) : (vg_span){whole.first, 0};
}

/* What of a group's share of our slice is dealt with in round k. */
static vg_span share_of(const vg_reducer *r, int k, int group)
{
    vg_span s = vg_span_slice(lane_of(r, r->rounds[k].bucket), r->n_shares, r->n_shares > 1 ? group : 0);
    const int64_t skip = r->rounds[k].skip < s.count ? r->rounds[k].skip : s.count;
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

/* Where the other groups' nodes of a round lie when they are here. */
static float *staging_of(const vg_reducer *r, int k)
{
    return r->staging + (int64_t)(k % DEPTH) * (r->groups.n_nodes - r->groups.n_own) * r->step;
}

/* Each group gets the nodes of all others for its share. */
static vg_status begin_scatter(vg_reducer *r, int k)
{
    const vg_groups *g = &r->groups;
    const int64_t mine = share_of(r, k, g->group).count;
    float *to = staging_of(r, k);
    int n_sends = 0, n_recvs = 0;
    for (int group = 0; group < g->n_groups; group++) {
        const vg_span theirs = share_of(r, k, group);
        if (r->n_shares > 1 || group == g->group) fold_group(r, theirs, NULL); /* once */
        for (int i = 0; i < g->n_own && group != g->group && theirs.count; i++)
            r->sends[n_sends++] = message(r, group, r->own_at[i] + theirs.first, theirs.count);
    }
    for (int i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].owner == g->group) continue;
        if (mine) r->recvs[n_recvs++] = message(r, g->nodes[i].owner, to, mine);
        to += r->step;
    }
    return r->comm->ops->begin(r->comm, k % DEPTH, r->sends, n_sends, r->recvs, n_recvs);
}

/* Our share of the total, in tree order. */
static void add_nodes(vg_reducer *r, int k)
{
    const vg_groups *g = &r->groups;
    const vg_span mine = share_of(r, k, g->group);
    float *theirs = staging_of(r, k);
    for (int i = 0, n_own = 0; i < g->n_nodes; i++) {
        const bool ours = g->nodes[i].owner == g->group;
        r->from[i] = ours ? r->own_at[n_own++] + mine.first : theirs;
        if (!ours) theirs += r->step;
    }
    for (int64_t done = 0; done < mine.count; done += PIECE) {
        const int64_t left = mine.count - done;
        vg_tree_add(&r->adder, r->n_leaves, g->nodes, g->n_nodes, r->from, left < PIECE ? left : PIECE,
                    r->total + mine.first + done);
        for (int i = 0; i < g->n_nodes; i++) r->from[i] += PIECE;
    }
}

/* Each group gives all others the total of its share. */
static vg_status begin_gather(vg_reducer *r, int k)
{
    const int exchange = DEPTH + k % DEPTH;
    const vg_span mine = share_of(r, k, r->groups.group);
    int n_sends = 0, n_recvs = 0;
    if (r->n_shares == 1 || r->sliced) return VG_OK; /* all have summed all of it, or nobody wants more */
    VG_TRY(r->comm->ops->end(r->comm, exchange));    /* of DEPTH rounds before */
    for (int g = 0; g < r->groups.n_groups; g++) {
        const vg_span theirs = share_of(r, k, g);
        if (g == r->groups.group) continue;
        if (mine.count) r->sends[n_sends++] = message(r, g, r->total + mine.first, mine.count);
        if (theirs.count) r->recvs[n_recvs++] = message(r, g, r->total + theirs.first, theirs.count);
    }
    return r->comm->ops->begin(r->comm, exchange, r->sends, n_sends, r->recvs, n_recvs);
}

/* ---- buckets ---- */

static vg_status fence(vg_reducer *r)
{
    return r->comm->ops->fence(r->comm, &r->window);
}

/* Joins the rank's last leaf. Then the host has all of a bucket, and nobody reads the last total. */
static vg_status prepare_bucket(vg_reducer *r, int b)
{
    for (; r->n_prepared <= b; r->n_prepared++) {
        vg_tree_node stack[VG_TREE_DEPTH];
        int depth = r->depth;
        memcpy(stack, r->stack, sizeof stack);
        if (r->count) join_leaf(r, r->first + r->count - 1, r->buckets[r->n_prepared], stack, &depth, plain_sum);
        VG_TRY(fence(r));
    }
    return VG_OK;
}

/* Whether a round may leave while round k is waited for. Others of the host would be waited for if it were of a bucket
 * that is not complete everywhere. */
static bool may_leave(vg_reducer *r, int round, int k)
{
    if (round >= r->n_rounds || round >= k + DEPTH) return false;
    const int bucket = r->rounds[round].bucket;
    return bucket <= r->rounds[k].bucket || (r->groups.n_mates == 1 && bucket < atomic_load(&r->n_complete));
}

/* Several rounds are on their way at a time, of more than one bucket, so that the link never waits for us. */
static vg_status sum_round(vg_reducer *r, int k)
{
    for (; may_leave(r, r->n_begun, k); r->n_begun++) {
        VG_TRY(prepare_bucket(r, r->rounds[r->n_begun].bucket));
        VG_TRY(begin_scatter(r, r->n_begun));
    }
    VG_TRY(r->comm->ops->end(r->comm, k % DEPTH));
    add_nodes(r, k);
    return begin_gather(r, k);
}

static vg_status sum_bucket(vg_reducer *r, int b)
{
    VG_TRY(prepare_bucket(r, b));
    if (r->groups.n_groups == 1) fold_group(r, lane_of(r, b), r->total);
    for (; r->n_summed < r->n_rounds && r->rounds[r->n_summed].bucket == b; r->n_summed++)
        VG_TRY(sum_round(r, r->n_summed));
    if (b + 1 < r->n_buckets) return VG_OK;
    for (int i = DEPTH; i < 2 * DEPTH; i++) VG_TRY(r->comm->ops->end(r->comm, i));
    return fence(r); /* the slices of the others */
}

static vg_status bucket_job(void *reducer, int b)
{
    vg_reducer *r = reducer;
    r->times[b].start_s = vg_now_s();
    const vg_status st = sum_bucket(r, b);
    r->times[b].end_s = vg_now_s();
    return st;
}

vg_status vg_reducer_settle(vg_reducer *r)
{
    if (!r->worker || r->settled) return VG_OK;
    while (r->next < r->count) vg_reducer_push(r, false);
    r->settled = true;
    atomic_store(&r->n_complete, r->n_buckets);
    atomic_store(&r->comm->naps, false);
    return vg_worker_finish(r->worker, r->n_buckets);
}

vg_status vg_reducer_finish(vg_reducer *r, const float **total)
{
    VG_CHECK(r->next == r->count, VG_E_BUG, "%d of the rank's %d leaves were pushed", r->next, r->count);
    VG_TRY(vg_reducer_settle(r));
    r->next = r->depth = r->n_prepared = r->n_begun = r->n_summed = 0;
    atomic_store(&r->n_complete, 0);
    r->settled = false;
    *total = r->total;
    return VG_OK;
}

void vg_reducer_bucket_times(const vg_reducer *r, int bucket, double *start_s, double *end_s)
{
    *start_s = r->times[bucket].start_s;
    *end_s = r->times[bucket].end_s;
}

/* ---- slices ---- */

bool vg_reducer_is_sliced(const vg_reducer *r)
{
    return r->sliced;
}

/* Of our slice of a bucket, what equal ranks of a group own. */
static vg_span owned_by(const vg_reducer *r, int bucket, int group)
{
    return vg_span_slice(lane_of(r, bucket), r->groups.n_groups, group);
}

static vg_span own_slice(const vg_reducer *r, int bucket)
{
    return r->sliced ? owned_by(r, bucket, r->groups.group) : r->buckets[bucket];
}

void vg_reducer_slice(const vg_reducer *r, int bucket, int64_t *first, int64_t *count)
{
    const vg_span own = own_slice(r, bucket);
    *first = own.first;
    *count = own.count;
}

/* What an array of block_floats floats a block has of floats first .. end - 1 of the total. */
static void copy_blocks(float *to, const float *from, int64_t block_floats, int64_t first, int64_t end)
{
    memcpy(to + first / UNIT * block_floats, from + first / UNIT * block_floats,
           (size_t)((end - first) / UNIT * block_floats) * sizeof *to);
}

static void add_blocks(const vg_reducer *r, vg_message *messages, int *n, int group, float *array, int64_t block_floats,
                       vg_span span)
{
    if (span.count)
        messages[(*n)++] =
            message(r, group, array + span.first / UNIT * block_floats, span.count / UNIT * block_floats);
}

/* Equal ranks of the groups give each other what they own, several buckets on their way at a time. */
static vg_status gather_far(vg_reducer *r, float *array, int64_t block_floats)
{
    const vg_groups *g = &r->groups;
    if (g->n_groups == 1) return VG_OK;
    for (int b = 0; b < r->n_buckets; b++) {
        int n_sends = 0, n_recvs = 0;
        VG_TRY(r->comm->ops->end(r->comm, b % VG_EXCHANGES));
        for (int group = 0; group < g->n_groups; group++) {
            if (group == g->group) continue;
            add_blocks(r, r->sends, &n_sends, group, array, block_floats, own_slice(r, b));
            add_blocks(r, r->recvs, &n_recvs, group, array, block_floats, owned_by(r, b, group));
        }
        VG_TRY(r->comm->ops->begin(r->comm, b % VG_EXCHANGES, r->sends, n_sends, r->recvs, n_recvs));
    }
    for (int i = 0; i < VG_EXCHANGES; i++) VG_TRY(r->comm->ops->end(r->comm, i));
    return VG_OK;
}

/* Ranks of a group give each other what they have through the window. */
vg_status vg_reducer_gather(vg_reducer *r, float *array, int64_t block_floats)
{
    if (!r->sliced) return VG_OK;
    if (!r->window.of) return gather_far(r, array, block_floats);
    float *shared = block_floats == UNIT ? r->total : r->total + r->stride;
    for (int b = 0; b < r->n_buckets; b++) {
        const vg_span own = own_slice(r, b);
        copy_blocks(shared, array, block_floats, own.first, own.first + own.count);
    }
    VG_TRY(gather_far(r, shared, block_floats));
    VG_TRY(fence(r));
    for (int b = 0; b < r->n_buckets; b++) {
        const vg_span all = r->buckets[b], own = own_slice(r, b);
        copy_blocks(array, shared, block_floats, all.first, own.first);
        copy_blocks(array, shared, block_floats, own.first + own.count, all.first + all.count);
    }
    return fence(r); /* the place may be used again */
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

/* Floats of a node in a round, the same on all ranks, or messages would not match. A short slice makes several rounds,
 * too, as long as their messages are not too short for the link. */
static int64_t step_of(const vg_reducer *r, int64_t longest)
{
    const int64_t most = STAGING / r->groups.n_nodes / UNIT * UNIT, shared = longest / DEPTH / UNIT * UNIT;
    const int64_t least = SHORT < longest ? SHORT : longest;
    const int64_t step = shared < most ? shared : most;
    return step > least ? step : least > UNIT ? least : UNIT;
}

/* Two groups with a node each send as many bytes when they give each other all of it, and nobody waits for totals. */
static int shares_of(const vg_groups *groups, bool sliced)
{
    return groups->n_groups == 2 && groups->n_nodes == 2 && !sliced ? 1 : groups->n_groups;
}

/* The rounds of our slices, or their number where there is no room yet. */
static int cut_rounds(const vg_reducer *r, exchange_round *rounds)
{
    int n = 0;
    for (int b = 0; b < r->n_buckets; b++) {
        const int64_t longest = vg_span_slice(lane_of(r, b), r->n_shares, 0).count;
        for (int64_t skip = 0; skip < longest; skip += r->step, n++)
            if (rounds) rounds[n] = (exchange_round){b, skip};
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
    const int64_t whole = (int64_t)vg_round_up((size_t)vg_span_slice(lane, r->n_shares, 0).count, UNIT);
    r->step = step_of(r, whole);
    r->n_rounds = cut_rounds(r, NULL);
    r->rounds = vg_new0_array((size_t)r->n_rounds, sizeof *r->rounds);
    r->sends = vg_new0_array((size_t)r->groups.n_groups * (size_t)per_group, sizeof *r->sends);
    r->recvs = vg_new0_array((size_t)r->groups.n_groups + (size_t)others, sizeof *r->recvs);
    r->staging = vg_new0_array((size_t)(DEPTH * others), (size_t)r->step * sizeof *r->staging);
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
    if (st == VG_OK) st = vg_worker_start(bucket_job, r, &r->worker);
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
                      .stride = (int64_t)vg_round_up((size_t)plan->n, UNIT),
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
    VG_CHECK(!plan->sliced || (!plan->fast && plan->n % UNIT == 0), VG_E_BUG, "slices of a sum of %lld floats%s",
             (long long)plan->n, plan->fast ? " by a fast reduction" : "");
    VG_CHECK(comm->size <= plan->n_leaves, VG_E_CONFIG,
             "%d ranks for the %d micro-batches of a step: start at most %d ranks, or raise train.global_batch",
             comm->size, plan->n_leaves, plan->n_leaves);
    vg_reducer *r = NULL;
    vg_status st = vg_comm_agree(comm, new_reducer(comm, plan, &r));
    if (st == VG_OK) {
        r->sum = sum ? sum : plain_sum;
        r->sum_context = context;
        r->adder = (vg_tree_adder){.sum = plain_sum, .copy = plain_copy};
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

/* ---- a few numbers ---- */

vg_status vg_tree_sum_f64(vg_comm *comm, int n_leaves, const double *own, int n, double *total)
{
    int first, count;
    vg_leaves_of(n_leaves, comm->size, comm->rank, &first, &count);
    const size_t row = (size_t)n * sizeof(double);
    const size_t each = ((size_t)n_leaves + (size_t)comm->size - 1) / (size_t)comm->size; /* leaves of a full rank */
    vg_status st = vg_grow(&comm->scratch, &comm->scratch_bytes, (each + each * (size_t)comm->size) * row, 1);
    if (st != VG_OK) return vg_comm_leave(comm, st);
    double *mine = (double *)comm->scratch, *all = mine + each * (size_t)n;
    if (count) memcpy(mine, own, (size_t)count * row);
    VG_TRY(vg_comm_allgather(comm, mine, each * row, all)); /* leaf i lies at row i: only the last ranks fall short */
    for (int64_t stride = 1; stride < n_leaves; stride *= 2)
        for (int64_t i = 0; i + stride < n_leaves; i += 2 * stride)
            for (int j = 0; j < n; j++) all[i * n + j] += all[(i + stride) * n + j];
    memcpy(total, all, row);
    return VG_OK;
}
