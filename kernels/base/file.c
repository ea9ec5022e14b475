#define _POSIX_C_SOURCE 200809L
#include "kernels/base/file.h"

#include "kernels/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A disk or a server, a client that lost its server (FUSE, an evicted one of Lustre), the way there, Kerberos. */
static const int passing[] = {
    EIO,        ESTALE,    ETIMEDOUT,    EAGAIN,   EREMOTEIO,   ENOTCONN, ESHUTDOWN, ECONNABORTED, ECONNREFUSED,
    ECONNRESET, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENODEV,   ENOLINK,   EKEYEXPIRED,  ENOKEY,
};

vg_status vg_file_fault(int error)
{
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (error == passing[i]) return VG_E_STORAGE;
    return VG_E_DATA;
}

void vg_steady_wait(int tried)
{
    const struct timespec pause = {.tv_nsec = 20000000L << tried}; /* 40 ms, then twice as long each time */
    nanosleep(&pause, NULL);
}

bool vg_file_absent(int error)
{
    return error == ENOENT || error == ENOTDIR;
}

/* Opening the folder is when its client asks the server what is new in it. */
static void look_anew(const char *path)
{
    vg_text folder = {0};
    DIR *dir = vg_folder_of(path, &folder) == VG_OK ? opendir(folder.data) : NULL;
    if (dir) closedir(dir);
    free(folder.data);
}

bool vg_file_there(const char *path)
{
    if (access(path, F_OK) == 0 || !vg_file_absent(errno)) return true;
    look_anew(path);
    return access(path, F_OK) == 0 || !vg_file_absent(errno);
}

const struct dirent *vg_folder_next(DIR *dir, const char *folder, vg_status *status)
{
    errno = 0;
    const struct dirent *entry = readdir(dir);
    if (!entry && errno) *status = vg_fail(VG_E_STORAGE, "%s: %s", folder, strerror(errno));
    return entry;
}

static vg_status read_all(int fd, const char *path, size_t size, char *data)
{
    size_t done = 0;
    while (done < size) {
        const ssize_t n = read(fd, data + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        VG_CHECK(n >= 0, vg_file_fault(errno), "%s: %s", path, strerror(errno));
        VG_CHECK(n > 0, VG_E_DATA, "%s: ended after %zu of %zu bytes; it changed while it was read", path, done, size);
        done += (size_t)n;
    }
    return VG_OK;
}

static vg_status read_once(const char *path, size_t max_bytes, char **data, size_t *size)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    VG_CHECK(fd >= 0, vg_file_fault(errno), "%s: %s", path, strerror(errno));
    struct stat info;
    char *bytes = NULL;
    vg_status st = VG_OK;
    if (fstat(fd, &info) != 0)
        st = vg_fail(vg_file_fault(errno), "%s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        st = vg_fail(VG_E_DATA, "%s: not a regular file", path);
    const size_t n = st == VG_OK ? (size_t)info.st_size : 0;
    if (st == VG_OK && n > max_bytes)
        st = vg_fail(VG_E_DATA, "%s: %zu bytes, more than the %zu allowed here", path, n, max_bytes);
    if (st == VG_OK && !(bytes = vg_new0(n + 1))) st = vg_fail(VG_E_NOMEM, "%s: no memory for %zu bytes", path, n);
    if (st == VG_OK) st = read_all(fd, path, n, bytes);
    close(fd);
    if (st != VG_OK) {
        free(bytes);
        return st;
    }
    *data = bytes;
    if (size) *size = n;
    return VG_OK;
}

vg_status vg_file_read(const char *path, size_t max_bytes, char **data, size_t *size)
{
    vg_status st = read_once(path, max_bytes, data, size);
    for (int tried = 1; st == VG_E_STORAGE && tried < VG_STEADY_TRIES; tried++) {
        vg_steady_wait(tried);
        st = read_once(path, max_bytes, data, size);
    }
    return st;
}

size_t vg_write_most(int fd, const void *data, size_t size)
{
    const char *from = data;
    size_t done = 0;
    while (done < size) {
        const ssize_t n = write(fd, from + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = EIO;
        if (n <= 0) break;
        done += (size_t)n;
    }
    return done;
}

vg_status vg_write_all(int fd, const char *path, const void *data, size_t size)
{
    VG_CHECK(vg_write_most(fd, data, size) == size, VG_E_STORAGE, "%s: %s", path, strerror(errno));
    return VG_OK;
}

static vg_status sync_file(int fd, const char *path)
{
    VG_CHECK(fsync(fd) == 0, VG_E_STORAGE, "%s: fsync: %s", path, strerror(errno));
    return VG_OK;
}

vg_status vg_sync_directory(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    VG_CHECK(fd >= 0, VG_E_STORAGE, "%s: %s", path, strerror(errno));
    const int rc = fsync(fd), why = errno;
    close(fd);
    const bool unknown = why == EINVAL || why == EOPNOTSUPP || why == ENOSYS;
    VG_CHECK(rc == 0 || unknown, VG_E_STORAGE, "%s: fsync: %s", path, strerror(why));
    return VG_OK;
}

bool vg_file_is_special(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

static vg_status write_special(const char *path, const void *data, size_t size)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    VG_CHECK(fd >= 0, VG_E_STORAGE, "%s: %s", path, strerror(errno));
    const vg_status st = vg_write_all(fd, path, data, size);
    close(fd);
    return st;
}

const char *vg_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Where the folder ends that holds what the first n bytes of a path name. */
static size_t folder_end(const char *path, size_t n)
{
    while (n > 0 && path[n - 1] != '/') n--;
    while (n > 0 && path[n - 1] == '/') n--;
    return n;
}

vg_status vg_folder_of(const char *path, vg_text *folder)
{
    const size_t n = folder_end(path, strlen(path));
    return n ? vg_text_add_bytes(folder, path, n) : vg_text_add(folder, *path == '/' ? "/" : ".");
}

vg_status vg_file_rename(const char *from, const char *to)
{
    vg_text folder = {0};
    VG_CHECK(rename(from, to) == 0, VG_E_STORAGE, "%s: %s", to, strerror(errno));
    vg_status st = vg_folder_of(to, &folder);
    if (st == VG_OK) st = vg_sync_directory(folder.data);
    free(folder.data);
    return st;
}

vg_status vg_file_write_atomic(const char *path, const void *data, size_t size)
{
    if (vg_file_is_special(path)) return write_special(path, data, size);
    vg_text part = {0};
    vg_status st = vg_text_add(&part, "%s.partial", path);
    int fd = -1;
    if (st == VG_OK && (fd = open(part.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0)
        st = vg_fail(VG_E_STORAGE, "%s: %s", part.data, strerror(errno));
    if (st == VG_OK) {
        st = vg_write_all(fd, part.data, data, size);
        if (st == VG_OK) st = sync_file(fd, part.data);
        if (close(fd) != 0 && st == VG_OK) st = vg_fail(VG_E_STORAGE, "%s: %s", part.data, strerror(errno));
        if (st == VG_OK) st = vg_file_rename(part.data, path);
        if (st != VG_OK) unlink(part.data);
    }
    free(part.data);
    return st;
}

static vg_status make_directory(const char *path)
{
    struct stat info;
    if (mkdir(path, 0777) == 0) return VG_OK;
    const int why = errno; /* not always EEXIST: NFS and automounters may refuse before they see that it is there */
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return VG_OK;
    return vg_fail(VG_E_STORAGE, "%s: %s", path, strerror(why == EEXIST ? ENOTDIR : why));
}

vg_status vg_make_directories(const char *path)
{
    char partial[PATH_MAX];
    VG_CHECK(*path, VG_E_STORAGE, "a folder without a name cannot be made");
    VG_CHECK(strlen(path) < sizeof partial, VG_E_STORAGE, "%s: the path is too long", path);
    strcpy(partial, path);
    for (char *c = partial + 1;; c++) {
        if (*c != '/' && *c != '\0') continue;
        const char end = *c;
        *c = '\0';
        VG_TRY(make_directory(partial));
        if (end == '\0') return VG_OK;
        *c = '/';
    }
}

vg_status vg_folder_lock(const char *path, int *lock)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    VG_CHECK(fd >= 0, VG_E_STORAGE, "%s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(fd);
        return vg_fail(VG_E_USAGE, "%s: another vlgtr is writing into it; let it finish, or name another folder", path);
    }
    *lock = fd;
    return VG_OK;
}

size_t vg_path_there(const char *path)
{
    char part[PATH_MAX];
    struct stat info;
    size_t n = strlen(path);
    if (n >= sizeof part) return n;
    memcpy(part, path, n + 1);
    while (n > 0 && stat(part, &info) != 0) part[n = folder_end(part, n)] = '\0';
    return n;
}

void vg_remove_made(const char *path, size_t there)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof part) return;
    memcpy(part, path, n + 1);
    for (; n > there; part[n = folder_end(part, n)] = '\0') (void)rmdir(part); /* one that is not empty stays */
}
