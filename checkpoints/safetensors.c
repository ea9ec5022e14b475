/* Reading tensor files. Nothing is mapped: a file that shrinks while it is read is an error and not a signal. */
#define _DEFAULT_SOURCE /* pread, DT_* */
#include "checkpoints/safetensors.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor files are little-endian");

enum { HEADER_BYTES = 16 << 20, MAX_FILES = 4096, LENGTH_BYTES = 8 };

#define MAX_COUNT ((int64_t)1 << 48) /* elements of a tensor: far above any, far below overflow */

static const struct {
    const char *name;
    size_t bytes;
} types[VG_TENSOR_TYPES] = {
    [VG_TENSOR_F32] = {"F32", 4},   [VG_TENSOR_F16] = {"F16", 2},         [VG_TENSOR_BF16] = {"BF16", 2},
    [VG_TENSOR_F64] = {"F64", 8},   [VG_TENSOR_I64] = {"I64", 8},         [VG_TENSOR_I32] = {"I32", 4},
    [VG_TENSOR_I16] = {"I16", 2},   [VG_TENSOR_I8] = {"I8", 1},           [VG_TENSOR_U64] = {"U64", 8},
    [VG_TENSOR_U32] = {"U32", 4},   [VG_TENSOR_U16] = {"U16", 2},         [VG_TENSOR_U8] = {"U8", 1},
    [VG_TENSOR_BOOL] = {"BOOL", 1}, [VG_TENSOR_F8_E4M3] = {"F8_E4M3", 1}, [VG_TENSOR_F8_E5M2] = {"F8_E5M2", 1},
};

typedef struct tensor_file {
    char *path;
    int fd;
    uint64_t bytes, data_at;
} tensor_file;

struct vg_tensors {
    tensor_file *files;
    size_t n_files, file_capacity;
    vg_tensor_entry *entries; /* names are owned */
    size_t n_entries, entry_capacity;
    json_t *metadata;
};

const char *vg_tensor_type_name(vg_tensor_type type)
{
    return types[type].name;
}

size_t vg_tensor_type_bytes(vg_tensor_type type)
{
    return types[type].bytes;
}

/* ---- one file ---- */

static vg_status read_at(const tensor_file *f, uint64_t at, void *out, size_t bytes)
{
    char *to = out;
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = pread(f->fd, to + done, bytes - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR) continue;
        VG_CHECK(n >= 0, vg_file_fault(errno), "%s: %s at byte %llu", f->path, strerror(errno),
                 (unsigned long long)(at + done));
        VG_CHECK(n > 0, VG_E_DATA, "%s: ends at byte %llu; it changed while it was read", f->path,
                 (unsigned long long)(at + done));
        done += (size_t)n;
    }
    return VG_OK;
}

static vg_status parse_type(const char *where, const json_t *value, vg_tensor_type *type)
{
    const char *name = json_string_value(value);
    VG_CHECK(name, VG_E_DATA, "%s: no dtype", where);
    for (int t = 0; t < VG_TENSOR_TYPES; t++) {
        if (strcmp(name, types[t].name) != 0) continue;
        *type = (vg_tensor_type)t;
        return VG_OK;
    }
    return vg_fail(VG_E_DATA, "%s: the dtype %.32s is not known", where, name);
}

static vg_status parse_shape(const char *where, const json_t *value, vg_tensor_entry *e)
{
    VG_CHECK(json_is_array(value), VG_E_DATA, "%s: no shape", where);
    VG_CHECK(json_array_size(value) <= VG_TENSOR_MAX_RANK, VG_E_DATA, "%s: %zu axes, at most %d are read", where,
             json_array_size(value), VG_TENSOR_MAX_RANK);
    e->rank = (int)json_array_size(value);
    e->count = 1;
    for (int i = 0; i < e->rank; i++) {
        const json_t *dim = json_array_get(value, (size_t)i);
        const int64_t n = json_is_integer(dim) ? json_integer_value(dim) : -1;
        VG_CHECK(n >= 0 && n <= MAX_COUNT, VG_E_DATA, "%s: axis %d of the shape is not a length", where, i);
        e->dim[i] = n;
        VG_CHECK(e->count == 0 || n <= MAX_COUNT / e->count, VG_E_DATA, "%s: the shape is too large", where);
        e->count *= n;
    }
    return VG_OK;
}

static vg_status parse_place(const char *where, const json_t *value, const tensor_file *f, vg_tensor_entry *e)
{
    const json_t *first = json_array_get(value, 0), *last = json_array_get(value, 1);
    VG_CHECK(json_array_size(value) == 2 && json_is_integer(first) && json_is_integer(last), VG_E_DATA,
             "%s: no data_offsets", where);
    const int64_t begin = json_integer_value(first), end = json_integer_value(last);
    const uint64_t room = f->bytes - f->data_at;
    VG_CHECK(begin >= 0 && begin <= end && (uint64_t)end <= room, VG_E_DATA,
             "%s: bytes %lld to %lld lie outside the %llu of the file; is it truncated?", where, (long long)begin,
             (long long)end, (unsigned long long)room);
    e->bytes = (uint64_t)e->count * types[e->type].bytes;
    VG_CHECK((uint64_t)(end - begin) == e->bytes, VG_E_DATA, "%s: %lld bytes for %lld elements of %s", where,
             (long long)(end - begin), (long long)e->count, types[e->type].name);
    e->at = f->data_at + (uint64_t)begin;
    return VG_OK;
}

static vg_status add_entry(vg_tensors *t, const char *name, const json_t *value, int file)
{
    const tensor_file *f = &t->files[file];
    char where[512];
    snprintf(where, sizeof where, "%s: tensor %.128s", f->path, name);
    vg_tensor_entry e = {.file = file};
    VG_CHECK(json_is_object(value), VG_E_DATA, "%s: no description", where);
    VG_TRY(parse_type(where, json_object_get(value, "dtype"), &e.type));
    VG_TRY(parse_shape(where, json_object_get(value, "shape"), &e));
    VG_TRY(parse_place(where, json_object_get(value, "data_offsets"), f, &e));
    VG_TRY(vg_grow(&t->entries, &t->entry_capacity, t->n_entries + 1, sizeof *t->entries));
    e.name = vg_copy_string(name);
    VG_CHECK(e.name, VG_E_NOMEM, "%s: no memory", where);
    t->entries[t->n_entries++] = e;
    return VG_OK;
}

static int by_place(const void *a, const void *b)
{
    const vg_tensor_entry *x = a, *y = b;
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty tensors first */
}

/* The format leaves neither holes nor overlaps: data begin where the header ends and fill the file. */
static vg_status check_tiling(vg_tensors *t, size_t first_entry, const tensor_file *f)
{
    if (t->n_entries > first_entry)
        qsort(t->entries + first_entry, t->n_entries - first_entry, sizeof *t->entries, by_place);
    uint64_t at = f->data_at;
    for (size_t i = first_entry; i < t->n_entries; i++) {
        const vg_tensor_entry *e = &t->entries[i];
        VG_CHECK(e->at == at, VG_E_DATA, "%s: tensor %.128s begins at byte %llu, its neighbour ends at %llu", f->path,
                 e->name, (unsigned long long)e->at, (unsigned long long)at);
        at += e->bytes;
    }
    VG_CHECK(at == f->bytes, VG_E_DATA, "%s: %llu bytes, its tensors end at %llu", f->path,
             (unsigned long long)f->bytes, (unsigned long long)at);
    return VG_OK;
}

static vg_status add_metadata(vg_tensors *t, const char *path, json_t *value)
{
    const char *key;
    json_t *text;
    VG_CHECK(json_is_object(value), VG_E_DATA, "%s: __metadata__ is not a table", path);
    json_object_foreach(value, key, text)
        VG_CHECK(json_is_string(text), VG_E_DATA, "%s: __metadata__ %.128s is not a text", path, key);
    if (!t->metadata) t->metadata = json_incref(value);
    return VG_OK;
}

static vg_status parse_header(vg_tensors *t, int file, const char *header, size_t size)
{
    const char *path = t->files[file].path;
    const size_t first_entry = t->n_entries;
    json_error_t why;
    json_t *root = size && header[0] == '{' ? json_loadb(header, size, JSON_REJECT_DUPLICATES, &why) : NULL;
    VG_CHECK(root, VG_E_DATA, "%s: the header is not JSON%s%s", path, size && header[0] == '{' ? ": " : "",
             size && header[0] == '{' ? why.text : "; is this a safetensors file?");
    vg_status st = VG_OK;
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (strcmp(key, "__metadata__") == 0)
            st = add_metadata(t, path, value);
        else
            st = add_entry(t, key, value, file);
        if (st != VG_OK) break;
    }
    json_decref(root);
    return st == VG_OK ? check_tiling(t, first_entry, &t->files[file]) : st;
}

static vg_status read_header(vg_tensors *t, int file)
{
    tensor_file *f = &t->files[file];
    uint64_t size;
    VG_CHECK(f->bytes >= LENGTH_BYTES, VG_E_DATA, "%s: %llu bytes are no safetensors file", f->path,
             (unsigned long long)f->bytes);
    VG_TRY(read_at(f, 0, &size, LENGTH_BYTES));
    VG_CHECK(size <= HEADER_BYTES && size <= f->bytes - LENGTH_BYTES, VG_E_DATA,
             "%s: a header of %llu bytes in a file of %llu; truncated, or not a safetensors file", f->path,
             (unsigned long long)size, (unsigned long long)f->bytes);
    f->data_at = LENGTH_BYTES + size;
    char *header = vg_new0((size_t)size);
    VG_CHECK(header, VG_E_NOMEM, "%s: no memory for a header of %llu bytes", f->path, (unsigned long long)size);
    vg_status st = read_at(f, LENGTH_BYTES, header, (size_t)size);
    if (st == VG_OK) st = parse_header(t, file, header, (size_t)size);
    free(header);
    return st;
}

static vg_status add_file(vg_tensors *t, const char *path)
{
    VG_CHECK(t->n_files < MAX_FILES, VG_E_DATA, "%s: more than %d files", path, MAX_FILES);
    VG_TRY(vg_grow(&t->files, &t->file_capacity, t->n_files + 1, sizeof *t->files));
    char *copy = vg_copy_string(path);
    VG_CHECK(copy, VG_E_NOMEM, "%s: no memory", path);
    tensor_file *f = &t->files[t->n_files++];
    *f = (tensor_file){.path = copy, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    VG_CHECK(f->fd >= 0, vg_file_fault(errno), "%s: %s", path, strerror(errno));
    struct stat info;
    VG_CHECK(fstat(f->fd, &info) == 0 && S_ISREG(info.st_mode), VG_E_DATA, "%s: not a regular file", path);
    f->bytes = (uint64_t)info.st_size;
    return read_header(t, (int)t->n_files - 1);
}

/* ---- several files ---- */

/* `name` beside the file `path`, into text[PATH_MAX]. */
static vg_status beside(const char *path, const char *name, char *text)
{
    const int folder = (int)(vg_base_name(path) - path);
    const int n = snprintf(text, PATH_MAX, "%.*s%s", folder, path, name);
    VG_CHECK(n >= 0 && n < PATH_MAX, VG_E_DATA, "%s: the path of %.64s is too long", path, name);
    return VG_OK;
}

static bool has_file(const vg_tensors *t, const char *name)
{
    for (size_t i = 0; i < t->n_files; i++)
        if (strcmp(vg_base_name(t->files[i].path), name) == 0) return true;
    return false;
}

/* The index says which file holds which tensor; the files must agree with it. */
static vg_status add_indexed(vg_tensors *t, const char *path, json_t *map)
{
    const char *name;
    json_t *value;
    char part[PATH_MAX];
    VG_CHECK(json_is_object(map) && json_object_size(map) > 0, VG_E_DATA, "%s: no weight_map", path);
    json_object_foreach(map, name, value)
    {
        const char *file = json_string_value(value);
        VG_CHECK(file && *file && *file != '.' && !strchr(file, '/'), VG_E_DATA,
                 "%s: tensor %.128s has no plain file name", path, name);
        if (has_file(t, file)) continue;
        VG_TRY(beside(path, file, part));
        VG_TRY(add_file(t, part));
    }
    VG_CHECK(json_object_size(map) == t->n_entries, VG_E_DATA, "%s: lists %zu tensors, its files hold %zu", path,
             json_object_size(map), t->n_entries);
    for (size_t i = 0; i < t->n_entries; i++) {
        const char *file = json_string_value(json_object_get(map, t->entries[i].name));
        const char *holder = t->files[t->entries[i].file].path;
        VG_CHECK(file && strcmp(file, vg_base_name(holder)) == 0, VG_E_DATA,
                 "%s: tensor %.128s is in %s, the index says %.128s", path, t->entries[i].name, vg_base_name(holder),
                 file ? file : "nothing of it");
    }
    return VG_OK;
}

static vg_status add_index(vg_tensors *t, const char *path)
{
    char *text;
    size_t size;
    json_error_t why;
    VG_TRY(vg_file_read(path, HEADER_BYTES, &text, &size));
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    free(text);
    VG_CHECK(root, VG_E_DATA, "%s: line %d: %s", path, why.line, why.text);
    const vg_status st = add_indexed(t, path, json_object_get(root, "weight_map"));
    json_decref(root);
    return st;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The only tensor file of a folder, into name[NAME_MAX + 1]. */
static vg_status only_file(const char *folder, char *name)
{
    DIR *dir = opendir(folder);
    VG_CHECK(dir, vg_file_fault(errno), "%s: %s", folder, strerror(errno));
    int found = 0;
    vg_status st = VG_OK;
    for (const struct dirent *d; (d = vg_folder_next(dir, folder, &st));)
        if (ends_with(d->d_name, ".safetensors") && found++ == 0) snprintf(name, NAME_MAX + 1, "%s", d->d_name);
    closedir(dir);
    VG_TRY(st);
    VG_CHECK(found == 1, VG_E_DATA, "%s: holds %d .safetensors files and none is called model.safetensors; name one",
             folder, found);
    return VG_OK;
}

/* What to open for a folder, into path[PATH_MAX]. */
static vg_status pick_in_folder(const char *folder, char *path)
{
    static const char *const usual[] = {"model.safetensors.index.json", "model.safetensors", "weights.safetensors"};
    char only[NAME_MAX + 1];
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        const int n = snprintf(path, PATH_MAX, "%s/%s", folder, usual[i]);
        VG_CHECK(n >= 0 && n < PATH_MAX, VG_E_DATA, "%s: the path is too long", folder);
        if (access(path, F_OK) == 0) return VG_OK;
    }
    VG_TRY(only_file(folder, only));
    const int n = snprintf(path, PATH_MAX, "%s/%s", folder, only);
    VG_CHECK(n >= 0 && n < PATH_MAX, VG_E_DATA, "%s: the path is too long", folder);
    return VG_OK;
}

/* ---- the door ---- */

static int by_name(const void *a, const void *b)
{
    const vg_tensor_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static vg_status tensors_fill(vg_tensors *t, const char *path)
{
    char picked[PATH_MAX];
    struct stat info;
    VG_CHECK(stat(path, &info) == 0, vg_file_fault(errno), "%s: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode)) {
        VG_TRY(pick_in_folder(path, picked));
        path = picked;
    }
    VG_TRY(ends_with(path, ".json") ? add_index(t, path) : add_file(t, path));
    if (t->n_entries) qsort(t->entries, t->n_entries, sizeof *t->entries, by_name);
    for (size_t i = 1; i < t->n_entries; i++)
        VG_CHECK(strcmp(t->entries[i - 1].name, t->entries[i].name) != 0, VG_E_DATA, "%s: tensor %.128s is there twice",
                 path, t->entries[i].name);
    return VG_OK;
}

vg_status vg_tensors_open(const char *path, vg_tensors **out)
{
    vg_tensors *t = vg_new0(sizeof *t);
    VG_CHECK(t, VG_E_NOMEM, "%s: no memory for a tensor file", path);
    const vg_status st = tensors_fill(t, path);
    if (st != VG_OK) {
        vg_tensors_close(t);
        return st;
    }
    *out = t;
    return VG_OK;
}

vg_status vg_tensors_close(vg_tensors *t)
{
    if (!t) return VG_OK;
    for (size_t i = 0; i < t->n_files; i++) {
        if (t->files[i].fd >= 0) close(t->files[i].fd);
        free(t->files[i].path);
    }
    for (size_t i = 0; i < t->n_entries; i++) free((char *)(uintptr_t)t->entries[i].name);
    json_decref(t->metadata);
    free(t->files);
    free(t->entries);
    free(t);
    return VG_OK;
}

int vg_tensors_count(const vg_tensors *t)
{
    return (int)t->n_entries;
}

const vg_tensor_entry *vg_tensors_get(const vg_tensors *t, int index)
{
    assert(index >= 0 && (size_t)index < t->n_entries);
    return &t->entries[index];
}

int vg_tensors_find(const vg_tensors *t, const char *name)
{
    const vg_tensor_entry key = {.name = name};
    const vg_tensor_entry *found = t->n_entries ? bsearch(&key, t->entries, t->n_entries, sizeof key, by_name) : NULL;
    return found ? (int)(found - t->entries) : -1;
}

const char *vg_tensors_metadata(const vg_tensors *t, const char *key)
{
    return json_string_value(json_object_get(t->metadata, key));
}

const char *vg_tensors_file(const vg_tensors *t, int index)
{
    return t->files[vg_tensors_get(t, index)->file].path;
}

/* ---- values ---- */

static float half_to_float(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, fraction = h & 0x3ffu;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact in fp32 */
        const float magnitude = (float)fraction * 0x1p-24F;
        return sign ? -magnitude : magnitude;
    }
    const uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
    const uint32_t bits = sign | wide << 23 | fraction << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void to_float(vg_tensor_type type, const unsigned char *from, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        double wide;
        if (type == VG_TENSOR_F64) {
            memcpy(&wide, from + 8 * i, 8);
            out[i] = (float)wide;
            continue;
        }
        memcpy(&half, from + 2 * i, 2);
        out[i] = type == VG_TENSOR_BF16 ? vg_bf16_to_float(half) : half_to_float(half);
    }
}

vg_status vg_tensors_read_f32_part(const vg_tensors *t, int index, int64_t first, int64_t count, float *out)
{
    const vg_tensor_entry *e = vg_tensors_get(t, index);
    const tensor_file *f = &t->files[e->file];
    assert(first >= 0 && count >= 0 && first <= e->count - count);
    VG_CHECK(e->type <= VG_TENSOR_F64, VG_E_DATA, "%s: tensor %.128s is of type %s, a float type is wanted", f->path,
             e->name, types[e->type].name);
    const size_t each = types[e->type].bytes;
    const uint64_t at = e->at + (uint64_t)first * each;
    if (e->type == VG_TENSOR_F32) return read_at(f, at, out, (size_t)count * each);
    unsigned char piece[1 << 15];
    const int64_t most = (int64_t)(sizeof piece / each);
    for (int64_t done = 0; done < count;) {
        const int64_t n = count - done < most ? count - done : most;
        VG_TRY(read_at(f, at + (uint64_t)done * each, piece, (size_t)n * each));
        to_float(e->type, piece, n, out + done);
        done += n;
    }
    return VG_OK;
}

vg_status vg_tensors_read_f32(const vg_tensors *t, int index, float *out)
{
    return vg_tensors_read_f32_part(t, index, 0, vg_tensors_get(t, index)->count, out);
}

vg_status vg_tensors_read_bytes(const vg_tensors *t, int index, void *out)
{
    const vg_tensor_entry *e = vg_tensors_get(t, index);
    return read_at(&t->files[e->file], e->at, out, (size_t)e->bytes);
}
