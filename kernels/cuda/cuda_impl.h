/* Inside the CUDA backend: what its streams carry, and how calls into CUDA become a status. */
#ifndef VG_KERNELS_CUDA_CUDA_IMPL_H
#define VG_KERNELS_CUDA_CUDA_IMPL_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/backend.h"

/* What the kernels of one queue share. */
typedef struct vg_cuda {
    int device;
    cudaStream_t compute;
    cudaEvent_t here; /* for those who follow */
    cublasLtHandle_t blas;
    struct vg_matmul_plans *plans; /* matmul.h; NULL at first */
    char profile[64];
} vg_cuda;

extern const vg_device_ops vg_cuda_device;
const char *vg_cuda_profile(const vg_stream *stream);
int vg_cuda_libraries(vg_library out[VG_MAX_LIBRARIES]);
void vg_matmul_plans_free(struct vg_matmul_plans *plans);

static inline cudaStream_t vg_cuda_queue(const vg_stream *stream)
{
    return stream->cuda->compute;
}

#define VG_OP(name, n_in, n_out, shape, grad, cost) vg_status vg_cuda_##name(vg_stream *stream, const vg_node *node);
#include "kernels/ops.def"
#undef VG_OP

/* Scratch bytes that a kernel wants in node->workspace; kernels without a line here want none. */
size_t vg_cuda_attention_grad_workspace(const vg_node *node);
size_t vg_cuda_detr_loss_workspace(const vg_node *node);
size_t vg_cuda_align_loss_workspace(const vg_node *node);

/* Passes over flat parameter ranges: see vg_backend. */
vg_status vg_cuda_sum(vg_stream *stream, float *dst, const float *a, const float *b, int64_t n);
vg_status vg_cuda_sum_squares(vg_stream *stream, const float *x, int64_t n_blocks, double *block_sums);
vg_status vg_cuda_norm(vg_stream *stream, const vg_grad_norm *args);
vg_status vg_cuda_adamw(vg_stream *stream, const vg_adamw *args);
vg_status vg_cuda_to_bf16(vg_stream *stream, vg_bf16 *to, const float *from, int64_t n);
size_t vg_cuda_linear_workspace(const vg_node *node);
size_t vg_cuda_linear_dx_workspace(const vg_node *node);
size_t vg_cuda_linear_dw_workspace(const vg_node *node);
size_t vg_cuda_heads_workspace(const vg_node *node);
size_t vg_cuda_layernorm_grad_workspace(const vg_node *node);
size_t vg_cuda_sum_rows_workspace(const vg_node *node);
size_t vg_cuda_text_embed_grad_workspace(const vg_node *node);

/* A CUDA or cuBLASLt result as a status, with the call's name in the sentence. */
vg_status vg_cuda_status(cudaError_t result, const char *call);
vg_status vg_cuda_blas_status(cublasStatus_t result, const char *call);

#define VG_CUDA(call)          VG_TRY(vg_cuda_status((call), #call))
#define VG_CUDA_BLAS(call)     VG_TRY(vg_cuda_blas_status((call), #call))
#define VG_CUDA_LAUNCHED(name) vg_cuda_status(cudaGetLastError(), name)

#ifdef __cplusplus
}
#endif

#endif
