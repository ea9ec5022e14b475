/* Four lanes, on any processor: tiles of 4x8, eight sums in registers. */
#include "kernels/cpu/vector_base_impl.h"

enum { ROWS = 4, VECTORS = 2 };
#define EACH_ROWS(f)        f(1) f(2) f(3) f(4)
#define EACH_ROWS_LISTED(f) f(1), f(2), f(3), f(4)
#include "kernels/cpu/attention_wide_lanes_impl.h"
#include "kernels/cpu/row_lanes_impl.h"

const vg_lanes vg_lanes_base = {.attention_scratch = attention_scratch,
                                .attention_grad_scratch = attention_grad_scratch,
                                .attention = attention,
                                .attention_grad = attention_grad,
                                .norm = norm,
                                .norm_grad = norm_grad,
                                .dropout = dropout};
