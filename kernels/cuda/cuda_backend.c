/* The table of the CUDA backend. */
#include "kernels/cuda/cuda_impl.h"
#include "kernels/cuda/linear.h"

/* Errors after which nothing on the device can be trusted or called any more. */
static bool is_lost(cudaError_t result)
{
    switch (result) {
    case cudaErrorLaunchFailure:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
#if CUDART_VERSION >= 12080
    case cudaErrorContained:
#endif
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorUnknown: return true;
    default: return false;
    }
}

vg_status vg_cuda_status(cudaError_t result, const char *call)
{
    if (result == cudaSuccess) return VG_OK;
    VG_CHECK(!is_lost(result), VG_E_DEVICE,
             "the GPU failed: %s (%s); start again: a run goes on from its last checkpoint. The kernel's log says more "
             "(dmesg, Xid)",
             cudaGetErrorString(result), cudaGetErrorName(result));
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
    (void)n_threads;
    switch (node->op) {
    case VG_OP_attention_grad: return vg_cuda_attention_grad_workspace(node);
    case VG_OP_detr_loss: return vg_cuda_detr_loss_workspace(node);
    case VG_OP_align_loss: return vg_cuda_align_loss_workspace(node);
    case VG_OP_linear: return vg_cuda_linear_workspace(node);
    case VG_OP_linear_dx: return vg_cuda_linear_dx_workspace(node);
    case VG_OP_linear_dw: return vg_cuda_linear_dw_workspace(node);
    case VG_OP_heads_expand:
    case VG_OP_heads_contract:
    case VG_OP_heads_dw: return vg_cuda_heads_workspace(node);
    case VG_OP_layernorm_grad: return vg_cuda_layernorm_grad_workspace(node);
    case VG_OP_sum_rows: return vg_cuda_sum_rows_workspace(node);
    case VG_OP_text_embed_grad: return vg_cuda_text_embed_grad_workspace(node);
    default: return 0;
    }
}

static size_t packed_bytes(const vg_node *node)
{
    return node->op == VG_OP_linear || node->op == VG_OP_linear_dx ? vg_cuda_linear_packed_bytes(node) : 0;
}

const vg_backend *vg_backend_cuda(void)
{
    static const vg_backend cuda = {
        .name = "cuda",
        .device = &vg_cuda_device,
        .kernels =
            {
#define VG_OP(name, n_in, n_out, shape, grad, cost) [VG_OP_##name] = vg_cuda_##name,
#include "kernels/ops.def"
#undef VG_OP
            },
        .workspace_bytes = workspace_bytes,
        .packed_bytes = packed_bytes,
        .pack = vg_cuda_linear_pack,
        .sum = vg_cuda_sum,
        .sum_squares = vg_cuda_sum_squares,
        .norm = vg_cuda_norm,
        .adamw = vg_cuda_adamw,
        .to_bf16 = vg_cuda_to_bf16,
        .profile = vg_cuda_profile,
        .libraries = vg_cuda_libraries,
    };
    return &cuda;
}
