/* The process group, built on the rows of an implementation. */
#define _POSIX_C_SOURCE 200809L /* gethostname */
#include "dist/comm_impl.h"
#include "dist/health_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool launched(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMI_RANK") || getenv("PMIX_RANK");
}

/* How many processes a launcher started that is not this MPI's own: srun, or the mpiexec of another MPI. NULL: none. */
static const char *started_elsewhere(void)
{
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS");
    return getenv("OMPI_COMM_WORLD_SIZE") ? NULL : tasks ? tasks : getenv("PMI_SIZE");
}

/* Where the launcher's MPI is not this one each process is a run of one rank, and all are in one folder. */
static vg_status check_alone(const vg_comm *comm, const char *started)
{
    VG_CHECK(comm->size > 1 || !started || strcmp(started, "1") == 0, VG_E_CONFIG,
             "%s processes were started that do not know of each other; start them with srun --mpi=pmix, or with the "
             "mpirun of the MPI that this program was built with",
             started);
    return VG_OK;
}

static vg_status open_group(vg_comm *comm)
{
    const char *started = started_elsewhere(); /* MPI adds to the environment */
    if (gethostname(comm->host, sizeof comm->host - 1) != 0) strcpy(comm->host, "unknown");
    VG_TRY(launched() ? vg_comm_mpi_open(comm) : vg_comm_self_open(comm));
    const vg_status st = check_alone(comm, started);
    if (st != VG_OK) (void)comm->ops->close(comm);
    return st;
}

vg_status vg_comm_open(vg_comm **out)
{
    vg_comm *comm = vg_new0(sizeof *comm);
    VG_CHECK(comm, VG_E_NOMEM, "no memory for a process group");
    const vg_status st = open_group(comm);
    if (st != VG_OK) {
        free(comm);
        return st;
    }
    vg_log_identify(comm->rank, comm->size, comm->host);
    *out = comm;
    return VG_OK;
}

vg_status vg_comm_close(vg_comm *comm)
{
    if (!comm) return VG_OK;
    vg_health_leave(comm);
    const vg_status st = comm->ops->close(comm);
    free(comm->scratch);
    free(comm);
    return st;
}

int vg_comm_rank(const vg_comm *comm)
{
    return comm->rank;
}

int vg_comm_size(const vg_comm *comm)
{
    return comm->size;
}

int vg_comm_place(const vg_comm *comm)
{
    return comm->place;
}

int vg_comm_local_rank(const vg_comm *comm)
{
    return comm->local_rank;
}

int vg_comm_local_size(const vg_comm *comm)
{
    return comm->local_size;
}

const char *vg_comm_host(const vg_comm *comm)
{
    return comm->host;
}

void vg_slice_of(int64_t n, int64_t unit, int n_ranks, int rank, int64_t *first, int64_t *count)
{
    const int64_t blocks = n / unit + (n % unit != 0);
    const int64_t each = blocks / n_ranks, more = blocks % n_ranks; /* the first `more` ranks have one more */
    const int64_t begin = each * rank + (rank < more ? rank : more);
    const int64_t end = begin + each + (rank < more);
    *first = begin * unit < n ? begin * unit : n;
    *count = (end * unit < n ? end * unit : n) - *first;
}

/* ---- agreement ---- */

/* How bad, then whose: the largest of these over all ranks is the worst status of the lowest rank that has it. */
static int64_t agree_key(const vg_comm *comm, vg_status status)
{
    const int64_t bad = status == VG_OK ? 0 : status == VG_E_STOPPED ? 1 : 2;
    return bad << 32 | (comm->size - 1 - comm->rank);
}

vg_verdict vg_comm_verdict(const vg_comm *comm, vg_status status)
{
    vg_verdict v = {.status = (int)status};
    const char *text = vg_error_text();
    if (strncmp(text, "rank ", 5) == 0)
        snprintf(v.text, sizeof v.text, "%s", text);
    else
        snprintf(v.text, sizeof v.text, "rank %d on %s: %s", comm->rank, comm->host, text);
    return v;
}

vg_status vg_comm_agree(vg_comm *comm, vg_status status)
{
    if (comm->size == 1 || (vg_comm_broken(comm) && status != VG_OK)) return status;
    int64_t key = agree_key(comm, status);
    const vg_verdict own = status == VG_OK ? (vg_verdict){0} : vg_comm_verdict(comm, status);
    vg_verdict v = own;
    vg_status st = comm->ops->reduce_i64(comm, &key, 1, true);
    if (st == VG_OK && key >> 32 == 0) return VG_OK;
    if (st == VG_OK) st = comm->ops->broadcast(comm, &v, sizeof v, comm->size - 1 - (int)(key & 0xffffffff));
    if (st != VG_OK && (status == VG_OK || status == VG_E_STOPPED)) return st;
    if (st != VG_OK) return vg_fail(VG_E_COMM, "%s", own.text); /* the better reason: the group failed after it */
    return vg_fail((vg_status)v.status, "%s", v.text);
}

vg_status vg_comm_same(vg_comm *comm, const void *data, size_t bytes, const char *what)
{
    int64_t size = (int64_t)bytes;
    VG_TRY(vg_comm_broadcast(comm, &size, sizeof size, 0));
    void *theirs = vg_new0((size_t)size);
    vg_status st = theirs ? VG_OK : vg_fail(VG_E_NOMEM, "no memory to compare %s", what);
    st = vg_comm_agree(comm, st);
    if (st == VG_OK && comm->rank == 0 && bytes) memcpy(theirs, data, bytes);
    if (st == VG_OK) st = vg_comm_broadcast(comm, theirs, (size_t)size, 0);
    if (st == VG_OK && ((size_t)size != bytes || memcmp(theirs, data, bytes) != 0))
        st = vg_fail(
            VG_E_COMM,
            "%s differs from that of rank 0; all ranks need the same build, configuration and data, on like machines",
            what);
    free(theirs);
    return vg_comm_agree(comm, st);
}

/* ---- data ---- */

vg_status vg_comm_broadcast(vg_comm *comm, void *data, size_t bytes, int root)
{
    unsigned char *at = data;
    for (size_t done = 0; done < bytes;) {
        const size_t n = bytes - done < VG_MESSAGE_BYTES ? bytes - done : VG_MESSAGE_BYTES;
        VG_TRY(comm->ops->broadcast(comm, at + done, n, root));
        done += n;
    }
    return VG_OK;
}

vg_status vg_comm_broadcast_text(vg_comm *comm, char **text, int root)
{
    int64_t length = comm->rank == root && *text ? (int64_t)strlen(*text) : -1;
    VG_TRY(vg_comm_broadcast(comm, &length, sizeof length, root));
    if (length < 0) return VG_OK;
    char *copy = comm->rank == root ? *text : vg_new0((size_t)length + 1);
    vg_status st = copy ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for a text of %lld bytes", (long long)length);
    st = vg_comm_agree(comm, st);
    if (st == VG_OK) st = vg_comm_broadcast(comm, copy, (size_t)length, root);
    if (st == VG_OK)
        *text = copy;
    else if (comm->rank != root)
        free(copy);
    return st;
}

vg_status vg_comm_sum_i64(vg_comm *comm, int64_t *x, int n)
{
    return comm->ops->reduce_i64(comm, x, n, false);
}

vg_status vg_comm_max_i64(vg_comm *comm, int64_t *x, int n)
{
    return comm->ops->reduce_i64(comm, x, n, true);
}

vg_status vg_comm_gather(vg_comm *comm, const void *mine, size_t bytes, void *all)
{
    return comm->ops->gather(comm, mine, bytes, all, false);
}

vg_status vg_comm_allgather(vg_comm *comm, const void *mine, size_t bytes, void *all)
{
    return comm->ops->gather(comm, mine, bytes, all, true);
}

vg_status vg_comm_barrier(vg_comm *comm)
{
    return comm->ops->barrier(comm);
}

/* Where the text of each rank begins in the joined one; [size + 1]. Only rank 0 has lengths. */
static vg_status text_places(const vg_comm *comm, const int64_t *lengths, size_t *places)
{
    places[0] = 0;
    for (int r = 0; r < comm->size; r++) {
        VG_CHECK(lengths[r] <= VG_MESSAGE_BYTES, VG_E_COMM, "rank %d has a text of %lld bytes, more than 1 GiB", r,
                 (long long)lengths[r]);
        places[r + 1] = places[r] + (size_t)lengths[r];
    }
    return VG_OK;
}

vg_status vg_comm_exchange(vg_comm *comm, const vg_message *sends, int n_sends, const vg_message *recvs, int n_recvs)
{
    VG_TRY(comm->ops->begin(comm, 0, sends, n_sends, recvs, n_recvs));
    return comm->ops->end(comm, 0);
}

static vg_status gather_to_root(vg_comm *comm, const void *mine, size_t bytes, const size_t *places, char *joined)
{
    if (comm->rank != 0) {
        const vg_message send = {.peer = 0, .data = (void *)(uintptr_t)mine, .bytes = bytes};
        return vg_comm_exchange(comm, &send, bytes > 0, NULL, 0);
    }
    if (bytes) memcpy(joined, mine, bytes);
    for (int r = 1; r < comm->size; r++) {
        const vg_message recv = {.peer = r, .data = joined + places[r], .bytes = places[r + 1] - places[r]};
        VG_TRY(vg_comm_exchange(comm, NULL, 0, &recv, recv.bytes > 0));
    }
    return VG_OK;
}

vg_status vg_comm_gather_text(vg_comm *comm, const void *mine, size_t bytes, char **all, size_t *all_bytes)
{
    const bool root = comm->rank == 0;
    const int64_t length = (int64_t)bytes;
    const size_t n = root ? (size_t)comm->size + 1 : 0;
    int64_t *lengths = vg_new0_array(n, sizeof *lengths);
    size_t *places = vg_new0_array(n, sizeof *places);
    char *joined = NULL;
    vg_status st = lengths && places ? VG_OK : vg_fail(VG_E_NOMEM, "no memory to gather texts");
    st = vg_comm_agree(comm, st);
    if (st == VG_OK) st = vg_comm_gather(comm, &length, sizeof length, lengths);
    if (st == VG_OK) {
        if (root) st = text_places(comm, lengths, places);
        if (root && st == VG_OK && !(joined = vg_new0(places[comm->size] + 1)))
            st = vg_fail(VG_E_NOMEM, "no memory for %zu bytes of gathered texts", places[comm->size]);
        st = vg_comm_agree(comm, st);
    }
    if (st == VG_OK) st = gather_to_root(comm, mine, bytes, places, joined);
    const size_t total = root && st == VG_OK ? places[comm->size] : 0;
    free(lengths);
    free(places);
    if (st != VG_OK) {
        free(joined);
        return st;
    }
    *all = joined;
    *all_bytes = total;
    return VG_OK;
}

void vg_comm_abort(vg_comm *comm, int exit_code)
{
    vg_health_leave(comm);
    comm->ops->abort(comm, exit_code);
    _Exit(exit_code);
}
