/* The table of the CUDA backend. */
#include "kernels/cuda/cuda_impl.h"

vg_status vg_cuda_status(cudaError_t result, const char *call)
{
    if (result == cudaSuccess) return VG_OK;
    return vg_fail(result == cudaErrorMemoryAllocation ? VG_E_NOMEM : VG_E_DEVICE, "%s: %s (%s)", call,
                   cudaGetErrorString(result), cudaGetErrorName(result));
}

vg_status vg_cuda_blas_status(cublasStatus_t result, const char *call)
{
    if (result == CUBLAS_STATUS_SUCCESS) return VG_OK;
    return vg_fail(result == CUBLAS_STATUS_ALLOC_FAILED ? VG_E_NOMEM : VG_E_DEVICE, "%s: cuBLASLt status %s", call,
                   cublasLtGetStatusName(result));
}

static size_t workspace_bytes(const vg_node *node, int n_threads)
{
    (void)node;
    (void)n_threads;
    return 0;
}

static size_t packed_bytes(const vg_node *node)
{
    (void)node;
    return 0;
}

const vg_backend *vg_backend_cuda(void)
{
    static const vg_backend cuda = {
        .name = "cuda",
        .device = &vg_cuda_device,
        .kernels =
            {
                [VG_OP_add] = vg_cuda_add,
            },
        .workspace_bytes = workspace_bytes,
        .packed_bytes = packed_bytes,
    };
    return &cuda;
}
