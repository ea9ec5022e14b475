/* Loaded before the C library: folders as the clients of file servers show them.
 * FAR_PAGES=1: each process has its pages of a store that is built, as hosts of one NFS folder have: they are read
 * once, a write goes to the server with the whole page, and late; but bytes alone, and from fresh pages, under a lock.
 * FAR_ABSENT=text: a path that ends so was remembered to be absent, until its folder is opened.
 * FAR_FAIL=text, FAR_ERROR=n, FAR_TIMES=n: opening a path that ends so fails with this errno, so often.
 * FAR_LOCKS=n: locks fail with this errno. FAR_COLD=1: who makes a folder that is there, in one that is not his, gets
 * EACCES. FAR_SYNC=1: fsync of a folder fails with EINVAL. FAR_QUOTA=1: no file may grow, EDQUOT. FAR_ROOM=1: the file
 * system does not say how large it is. */
#define _GNU_SOURCE
#include "tests/fault/preloaded.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- names that were remembered to be absent ---- */

enum { MOST = 256 };

static char *opened_folders[MOST];
static int n_opened;

static void folder_opened(const char *path)
{
    if (!getenv("FAR_ABSENT") || n_opened == MOST) return;
    const size_t n = strlen(path);
    opened_folders[n_opened++] = strndup(path, ends_with(path, "/.") ? n - 2 : n);
}

static int seems_absent(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash || !ends_with(path, getenv("FAR_ABSENT"))) return 0;
    for (int i = 0; i < n_opened; i++)
        if (strlen(opened_folders[i]) == (size_t)(slash - path) &&
            strncmp(opened_folders[i], path, (size_t)(slash - path)) == 0)
            return 0;
    errno = ENOENT;
    return 1;
}

int access(const char *path, int mode)
{
    return seems_absent(path) ? -1 : (int)syscall(SYS_faccessat, AT_FDCWD, path, mode);
}

int stat(const char *path, struct stat *info)
{
    return seems_absent(path) ? -1 : fstatat(AT_FDCWD, path, info, 0);
}

DIR *opendir(const char *path)
{
    DIR *(*real)(const char *path);
    void *found = dlsym(RTLD_NEXT, "opendir");
    memcpy(&real, &found, sizeof real);
    DIR *dir = real(path);
    if (dir) folder_opened(path);
    return dir;
}

/* ---- pages ---- */

enum { PAGE = 4096 };

typedef struct page {
    ino_t inode;
    off_t at;
    int dirty;
    char bytes[PAGE];
} page;

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static page *pages[1 << 14];
static int n_pages;
static ino_t locked[1024]; /* by descriptor */
static char far_files[1024];

static ino_t inode_of(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 ? info.st_ino : 0;
}

static int is_far(int fd)
{
    return fd >= 0 && fd < 1024 && far_files[fd];
}

static int is_locked(ino_t inode)
{
    for (int i = 0; i < 1024; i++)
        if (locked[i] == inode) return 1;
    return 0;
}

static page *page_at(int fd, ino_t inode, off_t at)
{
    for (int i = 0; i < n_pages; i++)
        if (pages[i]->inode == inode && pages[i]->at == at) return pages[i];
    page *p = calloc(1, sizeof *p);
    if (!p || n_pages == 1 << 14) abort();
    *p = (page){.inode = inode, .at = at};
    (void)!syscall(SYS_pread64, fd, p->bytes, (size_t)PAGE, at);
    return pages[n_pages++] = p;
}

static void write_back(int fd)
{
    struct stat info;
    if (fstat(fd, &info) != 0) return;
    for (int i = 0; i < n_pages; i++) {
        page *p = pages[i];
        if (p->inode != info.st_ino || !p->dirty) continue;
        const off_t left = info.st_size - p->at;
        if (left > 0) (void)!syscall(SYS_pwrite64, fd, p->bytes, (size_t)(left < PAGE ? left : PAGE), p->at);
        p->dirty = 0;
    }
}

static void forget_pages(ino_t inode)
{
    for (int i = n_pages - 1; i >= 0; i--) {
        if (pages[i]->inode != inode) continue;
        free(pages[i]);
        pages[i] = pages[--n_pages];
    }
}

static ssize_t through_pages(int fd, char *bytes, size_t n, off_t at, int writes)
{
    const ino_t inode = inode_of(fd);
    for (size_t done = 0; done < n;) {
        const off_t place = at + (off_t)done, into = place % PAGE;
        const size_t left = n - done, piece = left < (size_t)(PAGE - into) ? left : (size_t)(PAGE - into);
        page *p = page_at(fd, inode, place - into);
        memcpy(writes ? p->bytes + into : bytes + done, writes ? bytes + done : p->bytes + into, piece);
        p->dirty |= writes && !is_locked(inode);
        done += piece;
    }
    return writes && is_locked(inode) ? syscall(SYS_pwrite64, fd, bytes, n, at) : (ssize_t)n;
}

static ssize_t far_read(int fd, void *to, size_t n, off_t at)
{
    struct stat info;
    if (!is_far(fd) || fstat(fd, &info) != 0) return syscall(SYS_pread64, fd, to, n, at);
    const off_t left = info.st_size - at;
    pthread_mutex_lock(&one_at_a_time);
    const ssize_t done = left <= 0 ? 0 : through_pages(fd, to, (off_t)n < left ? n : (size_t)left, at, 0);
    pthread_mutex_unlock(&one_at_a_time);
    return done;
}

static ssize_t far_write(int fd, const void *from, size_t n, off_t at)
{
    if (!is_far(fd)) return syscall(SYS_pwrite64, fd, from, n, at);
    pthread_mutex_lock(&one_at_a_time);
    const ssize_t done = through_pages(fd, (char *)(size_t)from, n, at, 1);
    pthread_mutex_unlock(&one_at_a_time);
    return done;
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    return far_read(fd, to, n, at);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
    return far_read(fd, to, n, at);
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    return far_write(fd, from, n, at);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at)
{
    return far_write(fd, from, n, at);
}

int close(int fd)
{
    if (is_far(fd)) {
        write_back(fd);
        far_files[fd] = 0;
        locked[fd] = 0;
    }
    return (int)syscall(SYS_close, fd);
}

int fsync(int fd)
{
    struct stat info;
    if (from_environment("FAR_SYNC") && fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) return errno = EINVAL, -1;
    if (is_far(fd)) write_back(fd);
    return (int)syscall(SYS_fsync, fd);
}

/* ---- opening ---- */

static int fails_to_open(const char *path)
{
    static long n_failed;
    if (!ends_with(path, getenv("FAR_FAIL")) || n_failed >= from_environment("FAR_TIMES")) return 0;
    n_failed++;
    errno = (int)from_environment("FAR_ERROR");
    return 1;
}

static int open_instead(const char *path, int flags, int mode)
{
    if (seems_absent(path) || fails_to_open(path)) return -1;
    const int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && flags & O_DIRECTORY) folder_opened(path);
    if (fd >= 0 && fd < 1024)
        far_files[fd] = from_environment("FAR_PAGES") && !(flags & O_CREAT) && strstr(path, "features/");
    return fd;
}

/* ---- locks ---- */

static int lock_fails(void)
{
    const long why = from_environment("FAR_LOCKS");
    errno = (int)why;
    return why != 0;
}

int flock(int fd, int how)
{
    return lock_fails() ? -1 : (int)syscall(SYS_flock, fd, how);
}

static int far_fcntl(int fd, int command, void *argument)
{
    if (command != F_OFD_SETLK) return (int)syscall(SYS_fcntl, fd, command, argument);
    if (lock_fails()) return -1;
    const int done = (int)syscall(SYS_fcntl, fd, command, argument);
    if (done != 0 || !is_far(fd)) return done;
    const ino_t inode = inode_of(fd);
    write_back(fd);
    forget_pages(inode);
    locked[fd] = ((struct flock *)argument)->l_type == F_UNLCK ? 0 : inode;
    return 0;
}

int fcntl(int fd, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return far_fcntl(fd, command, argument);
}

int fcntl64(int fd, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return far_fcntl(fd, command, argument);
}

/* ---- the rest ---- */

int mkdir(const char *path, mode_t mode)
{
    const int done = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (done != 0 && errno == EEXIST && from_environment("FAR_COLD")) errno = EACCES;
    return done;
}

int fallocate(int fd, int how, off_t at, off_t n)
{
    if (!from_environment("FAR_QUOTA")) return (int)syscall(SYS_fallocate, fd, how, at, n);
    errno = EDQUOT;
    return -1;
}

int fallocate64(int fd, int how, off64_t at, off64_t n)
{
    return fallocate(fd, how, at, n);
}

static int far_room(struct statvfs *room)
{
    memset(room, 0, sizeof *room);
    room->f_bsize = room->f_frsize = 512;
    return 0;
}

int statvfs(const char *path, struct statvfs *room)
{
    int (*real)(const char *path, struct statvfs *room);
    void *found = dlsym(RTLD_NEXT, "statvfs");
    memcpy(&real, &found, sizeof real);
    return from_environment("FAR_ROOM") && strncmp(path, "/dev/", 5) != 0 ? far_room(room) : real(path, room);
}
