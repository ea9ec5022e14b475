/* Messages between GPUs by NCCL. The communicator never blocks the host: every call is followed until it is through,
 * looking after the peers, and given up at the deadline. */
#define _GNU_SOURCE /* syscall, pthread_timedjoin_np */
#include "dist/device_group_impl.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Where a rank runs, to say which one is gone. */
typedef struct place {
    char host[VG_HOST_BYTES];
    int64_t process;
} place;

typedef struct nccl_group {
    ncclComm_t comm; /* NULL once it is being given back */
    int device;
    ncclComm_t parting; /* what the thread gives back; NULL: there is none */
    bool aborts;
    pthread_t thread;
    cudaEvent_t done;
    place *places; /* [size] */
    int *watches;  /* [size] a handle on the rank's process (pidfd), or -1 where it cannot be seen from here */
} nccl_group;

static cudaStream_t queue_of(const vg_device_group *group, const vg_stream *stream)
{
    return group->device.queue(stream);
}

static nccl_group *nccl_of(const vg_device_group *group)
{
    return group->backend;
}

static vg_status cuda_failed(const char *call, cudaError_t result)
{
    return vg_fail(VG_E_DEVICE, "%.*s: %s", (int)strcspn(call, "("), call, cudaGetErrorString(result));
}

#define VG_CUDA(call)                                                     \
    do {                                                                  \
        const cudaError_t vg_cuda_ = (call);                              \
        if (vg_cuda_ != cudaSuccess) return cuda_failed(#call, vg_cuda_); \
    } while (0)

/* ---- giving the communicator back ---- */

static void *give_back(void *argument)
{
    const nccl_group *g = argument;
    cudaSetDevice(g->device);
    if (g->aborts)
        ncclCommAbort(g->parting);
    else
        ncclCommDestroy(g->parting);
    return NULL;
}

/* In a thread of its own: where NCCL serves its peers by sockets, the call ends when all ranks of the host have made
 * it. One that stands still, or whose GPU failed, would keep the others here until its process ends. Kernels that wait
 * for peers end as soon as an abort begins. */
static void part(nccl_group *g, bool aborts)
{
    if (!g->comm) return;
    g->parting = g->comm;
    g->comm = NULL;
    g->aborts = aborts;
    if (pthread_create(&g->thread, NULL, give_back, g) == 0) return;
    give_back(g);
    g->parting = NULL;
}

/* Whether the thread is through; it has a while, and none where the job is about to end. */
static bool has_parted(const vg_device_group *group)
{
    enum { MOST_S = 5 };
    const nccl_group *g = nccl_of(group);
    struct timespec until;
    if (!g->parting) return true;
    clock_gettime(CLOCK_REALTIME, &until);
    if (!vg_comm_broken(group->comm)) until.tv_sec += MOST_S;
    if (pthread_timedjoin_np(g->thread, NULL, &until) == 0) return true;
    pthread_detach(g->thread);
    return false;
}

/* ---- when a peer is gone ---- */

/* The first rank whose process is seen to have ended, or -1. */
static int lost_rank(const vg_device_group *group)
{
    for (int r = 0; r < group->comm->size; r++) {
        struct pollfd watch = {.fd = nccl_of(group)->watches[r], .events = POLLIN};
        if (poll(&watch, 1, 0) == 1) return r; /* one of -1 is left out */
    }
    return -1;
}

/* Why a call failed at a peer: VG_E_COMM where that one said so. *lost: whose process has ended; one that is just
 * ending is given the time to. */
static vg_status find_loss(vg_device_group *group, int *lost)
{
    enum { LOOKS = 20 };
    const struct timespec moment = {.tv_nsec = 10000000};
    *lost = -1;
    for (int i = 0; i < LOOKS && *lost < 0; i++) {
        nanosleep(&moment, NULL);
        *lost = lost_rank(group);
        VG_TRY(vg_comm_look(group->comm));
    }
    return VG_OK;
}

/* Breaks the process group, with the sentence about it. */
static vg_status give_up_ranks(vg_device_group *group, vg_status status, const char *why)
{
    const nccl_group *g = nccl_of(group);
    int lost = -1;
    if (status == VG_E_DEVICE) return vg_comm_leave(group->comm, vg_fail(status, "%s", why));
    if (status == VG_E_COMM) VG_TRY(find_loss(group, &lost));
    vg_comm_break(group->comm, lost);
    if (status != VG_E_COMM) return vg_fail(status, "%s", why);
    if (lost >= 0)
        return vg_fail(VG_E_COMM,
                       "rank %d on %s (process %lld) is gone; see its log, then start again: a run goes on "
                       "from its last checkpoint",
                       lost, g->places[lost].host, (long long)g->places[lost].process);
    return vg_fail(VG_E_COMM, "%s; see the other ranks' logs, then start again: a run goes on from its last checkpoint",
                   why);
}

/* Before anything else is given back: memory and streams that the communicator's kernels use would wait for them. */
static vg_status abandon(vg_device_group *group, vg_status status)
{
    part(nccl_of(group), true);
    return status;
}

static vg_status give_up(vg_device_group *group, vg_status status, const char *why)
{
    return abandon(group, give_up_ranks(group, status, why));
}

/* NCCL takes memory of its own, with the first messages too; of what it could not have it says that CUDA failed. */
static void memory_text(char *text, size_t size)
{
    size_t free_bytes = 0, total = 0;
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) return;
    snprintf(text, size, "; %zu of the GPU's %zu MiB are free: where NCCL lacks memory, lower train.micro_batch",
             free_bytes >> 20, total >> 20);
}

static vg_status nccl_failed(vg_device_group *group, const char *call, ncclResult_t result)
{
    char what[1024], memory[160] = "";
    const bool ours = result == ncclInvalidArgument || result == ncclInvalidUsage;
    const bool device = result == ncclUnhandledCudaError;
    if (device) memory_text(memory, sizeof memory);
    snprintf(what, sizeof what, "%.*s: %s (%s)%s", (int)strcspn(call, "("), call, ncclGetErrorString(result),
             ncclGetLastError(nccl_of(group)->comm), memory);
    return give_up(group, ours ? VG_E_BUG : device ? VG_E_DEVICE : VG_E_COMM, what);
}

/* ---- following a call ---- */

/* Between two looks at something that is not there yet. Inside a host NCCL itself does not notice a peer's death: the
 * processes are looked at now and then. */
typedef struct patience {
    vg_patience time;
    int naps;
} patience;

static patience patience_of(const vg_device_group *group)
{
    return (patience){.time = vg_patience_of(group->device.deadline_s)};
}

static vg_status wait_a_little(vg_device_group *group, patience *p)
{
    enum { LOOK_EVERY = 256 };
    const struct timespec moment = {.tv_nsec = 20000};
    if (vg_patience_ends(&p->time))
        return abandon(group, vg_comm_too_late(group->comm, "the other ranks' GPUs", p->time.limit_s));
    if (++p->naps % LOOK_EVERY == 0) {
        const vg_status st = vg_comm_look(group->comm);
        if (st != VG_OK) return abandon(group, st);
        if (lost_rank(group) >= 0) return give_up(group, VG_E_COMM, "a rank is gone");
    }
    nanosleep(&moment, NULL);
    return VG_OK;
}

/* Until the communicator has taken its last call. */
static vg_status settle(vg_device_group *group, const char *call, ncclResult_t result)
{
    patience p = patience_of(group);
    while (result == ncclInProgress) {
        VG_TRY(wait_a_little(group, &p));
        const ncclResult_t asked = ncclCommGetAsyncError(nccl_of(group)->comm, &result);
        if (asked != ncclSuccess) result = asked;
    }
    return result == ncclSuccess ? VG_OK : nccl_failed(group, call, result);
}

#define VG_NCCL(group, call) VG_TRY(settle((group), #call, (call)))

static vg_status nccl_wait(vg_device_group *group)
{
    nccl_group *g = nccl_of(group);
    patience p = patience_of(group);
    if (!g->comm) return VG_E_COMM; /* told before */
    VG_CUDA(cudaEventRecord(g->done, queue_of(group, group->device.exchange)));
    for (;;) {
        ncclResult_t result = ncclSuccess;
        const cudaError_t arrived = cudaEventQuery(g->done);
        if (arrived == cudaSuccess) return VG_OK;
        if (arrived != cudaErrorNotReady) return group->device.wait(group->device.exchange); /* says what failed */
        VG_NCCL(group, ncclCommGetAsyncError(g->comm, &result));
        if (result != ncclSuccess) return nccl_failed(group, "ncclCommGetAsyncError", result);
        VG_TRY(wait_a_little(group, &p));
    }
}

/* ---- messages ---- */

static vg_status nccl_exchange(vg_device_group *group, const vg_message *sends, int n_sends, const vg_message *recvs,
                               int n_recvs)
{
    nccl_group *g = nccl_of(group);
    const cudaStream_t queue = queue_of(group, group->device.exchange);
    ncclResult_t first = ncclSuccess;
    if (!g->comm) return VG_E_COMM; /* told before */
    if (n_sends + n_recvs == 0) return VG_OK;
    ncclGroupStart();
    for (int i = 0; i < n_sends && first == ncclSuccess; i++)
        first = ncclSend(sends[i].data, sends[i].bytes, ncclUint8, sends[i].peer, g->comm, queue);
    for (int i = 0; i < n_recvs && first == ncclSuccess; i++)
        first = ncclRecv(recvs[i].data, recvs[i].bytes, ncclUint8, recvs[i].peer, g->comm, queue);
    const ncclResult_t last = ncclGroupEnd();
    return settle(group, "ncclSend and ncclRecv", first == ncclSuccess ? last : first);
}

static vg_status nccl_all_reduce(vg_device_group *group, float *x, int64_t n)
{
    nccl_group *g = nccl_of(group);
    if (!g->comm) return VG_E_COMM; /* told before */
    VG_NCCL(group,
            ncclAllReduce(x, x, (size_t)n, ncclFloat32, ncclSum, g->comm, queue_of(group, group->device.exchange)));
    return VG_OK;
}

/* ---- opening and closing ---- */

static void free_group(nccl_group *g)
{
    if (!g) return;
    free(g->places);
    free(g->watches);
    free(g);
}

/* Messages that are under way now belong to a step that failed somewhere: nobody comes to receive them. */
static void close_communicator(vg_device_group *group)
{
    nccl_group *g = nccl_of(group);
    if (cudaStreamQuery(queue_of(group, group->device.exchange)) != cudaSuccess)
        part(g, true);
    else if (settle(group, "ncclCommFinalize", ncclCommFinalize(g->comm)) == VG_OK)
        part(g, false);
}

static void nccl_close(vg_device_group *group)
{
    nccl_group *g = nccl_of(group);
    if (g->comm) close_communicator(group);
    if (g->done) cudaEventDestroy(g->done);
    for (int r = 0; r < group->comm->size; r++)
        if (g->watches[r] >= 0) close(g->watches[r]);
    if (has_parted(group)) free_group(g); /* else the thread needs it */
}

/* Who runs where. The ranks of this host are watched: the handle stays on its process when the number goes to another.
 */
static vg_status find_places(vg_device_group *group)
{
    nccl_group *g = nccl_of(group);
    const vg_comm *comm = group->comm;
    place mine = {.process = getpid()};
    memcpy(mine.host, comm->host, sizeof mine.host);
    VG_TRY(vg_comm_allgather(group->comm, &mine, sizeof mine, g->places));
    for (int r = 0; r < comm->size; r++) {
        const bool near = r != comm->rank && strncmp(g->places[r].host, mine.host, sizeof mine.host) == 0;
        g->watches[r] = near ? (int)syscall(SYS_pidfd_open, (pid_t)g->places[r].process, 0) : -1;
    }
    return VG_OK;
}

static vg_status make_event(nccl_group *g)
{
    VG_CUDA(cudaGetDevice(&g->device));
    VG_CUDA(cudaEventCreateWithFlags(&g->done, cudaEventDisableTiming));
    return VG_OK;
}

/* NCCL itself would say that the call is invalid. */
static vg_status same_version(vg_comm *comm)
{
    int version = 0;
    (void)ncclGetVersion(&version);
    return vg_comm_same(comm, &version, sizeof version, "the version of NCCL");
}

static vg_status draw_id(const vg_comm *comm, ncclUniqueId *id)
{
    const ncclResult_t result = comm->rank == 0 ? ncclGetUniqueId(id) : ncclSuccess;
    VG_CHECK(result == ncclSuccess, VG_E_COMM, "ncclGetUniqueId: %s (%s); NCCL_DEBUG=INFO says more",
             ncclGetErrorString(result), ncclGetLastError(NULL));
    return VG_OK;
}

static vg_status begin(vg_device_group *group)
{
    nccl_group *g = nccl_of(group);
    vg_comm *comm = group->comm;
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    memset(&id, 0, sizeof id);
    VG_TRY(same_version(comm));
    VG_TRY(find_places(group));
    VG_TRY(vg_comm_agree(comm, make_event(g)));
    VG_TRY(vg_comm_agree(comm, draw_id(comm, &id)));
    VG_TRY(vg_comm_broadcast(comm, &id, sizeof id, 0));
    const ncclResult_t made = ncclCommInitRankConfig(&g->comm, comm->size, id, comm->rank, &config);
    return settle(group, "ncclCommInitRankConfig", made);
}

static vg_status new_group(int size, nccl_group **out)
{
    nccl_group *g = *out = vg_new0(sizeof *g);
    VG_CHECK(g, VG_E_NOMEM, "no memory for a group of GPUs");
    g->places = vg_new0_array((size_t)size, sizeof *g->places);
    g->watches = vg_new0_array((size_t)size, sizeof *g->watches);
    VG_CHECK(g->places && g->watches, VG_E_NOMEM, "no memory for a group of GPUs");
    for (int r = 0; r < size; r++) g->watches[r] = -1;
    return VG_OK;
}

vg_status vg_device_nccl_open(vg_device_group *group)
{
    static const vg_device_group_ops ops = {
        .close = nccl_close,
        .exchange = nccl_exchange,
        .all_reduce = nccl_all_reduce,
        .wait = nccl_wait,
    };
    nccl_group *g = NULL;
    const vg_status made = vg_comm_agree(group->comm, new_group(group->comm->size, &g));
    if (made != VG_OK) {
        free_group(g);
        return made;
    }
    group->backend = g;
    group->ops = &ops;
    const vg_status st = begin(group);
    if (st != VG_OK) nccl_close(group);
    return st;
}

/* ---- which it is ---- */

static void version_text(int version, char text[64])
{
    snprintf(text, 64, "NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

bool vg_device_library(vg_library *out)
{
    int version = 0;
    *out = (vg_library){.what = "nccl"};
    version_text(NCCL_VERSION_CODE, out->built);
    if (ncclGetVersion(&version) == ncclSuccess) version_text(version, out->running);
    out->fits = version == NCCL_VERSION_CODE;
    return true;
}
