/* The host as a device: memory is memory, and what is enqueued is done. */
#include "kernels/backend.h"

#include <string.h>

static vg_status open_host(vg_stream *stream, int place)
{
    (void)stream;
    (void)place;
    return VG_OK;
}

static vg_status open_beside(const vg_stream *stream, vg_stream *beside)
{
    *beside = *stream;
    return VG_OK;
}

static void close_host(vg_stream *stream)
{
    (void)stream;
}

static vg_status follow(vg_stream *stream, vg_stream *earlier)
{
    (void)stream, (void)earlier;
    return VG_OK;
}

static void *queue(const vg_stream *stream)
{
    (void)stream;
    return NULL;
}

static vg_status allocate(vg_stream *stream, size_t bytes, vg_arena *out)
{
    (void)stream;
    return vg_arena_init(out, bytes);
}

static void release(vg_stream *stream, vg_arena *memory)
{
    (void)stream;
    vg_arena_release(memory);
}

static vg_status copy(vg_stream *stream, void *to, const void *from, size_t bytes)
{
    (void)stream;
    if (bytes) memcpy(to, from, bytes);
    return VG_OK;
}

static vg_status zero(vg_stream *stream, void *to, size_t bytes)
{
    (void)stream;
    if (bytes) memset(to, 0, bytes);
    return VG_OK;
}

static vg_status wait(vg_stream *stream)
{
    (void)stream;
    return VG_OK;
}

const vg_device_ops vg_host_device = {
    .open = open_host,
    .open_beside = open_beside,
    .close = close_host,
    .follow = follow,
    .queue = queue,
    .allocate = allocate,
    .release = release,
    .allocate_staging = allocate,
    .release_staging = release,
    .upload = copy,
    .download = copy,
    .copy = copy,
    .zero = zero,
    .wait = wait,
};
