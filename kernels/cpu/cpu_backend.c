/* The table of the CPU backend. */
#include "kernels/cpu/cpu_impl.h"
#include "kernels/cpu/flat_impl.h"
#include "kernels/cpu/gemm_impl.h"

static size_t workspace_bytes(const vg_node *node, int n_threads)
{
    size_t (*bytes)(const vg_node *, int) = NULL;
    switch (node->op) {
    case VG_OP_linear: bytes = vg_cpu_linear_workspace; break;
    case VG_OP_linear_dx: bytes = vg_cpu_linear_dx_workspace; break;
    case VG_OP_linear_dw: bytes = vg_cpu_linear_dw_workspace; break;
    case VG_OP_heads_expand:
    case VG_OP_heads_contract:
    case VG_OP_heads_dw: bytes = vg_cpu_heads_workspace; break;
    case VG_OP_attention: bytes = vg_cpu_attention_workspace; break;
    case VG_OP_attention_grad: bytes = vg_cpu_attention_grad_workspace; break;
    case VG_OP_layernorm_grad: bytes = vg_cpu_layernorm_grad_workspace; break;
    case VG_OP_detr_loss: bytes = vg_cpu_detr_loss_workspace; break;
    case VG_OP_align_loss: bytes = vg_cpu_align_loss_workspace; break;
    default: break;
    }
    return bytes ? bytes(node, n_threads) : 0;
}

static size_t packed_bytes(const vg_node *node)
{
    if (node->op == VG_OP_linear) return vg_cpu_linear_packed_bytes(node);
    return node->op == VG_OP_linear_dx ? vg_cpu_linear_dx_packed_bytes(node) : 0;
}

static vg_status pack(vg_stream *stream, const vg_node *node, void *packed)
{
    (void)stream;
    if (node->op == VG_OP_linear) vg_cpu_linear_pack(node, packed);
    if (node->op == VG_OP_linear_dx) vg_cpu_linear_dx_pack(node, packed);
    return VG_OK;
}

/* Inputs whose elements are read right before those of the output are written. */
static int in_place(vg_op op, int output)
{
    enum { DK = 1, DV = 2, ACC_K = 14, ACC_DX = 3, RES = 4 };
    switch (op) {
    case VG_OP_attention_grad: return output == DK || output == DV ? ACC_K + output - DK : -1;
    case VG_OP_linear: return output == 0 ? RES : -1;
    case VG_OP_linear_dx: return ACC_DX;
    case VG_OP_layernorm:
    case VG_OP_layernorm_grad: return output == 0 ? 0 : -1;
    case VG_OP_add:
    case VG_OP_add_rows:
    case VG_OP_dropout:
    case VG_OP_act_grad: return 0;
    default: return -1;
    }
}

static const char *profile(const vg_stream *stream)
{
    (void)stream;
    return vg_gemm_isa_get()->name;
}

const vg_backend *vg_backend_cpu(void)
{
    static const vg_backend cpu = {
        .name = "cpu",
        .device = &vg_host_device,
        .kernels =
            {
#define VG_OP(name, n_in, n_out, shape, grad, cost) [VG_OP_##name] = vg_cpu_##name,
#include "kernels/ops.def"
#undef VG_OP
            },
        .workspace_bytes = workspace_bytes,
        .in_place = in_place,
        .packed_bytes = packed_bytes,
        .pack = pack,
        .sum = vg_cpu_sum,
        .sum_squares = vg_cpu_sum_squares,
        .norm = vg_cpu_norm,
        .adamw = vg_cpu_adamw,
        .profile = profile,
    };
    return &cpu;
}
