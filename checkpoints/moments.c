/* The optimizer's state, in pieces: piece r of n holds slice r of the flat trainable space. Each run of a parameter in
 * the slice is a tensor called `<buffer>:<first element>:<elements>:<parameter>`, raw fp32 or, when compressed, the
 * bytes of a zstd frame over the four byte planes of the floats. */
#include "checkpoints/checkpoint_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

enum { LEVEL = 1 }; /* of zstd; the planes of signs and exponents shrink at any level, the others at none */

/* The buffers that mirror the trainable space. The last row may be absent. */
static const char *const buffer_names[] = {"moment1", "moment2", "average"};

enum { N_BUFFERS = VG_MOMENT_BUFFERS, AVERAGE = 2 };

static float *buffer_of(const vg_params *params, int buffer)
{
    return buffer == 0 ? params->moment1 : buffer == 1 ? params->moment2 : params->average;
}

/* A piece of one parameter in one buffer. */
typedef struct run {
    int buffer, param;
    int64_t first, count; /* elements of the parameter */
    const float *values;
    void *packed; /* NULL when raw */
    size_t bytes; /* in the file */
} run;

typedef struct runs {
    run *items;
    size_t n, capacity;
} runs;

/* ---- byte planes ---- */

static void to_planes(const float *values, size_t n, unsigned char *planes)
{
    const unsigned char *bytes = (const unsigned char *)values;
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < 4; p++) planes[p * n + i] = bytes[4 * i + p];
}

static void from_planes(const unsigned char *planes, size_t n, float *values)
{
    unsigned char *bytes = (unsigned char *)values;
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < 4; p++) bytes[4 * i + p] = planes[p * n + i];
}

static vg_status pack(run *r)
{
    const size_t n = (size_t)r->count, most = ZSTD_compressBound(4 * n);
    unsigned char *planes = vg_new0_array(n, 4), *packed = vg_new0(most);
    vg_status st = planes && packed ? VG_OK : vg_fail(VG_E_NOMEM, "no memory to compress %zu moments", n);
    if (st == VG_OK) {
        to_planes(r->values, n, planes);
        r->bytes = ZSTD_compress(packed, most, planes, 4 * n, LEVEL);
        if (ZSTD_isError(r->bytes)) st = vg_fail(VG_E_BUG, "zstd: %s", ZSTD_getErrorName(r->bytes));
    }
    free(planes);
    if (st != VG_OK) {
        free(packed);
        return st;
    }
    void *fitting = realloc(packed, r->bytes);
    r->packed = fitting ? fitting : packed;
    return VG_OK;
}

static vg_status unpack(const void *packed, size_t bytes, int64_t count, float *values)
{
    const size_t n = (size_t)count;
    unsigned char *planes = vg_new0_array(n, 4);
    VG_CHECK(planes, VG_E_NOMEM, "no memory to expand %zu moments", n);
    const size_t got = ZSTD_decompress(planes, 4 * n, packed, bytes);
    if (got == 4 * n) from_planes(planes, n, values);
    free(planes);
    VG_CHECK(!ZSTD_isError(got), VG_E_STORAGE, "zstd: %s", ZSTD_getErrorName(got));
    VG_CHECK(got == 4 * n, VG_E_STORAGE, "expands to %zu bytes and not %zu", got, 4 * n);
    return VG_OK;
}

/* ---- writing ---- */

/* The runs of one buffer that lie in the slice [first, first + count) of the trainable space. */
static vg_status add_runs(const vg_params *params, int buffer, int64_t first, int64_t count, runs *all)
{
    for (int i = 0; i < params->n; i++) {
        const vg_param *p = &params->items[i];
        if (!p->trainable) continue;
        const int64_t begin = p->offset > first ? p->offset : first;
        const int64_t end = p->offset + p->count < first + count ? p->offset + p->count : first + count;
        if (begin >= end) continue;
        VG_TRY(vg_grow(&all->items, &all->capacity, all->n + 1, sizeof *all->items));
        all->items[all->n++] = (run){.buffer = buffer,
                                     .param = i,
                                     .first = begin - p->offset,
                                     .count = end - begin,
                                     .values = buffer_of(params, buffer) + (begin - first),
                                     .bytes = (size_t)(end - begin) * sizeof(float)};
    }
    return VG_OK;
}

static vg_status add_tensor(vg_tensor_writer *w, const vg_params *params, const run *r)
{
    vg_text name = {0};
    vg_status st = vg_text_add(&name, "%s:%" PRId64 ":%" PRId64 ":%s", buffer_names[r->buffer], r->first, r->count,
                               params->items[r->param].name);
    const int64_t length = r->packed ? (int64_t)r->bytes : r->count;
    if (st == VG_OK) st = vg_tensor_writer_add(w, name.data, r->packed ? VG_TENSOR_U8 : VG_TENSOR_F32, 1, &length);
    free(name.data);
    return st;
}

static vg_status write_runs(vg_tensor_writer *w, const char *file, const vg_params *params, bool compress, int rank,
                            int n_ranks, runs *all)
{
    int64_t first, count;
    vg_slice_of(params->n_trainable, VG_PARAM_BLOCK, n_ranks, rank, &first, &count);
    for (int b = 0; b < N_BUFFERS; b++)
        if (buffer_of(params, b)) VG_TRY(add_runs(params, b, first, count, all));
    for (size_t i = 0; i < all->n && compress; i++) VG_TRY(pack(&all->items[i]));
    for (size_t i = 0; i < all->n; i++) VG_TRY(add_tensor(w, params, &all->items[i]));
    VG_TRY(vg_tensor_writer_start(w, file));
    for (size_t i = 0; i < all->n; i++) {
        const run *r = &all->items[i];
        VG_TRY(vg_tensor_writer_write(w, r->packed ? r->packed : r->values, r->bytes));
    }
    return VG_OK;
}

vg_status vg_moments_write(const char *file, const vg_params *params, bool compress, int rank, int n_ranks,
                           vg_file_sum *sum)
{
    vg_tensor_writer *w = NULL;
    runs all = {0};
    VG_TRY(vg_tensor_writer_new(&w));
    vg_status st = write_runs(w, file, params, compress, rank, n_ranks, &all);
    if (st == VG_OK) st = vg_tensor_writer_finish(w, &sum->bytes, &sum->hash);
    vg_tensor_writer_free(w);
    for (size_t i = 0; i < all.n; i++) free(all.items[i].packed);
    free(all.items);
    return st;
}

/* ---- loading ---- */

/* A count in decimal, ended by ':'; moves *text behind it. */
static bool parse_count(const char **text, int64_t *out)
{
    char *end;
    if (**text < '0' || **text > '9') return false;
    errno = 0;
    const long long value = strtoll(*text, &end, 10);
    if (errno || *end != ':') return false;
    *out = value;
    *text = end + 1;
    return true;
}

static bool parse_name(const char *text, int *buffer, int64_t *first, int64_t *count, const char **param)
{
    for (int b = 0; b < N_BUFFERS; b++) {
        const size_t n = strlen(buffer_names[b]);
        if (strncmp(text, buffer_names[b], n) != 0 || text[n] != ':') continue;
        *buffer = b;
        *param = text + n + 1;
        return parse_count(param, first) && parse_count(param, count);
    }
    return false;
}

static vg_status read_run(const vg_tensors *t, int index, int64_t count, float *out)
{
    const vg_tensor_entry *e = vg_tensors_get(t, index);
    if (e->type == VG_TENSOR_F32) {
        VG_CHECK(e->count == count, VG_E_STORAGE, "%lld values and not %lld", (long long)e->count, (long long)count);
        return vg_tensors_read_f32(t, index, out);
    }
    VG_CHECK(e->type == VG_TENSOR_U8, VG_E_STORAGE, "type %s", vg_tensor_type_name(e->type));
    void *packed = vg_new0((size_t)e->bytes);
    VG_CHECK(packed, VG_E_NOMEM, "no memory for %llu bytes", (unsigned long long)e->bytes);
    vg_status st = vg_tensors_read_bytes(t, index, packed);
    if (st == VG_OK) st = unpack(packed, (size_t)e->bytes, count, out);
    free(packed);
    return st;
}

/* Where values of a parameter in a buffer go, NULL: nowhere. */
typedef float *(*place_fn)(const vg_params *params, int buffer, int param);

static float *in_its_buffer(const vg_params *params, int buffer, int param)
{
    float *values = buffer_of(params, buffer);
    return values && params->items[param].trainable ? values + params->items[param].offset : NULL;
}

static float *average_as_value(const vg_params *params, int buffer, int param)
{
    return buffer == AVERAGE ? vg_params_data(params, param) : NULL;
}

/* One tensor of a piece; runs of a parameter come in order. */
static vg_status load_run(const vg_tensors *t, int index, vg_params *params, place_fn place, int64_t *covered)
{
    const vg_tensor_entry *e = vg_tensors_get(t, index);
    int buffer;
    int64_t first, count;
    const char *name;
    VG_CHECK(parse_name(e->name, &buffer, &first, &count, &name), VG_E_STORAGE, "not the name of a run");
    const int param = vg_params_find(params, name);
    float *values = param >= 0 ? place(params, buffer, param) : NULL;
    if (!values) return VG_OK;
    const vg_param *p = &params->items[param];
    int64_t *done = &covered[buffer * params->n + param];
    VG_CHECK(count <= p->count && first <= p->count - count, VG_E_STORAGE, "the parameter has %lld values",
             (long long)p->count);
    VG_CHECK(first == *done, VG_E_STORAGE, "begins at %lld, the pieces before it end at %lld", (long long)first,
             (long long)*done);
    VG_TRY(read_run(t, index, count, values + first));
    *done += count;
    return VG_OK;
}

static vg_status read_piece(const char *file, vg_params *params, place_fn place, int64_t *covered)
{
    vg_tensors *t = NULL;
    vg_status st = vg_tensors_open(file, &t);
    const int n = st == VG_OK ? vg_tensors_count(t) : 0;
    for (int i = 0; i < n && st == VG_OK; i++) {
        st = load_run(t, i, params, place, covered);
        if (st != VG_OK) st = vg_fail_at(st, "%s: %.128s", file, vg_tensors_get(t, i)->name);
    }
    vg_tensors_close(t);
    return st == VG_E_DATA ? VG_E_STORAGE : st;
}

vg_status vg_moments_read(const char *file, vg_params *params, int64_t *covered)
{
    return read_piece(file, params, in_its_buffer, covered);
}

static vg_status incomplete(const char *path, const vg_params *params, int buffer, int param, const int64_t *covered)
{
    return vg_fail(VG_E_CONFIG, "%s: %s of %s: %lld of %lld values; it trained other parameters, or is an average",
                   path, buffer_names[buffer], params->items[param].name,
                   (long long)covered[buffer * params->n + param], (long long)params->items[param].count);
}

/* Everything there? An average that was not kept then starts where the weights are. */
static vg_status check_moments(const char *path, vg_params *params, const int64_t *covered)
{
    bool any_average = false;
    for (int i = 0; i < params->n; i++) any_average |= covered[AVERAGE * params->n + i] > 0;
    for (int i = 0; i < params->n; i++) {
        const vg_param *p = &params->items[i];
        for (int b = 0; b < N_BUFFERS && p->trainable; b++) {
            if (!buffer_of(params, b) || (b == AVERAGE && !any_average)) continue;
            if (covered[b * params->n + i] != p->count) return incomplete(path, params, b, i, covered);
        }
    }
    if (params->average && !any_average && params->n_trainable)
        memcpy(params->average, params->master, (size_t)params->n_trainable * sizeof(float));
    return VG_OK;
}

/* What trained has a whole average, or all of it none. */
static vg_status check_averages(const char *path, vg_params *params, const int64_t *covered)
{
    for (int i = 0; i < params->n; i++) {
        const int64_t n = covered[AVERAGE * params->n + i];
        if (n && n != params->items[i].count) return incomplete(path, params, AVERAGE, i, covered);
    }
    return VG_OK;
}

typedef vg_status (*check_fn)(const char *path, vg_params *params, const int64_t *covered);

static vg_status load(const char *path, vg_params *params, place_fn place, check_fn check)
{
    vg_checkpoint_info *info = NULL;
    VG_TRY(vg_checkpoint_open(path, &info));
    int64_t *covered = vg_new0_array((size_t)params->n * N_BUFFERS, sizeof *covered);
    vg_status st = covered ? VG_OK : vg_fail(VG_E_NOMEM, "%s: no memory to load the moments", path);
    for (int i = 1; i < info->n_files && st == VG_OK; i++) {
        char *file = vg_path_join(path, info->files[i].name);
        st = file ? read_piece(file, params, place, covered) : vg_fail(VG_E_NOMEM, "%s: no memory", path);
        free(file);
    }
    if (st == VG_OK) st = check(path, params, covered);
    free(covered);
    vg_checkpoint_info_free(info);
    return st;
}

vg_status vg_checkpoint_load_moments(const char *path, vg_params *params)
{
    return load(path, params, in_its_buffer, check_moments);
}

vg_status vg_checkpoint_load_average(const char *path, vg_params *params)
{
    return load(path, params, average_as_value, check_averages);
}
