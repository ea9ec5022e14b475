/* Any bytes as a tensor file: refused with a sentence, or every value of it can be read. */
#define _GNU_SOURCE /* memfd_create */
#include "checkpoints/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const vg_tensors *t)
{
    for (int i = 0; i < vg_tensors_count(t); i++) {
        const vg_tensor_entry *e = vg_tensors_get(t, i);
        if (vg_tensors_find(t, e->name) != i) abort();
        float *values = vg_new0_array((size_t)e->count, sizeof *values);
        void *bytes = vg_new0((size_t)e->bytes);
        if (values) vg_tensors_read_f32(t, i, values);
        if (bytes && vg_tensors_read_bytes(t, i, bytes) != VG_OK) abort(); /* its place was checked */
        free(values);
        free(bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    vg_tensors *t = NULL;
    const int fd = memfd_create("tensors", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (vg_tensors_open(path, &t) == VG_OK) read_all(t);
    vg_tensors_close(t);
    close(fd);
    return 0;
}
