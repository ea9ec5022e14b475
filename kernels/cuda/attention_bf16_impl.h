/* What the kernels of both directions of attention share where they compute in bf16 on tensor cores: tiles of rows in
 * shared memory, and products of them in fragments, with sums in fp32. A warp owns one or two blocks of 16 rows of one
 * side and walks those of the other. Source: Dao 2023 (FlashAttention-2), section 3: each warp owns its rows, weights
 * stay in registers. */
#ifndef VG_KERNELS_CUDA_ATTENTION_BF16_IMPL_H
#define VG_KERNELS_CUDA_ATTENTION_BF16_IMPL_H

#include "kernels/cuda/attention_tiles_impl.h"

constexpr int MANY_BLOCKS = 2; /* blocks of 16 queries that a warp owns where there are many */

/* Eight elements more than a row: lines that ldmatrix reads together fall into different banks. */
template <int HD> union bf16_line {
    bf16 at[HD + 8];
    __nv_bfloat162 two[HD / 2 + 4];
    uint4 eight[HD / 8 + 1];
};

/* A lane of a fragment: its rows are group and group + 8 of the warp's 16, its columns pair and pair + 1 of every 8. */
struct fragment {
    int warp, lane, group, pair;
};

static __device__ __forceinline__ struct fragment fragment_of(int thread)
{
    const int lane = thread % WARP;
    const struct fragment f = {thread / WARP, lane, lane / 4, 2 * (lane % 4)};
    return f;
}

/* Reduces over the lanes that share rows. */
static __device__ __forceinline__ float group_max(float x)
{
    for (int bit = 1; bit <= 2; bit *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, bit));
    return x;
}

static __device__ __forceinline__ float group_sum(float x)
{
    for (int bit = 1; bit <= 2; bit *= 2) x += __shfl_xor_sync(~0u, x, bit);
    return x;
}

static __device__ __forceinline__ unsigned packed(float low, float high)
{
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    unsigned bits;
    memcpy(&bits, &both, sizeof bits);
    return bits;
}

/* Begins to fetch rows first..first+N-1 of a strip, by GROUP threads; what is not there becomes 0. The caller commits.
 */
template <int HD, int N, int GROUP>
static __device__ __forceinline__ void fetch(union bf16_line<HD> *to, const struct strip<bf16> &from, int first,
                                             int size, bool wide)
{
    constexpr int CHUNKS = HD / 8, ROWS = GROUP / CHUNKS; /* rows at a time */
    const int lane = (int)threadIdx.x % GROUP, row = lane / CHUNKS, column = lane % CHUNKS * 8;
    if (wide && size == HD && first + N <= from.seen.first_end) {
        const bf16 *x = from.first + (int64_t)(first + row) * from.first_stride + column;
#pragma unroll
        for (int i = 0; i < N; i += ROWS, x += ROWS * from.first_stride)
            if (N % ROWS == 0 || i + row < N) cp_async<16>(to[i + row].at + column, x);
        return;
    }
    for (int i = row; i < N; i += ROWS) {
        const bf16 *x = strip_row(from, first + i);
        const int left = x ? size - column : 0;
        bf16 *y = to[i].at + column;
        if (wide) {
            cp_async<16>(y, left > 0 ? x + column : from.first, left > 0 ? 16 : 0);
        } else {
            for (int e = 0; e < 8; e++) y[e] = e < left ? x[column + e] : __float2bfloat16(0.0F);
        }
    }
}

/* --- products ----------------------------------------------------------------------------------------------------- */

/* The warp's 16 own rows as left operands, 16 columns of the head each. */
template <int HD> struct left_rows {
    unsigned of[HD / 16][4];
};

template <int HD>
static __device__ __forceinline__ void load_left(const union bf16_line<HD> *rows, struct fragment f,
                                                 struct left_rows<HD> *a)
{
#pragma unroll
    for (int d = 0; d < HD / 16; d++) ldmatrix<4>(a->of[d], &rows[f.lane % 16].at[16 * d + f.lane / 16 * 8]);
}

/* s[m][n] = own rows of block m times walked rows 8 n .. 8 n + 7: one chain over the head. What is loaded of the walked
 * rows serves all blocks. */
template <int HD, int ROWS, int BLOCKS = 1>
static __device__ __forceinline__ void score(const struct left_rows<HD> *a, const union bf16_line<HD> *walked,
                                             struct fragment f, float (*s)[ROWS / 8][4])
{
#pragma unroll
    for (int n = 0; n < ROWS / 8; n++) {
#pragma unroll
        for (int m = 0; m < BLOCKS; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) s[m][n][i] = 0.0F;
#pragma unroll
        for (int d = 0; d < HD / 32; d++) {
            unsigned b[4];
            ldmatrix<4>(b, &walked[8 * n + f.lane % 8].at[32 * d + f.lane / 8 * 8]);
            const unsigned low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
            for (int m = 0; m < BLOCKS; m++) mma_bf16_16x8x16(s[m][n], a[m].of[2 * d], low);
#pragma unroll
            for (int m = 0; m < BLOCKS; m++) mma_bf16_16x8x16(s[m][n], a[m].of[2 * d + 1], high);
        }
    }
}

/* out[m][n] += weights, a fragment of 16 walked rows, times columns 8 n .. 8 n + 7 of those rows. */
template <int HD, int BLOCKS = 1>
static __device__ __forceinline__ void weigh_fragment(const unsigned (*a)[4], const union bf16_line<HD> *walked,
                                                      struct fragment f, float (*out)[HD / 8][4])
{
#pragma unroll
    for (int d = 0; d < HD / 16; d++) {
        unsigned b[4];
        ldmatrix_transposed<4>(b, &walked[f.lane % 16].at[16 * d + f.lane / 16 * 8]);
        const unsigned low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
        for (int m = 0; m < BLOCKS; m++) mma_bf16_16x8x16(out[m][2 * d], a[m], low);
#pragma unroll
        for (int m = 0; m < BLOCKS; m++) mma_bf16_16x8x16(out[m][2 * d + 1], a[m], high);
    }
}

/* The same of weights in registers: one chain over the walked rows. */
template <int HD, int ROWS, int BLOCKS = 1>
static __device__ __forceinline__ void weigh_rows(const float (*s)[ROWS / 8][4], const union bf16_line<HD> *walked,
                                                  struct fragment f, float (*out)[HD / 8][4])
{
#pragma unroll
    for (int k = 0; k < ROWS / 16; k++) {
        unsigned a[BLOCKS][4];
#pragma unroll
        for (int m = 0; m < BLOCKS; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *half = s[m][2 * k + i / 2] + 2 * (i % 2);
                a[m][i] = packed(half[0], half[1]);
            }
        weigh_fragment<HD, BLOCKS>(a, walked + 16 * k, f, out);
    }
}

/* --- results ------------------------------------------------------------------------------------------------------ */

/* Rows of one head of a result: row r of the warp lies at first + r * stride, those of begin..end-1 are there. */
struct head_place {
    bf16 *first;
    int64_t stride;
    int begin, end;
};

/* Puts the warp's sums together in 16 lines of its own and writes the rows that are there, 128 bits at a time. A lane's
 * rows are multiplied by factor[0] and factor[1]. */
template <int HD>
static __device__ __forceinline__ void write_sums(const float sums[HD / 8][4], const float factor[2],
                                                  const struct head_place &to, int size, bool wide, struct fragment f,
                                                  union bf16_line<HD> *lines)
{
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int n = 0; n < HD / 8; n++)
            lines[f.group + 8 * r].two[4 * n + f.pair / 2] =
                __floats2bfloat162_rn(sums[n][2 * r] * factor[r], sums[n][2 * r + 1] * factor[r]);
    __syncwarp();
    for (int n = f.lane; n < OWNED * HD / 8; n += WARP) {
        const int row = n / (HD / 8), column = n % (HD / 8) * 8, left = size - column;
        if (row < to.begin || row >= to.end) continue;
        bf16 *y = to.first + row * to.stride + column;
        if (wide && left > 0) *reinterpret_cast<uint4 *>(y) = lines[row].eight[column / 8];
        for (int e = 0; !wide && e < 8 && e < left; e++) y[e] = lines[row].at[column + e];
    }
}

/* The warp's sums as 16 lines of fp32, for a merge. */
template <int HD>
static __device__ __forceinline__ void publish_sums(const float sums[HD / 8][4], struct fragment f,
                                                    struct line<HD> *lines)
{
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int n = 0; n < HD / 8; n++) {
            const int column = 8 * n + f.pair;
            float2 *two = reinterpret_cast<float2 *>(&lines[f.group + 8 * r].chunk[column / 4]);
            two[column % 4 / 2] = make_float2(sums[n][2 * r], sums[n][2 * r + 1]);
        }
}

#endif
