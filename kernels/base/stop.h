/* Being asked to stop: by a scheduler that wants the nodes, a time limit that comes near, or a person.
 *
 *     vg_stop_on_signals();                             first thing in main, before a library starts threads
 *     for (...) { VG_TRY(vg_stop_check()); ... }        one rank alone
 *     VG_TRY(vg_comm_agree(comm, vg_stop_check()));     many: all leave at the same place */
#ifndef VG_BASE_STOP_H
#define VG_BASE_STOP_H

#include "kernels/base/status.h"

#include <stdbool.h>

/* From now on SIGTERM, SIGUSR1, SIGUSR2, SIGHUP (unless nohup had it ignored) and the first SIGINT are remembered
 * instead of ending the process, however often they come; a second SIGINT ends it, which the first one says where
 * standard error is a terminal. Lets in what a launcher blocked until now (`env --block-signal=USR1 vlgtr ...`), so
 * that a signal which comes before main is not lost and does not kill. */
void vg_stop_on_signals(void);

/* The signal that came, 0 as long as none did. */
int vg_stop_signal(void);

/* VG_E_STOPPED with its sentence once a signal came. */
vg_status vg_stop_check(void);

#endif
