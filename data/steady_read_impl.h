/* Reads that outlast a hiccup of the storage. An error that may pass (EIO, ESTALE, a time-out) is tried again for about
 * a second, then it is the storage's fault and not that of the data. Inside data/. */
#ifndef VG_DATA_STEADY_READ_IMPL_H
#define VG_DATA_STEADY_READ_IMPL_H

#include "kernels/base/base.h"

#include <stdbool.h>
#include <sys/types.h>

/* pread(2), which tests replace. */
typedef ssize_t vg_pread(int fd, void *to, size_t n, off_t offset);

/* For readers of their own: errors that may pass. */
bool vg_steady_may_pass(int error);

/* Opens a regular file and tells its size. Errors: VG_E_DATA (absent, not allowed, not a file), VG_E_STORAGE. */
vg_status vg_steady_open(const char *path, int *fd, uint64_t *size);

/* Reads n bytes at `at`; `fd` is an open handle of path, of which a fresh one is taken for another try. Thread-safe.
 * Errors: VG_E_DATA (the file ends before), VG_E_STORAGE. */
vg_status vg_steady_read(const char *path, int fd, vg_pread *how, uint64_t at, void *to, size_t n);

/* A whole file of at most max_bytes; the caller frees *bytes. Errors: as above, VG_E_DATA (larger), VG_E_NOMEM. */
vg_status vg_steady_read_file(const char *path, uint64_t max_bytes, unsigned char **bytes, size_t *n);

#endif
