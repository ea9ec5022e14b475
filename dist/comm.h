/* The process group: who we are, and the few collectives that a training run needs. The implementation is chosen at
 * vg_comm_open: MPI when a launcher started this process, otherwise a group of one that needs no MPI at run time.
 *
 *     vg_comm *comm; VG_TRY(vg_comm_open(&comm));
 *     vg_status st = work_of_this_rank_alone();
 *     VG_TRY(vg_comm_agree(comm, st));              all ranks leave together, with the same sentence
 *     VG_TRY(vg_comm_sum_i64(comm, counts, 2));
 *     VG_TRY(vg_comm_close(comm));
 *
 * `Collective` means: made by all ranks, in the same order, or the job hangs. `Local` calls never wait. Calls come
 * from one thread at a time. Buffers are host memory, borrowed for the call.
 *
 * A peer that dies: mpirun ends the whole job about two seconds after a rank died; srun does so only with
 * --kill-on-bad-exit=1 (-K1). A peer that fails where the others do not listen tells them (vg_comm_leave). One that
 * stands still, or a host that is cut off, is noticed by the watch (dist/health.h) and at the deadline where there is
 * one (vg_comm_set_deadline); without both by mpirun's own keep-alive, eight minutes later by default (see jobs/). */
#ifndef VG_DIST_COMM_H
#define VG_DIST_COMM_H

#include "kernels/base/base.h"

typedef struct vg_comm vg_comm;

/* Collective. Opens the group: MPI (thread level SERIALIZED, errors are returned) where OMPI_COMM_WORLD_SIZE, PMI_RANK
 * or PMIX_RANK is set, else a group of one. Tells the log who speaks (vg_log_identify). Once per process.
 * VLGTR_WINDOW_RANKS=n lets at most n neighbouring ranks of a host share memory; the others count as on another host
 * (1: none share). Errors: VG_E_COMM, VG_E_CONFIG (that variable; several processes of a launcher that is not of this
 * MPI), VG_E_NOMEM. */
vg_status vg_comm_open(vg_comm **out);

/* Finalizes and frees; makes no barrier of its own. NULL is fine. Errors: VG_E_COMM; the group is gone all the same. */
vg_status vg_comm_close(vg_comm *comm);

/* Local. The host name is cut at 63 bytes; local ranks are those that share memory, counted in rank order; the place is
 * that among all ranks of the host. */
int vg_comm_rank(const vg_comm *comm);
int vg_comm_size(const vg_comm *comm);
int vg_comm_place(const vg_comm *comm);
int vg_comm_local_rank(const vg_comm *comm);
int vg_comm_local_size(const vg_comm *comm);
const char *vg_comm_host(const vg_comm *comm);

/* Local. The message-passing library. */
void vg_comm_library(vg_library *out);

/* Local. Bytes that ranks of this host may share, and the folder whose file system has them. */
uint64_t vg_comm_shared_room(const char **folder);

/* Local. Rank's part of n floats: whole blocks of `unit`, as even as they go, in rank order; the last block may be
 * short. The ZeRO boundary and the checkpoint's pieces. */
void vg_slice_of(int64_t n, int64_t unit, int n_ranks, int rank, int64_t *first, int64_t *count);

/* Collective. Returns the same status everywhere: VG_OK when all came with VG_OK, else the worst (any failure is worse
 * than VG_E_STOPPED), of the lowest rank that has it. With more than one rank its sentence becomes everyone's, as
 * `rank 3 on node7: ...`. Where the group itself fails: VG_E_COMM, with this rank's own sentence if it had failed
 * before. One small all-reduce when all is well. */
vg_status vg_comm_agree(vg_comm *comm, vg_status status);

/* Collective. data[bytes] of root, everywhere. bytes is the same on all ranks. */
vg_status vg_comm_broadcast(vg_comm *comm, void *data, size_t bytes, int root);

/* Collective. A heap string of root, everywhere; NULL stays NULL. The ranks other than root come with *text == NULL and
 * free what they get. Errors: VG_E_COMM, VG_E_NOMEM. */
vg_status vg_comm_broadcast_text(vg_comm *comm, char **text, int root);

/* Collective. x[n] becomes the sum or the largest over all ranks, element by element. */
vg_status vg_comm_sum_i64(vg_comm *comm, int64_t *x, int n);
vg_status vg_comm_max_i64(vg_comm *comm, int64_t *x, int n);

/* Collective. `bytes` of each rank, in rank order: at rank 0, or everywhere. `all` [size, bytes] is touched only where
 * the result goes. */
vg_status vg_comm_gather(vg_comm *comm, const void *mine, size_t bytes, void *all);
vg_status vg_comm_allgather(vg_comm *comm, const void *mine, size_t bytes, void *all);

/* Collective. As vg_comm_gather, each rank with a length of its own: rank 0 gets the joined bytes in heap memory with a
 * NUL behind (not counted); the others get NULL and 0. Errors: VG_E_COMM, VG_E_NOMEM (on all ranks alike). */
vg_status vg_comm_gather_text(vg_comm *comm, const void *mine, size_t bytes, char **all, size_t *all_bytes);

/* Collective. Nobody leaves before everybody came. */
vg_status vg_comm_barrier(vg_comm *comm);

/* Collective. Compares data[bytes] (a numerics profile, a hash) with that of rank 0. Errors: VG_E_COMM, on all ranks,
 * naming `what`, which all need alike, and the first rank that differs. */
vg_status vg_comm_same(vg_comm *comm, const void *data, size_t bytes, const char *what);

/* Local. How long the collective calls that follow wait for the others; 0, as at first: for ever. Later they fail with
 * VG_E_COMM, and the group is broken. Time in which this process was suspended does not count. */
void vg_comm_set_deadline(vg_comm *comm, double seconds);

/* Local. Where `status` is a failure of this rank alone that the others do not expect, in a call or in what their
 * devices exchange: they are told, so that their calls fail with VG_E_COMM and this rank's sentence; the group is
 * broken, and this rank speaks. Returns status. A lone rank has nobody to tell, nor has one whose group is broken. */
vg_status vg_comm_leave(vg_comm *comm, vg_status status);

/* Local and quick, for those who wait for something else than a call here: VG_E_COMM, with its sentence, when another
 * rank has left in that way. The group is broken then. */
vg_status vg_comm_look(vg_comm *comm);

/* Local. The group lost a rank in the middle of something (`lost`, or -1 when it is not known): from here on collective
 * calls fail at once and leave the sentence of that failure alone, close gives back only what is ours, and the way out
 * is vg_comm_abort. All ranks find out at about the same time: the call returns when it is this one's turn to speak,
 * which it does not come to where one before it has ended the job. */
void vg_comm_break(vg_comm *comm, int lost);
bool vg_comm_broken(const vg_comm *comm);

/* Local. Whether this rank prints the job's error: rank 0, or one whose turn it is in a broken group. */
bool vg_comm_speaks(const vg_comm *comm);

/* Ends the job at once, without the others' consent, with this exit code. Does not return. */
_Noreturn void vg_comm_abort(vg_comm *comm, int exit_code);

#endif
