/* Matrix products on the GPU, by cuBLASLt.
 *
 * For each problem (shape, epilogue, alignment) cuBLASLt is asked once which algorithm it would take, and that choice
 * is kept as long as the queue lives: a captured graph and a plain run, the first step and the last compute alike.
 * Split sums are ruled out, so that an element is one sum over k in an order of its own, whatever its neighbours are;
 * bits hold for one GPU architecture and one version of the library (vg_backend.profile). Another number of rows may
 * have another algorithm, and so a row other bits: what promises the same bits multiplies the same shapes, as stores of
 * features do, whose rows are made at the step's own. fp32 is fp32: no TF32; bf16 is summed in fp32. */
#ifndef VG_KERNELS_CUDA_MATMUL_H
#define VG_KERNELS_CUDA_MATMUL_H

#include "kernels/cuda/cuda_impl.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is set apart for cuBLASLt in a node's workspace; its algorithms that do not split sums rarely want any. */
enum { VG_MATMUL_WORKSPACE_BYTES = 4 << 20 };

/* Where a matrix lies, in numbers: from a row as stored to the next, and from a product's matrix to that of the next
 * one of a batch. 0: right behind. */
typedef struct vg_matmul_rows {
    int64_t row, step;
} vg_matmul_rows;

/* d = relu(A B + c + bias), row-major. A is stored as [m,k], or [k,m] when a_transposed; B as [k,n] or [n,k].
 * With `batch` above 1 that many products at once, without bias and relu; their a_sums lie right behind each other. */
typedef struct vg_matmul {
    int64_t m, n, k, batch; /* batch 0: one */
    vg_dtype factors, sums; /* element types, fp32 or bf16: of a and b; of c, bias and d, fp32 where a and b are */
    const void *a, *b;
    bool a_transposed, b_transposed, relu;
    const void *c, *bias;                  /* [m,n], [n]; NULL: none. c may be d */
    void *d;                               /* [m,n] */
    vg_matmul_rows a_rows, b_rows, d_rows; /* c lies as d does */
    float *a_sums; /* [m] the sums of A over k, made on the way; or NULL. Not with bias, relu or sums of bf16 */
} vg_matmul;

/* Enqueues the product. workspace: VG_MATMUL_WORKSPACE_BYTES. `summed`, where it is not NULL, becomes
 * whether a_sums were made: cuBLASLt can not for every shape. Errors: VG_E_DEVICE, VG_E_NOMEM. */
vg_status vg_cuda_matmul(vg_stream *stream, const vg_matmul *product, void *workspace, bool *summed);

#ifdef __cplusplus
}
#endif

#endif
