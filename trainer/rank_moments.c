#include "trainer/rank_moments.h"

#include "checkpoints/checkpoint.h"

static const vg_device_ops *device_of(const vg_rank_moments *m)
{
    return m->compute->backend->device;
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
    return device_of(&m)->allocate(&compute->stream, 2 * (size_t)m.n * sizeof(float), &out->memory);
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
    float *slices = (float *)(void *)m->memory.base;
    *moment1 = apart ? slices + before : m->params->at.moment1 + first;
    *moment2 = apart ? slices + m->n + before : m->params->at.moment2 + first;
}

/* ---- from a checkpoint ---- */

/* This rank's slices of a whole moment on the host. */
static vg_status send_moment(vg_rank_moments *m, bool second, const float *whole)
{
    const vg_device_ops *d = device_of(m);
    for (int i = 0; i < vg_gradients_slices(m->gradients); i++) {
        int64_t first, count;
        float *moment1, *moment2;
        vg_gradients_slice(m->gradients, i, &first, &count);
        vg_rank_moments_slice(m, i, &moment1, &moment2);
        VG_TRY(
            d->upload(&m->compute->stream, second ? moment2 : moment1, whole + first, (size_t)count * sizeof(float)));
    }
    return d->wait(&m->compute->stream);
}

/* One after the other, so that the host has room for one alone. */
static vg_status load_slices(vg_rank_moments *m, const char *checkpoint, float *whole)
{
    vg_params first = *m->params, second = *m->params;
    first.moment1 = second.moment2 = whole;
    second.average = NULL; /* it came with the first */
    VG_TRY(vg_checkpoint_load_moments(checkpoint, &first));
    VG_TRY(send_moment(m, false, whole));
    VG_TRY(vg_checkpoint_load_moments(checkpoint, &second));
    return send_moment(m, true, whole);
}

vg_status vg_rank_moments_load(vg_rank_moments *m, const char *checkpoint)
{
    if (m->params->moments_elsewhere) {
        vg_arena whole;
        VG_TRY(vg_arena_init(&whole, (size_t)m->params->n_trainable * sizeof(float)));
        const vg_status st = load_slices(m, checkpoint, (float *)(void *)whole.base);
        vg_arena_release(&whole);
        VG_TRY(st);
    } else {
        VG_TRY(vg_checkpoint_load_moments(checkpoint, m->params));
    }
    return vg_params_send(m->params);
}

/* ---- to a checkpoint ---- */

static vg_status fetch_moment(vg_rank_moments *m, bool second, int64_t from, int64_t n, float *to_host)
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
    VG_TRY(d->download(stream, to_host, whole + from, (size_t)n * sizeof(float)));
    return d->wait(stream);
}

vg_status vg_rank_moments_fetch(vg_rank_moments *m, int64_t first, int64_t count, float *moment1, float *moment2)
{
    VG_TRY(fetch_moment(m, false, first, count, moment1));
    return fetch_moment(m, true, first, count, moment2);
}
