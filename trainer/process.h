/* What a rank knows of its process: cores and memory. */
#ifndef VG_TRAINER_PROCESS_H
#define VG_TRAINER_PROCESS_H

#include "dist/comm.h"

#include <sched.h>

/* Collective. Whether all ranks run the same program, byte for byte. Errors: VG_E_COMM, naming the first rank that does
 * not; VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_same_program(vg_comm *comm);

/* Collective. Threads that this rank computes with: `wanted`, or (0) its share of the cores that it may run on, each of
 * which is divided among the ranks of this host that may use it. Errors: VG_E_NOMEM, VG_E_COMM. */
vg_status vg_thread_count(vg_comm *comm, int64_t wanted, int *n_threads);

/* Local. The same for rank `mine` of n whose cores are known: at least 1. */
int vg_core_share(const cpu_set_t *cores, int n, int mine);

/* The largest number of bytes that were resident since the last reset; 0 where the system does not tell. */
size_t vg_peak_memory(void);
void vg_peak_memory_reset(void);

#endif
