/* What a rank knows of its process: cores and signals. */
#ifndef VG_TRAINER_PROCESS_H
#define VG_TRAINER_PROCESS_H

#include "dist/comm.h"

/* From now on SIGTERM, SIGINT and SIGUSR1 ask the run to stop at the next step boundary. */
void vg_stop_on_signals(void);
bool vg_stop_requested(void);

/* Threads a rank computes with: `wanted`, or (0) its share of the cores it may run on. */
int vg_thread_count(const vg_comm *comm, int64_t wanted);

/* The largest number of bytes that were resident since the last reset; 0 where the system does not tell. */
size_t vg_peak_memory(void);
void vg_peak_memory_reset(void);

#endif
