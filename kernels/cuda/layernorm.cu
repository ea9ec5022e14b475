#include "kernels/cuda/rows.h"

enum { SHARED_BYTES = 48 * 1024, LARGEST_WIDTH = SHARED_BYTES / sizeof(float) };

struct layernorm_args {
    const void *x, *res;       /* [n,C], [n,C] or NULL */
    const float *gamma, *beta; /* [C] */
    void *y, *sum;             /* [n,C]; sum may be NULL, and is like x and res */
    float *mean, *rstd;        /* [n] or NULL */
    int64_t rows;
    int width;
    float eps;
    bool from_bf16, to_bf16, wide; /* x; y */
};

/* Each lane keeps its columns of the row in shared memory and reads what it wrote itself: nothing to wait for. */
template <int W, class from, class to>
static __device__ void layernorm_row(const struct layernorm_args &p, int64_t row, float *kept)
{
    const from *in = (const from *)p.x + row * p.width, *res = p.res ? (const from *)p.res + row * p.width : nullptr;
    from *sum = p.sum ? (from *)p.sum + row * p.width : nullptr;
    to *y = (to *)p.y + row * p.width;
    const int start = lane_of_warp() * W;
    float total = 0, squares = 0;
#pragma unroll 4
    for (int c = start; c < p.width; c += WARP * W) {
        pack<W> x = load<W>(in + c);
        if (res) x = as_stored<from>(x + load<W>(res + c));
        if (sum) store<W>(sum + c, x);
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
        store<W>(y + c, x);
    }
    if (start > 0) return;
    if (p.mean) p.mean[row] = mean;
    if (p.rstd) p.rstd[row] = rstd;
}

template <class from, class to>
static __device__ void layernorm_row_of(const struct layernorm_args &p, int64_t row, float *kept)
{
    p.wide ? layernorm_row<4, from, to>(p, row, kept) : layernorm_row<1, from, to>(p, row, kept);
}

/* One warp per row, up to ROW_WARPS of them a block: a row is summed in one fixed order, whatever the grid. Memory
 * bound: x (and res) are read once, y (and the sum) written once; 8 * n * C bytes, or 16 with both; half in bf16. */
KERNEL(ROW_THREADS, 4) void layernorm_rows(const struct layernorm_args p)
{
    DYN_SHARED(float, kept); /* [warps,C] */
    const int warp = (int)threadIdx.x / WARP;
    const int64_t row = (int64_t)blockIdx.x * (blockDim.x / WARP) + warp;
    if (row >= p.rows) return;
    float *mine = kept + warp * p.width;
    if (p.from_bf16)
        p.to_bf16 ? layernorm_row_of<bf16, bf16>(p, row, mine) : layernorm_row_of<bf16, float>(p, row, mine);
    else
        p.to_bf16 ? layernorm_row_of<float, bf16>(p, row, mine) : layernorm_row_of<float, float>(p, row, mine);
}
KERNEL_ENTRY(layernorm_rows, struct layernorm_args)

extern "C" vg_status vg_cuda_layernorm(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in, *out = node->out;
    struct layernorm_args p = {};
    p.x = in[0].data;
    p.gamma = (const float *)in[1].data;
    p.beta = (const float *)in[2].data;
    p.res = in[3].data;
    p.y = out[0].data;
    p.mean = (float *)out[1].data;
    p.rstd = (float *)out[2].data;
    p.sum = out[3].data;
    p.from_bf16 = is_bf16(&in[0]);
    p.to_bf16 = is_bf16(&out[0]);
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
