/* Rank 1 leaves without the others' consent, which wait for it: an exit code or `kill`. The launcher ends them. */
#define _POSIX_C_SOURCE 200809L /* kill */
#include "dist/comm.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int n_words, char **words)
{
    vg_comm *comm = NULL;
    if (n_words < 2 || vg_comm_open(&comm) != VG_OK || vg_comm_barrier(comm) != VG_OK) return 1;
    if (vg_comm_rank(comm) == 1) {
        if (strcmp(words[1], "kill") == 0) kill(getpid(), SIGKILL);
        vg_comm_abort(comm, atoi(words[1]));
    }
    vg_comm_barrier(comm); /* never complete */
    return 0;
}
