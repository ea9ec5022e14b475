/* Chunks of CHUNK rows are summed side by side, then the sums of the chunks in the same manner, until one is left. The
 * order of a sum hangs on the number of rows alone. */
#include "kernels/cuda/column_sums.h"

#include "kernels/cuda/row_chunks.h"
#include "kernels/cuda/rows.h"

enum { CHUNK = VG_COLUMN_CHUNK, STRIPS = ROW_WARPS };

struct column_sums_args {
    vg_column_sums of;
    unsigned tiles; /* blocks beside each other */
    bool wide;
};

template <int W>
static __device__ void put_sums(const struct column_sums_args &p, int64_t chunk, int64_t c, pack<W> sum)
{
    float *to = c < p.of.split ? p.of.out : p.of.rest;
    if (!to) return;
    to += chunk * p.of.columns + (c < p.of.split ? c : c - p.of.split);
    store<W>(to, p.of.accumulate ? load<W>(to) + sum : sum);
}

/* Row i of x from column c on, scaled. */
template <int W, class T>
static __device__ __forceinline__ pack<W> scaled_row(const vg_column_sums &of, int64_t i, int64_t c, int64_t group)
{
    pack<W> x = load<W>((const T *)of.x + i * of.stride + c);
    if (!of.scale) return x;
    const float scale = of.scale[i * (of.columns / of.scaled) + group];
    for (int k = 0; k < W; k++) x.v[k] *= scale;
    return x;
}

template <int W, class T>
static __device__ void sum_chunk(const struct column_sums_args &p, float4 strips[STRIPS][WARP])
{
    const int lane = lane_of_warp(), strip = (int)threadIdx.x / WARP;
    const int64_t c = ((int64_t)(blockIdx.x % p.tiles) * WARP + lane) * W, chunk = blockIdx.x / p.tiles;
    const int64_t first = chunk * CHUNK, last = first + CHUNK, end = last < p.of.n ? last : p.of.n;
    const int64_t group = p.of.scale ? c / p.of.scaled : 0;
    pack<W> sum = {};
    if (c < p.of.columns)
#pragma unroll 4
        for (int64_t i = first + strip; i < end; i += STRIPS) sum = sum + scaled_row<W, T>(p.of, i, c, group);
    store<W>(&strips[strip][lane].x, sum);
    __syncthreads();
    if (strip > 0 || c >= p.of.columns) return;
    for (int s = 1; s < STRIPS; s++) sum = sum + load<W>(&strips[s][lane].x);
    put_sums<W>(p, chunk, c, sum);
}

/* A block sums a chunk of rows: warp s the rows s, s + STRIPS, .. of it, 32 or 128 columns wide, then the warps' sums
 * in order. Memory bound: 4 * n * columns bytes read (2 of bf16), 4 / CHUNK written and read again. */
KERNEL(ROW_THREADS, 4) void sum_columns(const struct column_sums_args p)
{
    SHARED(float4, strips, [STRIPS][WARP]);
    BY_TYPE_AND_FP32(p.of.bf16, p.wide, sum_chunk, p, strips);
}
KERNEL_ENTRY(sum_columns, struct column_sums_args)

static int64_t chunks_of(int64_t n)
{
    return vg_chunks_of(n, CHUNK);
}

extern "C" size_t vg_cuda_column_sums_workspace(int64_t n, int64_t columns)
{
    size_t floats = 0;
    for (int64_t chunks = chunks_of(n); chunks > 1; chunks = chunks_of(chunks))
        floats += vg_round_up((size_t)(chunks * columns), 4);
    return floats * sizeof(float);
}

extern "C" void vg_cuda_column_sums(vg_stream *stream, const vg_column_sums *sums, void *workspace)
{
    struct column_sums_args p = {*sums, 0, false};
    float *partial = (float *)workspace;
    for (int64_t n = sums->n, chunks = chunks_of(n); n > 0; n = chunks, chunks = chunks_of(n)) {
        p.of.n = n;
        p.of.split = chunks > 1 ? sums->columns : sums->split;
        p.of.out = chunks > 1 ? partial : sums->out;
        p.of.accumulate = chunks > 1 ? false : sums->accumulate;
        p.wide = is_wide(p.of.stride | p.of.columns | p.of.split | p.of.scaled, p.of.x, p.of.out, p.of.rest);
        p.tiles = blocks_for(p.of.columns, WARP * (p.wide ? 4 : 1));
        LAUNCH(sum_columns, p.tiles * (unsigned)chunks, ROW_THREADS, 0, vg_cuda_queue(stream), p);
        if (chunks == 1) return;
        p.of.x = partial;
        p.of.scale = NULL;
        p.of.bf16 = false;
        p.of.stride = sums->columns;
        partial += vg_round_up((size_t)(chunks * sums->columns), 4);
    }
}

static vg_column_sums rows_of(const vg_node *node)
{
    vg_column_sums sums = {};
    sums.x = node->in[0].data;
    sums.bf16 = is_bf16(&node->in[0]);
    sums.out = (float *)node->out[0].data;
    sums.columns = sums.stride = sums.split = vg_shape_count(&node->out[0].shape);
    sums.n = vg_shape_count(&node->in[0].shape) / sums.columns;
    sums.accumulate = node->accumulate;
    return sums;
}

extern "C" size_t vg_cuda_sum_rows_workspace(const vg_node *node)
{
    const vg_column_sums sums = rows_of(node);
    return vg_cuda_column_sums_workspace(sums.n, sums.columns);
}

extern "C" vg_status vg_cuda_sum_rows(vg_stream *stream, const vg_node *node)
{
    const vg_column_sums sums = rows_of(node);
    vg_cuda_column_sums(stream, &sums, node->workspace);
    return VG_CUDA_LAUNCHED("sum_rows");
}
