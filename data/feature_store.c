/* The rows of a feature store. A row is there when its hash is, which is written after the row. */
#define _GNU_SOURCE /* F_OFD_SETLK */
#include "data/feature_store_impl.h"
#include "data/steady_read_impl.h"
#include "kernels/base/bf16.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    PIECE = 8192,       /* values that are rounded to bf16 at once */
    ABANDONED_S = 3600, /* a file under a process's own name is no longer worked at; finishing takes minutes at most */
};

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

/* Whether a path leads to the file that is open, and not to what another run has put in its place. */
static bool is_at(const vg_feature_store *s, const char *path)
{
    struct stat open, found;
    return fstat(s->fd, &open) == 0 && stat(path, &found) == 0 && found.st_ino == open.st_ino &&
           found.st_dev == open.st_dev;
}

/* Clients of a file server (NFS) keep pages of their own. While a file is locked they write the bytes that were put,
 * and not the page around them, in which other hosts put rows; and whoever locks it reads anew what those wrote. All
 * lock for reading, which shuts nobody out. Where there are no locks, caches of hosts have to agree by themselves. */
static void lock_for_all(int fd, bool keep)
{
    struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    (void)fcntl(fd, F_OFD_SETLK, &whole);
    whole.l_type = F_UNLCK;
    if (!keep) (void)fcntl(fd, F_OFD_SETLK, &whole);
}

static vg_status store_fill(vg_feature_store *s, const char *path, const vg_feature_key *key, bool writes)
{
    s->path = vg_copy_string(path);
    s->key = (vg_feature_key){.n_rows = key->n_rows, .row_floats = key->row_floats, .bf16 = key->bf16};
    s->writes = writes;
    VG_CHECK(s->path && vg_feature_store_bytes(key) < SIZE_MAX / 2, VG_E_NOMEM, "%s: no memory for its rows", path);
    s->fd = open(path, (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    const bool no_data = vg_file_absent(errno) || !(writes || vg_steady_may_pass(errno));
    VG_CHECK(s->fd >= 0, no_data ? VG_E_DATA : VG_E_STORAGE, "%s: %s", path, strerror(errno));
    lock_for_all(s->fd, writes);
    VG_TRY(vg_feature_file_find(path, key, &s->places));
    s->hashes = vg_new0_array((size_t)key->n_rows, sizeof *s->hashes);
    VG_CHECK(s->hashes, VG_E_NOMEM, "%s: no memory for the hashes of %lld rows", path, (long long)key->n_rows);
    VG_TRY(vg_steady_read(path, s->fd, pread, s->places.hashes_at, s->hashes, (size_t)key->n_rows * sizeof *s->hashes));
    VG_CHECK(writes || s->places.content == content_of(s), VG_E_DATA, "%s: its hashes do not match", path);
    return VG_OK;
}

static vg_status store_once(const char *path, const vg_feature_key *key, bool writes, vg_feature_store **out)
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

/* Once more where the file was exchanged meanwhile: HDF5 has then looked at another one. */
static vg_status store_new(const char *path, const vg_feature_key *key, bool writes, vg_feature_store **out)
{
    vg_feature_store *s = NULL;
    vg_status st = store_once(path, key, writes, &s);
    for (int tried = 1; st == VG_OK && !is_at(s, path); tried++) {
        (void)vg_feature_store_close(s);
        VG_CHECK(tried < VG_STEADY_TRIES, VG_E_STORAGE, "%s: other runs exchange it again and again", path);
        st = store_once(path, key, writes, &s);
    }
    if (st == VG_OK) *out = s;
    return st;
}

vg_status vg_feature_store_sync(vg_feature_store *s)
{
    VG_CHECK(fsync(s->fd) == 0, VG_E_STORAGE, "%s: fsync: %s", s->path, strerror(errno));
    return VG_OK;
}

vg_status vg_feature_store_close(vg_feature_store *s)
{
    if (!s) return VG_OK;
    vg_status st = VG_OK;
    if (s->writes) st = vg_feature_store_sync(s);
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
    if (!vg_file_there(path)) return VG_OK;
    const vg_status st = store_new(path, key, false, out);
    if (st != VG_E_DATA) return st;
    snprintf(why, why_bytes, "%s", vg_error_text());
    return VG_OK;
}

/* ---- building ---- */

/* Runs that share a folder may build the same store at once: all put the same rows into one file. What must not be seen
 * half done, making that file and finishing it, happens under a name that is this process's own. */
typedef struct names {
    char host[64];
    vg_text partial, own;
} names;

static vg_status names_fill(names *n, const char *path)
{
    gethostname(n->host, sizeof n->host - 1);
    VG_TRY(vg_text_add(&n->partial, "%s.partial", path));
    return vg_text_add(&n->own, "%s.partial.%s.%ld", path, n->host, (long)getpid());
}

static void names_release(names *n)
{
    free(n->partial.data);
    free(n->own.data);
}

/* Gives the file that is a process's own the shared name; *shared is false where another has it, which then counts.
 * Where that fails, errno says why. */
static bool share(const char *own, const char *partial, bool *shared)
{
    *shared = link(own, partial) == 0;
    if (*shared || errno == EEXIST) return (void)unlink(own), true;
    *shared = rename(own, partial) == 0; /* some file systems have no second names */
    return *shared;
}

/* Whether the process HOST.PID works no longer at the file that is its own: it is gone, or has this process's number;
 * what cannot be known, as of another host, the file's age tells. One that was only slow fails to finish, no more. */
static bool is_abandoned(const names *n, const char *process, const char *own)
{
    const size_t host = strlen(n->host);
    const bool here = strncmp(process, n->host, host) == 0 && process[host] == '.';
    char *end = NULL;
    const long pid = here ? strtol(process + host + 1, &end, 10) : 0;
    const bool known = pid > 0 && !*end; /* no host whose name goes on with a number */
    struct stat info;
    if (known && (pid == (long)getpid() || (kill((pid_t)pid, 0) != 0 && errno == ESRCH))) return true;
    return stat(own, &info) == 0 && difftime(time(NULL), info.st_mtime) > ABANDONED_S;
}

static void share_if_abandoned(const names *n, const char *process)
{
    vg_text own = {0};
    bool shared;
    if (vg_text_add(&own, "%s.%s", n->partial.data, process) == VG_OK && is_abandoned(n, process, own.data))
        (void)share(own.data, n->partial.data, &shared); /* or another process was faster */
    free(own.data);
}

/* What a process left that was killed while it made or finished the store becomes the shared file, or goes where there
 * is one. */
static vg_status share_abandoned(const names *n)
{
    const char *name = vg_base_name(n->partial.data);
    const size_t length = strlen(name);
    vg_text folder = {0};
    VG_TRY(vg_text_add(&folder, "%.*s.", (int)(name - n->partial.data), n->partial.data)); /* "folder/." or "." */
    DIR *dir = opendir(folder.data);
    vg_status st = VG_OK;
    for (const struct dirent *entry; dir && (entry = vg_folder_next(dir, folder.data, &st));)
        if (strncmp(entry->d_name, name, length) == 0 && entry->d_name[length] == '.')
            share_if_abandoned(n, entry->d_name + length + 1);
    if (dir) closedir(dir);
    free(folder.data);
    return st;
}

/* A file with room for all rows, or that of another run which was faster. `unfit`: one that is there is no good. */
static vg_status partial_make(const names *n, const vg_feature_key *key, bool unfit)
{
    bool made = false;
    VG_TRY(vg_feature_file_create(n->own.data, key));
    if (unfit) (void)unlink(n->partial.data);
    VG_CHECK(share(n->own.data, n->partial.data, &made), VG_E_STORAGE, "%s: %s", n->partial.data, strerror(errno));
    const vg_status st = made ? vg_feature_file_take_space(n->partial.data) : VG_OK;
    if (st != VG_OK) (void)unlink(n->partial.data);
    return st;
}

static vg_status begin(const names *n, const vg_feature_key *key, vg_feature_store **out)
{
    VG_TRY(share_abandoned(n));
    const bool there = access(n->partial.data, F_OK) == 0;
    vg_status st = store_new(n->partial.data, key, true, out);
    if (st != VG_E_DATA) return st;
    VG_TRY(partial_make(n, key, there));
    st = store_new(n->partial.data, key, true, out);
    return st == VG_E_DATA ? VG_E_STORAGE : st; /* it was right a moment ago */
}

vg_status vg_feature_store_begin(const char *path, const vg_feature_key *key, vg_feature_store **out)
{
    names n = {0};
    vg_feature_store *s = NULL;
    vg_status st = names_fill(&n, path);
    if (st == VG_OK) st = begin(&n, key, &s);
    names_release(&n);
    if (st == VG_OK) *out = s;
    return st;
}

/* Where another run has taken the shared file to finish it, the store is there in a moment; so is on this host what
 * another one has just made. */
static void await_store(const names *n, const char *path)
{
    for (int tried = 1; tried < VG_STEADY_TRIES && !vg_file_there(path) && !vg_file_there(n->partial.data); tried++)
        vg_steady_wait(tried);
}

vg_status vg_feature_store_join(const char *path, const vg_feature_key *key, vg_feature_store **out)
{
    names n = {0};
    vg_status st = names_fill(&n, path);
    if (st == VG_OK) await_store(&n, path);
    if (st == VG_OK) st = store_new(n.partial.data, key, true, out);
    if (st == VG_E_DATA) await_store(&n, path);
    names_release(&n);
    return st == VG_E_DATA ? VG_E_STORAGE : st; /* it was right a moment ago */
}

static vg_status check_own(const vg_feature_store *built, const char *path)
{
    VG_CHECK(is_at(built, path), VG_E_STORAGE, "%s: another run has finished it, or begun it anew", built->path);
    return VG_OK;
}

/* Opened again, for rows that others have put on other hosts are known to be seen only then. */
static vg_status finish(const char *own, const vg_feature_key *key)
{
    vg_feature_store *s = NULL;
    VG_TRY(store_new(own, key, true, &s));
    const vg_status st = vg_feature_file_finish(own, content_of(s));
    return vg_feature_store_close(s) == VG_OK ? st : VG_E_STORAGE;
}

static vg_status commit(const names *n, const char *path, const vg_feature_key *key, const vg_feature_store *built)
{
    const char *partial = n->partial.data, *own = n->own.data;
    VG_TRY(check_own(built, partial));
    VG_CHECK(rename(partial, own) == 0, VG_E_STORAGE, "%s: %s", partial, strerror(errno));
    vg_status st = check_own(built, own);
    if (st == VG_OK) st = finish(own, key);
    if (st == VG_OK) st = vg_file_rename(own, path);
    bool shared;
    if (st != VG_OK) (void)share(own, partial, &shared); /* a build goes on from it another time */
    return st;
}

vg_status vg_feature_store_commit(const char *path, const vg_feature_key *key, const vg_feature_store *built)
{
    names n = {0};
    vg_status st = names_fill(&n, path);
    if (st == VG_OK) st = commit(&n, path, key, built);
    if (st != VG_OK) await_store(&n, path);
    names_release(&n);
    return st == VG_E_DATA ? VG_E_STORAGE : st; /* it was right a moment ago */
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
