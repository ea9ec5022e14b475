/* A device whose memory is apart from the host's, in plain memory: it knows what it gave out, and takes nothing else.
 */
#ifndef APART_DEVICE_H
#define APART_DEVICE_H

#include "kernels/backend.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_PIECES = 16 };

static vg_arena apart_pieces[MOST_PIECES]; /* with base NULL: free */

static inline bool is_on_device(const void *memory, size_t bytes)
{
    const unsigned char *at = memory;
    for (int i = 0; i < MOST_PIECES; i++) {
        const vg_arena *p = &apart_pieces[i];
        if (p->base && at >= p->base && at + bytes <= p->base + p->size_bytes) return true;
    }
    return false;
}

static inline int apart_pieces_held(void)
{
    int n = 0;
    for (int i = 0; i < MOST_PIECES; i++) n += apart_pieces[i].base != NULL;
    return n;
}

static inline vg_status apart_allocate(vg_stream *s, size_t bytes, vg_arena *out)
{
    (void)s;
    for (int i = 0; i < MOST_PIECES; i++) {
        if (apart_pieces[i].base) continue;
        *out = (vg_arena){.base = vg_new0(bytes + 1), .size_bytes = bytes + 1};
        apart_pieces[i] = *out;
        return VG_OK;
    }
    return vg_fail(VG_E_NOMEM, "the device has no piece left");
}

static inline void apart_release(vg_stream *s, vg_arena *memory)
{
    (void)s;
    for (int i = 0; i < MOST_PIECES; i++)
        if (memory->base && apart_pieces[i].base == memory->base) apart_pieces[i] = (vg_arena){0};
    free(memory->base);
    *memory = (vg_arena){0};
}

static inline vg_status apart_allocate_staging(vg_stream *s, size_t bytes, vg_arena *out)
{
    (void)s;
    *out = (vg_arena){.base = vg_new0(bytes + 1), .size_bytes = bytes + 1};
    return VG_OK;
}

static inline vg_status apart_upload(vg_stream *s, void *to, const void *from, size_t bytes)
{
    (void)s;
    VG_CHECK(is_on_device(to, bytes) && !is_on_device(from, bytes), VG_E_DEVICE, "an upload goes from host to device");
    if (bytes) memcpy(to, from, bytes);
    return VG_OK;
}

static inline vg_status apart_download(vg_stream *s, void *to, const void *from, size_t bytes)
{
    (void)s;
    VG_CHECK(!is_on_device(to, bytes) && is_on_device(from, bytes), VG_E_DEVICE, "a download goes from device to host");
    if (bytes) memcpy(to, from, bytes);
    return VG_OK;
}

static inline vg_status apart_wait(vg_stream *s)
{
    (void)s;
    return VG_OK;
}

static inline vg_status apart_copy(vg_stream *s, void *to, const void *from, size_t bytes)
{
    (void)s;
    VG_CHECK(is_on_device(to, bytes) && is_on_device(from, bytes), VG_E_DEVICE, "a copy stays on the device");
    if (bytes) memcpy(to, from, bytes);
    return VG_OK;
}

static inline vg_status apart_open_beside(const vg_stream *s, vg_stream *beside)
{
    *beside = *s;
    return VG_OK;
}

static inline void apart_close(vg_stream *s)
{
    (void)s;
}

static inline vg_status apart_follow(vg_stream *s, vg_stream *earlier)
{
    (void)s, (void)earlier;
    return VG_OK;
}

/* What the engine asks of a device that records nothing. */
static const vg_device_ops apart_device = {.open_beside = apart_open_beside,
                                           .close = apart_close,
                                           .follow = apart_follow,
                                           .copy = apart_copy,
                                           .allocate = apart_allocate,
                                           .release = apart_release,
                                           .allocate_staging = apart_allocate_staging,
                                           .release_staging = apart_release,
                                           .upload = apart_upload,
                                           .download = apart_download,
                                           .wait = apart_wait};

#endif
