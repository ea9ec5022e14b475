/* AVX2: tiles of 6x16, twelve sums in registers. */
#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#include "kernels/cpu/vector_avx2_impl.h"

enum { ROWS = 6, VECTORS = 2 };
#define EACH_ROWS(f)        f(1) f(2) f(3) f(4) f(5) f(6)
#define EACH_ROWS_LISTED(f) f(1), f(2), f(3), f(4), f(5), f(6)
#include "kernels/cpu/attention_wide_lanes_impl.h"
#include "kernels/cpu/row_lanes_impl.h"

const vg_lanes vg_lanes_avx2 = {.attention_scratch = attention_scratch,
                                .attention_grad_scratch = attention_grad_scratch,
                                .attention = attention,
                                .attention_grad = attention_grad,
                                .norm = norm,
                                .norm_grad = norm_grad,
                                .dropout = dropout};
#endif
