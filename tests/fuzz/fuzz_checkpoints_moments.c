/* Any bytes as a piece of the optimizer: refused, or values within the parameters that it names. */
#define _GNU_SOURCE /* memfd_create */
#include "checkpoints/checkpoint_impl.h"
#include "tests/unit/checkpoints/checkpoint_fixture.h"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    int64_t covered[VG_MOMENT_BUFFERS * N_FIXTURE_PARAMS] = {0};
    vg_params *params = fixture_space(false, true);
    const int fd = memfd_create("piece", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (vg_moments_read(path, params, covered) == VG_OK)
        for (int i = 0; i < VG_MOMENT_BUFFERS * params->n; i++)
            if (covered[i] > params->items[i % params->n].count) abort();
    close(fd);
    vg_params_free(params);
    return 0;
}
