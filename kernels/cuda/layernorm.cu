#include "kernels/cuda/rows.h"

enum { SHARED_BYTES = 48 * 1024, LARGEST_WIDTH = SHARED_BYTES / sizeof(float) };

struct layernorm_args {
    const float *x, *res, *gamma, *beta; /* [n,C], [n,C] or NULL, [C] */
    float *y, *sum, *mean, *rstd;        /* [n,C], [n,C], [n], [n]; the last three may be NULL */
    int64_t rows;
    int width;
    float eps;
    bool wide;
};

/* Each lane keeps its columns of the row in shared memory and reads what it wrote itself: nothing to wait for. */
template <int W> static __device__ void layernorm_row(const struct layernorm_args &p, int64_t row, float *kept)
{
    const int64_t at = row * p.width;
    const int start = lane_of_warp() * W;
    float total = 0, squares = 0;
#pragma unroll 4
    for (int c = start; c < p.width; c += WARP * W) {
        pack<W> x = load<W>(p.x + at + c);
        if (p.res) x = x + load<W>(p.res + at + c);
        if (p.sum) store<W>(p.sum + at + c, x);
        store<W>(kept + c, x);
        for (int i = 0; i < W; i++) total += x.v[i];
    }
    const float mean = warp_sum(total) / (float)p.width;
    for (int c = start; c < p.width; c += WARP * W) {
        const pack<W> x = load<W>(kept + c);
        for (int i = 0; i < W; i++) squares += (x.v[i] - mean) * (x.v[i] - mean);
    }
    const float rstd = 1.0F / sqrtf(warp_sum(squares) / (float)p.width + p.eps);
#pragma unroll 4
    for (int c = start; c < p.width; c += WARP * W) {
        const pack<W> gamma = load<W>(p.gamma + c), beta = load<W>(p.beta + c);
        pack<W> x = load<W>(kept + c);
        for (int i = 0; i < W; i++) x.v[i] = (x.v[i] - mean) * rstd * gamma.v[i] + beta.v[i];
        store<W>(p.y + at + c, x);
    }
    if (start > 0) return;
    if (p.mean) p.mean[row] = mean;
    if (p.rstd) p.rstd[row] = rstd;
}

/* One warp per row, up to ROW_WARPS of them a block: a row is summed in one fixed order, whatever the grid. Memory
 * bound: x (and res) are read once, y (and the sum) written once; 8 * n * C bytes, or 16 with both. */
KERNEL(ROW_THREADS, 4) void layernorm_rows(const struct layernorm_args p)
{
    DYN_SHARED(float, kept); /* [warps,C] */
    const int warp = (int)threadIdx.x / WARP;
    const int64_t row = (int64_t)blockIdx.x * (blockDim.x / WARP) + warp;
    if (row >= p.rows) return;
    p.wide ? layernorm_row<4>(p, row, kept + warp * p.width) : layernorm_row<1>(p, row, kept + warp * p.width);
}
KERNEL_ENTRY(layernorm_rows, struct layernorm_args)

extern "C" vg_status vg_cuda_layernorm(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in, *out = node->out;
    struct layernorm_args p = {};
    p.x = (const float *)in[0].data;
    p.gamma = (const float *)in[1].data;
    p.beta = (const float *)in[2].data;
    p.res = (const float *)in[3].data;
    p.y = (float *)out[0].data;
    p.mean = (float *)out[1].data;
    p.rstd = (float *)out[2].data;
    p.sum = (float *)out[3].data;
    p.rows = vg_shape_rows(&in[0].shape);
    p.width = (int)vg_shape_last(&in[0].shape);
    p.eps = node->attr.layernorm.eps;
    p.wide = is_wide(p.width, p.x, p.res, p.gamma, p.beta, p.y, p.sum);
    VG_CHECK(p.width <= LARGEST_WIDTH, VG_E_BUG, "rows of %d numbers: the GPU takes up to %d", p.width, LARGEST_WIDTH);
    const int fitting = LARGEST_WIDTH / p.width, warps = fitting < ROW_WARPS ? fitting : ROW_WARPS;
    LAUNCH(layernorm_rows, blocks_for(p.rows, warps), (unsigned)(warps * WARP),
           (size_t)(warps * p.width) * sizeof(float), vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("layernorm");
}
