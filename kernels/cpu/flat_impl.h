#ifndef VG_FLAT_IMPL_H
#define VG_FLAT_IMPL_H

#include "kernels/backend.h"

/* vg_backend.sum, .sum_squares, .norm and .adamw of the CPU. */
vg_status vg_cpu_sum(vg_stream *stream, float *dst, const float *a, const float *b, int64_t n);
vg_status vg_cpu_sum_squares(vg_stream *stream, const float *x, int64_t n_blocks, double *block_sums);
vg_status vg_cpu_norm(vg_stream *stream, const vg_grad_norm *args);
vg_status vg_cpu_adamw(vg_stream *stream, const vg_adamw *args);

#endif
