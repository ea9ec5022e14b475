/* The process group over MPI, with host buffers. */
#define _POSIX_C_SOURCE 200809L
#include "dist/comm_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include <mpi.h>

/* Of one exchange; grows, so that a step in the middle of a run allocates nothing. */
typedef struct pending {
    MPI_Request *items;
    size_t capacity;
    int n; /* under way */
} pending;

typedef struct mpi_group {
    MPI_Comm world, local;
    MPI_Comm alarm; /* for what a rank tells without being asked */
    pending exchanges[VG_EXCHANGES];
} mpi_group;

static mpi_group *mpi_of(const vg_comm *comm)
{
    return comm->backend;
}

static vg_status mpi_failed(const char *call, int code)
{
    char why[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;
    MPI_Error_string(code, why, &length);
    return vg_fail(VG_E_COMM, "%.*s: %s; a peer or the network is gone, start again from the last checkpoint",
                   (int)strcspn(call, "("), call, why);
}

/* While the group is made, and where its ranks agree on how it went. */
#define VG_MPI(call)                                                   \
    do {                                                               \
        const int vg_mpi_ = (call);                                    \
        if (vg_mpi_ != MPI_SUCCESS) return mpi_failed(#call, vg_mpi_); \
    } while (0)

/* What the others may be waiting for did not happen: no call that follows would come to its end. */
static vg_status group_failed(vg_comm *comm, const char *call, int code)
{
    vg_comm_break(comm, -1);
    return mpi_failed(call, code);
}

/* Everywhere else. */
#define VG_MPI_OF(comm, call)                                                    \
    do {                                                                         \
        const int vg_mpi_ = (call);                                              \
        if (vg_mpi_ != MPI_SUCCESS) return group_failed((comm), #call, vg_mpi_); \
    } while (0)

/* ---- waiting for the others ---- */

/* MPI gets on only while it is called, so a wait asks again and again. */
static void nap(void)
{
    const struct timespec moment = {.tv_nsec = 100 * 1000};
    nanosleep(&moment, NULL);
}

/* Until the requests are through. Meanwhile a rank that left is heard of, and the deadline is kept. */
static vg_status finish(vg_comm *comm, int n, MPI_Request *requests)
{
    enum { NAP_EVERY = 8, LOOK_EVERY = 1024 };
    vg_patience patience = vg_patience_of(comm->deadline_s);
    for (int tests = 1;; tests++) {
        int done;
        VG_MPI_OF(comm, MPI_Testall(n, requests, &done, MPI_STATUSES_IGNORE));
        if (done) return VG_OK;
        if (tests % NAP_EVERY == 0 && atomic_load(&comm->naps)) nap();
        if (vg_patience_ends(&patience)) return vg_comm_too_late(comm, "the other ranks", patience.limit_s);
        if (tests % LOOK_EVERY == 0) VG_TRY(vg_comm_look(comm));
    }
}

/* A call that fills `request`, and its end. */
#define VG_MPI_FINISH(comm, call)            \
    do {                                     \
        MPI_Request request;                 \
        VG_MPI_OF(comm, call);               \
        VG_TRY(finish((comm), 1, &request)); \
    } while (0)

static vg_status mpi_barrier(vg_comm *comm)
{
    VG_MPI_FINISH(comm, MPI_Ibarrier(mpi_of(comm)->world, &request));
    return VG_OK;
}

static vg_status mpi_broadcast(vg_comm *comm, void *data, size_t bytes, int root)
{
    VG_MPI_FINISH(comm, MPI_Ibcast(data, (int)bytes, MPI_BYTE, root, mpi_of(comm)->world, &request));
    return VG_OK;
}

static vg_status mpi_reduce_i64(vg_comm *comm, int64_t *x, int n, bool largest)
{
    VG_MPI_FINISH(comm, MPI_Iallreduce(MPI_IN_PLACE, x, n, MPI_INT64_T, largest ? MPI_MAX : MPI_SUM,
                                       mpi_of(comm)->world, &request));
    return VG_OK;
}

static vg_status mpi_gather(vg_comm *comm, const void *mine, size_t bytes, void *all, bool everywhere)
{
    VG_CHECK(bytes <= VG_MESSAGE_BYTES, VG_E_COMM, "%zu bytes a rank to gather, more than 1 GiB", bytes);
    const int n = (int)bytes;
    const MPI_Comm world = mpi_of(comm)->world;
    if (everywhere)
        VG_MPI_FINISH(comm, MPI_Iallgather(mine, n, MPI_BYTE, all, n, MPI_BYTE, world, &request));
    else
        VG_MPI_FINISH(comm, MPI_Igather(mine, n, MPI_BYTE, all, n, MPI_BYTE, 0, world, &request));
    return VG_OK;
}

static vg_status mpi_begin(vg_comm *comm, int exchange, const vg_message *sends, int n_sends, const vg_message *recvs,
                           int n_recvs)
{
    mpi_group *g = mpi_of(comm);
    pending *r = &g->exchanges[exchange];
    VG_TRY(vg_grow(&r->items, &r->capacity, (size_t)n_sends + (size_t)n_recvs, sizeof *r->items));
    MPI_Request *request = r->items;
    for (int i = 0; i < n_recvs; i++) /* places first, so that what comes in need not wait */
        VG_MPI_OF(comm, MPI_Irecv(recvs[i].data, (int)recvs[i].bytes, MPI_BYTE, recvs[i].peer, exchange, g->world,
                                  request++));
    for (int i = 0; i < n_sends; i++)
        VG_MPI_OF(comm, MPI_Isend(sends[i].data, (int)sends[i].bytes, MPI_BYTE, sends[i].peer, exchange, g->world,
                                  request++));
    r->n = n_sends + n_recvs;
    return VG_OK;
}

static vg_status mpi_end(vg_comm *comm, int exchange)
{
    pending *r = &mpi_of(comm)->exchanges[exchange];
    const int n = r->n;
    r->n = 0;
    return finish(comm, n, r->items);
}

/* ---- without the others' consent ---- */

/* The message is small enough to leave without a receiver; a peer that is gone is not waited for. */
static void mpi_tell(vg_comm *comm, const vg_verdict *verdict)
{
    enum { MOST_S = 1 };
    const double ends_s = vg_now_s() + MOST_S;
    for (int peer = 0; peer < comm->size; peer++) {
        MPI_Request request;
        int sent = peer == comm->rank ||
                   MPI_Isend(verdict, sizeof *verdict, MPI_BYTE, peer, 0, mpi_of(comm)->alarm, &request) != MPI_SUCCESS;
        while (!sent && vg_now_s() < ends_s)
            if (MPI_Test(&request, &sent, MPI_STATUS_IGNORE) != MPI_SUCCESS) break;
    }
}

static bool mpi_hear(vg_comm *comm, vg_verdict *verdict)
{
    const MPI_Comm alarm = mpi_of(comm)->alarm;
    MPI_Status status;
    int there = 0;
    if (MPI_Iprobe(MPI_ANY_SOURCE, 0, alarm, &there, &status) != MPI_SUCCESS || !there) return false;
    return MPI_Recv(verdict, sizeof *verdict, MPI_BYTE, status.MPI_SOURCE, 0, alarm, MPI_STATUS_IGNORE) == MPI_SUCCESS;
}

/* ---- the shared window ---- */

/* Open MPI does not ask itself whether windows fit, and a page too many is a SIGBUS. */
uint64_t vg_comm_shared_room(const char **folder)
{
    const uint64_t spare = 16 << 20; /* MPI's own segments live there too */
    const char *set = getenv("OMPI_MCA_osc_sm_backing_directory");
    struct statvfs room;
    *folder = set && *set ? set : "/dev/shm";
    const uint64_t free_bytes = statvfs(*folder, &room) == 0 ? (uint64_t)room.f_bavail * room.f_frsize : 0;
    return free_bytes > spare ? free_bytes - spare : 0;
}

static vg_status window_fits(vg_comm *comm, size_t bytes, bool *fits)
{
    enum { PAGE = 4096 };
    const char *folder;
    const uint64_t room = vg_comm_shared_room(&folder);
    uint64_t all = vg_round_up(bytes, PAGE);
    VG_MPI_OF(comm, MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_UINT64_T, MPI_SUM, mpi_of(comm)->local));
    int64_t lacks = comm->local_size > 1 && room < all;
    if (lacks && comm->local_rank == 0)
        vg_log_rank("%s has room for %llu MiB, the shared gradient window needs %llu MiB: summing by messages instead, "
                    "which is slower; enlarge it (docker: --shm-size, Kubernetes: an emptyDir of medium Memory)",
                    folder, (unsigned long long)(room >> 20), (unsigned long long)(all >> 20) + 1);
    VG_TRY(mpi_reduce_i64(comm, &lacks, 1, true));
    *fits = !lacks;
    return VG_OK;
}

static vg_status window_map(vg_comm *comm, size_t bytes, MPI_Win *win, unsigned char **of)
{
    MPI_Info info;
    void *mine;
    VG_MPI(MPI_Info_create(&info));
    /* A piece of its own per rank: page-aligned, and in the memory of the socket that touches it first. */
    VG_MPI(MPI_Info_set(info, "alloc_shared_noncontig", "true"));
    VG_MPI(MPI_Win_allocate_shared((MPI_Aint)bytes, 1, info, mpi_of(comm)->local, &mine, win));
    VG_MPI(MPI_Info_free(&info));
    VG_MPI(MPI_Win_lock_all(MPI_MODE_NOCHECK, *win));
    for (int i = 0; i < comm->local_size; i++) {
        MPI_Aint size;
        int unit;
        VG_MPI(MPI_Win_shared_query(*win, i, &size, &unit, &of[i]));
    }
    return VG_OK;
}

static vg_status mpi_share(vg_comm *comm, size_t bytes, vg_window *window)
{
    bool fits = false;
    *window = (vg_window){0};
    VG_TRY(window_fits(comm, bytes, &fits));
    if (!fits) return VG_OK;
    MPI_Win *win = vg_new0(sizeof *win);
    unsigned char **of = vg_new0_array((size_t)comm->local_size, sizeof *of);
    vg_status st = win && of ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for a shared window");
    st = vg_comm_agree(comm, st);
    if (st == VG_OK) st = vg_comm_agree(comm, window_map(comm, bytes, win, of));
    if (st != VG_OK) { /* a window that half the ranks have cannot be freed together */
        free(of);
        free(win);
        return st;
    }
    *window = (vg_window){.of = of, .handle = win};
    return VG_OK;
}

static vg_status mpi_unshare(vg_comm *comm, vg_window *window)
{
    (void)comm;
    MPI_Win *win = window->handle;
    if (!win) return VG_OK;
    const int unlocked = MPI_Win_unlock_all(*win), freed = MPI_Win_free(win);
    free(window->of);
    free(win);
    *window = (vg_window){0};
    if (unlocked != MPI_SUCCESS) return mpi_failed("MPI_Win_unlock_all", unlocked);
    return freed == MPI_SUCCESS ? VG_OK : mpi_failed("MPI_Win_free", freed);
}

static vg_status mpi_fence(vg_comm *comm, vg_window *window)
{
    MPI_Win *win = window->handle;
    if (!win) return VG_OK;
    VG_MPI_OF(comm, MPI_Win_sync(*win));
    VG_MPI_FINISH(comm, MPI_Ibarrier(mpi_of(comm)->local, &request));
    VG_MPI_OF(comm, MPI_Win_sync(*win));
    return VG_OK;
}

/* ---- opening and closing ---- */

static vg_status mpi_close(vg_comm *comm)
{
    mpi_group *g = mpi_of(comm);
    for (int i = 0; i < VG_EXCHANGES; i++) free(g->exchanges[i].items);
    MPI_Comm_free(&g->alarm);
    int code = MPI_Comm_free(&g->local);
    const int world = MPI_Comm_free(&g->world), final = MPI_Finalize();
    free(g);
    if (code == MPI_SUCCESS) code = world == MPI_SUCCESS ? final : world;
    return code == MPI_SUCCESS ? VG_OK : mpi_failed("MPI_Finalize", code);
}

static void mpi_abort(vg_comm *comm, int exit_code)
{
    MPI_Abort(mpi_of(comm)->world, exit_code);
}

void vg_comm_library(vg_library *out)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0, release[3] = {0};
    *out = (vg_library){.what = "mpi"};
    snprintf(out->built, sizeof out->built, "Open MPI %d.%d.%d", OMPI_MAJOR_VERSION, OMPI_MINOR_VERSION,
             OMPI_RELEASE_VERSION);
    MPI_Get_library_version(text, &length);
    if (sscanf(text, "Open MPI v%d.%d.%d", &release[0], &release[1], &release[2]) == 3)
        snprintf(out->running, sizeof out->running, "Open MPI %d.%d.%d", release[0], release[1], release[2]);
    else
        snprintf(out->running, sizeof out->running, "%.*s", (int)strcspn(text, ",\n"), text);
    out->fits = strcmp(out->built, out->running) == 0;
}

/* How many neighbours may share memory. */
static vg_status window_ranks(int *most)
{
    const char *text = getenv("VLGTR_WINDOW_RANKS");
    *most = 1 << 20;
    if (!text || !*text) return VG_OK;
    char *end;
    errno = 0;
    const long n = strtol(text, &end, 10);
    VG_CHECK(!errno && !*end && n >= 1 && n <= *most, VG_E_CONFIG,
             "VLGTR_WINDOW_RANKS=%s: a number of ranks, 1 or more, is wanted", text);
    *most = (int)n;
    return VG_OK;
}

/* The local group: ranks of one host, in rank order, at most `most` together. */
static vg_status split_local(vg_comm *comm, int most)
{
    mpi_group *g = mpi_of(comm);
    MPI_Comm host;
    VG_MPI(MPI_Comm_split_type(g->world, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &host));
    VG_MPI(MPI_Comm_rank(host, &comm->place));
    VG_MPI(MPI_Comm_split(host, comm->place / most, comm->place, &g->local));
    VG_MPI(MPI_Comm_free(&host));
    VG_MPI(MPI_Comm_rank(g->local, &comm->local_rank));
    VG_MPI(MPI_Comm_size(g->local, &comm->local_size));
    comm->leader = comm->rank;
    VG_MPI(MPI_Bcast(&comm->leader, 1, MPI_INT, 0, g->local));
    return VG_OK;
}

static vg_status mpi_start(vg_comm *comm)
{
    int most, begun, level;
    VG_TRY(window_ranks(&most));
    VG_MPI(MPI_Initialized(&begun));
    VG_CHECK(!begun, VG_E_BUG, "the process group was opened twice");
    VG_MPI(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level));
    VG_CHECK(level >= MPI_THREAD_SERIALIZED, VG_E_COMM,
             "this MPI does not allow calls of several threads in turn (SERIALIZED); use a build that does");
    mpi_group *g = mpi_of(comm);
    VG_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN)); /* inherited by those made from it */
    VG_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &g->world));
    VG_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &g->alarm));
    VG_MPI(MPI_Comm_rank(g->world, &comm->rank));
    VG_MPI(MPI_Comm_size(g->world, &comm->size));
    return split_local(comm, most);
}

vg_status vg_comm_mpi_open(vg_comm *comm)
{
    static const vg_comm_ops ops = {
        .close = mpi_close,
        .barrier = mpi_barrier,
        .broadcast = mpi_broadcast,
        .reduce_i64 = mpi_reduce_i64,
        .gather = mpi_gather,
        .begin = mpi_begin,
        .end = mpi_end,
        .share = mpi_share,
        .unshare = mpi_unshare,
        .fence = mpi_fence,
        .abort = mpi_abort,
        .tell = mpi_tell,
        .hear = mpi_hear,
    };
    comm->ops = &ops;
    comm->backend = vg_new0(sizeof(mpi_group));
    VG_CHECK(comm->backend, VG_E_NOMEM, "no memory for a process group");
    const vg_status st = mpi_start(comm);
    if (st != VG_OK) free(comm->backend);
    return st;
}
