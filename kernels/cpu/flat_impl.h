#ifndef VG_FLAT_IMPL_H
#define VG_FLAT_IMPL_H

#include "kernels/backend.h"

/* vg_backend.sum, .sum_squares and .adamw of the CPU. */
void vg_cpu_sum(vg_stream *stream, float *dst, const float *a, const float *b, int64_t n);
void vg_cpu_sum_squares(vg_stream *stream, const float *x, int64_t n_blocks, double *block_sums);
void vg_cpu_adamw(vg_stream *stream, const vg_adamw *args);

#endif
