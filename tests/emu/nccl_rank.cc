/* Ranks meet in shared memory, and are looked after there. */
#include "emu/nccl_impl.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

namespace emu::nccl
{

namespace
{

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

/* Handles that callers hold, in any of their threads; work on streams may outlive them. */
struct handles {
    std::mutex lock;
    std::vector<shared_comm> all;
};
handles &communicators()
{
    static auto *made = new handles;
    return *made;
}

bool others_are_here(const ncclComm &c)
{
    for (int r = 0; r < c.n_ranks; r++) {
        const member &m = c.place->members[r];
        if (r != c.rank && m.presence == PRESENT && alive(m.pid)) return true;
    }
    return false;
}

/* What all find out as soon as they know of each other. */
void compare_ranks(ncclComm &c)
{
    const member &me = c.place->members[c.rank];
    for (int r = 0; r < c.n_ranks; r++) {
        const member &m = c.place->members[r];
        if (m.version != me.version)
            fail(c, ncclInvalidUsage, "Mismatched NCCL version detected : rank %d version %d rank %d version %d", r,
                 (int)m.version, c.rank, (int)me.version);
        if (r != c.rank && m.gpu == me.gpu)
            fail(c, ncclInvalidUsage, "Duplicate GPU detected : rank %d and rank %d both on CUDA device %x", c.rank, r,
                 (unsigned)me.gpu);
    }
}

size_t own_memory()
{
    const char *set = getenv("VG_EMU_NCCL_MEMORY");
    return set ? (size_t)atoll(set) : 0;
}

void forget(const shared_comm &c)
{
    handles &h = communicators();
    const std::lock_guard<std::mutex> guard(h.lock);
    h.all.erase(std::remove(h.all.begin(), h.all.end(), c), h.all.end());
}

} // namespace

void keep(const shared_comm &c)
{
    handles &h = communicators();
    const std::lock_guard<std::mutex> guard(h.lock);
    h.all.push_back(c);
}

shared_comm find(ncclComm_t handle)
{
    handles &h = communicators();
    const std::lock_guard<std::mutex> guard(h.lock);
    for (const auto &c : h.all)
        if (c.get() == handle) return c;
    emu::misuse("the communicator %p does not exist (destroyed or aborted, or never made)", (void *)handle);
}

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

int version()
{
    const char *set = getenv("VG_EMU_NCCL_VERSION");
    return set ? atoi(set) : NCCL_VERSION_CODE;
}

void look_who_is_here(ncclComm &c)
{
    bool all[MAX_RANKS];
    std::fill(all, all + MAX_RANKS, true);
    const int lost = c.met ? -1 : lost_rank(c, all);
    if (!c.met && c.place->n_present == c.n_ranks) { /* a rank may come, finish and leave while another looks */
        compare_ranks(c);
        c.met = true;
    }
    if (!c.met && lost >= 0) lose(c, lost);
}

ncclResult_t join_meeting(ncclComm &c, const ncclUniqueId &id)
{
    c.place = meeting_open(id);
    if (!c.place) return ncclSystemError;
    member &me = c.place->members[c.rank];
    if (me.presence != ABSENT) emu::misuse("rank %d of a communicator was made twice", c.rank);
    char address[32] = "";
    unsigned bus = 0;
    if (cudaGetDevice(&c.device) != cudaSuccess) return ncclUnhandledCudaError;
    if (cudaMalloc(&c.memory, own_memory()) != cudaSuccess)
        fail(c, ncclUnhandledCudaError, "Failed to CUDA malloc %zu bytes", own_memory());
    cudaDeviceGetPCIBusId(address, sizeof address, c.device);
    sscanf(address, "%*x:%x", &bus);
    me.pid = getpid();
    me.version = version();
    me.gpu = (int)bus;
    me.presence = PRESENT;
    if (++c.place->n_present == c.n_ranks) shm_unlink(meeting_name(id).c_str());
    return ncclSuccess;
}

void leave(const shared_comm &c, presence how)
{
    int device;
    if (cudaGetDevice(&device) != cudaSuccess) return; /* the device is lost */
    c->place->members[c->rank].presence = how;
    while (c->met && others_are_here(*c)) give_way();
    forget(c);
}

} // namespace emu::nccl
