/* The check backend: the CPU backend under guard. */
#include "kernels/check/check_impl.h"

static vg_status guarded(vg_stream *stream, const vg_node *node)
{
    return vg_check_node(vg_backend_cpu(), stream, node);
}

static size_t workspace_bytes(const vg_node *node, int n_threads)
{
    return vg_backend_cpu()->workspace_bytes(node, n_threads);
}

static size_t packed_bytes(const vg_node *node)
{
    return vg_backend_cpu()->packed_bytes(node);
}

static vg_status pack(vg_stream *stream, const vg_node *node, void *packed)
{
    return vg_backend_cpu()->pack(stream, node, packed);
}

static vg_status sum(vg_stream *stream, float *dst, const float *a, const float *b, int64_t n)
{
    return vg_backend_cpu()->sum(stream, dst, a, b, n);
}

static vg_status sum_squares(vg_stream *stream, const float *x, int64_t n_blocks, double *block_sums)
{
    return vg_backend_cpu()->sum_squares(stream, x, n_blocks, block_sums);
}

static vg_status norm(vg_stream *stream, const vg_grad_norm *args)
{
    return vg_backend_cpu()->norm(stream, args);
}

static vg_status adamw(vg_stream *stream, const vg_adamw *args)
{
    return vg_backend_cpu()->adamw(stream, args);
}

static const char *profile(const vg_stream *stream)
{
    return vg_backend_cpu()->profile(stream);
}

const vg_backend *vg_backend_check(void)
{
    static const vg_backend check = {
        .name = "check",
        .device = &vg_host_device,
        .kernels =
            {
#define VG_OP(name, n_in, n_out, shape, grad, cost) [VG_OP_##name] = guarded,
#include "kernels/ops.def"
#undef VG_OP
            },
        .workspace_bytes = workspace_bytes,
        .packed_bytes = packed_bytes,
        .pack = pack,
        .sum = sum,
        .sum_squares = sum_squares,
        .norm = norm,
        .adamw = adamw,
        .profile = profile,
    };
    return &check;
}
