#define _POSIX_C_SOURCE 200809L
#include "data/shard_writer.h"

#include "data/shard_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SMALL_CHUNK_BYTES = 4096 };

struct vg_shard_writer {
    char *path, *partial;
    vg_shard_origin origin;
    vg_shard_tables tables;
    struct {
        size_t images, sentences, boxes, text, splits, kinds;
    } capacity;
    hid_t file, bytes;    /* bytes: -1 until the first chunk is full */
    unsigned char *chunk; /* the chunk that is being filled */
    uint64_t chunks_done;
    size_t filled;
};

/* ---- records ---- */

/* The row of a name, added when it is new. */
static vg_status name_row(vg_shard_name **names, size_t *n, size_t *capacity, const char *name, int32_t *row)
{
    for (size_t i = *n; i-- > 0;) {
        if (strcmp((*names)[i], name) == 0) {
            *row = (int32_t)i;
            return VG_OK;
        }
    }
    VG_CHECK(*n < VG_SHARD_MAX_NAMES, VG_E_DATA,
             "'%s' is one of more than %d splits or kinds; smaller shards (--shard-mb) hold fewer", name,
             VG_SHARD_MAX_NAMES);
    VG_TRY(vg_grow(names, capacity, *n + 1, sizeof **names));
    memset((*names)[*n], 0, sizeof **names);
    memcpy((*names)[*n], name, strlen(name));
    *row = (int32_t)(*n)++;
    return VG_OK;
}

static vg_status text_add(vg_shard_writer *w, const char *text, size_t n, uint64_t *offset, uint32_t *length)
{
    VG_CHECK(n <= VG_SHARD_MAX_TEXT, VG_E_DATA, "a text of %zu bytes, more than %d", n, VG_SHARD_MAX_TEXT);
    vg_shard_tables *t = &w->tables;
    VG_TRY(vg_grow(&t->text, &w->capacity.text, t->n_text + n + 1, 1));
    memcpy(t->text + t->n_text, text, n);
    t->text[t->n_text + n] = '\0';
    *offset = t->n_text;
    *length = (uint32_t)n;
    t->n_text += n + 1;
    return VG_OK;
}

/* The boxes go behind the others, or are found in the place where the sentence before put the same ones. */
static vg_status boxes_add(vg_shard_writer *w, const vg_new_sentence *s, int64_t *first)
{
    vg_shard_tables *t = &w->tables;
    const size_t n = (size_t)s->n_boxes;
    if (n && n <= t->n_boxes && memcmp(t->boxes + t->n_boxes - n, s->boxes, n * sizeof *t->boxes) == 0) {
        *first = (int64_t)(t->n_boxes - n);
        return VG_OK;
    }
    VG_TRY(vg_grow(&t->boxes, &w->capacity.boxes, t->n_boxes + n, sizeof *t->boxes));
    if (n) memcpy(t->boxes + t->n_boxes, s->boxes, n * sizeof *t->boxes);
    *first = (int64_t)t->n_boxes;
    t->n_boxes += n;
    return VG_OK;
}

static vg_status sentence_add(vg_shard_writer *w, const vg_new_sentence *s)
{
    vg_shard_tables *t = &w->tables;
    VG_CHECK(vg_shard_name_fits(s->split, 1) && vg_shard_name_fits(s->kind, 0), VG_E_DATA,
             "sentence %lld: its split or kind has more than %d bytes, or is not UTF-8", (long long)s->sentence_id,
             VG_SHARD_NAME_BYTES - 1);
    VG_TRY(vg_grow(&t->sentences, &w->capacity.sentences, t->n_sentences + 1, sizeof *t->sentences));
    vg_shard_sentence *row = &t->sentences[t->n_sentences];
    *row = (vg_shard_sentence){
        .sentence_id = s->sentence_id, .ref_id = s->ref_id, .image = (int64_t)t->n_images - 1, .n_boxes = s->n_boxes};
    VG_TRY(text_add(w, s->text, s->text_bytes, &row->text_offset, &row->text_length));
    VG_TRY(boxes_add(w, s, &row->first_box));
    VG_TRY(name_row(&t->splits, &t->n_splits, &w->capacity.splits, s->split, &row->split));
    VG_TRY(name_row(&t->kinds, &t->n_kinds, &w->capacity.kinds, s->kind, &row->kind));
    row->record = vg_shard_sentence_record(t, row);
    const char *fault = vg_shard_sentence_fault(t, row, t->n_sentences ? row[-1].image : -1);
    VG_CHECK(!fault, VG_E_DATA, "sentence %lld: %s", (long long)s->sentence_id, fault);
    t->n_sentences++;
    return VG_OK;
}

/* Where n bytes go: behind the image before, or at the next chunk when they would straddle its edge. */
static uint64_t place_of(uint64_t end, size_t n)
{
    const uint64_t into = end % VG_SHARD_CHUNK_BYTES;
    return into && into + n > VG_SHARD_CHUNK_BYTES ? end - into + VG_SHARD_CHUNK_BYTES : end;
}

/* The rows of an image and its sentences; on failure the tables may hold a part of them. */
static vg_status rows_add(vg_shard_writer *w, const vg_new_image *image)
{
    vg_shard_tables *t = &w->tables;
    VG_CHECK(image->n_sentences > 0, VG_E_DATA, "no sentences");
    VG_CHECK(image->n_bytes > 0 || !image->bytes, VG_E_DATA, "no bytes"); /* which an absent image has not even */
    VG_CHECK(image->n_bytes <= VG_SHARD_MAX_IMAGE, VG_E_DATA, "%zu bytes, more than 1 GiB", image->n_bytes);
    VG_TRY(vg_grow(&t->images, &w->capacity.images, t->n_images + 1, sizeof *t->images));
    vg_shard_image *row = &t->images[t->n_images];
    uint64_t end = t->n_bytes;
    *row = (vg_shard_image){.image_id = image->image_id,
                            .coco_id = image->coco_id,
                            .flickr_id = image->flickr_id,
                            .width = image->width,
                            .height = image->height,
                            .offset = place_of(end, image->n_bytes),
                            .length = image->n_bytes,
                            .hash = XXH3_64bits(image->bytes, image->n_bytes)};
    VG_TRY(text_add(w, image->file_name, strlen(image->file_name), &row->name_offset, &row->name_length));
    row->record = vg_shard_image_record(t, row);
    t->n_bytes = row->offset + row->length;
    const char *fault = vg_shard_image_fault(t, row, &end);
    VG_CHECK(!fault, VG_E_DATA, "%s", fault);
    t->n_images++;
    for (size_t i = 0; i < image->n_sentences; i++) VG_TRY(sentence_add(w, &image->sentences[i]));
    return VG_OK;
}

/* ---- bytes ---- */

static vg_status bytes_create(vg_shard_writer *w, size_t chunk_bytes)
{
    const hsize_t none = 0, any = H5S_UNLIMITED, chunk = chunk_bytes;
    const hid_t space = H5Screate_simple(1, &none, &any), how = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(how, 1, &chunk);
    H5Pset_obj_track_times(how, false);
    w->bytes = H5Dcreate2(w->file, "bytes", H5T_STD_U8LE, space, H5P_DEFAULT, how, H5P_DEFAULT);
    const vg_status st = w->bytes >= 0 ? VG_OK : vg_h5_fail(VG_E_STORAGE, w->partial, "cannot make /bytes");
    H5Pclose(how);
    H5Sclose(space);
    w->tables.chunk_bytes = chunk_bytes;
    return st;
}

/* The chunk goes into the file as it is, past HDF5's chunk cache; what it does not fill is 0. */
static vg_status chunk_flush(vg_shard_writer *w, size_t chunk_bytes)
{
    if (w->bytes < 0) VG_TRY(bytes_create(w, chunk_bytes));
    const hsize_t at = w->chunks_done * chunk_bytes, size = at + w->filled;
    memset(w->chunk + w->filled, 0, chunk_bytes - w->filled);
    if (H5Dset_extent(w->bytes, &size) < 0 || H5Dwrite_chunk(w->bytes, H5P_DEFAULT, 0, &at, chunk_bytes, w->chunk) < 0)
        return vg_h5_fail(VG_E_STORAGE, w->partial, "cannot write image bytes");
    w->chunks_done++;
    w->filled = 0;
    return VG_OK;
}

static vg_status bytes_add(vg_shard_writer *w, uint64_t offset, const unsigned char *bytes, size_t n)
{
    if (offset > w->chunks_done * VG_SHARD_CHUNK_BYTES + w->filled) {
        memset(w->chunk + w->filled, 0, VG_SHARD_CHUNK_BYTES - w->filled);
        w->filled = VG_SHARD_CHUNK_BYTES;
    }
    while (n > 0) {
        if (w->filled == VG_SHARD_CHUNK_BYTES) VG_TRY(chunk_flush(w, VG_SHARD_CHUNK_BYTES));
        const size_t room = VG_SHARD_CHUNK_BYTES - w->filled, part = n < room ? n : room;
        memcpy(w->chunk + w->filled, bytes, part);
        w->filled += part;
        bytes += part;
        n -= part;
    }
    return VG_OK;
}

vg_status vg_shard_writer_add(vg_shard_writer *w, const vg_new_image *image)
{
    const vg_shard_tables before = w->tables;
    vg_status st = rows_add(w, image);
    if (st != VG_OK) { /* the tables may have moved; their counts go back */
        vg_shard_tables *t = &w->tables;
        t->n_images = before.n_images;
        t->n_sentences = before.n_sentences;
        t->n_boxes = before.n_boxes;
        t->n_text = before.n_text;
        t->n_splits = before.n_splits;
        t->n_kinds = before.n_kinds;
        t->n_bytes = before.n_bytes;
        return vg_fail_at(st, "image %lld", (long long)image->image_id);
    }
    if (w->file < 0) return VG_OK;
    return bytes_add(w, w->tables.images[w->tables.n_images - 1].offset, image->bytes, image->n_bytes);
}

/* ---- the file ---- */

static vg_status table_write(vg_shard_writer *w, const char *name, hid_t file_type, hid_t memory_type, size_t n,
                             size_t columns, const void *rows)
{
    const hsize_t size[2] = {n, columns};
    const hid_t space = H5Screate_simple(columns > 1 ? 2 : 1, size, NULL), how = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(how, false);
    const hid_t table = H5Dcreate2(w->file, name, file_type, space, H5P_DEFAULT, how, H5P_DEFAULT);
    const bool good = table >= 0 && (n == 0 || H5Dwrite(table, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows) >= 0);
    vg_status st = good ? VG_OK : vg_h5_fail(VG_E_STORAGE, w->partial, "cannot write a table");
    if (table >= 0 && H5Dclose(table) < 0 && st == VG_OK)
        st = vg_h5_fail(VG_E_STORAGE, w->partial, "cannot close a table");
    H5Pclose(how);
    H5Sclose(space);
    return st;
}

static vg_status rows_write(vg_shard_writer *w, const char *name, hid_t (*type)(bool in_memory), size_t n,
                            const void *rows)
{
    const hid_t file_type = type(false), memory_type = type(true);
    const vg_status st = table_write(w, name, file_type, memory_type, n, 1, rows);
    H5Tclose(file_type);
    H5Tclose(memory_type);
    return st;
}

static vg_status names_write(vg_shard_writer *w, const char *name, const vg_shard_name *names, size_t n)
{
    const hid_t type = vg_shard_text_type(VG_SHARD_NAME_BYTES);
    const vg_status st = table_write(w, name, type, type, n, 1, names);
    H5Tclose(type);
    return st;
}

static vg_status attribute_write(vg_shard_writer *w, const char *name, hid_t file_type, hid_t memory_type,
                                 const void *value)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(w->file, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool good = attribute >= 0 && H5Awrite(attribute, memory_type, value) >= 0;
    const vg_status st = good ? VG_OK : vg_h5_fail(VG_E_STORAGE, w->partial, "cannot write an attribute");
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    return st;
}

static vg_status attributes_write(vg_shard_writer *w)
{
    const int32_t version = VG_SHARD_VERSION;
    const uint64_t content = vg_shard_content(&w->tables);
    const vg_shard_name format = VG_SHARD_FORMAT;
    const hid_t text = vg_shard_text_type(VG_SHARD_NAME_BYTES);
    vg_status st = attribute_write(w, "format", text, text, format);
    VG_KEEP(st, attribute_write(w, "source", text, text, w->origin.source));
    VG_KEEP(st, attribute_write(w, "split_by", text, text, w->origin.split_by));
    VG_KEEP(st, attribute_write(w, "format_version", H5T_STD_I32LE, H5T_NATIVE_INT32, &version));
    VG_KEEP(st, attribute_write(w, "inputs_hash", H5T_STD_U64LE, H5T_NATIVE_UINT64, &w->origin.inputs));
    VG_KEEP(st, attribute_write(w, "content_hash", H5T_STD_U64LE, H5T_NATIVE_UINT64, &content));
    if (w->origin.history[0]) {
        const hid_t lines = vg_shard_text_type(sizeof w->origin.history);
        VG_KEEP(st, attribute_write(w, "history", lines, lines, w->origin.history));
        H5Tclose(lines);
    }
    H5Tclose(text);
    return st;
}

static vg_status tables_write(vg_shard_writer *w)
{
    const vg_shard_tables *t = &w->tables;
    if (w->filled > 0)
        VG_TRY(chunk_flush(w, w->bytes < 0 ? vg_round_up(w->filled, SMALL_CHUNK_BYTES) : VG_SHARD_CHUNK_BYTES));
    if (w->bytes < 0) VG_TRY(bytes_create(w, SMALL_CHUNK_BYTES)); /* every image is absent */
    VG_TRY(rows_write(w, "images", vg_shard_image_type, t->n_images, t->images));
    VG_TRY(rows_write(w, "sentences", vg_shard_sentence_type, t->n_sentences, t->sentences));
    VG_TRY(table_write(w, "boxes", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, t->n_boxes, 4, t->boxes));
    VG_TRY(table_write(w, "text", H5T_STD_U8LE, H5T_NATIVE_UINT8, t->n_text, 1, t->text));
    VG_TRY(names_write(w, "splits", t->splits, t->n_splits));
    VG_TRY(names_write(w, "kinds", t->kinds, t->n_kinds));
    return attributes_write(w);
}

static vg_status file_create(vg_shard_writer *w, const char *path)
{
    vg_text partial = {0};
    VG_TRY(vg_text_add(&partial, "%s.partial", path));
    w->partial = partial.data;
    w->path = vg_copy_string(path);
    w->chunk = malloc(VG_SHARD_CHUNK_BYTES);
    VG_CHECK(w->path && w->chunk, VG_E_NOMEM, "%s: no memory for a shard writer", path);
    vg_h5_begin();
    const hid_t access = vg_h5_access(), how = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_obj_track_times(how, false);
    w->file = H5Fcreate(w->partial, H5F_ACC_TRUNC, how, access);
    const vg_status st = w->file >= 0 ? VG_OK : vg_h5_fail(VG_E_STORAGE, w->partial, "cannot make the file");
    H5Pclose(how);
    H5Pclose(access);
    return st;
}

/* False when HDF5 could not write what it still held. */
static bool handles_close(vg_shard_writer *w)
{
    const bool good = w->bytes < 0 || H5Dclose(w->bytes) >= 0;
    const bool closed = w->file < 0 || H5Fclose(w->file) >= 0;
    w->bytes = w->file = -1;
    return good && closed;
}

/* From the partial name to the final one, for good. */
static vg_status file_commit(const vg_shard_writer *w)
{
    const int fd = open(w->partial, O_RDONLY | O_CLOEXEC);
    VG_CHECK(fd >= 0, VG_E_STORAGE, "%s: %s", w->partial, strerror(errno));
    const int rc = fsync(fd), why = errno;
    close(fd);
    VG_CHECK(rc == 0, VG_E_STORAGE, "%s: fsync: %s", w->partial, strerror(why));
    return vg_file_rename(w->partial, w->path);
}

void vg_shard_writer_abandon(vg_shard_writer *w)
{
    if (!w) return;
    const bool made = w->file >= 0;
    (void)handles_close(w);
    if (made) unlink(w->partial);
    vg_shard_tables_release(&w->tables);
    free(w->chunk);
    free(w->partial);
    free(w->path);
    free(w);
}

vg_status vg_shard_writer_open(const char *path, const char *source, const char *split_by, vg_shard_writer **out)
{
    vg_shard_writer *w = vg_new0(sizeof *w);
    VG_CHECK(w, VG_E_NOMEM, "no memory for a shard writer");
    w->file = w->bytes = -1;
    snprintf(w->origin.source, sizeof w->origin.source, "%s", source);
    snprintf(w->origin.split_by, sizeof w->origin.split_by, "%s", split_by);
    w->tables.chunk_bytes = VG_SHARD_CHUNK_BYTES;
    const vg_status st = path ? file_create(w, path) : VG_OK;
    if (st != VG_OK)
        vg_shard_writer_abandon(w);
    else
        *out = w;
    return st;
}

void vg_shard_writer_history(vg_shard_writer *w, const char *history)
{
    memset(w->origin.history, 0, sizeof w->origin.history);
    snprintf(w->origin.history, sizeof w->origin.history, "%s", history);
}

vg_status vg_shard_writer_close(vg_shard_writer *w, uint64_t inputs)
{
    w->origin.inputs = inputs;
    vg_status st = VG_OK;
    const bool wanted = w->tables.n_images > 0 && w->file >= 0;
    if (wanted) st = tables_write(w);
    if (!handles_close(w) && st == VG_OK) st = vg_h5_fail(VG_E_STORAGE, w->partial, "cannot close the file");
    if (wanted && st == VG_OK) st = file_commit(w);
    if (w->partial && (!wanted || st != VG_OK)) unlink(w->partial);
    vg_shard_writer_abandon(w);
    return st;
}
