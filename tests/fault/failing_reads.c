/* Loaded before the C library: pread of a shard fails with EIO. FAIL_EVERY=n: each n-th read fails once; 0: every one
 * does, from the FAIL_AFTER-th on. FAIL_OPENS=n: of opening shards the first n fail with ESTALE. FAIL_LOOK=text: who
 * looks at a path that ends so (stat, access, opendir) gets EIO. FAIL_LIST=n: so does who reads the n-th entry of a
 * folder. */
#define _GNU_SOURCE
#include "tests/fault/preloaded.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

typedef ssize_t read_at(int fd, void *to, size_t n, off_t offset);

typedef int look_at(const char *path, struct stat *info);

typedef int may_access(const char *path, int mode);

typedef DIR *open_folder(const char *path);

typedef struct dirent *next_entry(DIR *folder);

static atomic_long n_reads, n_opens, n_entries;

static int names_shard(const char *path, size_t n)
{
    return n > 3 && memcmp(path + n - 3, ".h5", 3) == 0;
}

static int is_shard(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, sizeof path - 1);
    return n > 0 && names_shard(path, (size_t)n);
}

static ssize_t pread_or_fail(const char *name, int fd, void *to, size_t n, off_t offset)
{
    read_at *real;
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(&real, &found, sizeof real);
    if (is_shard(fd)) {
        const long number = atomic_fetch_add(&n_reads, 1), every = from_environment("FAIL_EVERY");
        if (number >= from_environment("FAIL_AFTER") && (every == 0 || number % every == 0)) {
            errno = EIO;
            return -1;
        }
    }
    return real(fd, to, n, offset);
}

ssize_t pread(int fd, void *to, size_t n, off_t offset)
{
    return pread_or_fail("pread", fd, to, n, offset);
}

ssize_t pread64(int fd, void *to, size_t n, off_t offset)
{
    return pread_or_fail("pread64", fd, to, n, offset);
}

static int open_instead(const char *path, int flags, int mode)
{
    if (names_shard(path, strlen(path)) && atomic_fetch_add(&n_opens, 1) < from_environment("FAIL_OPENS")) {
        errno = ESTALE;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static int looks_bad(const char *path)
{
    if (!ends_with(path, getenv("FAIL_LOOK"))) return 0;
    errno = EIO;
    return 1;
}

int stat(const char *path, struct stat *info)
{
    look_at *real;
    void *found = dlsym(RTLD_NEXT, "stat");
    memcpy(&real, &found, sizeof real);
    return looks_bad(path) ? -1 : real(path, info);
}

int access(const char *path, int mode)
{
    may_access *real;
    void *found = dlsym(RTLD_NEXT, "access");
    memcpy(&real, &found, sizeof real);
    return looks_bad(path) ? -1 : real(path, mode);
}

DIR *opendir(const char *path)
{
    open_folder *real;
    void *found = dlsym(RTLD_NEXT, "opendir");
    memcpy(&real, &found, sizeof real);
    return looks_bad(path) ? NULL : real(path);
}

struct dirent *readdir(DIR *folder)
{
    next_entry *real;
    void *found = dlsym(RTLD_NEXT, "readdir");
    memcpy(&real, &found, sizeof real);
    const long fails = from_environment("FAIL_LIST");
    if (fails && atomic_fetch_add(&n_entries, 1) + 1 >= fails) {
        errno = EIO;
        return NULL;
    }
    return real(folder);
}
