#include "trainer/scaling.h"

#include "trainer/forecast.h"
#include "trainer/gradients.h"

/* The stages of a run with `leaves` micro-batches a step, by a rank alone. */
static vg_status forecast_alone(const vg_options *o, const vg_gpu *gpu, int leaves, vg_stage_forecast *out)
{
    vg_options alone = *o;
    alone.train_global_batch = leaves * o->train_micro_batch;
    return vg_forecast(&alone, 1, &(vg_forecast_data){0}, gpu, out);
}

static vg_workload workload_of(const vg_options *o, const vg_stage_forecast *f)
{
    return (vg_workload){.leaf_images = (double)o->train_micro_batch,
                         .exchange = {.bytes = f->n_trainable * sizeof(float),
                                      .bucket_bytes = vg_bucket_bytes(o, (int64_t)f->n_trainable),
                                      .sliced = o->train_zero}};
}

vg_status vg_workloads_on_gpu(const vg_options *o, const vg_gpu *gpu, vg_workload *out)
{
    const vg_precision precision = vg_options_bf16(o) ? VG_PRECISION_BF16 : VG_PRECISION_FP32;
    vg_stage_forecast one[VG_MAX_STAGES], two[VG_MAX_STAGES];
    VG_TRY(forecast_alone(o, gpu, 1, one));
    VG_TRY(forecast_alone(o, gpu, 2, two));
    for (int i = 0; i < o->n_stages; i++) {
        const vg_gpu_step *first = &one[i].gpu[precision], *second = &two[i].gpu[precision];
        out[i] = workload_of(o, &one[i]);
        out[i].leaf_s = second->step_s - first->step_s;
        out[i].update_s = first->step_s - out[i].leaf_s;
        out[i].exchange.backward_s = first->backward_s;
    }
    return VG_OK;
}

vg_status vg_workloads_measured(const vg_options *o, const double *step_s, int host_ranks, vg_workload *out)
{
    const int leaves = (int)(o->train_global_batch / o->train_micro_batch);
    vg_stage_forecast f[VG_MAX_STAGES];
    int first = 0, count = 0;
    VG_CHECK(host_ranks <= leaves, VG_E_CONFIG, "%d ranks on a host, but a step has %d micro-batches", host_ranks,
             leaves);
    vg_leaves_of(leaves, host_ranks, 0, &first, &count);
    VG_TRY(forecast_alone(o, NULL, 1, f));
    for (int i = 0; i < o->n_stages; i++) {
        out[i] = workload_of(o, &f[i]);
        out[i].leaf_s = step_s[i] / count;
        if (f[i].step_flops > 0) out[i].exchange.backward_s = out[i].leaf_s * f[i].backward_flops / f[i].step_flops;
    }
    return VG_OK;
}

vg_scaling vg_scaling_of(const vg_workload *load, const vg_network *network, int ranks, int64_t n_leaves)
{
    const vg_sum_shape shape = vg_sum_shape_of((int)n_leaves, ranks, network->host_ranks);
    const vg_exchange exchange = vg_network_exchange(network, &shape, &load->exchange);
    const double messages_s = vg_network_messages_s(network, &shape);
    int first = 0, count = 0;
    vg_leaves_of((int)n_leaves, ranks, 0, &first, &count);
    vg_scaling s = {.ranks = ranks,
                    .hosts = shape.hosts,
                    .images = load->leaf_images * (double)n_leaves,
                    .compute_s = load->update_s + count * load->leaf_s,
                    .exchange_s = exchange.total_s + messages_s,
                    .exposed_s = exchange.total_s - exchange.hidden_s + messages_s};
    s.step_s = s.compute_s + s.exposed_s;
    s.images_per_s = s.images / s.step_s;
    s.efficiency = (load->update_s + load->leaf_s * (double)n_leaves / ranks) / s.step_s;
    return s;
}
