#include "trainer/vlgtr.h"

#include <stdio.h>

vg_status vg_cmd_version(vg_context *context, int argc, char **argv)
{
    (void)context;
    (void)argv;
    VG_CHECK(argc == 1, VG_E_USAGE, "version takes no arguments");
    printf("vlgtr %s\nnumerics profile: %s\n", VLGTR_VERSION, vg_backend_cpu()->profile(NULL));
    return VG_OK;
}
