/* Collectives: everybody tells everybody what it calls, with or without bytes; and messages to one rank. */
#include "emu/heap.h"
#include "emu/nccl_impl.h"

#include <algorithm>
#include <cstring>

using namespace emu::nccl;

namespace
{

struct call {
    header head;
    const void *in;
    void *out;
    size_t in_bytes, out_bytes; /* of the whole buffers */
};

void tell(operation &op, const ncclComm &c, const header &head, int peer, const void *data, size_t bytes)
{
    if (peer == c.rank) return;
    op.flows.push_back({peer, true, head, (unsigned char *)const_cast<void *>(data), bytes});
}

void hear(operation &op, const ncclComm &c, const header &head, int peer, void *data, size_t bytes)
{
    if (peer == c.rank) return;
    op.flows.push_back({peer, false, head, (unsigned char *)data, bytes});
}

using builder = void (*)(const ncclComm &c, const call &k, operation &op);

ncclResult_t collective(ncclComm_t handle, cudaStream_t stream, const call &k, builder build)
{
    const shared_comm c = find(handle);
    const ncclResult_t st = ready(*c);
    if (st != ncclSuccess) return st;
    if (type_bytes((ncclDataType_t)k.head.type) == 0) return fail(*c, ncclInvalidArgument, "an unknown type");
    if (!holds(*c, k.head.name, k.in, k.in_bytes) || !holds(*c, k.head.name, k.out, k.out_bytes))
        return ncclInvalidArgument;
    operation op = {};
    op.name = "NCCL operation";
    op.stream = stream;
    if (k.in_bytes) op.reads.emplace_back(k.in, k.in_bytes);
    build(*c, k, op);
    return submit(c, std::move(op));
}

/* Adds up what all sent, from the last rank to the first: no order is promised, and this one is not the obvious. */
template <typename number>
void reduce_as(const std::vector<const unsigned char *> &from, int reduction, void *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        number x, y;
        memcpy(&x, from.back() + i * sizeof x, sizeof x);
        for (size_t r = from.size() - 1; r-- > 0;) {
            memcpy(&y, from[r] + i * sizeof y, sizeof y);
            x = reduction == ncclSum ? (number)(x + y) : reduction == ncclMax ? std::max(x, y) : std::min(x, y);
        }
        memcpy((unsigned char *)out + i * sizeof x, &x, sizeof x);
    }
}

void reduce(const std::vector<const unsigned char *> &from, const header &h, void *out, size_t count)
{
    switch (h.type) {
    case ncclInt32: return reduce_as<int32_t>(from, h.reduction, out, count);
    case ncclInt64: return reduce_as<int64_t>(from, h.reduction, out, count);
    case ncclFloat32: return reduce_as<float>(from, h.reduction, out, count);
    case ncclFloat64: return reduce_as<double>(from, h.reduction, out, count);
    default: emu::misuse("%s of %s is not emulated", h.name, type_name(h.type));
    }
}

/* Every rank sends rank r its share r of `in`, which all then reduce; the shares of an all-reduce are the whole. */
void build_reduction(const ncclComm &c, const call &k, operation &op, bool scatter)
{
    const auto *in = (const unsigned char *)k.in;
    const size_t bytes = k.out_bytes;
    if (k.head.reduction != ncclSum && k.head.reduction != ncclMax && k.head.reduction != ncclMin)
        emu::misuse("%s with reduction %d is not emulated", k.head.name, k.head.reduction);
    std::vector<const unsigned char *> from;
    for (int r = 0; r < c.n_ranks; r++) {
        op.staging.emplace_back(r == c.rank ? 0 : bytes);
        from.push_back(r == c.rank ? in + (scatter ? (size_t)r * bytes : 0) : op.staging.back().data());
        tell(op, c, k.head, r, in + (scatter ? (size_t)r * bytes : 0), bytes);
        hear(op, c, k.head, r, op.staging.back().data(), bytes);
    }
    op.finish.emplace_back([k, from, bytes] {
        reduce(from, k.head, k.out, bytes / type_bytes((ncclDataType_t)k.head.type));
        emu::heap_wrote(k.out, bytes);
    });
}

void build_all_reduce(const ncclComm &c, const call &k, operation &op)
{
    build_reduction(c, k, op, false);
}

void build_reduce_scatter(const ncclComm &c, const call &k, operation &op)
{
    build_reduction(c, k, op, true);
}

void build_all_gather(const ncclComm &c, const call &k, operation &op)
{
    auto *out = (unsigned char *)k.out;
    for (int r = 0; r < c.n_ranks; r++) {
        tell(op, c, k.head, r, k.in, k.in_bytes);
        hear(op, c, k.head, r, out + (size_t)r * k.in_bytes, k.in_bytes);
    }
    op.finish.emplace_back([k, mine = out + (size_t)c.rank * k.in_bytes] {
        if (mine != k.in) memcpy(mine, k.in, k.in_bytes);
        emu::heap_wrote(k.out, k.out_bytes);
    });
}

void build_broadcast(const ncclComm &c, const call &k, operation &op)
{
    const bool root = c.rank == k.head.root;
    for (int r = 0; r < c.n_ranks; r++) {
        tell(op, c, k.head, r, k.in, root ? k.in_bytes : 0);
        hear(op, c, k.head, r, k.out, r == k.head.root ? k.out_bytes : 0);
    }
    op.finish.emplace_back([k, root] {
        if (root && k.out != k.in) memcpy(k.out, k.in, k.in_bytes);
        emu::heap_wrote(k.out, k.out_bytes);
    });
}

ncclResult_t point_to_point(const char *name, void *data, size_t count, ncclDataType_t type, int peer,
                            ncclComm_t handle, cudaStream_t stream)
{
    const shared_comm c = find(handle);
    const bool sends = strcmp(name, "ncclSend") == 0;
    const size_t bytes = count * type_bytes(type);
    const ncclResult_t st = ready(*c);
    if (st != ncclSuccess) return st;
    if (peer < 0 || peer >= c->n_ranks) return fail(*c, ncclInvalidArgument, "%s: there is no rank %d", name, peer);
    if (!holds(*c, name, data, bytes)) return ncclInvalidArgument;
    operation op = {};
    op.name = name;
    op.stream = stream;
    op.flows.push_back({peer, sends, header_of(name, count, type, 0, 0), (unsigned char *)data, bytes});
    if (sends)
        op.reads.emplace_back(data, bytes);
    else
        op.finish.emplace_back([data, bytes] { emu::heap_wrote(data, bytes); });
    return submit(c, std::move(op));
}

} // namespace

PUBLIC ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                             cudaStream_t stream)
{
    return point_to_point("ncclSend", const_cast<void *>(data), count, type, peer, comm, stream);
}

PUBLIC ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                             cudaStream_t stream)
{
    return point_to_point("ncclRecv", data, count, type, peer, comm, stream);
}

PUBLIC ncclResult_t ncclAllReduce(const void *in, void *out, size_t count, ncclDataType_t type, ncclRedOp_t reduction,
                                  ncclComm_t comm, cudaStream_t stream)
{
    const size_t bytes = count * type_bytes(type);
    const call k = {header_of("ncclAllReduce", count, type, reduction, 0), in, out, bytes, bytes};
    return collective(comm, stream, k, build_all_reduce);
}

PUBLIC ncclResult_t ncclReduceScatter(const void *in, void *out, size_t count, ncclDataType_t type,
                                      ncclRedOp_t reduction, ncclComm_t comm, cudaStream_t stream)
{
    const size_t bytes = count * type_bytes(type);
    const call k = {header_of("ncclReduceScatter", count, type, reduction, 0), in, out,
                    bytes * (size_t)find(comm)->n_ranks, bytes};
    return collective(comm, stream, k, build_reduce_scatter);
}

PUBLIC ncclResult_t ncclAllGather(const void *in, void *out, size_t count, ncclDataType_t type, ncclComm_t comm,
                                  cudaStream_t stream)
{
    const size_t bytes = count * type_bytes(type);
    const call k = {header_of("ncclAllGather", count, type, 0, 0), in, out, bytes, bytes * (size_t)find(comm)->n_ranks};
    return collective(comm, stream, k, build_all_gather);
}

PUBLIC ncclResult_t ncclBroadcast(const void *in, void *out, size_t count, ncclDataType_t type, int root,
                                  ncclComm_t comm, cudaStream_t stream)
{
    const size_t bytes = count * type_bytes(type);
    const bool is_root = find(comm)->rank == root;
    const call k = {header_of("ncclBroadcast", count, type, 0, root), in, out, is_root ? bytes : 0, bytes};
    return collective(comm, stream, k, build_broadcast);
}
