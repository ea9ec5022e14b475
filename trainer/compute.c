#include "trainer/compute.h"

#include "trainer/process.h"

#include <stdio.h>
#include <string.h>

/* Opens the rank's GPU where all ranks have one; *failed counts those that have not. */
static vg_status open_gpus(vg_comm *comm, vg_compute *c, int64_t *failed, vg_status *mine)
{
    *mine = c->backend->device->open(&c->stream, vg_comm_local_rank(comm));
    *failed = *mine != VG_OK;
    VG_TRY(vg_comm_sum_i64(comm, failed, 1));
    if (*failed && *mine == VG_OK) c->backend->device->close(&c->stream);
    return VG_OK;
}

static vg_status try_gpus(vg_comm *comm, bool must, vg_compute *c)
{
    int64_t failed = 0;
    vg_status mine = VG_OK;
    VG_TRY(open_gpus(comm, c, &failed, &mine));
    if (!failed) return VG_OK;
    if (must) return vg_comm_agree(comm, mine);
    snprintf(c->why_cpu, sizeof c->why_cpu, "%s", mine == VG_OK ? "not every rank has a GPU" : vg_error_text());
    c->backend = vg_backend_cpu();
    return VG_OK;
}

vg_status vg_compute_open(vg_comm *comm, const vg_compute_spec *spec, vg_compute *out)
{
    const vg_backend *cuda = vg_backend_find("cuda");
    const bool must = strcmp(spec->device, "cuda") == 0, may = strcmp(spec->device, "cpu") != 0 && !spec->check;
    vg_compute c = {.backend = spec->check ? vg_backend_check() : vg_backend_cpu(),
                    .stream = {.n_threads = vg_thread_count(comm, spec->threads)}};
    VG_CHECK(!must || !spec->check, VG_E_CONFIG,
             "train.check guards kernels of the CPU; leave it, or train.device: cuda");
    VG_CHECK(!must || cuda, VG_E_DEVICE,
             "this build has no CUDA backend; build it with -DVLGTR_CUDA=ON, or compute with --device cpu");
    if (may && cuda) {
        c.backend = cuda;
        VG_TRY(try_gpus(comm, must, &c));
    }
    *out = c;
    return VG_OK;
}

void vg_compute_close(vg_compute *compute)
{
    if (compute->backend) compute->backend->device->close(&compute->stream);
    *compute = (vg_compute){0};
}

const char *vg_compute_profile(const vg_compute *compute)
{
    return compute->backend->profile(&compute->stream);
}
