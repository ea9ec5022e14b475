/* A stand-in of NCCL under its own header and name. Ranks are processes of one machine that meet in shared memory named
 * by the unique id; operations run on emulated streams, in issue order within a communicator.
 *
 * Ranks that share a device and those of another version (VG_EMU_NCCL_VERSION) are refused, as a real one does.
 *
 * What a real NCCL punishes with a hang or wrong numbers is said here: operations that differ between ranks, buffers
 * that do not lie in one allocation, a communicator that is used before its last call has become ncclSuccess. A
 * communicator made non-blocking enqueues nothing before it is asked (ncclCommGetAsyncError), as late as a real one
 * may; ncclCommDestroy and ncclCommAbort end as late as they may, when all ranks have called one of them.
 *
 * VG_EMU_NCCL_FAULT=rank:operation:kill ends that rank when it would run its operation number n (from 0) of a
 * communicator; `stop` makes it stand still instead. */
#include "emu/nccl_impl.h"

#include <cstdio>
#include <cstring>

using namespace emu::nccl;

PUBLIC ncclResult_t ncclGetVersion(int *version)
{
    *version = emu::nccl::version();
    return ncclSuccess;
}

PUBLIC ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    memset(id, 0, sizeof *id);
    FILE *f = fopen("/dev/urandom", "rb");
    if (!f) return ncclSystemError;
    const bool read = fread(id->internal, 1, 16, f) == 16;
    fclose(f);
    return read ? ncclSuccess : ncclSystemError;
}

PUBLIC ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int n_ranks, ncclUniqueId id, int rank,
                                           ncclConfig_t *config)
{
    const ncclConfig_t standard = NCCL_CONFIG_INITIALIZER;
    if (!config || config->magic != standard.magic || config->size != standard.size) return ncclInvalidArgument;
    if (n_ranks < 1 || n_ranks > MAX_RANKS || rank < 0 || rank >= n_ranks) return ncclInvalidArgument;
    const auto c = std::make_shared<ncclComm>();
    c->rank = rank;
    c->n_ranks = n_ranks;
    c->blocking = config->blocking != 0;
    const ncclResult_t st = join_meeting(*c, id);
    if (st != ncclSuccess) return st;
    keep(c);
    *out = c.get();
    while (c->blocking && !c->met && c->error == ncclSuccess) {
        look_who_is_here(*c);
        give_way();
    }
    return c->blocking ? c->error.load() : ncclInProgress;
}

PUBLIC ncclResult_t ncclCommInitRank(ncclComm_t *out, int n_ranks, ncclUniqueId id, int rank)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    return ncclCommInitRankConfig(out, n_ranks, id, rank, &config);
}

PUBLIC ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t *error)
{
    const shared_comm c = find(handle);
    const bool held = !c->held.empty();
    if (held) enqueue_held(*c);
    look_who_is_here(*c);
    if (c->finalizing) emu::advance();
    const bool busy = !c->met || held || (c->finalizing && c->done != c->issued);
    *error = c->error != ncclSuccess ? c->error.load() : busy ? ncclInProgress : ncclSuccess;
    return ncclSuccess;
}

PUBLIC ncclResult_t ncclCommFinalize(ncclComm_t handle)
{
    const shared_comm c = find(handle);
    const ncclResult_t st = ready(*c);
    if (st != ncclSuccess) return st;
    c->finalizing = true;
    if (c->blocking) drain(*c);
    return c->done == c->issued ? ncclSuccess : ncclInProgress;
}

PUBLIC ncclResult_t ncclCommDestroy(ncclComm_t handle)
{
    const shared_comm c = find(handle);
    drain(*c);
    leave(c, LEFT);
    cudaFree(c->memory);
    return c->error;
}

PUBLIC ncclResult_t ncclCommAbort(ncclComm_t handle)
{
    const shared_comm c = find(handle);
    c->aborted = true; /* what is queued completes without doing anything */
    leave(c, ABORTED);
    return ncclSuccess;
}

PUBLIC ncclResult_t ncclCommCount(const ncclComm_t handle, int *count)
{
    *count = find(handle)->n_ranks;
    return ncclSuccess;
}

PUBLIC ncclResult_t ncclCommUserRank(const ncclComm_t handle, int *rank)
{
    *rank = find(handle)->rank;
    return ncclSuccess;
}

PUBLIC ncclResult_t ncclCommCuDevice(const ncclComm_t handle, int *device)
{
    *device = find(handle)->device;
    return ncclSuccess;
}

PUBLIC const char *ncclGetErrorString(ncclResult_t result)
{
    switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case ncclSystemError: return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclInternalError: return "internal error - please report this issue to the NCCL developers";
    case ncclInvalidArgument: return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case ncclInvalidUsage: return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
    default: return "unknown result code";
    }
}

PUBLIC const char *ncclGetLastError(ncclComm_t handle)
{
    return handle ? find(handle)->last_error.c_str() : "";
}
