/* A stand-in of NCCL under its own header and name. Ranks are processes of one machine that meet in shared memory named
 * by the unique id; operations run on emulated streams, in issue order within a communicator.
 *
 * What a real NCCL punishes with a hang or wrong numbers is said here: operations that differ between ranks, buffers
 * that do not lie in one allocation, a communicator that is used before its last call has become ncclSuccess. A
 * communicator made non-blocking enqueues nothing before it is asked (ncclCommGetAsyncError), as late as a real one
 * may.
 *
 * VG_EMU_NCCL_FAULT=rank:operation:kill ends that rank when it would run its operation number n (from 0) of a
 * communicator; `stop` makes it stand still instead. */
#include "emu/heap.h"
#include "emu/stream.h"

#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vector>

namespace
{

/* --- the meeting place --- */

enum { MAX_RANKS = 16, RING = 64 << 10 };
enum presence { ABSENT, PRESENT, LEFT, ABORTED };

/* Bytes on their way from one rank to another. */
struct channel {
    std::atomic<uint64_t> written, read;
    unsigned char ring[RING];
};

struct member {
    std::atomic<int> pid, presence;
};

struct meeting {
    std::atomic<int> n_present;
    member members[MAX_RANKS];
    channel channels[MAX_RANKS][MAX_RANKS]; /* [from][to]; a page that nobody touches costs nothing */
};

std::string meeting_name(const ncclUniqueId &id)
{
    std::string name = "/vg-emu-nccl-";
    for (int i = 0; i < 16; i++) {
        char two[3];
        snprintf(two, sizeof two, "%02x", (unsigned char)id.internal[i]);
        name += two;
    }
    return name;
}

meeting *meeting_open(const ncclUniqueId &id)
{
    const int file = shm_open(meeting_name(id).c_str(), O_RDWR | O_CREAT, 0600);
    if (file < 0) return nullptr;
    const bool sized = ftruncate(file, sizeof(meeting)) == 0;
    void *at = sized ? mmap(nullptr, sizeof(meeting), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
    close(file);
    return at == MAP_FAILED ? nullptr : static_cast<meeting *>(at);
}

/* A process that was killed stays in the table as a zombie until its parent asks for it. */
bool alive(int pid)
{
    char path[32], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    const size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    const char *state = strrchr(text, ')');
    return state && state[1] && state[2] != 'Z' && state[2] != 'X';
}

/* --- what ranks compare --- */

/* Stands before every message. Equal operations have equal headers, except that a send meets a receive. */
struct header {
    char name[24];
    int type, reduction, root, zero; /* no padding: headers are compared as bytes */
    uint64_t count;
};

const char *type_name(int type)
{
    static const char *const names[] = {"int8",    "uint8",   "int32",   "uint32",   "int64",      "uint64",
                                        "float16", "float32", "float64", "bfloat16", "float8e4m3", "float8e5m2"};
    return type >= 0 && type < ncclNumTypes ? names[type] : "unknown type";
}

size_t type_bytes(ncclDataType_t type)
{
    static const size_t bytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
    return type >= 0 && type < ncclNumTypes ? bytes[type] : 0;
}

std::string text_of(const header &h)
{
    char text[128];
    snprintf(text, sizeof text, "%s(%llu %s, op %d, root %d)", h.name, (unsigned long long)h.count, type_name(h.type),
             h.reduction, h.root);
    return text;
}

header mirrored(header h)
{
    if (strcmp(h.name, "ncclSend") == 0)
        strcpy(h.name, "ncclRecv");
    else if (strcmp(h.name, "ncclRecv") == 0)
        strcpy(h.name, "ncclSend");
    return h;
}

header header_of(const char *name, uint64_t count, ncclDataType_t type, int reduction, int root)
{
    header h = {};
    snprintf(h.name, sizeof h.name, "%s", name);
    h.type = type;
    h.reduction = reduction;
    h.root = root;
    h.count = count;
    return h;
}

} // namespace

/* --- a communicator --- */

struct ncclComm {
    meeting *place;
    int rank, n_ranks, device;
    bool blocking, finalizing = false;
    /* Work may run in a thread of the device's own. */
    std::mutex telling;
    std::atomic<ncclResult_t> error = ncclSuccess; /* asynchronous; the first one stays */
    std::string last_error;
    std::atomic<bool> met = false, aborted = false;
    std::atomic<uint64_t> issued = 0, done = 0;           /* operations: one at a time, in issue order */
    std::vector<std::pair<cudaStream_t, emu::work>> held; /* issued, to be enqueued when next asked */
};

namespace
{

using shared_comm = std::shared_ptr<ncclComm>;

/* Handles that callers hold; work on streams may outlive them. */
std::vector<shared_comm> &communicators()
{
    static auto *all = new std::vector<shared_comm>;
    return *all;
}

shared_comm find(ncclComm_t handle)
{
    for (const auto &c : communicators())
        if (c.get() == handle) return c;
    emu::misuse("the communicator %p does not exist (destroyed or aborted, or never made)", (void *)handle);
}

ncclResult_t fail(ncclComm &c, ncclResult_t error, const char *format, ...) __attribute__((format(printf, 3, 4)));
ncclResult_t fail(ncclComm &c, ncclResult_t error, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const std::lock_guard<std::mutex> guard(c.telling);
    if (c.error == ncclSuccess) {
        c.last_error = text;
        c.error = error;
    }
    return error;
}

/* The first of the awaited ranks that will not come, or -1. */
int lost_rank(const ncclComm &c, const bool *awaited)
{
    for (int r = 0; r < c.n_ranks; r++) {
        const member &m = c.place->members[r];
        if (r == c.rank || !awaited[r] || m.presence == ABSENT) continue;
        if (m.presence == ABORTED || !alive(m.pid)) return r;
    }
    return -1;
}

void lose(ncclComm &c, int rank)
{
    const bool aborted = c.place->members[rank].presence == ABORTED;
    fail(c, ncclRemoteError, aborted ? "rank %d aborted the communicator" : "the process of rank %d is gone", rank);
}

void give_way()
{
    const struct timespec nap = {0, 50000};
    nanosleep(&nap, nullptr);
}

/* --- messages --- */

/* One message: its header, then its bytes. */
struct flow {
    int peer;
    bool sends;
    header head;
    unsigned char *data;
    size_t bytes;
    size_t moved = 0; /* of both */
    header got = {};
};

size_t flow_bytes(const flow &f)
{
    return sizeof f.head + f.bytes;
}

/* Where the next byte of a flow is, and how many follow it in one piece. */
unsigned char *flow_at(flow &f, size_t *piece)
{
    if (f.moved < sizeof f.head) {
        *piece = sizeof f.head - f.moved;
        return reinterpret_cast<unsigned char *>(f.sends ? &f.head : &f.got) + f.moved;
    }
    *piece = flow_bytes(f) - f.moved;
    return f.data + (f.moved - sizeof f.head);
}

size_t move_piece(channel &ch, flow &f)
{
    const uint64_t written = ch.written, read = ch.read;
    const uint64_t at = f.sends ? written : read, room = f.sends ? RING - (written - read) : written - read;
    size_t n;
    unsigned char *here = flow_at(f, &n);
    n = std::min({n, (size_t)room, (size_t)(RING - at % RING)});
    if (n == 0) return 0;
    if (f.sends) {
        memcpy(ch.ring + at % RING, here, n);
        ch.written = at + n;
    } else {
        memcpy(here, ch.ring + at % RING, n);
        ch.read = at + n;
    }
    f.moved += n;
    return n;
}

/* True when something moved. A header that is not the expected one fails the communicator by name. */
bool move(ncclComm &c, flow &f)
{
    channel &ch = f.sends ? c.place->channels[c.rank][f.peer] : c.place->channels[f.peer][c.rank];
    bool any = false;
    while (f.moved < flow_bytes(f) && c.error == ncclSuccess && move_piece(ch, f) > 0) {
        any = true;
        if (f.sends || f.moved != sizeof f.head) continue;
        const header expected = mirrored(f.head);
        if (memcmp(&expected, &f.got, sizeof expected) == 0) continue;
        fail(c, ncclInvalidUsage, "rank %d calls %s, rank %d calls %s", c.rank, text_of(f.head).c_str(), f.peer,
             text_of(f.got).c_str());
        fprintf(stderr, "emu: nccl: %s\n", c.last_error.c_str());
    }
    return any;
}

/* --- operations --- */

/* What one call to a stream does: the calls of a group, or a single one. */
struct operation {
    const char *name;
    cudaStream_t stream;
    std::vector<flow> flows;
    std::vector<std::function<void()>> finish; /* when all messages are through */
    std::vector<std::vector<unsigned char>> staging;
    std::vector<std::pair<const void *, size_t>> reads;
};

void join(operation &into, operation &&more)
{
    std::move(more.flows.begin(), more.flows.end(), std::back_inserter(into.flows));
    std::move(more.finish.begin(), more.finish.end(), std::back_inserter(into.finish));
    std::move(more.staging.begin(), more.staging.end(), std::back_inserter(into.staging));
    std::move(more.reads.begin(), more.reads.end(), std::back_inserter(into.reads));
}

/* Messages between two ranks pass in the order in which they were issued. True when something moved. */
bool pump(ncclComm &c, std::vector<flow> &flows, bool *awaited)
{
    bool any = false, busy[2][MAX_RANKS] = {};
    for (flow &f : flows) {
        if (busy[f.sends][f.peer]) continue;
        any |= move(c, f);
        if (f.moved == flow_bytes(f)) continue;
        busy[f.sends][f.peer] = awaited[f.peer] = true;
    }
    return any;
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

ncclResult_t issue(const shared_comm &c, operation &&op)
{
    const cudaStream_t stream = op.stream;
    c->held.emplace_back(stream, work_of(c, std::make_shared<operation>(std::move(op))));
    return c->blocking ? enqueue_held(*c) : ncclInProgress;
}

/* --- groups --- */

struct group {
    int depth = 0;
    std::vector<std::pair<shared_comm, operation>> operations; /* one a communicator */
};
thread_local group current;

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

/* A buffer lies in one allocation of the device. */
bool holds(ncclComm &c, const char *name, const void *buffer, size_t bytes)
{
    if (bytes == 0 || emu::heap_holds(buffer, bytes)) return true;
    fail(c, ncclInvalidArgument, "%s: %zu bytes at %p are not device memory of one allocation", name, bytes, buffer);
    fprintf(stderr, "emu: nccl: %s\n", c.last_error.c_str());
    return false;
}

/* --- collectives: everybody tells everybody what it calls, with or without bytes --- */

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

/* --- life --- */

void look_who_is_here(ncclComm &c)
{
    bool all[MAX_RANKS];
    std::fill(all, all + MAX_RANKS, true);
    const int lost = c.met ? -1 : lost_rank(c, all);
    if (c.place->n_present == c.n_ranks) c.met = true; /* a rank may come, finish and leave while another looks */
    if (!c.met && lost >= 0) lose(c, lost);
}

ncclResult_t join_meeting(ncclComm &c, const ncclUniqueId &id)
{
    c.place = meeting_open(id);
    if (!c.place) return ncclSystemError;
    member &me = c.place->members[c.rank];
    if (me.presence != ABSENT) emu::misuse("rank %d of a communicator was made twice", c.rank);
    me.pid = getpid();
    me.presence = PRESENT;
    if (++c.place->n_present == c.n_ranks) shm_unlink(meeting_name(id).c_str());
    return cudaGetDevice(&c.device) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

void leave(const shared_comm &c, presence how)
{
    c->place->members[c->rank].presence = how;
    auto &all = communicators();
    all.erase(std::remove(all.begin(), all.end(), c), all.end());
}

void drain(ncclComm &c)
{
    while (c.error == ncclSuccess && c.done != c.issued)
        if (emu::advance() != emu::outcome::moved) give_way();
}

} // namespace

/* --- the interface --- */

#define PUBLIC extern "C" __attribute__((visibility("default")))

PUBLIC ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
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
    communicators().push_back(c);
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
