/* `vlgtr plan RUN.yaml --ranks 8..1024 --network NAME`: how the run would go on more ranks. */
#ifndef VG_TRAINER_CMD_PLAN_SCALING_H
#define VG_TRAINER_CMD_PLAN_SCALING_H

#include "trainer/gpu_forecast.h"
#include "trainer/options.h"

/* The arguments of plan that are about many ranks, as they were given; NULL: not at all. */
typedef struct vg_scaling_arguments {
    const char *ranks;      /* "8..1024", or a number */
    const char *network;    /* a name or a file */
    const char *host_ranks; /* ranks of a host */
    const char *step_ms;    /* of each stage on one host, "812,1240" */
    const char *plot;       /* FILE.svg */
} vg_scaling_arguments;

/* Whether they ask for this forecast, and not for that of one number of ranks. */
bool vg_scaling_wanted(const vg_scaling_arguments *arguments);

/* Local. Prints a table for each stage, and the figures behind it; gpu may be NULL. Errors: VG_E_USAGE, VG_E_CONFIG,
 * VG_E_DATA (the network's file), VG_E_STORAGE (the plot). */
vg_status vg_scaling_print(const vg_options *o, const vg_gpu *gpu, const vg_scaling_arguments *arguments);

#endif
