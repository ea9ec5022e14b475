#define _POSIX_C_SOURCE 200809L
#include "data/steady_read_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool vg_steady_may_pass(int error)
{
    return vg_file_fault(error) == VG_E_STORAGE;
}

vg_status vg_steady_open(const char *path, int *fd, uint64_t *size)
{
    int tried = 0, handle = -1;
    while ((handle = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
        VG_CHECK(vg_steady_may_pass(errno), VG_E_DATA, "%s: %s", path, strerror(errno));
        VG_CHECK(++tried < VG_STEADY_TRIES, VG_E_STORAGE, "%s: %s, after %d tries", path, strerror(errno), tried);
        vg_steady_wait(tried);
    }
    struct stat info;
    const int why = fstat(handle, &info) == 0 ? 0 : errno;
    if (why || !S_ISREG(info.st_mode)) {
        close(handle);
        return vg_fail(vg_file_fault(why), "%s: %s", path, why ? strerror(why) : "not a regular file");
    }
    *fd = handle;
    *size = (uint64_t)info.st_size;
    return VG_OK;
}

vg_status vg_steady_read(const char *path, int first_fd, vg_pread *how, uint64_t at, void *to, size_t n)
{
    unsigned char *next = to;
    int fd = first_fd, tried = 0;
    vg_status st = VG_OK;
    while (n > 0 && st == VG_OK) {
        const ssize_t got = how(fd, next, n, (off_t)at);
        if (got > 0) {
            next += got, at += (uint64_t)got, n -= (size_t)got;
        } else if (got == 0) {
            st = vg_fail(VG_E_DATA, "%s: ended at byte %llu; it was cut short while it was read", path,
                         (unsigned long long)at);
        } else if (errno != EINTR) {
            const int why = errno;
            if (!vg_steady_may_pass(why) || ++tried == VG_STEADY_TRIES) {
                st = vg_fail(VG_E_STORAGE, "%s: byte %llu: %s, after %d tries", path, (unsigned long long)at,
                             strerror(why), tried);
            } else { /* a stale handle never recovers, so each try has its own */
                vg_steady_wait(tried);
                if (fd != first_fd) close(fd);
                fd = open(path, O_RDONLY | O_CLOEXEC);
                if (fd < 0) fd = first_fd;
            }
        }
    }
    if (fd != first_fd) close(fd);
    return st;
}

vg_status vg_steady_read_file(const char *path, uint64_t max_bytes, unsigned char **bytes, size_t *n)
{
    int fd = -1;
    uint64_t size = 0;
    unsigned char *data = NULL;
    VG_TRY(vg_steady_open(path, &fd, &size));
    vg_status st = VG_OK;
    if (size > max_bytes)
        st = vg_fail(VG_E_DATA, "%s: %llu bytes, more than the %llu allowed here", path, (unsigned long long)size,
                     (unsigned long long)max_bytes);
    else if (!(data = malloc(size ? (size_t)size : 1)))
        st = vg_fail(VG_E_NOMEM, "%s: no memory for %llu bytes", path, (unsigned long long)size);
    if (st == VG_OK) st = vg_steady_read(path, fd, pread, 0, data, (size_t)size);
    close(fd);
    if (st != VG_OK) {
        free(data);
        return st;
    }
    *bytes = data;
    *n = (size_t)size;
    return VG_OK;
}
