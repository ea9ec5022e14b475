#define _POSIX_C_SOURCE 200809L
/* One shard file: opened through HDF5, checked, and from then on read with pread alone. */
#include "data/shard_impl.h"
#include "data/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- tables ---- */

/* A table as found in the file: where it is and what it claims. */
typedef struct table {
    const char *path, *name;
    hid_t set, type;
    int layout;
    int rank;
    hsize_t size[2];
} table;

static void table_close(table *t)
{
    if (t->type >= 0) H5Tclose(t->type);
    if (t->set >= 0) H5Dclose(t->set);
}

static vg_status table_fail(const table *t)
{
    char what[64];
    snprintf(what, sizeof what, "cannot read /%s", t->name);
    return vg_h5_fail(VG_E_DATA, t->path, what);
}

/* Nothing may lead out of the file: no soft or external link, no external or virtual storage, no filter (which could
 * unpack to any size). */
static vg_status table_is_plain(table *t, hid_t file)
{
    H5L_info_t link;
    if (H5Lget_info(file, t->name, &link, H5P_DEFAULT) < 0)
        return vg_fail(VG_E_DATA, "%s: no /%s in it; is this a shard?", t->path, t->name);
    VG_CHECK(link.type == H5L_TYPE_HARD, VG_E_DATA, "%s: /%s is a link", t->path, t->name);
    t->set = H5Dopen2(file, t->name, H5P_DEFAULT);
    if (t->set < 0) return table_fail(t);
    const hid_t how = H5Dget_create_plist(t->set);
    if (how < 0) return table_fail(t);
    t->layout = H5Pget_layout(how);
    const bool plain = H5Pget_external_count(how) == 0 && H5Pget_nfilters(how) == 0 &&
                       (t->layout == H5D_CONTIGUOUS || t->layout == H5D_CHUNKED);
    H5Pclose(how);
    VG_CHECK(plain, VG_E_DATA, "%s: /%s is not stored plainly in the file", t->path, t->name);
    return VG_OK;
}

static vg_status table_find(table *t, hid_t file, uint64_t file_bytes)
{
    VG_TRY(table_is_plain(t, file));
    t->type = H5Dget_type(t->set);
    const hid_t space = H5Dget_space(t->set);
    t->rank = space >= 0 ? H5Sget_simple_extent_ndims(space) : -1;
    const bool known = t->rank >= 1 && t->rank <= 2 && H5Sget_simple_extent_dims(space, t->size, NULL) >= 0;
    if (space >= 0) H5Sclose(space);
    if (t->type < 0 || !known) return table_fail(t);
    if (t->rank == 1) t->size[1] = 1;
    size_t cells, bytes;
    const bool fits = vg_mul_size(t->size[0], t->size[1], &cells) && vg_mul_size(cells, H5Tget_size(t->type), &bytes) &&
                      bytes <= file_bytes;
    VG_CHECK(fits, VG_E_DATA, "%s: /%s claims more rows than the file has room for", t->path, t->name);
    return VG_OK;
}

static vg_status table_rows(const table *t, hid_t memory_type, size_t row_bytes, void *rows_out, size_t *n_out)
{
    const size_t n = (size_t)t->size[0];
    void *rows = vg_new0_array(n, row_bytes);
    VG_CHECK(rows, VG_E_NOMEM, "%s: no memory for %zu rows of /%s", t->path, n, t->name);
    if (n > 0 && H5Dread(t->set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows) < 0) {
        free(rows);
        return table_fail(t);
    }
    memcpy(rows_out, &rows, sizeof rows);
    *n_out = n;
    return VG_OK;
}

static vg_status expect(const table *t, bool right, const char *form)
{
    VG_CHECK(right, VG_E_DATA, "%s: /%s is not %s", t->path, t->name, form);
    return VG_OK;
}

static bool is_text_type(hid_t type, size_t bytes)
{
    return H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 && H5Tget_size(type) == bytes;
}

typedef enum { ROWS_IMAGE, ROWS_SENTENCE, ROWS_BOX, ROWS_TEXT, ROWS_NAME } row_kind;

static vg_status table_read(table *t, row_kind kind, void *rows, size_t *n)
{
    hid_t type = H5I_INVALID_HID;
    size_t row_bytes = 1;
    vg_status st = VG_OK;
    switch (kind) {
    case ROWS_IMAGE:
        st = expect(t, t->rank == 1 && vg_shard_image_type_fits(t->type), "a list of images");
        type = vg_shard_image_type(true);
        row_bytes = sizeof(vg_shard_image);
        break;
    case ROWS_SENTENCE:
        st = expect(t, t->rank == 1 && vg_shard_sentence_type_fits(t->type), "a list of sentences");
        type = vg_shard_sentence_type(true);
        row_bytes = sizeof(vg_shard_sentence);
        break;
    case ROWS_BOX:
        st = expect(t, t->rank == 2 && t->size[1] == 4 && H5Tget_class(t->type) == H5T_FLOAT, "a list of boxes");
        type = H5Tcopy(H5T_NATIVE_FLOAT);
        row_bytes = 4 * sizeof(float);
        break;
    case ROWS_TEXT:
        st = expect(t, t->rank == 1 && H5Tequal(t->type, H5T_STD_U8LE) > 0, "a list of bytes");
        type = H5Tcopy(H5T_NATIVE_UINT8);
        break;
    case ROWS_NAME:
        st = expect(t, t->rank == 1 && is_text_type(t->type, VG_SHARD_NAME_BYTES), "a list of names");
        type = vg_shard_text_type(VG_SHARD_NAME_BYTES);
        row_bytes = VG_SHARD_NAME_BYTES;
        break;
    }
    if (st == VG_OK) st = table_rows(t, type, row_bytes, rows, n);
    if (type >= 0) H5Tclose(type);
    return st;
}

static vg_status read_rows(hid_t file, const char *path, uint64_t file_bytes, const char *name, row_kind kind,
                           void *rows, size_t *n)
{
    table t = {.path = path, .name = name, .set = -1, .type = -1};
    vg_status st = table_find(&t, file, file_bytes);
    if (st == VG_OK) st = expect(&t, t.layout == H5D_CONTIGUOUS, "stored in one piece");
    if (st == VG_OK) st = table_read(&t, kind, rows, n);
    table_close(&t);
    return st;
}

/* ---- chunks ---- */

static vg_status chunks_ask(vg_shard *s, const table *t, uint64_t file_bytes)
{
    const hid_t how = H5Dget_create_plist(t->set);
    hsize_t chunk = 0;
    const bool known = how >= 0 && H5Pget_chunk(how, 1, &chunk) == 1 && chunk > 0;
    if (how >= 0) H5Pclose(how);
    if (!known) return vg_h5_fail(VG_E_DATA, s->path, "cannot read the chunk size of /bytes");
    s->tables.n_bytes = t->size[0];
    s->tables.chunk_bytes = chunk;
    s->n_chunks = (size_t)(t->size[0] / chunk + (t->size[0] % chunk != 0));
    VG_CHECK(chunk <= file_bytes, VG_E_DATA, "%s: /bytes has chunks larger than the file", s->path);
    s->chunk_at = vg_new0_array(s->n_chunks, sizeof *s->chunk_at);
    VG_CHECK(s->chunk_at, VG_E_NOMEM, "%s: no memory for the places of %zu chunks", s->path, s->n_chunks);
    for (size_t i = 0; i < s->n_chunks; i++) {
        const hsize_t offset = i * chunk;
        hsize_t stored = 0;
        haddr_t at = HADDR_UNDEF;
        unsigned mask = 0;
        if (H5Dget_chunk_info_by_coord(t->set, &offset, &mask, &at, &stored) < 0)
            return vg_h5_fail(VG_E_DATA, s->path, "cannot read the place of a chunk of /bytes");
        VG_CHECK(at != HADDR_UNDEF && stored == chunk && at <= file_bytes && chunk <= file_bytes - at, VG_E_DATA,
                 "%s: chunk %zu of /bytes lies outside the file; it is cut short or damaged, import it again", s->path,
                 i);
        s->chunk_at[i] = at;
    }
    return VG_OK;
}

static vg_status bytes_find(vg_shard *s, hid_t file, uint64_t file_bytes)
{
    table t = {.path = s->path, .name = "bytes", .set = -1, .type = -1};
    vg_status st = table_find(&t, file, file_bytes);
    if (st == VG_OK)
        st = expect(&t, t.rank == 1 && t.layout == H5D_CHUNKED && H5Tequal(t.type, H5T_STD_U8LE) > 0,
                    "a chunked list of bytes");
    if (st == VG_OK) st = chunks_ask(s, &t, file_bytes);
    table_close(&t);
    return st;
}

/* ---- attributes ---- */

/* text_bytes 0: an integer. */
static vg_status attribute_read(hid_t file, const char *path, const char *name, size_t text_bytes, hid_t memory_type,
                                void *value)
{
    const hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    VG_CHECK(attribute >= 0, VG_E_DATA, "%s: no attribute '%s'; is this a shard?", path, name);
    const hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    const bool fits = type >= 0 && space >= 0 && H5Sget_simple_extent_npoints(space) == 1 &&
                      (text_bytes ? is_text_type(type, text_bytes) : H5Tget_class(type) == H5T_INTEGER);
    const bool good = fits && H5Aread(attribute, memory_type, value) >= 0;
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    VG_CHECK(good, VG_E_DATA, "%s: attribute '%s' is not %s", path, name, text_bytes ? "a text" : "an integer");
    return VG_OK;
}

static vg_status text_attribute_read(hid_t file, const char *path, const char *name, char *value, size_t bytes)
{
    const hid_t type = vg_shard_text_type(bytes);
    const vg_status st = attribute_read(file, path, name, bytes, type, value);
    H5Tclose(type);
    value[bytes - 1] = '\0';
    return st;
}

/* Shards that were only imported have none. */
static vg_status history_read(vg_shard *s, hid_t file)
{
    char *history = s->origin.history;
    if (H5Aexists(file, "history") <= 0) return VG_OK;
    VG_TRY(text_attribute_read(file, s->path, "history", history, VG_SHARD_HISTORY_BYTES));
    VG_CHECK(vg_utf8_valid(history, strlen(history)), VG_E_DATA, "%s: attribute 'history' is not UTF-8", s->path);
    return VG_OK;
}

static vg_status attributes_read(vg_shard *s, hid_t file)
{
    vg_shard_name format;
    int32_t version = 0;
    VG_TRY(text_attribute_read(file, s->path, "format", format, sizeof format));
    VG_CHECK(strcmp(format, VG_SHARD_FORMAT) == 0, VG_E_DATA, "%s: its format is '%.32s', not '%s'", s->path, format,
             VG_SHARD_FORMAT);
    VG_TRY(attribute_read(file, s->path, "format_version", 0, H5T_NATIVE_INT32, &version));
    VG_CHECK(version >= 1 && version <= VG_SHARD_VERSION, VG_E_DATA,
             "%s: shard format %d is not one this build reads (1 to %d); update vlgtr or import again", s->path,
             version, VG_SHARD_VERSION);
    VG_TRY(text_attribute_read(file, s->path, "source", s->origin.source, VG_SHARD_NAME_BYTES));
    VG_TRY(text_attribute_read(file, s->path, "split_by", s->origin.split_by, VG_SHARD_NAME_BYTES));
    VG_TRY(attribute_read(file, s->path, "inputs_hash", 0, H5T_NATIVE_UINT64, &s->origin.inputs));
    VG_TRY(history_read(s, file));
    return attribute_read(file, s->path, "content_hash", 0, H5T_NATIVE_UINT64, &s->content);
}

/* ---- opening ---- */

/* A row at fault is one that the content hash misses, too. */
typedef struct fault_count {
    const vg_shard_opening *opening;
    size_t n;
} fault_count;

static vg_status fault_count_up(void *user, const vg_row_fault *fault)
{
    fault_count *count = user;
    count->n++;
    return count->opening->on_fault(count->opening->user, fault);
}

static vg_status rows_check(vg_shard *s, const vg_shard_opening *opening)
{
    const uint64_t content = vg_shard_content(&s->tables);
    fault_count faults = {.opening = opening};
    VG_CHECK(s->tables.n_images > 0, VG_E_DATA, "%s: no images", s->path);
    VG_TRY(vg_shard_leave_out(&s->tables, opening->without, &s->n_left_out));
    VG_TRY(vg_shard_check(s->path, &s->tables, opening->on_fault ? fault_count_up : NULL, &faults));
    VG_CHECK(content == s->content || s->n_left_out > 0 || faults.n > 0, VG_E_DATA,
             "%s: its rows do not match its content hash; import it again", s->path);
    return VG_OK;
}

static vg_status tables_fill(vg_shard *s, hid_t file, uint64_t file_bytes)
{
    vg_shard_tables *t = &s->tables;
    VG_TRY(attributes_read(s, file));
    VG_TRY(read_rows(file, s->path, file_bytes, "images", ROWS_IMAGE, &t->images, &t->n_images));
    VG_TRY(read_rows(file, s->path, file_bytes, "sentences", ROWS_SENTENCE, &t->sentences, &t->n_sentences));
    VG_TRY(read_rows(file, s->path, file_bytes, "boxes", ROWS_BOX, &t->boxes, &t->n_boxes));
    VG_TRY(read_rows(file, s->path, file_bytes, "text", ROWS_TEXT, &t->text, &t->n_text));
    VG_TRY(read_rows(file, s->path, file_bytes, "splits", ROWS_NAME, &t->splits, &t->n_splits));
    VG_TRY(read_rows(file, s->path, file_bytes, "kinds", ROWS_NAME, &t->kinds, &t->n_kinds));
    return bytes_find(s, file, file_bytes);
}

/* HDF5 tells many failures by a bare no (there is no such attribute), so an I/O error below is watched for: the data
 * may be as good as ever. */
static vg_status file_read(vg_shard *s, const char *path, uint64_t file_bytes)
{
    int io_error = 0;
    vg_h5_begin();
    vg_h5_watch(&io_error);
    const hid_t access = vg_h5_access();
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, access);
    const vg_status st =
        file >= 0 ? tables_fill(s, file, file_bytes) : vg_h5_fail(VG_E_DATA, path, "not a readable HDF5 file");
    H5Pclose(access);
    if (file >= 0) H5Fclose(file);
    vg_h5_watch(NULL);
    VG_CHECK(st != VG_E_DATA || io_error == 0, VG_E_STORAGE, "%s: %s while it was opened", path, strerror(io_error));
    return st;
}

static vg_status shard_fill(vg_shard *s, const char *path, const vg_shard_opening *opening)
{
    s->path = vg_copy_string(path);
    VG_CHECK(s->path, VG_E_NOMEM, "%s: no memory for a shard reader", path);
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    VG_CHECK(s->fd >= 0 && fstat(s->fd, &info) == 0, vg_steady_may_pass(errno) ? VG_E_STORAGE : VG_E_DATA, "%s: %s",
             path, strerror(errno));
    VG_CHECK(S_ISREG(info.st_mode), VG_E_DATA, "%s: not a regular file", path);
    VG_TRY(file_read(s, path, (uint64_t)info.st_size));
    return rows_check(s, opening);
}

void vg_shard_close(vg_shard *s)
{
    if (!s) return;
    vg_shard_tables_release(&s->tables);
    free(s->chunk_at);
    free(s->path);
    if (s->fd >= 0) close(s->fd);
    free(s);
}

static vg_status open_once(const char *path, const vg_shard_opening *opening, vg_shard **out)
{
    vg_shard *s = vg_new0(sizeof *s);
    VG_CHECK(s, VG_E_NOMEM, "%s: no memory for a shard reader", path);
    s->fd = -1;
    s->pread = pread;
    const vg_status st = shard_fill(s, path, opening);
    if (st != VG_OK)
        vg_shard_close(s);
    else
        *out = s;
    return st;
}

/* HDF5 does not try again by itself. */
vg_status vg_shard_open_as(const char *path, const vg_shard_opening *opening, vg_shard **out)
{
    vg_status st = open_once(path, opening, out);
    for (int tried = 1; st == VG_E_STORAGE && tried < VG_STEADY_TRIES; tried++) {
        vg_steady_wait(tried);
        st = open_once(path, opening, out);
    }
    return st;
}

vg_status vg_shard_open(const char *path, vg_shard **out)
{
    return vg_shard_open_as(path, &(vg_shard_opening){0}, out);
}

/* ---- images ---- */

vg_status vg_shard_read_image(const vg_shard *s, size_t i, unsigned char **bytes, size_t *capacity, size_t *n)
{
    const vg_shard_image *image = &s->tables.images[i];
    const uint64_t chunk = s->tables.chunk_bytes;
    VG_CHECK(image->length > 0, VG_E_DATA, "%s: image %lld is absent; import the set again with its images", s->path,
             (long long)image->image_id);
    VG_TRY(vg_grow(bytes, capacity, (size_t)image->length, 1));
    for (uint64_t done = 0; done < image->length;) {
        const uint64_t place = image->offset + done, into = place % chunk, left = image->length - done;
        const uint64_t part = left < chunk - into ? left : chunk - into;
        VG_TRY(
            vg_steady_read(s->path, s->fd, s->pread, s->chunk_at[place / chunk] + into, *bytes + done, (size_t)part));
        done += part;
    }
    VG_CHECK(XXH3_64bits(*bytes, (size_t)image->length) == image->hash, VG_E_DATA,
             "%s: image %lld does not match its hash; the shard is damaged, import it again", s->path,
             (long long)image->image_id);
    *n = (size_t)image->length;
    return VG_OK;
}
