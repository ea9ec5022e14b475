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
    (void)n_threads;
    switch (node->op) {
    case VG_OP_attention_grad: return vg_cuda_attention_grad_workspace(node);
    case VG_OP_detr_loss: return vg_cuda_detr_loss_workspace(node);
    case VG_OP_align_loss: return vg_cuda_align_loss_workspace(node);
    case VG_OP_linear: return vg_cuda_linear_workspace(node);
    case VG_OP_linear_dx: return vg_cuda_linear_dx_workspace(node);
    case VG_OP_linear_dw: return vg_cuda_linear_dw_workspace(node);
    case VG_OP_layernorm_grad: return vg_cuda_layernorm_grad_workspace(node);
    case VG_OP_sum_rows: return vg_cuda_sum_rows_workspace(node);
    case VG_OP_text_embed_grad: return vg_cuda_text_embed_grad_workspace(node);
    default: return 0;
    }
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
                [VG_OP_patchify] = vg_cuda_patchify,
                [VG_OP_linear] = vg_cuda_linear,
                [VG_OP_layernorm] = vg_cuda_layernorm,
                [VG_OP_add] = vg_cuda_add,
                [VG_OP_attention] = vg_cuda_attention,
                [VG_OP_attention_grad] = vg_cuda_attention_grad,
                [VG_OP_dropout] = vg_cuda_dropout,
                [VG_OP_detr_loss] = vg_cuda_detr_loss,
                [VG_OP_align_loss] = vg_cuda_align_loss,
                [VG_OP_add_rows] = vg_cuda_add_rows,
                [VG_OP_repeat] = vg_cuda_repeat,
                [VG_OP_vit_tokens] = vg_cuda_vit_tokens,
                [VG_OP_text_embed] = vg_cuda_text_embed,
                [VG_OP_slice_tokens] = vg_cuda_slice_tokens,
                [VG_OP_concat_tokens] = vg_cuda_concat_tokens,
                [VG_OP_stack] = vg_cuda_stack,
                [VG_OP_act_grad] = vg_cuda_act_grad,
                [VG_OP_linear_dx] = vg_cuda_linear_dx,
                [VG_OP_linear_dw] = vg_cuda_linear_dw,
                [VG_OP_layernorm_grad] = vg_cuda_layernorm_grad,
                [VG_OP_sum_rows] = vg_cuda_sum_rows,
                [VG_OP_vit_tokens_grad] = vg_cuda_vit_tokens_grad,
                [VG_OP_text_embed_grad] = vg_cuda_text_embed_grad,
                [VG_OP_slice_tokens_grad] = vg_cuda_slice_tokens_grad,
                [VG_OP_concat_tokens_grad] = vg_cuda_concat_tokens_grad,
                [VG_OP_stack_grad] = vg_cuda_stack_grad,
            },
        .workspace_bytes = workspace_bytes,
        .packed_bytes = packed_bytes,
        .sum = vg_cuda_sum,
        .sum_squares = vg_cuda_sum_squares,
        .norm = vg_cuda_norm,
        .adamw = vg_cuda_adamw,
        .profile = vg_cuda_profile,
    };
    return &cuda;
}
