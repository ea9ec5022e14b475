/* The canonical sum over memory. Ranks that share a window are a group; without one each rank is a group of its own.
 * A group sums its nodes as far as they are siblings, slice by slice; the groups exchange what is left, each to sum its
 * share and hand it round, or (two groups) all of it. A sliced sum ends before that. Buckets are summed in their order,
 * by a thread behind the caller while that one has leaves to compute. */
#include "dist/reduce_impl.h"

#include <string.h>

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

/* ---- the rest of the tree ---- */

/* The nodes of our group within a span: summed to where own_at says, or to `root` when they make the whole tree. */
static void fold_group(vg_reducer *r, vg_span where, float *root)
{
    for (int64_t done = 0; done < where.count; done += VG_SUM_PIECE) {
        const int64_t at = where.first + done, left = where.count - done;
        for (int i = 0; i < r->groups.n_parts; i++) r->from[i] = r->parts_at[i] + at;
        vg_tree_add(&r->adder, r->n_leaves, r->groups.parts, r->groups.n_parts, r->from,
                    left < VG_SUM_PIECE ? left : VG_SUM_PIECE, root ? root + at : NULL);
    }
}

vg_span vg_reducer_lane(const vg_reducer *r, int bucket)
{
    const vg_groups *g = &r->groups;
    const vg_span whole = r->buckets[bucket];
    return g->lane < g->n_lanes ? vg_span_slice(whole, g->n_lanes, g->lane) : (vg_span){whole.first, 0};
}

/* What of a group's share of our slice is dealt with in round k. */
static vg_span share_of(const vg_reducer *r, int k, int group)
{
    vg_span s = vg_span_slice(vg_reducer_lane(r, r->rounds[k].bucket), r->n_shares, r->n_shares > 1 ? group : 0);
    const int64_t skip = r->rounds[k].skip < s.count ? r->rounds[k].skip : s.count;
    s.first += skip;
    s.count = s.count - skip < r->step ? s.count - skip : r->step;
    return s;
}

vg_message vg_reducer_message(const vg_reducer *r, int group, float *data, int64_t n)
{
    return (vg_message){.peer = r->groups.peers[group * r->groups.n_lanes + r->groups.lane],
                        .data = data,
                        .bytes = (size_t)n * sizeof(float)};
}

/* Where the other groups' nodes of a round lie when they are here. */
static float *staging_of(const vg_reducer *r, int k)
{
    return r->staging + (int64_t)(k % VG_ROUNDS_AT_ONCE) * (r->groups.n_nodes - r->groups.n_own) * r->step;
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
            r->sends[n_sends++] = vg_reducer_message(r, group, r->own_at[i] + theirs.first, theirs.count);
    }
    for (int i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].owner == g->group) continue;
        if (mine) r->recvs[n_recvs++] = vg_reducer_message(r, g->nodes[i].owner, to, mine);
        to += r->step;
    }
    return r->comm->ops->begin(r->comm, k % VG_ROUNDS_AT_ONCE, r->sends, n_sends, r->recvs, n_recvs);
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
    for (int64_t done = 0; done < mine.count; done += VG_SUM_PIECE) {
        const int64_t left = mine.count - done;
        vg_tree_add(&r->adder, r->n_leaves, g->nodes, g->n_nodes, r->from, left < VG_SUM_PIECE ? left : VG_SUM_PIECE,
                    r->total + mine.first + done);
        for (int i = 0; i < g->n_nodes; i++) r->from[i] += VG_SUM_PIECE;
    }
}

/* Each group gives all others the total of its share. */
static vg_status begin_gather(vg_reducer *r, int k)
{
    const int exchange = VG_ROUNDS_AT_ONCE + k % VG_ROUNDS_AT_ONCE;
    const vg_span mine = share_of(r, k, r->groups.group);
    int n_sends = 0, n_recvs = 0;
    if (r->n_shares == 1 || r->sliced) return VG_OK; /* all have summed all of it, or nobody wants more */
    VG_TRY(r->comm->ops->end(r->comm, exchange));    /* of VG_ROUNDS_AT_ONCE rounds before */
    for (int g = 0; g < r->groups.n_groups; g++) {
        const vg_span theirs = share_of(r, k, g);
        if (g == r->groups.group) continue;
        if (mine.count) r->sends[n_sends++] = vg_reducer_message(r, g, r->total + mine.first, mine.count);
        if (theirs.count) r->recvs[n_recvs++] = vg_reducer_message(r, g, r->total + theirs.first, theirs.count);
    }
    return r->comm->ops->begin(r->comm, exchange, r->sends, n_sends, r->recvs, n_recvs);
}

/* ---- buckets ---- */

vg_status vg_reducer_fence(vg_reducer *r)
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
        if (r->count) join_leaf(r, r->first + r->count - 1, r->buckets[r->n_prepared], stack, &depth, vg_sum_floats);
        VG_TRY(vg_reducer_fence(r));
    }
    return VG_OK;
}

/* Whether a round may leave while round k is waited for. Others of the host would be waited for if it were of a bucket
 * that is not complete everywhere. */
static bool may_leave(vg_reducer *r, int round, int k)
{
    if (round >= r->n_rounds || round >= k + VG_ROUNDS_AT_ONCE) return false;
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
    VG_TRY(r->comm->ops->end(r->comm, k % VG_ROUNDS_AT_ONCE));
    add_nodes(r, k);
    return begin_gather(r, k);
}

static vg_status sum_bucket(vg_reducer *r, int b)
{
    VG_TRY(prepare_bucket(r, b));
    if (r->groups.n_groups == 1) fold_group(r, vg_reducer_lane(r, b), r->total);
    for (; r->n_summed < r->n_rounds && r->rounds[r->n_summed].bucket == b; r->n_summed++)
        VG_TRY(sum_round(r, r->n_summed));
    if (b + 1 < r->n_buckets) return VG_OK;
    for (int i = VG_ROUNDS_AT_ONCE; i < 2 * VG_ROUNDS_AT_ONCE; i++) VG_TRY(r->comm->ops->end(r->comm, i));
    return vg_reducer_fence(r); /* the slices of the others */
}

vg_status vg_reducer_bucket_job(void *reducer, int b)
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
