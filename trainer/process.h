/* What a rank knows of its process: cores and memory. */
#ifndef VG_TRAINER_PROCESS_H
#define VG_TRAINER_PROCESS_H

#include "dist/comm.h"

#include <sched.h>

struct hwloc_topology;

/* Collective. Whether all ranks run the same program, byte for byte. Errors: VG_E_COMM, naming the first rank that does
 * not; VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_same_program(vg_comm *comm);

/* How a rank uses its host. */
typedef struct vg_cores {
    int threads;             /* that the rank computes with: one for a core */
    int processors;          /* for what does not compute: a core may have two */
    int used, ranks, usable; /* on this host: cores that its ranks may run on, the ranks, cores that they could */
} vg_cores;

/* Collective. Threads and processors: `wanted`, or (0) the rank's share of those that it may run on, each of which is
 * divided among the ranks of this host that may use it, and of the processor time that control groups grant, which they
 * are taken to have in common. More cores are usable than used where mpirun bound its ranks to some of those that it
 * may run on itself, as Open MPI does by default where there are one or two. Errors: VG_E_NOMEM, VG_E_COMM. */
vg_status vg_cores_share(vg_comm *comm, int64_t wanted, vg_cores *out);

/* Local. The share of rank `mine` of n whose cores, or processors, are known: at least 1. */
int vg_core_share(const cpu_set_t *cores, int n, int mine);

/* The cores of a set of processors, each by its first processor, whether that is in the set or not. A processor of
 * which the topology, or NULL, does not tell is a core. */
cpu_set_t vg_cores_of(struct hwloc_topology *topology, const cpu_set_t *processors);

/* Bytes of memory that the processes of this host may take: what it has, or what control groups grant of it, which they
 * are taken to have in common. */
double vg_host_memory(void);

/* Whether so many bytes fit there, with a tenth to spare, by which a forecast may be off. */
bool vg_host_holds(double bytes);

/* The largest number of bytes that were resident since the last reset; 0 where the system does not tell. */
size_t vg_peak_memory(void);
void vg_peak_memory_reset(void);

#endif
