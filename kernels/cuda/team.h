/* Products of 16 rows of a warp, in fragments as mma_bf16_16x8x16 has them, with a tile in shared memory: rows of 32 or
 * 64 bf16 numbers (width), in chunks of eight that are swizzled, from an address that is a multiple of 1024 bytes.
 *
 * A team is four warps, the first a multiple of four, that multiply with the same tile. Compute capability 9.0,
 * compiled as 9.0a, has an instruction for that (wgmma), which works in the background: results are there after
 * team_wait and team_results, and until then the tile and the fragments stay as they are. Elsewhere each warp
 * multiplies for itself, and what waits has nothing to wait for. Source: CUDA 13 PTX ISA, asynchronous warpgroup-level
 * matrix instructions. */
#ifndef VG_KERNELS_CUDA_TEAM_H
#define VG_KERNELS_CUDA_TEAM_H

#include "kernels/cuda/dev.h"

/* Where a chunk of a row lies: chunks that are read together fall into different banks. */
template <int width> static __device__ __forceinline__ int swizzled(int row, int chunk)
{
    static_assert(width == 32 || width == 64, "rows of 64 or 128 bytes");
    return width == 64 ? chunk ^ row % 8 : chunk ^ row / 2 % 4;
}

/* --- of one warp -------------------------------------------------------------------------------------------------- */

template <int width> static __device__ __forceinline__ const uint4 *tile_chunk(const uint4 *tile, int row, int chunk)
{
    return tile + row * (width / 8) + swizzled<width>(row, chunk);
}

/* d = a times the tile's rows 0..rows-1, transposed: d [16,rows], a [16,width]. One chain over the width, and chains of
 * different rows in turn: no product waits for the one before. */
template <int width, int rows>
static __device__ __forceinline__ void warp_mma_rows(float (&d)[rows / 8][4], const unsigned (&a)[width / 16][4],
                                                     const uint4 *tile)
{
    const int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < rows / 2; i++) d[i / 4][i % 4] = 0.0F;
#pragma unroll
    for (int k = 0; k < width / 16; k++)
#pragma unroll
        for (int n = 0; n < rows / 16; n++) {
            unsigned b[4];
            ldmatrix<4>(b, tile_chunk<width>(tile, 16 * n + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
            const unsigned low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
            mma_bf16_16x8x16(d[2 * n], a[k], low);
            mma_bf16_16x8x16(d[2 * n + 1], a[k], high);
        }
}

/* d += a times the tile's rows 0..rows-1: d [16,width], a [16,rows]. One chain over the rows. */
template <int width, int rows>
static __device__ __forceinline__ void warp_mma_columns(float (&d)[width / 8][4], const unsigned (&a)[rows / 16][4],
                                                        const uint4 *tile)
{
    const int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < rows / 16; k++)
#pragma unroll
        for (int n = 0; n < width / 16; n++) {
            unsigned b[4];
            ldmatrix_transposed<4>(b, tile_chunk<width>(tile, 16 * k + lane % 16, 2 * n + lane / 16));
            const unsigned low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
            mma_bf16_16x8x16(d[2 * n], a[k], low);
            mma_bf16_16x8x16(d[2 * n + 1], a[k], high);
        }
}

/* --- of a team ---------------------------------------------------------------------------------------------------- */

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* Whether tiles are read by the tensor cores themselves: products then take fewer registers. */
constexpr bool TEAM_TILES = true;

/* Before the barrier behind which the team multiplies with what this thread put into shared memory. */
static __device__ __forceinline__ void team_publish()
{
    fence_async_proxy();
}
/* Before products, once their fragments are written. */
static __device__ __forceinline__ void team_begin()
{
    wgmma_fence();
}
/* Ends a group of products. */
static __device__ __forceinline__ void team_commit()
{
    wgmma_commit();
}
/* Waits for all but the last n groups. */
template <int n> static __device__ __forceinline__ void team_wait()
{
    wgmma_wait<n>();
}
/* After the wait, of each result. */
template <int n> static __device__ __forceinline__ void team_results(float (&d)[n][4])
{
#pragma unroll
    for (int i = 0; i < 4 * n; i++) keep_behind(d[i / 4][i % 4]);
}

/* A tile as wgmma reads it: its address, something that is not used, 8 rows to the next 8, all in units of 16 bytes;
 * which swizzle. */
template <int width> static __device__ __forceinline__ uint64_t tile_descriptor(const uint4 *tile)
{
    const uint64_t at = (uint64_t)__cvta_generic_to_shared(tile), swizzle = width == 64 ? 1 : 2;
    return at >> 4 | (uint64_t)1 << 16 | (uint64_t)width << 32 | swizzle << 62;
}

/* As warp_mma_rows. */
template <int width, int rows>
static __device__ __forceinline__ void team_mma_rows(float (&d)[rows / 8][4], const unsigned (&a)[width / 16][4],
                                                     const uint4 *tile)
{
    const uint64_t b = tile_descriptor<width>(tile);
    wgmma_bf16<false, false>(d, a[0], b);
#pragma unroll
    for (int k = 1; k < width / 16; k++) wgmma_bf16<true, false>(d, a[k], b + 2 * k);
}

/* As warp_mma_columns. */
template <int width, int rows>
static __device__ __forceinline__ void team_mma_columns(float (&d)[width / 8][4], const unsigned (&a)[rows / 16][4],
                                                        const uint4 *tile)
{
    const uint64_t b = tile_descriptor<width>(tile);
#pragma unroll
    for (int k = 0; k < rows / 16; k++) wgmma_bf16<true, true>(d, a[k], b + 2 * width * k);
}

#else

constexpr bool TEAM_TILES = false;

static __device__ __forceinline__ void team_publish()
{
}
static __device__ __forceinline__ void team_begin()
{
}
static __device__ __forceinline__ void team_commit()
{
}
template <int n> static __device__ __forceinline__ void team_wait()
{
}
template <int n> static __device__ __forceinline__ void team_results(float (&)[n][4])
{
}
template <int width, int rows>
static __device__ __forceinline__ void team_mma_rows(float (&d)[rows / 8][4], const unsigned (&a)[width / 16][4],
                                                     const uint4 *tile)
{
    warp_mma_rows<width, rows>(d, a, tile);
}
template <int width, int rows>
static __device__ __forceinline__ void team_mma_columns(float (&d)[width / 8][4], const unsigned (&a)[rows / 16][4],
                                                        const uint4 *tile)
{
    warp_mma_columns<width, rows>(d, a, tile);
}

#endif

#endif
