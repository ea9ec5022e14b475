/* Rows of bf16 numbers that begin at multiples of 16 bytes: what cuBLASLt's fast algorithms ask of the factors of a
 * product. The numbers behind a row are 0, so that they may be multiplied like the others. */
#ifndef VG_KERNELS_CUDA_PADDED_ROWS_H
#define VG_KERNELS_CUDA_PADDED_ROWS_H

#include "kernels/cuda/cuda_impl.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Numbers from a padded row of `width` to the next. */
static inline int64_t vg_padded_width(int64_t width)
{
    return (int64_t)vg_round_up((size_t)width, 16 / sizeof(vg_bf16));
}

/* Room for so many padded rows. */
static inline size_t vg_padded_bytes(int64_t rows, int64_t width)
{
    return vg_round_up((size_t)(rows * vg_padded_width(width)) * sizeof(vg_bf16), 64);
}

/* Enqueues the copy of the rows of x, [..,width] in bf16, to `to`, 16-byte aligned. */
void vg_cuda_pad_rows(vg_stream *stream, const vg_operand *x, void *to);

#ifdef __cplusplus
}
#endif

#endif
