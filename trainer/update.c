/* One call after the other on the device: nothing comes to the host before the end. */
#include "trainer/update.h"

/* What ranks made of their slices goes to all. In host memory its time is known, and nothing hides it. */
static vg_status share(const vg_updater *u, float *array, int64_t block_floats)
{
    const double start_s = vg_now_s();
    vg_exchange_times times;
    VG_TRY(vg_gradients_share(u->gradients, array, block_floats));
    if (u->gathered && u->params->moments_elsewhere && vg_gradients_times(u->gradients, &times))
        u->gathered(u->context, start_s, vg_now_s());
    return VG_OK;
}

/* Sums of squares of the blocks of this rank's slices of the total; then of all. */
static vg_status sum_squares(const vg_updater *u, const float *total)
{
    const vg_optimizer *opt = &u->stage->optimizer;
    vg_compute *compute = u->stage->compute;
    for (int i = 0; i < vg_gradients_slices(u->gradients); i++) {
        int64_t first, count;
        vg_gradients_slice(u->gradients, i, &first, &count);
        VG_TRY(compute->backend->sum_squares(&compute->stream, total + first, count / VG_PARAM_BLOCK,
                                             opt->block_squares + first / VG_PARAM_BLOCK));
    }
    return share(u, (float *)(void *)opt->block_squares, sizeof(double) / sizeof(float));
}

/* The AdamW pass over slice i. */
static vg_status update_slice(const vg_updater *u, const float *total, int i)
{
    const vg_options *o = u->options;
    const vg_optimizer *opt = &u->stage->optimizer;
    const vg_param_space *at = &u->params->at;
    int64_t first, count;
    float *moment1, *moment2;
    vg_gradients_slice(u->gradients, i, &first, &count);
    vg_rank_moments_slice(u->moments, i, &moment1, &moment2);
    const vg_adamw adamw = {.param = at->master + first,
                            .moment1 = moment1,
                            .moment2 = moment2,
                            .average = at->average ? at->average + first : NULL,
                            .grad = total + first,
                            .n_blocks = count / VG_PARAM_BLOCK,
                            .block_lr = opt->block_lr + first / VG_PARAM_BLOCK,
                            .block_decay = opt->block_decay + first / VG_PARAM_BLOCK,
                            .beta1 = (float)o->train_beta1,
                            .beta2 = (float)o->train_beta2,
                            .eps = (float)o->train_eps,
                            .average_decay = (float)o->train_average_decay,
                            .update = opt->update};
    return u->stage->compute->backend->adamw(&u->stage->compute->stream, &adamw);
}

static vg_status find_norm(const vg_updater *u, const float *total)
{
    const vg_options *o = u->options;
    const vg_optimizer *opt = &u->stage->optimizer;
    const vg_grad_norm norm = {.block_sums = opt->block_squares,
                               .n_blocks = opt->n_blocks,
                               .clip_norm = o->train_clip_norm,
                               .beta1 = o->train_beta1,
                               .beta2 = o->train_beta2,
                               .update = opt->update};
    VG_TRY(sum_squares(u, total));
    return u->stage->compute->backend->norm(&u->stage->compute->stream, &norm);
}

vg_status vg_update_weights(const vg_updater *u, const float *total, vg_update *update)
{
    const vg_device_ops *device = u->stage->compute->backend->device;
    const vg_optimizer *opt = &u->stage->optimizer;
    vg_stream *stream = &u->stage->compute->stream;
    VG_TRY(device->upload(stream, opt->update, update, sizeof *update));
    VG_TRY(find_norm(u, total));
    for (int i = 0; i < vg_gradients_slices(u->gradients); i++) VG_TRY(update_slice(u, total, i));
    VG_TRY(share(u, u->params->at.master, VG_PARAM_BLOCK));
    VG_TRY(vg_gradients_wait(u->gradients)); /* before the download, which may wait without a deadline */
    VG_TRY(vg_params_mirror(u->params));
    VG_TRY(device->download(stream, update, opt->update, sizeof *update));
    return device->wait(stream);
}
