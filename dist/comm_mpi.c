/* The process group over MPI, with host buffers. */
#define _POSIX_C_SOURCE 200809L
#include "dist/comm_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include <mpi.h>

typedef struct mpi_group {
    MPI_Comm world, local;
    MPI_Request *requests; /* of one exchange; grows, so that a step in the middle of a run allocates nothing */
    size_t capacity;
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

#define VG_MPI(call)                                                   \
    do {                                                               \
        const int vg_mpi_ = (call);                                    \
        if (vg_mpi_ != MPI_SUCCESS) return mpi_failed(#call, vg_mpi_); \
    } while (0)

static vg_status mpi_barrier(vg_comm *comm)
{
    VG_MPI(MPI_Barrier(mpi_of(comm)->world));
    return VG_OK;
}

static vg_status mpi_broadcast(vg_comm *comm, void *data, size_t bytes, int root)
{
    VG_MPI(MPI_Bcast(data, (int)bytes, MPI_BYTE, root, mpi_of(comm)->world));
    return VG_OK;
}

static vg_status mpi_reduce_i64(vg_comm *comm, int64_t *x, int n, bool largest)
{
    VG_MPI(MPI_Allreduce(MPI_IN_PLACE, x, n, MPI_INT64_T, largest ? MPI_MAX : MPI_SUM, mpi_of(comm)->world));
    return VG_OK;
}

static vg_status mpi_gather(vg_comm *comm, const void *mine, size_t bytes, void *all, bool everywhere)
{
    VG_CHECK(bytes <= VG_MESSAGE_BYTES, VG_E_COMM, "%zu bytes a rank to gather, more than 1 GiB", bytes);
    const int n = (int)bytes;
    const MPI_Comm world = mpi_of(comm)->world;
    if (everywhere)
        VG_MPI(MPI_Allgather(mine, n, MPI_BYTE, all, n, MPI_BYTE, world));
    else
        VG_MPI(MPI_Gather(mine, n, MPI_BYTE, all, n, MPI_BYTE, 0, world));
    return VG_OK;
}

static vg_status mpi_exchange(vg_comm *comm, const vg_message *sends, int n_sends, const vg_message *recvs, int n_recvs)
{
    mpi_group *g = mpi_of(comm);
    VG_TRY(vg_grow(&g->requests, &g->capacity, (size_t)n_sends + (size_t)n_recvs, sizeof *g->requests));
    MPI_Request *request = g->requests;
    for (int i = 0; i < n_recvs; i++) /* places first, so that what comes in need not wait */
        VG_MPI(MPI_Irecv(recvs[i].data, (int)recvs[i].bytes, MPI_BYTE, recvs[i].peer, 0, g->world, request++));
    for (int i = 0; i < n_sends; i++)
        VG_MPI(MPI_Isend(sends[i].data, (int)sends[i].bytes, MPI_BYTE, sends[i].peer, 0, g->world, request++));
    VG_MPI(MPI_Waitall(n_sends + n_recvs, g->requests, MPI_STATUSES_IGNORE));
    return VG_OK;
}

/* ---- the shared window ---- */

/* Where Open MPI puts windows; it does not ask itself whether they fit, and a page too many is a SIGBUS. */
static const char *window_folder(void)
{
    const char *set = getenv("OMPI_MCA_osc_sm_backing_directory");
    return set && *set ? set : "/dev/shm";
}

static vg_status window_fits(vg_comm *comm, size_t bytes, bool *fits)
{
    enum { SPARE = 16 << 20, PAGE = 4096 }; /* MPI's own segments live there too */
    uint64_t all = vg_round_up(bytes, PAGE);
    VG_MPI(MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_UINT64_T, MPI_SUM, mpi_of(comm)->local));
    const uint64_t need = all + SPARE;
    struct statvfs room;
    const char *folder = window_folder();
    const bool known = statvfs(folder, &room) == 0;
    const uint64_t free_bytes = known ? (uint64_t)room.f_bavail * room.f_frsize : 0;
    int64_t lacks = comm->local_size > 1 && free_bytes < need;
    if (lacks && comm->local_rank == 0)
        vg_log_rank("%s has %llu MiB free, the shared gradient window needs %llu MiB: summing by messages instead, "
                    "which is slower; enlarge it (docker: --shm-size, Kubernetes: an emptyDir of medium Memory)",
                    folder, (unsigned long long)(free_bytes >> 20), (unsigned long long)(need >> 20));
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
    VG_MPI(MPI_Win_sync(*win));
    VG_MPI(MPI_Barrier(mpi_of(comm)->local));
    VG_MPI(MPI_Win_sync(*win));
    return VG_OK;
}

/* ---- opening and closing ---- */

static vg_status mpi_close(vg_comm *comm)
{
    mpi_group *g = mpi_of(comm);
    free(g->requests);
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
    int place;
    VG_MPI(MPI_Comm_split_type(g->world, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &host));
    VG_MPI(MPI_Comm_rank(host, &place));
    VG_MPI(MPI_Comm_split(host, place / most, place, &g->local));
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
    VG_MPI(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level));
    VG_CHECK(level >= MPI_THREAD_FUNNELED, VG_E_COMM,
             "this MPI does not allow threads beside it (FUNNELED); use a build that does");
    mpi_group *g = mpi_of(comm);
    VG_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN)); /* inherited by those made from it */
    VG_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &g->world));
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
        .exchange = mpi_exchange,
        .share = mpi_share,
        .unshare = mpi_unshare,
        .fence = mpi_fence,
        .abort = mpi_abort,
    };
    comm->ops = &ops;
    comm->backend = vg_new0(sizeof(mpi_group));
    VG_CHECK(comm->backend, VG_E_NOMEM, "no memory for a process group");
    const vg_status st = mpi_start(comm);
    if (st != VG_OK) free(comm->backend);
    return st;
}
