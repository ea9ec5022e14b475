/* What a build without NCCL says. */
#include "dist/device_group_impl.h"

vg_status vg_device_nccl_open(vg_device_group *group)
{
    return vg_fail(VG_E_CONFIG,
                   "this build has no NCCL, so GPUs work alone and %d ranks cannot share them; start one "
                   "rank, or build with nccl.h and libnccl in the CUDA toolkit or on CMAKE_PREFIX_PATH",
                   group->comm->size);
}

bool vg_device_library(vg_library *out)
{
    (void)out;
    return false;
}
