#include "trainer/gradients.h"

#include "dist/device.h"
#include "dist/reduce.h"
#include "kernels/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct vg_gradients {
    vg_compute *compute;
    int64_t n;
    vg_reducer *host; /* in host memory; or on devices: */
    vg_device_group *group;
    vg_device_reducer *device;
    vg_stream exchange;
    vg_arena memory;
    int64_t *ends; /* [n_buckets + 1] 0, and where buckets end */
    int n_buckets;
    vg_exchange_times times; /* in host memory */
    vg_status status;        /* of the host's sums: the first that failed */
};

static void sum_floats(void *context, float *dst, const float *a, const float *b, int64_t n)
{
    vg_gradients *s = context;
    VG_KEEP(s->status, s->compute->backend->sum(&s->compute->stream, dst, a, b, n));
}

static vg_status open_group(vg_gradients *s, vg_comm *comm, double deadline_s)
{
    const vg_backend *backend = s->compute->backend;
    const vg_device device = {.compute = &s->compute->stream,
                              .exchange = &s->exchange,
                              .sum = backend->sum,
                              .copy = backend->device->copy,
                              .zero = backend->device->zero,
                              .follow = backend->device->follow,
                              .wait = backend->device->wait,
                              .queue = backend->device->queue,
                              .deadline_s = deadline_s};
    VG_TRY(vg_comm_agree(comm, backend->device->open_beside(&s->compute->stream, &s->exchange)));
    return vg_device_group_open(comm, &device, &s->group);
}

/* A lone rank has nobody to send a bucket to. Heap memory: where backward begins, which is 0, and where buckets end. */
static vg_status cut_buckets(const vg_gradients_plan *plan, int n_ranks, int64_t **ends, int *n_buckets)
{
    const int64_t wanted = (int64_t)(plan->bucket_bytes / sizeof(float)) / VG_PARAM_BLOCK * VG_PARAM_BLOCK;
    const int64_t whole = n_ranks == 1 || wanted > plan->n ? plan->n : wanted;
    const int64_t each = whole > VG_PARAM_BLOCK ? whole : VG_PARAM_BLOCK;
    const int n = (int)((plan->n + each - 1) / each);
    *ends = vg_new0_array((size_t)n + 1, sizeof **ends);
    VG_CHECK(*ends, VG_E_NOMEM, "no memory for the buckets of the gradients");
    for (int b = 0; b < n; b++) (*ends)[b + 1] = b + 1 < n ? (b + 1) * each : plan->n;
    *n_buckets = n;
    return VG_OK;
}

static vg_sum_plan sum_plan(const vg_gradients_plan *plan, const int64_t *ends, int n_buckets)
{
    return (vg_sum_plan){.n = plan->n,
                         .n_leaves = plan->n_leaves,
                         .n_buckets = n_buckets,
                         .bucket_ends = ends + 1,
                         .fast = plan->fast,
                         .sliced = plan->sliced};
}

double vg_bucket_bytes(const vg_options *o, int64_t n)
{
    const double mib = 1 << 20, least = mib, most = 16 * mib;
    const double quarter = (double)(vg_round_up((size_t)(n + 3) / 4, VG_PARAM_BLOCK) * sizeof(float));
    return o->train_bucket_mb > 0 ? o->train_bucket_mb * mib : fmin(fmax(quarter, least), most);
}

vg_gradients_plan vg_gradients_plan_of(const vg_options *o, int64_t n, bool sliced)
{
    return (vg_gradients_plan){.n = n,
                               .n_leaves = (int)(o->train_global_batch / o->train_micro_batch),
                               .deadline_s = o->train_deadline,
                               .bucket_bytes = vg_bucket_bytes(o, n),
                               .fast = strcmp(o->train_reduction, "fast") == 0,
                               .sliced = sliced};
}

vg_status vg_gradients_device_bytes(const vg_gradients_plan *plan, int n_ranks, int host_ranks, size_t *bytes)
{
    int64_t *ends = NULL;
    int n_buckets = 0;
    VG_TRY(cut_buckets(plan, n_ranks, &ends, &n_buckets));
    const vg_sum_plan sum = sum_plan(plan, ends, n_buckets);
    const vg_status st = vg_device_sum_bytes(&sum, n_ranks, host_ranks, bytes);
    free(ends);
    return st;
}

static vg_status fill(vg_gradients *s, vg_comm *comm, const vg_gradients_plan *plan)
{
    const vg_device_ops *device = s->compute->backend->device;
    VG_TRY(vg_comm_agree(comm, cut_buckets(plan, vg_comm_size(comm), &s->ends, &s->n_buckets)));
    const vg_sum_plan sum = sum_plan(plan, s->ends, s->n_buckets);
    size_t bytes = 0;
    s->times.n_buckets = vg_comm_size(comm) > 1 ? s->n_buckets : 0;
    if (device == &vg_host_device) return vg_reducer_new(comm, &sum, sum_floats, s, &s->host);
    VG_TRY(open_group(s, comm, plan->deadline_s));
    VG_TRY(vg_device_reducer_bytes(s->group, &sum, &bytes));
    VG_TRY(vg_comm_agree(comm, device->allocate(&s->compute->stream, bytes, &s->memory)));
    return vg_device_reducer_new(s->group, &sum, s->memory.base, &s->device);
}

vg_status vg_gradients_new(vg_comm *comm, vg_compute *compute, const vg_gradients_plan *plan, vg_gradients **out)
{
    vg_gradients *s = vg_new0(sizeof *s);
    VG_TRY(vg_comm_agree(comm, s ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the sum of gradients")));
    s->compute = compute;
    s->n = plan->n;
    const vg_status st = fill(s, comm, plan);
    if (st != VG_OK) {
        vg_gradients_free(s);
        return st;
    }
    *out = s;
    return VG_OK;
}

void vg_gradients_free(vg_gradients *s)
{
    if (!s) return;
    vg_reducer_free(s->host);
    vg_device_reducer_free(s->device);
    vg_device_group_close(s->group);
    s->compute->backend->device->release(&s->compute->stream, &s->memory);
    s->compute->backend->device->close(&s->exchange);
    free(s->ends);
    free(s);
}

static vg_status send_from_device(void *context, int64_t end)
{
    vg_gradients *s = context;
    return vg_device_reducer_complete(s->device, end);
}

static vg_status send_from_host(void *context, int64_t end)
{
    vg_gradients *s = context;
    if (end == 0) s->times.backward_start_s = vg_now_s();
    if (end == s->n) s->times.backward_end_s = vg_now_s();
    vg_reducer_complete(s->host, end);
    return VG_OK;
}

vg_status vg_gradients_follow(vg_gradients *s, vg_program *program)
{
    if (s->host) return vg_program_tell(program, s->ends, s->n_buckets + 1, send_from_host, s);
    if (s->n_buckets < 2) return VG_OK;
    return vg_program_tell(program, s->ends + 1, s->n_buckets, send_from_device, s);
}

float *vg_gradients_leaf(vg_gradients *s)
{
    return s->host ? vg_reducer_leaf(s->host) : vg_device_reducer_leaf(s->device);
}

vg_status vg_gradients_push(vg_gradients *s, bool empty)
{
    if (s->device) return vg_device_reducer_push(s->device, empty);
    vg_reducer_push(s->host, empty);
    return s->status;
}

vg_status vg_gradients_settle(vg_gradients *s)
{
    if (!s->host) return VG_OK;
    s->times.settle_start_s = vg_now_s();
    const vg_status st = vg_reducer_settle(s->host);
    s->times.settle_end_s = vg_now_s();
    return st;
}

bool vg_gradients_times(const vg_gradients *s, vg_exchange_times *times)
{
    *times = s->times;
    return s->host != NULL;
}

void vg_gradients_bucket_times(const vg_gradients *s, int bucket, double *start_s, double *end_s)
{
    vg_reducer_bucket_times(s->host, bucket, start_s, end_s);
}

vg_status vg_gradients_finish(vg_gradients *s, const float **total)
{
    if (s->host) {
        VG_TRY(vg_reducer_finish(s->host, total));
        return s->status;
    }
    float *sum = NULL;
    VG_TRY(vg_device_reducer_finish(s->device, &sum));
    *total = sum;
    return VG_OK;
}

static bool is_cut(const vg_gradients *s)
{
    return s->host ? vg_reducer_is_sliced(s->host) : vg_device_reducer_is_sliced(s->device);
}

int vg_gradients_slices(const vg_gradients *s)
{
    return is_cut(s) ? s->n_buckets : 1;
}

void vg_gradients_slice(const vg_gradients *s, int i, int64_t *first, int64_t *count)
{
    *first = 0;
    *count = s->n;
    if (!is_cut(s)) return;
    if (s->host)
        vg_reducer_slice(s->host, i, first, count);
    else
        vg_device_reducer_slice(s->device, i, first, count);
}

vg_status vg_gradients_share(vg_gradients *s, float *array, int64_t block_floats)
{
    return s->host ? vg_reducer_gather(s->host, array, block_floats)
                   : vg_device_reducer_gather(s->device, array, block_floats);
}

vg_status vg_gradients_wait(vg_gradients *s)
{
    return s->group ? vg_device_group_wait(s->group) : VG_OK;
}
