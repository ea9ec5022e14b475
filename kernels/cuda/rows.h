/* Rows of floats on the device: a warp takes a row and its lanes the columns in turn, one float at a time or, where the
 * length of the rows and all addresses allow it, four (128 bits). Which of both is decided by the launcher and holds
 * for the whole kernel; bodies are templates over it. */
#ifndef VG_KERNELS_CUDA_ROWS_H
#define VG_KERNELS_CUDA_ROWS_H

#include "kernels/cuda/cuda_impl.h"
#include "kernels/cuda/warp.h"

enum { ROW_WARPS = 8, ROW_THREADS = ROW_WARPS * WARP };

/* --- on the host -------------------------------------------------------------------------------------------------- */

static inline unsigned blocks_for(int64_t n, int64_t each)
{
    return (unsigned)((n + each - 1) / each);
}

/* Whether four floats can be read at once at each of these addresses (absent ones are NULL). */
template <typename... pointer> static inline bool is_aligned(const pointer *...address)
{
    return ((uintptr_t)address | ...) % sizeof(float4) == 0;
}

/* Likewise in every one of several rows of `width` floats. */
template <typename... pointer> static inline bool is_wide(int64_t width, const pointer *...address)
{
    return width % 4 == 0 && is_aligned(address...);
}

/* --- W floats side by side ---------------------------------------------------------------------------------------- */

template <int W> struct pack {
    float v[W];
};

template <int W> static __forceinline__ __device__ pack<W> load(const float *from)
{
    if constexpr (W == 4) {
        const float4 x = *reinterpret_cast<const float4 *>(from);
        return {{x.x, x.y, x.z, x.w}};
    } else {
        return {{*from}};
    }
}

template <int W> static __forceinline__ __device__ void store(float *to, const pack<W> &x)
{
    if constexpr (W == 4)
        *reinterpret_cast<float4 *>(to) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
    else
        *to = x.v[0];
}

template <int W> static __forceinline__ __device__ pack<W> operator+(pack<W> a, const pack<W> &b)
{
#pragma unroll
    for (int i = 0; i < W; i++) a.v[i] += b.v[i];
    return a;
}

/* --- a warp and its row ------------------------------------------------------------------------------------------- */

static __forceinline__ __device__ int lane_of_warp()
{
    return (int)threadIdx.x % WARP;
}

/* The row of this warp, in blocks of ROW_THREADS. */
static __forceinline__ __device__ int64_t row_of_warp()
{
    return (int64_t)blockIdx.x * ROW_WARPS + threadIdx.x / WARP;
}

/* y = a + b + c; absent ones (NULL) are left out, and with none of them y is 0. */
template <int W>
static __forceinline__ __device__ void sum_of_rows(float *y, const float *a, const float *b, const float *c, int width)
{
    for (int i = lane_of_warp() * W; i < width; i += WARP * W) {
        pack<W> sum = a ? load<W>(a + i) : pack<W>{};
        if (b) sum = sum + load<W>(b + i);
        if (c) sum = sum + load<W>(c + i);
        store<W>(y + i, sum);
    }
}

#endif
