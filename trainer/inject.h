/* Faults on demand, so that one can see what a run makes of them.
 *
 *     vlgtr train RUN.yaml --inject kill@1,7        rank 1 is killed before step 7 */
#ifndef VG_TRAINER_INJECT_H
#define VG_TRAINER_INJECT_H

#include "kernels/base/base.h"

typedef enum vg_fault {
#define VG_FAULT(name, when, help) VG_FAULT_##name,
#include "trainer/faults.def"
#undef VG_FAULT
    VG_FAULTS
} vg_fault;

typedef struct vg_injection {
    vg_fault fault;
    int rank;
    int64_t step; /* the first is 1 */
} vg_injection;

enum { VG_MAX_INJECTIONS = 64 };

typedef struct vg_injections {
    vg_injection items[VG_MAX_INJECTIONS];
    int n;
} vg_injections;

/* Adds what NAME@RANK,STEP says. Local. Errors: VG_E_USAGE. */
vg_status vg_injections_add(vg_injections *injections, const char *text);

/* Appends a line for each fault. Errors: VG_E_NOMEM. */
vg_status vg_injections_help(vg_text *out);

/* Brings about what is due before this step on this rank; some faults do not return. */
void vg_inject(const vg_injections *injections, int rank, int64_t step);

/* Whether a fault that the step itself brings about holds in this one. */
bool vg_injected(const vg_injections *injections, vg_fault fault, int rank, int64_t step);

#endif
