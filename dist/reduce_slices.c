/* Slices of a canonical sum: whose they are, and how what ranks make of them comes to all. */
#include "dist/reduce_impl.h"

#include <string.h>

bool vg_reducer_is_sliced(const vg_reducer *r)
{
    return r->sliced;
}

/* Of our slice of a bucket, what equal ranks of a group own. */
static vg_span owned_by(const vg_reducer *r, int bucket, int group)
{
    return vg_span_slice(vg_reducer_lane(r, bucket), r->groups.n_groups, group);
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
    memcpy(to + first / VG_SLICE_UNIT * block_floats, from + first / VG_SLICE_UNIT * block_floats,
           (size_t)((end - first) / VG_SLICE_UNIT * block_floats) * sizeof *to);
}

static void add_blocks(const vg_reducer *r, vg_message *messages, int *n, int group, float *array, int64_t block_floats,
                       vg_span span)
{
    if (span.count)
        messages[(*n)++] = vg_reducer_message(r, group, array + span.first / VG_SLICE_UNIT * block_floats,
                                              span.count / VG_SLICE_UNIT * block_floats);
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
    float *shared = block_floats == VG_SLICE_UNIT ? r->total : r->total + r->stride;
    for (int b = 0; b < r->n_buckets; b++) {
        const vg_span own = own_slice(r, b);
        copy_blocks(shared, array, block_floats, own.first, own.first + own.count);
    }
    VG_TRY(gather_far(r, shared, block_floats));
    VG_TRY(vg_reducer_fence(r));
    for (int b = 0; b < r->n_buckets; b++) {
        const vg_span all = r->buckets[b], own = own_slice(r, b);
        copy_blocks(array, shared, block_floats, all.first, own.first);
        copy_blocks(array, shared, block_floats, own.first + own.count, all.first + all.count);
    }
    return vg_reducer_fence(r); /* the place may be used again */
}
