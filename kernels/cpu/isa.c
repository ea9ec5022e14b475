#include "kernels/cpu/cpu_impl.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

static vg_isa isa_of_machine(void)
{
#if defined __x86_64__
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx2) return avx512 ? VG_ISA_AVX512 : VG_ISA_AVX2;
#endif
    return VG_ISA_BASE;
}

vg_isa vg_cpu_isa(void)
{
    const vg_isa best = isa_of_machine();
    const char *cap = getenv("VLGTR_ISA");
    if (cap && !strcmp(cap, "base")) return VG_ISA_BASE;
    if (cap && !strcmp(cap, "avx2") && best > VG_ISA_AVX2) return VG_ISA_AVX2;
    return best;
}

int vg_cpu_thread(void)
{
    return omp_get_thread_num();
}
