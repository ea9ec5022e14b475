/* Rank 1 leaves without the others' consent, which wait for it. usage: mpi_leave HOW, one of
 *   an exit code, kill   the launcher ends the others
 *   told                 it fails, tells them, and stands still: they end by themselves, and say what it said
 *   stands               it stands still: they end at the deadline */
#define _POSIX_C_SOURCE 200809L /* kill */
#include "dist/comm.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Noreturn void leave(vg_comm *comm, const char *how)
{
    if (strcmp(how, "kill") == 0) kill(getpid(), SIGKILL);
    if (strcmp(how, "told") == 0) vg_comm_leave(comm, vg_fail(VG_E_DEVICE, "the GPU failed"));
    while (strcmp(how, "told") == 0 || strcmp(how, "stands") == 0) pause();
    vg_comm_abort(comm, atoi(how));
}

int main(int n_words, char **words)
{
    vg_comm *comm = NULL;
    if (n_words < 2 || vg_comm_open(&comm) != VG_OK || vg_comm_barrier(comm) != VG_OK) return 1;
    if (vg_comm_rank(comm) == 1) leave(comm, words[1]);
    vg_comm_set_deadline(comm, strcmp(words[1], "stands") == 0 ? 1 : 0);
    const vg_status st = vg_comm_barrier(comm);
    if (st == VG_OK) return 0; /* which cannot be */
    if (vg_comm_speaks(comm)) fprintf(stderr, "mpi_leave: %s\n", vg_error_text());
    vg_comm_abort(comm, vg_exit_code(st));
}
