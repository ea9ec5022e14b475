#include "trainer/compute.h"
#include "trainer/vlgtr.h"

#include <stdio.h>

vg_status vg_cmd_version(vg_context *context, int argc, char **argv)
{
    (void)context;
    (void)argv;
    VG_CHECK(argc == 1, VG_E_USAGE, "version takes no arguments");
    char profile[VG_PROFILE_BYTES];
    vg_numerics_profile(vg_backend_cpu(), NULL, false, profile);
    printf("vlgtr %s\nnumerics profile: %s\n", VLGTR_VERSION, profile);
    return VG_OK;
}
