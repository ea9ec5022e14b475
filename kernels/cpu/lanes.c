#include "kernels/cpu/lanes_impl.h"

const vg_lanes *vg_lanes_get(void)
{
#if defined(__x86_64__)
    switch (vg_cpu_isa()) {
    case VG_ISA_AVX512: return &vg_lanes_avx512;
    case VG_ISA_AVX2: return &vg_lanes_avx2;
    case VG_ISA_BASE: break;
    }
#endif
    return &vg_lanes_base;
}
