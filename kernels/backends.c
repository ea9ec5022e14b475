/* The backends of this build, by name. */
#include "kernels/backend.h"

#include <string.h>

static const struct {
    const char *name;
    const vg_backend *(*get)(void);
} backends[] = {
    {"cpu", vg_backend_cpu},
    {"check", vg_backend_check},
#ifdef VG_HAVE_CUDA
    {"cuda", vg_backend_cuda},
#endif
};

const vg_backend *vg_backend_find(const char *name)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (strcmp(backends[i].name, name) == 0) return backends[i].get();
    return NULL;
}
