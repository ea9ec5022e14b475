/* AVX2 + FMA: tiles of 6x16, twelve accumulators. */
#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#include "kernels/cpu/vector_avx2_impl.h"

enum { MR = 6, NR = 16 };
#include "kernels/cpu/gemm_isa_impl.h"
#include "kernels/cpu/gemm_tile_impl.h"

const vg_gemm_isa vg_gemm_avx2 = {.name = "cpu avx2+fma gemm6x16",
                                  .mr = MR,
                                  .nr = NR,
                                  .pack = pack,
                                  .tile = tile,
                                  .finish = finish,
                                  .act_grad = act_grad};
#endif
