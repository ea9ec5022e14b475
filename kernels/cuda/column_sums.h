/* Sums down the columns of a matrix, rows in one fixed order: what gradients of biases, gains and tables are made of.
 */
#ifndef VG_KERNELS_CUDA_COLUMN_SUMS_H
#define VG_KERNELS_CUDA_COLUMN_SUMS_H

#include "kernels/cuda/cuda_impl.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Column c of x goes to out[c], or, from column `split` on, to rest[c - split]; NULL: those sums are not wanted. */
typedef struct vg_column_sums {
    const void *x; /* [n,columns], rows `stride` numbers apart */
    int64_t n, stride, columns, split;
    float *out, *rest;
    const float *scale; /* [n,columns / scaled], of each row's groups of `scaled` columns; NULL: all 1 */
    int64_t scaled;
    bool bf16, accumulate; /* bf16: x is */
} vg_column_sums;

size_t vg_cuda_column_sums_workspace(int64_t n, int64_t columns);
void vg_cuda_column_sums(vg_stream *stream, const vg_column_sums *sums, void *workspace);

#ifdef __cplusplus
}
#endif

#endif
