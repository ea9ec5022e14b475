#include "trainer/compute.h"

#include "trainer/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gnu/libc-version.h>

/* A rank's GPU, or nothing. */
typedef struct seat {
    char host[64], address[VG_ADDRESS_BYTES];
} seat;

static bool is_same_seat(const seat *a, const seat *b)
{
    return *a->address && strcmp(a->address, b->address) == 0 && strcmp(a->host, b->host) == 0;
}

/* NCCL wants a GPU for each rank. */
static vg_status check_seats(const vg_comm *comm, const seat *seats)
{
    const int me = vg_comm_rank(comm);
    for (int r = 0; r < vg_comm_size(comm); r++)
        VG_CHECK(r == me || !is_same_seat(&seats[r], &seats[me]), VG_E_CONFIG,
                 "ranks %d and %d on %s have the same GPU, %s: start a rank for each GPU, and let CUDA_VISIBLE_DEVICES "
                 "show each rank all of them, or one of its own",
                 r < me ? r : me, r < me ? me : r, seats[me].host, seats[me].address);
    return VG_OK;
}

/* Opens this rank's GPU; *mine: what speaks against it. Collective. */
static vg_status open_gpu(vg_comm *comm, vg_compute *c, seat *seats, vg_status *mine)
{
    seat own = {0};
    const vg_device_ops *device = c->backend->device;
    *mine = device->open(&c->stream, vg_comm_place(comm));
    snprintf(own.host, sizeof own.host, "%s", vg_comm_host(comm));
    if (*mine == VG_OK) *mine = device->address(&c->stream, own.address);
    VG_TRY(vg_comm_allgather(comm, &own, sizeof own, seats));
    if (*mine == VG_OK) *mine = check_seats(comm, seats);
    return VG_OK;
}

/* Opens the ranks' GPUs where all have one; *failed counts those that have not. */
static vg_status open_gpus(vg_comm *comm, vg_compute *c, int64_t *failed, vg_status *mine)
{
    seat *seats = vg_new0_array((size_t)vg_comm_size(comm), sizeof *seats);
    vg_status st = vg_comm_agree(comm, seats ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the ranks' GPUs"));
    if (st == VG_OK) st = open_gpu(comm, c, seats, mine);
    free(seats);
    VG_TRY(st);
    *failed = *mine != VG_OK;
    VG_TRY(vg_comm_sum_i64(comm, failed, 1));
    if (*failed) c->backend->device->close(&c->stream);
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
    vg_compute c = {.backend = spec->check ? vg_backend_check() : vg_backend_cpu()};
    vg_cores cores;
    VG_TRY(vg_cores_share(comm, spec->threads, &cores));
    c.stream.n_threads = cores.threads;
    c.n_processors = cores.processors;
    if (cores.used < cores.usable)
        snprintf(c.idle_cores, sizeof c.idle_cores,
                 "mpirun leaves its %d rank%s on %s only %d of %d cores: start it with --bind-to none", cores.ranks,
                 cores.ranks == 1 ? "" : "s", vg_comm_host(comm), cores.used, cores.usable);
    VG_CHECK(!must || !spec->check, VG_E_CONFIG,
             "train.check guards kernels of the CPU; leave it, or train.device: cuda");
    VG_CHECK(!must || cuda, VG_E_DEVICE,
             "this build has no CUDA backend; build it with -DVLGTR_CUDA=ON, or compute with --device cpu");
    if (may && cuda) {
        c.backend = cuda;
        VG_TRY(try_gpus(comm, must, &c));
    }
    VG_CHECK(
        !spec->bf16 || c.backend->to_bf16, VG_E_CONFIG,
        "train.precision: bf16 is for GPUs and this run is on the CPU%s%s; set fp32, or compute with --device cuda",
        *c.why_cpu ? ", since " : "", c.why_cpu);
    vg_numerics_profile(c.backend, &c.stream, spec->bf16, c.profile);
    *out = c;
    return VG_OK;
}

void vg_compute_close(vg_compute *compute)
{
    if (compute->backend) compute->backend->device->close(&compute->stream);
    *compute = (vg_compute){0};
}

int vg_compute_workers(const vg_compute *compute, int64_t wanted)
{
    enum { MOST = 8 };
    const int spare = compute->backend->device == &vg_host_device ? 1 : compute->n_processors - 1;
    if (wanted >= 0) return (int)wanted;
    return spare < 1 ? 1 : spare > MOST ? MOST : spare;
}

void vg_numerics_profile(const vg_backend *backend, const vg_stream *stream, bool bf16, char text[VG_PROFILE_BYTES])
{
    snprintf(text, VG_PROFILE_BYTES, "numerics %d, %s, glibc %s%s", VG_NUMERICS, backend->profile(stream),
             gnu_get_libc_version(), bf16 ? ", bf16" : "");
}

const char *vg_compute_profile(const vg_compute *compute)
{
    return compute->profile;
}
