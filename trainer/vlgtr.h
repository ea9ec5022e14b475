/* The program's context: made by main, handed to every verb. */
#ifndef VG_TRAINER_VLGTR_H
#define VG_TRAINER_VLGTR_H

#include "dist/comm.h"
#include "kernels/backend.h"

typedef struct vg_context {
    vg_comm *comm; /* of one rank for verbs that run alone */
} vg_context;

/* Verbs: vg_cmd_<name>(context, argc, argv) with argv[0] the verb. Collective where the verb is launched on many ranks.
 */
#define VG_VERB(name, ranks, helper, arguments, help) \
    vg_status vg_cmd_##name(vg_context *context, int argc, char **argv);
#include "trainer/verbs.def"
#undef VG_VERB

#endif
