#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/row_chunks.h"
#include "kernels/cuda/rows.h"

enum { CHUNK = VG_LAYERNORM_CHUNK, MOST_WARPS = 4, SHARED_BYTES = 48 * 1024, ROWS_KEPT = 4 };
enum { LARGEST_WIDTH = SHARED_BYTES / (ROWS_KEPT * sizeof(float)) };

struct layernorm_grad_args {
    const void *dy, *x, *acc; /* acc may be NULL */
    const float *gamma, *mean, *rstd;
    void *dx;       /* like dy and acc; may be NULL */
    float *partial; /* [chunks, dgamma and dbeta, C]; NULL when neither is wanted */
    int64_t rows;
    int width;
    bool bf16, bf16_x, wide; /* gradients; x */
};

/* What a warp keeps in shared memory, [C] each. A lane reads only what it wrote itself, until the block comes together.
 */
struct norm_rows {
    float *slope, *hat;    /* of the row at hand: dy * gamma, (x - mean) * rstd */
    float *dgamma, *dbeta; /* of the warp's rows so far */
};

template <int W, class T, class of_x>
static __device__ void norm_grad_row(const struct layernorm_grad_args &p, int64_t row, const struct norm_rows &kept)
{
    const int64_t at = row * p.width;
    const T *acc = p.acc ? (const T *)p.acc + at : nullptr;
    const int start = lane_of_warp() * W;
    const float mean = p.mean[row], rstd = p.rstd[row];
    float sum = 0, along = 0;
#pragma unroll 4
    for (int c = start; c < p.width; c += WARP * W) {
        const pack<W> dy = load<W>((const T *)p.dy + at + c), gamma = load<W>(p.gamma + c);
        pack<W> hat = load<W>((const of_x *)p.x + at + c), slope, gained;
        for (int i = 0; i < W; i++) {
            hat.v[i] = (hat.v[i] - mean) * rstd;
            slope.v[i] = dy.v[i] * gamma.v[i];
            gained.v[i] = dy.v[i] * hat.v[i];
            sum += slope.v[i];
            along += slope.v[i] * hat.v[i];
        }
        store<W>(kept.slope + c, slope);
        store<W>(kept.hat + c, hat);
        if (!p.partial) continue;
        store<W>(kept.dgamma + c, load<W>(kept.dgamma + c) + gained);
        store<W>(kept.dbeta + c, load<W>(kept.dbeta + c) + dy);
    }
    if (!p.dx) return;
    const float mean_slope = warp_sum(sum) / (float)p.width, mean_along = warp_sum(along) / (float)p.width;
#pragma unroll 4
    for (int c = start; c < p.width; c += WARP * W) {
        const pack<W> hat = load<W>(kept.hat + c);
        pack<W> dx = load<W>(kept.slope + c);
        for (int i = 0; i < W; i++) dx.v[i] = (dx.v[i] - mean_slope - hat.v[i] * mean_along) * rstd;
        store<W>((T *)p.dx + at + c, acc ? load<W>(acc + c) + dx : dx);
    }
}

template <int W, class T, class of_x>
static __device__ void norm_grad_chunk(const struct layernorm_grad_args &p, float *shared)
{
    const int warps = (int)blockDim.x / WARP, warp = (int)threadIdx.x / WARP, each = ROWS_KEPT * p.width;
    float *mine = shared + warp * each;
    const struct norm_rows kept = {mine, mine + p.width, mine + 2 * p.width, mine + 3 * p.width};
    if (p.partial)
        for (int c = lane_of_warp() * W; c < p.width; c += WARP * W) {
            store<W>(kept.dgamma + c, pack<W>{});
            store<W>(kept.dbeta + c, pack<W>{});
        }
    const int64_t first = (int64_t)blockIdx.x * CHUNK, end = first + CHUNK < p.rows ? first + CHUNK : p.rows;
    for (int64_t row = first + warp; row < end; row += warps) norm_grad_row<W, T, of_x>(p, row, kept);
    if (!p.partial) return;
    __syncthreads();
    float *partial = p.partial + (int64_t)blockIdx.x * 2 * p.width;
    for (int c = (int)threadIdx.x * W; c < 2 * p.width; c += (int)blockDim.x * W) {
        pack<W> sum = load<W>(shared + 2 * p.width + c);
        for (int w = 1; w < warps; w++) sum = sum + load<W>(shared + w * each + 2 * p.width + c);
        store<W>(partial + c, sum);
    }
}

template <class T, class of_x>
static __device__ void norm_grad_chunk_of(const struct layernorm_grad_args &p, float *shared)
{
    p.wide ? norm_grad_chunk<4, T, of_x>(p, shared) : norm_grad_chunk<1, T, of_x>(p, shared);
}

/* A block takes CHUNK rows, its warps in turn; dx of a row is one warp's. The share of dgamma and dbeta of the rows is
 * gathered on the way, warps in order, and the chunks are summed in a second pass: the order hangs on n and C alone.
 * Memory bound: dy and x (and acc) are read once, dx written once; 12 * n * C bytes, 16 with acc, and 16 / CHUNK for
 * the partial sums; of bf16 half but for those. */
KERNEL(MOST_WARPS *WARP) void layernorm_grad_rows(const struct layernorm_grad_args p)
{
    DYN_SHARED(float, shared);
    if (p.bf16)
        p.bf16_x ? norm_grad_chunk_of<bf16, bf16>(p, shared) : norm_grad_chunk_of<bf16, float>(p, shared);
    else
        p.bf16_x ? norm_grad_chunk_of<float, bf16>(p, shared) : norm_grad_chunk_of<float, float>(p, shared);
}
KERNEL_ENTRY(layernorm_grad_rows, struct layernorm_grad_args)

static int64_t chunks_of(const vg_node *node)
{
    return vg_chunks_of(vg_shape_rows(&node->in[0].shape), CHUNK);
}

static size_t partial_bytes(const vg_node *node)
{
    return vg_round_up((size_t)(2 * vg_shape_last(&node->in[0].shape) * chunks_of(node)) * sizeof(float), 64);
}

extern "C" size_t vg_cuda_layernorm_grad_workspace(const vg_node *node)
{
    if (!node->out[1].shape.rank && !node->out[2].shape.rank) return 0;
    return partial_bytes(node) + vg_cuda_column_sums_workspace(chunks_of(node), 2 * vg_shape_last(&node->in[0].shape));
}

static void sum_partial(vg_stream *stream, const vg_node *node, int64_t width)
{
    vg_column_sums sums = {};
    sums.x = node->workspace;
    sums.n = chunks_of(node);
    sums.stride = sums.columns = 2 * width;
    sums.split = width;
    sums.out = (float *)node->out[1].data;
    sums.rest = (float *)node->out[2].data;
    sums.accumulate = node->accumulate;
    vg_cuda_column_sums(stream, &sums, (unsigned char *)node->workspace + partial_bytes(node));
}

extern "C" vg_status vg_cuda_layernorm_grad(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in, *out = node->out;
    struct layernorm_grad_args p = {};
    p.dy = in[0].data;
    p.x = in[1].data;
    p.bf16 = is_bf16(&in[0]);
    p.bf16_x = is_bf16(&in[1]);
    p.gamma = (const float *)in[2].data;
    p.mean = (const float *)in[3].data;
    p.rstd = (const float *)in[4].data;
    p.acc = in[5].data;
    p.dx = out[0].data;
    p.partial = out[1].data || out[2].data ? (float *)node->workspace : NULL;
    p.rows = vg_shape_rows(&in[0].shape);
    p.width = (int)vg_shape_last(&in[0].shape);
    p.wide = is_wide(p.width, p.dy, p.x, p.gamma, p.acc, p.dx, p.partial);
    VG_CHECK(p.width <= LARGEST_WIDTH, VG_E_BUG, "rows of %d numbers: the GPU takes up to %d", p.width, LARGEST_WIDTH);
    const int fitting = LARGEST_WIDTH / p.width, warps = fitting < MOST_WARPS ? fitting : MOST_WARPS;
    LAUNCH(layernorm_grad_rows, (unsigned)chunks_of(node), (unsigned)(warps * WARP),
           (size_t)(warps * ROWS_KEPT * p.width) * sizeof(float), vg_cuda_queue(stream), p);
    if (p.partial) sum_partial(stream, node, p.width);
    return VG_CUDA_LAUNCHED("layernorm_grad");
}
