/* Writing tensor files: the header is known before the first value, and each byte is hashed as it goes out. */
#define _POSIX_C_SOURCE 200809L
#include "checkpoints/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <xxhash.h>

struct vg_tensor_writer {
    json_t *header, *texts;
    uint64_t data_bytes;  /* of the tensors added */
    uint64_t done, bytes; /* written, and to be written, with the header */
    char *path;
    int fd;
    XXH3_state_t *hash;
    vg_status status; /* a failure, once there was one: all later calls return it */
};

/* Remembers how a call ended. */
static vg_status ended(vg_tensor_writer *w, vg_status status)
{
    w->status = status;
    return status;
}

vg_status vg_tensor_writer_new(vg_tensor_writer **out)
{
    vg_tensor_writer *w = vg_new0(sizeof *w);
    VG_CHECK(w, VG_E_NOMEM, "no memory for a tensor writer");
    w->fd = -1;
    w->header = json_object();
    w->texts = json_object();
    w->hash = XXH3_createState();
    if (!w->header || !w->texts || !w->hash || XXH3_64bits_reset(w->hash) != XXH_OK) {
        vg_tensor_writer_free(w);
        return vg_fail(VG_E_NOMEM, "no memory for a tensor writer");
    }
    *out = w;
    return VG_OK;
}

void vg_tensor_writer_free(vg_tensor_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) { /* never finished */
        close(w->fd);
        unlink(w->path);
    }
    json_decref(w->header);
    json_decref(w->texts);
    XXH3_freeState(w->hash);
    free(w->path);
    free(w);
}

vg_status vg_tensor_writer_text(vg_tensor_writer *w, const char *key, const char *value)
{
    if (w->status != VG_OK) return w->status;
    if (json_object_set_new(w->texts, key, json_string(value)) != 0)
        return ended(w, vg_fail(VG_E_BUG, "metadata %.128s: not UTF-8 text", key));
    return VG_OK;
}

vg_status vg_tensor_writer_add(vg_tensor_writer *w, const char *name, vg_tensor_type type, int rank, const int64_t *dim)
{
    if (w->status != VG_OK) return w->status;
    size_t bytes = vg_tensor_type_bytes(type);
    json_t *shape = json_array();
    bool fits = rank <= VG_TENSOR_MAX_RANK && shape;
    for (int i = 0; i < rank && fits; i++)
        fits = vg_mul_size(bytes, (size_t)dim[i], &bytes) && json_array_append_new(shape, json_integer(dim[i])) == 0;
    const uint64_t end = w->data_bytes + bytes;
    json_t *entry = fits && !json_object_get(w->header, name)
                        ? json_pack("{s:s, s:O, s:[I, I]}", "dtype", vg_tensor_type_name(type), "shape", shape,
                                    "data_offsets", (json_int_t)w->data_bytes, (json_int_t)end)
                        : NULL;
    json_decref(shape);
    if (!entry || json_object_set_new(w->header, name, entry) != 0)
        return ended(w,
                     vg_fail(VG_E_BUG, "tensor %.128s cannot be written: added twice, too large, or not UTF-8", name));
    w->data_bytes = end;
    return VG_OK;
}

/* The header, filled up with spaces so that the data begin at a multiple of 8. */
static vg_status header_text(vg_tensor_writer *w, vg_text *text)
{
    if (json_object_size(w->texts) && json_object_set(w->header, "__metadata__", w->texts) != 0)
        return vg_fail(VG_E_NOMEM, "%s: no memory for the header", w->path);
    char *dump = json_dumps(w->header, JSON_COMPACT);
    VG_CHECK(dump, VG_E_NOMEM, "%s: no memory for the header", w->path);
    const uint64_t size = vg_round_up(strlen(dump), 8);
    vg_status st = vg_text_add_bytes(text, &size, sizeof size);
    VG_KEEP(st, vg_text_add(text, "%s", dump));
    while (st == VG_OK && text->length < size + sizeof size) st = vg_text_add_bytes(text, " ", 1);
    free(dump);
    return st;
}

static vg_status write_bytes(vg_tensor_writer *w, const void *data, size_t bytes)
{
    VG_CHECK(bytes <= w->bytes - w->done, VG_E_BUG, "%s: more data than its tensors hold", w->path);
    const size_t done = vg_write_most(w->fd, data, bytes);
    VG_CHECK(done == bytes, VG_E_STORAGE, "%s: %s after %llu of %llu bytes", w->path, strerror(errno),
             (unsigned long long)(w->done + done), (unsigned long long)w->bytes);
    XXH3_64bits_update(w->hash, data, bytes);
    w->done += bytes;
    return VG_OK;
}

vg_status vg_tensor_writer_start(vg_tensor_writer *w, const char *path)
{
    if (w->status != VG_OK) return w->status;
    vg_text text = {0};
    w->path = vg_copy_string(path);
    vg_status st = w->path ? header_text(w, &text) : vg_fail(VG_E_NOMEM, "%s: no memory", path);
    if (st == VG_OK && (w->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0)
        st = vg_fail(VG_E_STORAGE, "%s: %s", path, strerror(errno));
    w->bytes = text.length + w->data_bytes;
    if (st == VG_OK) st = write_bytes(w, text.data, text.length);
    free(text.data);
    return ended(w, st);
}

vg_status vg_tensor_writer_write(vg_tensor_writer *w, const void *data, size_t bytes)
{
    if (w->status != VG_OK) return w->status;
    return ended(w, bytes ? write_bytes(w, data, bytes) : VG_OK);
}

vg_status vg_tensor_writer_finish(vg_tensor_writer *w, uint64_t *bytes, uint64_t *hash)
{
    if (w->status != VG_OK) return w->status;
    vg_status st = w->done == w->bytes ? VG_OK
                                       : vg_fail(VG_E_BUG, "%s: %llu of %llu bytes were written", w->path,
                                                 (unsigned long long)w->done, (unsigned long long)w->bytes);
    if (st == VG_OK && fsync(w->fd) != 0) st = vg_fail(VG_E_STORAGE, "%s: fsync: %s", w->path, strerror(errno));
    if (st != VG_OK) return ended(w, st);
    const int closed = close(w->fd), why = errno;
    w->fd = -1;
    if (closed != 0) {
        unlink(w->path);
        return ended(w, vg_fail(VG_E_STORAGE, "%s: %s", w->path, strerror(why)));
    }
    if (bytes) *bytes = w->bytes;
    if (hash) *hash = XXH3_64bits_digest(w->hash);
    return VG_OK;
}
