/* Inside the stand-in of NCCL: where ranks meet, what a communicator is, what its calls put on streams. */
#ifndef VG_EMU_NCCL_IMPL_H
#define VG_EMU_NCCL_IMPL_H

#include "emu/stream.h"

#include <nccl.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#define PUBLIC extern "C" __attribute__((visibility("default")))

namespace emu::nccl
{

/* --- the meeting place, in shared memory --- */

enum { MAX_RANKS = 16, RING = 64 << 10 };
enum presence { ABSENT, PRESENT, LEFT, ABORTED };

/* Bytes on their way from one rank to another. */
struct channel {
    std::atomic<uint64_t> written, read;
    unsigned char ring[RING];
};

struct member {
    std::atomic<int> pid, presence, version, gpu; /* where the last sits on the bus */
};

struct meeting {
    std::atomic<int> n_present;
    member members[MAX_RANKS];
    channel channels[MAX_RANKS][MAX_RANKS]; /* [from][to]; a page that nobody touches costs nothing */
};

} // namespace emu::nccl

struct ncclComm {
    emu::nccl::meeting *place;
    int rank, n_ranks, device;
    bool blocking, finalizing = false;
    void *memory = nullptr; /* of the device, as much as VG_EMU_NCCL_MEMORY says */
    /* Work may run in a thread of the device's own. */
    std::mutex telling;
    std::atomic<ncclResult_t> error = ncclSuccess; /* asynchronous; the first one stays */
    std::string last_error;
    std::atomic<bool> met = false, aborted = false;
    std::atomic<uint64_t> issued = 0, done = 0;           /* operations: one at a time, in issue order */
    std::vector<std::pair<cudaStream_t, emu::work>> held; /* issued, to be enqueued when next asked */
};

namespace emu::nccl
{

using shared_comm = std::shared_ptr<ncclComm>;

/* --- communicators and their ranks (nccl_rank.cc) --- */

void keep(const shared_comm &c);
shared_comm find(ncclComm_t handle);
/* The first failure stays. Returns the error. */
ncclResult_t fail(ncclComm &c, ncclResult_t error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The first of the awaited ranks that will not come, or -1; and that it did not. */
int lost_rank(const ncclComm &c, const bool *awaited);
void lose(ncclComm &c, int rank);
void look_who_is_here(ncclComm &c);
ncclResult_t join_meeting(ncclComm &c, const ncclUniqueId &id);
int version();
void give_way();

/* Gives the communicator back, and waits for the others: a rank serves its peers until all of them have closed their
 * connections, which they do when they leave, too, or their process ends. One whose device is lost does not get as far
 * as to close its own. */
void leave(const shared_comm &c, presence how);

/* --- messages (nccl_message.cc) --- */

/* Stands before every message. Equal operations have equal headers, except that a send meets a receive. */
struct header {
    char name[24];
    int type, reduction, root, zero; /* no padding: headers are compared as bytes */
    uint64_t count;
};

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

size_t type_bytes(ncclDataType_t type);
const char *type_name(int type);
header header_of(const char *name, uint64_t count, ncclDataType_t type, int reduction, int root);

/* Messages between two ranks pass in the order in which they were issued. True when something moved. */
bool pump(ncclComm &c, std::vector<flow> &flows, bool *awaited);

/* --- operations on streams (nccl_stream.cc) --- */

/* What one call to a stream does: the calls of a group, or a single one. */
struct operation {
    const char *name;
    cudaStream_t stream;
    std::vector<flow> flows;
    std::vector<std::function<void()>> finish; /* when all messages are through */
    std::vector<std::vector<unsigned char>> staging;
    std::vector<std::pair<const void *, size_t>> reads;
};

/* Whether the communicator may be called; that a buffer lies in one allocation of the device. */
ncclResult_t ready(ncclComm &c);
bool holds(ncclComm &c, const char *name, const void *buffer, size_t bytes);

ncclResult_t submit(const shared_comm &c, operation &&op);
ncclResult_t enqueue_held(ncclComm &c);
void drain(ncclComm &c);

} // namespace emu::nccl

#endif
