/* The rows of a feature store. A row is there when its hash is, which is written after the row. */
#define _POSIX_C_SOURCE 200809L
#include "data/feature_store_impl.h"
#include "data/steady_read_impl.h"
#include "kernels/base/bf16.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { PIECE = 8192 }; /* values that are rounded to bf16 at once */

struct vg_feature_store {
    char *path;
    int fd;
    bool writes;
    vg_feature_key key; /* without its text */
    vg_feature_places places;
    uint64_t *hashes; /* [n_rows], 0: no such row */
};

size_t vg_feature_store_bytes(const vg_feature_key *key)
{
    size_t rows = 0, bytes = 0;
    if (!vg_mul_size((size_t)key->row_floats, key->bf16 ? 2 : 4, &rows) ||
        !vg_mul_size(rows + sizeof(uint64_t), (size_t)key->n_rows, &bytes))
        return SIZE_MAX;
    return bytes;
}

/* ---- hashes ---- */

/* 0 stands for a row that is not there. */
static uint64_t as_mark(uint64_t hash)
{
    return hash ? hash : 1;
}

static uint64_t content_of(const vg_feature_store *s)
{
    return as_mark(XXH3_64bits(s->hashes, (size_t)s->key.n_rows * sizeof *s->hashes));
}

/* ---- opening and closing ---- */

static vg_status store_fill(vg_feature_store *s, const char *path, const vg_feature_key *key, bool writes)
{
    s->path = vg_copy_string(path);
    s->key = (vg_feature_key){.n_rows = key->n_rows, .row_floats = key->row_floats, .bf16 = key->bf16};
    s->writes = writes;
    VG_CHECK(s->path && vg_feature_store_bytes(key) < SIZE_MAX / 2, VG_E_NOMEM, "%s: no memory for its rows", path);
    VG_TRY(vg_feature_file_find(path, key, &s->places));
    s->fd = open(path, (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    VG_CHECK(s->fd >= 0, writes || vg_steady_may_pass(errno) ? VG_E_STORAGE : VG_E_DATA, "%s: %s", path,
             strerror(errno));
    s->hashes = vg_new0_array((size_t)key->n_rows, sizeof *s->hashes);
    VG_CHECK(s->hashes, VG_E_NOMEM, "%s: no memory for the hashes of %lld rows", path, (long long)key->n_rows);
    VG_TRY(vg_steady_read(path, s->fd, pread, s->places.hashes_at, s->hashes, (size_t)key->n_rows * sizeof *s->hashes));
    VG_CHECK(writes || s->places.content == content_of(s), VG_E_DATA, "%s: its hashes do not match", path);
    return VG_OK;
}

static vg_status store_new(const char *path, const vg_feature_key *key, bool writes, vg_feature_store **out)
{
    vg_feature_store *s = vg_new0(sizeof *s);
    VG_CHECK(s, VG_E_NOMEM, "%s: no memory for a feature store", path);
    s->fd = -1;
    const vg_status st = store_fill(s, path, key, writes);
    if (st != VG_OK) {
        s->writes = false;
        (void)vg_feature_store_close(s);
        return st;
    }
    *out = s;
    return VG_OK;
}

vg_status vg_feature_store_close(vg_feature_store *s)
{
    if (!s) return VG_OK;
    vg_status st = VG_OK;
    if (s->writes && fsync(s->fd) != 0) st = vg_fail(VG_E_STORAGE, "%s: fsync: %s", s->path, strerror(errno));
    if (s->fd >= 0) close(s->fd);
    free(s->hashes);
    free(s->path);
    free(s);
    return st;
}

vg_status vg_feature_store_open(const char *path, const vg_feature_key *key, vg_feature_store **out, char *why,
                                size_t why_bytes)
{
    *out = NULL;
    why[0] = '\0';
    if (access(path, F_OK) != 0 && errno == ENOENT) return VG_OK;
    const vg_status st = store_new(path, key, false, out);
    if (st != VG_E_DATA) return st;
    snprintf(why, why_bytes, "%s", vg_error_text());
    return VG_OK;
}

static vg_status partial_name(const char *path, vg_text *name)
{
    return vg_text_add(name, "%s.partial", path);
}

vg_status vg_feature_store_begin(const char *path, const vg_feature_key *key, vg_feature_store **out)
{
    vg_text partial = {0};
    VG_TRY(partial_name(path, &partial));
    vg_feature_store *s = NULL;
    vg_status st = store_new(partial.data, key, true, &s);
    if (st == VG_E_DATA) {
        st = vg_feature_file_create(partial.data, key);
        if (st == VG_OK) st = store_new(partial.data, key, true, &s);
    }
    free(partial.data);
    if (st == VG_OK) *out = s;
    return st;
}

vg_status vg_feature_store_join(const char *path, const vg_feature_key *key, vg_feature_store **out)
{
    vg_text partial = {0};
    VG_TRY(partial_name(path, &partial));
    const vg_status st = store_new(partial.data, key, true, out);
    free(partial.data);
    return st == VG_E_DATA ? VG_E_STORAGE : st; /* it was right a moment ago */
}

static vg_status name_finally(const char *partial, const char *path)
{
    VG_CHECK(rename(partial, path) == 0, VG_E_STORAGE, "%s: %s", path, strerror(errno));
    char *copy = vg_copy_string(path);
    VG_CHECK(copy, VG_E_NOMEM, "%s: no memory", path);
    const vg_status st = vg_sync_directory(dirname(copy));
    free(copy);
    return st;
}

vg_status vg_feature_store_commit(const char *path, const vg_feature_key *key)
{
    vg_text partial = {0};
    vg_feature_store *s = NULL;
    VG_TRY(partial_name(path, &partial));
    vg_status st = vg_feature_store_join(path, key, &s);
    if (st == VG_OK) st = vg_feature_file_finish(partial.data, content_of(s));
    VG_KEEP(st, vg_feature_store_close(s));
    if (st == VG_OK) st = name_finally(partial.data, path);
    free(partial.data);
    return st;
}

/* ---- rows ---- */

static uint64_t row_at(const vg_feature_store *s, int64_t row)
{
    return s->places.rows_at + (uint64_t)row * vg_feature_row_bytes(&s->key);
}

bool vg_feature_store_has(const vg_feature_store *s, int64_t row)
{
    return s->hashes[row] != 0;
}

static vg_status read_rounded(const vg_feature_store *s, int64_t row, float *floats, uint64_t *hash)
{
    vg_bf16 piece[PIECE];
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    for (int64_t done = 0; done < s->key.row_floats; done += PIECE) {
        const size_t n = (size_t)(s->key.row_floats - done < PIECE ? s->key.row_floats - done : PIECE);
        const uint64_t at = row_at(s, row) + (uint64_t)done * sizeof *piece;
        VG_TRY(vg_steady_read(s->path, s->fd, pread, at, piece, n * sizeof *piece));
        XXH3_64bits_update(&state, piece, n * sizeof *piece);
        for (size_t i = 0; i < n; i++) floats[done + (int64_t)i] = vg_bf16_to_float(piece[i]);
    }
    *hash = as_mark(XXH3_64bits_digest(&state));
    return VG_OK;
}

static vg_status read_plain(const vg_feature_store *s, int64_t row, float *floats, uint64_t *hash)
{
    const size_t bytes = vg_feature_row_bytes(&s->key);
    VG_TRY(vg_steady_read(s->path, s->fd, pread, row_at(s, row), floats, bytes));
    *hash = as_mark(XXH3_64bits(floats, bytes));
    return VG_OK;
}

vg_status vg_feature_store_read(const vg_feature_store *s, int64_t row, float *floats)
{
    uint64_t hash = 0;
    const vg_status st = s->key.bf16 ? read_rounded(s, row, floats, &hash) : read_plain(s, row, floats, &hash);
    VG_CHECK(st == VG_OK, VG_E_STORAGE, "%s", vg_error_text());
    VG_CHECK(hash == s->hashes[row], VG_E_STORAGE,
             "%s: row %lld is not what was written; delete the file, it is then made again", s->path, (long long)row);
    return VG_OK;
}

static vg_status write_all(const vg_feature_store *s, uint64_t at, const void *from, size_t n)
{
    const unsigned char *next = from;
    while (n > 0) {
        const ssize_t done = pwrite(s->fd, next, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        VG_CHECK(done > 0, VG_E_STORAGE, "%s: %s", s->path, strerror(done < 0 ? errno : ENOSPC));
        next += done, at += (uint64_t)done, n -= (size_t)done;
    }
    return VG_OK;
}

static vg_status write_rounded(const vg_feature_store *s, int64_t row, const float *floats, uint64_t *hash)
{
    vg_bf16 piece[PIECE];
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    for (int64_t done = 0; done < s->key.row_floats; done += PIECE) {
        const size_t n = (size_t)(s->key.row_floats - done < PIECE ? s->key.row_floats - done : PIECE);
        for (size_t i = 0; i < n; i++) piece[i] = vg_bf16_from(floats[done + (int64_t)i]);
        XXH3_64bits_update(&state, piece, n * sizeof *piece);
        VG_TRY(write_all(s, row_at(s, row) + (uint64_t)done * sizeof *piece, piece, n * sizeof *piece));
    }
    *hash = as_mark(XXH3_64bits_digest(&state));
    return VG_OK;
}

vg_status vg_feature_store_put(vg_feature_store *s, int64_t row, const float *floats)
{
    const size_t bytes = vg_feature_row_bytes(&s->key);
    uint64_t hash = 0;
    if (s->key.bf16) {
        VG_TRY(write_rounded(s, row, floats, &hash));
    } else {
        VG_TRY(write_all(s, row_at(s, row), floats, bytes));
        hash = as_mark(XXH3_64bits(floats, bytes));
    }
    VG_TRY(write_all(s, s->places.hashes_at + (uint64_t)row * sizeof hash, &hash, sizeof hash));
    s->hashes[row] = hash;
    return VG_OK;
}
