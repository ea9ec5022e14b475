/* What a rank knows of its process: cores and memory. */
#ifndef VG_TRAINER_PROCESS_H
#define VG_TRAINER_PROCESS_H

#include "dist/comm.h"

/* Collective. Whether all ranks run the same program, byte for byte. Errors: VG_E_COMM, naming the first rank that does
 * not; VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_same_program(vg_comm *comm);

/* Threads a rank computes with: `wanted`, or (0) its share of the cores it may run on. */
int vg_thread_count(const vg_comm *comm, int64_t wanted);

/* The largest number of bytes that were resident since the last reset; 0 where the system does not tell. */
size_t vg_peak_memory(void);
void vg_peak_memory_reset(void);

#endif
