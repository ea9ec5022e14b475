/* Four lanes, on any processor: as many rows as its registers hold sums of, besides what a step of k needs. */
#include "kernels/cpu/vector_base_impl.h"

#if defined __aarch64__
enum { MR = 12, NR = 8 };
#define NAME "cpu neon gemm12x8"
#else
enum { MR = 4, NR = 8 };
#define NAME "cpu base gemm4x8"
#endif
#include "kernels/cpu/gemm_isa_impl.h"
#include "kernels/cpu/gemm_tile_impl.h"

const vg_gemm_isa vg_gemm_base = {
    .name = NAME, .mr = MR, .nr = NR, .pack = pack, .tile = tile, .finish = finish, .act_grad = act_grad};
