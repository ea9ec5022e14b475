/* What calls put on streams: one operation of a communicator at a time, in issue order; groups. */
#include "emu/heap.h"
#include "emu/nccl_impl.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <unistd.h>

namespace emu::nccl
{

namespace
{

void join(operation &into, operation &&more)
{
    std::move(more.flows.begin(), more.flows.end(), std::back_inserter(into.flows));
    std::move(more.finish.begin(), more.finish.end(), std::back_inserter(into.finish));
    std::move(more.staging.begin(), more.staging.end(), std::back_inserter(into.staging));
    std::move(more.reads.begin(), more.reads.end(), std::back_inserter(into.reads));
}

void meet_fault(const ncclComm &c, uint64_t number)
{
    const char *text = getenv("VG_EMU_NCCL_FAULT");
    int rank;
    unsigned long long at;
    char what[8];
    if (!text || sscanf(text, "%d:%llu:%7s", &rank, &at, what) != 3 || rank != c.rank || at != number) return;
    while (strcmp(what, "stop") == 0) pause();
    raise(SIGKILL);
}

/* The work of an operation on its stream. */
emu::work work_of(const shared_comm &c, const std::shared_ptr<operation> &op)
{
    return [c, op, number = c->issued++, begun = false]() mutable {
        if (c->aborted) return emu::outcome::done;
        if (c->done != number || c->error != ncclSuccess) return emu::outcome::waiting;
        const emu::heap_open open;
        if (!begun) {
            meet_fault(*c, number);
            for (const auto &r : op->reads) emu::heap_reads(r.first, r.second, op->name);
            begun = true;
        }
        bool awaited[MAX_RANKS] = {};
        const bool any = pump(*c, op->flows, awaited);
        if (c->error == ncclSuccess && std::none_of(awaited, awaited + MAX_RANKS, [](bool a) { return a; })) {
            for (const auto &f : op->finish) f();
            c->done++;
            return emu::outcome::done;
        }
        const int lost = any ? -1 : lost_rank(*c, awaited);
        if (lost >= 0) lose(*c, lost);
        return any ? emu::outcome::moved : emu::outcome::waiting;
    };
}

} // namespace

ncclResult_t enqueue_held(ncclComm &c)
{
    for (auto &h : c.held) {
        cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
        cudaStreamIsCapturing(h.first, &capturing);
        if (capturing != cudaStreamCaptureStatusNone) emu::misuse("capture of NCCL operations is not emulated");
        if (emu::enqueue(h.first, "NCCL operation", std::move(h.second)) != cudaSuccess)
            return fail(c, ncclUnhandledCudaError, "the stream of an operation did not take it");
    }
    c.held.clear();
    return ncclSuccess;
}

namespace
{

ncclResult_t issue(const shared_comm &c, operation &&op)
{
    const cudaStream_t stream = op.stream;
    c->held.emplace_back(stream, work_of(c, std::make_shared<operation>(std::move(op))));
    return c->blocking ? enqueue_held(*c) : ncclInProgress;
}

struct group {
    int depth = 0;
    std::vector<std::pair<shared_comm, operation>> operations; /* one a communicator */
};
thread_local group current;

} // namespace

ncclResult_t submit(const shared_comm &c, operation &&op)
{
    if (current.depth == 0) return issue(c, std::move(op));
    for (auto &o : current.operations) {
        if (o.first != c) continue;
        if (o.second.stream != op.stream) emu::misuse("the calls of a group are on different streams");
        join(o.second, std::move(op));
        return ncclSuccess;
    }
    current.operations.emplace_back(c, std::move(op));
    return ncclSuccess;
}

ncclResult_t ready(ncclComm &c)
{
    if (c.error != ncclSuccess) return c.error;
    if (!c.met || !c.held.empty())
        return fail(c, ncclInvalidArgument, "a communicator is used before its last call has become ncclSuccess");
    return ncclSuccess;
}

bool holds(ncclComm &c, const char *name, const void *buffer, size_t bytes)
{
    if (bytes == 0 || emu::heap_holds(buffer, bytes)) return true;
    fail(c, ncclInvalidArgument, "%s: %zu bytes at %p are not device memory of one allocation", name, bytes, buffer);
    fprintf(stderr, "emu: nccl: %s\n", c.last_error.c_str());
    return false;
}

void drain(ncclComm &c)
{
    while (c.error == ncclSuccess && c.done != c.issued)
        if (emu::advance() != emu::outcome::moved) give_way();
}

} // namespace emu::nccl

using namespace emu::nccl;

PUBLIC ncclResult_t ncclGroupStart()
{
    current.depth++;
    return ncclSuccess;
}

PUBLIC ncclResult_t ncclGroupEnd()
{
    if (current.depth == 0) emu::misuse("ncclGroupEnd without a ncclGroupStart");
    if (--current.depth > 0) return ncclSuccess;
    ncclResult_t st = ncclSuccess;
    auto operations = std::move(current.operations);
    current.operations.clear();
    for (auto &o : operations) {
        const ncclResult_t one = issue(o.first, std::move(o.second));
        if (st == ncclSuccess || one != ncclInProgress) st = one;
    }
    return st;
}
