#include "trainer/rank_moments.h"

static const vg_device_ops *device_of(const vg_rank_moments *m)
{
    return m->compute->backend->device;
}

static float *first_of(const vg_rank_moments *m)
{
    return (float *)(void *)m->memory.base;
}

vg_status vg_rank_moments_open(vg_params *params, vg_gradients *gradients, vg_compute *compute, vg_rank_moments *out)
{
    vg_rank_moments m = {.params = params, .gradients = gradients, .compute = compute};
    for (int i = 0; i < vg_gradients_slices(gradients); i++) {
        int64_t first, count;
        vg_gradients_slice(gradients, i, &first, &count);
        m.n += count;
    }
    *out = m;
    if (!params->moments_elsewhere) return VG_OK;
    VG_TRY(device_of(&m)->allocate(&compute->stream, 2 * (size_t)m.n * sizeof(float), &out->memory));
    return vg_rank_moments_send(out);
}

void vg_rank_moments_release(vg_rank_moments *m)
{
    if (m->memory.base) device_of(m)->release(&m->compute->stream, &m->memory);
    *m = (vg_rank_moments){0};
}

void vg_rank_moments_slice(const vg_rank_moments *m, int slice, float **moment1, float **moment2)
{
    int64_t before = 0, first, count;
    for (int i = 0; i < slice; i++) {
        vg_gradients_slice(m->gradients, i, &first, &count);
        before += count;
    }
    vg_gradients_slice(m->gradients, slice, &first, &count);
    const bool apart = m->params->moments_elsewhere;
    *moment1 = apart ? first_of(m) + before : m->params->at.moment1 + first;
    *moment2 = apart ? first_of(m) + m->n + before : m->params->at.moment2 + first;
}

vg_status vg_rank_moments_send(vg_rank_moments *m)
{
    const vg_device_ops *d = device_of(m);
    VG_TRY(vg_params_send(m->params));
    if (!m->params->moments_elsewhere) return VG_OK;
    for (int i = 0; i < vg_gradients_slices(m->gradients); i++) {
        int64_t first, count;
        float *moment1, *moment2;
        vg_gradients_slice(m->gradients, i, &first, &count);
        vg_rank_moments_slice(m, i, &moment1, &moment2);
        const size_t bytes = (size_t)count * sizeof(float);
        VG_TRY(d->upload(&m->compute->stream, moment1, m->params->moment1 + first, bytes));
        VG_TRY(d->upload(&m->compute->stream, moment2, m->params->moment2 + first, bytes));
    }
    return d->wait(&m->compute->stream);
}

/* One moment of all ranks to the host. */
static vg_status fetch_moment(vg_rank_moments *m, bool second, float *to_host)
{
    const vg_device_ops *d = device_of(m);
    vg_stream *stream = &m->compute->stream;
    float *whole = vg_gradients_leaf(m->gradients);
    for (int i = 0; i < vg_gradients_slices(m->gradients); i++) {
        int64_t first, count;
        float *moment1, *moment2;
        vg_gradients_slice(m->gradients, i, &first, &count);
        vg_rank_moments_slice(m, i, &moment1, &moment2);
        VG_TRY(d->copy(stream, whole + first, second ? moment2 : moment1, (size_t)count * sizeof(float)));
    }
    VG_TRY(vg_gradients_share(m->gradients, whole, VG_PARAM_BLOCK));
    VG_TRY(vg_gradients_wait(m->gradients)); /* before the download, which may wait without a deadline */
    VG_TRY(d->download(stream, to_host, whole, (size_t)m->params->n_trainable * sizeof(float)));
    return d->wait(stream);
}

vg_status vg_rank_moments_fetch(vg_rank_moments *m)
{
    VG_TRY(vg_params_fetch(m->params));
    if (!m->params->moments_elsewhere) return VG_OK;
    VG_TRY(fetch_moment(m, false, m->params->moment1));
    return fetch_moment(m, true, m->params->moment2);
}
