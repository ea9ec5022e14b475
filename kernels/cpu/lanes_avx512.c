/* AVX-512: tiles of 14x32, twenty-eight sums in registers. */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#include "kernels/cpu/vector_avx512_impl.h"

enum { ROWS = 14, VECTORS = 2 };
#define EACH_ROWS(f)        f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14)
#define EACH_ROWS_LISTED(f) f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14)
#include "kernels/cpu/attention_wide_lanes_impl.h"
#include "kernels/cpu/row_lanes_impl.h"

const vg_lanes vg_lanes_avx512 = {.attention_scratch = attention_scratch,
                                  .attention_grad_scratch = attention_grad_scratch,
                                  .attention = attention,
                                  .attention_grad = attention_grad,
                                  .norm = norm,
                                  .norm_grad = norm_grad,
                                  .dropout = dropout};
#endif
