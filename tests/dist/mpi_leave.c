/* Rank 1 leaves without the others' consent, which wait for it. usage: mpi_leave HOW, one of
 *   an exit code, kill   the launcher ends the others
 *   told                 it fails, tells them, and stands still: they end by themselves, and say what it said
 *   stands               it stands still: they end at the deadline
 *   gather               it stands still between a sum and the gathering of what is made of its slices: likewise
 *   fails                a call of MPI fails there: it says so, ends, and does not wait for what cannot come
 *   suspended            all are stopped for longer than the deadline, and go on: nobody leaves */
#define _POSIX_C_SOURCE 200809L /* kill */
#include "dist/reduce.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <mpi.h>

static bool fails;

/* In the place of the library's own. */
int MPI_Testall(int n, MPI_Request *requests, int *done, MPI_Status *statuses)
{
    return fails ? MPI_ERR_OTHER : PMPI_Testall(n, requests, done, statuses);
}

/* As a scheduler does that wants the cores for another job. */
static void suspend(const int64_t *processes, int n)
{
    const struct timespec while_others_run = {.tv_sec = 3};
    if (fork() != 0) return;
    for (int i = 0; i < n; i++) kill((pid_t)processes[i], SIGSTOP);
    nanosleep(&while_others_run, NULL);
    for (int i = 0; i < n; i++) kill((pid_t)processes[i], SIGCONT);
    _exit(0);
}

static int suspended(vg_comm *comm)
{
    enum { MOST_RANKS = 8 };
    int64_t own = getpid(), all[MOST_RANKS];
    const struct timespec until_stopped = {.tv_nsec = 500 * 1000 * 1000};
    if (vg_comm_size(comm) > MOST_RANKS || vg_comm_allgather(comm, &own, sizeof own, all) != VG_OK) return 1;
    vg_comm_set_deadline(comm, 1);
    if (vg_comm_rank(comm) == 1) {
        suspend(all, vg_comm_size(comm));
        nanosleep(&until_stopped, NULL);
    }
    /* Past what a sanitizer does at the end: it would tell of what MPI's parts, by then unloaded, have kept. */
    if (vg_comm_barrier(comm) == VG_OK) _exit(vg_comm_close(comm) != VG_OK);
    fprintf(stderr, "mpi_leave: %s\n", vg_error_text());
    vg_comm_abort(comm, 1);
}

/* As a room does that meets a failure of its own. */
static _Noreturn void meet_failure(vg_comm *comm)
{
    fails = true;
    vg_status st = vg_comm_barrier(comm);
    fails = false;
    st = vg_comm_agree(comm, st);
    if (vg_comm_broken(comm)) fprintf(stderr, "mpi_leave: %s\n", vg_error_text());
    vg_comm_abort(comm, vg_exit_code(st));
}

static _Noreturn void leave(vg_comm *comm, const char *how)
{
    if (strcmp(how, "fails") == 0) meet_failure(comm);
    if (strcmp(how, "kill") == 0) kill(getpid(), SIGKILL);
    if (strcmp(how, "told") == 0) vg_comm_leave(comm, vg_fail(VG_E_DEVICE, "the GPU failed"));
    while (strcmp(how, "told") == 0 || strcmp(how, "stands") == 0) pause();
    vg_comm_abort(comm, atoi(how));
}

/* As a step does that updates weights by slices. */
static vg_status gather(vg_comm *comm)
{
    enum { N = 4 * 1024 };
    static float weights[N];
    static const int64_t end = N;
    const vg_sum_plan plan = {
        .n = N, .n_leaves = vg_comm_size(comm), .n_buckets = 1, .bucket_ends = &end, .sliced = true};
    vg_reducer *r = NULL;
    const float *total;
    VG_TRY(vg_reducer_new(comm, &plan, NULL, NULL, &r));
    vg_reducer_push(r, true);
    VG_TRY(vg_reducer_finish(r, &total));
    while (vg_comm_rank(comm) == 1) pause();
    vg_comm_set_deadline(comm, 1);
    return vg_reducer_gather(r, weights, 1024);
}

static vg_status wait_for_rank_1(vg_comm *comm, const char *how)
{
    if (strcmp(how, "gather") == 0) return gather(comm);
    vg_comm_set_deadline(comm, strcmp(how, "stands") == 0 ? 1 : 0);
    const vg_status st = vg_comm_barrier(comm);
    return strcmp(how, "fails") == 0 ? vg_comm_barrier(comm)
                                     : st; /* rank 1 came to the first, and did not see it end */
}

int main(int n_words, char **words)
{
    vg_comm *comm = NULL;
    if (n_words < 2 || vg_comm_open(&comm) != VG_OK || vg_comm_barrier(comm) != VG_OK) return 1;
    if (strcmp(words[1], "suspended") == 0) return suspended(comm);
    if (vg_comm_rank(comm) == 1 && strcmp(words[1], "gather") != 0) leave(comm, words[1]);
    const vg_status st = wait_for_rank_1(comm, words[1]);
    if (st == VG_OK) return 0; /* which cannot be */
    if (vg_comm_speaks(comm)) fprintf(stderr, "mpi_leave: %s\n", vg_error_text());
    vg_comm_abort(comm, vg_exit_code(st));
}
