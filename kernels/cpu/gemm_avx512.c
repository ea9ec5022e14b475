/* AVX-512: tiles of 14x32, twenty-eight accumulators. */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#include "kernels/cpu/vector_avx512_impl.h"

enum { MR = 14, NR = 32 };
#include "kernels/cpu/gemm_isa_impl.h"
#include "kernels/cpu/gemm_tile_impl.h"

const vg_gemm_isa vg_gemm_avx512 = {.name = "cpu avx512 gemm14x32",
                                    .mr = MR,
                                    .nr = NR,
                                    .pack = pack,
                                    .tile = tile,
                                    .finish = finish,
                                    .act_grad = act_grad};
#endif
