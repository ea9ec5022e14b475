/* The canonical sum over device memory: two rounds of the same kind, among the ranks of a host and then among equal
 * ranks of the hosts. In each a rank gets its slice of what all hold, and adds it up in tree order. The total takes the
 * place of the rank's first buffer. */
#include "dist/device_group_impl.h"
#include "dist/groups_impl.h"

#include <stdlib.h>
#include <string.h>

struct vg_device_reducer {
    vg_device_group *group;
    vg_sum_plan plan;
    vg_span *buckets; /* [n_buckets] */

    int first, count, next; /* own leaves, and how many are pushed */
    vg_tree_node stack[VG_TREE_DEPTH];
    int depth;
    int next_bucket; /* the first that has not left */

    vg_groups groups;
    float *buffers; /* [n_slots, n]; the total is the first */
    float *staging; /* [other ranks' parts, longest slice], then [other hosts' nodes, longest slice of that] */
    float **parts_at, **nodes_at;
    vg_message *sends, *recvs;
    vg_tree_adder adder; /* on the exchange stream */
    vg_status status;    /* of its sums: the first that failed */
};

/* ---- sums ---- */

static void exchange_sum(void *context, float *dst, const float *a, const float *b, int64_t n)
{
    vg_device_reducer *r = context;
    const vg_device *d = &r->group->device;
    if (n) VG_KEEP(r->status, d->sum(d->exchange, dst, a, b, n));
}

static void exchange_copy(void *context, float *dst, const float *src, int64_t n)
{
    vg_device_reducer *r = context;
    const vg_device *d = &r->group->device;
    if (n) VG_KEEP(r->status, d->copy(d->exchange, dst, src, (size_t)n * sizeof *dst));
}

static float *slot_of(const vg_device_reducer *r, int slot)
{
    return r->buffers + slot * r->plan.n;
}

/* The joins that leaf number `next` brings, within a span. */
static vg_status join_leaf(const vg_device_reducer *r, vg_stream *stream, vg_span where, vg_tree_node *stack,
                           int *depth)
{
    const vg_device *d = &r->group->device;
    const vg_tree_node leaf = {.start = r->first + r->next, .slot = *depth};
    int top = *depth;
    for (int joins = vg_tree_push(r->plan.n_leaves, stack, depth, leaf); joins > 0; joins--, top--) {
        float *left = slot_of(r, top - 1) + where.first;
        if (where.count) VG_TRY(d->sum(stream, left, left, left + r->plan.n, where.count));
    }
    return VG_OK;
}

/* ---- the two rounds ---- */

static vg_span lane_slice(const vg_device_reducer *r, vg_span bucket, int lane)
{
    return lane < r->groups.n_lanes ? vg_span_slice(bucket, r->groups.n_lanes, lane) : (vg_span){bucket.first, 0};
}

static vg_span group_slice(const vg_device_reducer *r, vg_span bucket, int group)
{
    return vg_span_slice(lane_slice(r, bucket, r->groups.lane), r->groups.n_groups, group);
}

/* Of the slices that the hosts exchange. */
static int64_t longest_far(const vg_sum_plan *plan, const vg_span *buckets, const vg_groups *groups)
{
    const vg_span near = {0, vg_longest_slice(buckets, plan->n_buckets, groups->n_lanes)};
    return vg_span_slice(near, groups->n_groups, 0).count;
}

static void add_message(vg_message *messages, int *n, int peer, float *data, int64_t n_floats)
{
    if (n_floats)
        messages[(*n)++] = (vg_message){.peer = peer, .data = data, .bytes = (size_t)n_floats * sizeof(float)};
}

static int peer_of(const vg_device_reducer *r, int group)
{
    return r->groups.peers[group * r->groups.n_lanes + r->groups.lane];
}

/* The host's ranks give each other slices of what they hold. parts_at: where the parts of our slice lie then. */
static vg_status scatter_near(vg_device_reducer *r, vg_span bucket)
{
    const vg_groups *g = &r->groups;
    const vg_span mine = lane_slice(r, bucket, g->lane);
    const int64_t longest = vg_longest_slice(r->buckets, r->plan.n_buckets, g->n_lanes);
    int n_sends = 0, n_recvs = 0, n_others = 0;
    for (int i = 0; i < g->n_parts; i++) {
        if (g->parts[i].owner == g->lane) {
            float *buffer = slot_of(r, g->parts[i].slot);
            r->parts_at[i] = buffer + mine.first;
            for (int lane = 0; lane < g->n_lanes; lane++) {
                const vg_span theirs = lane_slice(r, bucket, lane);
                if (lane != g->lane)
                    add_message(r->sends, &n_sends, g->mates[lane], buffer + theirs.first, theirs.count);
            }
            continue;
        }
        r->parts_at[i] = r->staging + n_others++ * longest;
        add_message(r->recvs, &n_recvs, g->mates[g->parts[i].owner], r->parts_at[i], mine.count);
    }
    return r->group->ops->exchange(r->group, r->sends, n_sends, r->recvs, n_recvs);
}

/* Where the joined nodes of our group lie: in their left parts. */
static float *own_node_at(const vg_device_reducer *r, int i)
{
    const vg_groups *g = &r->groups;
    int part = 0;
    while (g->parts[part].owner != g->own[i].owner || g->parts[part].slot != g->own[i].slot) part++;
    return r->parts_at[part];
}

/* Equal ranks of the hosts give each other slices of their hosts' nodes. */
static vg_status scatter_far(vg_device_reducer *r, vg_span bucket)
{
    const vg_groups *g = &r->groups;
    const vg_span lane = lane_slice(r, bucket, g->lane), mine = group_slice(r, bucket, g->group);
    const int64_t longest = vg_longest_slice(r->buckets, r->plan.n_buckets, g->n_lanes);
    float *staging = r->staging + g->n_parts * longest;
    int n_sends = 0, n_recvs = 0, n_own = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].owner == g->group) {
            float *node = own_node_at(r, n_own++);
            r->nodes_at[i] = node + (mine.first - lane.first);
            for (int group = 0; group < g->n_groups; group++) {
                const vg_span theirs = group_slice(r, bucket, group);
                if (group != g->group)
                    add_message(r->sends, &n_sends, peer_of(r, group), node + (theirs.first - lane.first),
                                theirs.count);
            }
            continue;
        }
        r->nodes_at[i] = staging + (i - n_own) * longest_far(&r->plan, r->buckets, g);
        add_message(r->recvs, &n_recvs, peer_of(r, g->nodes[i].owner), r->nodes_at[i], mine.count);
    }
    return r->group->ops->exchange(r->group, r->sends, n_sends, r->recvs, n_recvs);
}

/* Our slice of the bucket's total, from what all ranks hold. */
static vg_status reduce_scatter(vg_device_reducer *r, vg_span bucket)
{
    const vg_groups *g = &r->groups;
    const vg_span lane = lane_slice(r, bucket, g->lane);
    const bool lone = g->n_groups == 1;
    VG_TRY(scatter_near(r, bucket));
    if (g->lane >= g->n_lanes) return VG_OK; /* no slice is ours */
    vg_tree_add(&r->adder, r->plan.n_leaves, g->parts, g->n_parts, r->parts_at, lane.count,
                lone ? r->buffers + lane.first : NULL);
    if (lone) return r->status;
    const vg_span mine = group_slice(r, bucket, g->group);
    VG_TRY(scatter_far(r, bucket));
    vg_tree_add(&r->adder, r->plan.n_leaves, g->nodes, g->n_nodes, r->nodes_at, mine.count, r->buffers + mine.first);
    return r->status;
}

/* An array of block_floats floats a block: the part that belongs to a span. */
static void add_blocks(vg_message *messages, int *n, int peer, float *array, int64_t block_floats, vg_span span)
{
    add_message(messages, n, peer, array + span.first / VG_SLICE_UNIT * block_floats,
                span.count / VG_SLICE_UNIT * block_floats);
}

/* Everybody's slices of a bucket to everybody: between hosts, then inside. */
static vg_status all_gather(vg_device_reducer *r, vg_span bucket, float *array, int64_t block_floats)
{
    const vg_groups *g = &r->groups;
    int n_sends = 0, n_recvs = 0;
    for (int group = 0; group < g->n_groups && g->lane < g->n_lanes; group++) {
        if (group == g->group) continue;
        add_blocks(r->sends, &n_sends, peer_of(r, group), array, block_floats, group_slice(r, bucket, g->group));
        add_blocks(r->recvs, &n_recvs, peer_of(r, group), array, block_floats, group_slice(r, bucket, group));
    }
    VG_TRY(r->group->ops->exchange(r->group, r->sends, n_sends, r->recvs, n_recvs));
    n_sends = n_recvs = 0;
    for (int mate = 0; mate < g->n_mates; mate++) {
        if (mate == g->lane) continue;
        add_blocks(r->sends, &n_sends, g->mates[mate], array, block_floats, lane_slice(r, bucket, g->lane));
        add_blocks(r->recvs, &n_recvs, g->mates[mate], array, block_floats, lane_slice(r, bucket, mate));
    }
    return r->group->ops->exchange(r->group, r->sends, n_sends, r->recvs, n_recvs);
}

/* The library's all-reduce, of what the rank's nodes make together. */
static vg_status reduce_fast(vg_device_reducer *r, vg_span bucket, int depth)
{
    const vg_device *d = &r->group->device;
    float *total = r->buffers + bucket.first;
    for (int i = 1; i < depth; i++) exchange_sum(r, total, total, slot_of(r, i) + bucket.first, bucket.count);
    if (depth == 0) VG_TRY(d->zero(d->exchange, total, (size_t)bucket.count * sizeof *total));
    VG_TRY(r->status);
    return r->group->ops->all_reduce(r->group, total, bucket.count);
}

/* ---- buckets ---- */

/* The next bucket leaves: what the rank has of it is on the compute stream. */
static vg_status send_bucket(vg_device_reducer *r)
{
    const vg_device *d = &r->group->device;
    const vg_span bucket = r->buckets[r->next_bucket++];
    vg_tree_node stack[VG_TREE_DEPTH];
    int depth = r->depth;
    if (r->group->ops) VG_TRY(d->follow(d->exchange, d->compute));
    memcpy(stack, r->stack, sizeof stack);
    if (r->count) VG_TRY(join_leaf(r, d->exchange, bucket, stack, &depth));
    if (!r->group->ops) return VG_OK;
    if (r->plan.fast) return reduce_fast(r, bucket, depth);
    VG_TRY(reduce_scatter(r, bucket));
    return r->plan.sliced ? VG_OK : all_gather(r, bucket, r->buffers, VG_SLICE_UNIT);
}

static bool in_last_leaf(const vg_device_reducer *r)
{
    return r->next + 1 == r->count;
}

vg_status vg_device_reducer_complete(vg_device_reducer *r, int64_t end)
{
    if (!in_last_leaf(r)) return VG_OK;
    while (r->next_bucket < r->plan.n_buckets) {
        const vg_span next = r->buckets[r->next_bucket];
        if (next.first + next.count > end) return VG_OK;
        VG_TRY(send_bucket(r));
    }
    return VG_OK;
}

void vg_device_reducer_leaves(const vg_device_reducer *r, int *first, int *count)
{
    *first = r->first;
    *count = r->count;
}

float *vg_device_reducer_leaf(vg_device_reducer *r)
{
    return slot_of(r, r->depth);
}

vg_status vg_device_reducer_push(vg_device_reducer *r, bool empty)
{
    const vg_device *d = &r->group->device;
    if (empty) VG_TRY(d->zero(d->compute, vg_device_reducer_leaf(r), (size_t)r->plan.n * sizeof(float)));
    if (in_last_leaf(r)) {
        VG_TRY(vg_device_reducer_complete(r, r->plan.n));
        r->next++;
        return VG_OK;
    }
    VG_TRY(join_leaf(r, d->compute, (vg_span){0, r->plan.n}, r->stack, &r->depth));
    r->next++;
    return VG_OK;
}

vg_status vg_device_reducer_finish(vg_device_reducer *r, float **total)
{
    const vg_device *d = &r->group->device;
    VG_CHECK(r->next == r->count, VG_E_BUG, "%d of the rank's %d leaves were pushed", r->next, r->count);
    while (r->next_bucket < r->plan.n_buckets) VG_TRY(send_bucket(r)); /* of a rank without leaves */
    if (r->group->ops) VG_TRY(d->follow(d->compute, d->exchange));
    r->next = r->depth = r->next_bucket = 0;
    *total = r->buffers;
    return VG_OK;
}

bool vg_device_reducer_is_sliced(const vg_device_reducer *r)
{
    return r->group->ops && r->plan.sliced;
}

void vg_device_reducer_slice(const vg_device_reducer *r, int bucket, int64_t *first, int64_t *count)
{
    const vg_span s =
        vg_device_reducer_is_sliced(r) ? group_slice(r, r->buckets[bucket], r->groups.group) : r->buckets[bucket];
    *first = s.first;
    *count = s.count;
}

vg_status vg_device_reducer_gather(vg_device_reducer *r, float *array, int64_t block_floats)
{
    const vg_device *d = &r->group->device;
    if (!vg_device_reducer_is_sliced(r)) return VG_OK;
    VG_TRY(d->follow(d->exchange, d->compute));
    for (int b = 0; b < r->plan.n_buckets; b++) VG_TRY(all_gather(r, r->buckets[b], array, block_floats));
    return d->follow(d->compute, d->exchange);
}

/* ---- life ---- */

static int slots_of(int n_leaves, int n_ranks, int rank)
{
    vg_tree_node nodes[VG_TREE_DEPTH];
    int n_slots;
    vg_tree_of_rank(n_leaves, n_ranks, rank, nodes, &n_slots);
    return n_slots ? n_slots : 1; /* the total needs a place */
}

/* Beside the buffers: what the ranks of a group, and the groups, bring of the longest bucket. */
static size_t staging_floats(const vg_sum_plan *plan, const vg_span *buckets, const vg_groups *groups)
{
    return (size_t)groups->n_parts * (size_t)vg_longest_slice(buckets, plan->n_buckets, groups->n_lanes) +
           (size_t)groups->n_nodes * (size_t)longest_far(plan, buckets, groups);
}

static size_t memory_floats(const vg_device_reducer *r)
{
    const vg_comm *comm = r->group->comm;
    const size_t buffers = (size_t)slots_of(r->plan.n_leaves, comm->size, comm->rank) * (size_t)r->plan.n;
    if (!r->group->ops || r->plan.fast) return buffers;
    return buffers + staging_floats(&r->plan, r->buckets, &r->groups);
}

/* Leaders and buckets are scratch, [n_ranks] and [n_buckets]. */
static vg_status forecast_floats(const vg_sum_plan *plan, int n_ranks, int host_ranks, int *leaders, vg_span *buckets,
                                 size_t *floats)
{
    vg_groups groups = {0};
    for (int r = 0; r < n_ranks; r++) leaders[r] = r / host_ranks * host_ranks;
    vg_cut_buckets(plan, buckets);
    const vg_status st = vg_groups_plan(&groups, n_ranks, 0, leaders, plan->n_leaves);
    if (st == VG_OK) *floats += staging_floats(plan, buckets, &groups);
    vg_groups_release(&groups);
    return st;
}

vg_status vg_device_sum_bytes(const vg_sum_plan *plan, int n_ranks, int host_ranks, size_t *bytes)
{
    int *leaders = vg_new0_array((size_t)n_ranks, sizeof *leaders);
    vg_span *buckets = vg_new0_array((size_t)plan->n_buckets, sizeof *buckets);
    size_t floats = (size_t)slots_of(plan->n_leaves, n_ranks, 0) * (size_t)plan->n;
    vg_status st = leaders && buckets ? VG_OK : vg_fail(VG_E_NOMEM, "no memory to plan the sum of %d ranks", n_ranks);
    if (st == VG_OK && n_ranks > 1 && !plan->fast)
        st = forecast_floats(plan, n_ranks, host_ranks, leaders, buckets, &floats);
    free(leaders);
    free(buckets);
    *bytes = floats * sizeof(float);
    return st;
}

static vg_status plan_messages(vg_device_reducer *r)
{
    const vg_groups *g = &r->groups;
    const size_t nodes = (size_t)g->n_parts + (size_t)g->n_nodes + 1;
    const size_t messages = (nodes + 1) * (size_t)r->group->comm->size;
    r->parts_at = vg_new0_array(nodes, sizeof *r->parts_at);
    r->nodes_at = vg_new0_array(nodes, sizeof *r->nodes_at);
    r->sends = vg_new0_array(messages, sizeof *r->sends);
    r->recvs = vg_new0_array(messages, sizeof *r->recvs);
    r->adder = (vg_tree_adder){.sum = exchange_sum, .copy = exchange_copy, .context = r};
    r->adder.stack = vg_new0_array(nodes, sizeof *r->adder.stack);
    r->adder.at = vg_new0_array(nodes, sizeof *r->adder.at);
    VG_CHECK(r->parts_at && r->nodes_at && r->sends && r->recvs && r->adder.stack && r->adder.at, VG_E_NOMEM,
             "no memory for the plan of the sum");
    return VG_OK;
}

static vg_status reducer_fill(vg_device_reducer *r)
{
    vg_comm *comm = r->group->comm;
    r->buckets = vg_new0_array((size_t)r->plan.n_buckets, sizeof *r->buckets);
    VG_TRY(vg_comm_agree(comm, r->buckets ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the plan of the sum")));
    vg_cut_buckets(&r->plan, r->buckets);
    vg_leaves_of(r->plan.n_leaves, comm->size, comm->rank, &r->first, &r->count);
    if (!r->group->ops) return VG_OK;
    VG_TRY(vg_groups_init(&r->groups, comm, r->plan.n_leaves, true));
    return vg_comm_agree(comm, plan_messages(r));
}

static vg_status check_plan(const vg_comm *comm, const vg_sum_plan *plan)
{
    int64_t end = 0;
    for (int b = 0; b < plan->n_buckets; b++) {
        VG_CHECK(plan->bucket_ends[b] >= end && plan->bucket_ends[b] % VG_SLICE_UNIT == 0, VG_E_BUG,
                 "bucket %d ends at %lld, after %lld", b, (long long)plan->bucket_ends[b], (long long)end);
        end = plan->bucket_ends[b];
    }
    VG_CHECK(end == plan->n && plan->n_leaves >= 1, VG_E_BUG, "buckets end at %lld of %lld", (long long)end,
             (long long)plan->n);
    VG_CHECK(!plan->fast || !plan->sliced, VG_E_BUG, "a fast reduction has no slices");
    VG_CHECK(comm->size <= plan->n_leaves, VG_E_CONFIG,
             "%d ranks for the %d micro-batches of a step: start at most %d ranks, or raise train.global_batch",
             comm->size, plan->n_leaves, plan->n_leaves);
    return VG_OK;
}

static vg_status reducer_plan(vg_device_group *group, const vg_sum_plan *plan, vg_device_reducer **out)
{
    VG_TRY(check_plan(group->comm, plan));
    vg_device_reducer *r = vg_new0(sizeof *r);
    VG_TRY(vg_comm_agree(group->comm, r ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the canonical sum")));
    r->group = group;
    r->plan = *plan;
    const vg_status st = reducer_fill(r);
    r->plan.bucket_ends = NULL; /* the caller's */
    if (st != VG_OK) {
        vg_device_reducer_free(r);
        return st;
    }
    *out = r;
    return VG_OK;
}

vg_status vg_device_reducer_bytes(vg_device_group *group, const vg_sum_plan *plan, size_t *bytes)
{
    vg_device_reducer *r = NULL;
    VG_TRY(reducer_plan(group, plan, &r));
    *bytes = memory_floats(r) * sizeof(float);
    vg_device_reducer_free(r);
    return VG_OK;
}

/* With the first message between two ranks comes their connection, for which both ends wait: it is made here, where all
 * ranks are in step, by a sum of nothing. In a step a rank without leaves comes late. */
static vg_status connect_ranks(vg_device_reducer *r)
{
    const vg_device *d = &r->group->device;
    if (!r->group->ops || !r->plan.n_buckets) return VG_OK;
    VG_TRY(d->follow(d->exchange, d->compute));
    VG_TRY(r->plan.fast ? reduce_fast(r, r->buckets[0], 0) : reduce_scatter(r, r->buckets[0]));
    if (!r->plan.fast) VG_TRY(all_gather(r, r->buckets[0], r->buffers, VG_SLICE_UNIT));
    return vg_device_group_wait(r->group);
}

vg_status vg_device_reducer_new(vg_device_group *group, const vg_sum_plan *plan, void *memory, vg_device_reducer **out)
{
    vg_device_reducer *r = NULL;
    VG_TRY(reducer_plan(group, plan, &r));
    r->buffers = memory;
    r->staging = r->buffers + (size_t)slots_of(plan->n_leaves, group->comm->size, group->comm->rank) * (size_t)plan->n;
    const vg_status st = vg_comm_leave(group->comm, connect_ranks(r)); /* the others wait for this rank's device */
    if (st != VG_OK) {
        vg_device_reducer_free(r);
        return st;
    }
    *out = r;
    return VG_OK;
}

void vg_device_reducer_free(vg_device_reducer *r)
{
    if (!r) return;
    vg_groups_release(&r->groups);
    free(r->buckets);
    free(r->parts_at);
    free(r->nodes_at);
    free(r->sends);
    free(r->recvs);
    free(r->adder.stack);
    free(r->adder.at);
    free(r);
}

/* ---- the group ---- */

vg_status vg_device_group_open(vg_comm *comm, const vg_device *device, vg_device_group **out)
{
    vg_device_group *group = vg_new0(sizeof *group);
    VG_TRY(vg_comm_agree(comm, group ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for a group of devices")));
    group->comm = comm;
    group->device = *device;
    if (comm->size == 1) group->device.exchange = device->compute; /* a lone rank's sums stay in order by themselves */
    const vg_status st = comm->size == 1 ? VG_OK : vg_device_nccl_open(group);
    if (st != VG_OK) {
        free(group);
        return st;
    }
    *out = group;
    return VG_OK;
}

void vg_device_group_close(vg_device_group *group)
{
    if (!group) return;
    if (group->ops) group->ops->close(group);
    free(group);
}

vg_status vg_device_group_wait(vg_device_group *group)
{
    return group->ops ? group->ops->wait(group) : VG_OK;
}
