/* Where a rank computes: a backend and its opened device. */
#ifndef VG_TRAINER_COMPUTE_H
#define VG_TRAINER_COMPUTE_H

#include "dist/comm.h"
#include "kernels/backend.h"

/* What this program makes of a configuration and its data, as a number: every change that gives weights other bits
 * raises it, so that a run which goes on under such a program says so. tests/dist/numerics.py notices where it was
 * forgotten. */
enum { VG_NUMERICS = 2, VG_PROFILE_BYTES = 256 };

typedef struct vg_compute {
    const vg_backend *backend;
    vg_stream stream;
    int n_processors; /* a rank's share of the host's; the stream has no more threads than cores */
    char profile[VG_PROFILE_BYTES];
    char why_cpu[256];    /* what speaks against the GPUs that `auto` would have taken; empty when nothing does */
    char idle_cores[256]; /* what mpirun keeps from its ranks on this host; empty when nothing */
} vg_compute;

/* What is asked for: the rows train.device, train.check, train.threads, train.precision. */
typedef struct vg_compute_spec {
    const char *device; /* auto, cpu or cuda */
    bool check;
    int64_t threads;
    bool bf16; /* is a must */
} vg_compute_spec;

/* Collective: all ranks compute on the same kind of device. `auto` takes the GPUs where every rank has one, else the
 * CPU; why_cpu and idle_cores are for lines about it. Errors: VG_E_DEVICE (cuda is asked for and not there),
 * VG_E_CONFIG (two ranks have the same GPU, bf16 on the CPU, check on a GPU). */
vg_status vg_compute_open(vg_comm *comm, const vg_compute_spec *spec, vg_compute *out);
void vg_compute_close(vg_compute *compute);

/* Local. Threads that load for this rank: `wanted`, the row data.workers, or (-1) one where the host computes, which
 * needs its processors, and where a device does the rank's but the one that drives it, at least 1, at most 8:
 * of pictures of 640 x 480 at 224 pixels a thread makes about 1000 a second. */
int vg_compute_workers(const vg_compute *compute, int64_t wanted);

/* The numerics profile: bits hold within it. What the program, its backend and the C library's functions make of
 * numbers.
 */
const char *vg_compute_profile(const vg_compute *compute);

/* The same for an opened stream of a backend. */
void vg_numerics_profile(const vg_backend *backend, const vg_stream *stream, bool bf16, char text[VG_PROFILE_BYTES]);

#endif
