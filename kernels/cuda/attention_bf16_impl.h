/* What the kernels of both directions of attention share where they compute in bf16 on tensor cores: tiles of rows in
 * shared memory, and products of them in fragments, with sums in fp32. A warp owns 16 rows of one side and walks those
 * of the other. Source: Dao 2023 (FlashAttention-2), section 3: each warp owns its rows, weights stay in registers. */
#ifndef VG_KERNELS_CUDA_ATTENTION_BF16_IMPL_H
#define VG_KERNELS_CUDA_ATTENTION_BF16_IMPL_H

#include "kernels/cuda/attention_tiles_impl.h"
#include "kernels/cuda/team.h"

/* A row of a tile. */
template <int HD> struct bf16_line {
    uint4 eight[HD / 8];
};

template <int HD>
static __device__ __forceinline__ const uint4 *chunk_of(const struct bf16_line<HD> *rows, int row, int chunk)
{
    return tile_chunk<HD>(reinterpret_cast<const uint4 *>(rows), row, chunk);
}

template <int HD> static __device__ __forceinline__ uint4 *chunk_of(struct bf16_line<HD> *rows, int row, int chunk)
{
    return const_cast<uint4 *>(tile_chunk<HD>(reinterpret_cast<const uint4 *>(rows), row, chunk));
}

/* Numbers from `column` on of a row, as far as their chunk goes. */
template <int HD> static __device__ __forceinline__ bf16 *numbers_of(struct bf16_line<HD> *rows, int row, int column)
{
    return reinterpret_cast<bf16 *>(chunk_of<HD>(rows, row, column / 8)) + column % 8;
}

/* Two neighbours, from an even column. */
template <int HD>
static __device__ __forceinline__ __nv_bfloat162 *pair_of(struct bf16_line<HD> *rows, int row, int column)
{
    return reinterpret_cast<__nv_bfloat162 *>(chunk_of<HD>(rows, row, column / 8)) + column % 8 / 2;
}

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

/* Adds over the lanes that share rows. */
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
static __device__ __forceinline__ void fetch(struct bf16_line<HD> *to, const struct strip<bf16> &from, int first,
                                             int size, bool wide)
{
    constexpr int CHUNKS = HD / 8, ROWS = GROUP / CHUNKS; /* rows at a time */
    const int lane = (int)threadIdx.x % GROUP, row = lane / CHUNKS, chunk = lane % CHUNKS, column = 8 * chunk;
    if (wide && size == HD && first + N <= from.seen.first_end) {
        const bf16 *x = from.first + (int64_t)(first + row) * from.first_stride + column;
#pragma unroll
        for (int i = 0; i < N; i += ROWS, x += ROWS * from.first_stride)
            if (N % ROWS == 0 || i + row < N) cp_async<16>(chunk_of<HD>(to, i + row, chunk), x);
        return;
    }
    for (int i = row; i < N; i += ROWS) {
        const bf16 *x = strip_row(from, first + i);
        const int left = x ? size - column : 0;
        bf16 *y = numbers_of<HD>(to, i, column);
        if (wide) {
            cp_async<16>(y, left > 0 ? x + column : from.first, left > 0 ? 16 : 0);
        } else {
            for (int e = 0; e < 8; e++) y[e] = e < left ? x[column + e] : __float2bfloat16(0.0F);
        }
    }
}

/* --- products ----------------------------------------------------------------------------------------------------- */

/* The warp's 16 own rows as left operands, 16 columns of the head each. They are loaded anew for each tile: registers
 * are short, and nvcc 13.0 gives away those of fragments that should outlive a product of a team. */
template <int HD> struct left_rows {
    unsigned of[HD / 16][4];
};

template <int HD>
static __device__ __forceinline__ void load_left(const struct bf16_line<HD> *rows, struct fragment f,
                                                 struct left_rows<HD> *a)
{
#pragma unroll
    for (int d = 0; d < HD / 16; d++) ldmatrix<4>(a->of[d], chunk_of<HD>(rows, f.lane % 16, 2 * d + f.lane / 16));
}

/* Weights of 16 own rows as left operands, 16 walked rows each. */
template <int ROWS> struct left_weights {
    unsigned of[ROWS / 16][4];
};

template <int ROWS>
static __device__ __forceinline__ void pack_weights(const float s[ROWS / 8][4], struct left_weights<ROWS> *a)
{
#pragma unroll
    for (int k = 0; k < ROWS / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *half = s[2 * k + i / 2] + 2 * (i % 2);
            a->of[k][i] = packed(half[0], half[1]);
        }
}

/* s = own rows times walked rows: by the team, or by a warp with a tile of its own (ALONE). Begins it; a group of
 * products. */
template <bool ALONE, int HD, int ROWS>
static __device__ __forceinline__ void multiply_rows(const struct left_rows<HD> &own,
                                                     const struct bf16_line<HD> *walked, float (&s)[ROWS / 8][4])
{
    if constexpr (ALONE) {
        warp_mma_rows<HD, ROWS>(s, own.of, walked->eight);
    } else {
        team_begin();
        team_mma_rows<HD, ROWS>(s, own.of, walked->eight);
        team_commit();
    }
}

/* out += weights times walked rows; likewise. */
template <bool ALONE, int HD, int ROWS>
static __device__ __forceinline__ void add_weighted(const struct left_weights<ROWS> &a,
                                                    const struct bf16_line<HD> *walked, float (&out)[HD / 8][4])
{
    if constexpr (ALONE) {
        warp_mma_columns<HD, ROWS>(out, a.of, walked->eight);
    } else {
        team_begin();
        team_mma_columns<HD, ROWS>(out, a.of, walked->eight);
        team_commit();
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
                                                  struct bf16_line<HD> *lines)
{
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int n = 0; n < HD / 8; n++)
            *pair_of<HD>(lines, f.group + 8 * r, 8 * n + f.pair) =
                __floats2bfloat162_rn(sums[n][2 * r] * factor[r], sums[n][2 * r + 1] * factor[r]);
    __syncwarp();
    for (int n = f.lane; n < OWNED * HD / 8; n += WARP) {
        const int row = n / (HD / 8), column = n % (HD / 8) * 8, left = size - column;
        if (row < to.begin || row >= to.end) continue;
        const uint4 *x = chunk_of<HD>(lines, row, column / 8);
        bf16 *y = to.first + row * to.stride + column;
        if (wide && left > 0) *reinterpret_cast<uint4 *>(y) = *x;
        for (int e = 0; !wide && e < 8 && e < left; e++) y[e] = reinterpret_cast<const bf16 *>(x)[e];
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
