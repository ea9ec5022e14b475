/* Rows of numbers on the device, fp32 or bf16: a warp takes a row and its lanes the columns in turn, one number at a
 * time or, where the length of the rows and all addresses allow it, 128 bits. Width and element types are decided by
 * the launcher and hold for the whole kernel; bodies are templates over them. What is computed is fp32. */
#ifndef VG_KERNELS_CUDA_ROWS_H
#define VG_KERNELS_CUDA_ROWS_H

#include "kernels/cuda/cuda_impl.h"
#include "kernels/cuda/warp.h"

enum { ROW_WARPS = 8, ROW_THREADS = ROW_WARPS * WARP };

typedef __nv_bfloat16 bf16;

/* body<W, T>(..) with the element type T of all operands, 128 bits wide where that holds. */
#define BY_TYPE(is_bf16, is_wide, body, ...)                                             \
    ((is_bf16)   ? ((is_wide) ? body<8, bf16>(__VA_ARGS__) : body<1, bf16>(__VA_ARGS__)) \
     : (is_wide) ? body<4, float>(__VA_ARGS__)                                           \
                 : body<1, float>(__VA_ARGS__))

/* Likewise, beside operands that are fp32 in any case: four numbers at a time. */
#define BY_TYPE_AND_FP32(is_bf16, is_wide, body, ...)                                    \
    ((is_bf16)   ? ((is_wide) ? body<4, bf16>(__VA_ARGS__) : body<1, bf16>(__VA_ARGS__)) \
     : (is_wide) ? body<4, float>(__VA_ARGS__)                                           \
                 : body<1, float>(__VA_ARGS__))

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

/* Likewise, of numbers that are all bf16 or all fp32. */
template <typename... pointer> static inline bool is_wide_in(bool bf16, int64_t width, const pointer *...address)
{
    return width % (bf16 ? 8 : 4) == 0 && is_aligned(address...);
}

static inline bool is_bf16(const vg_operand *x)
{
    return x->dtype == VG_BF16;
}

/* --- W numbers side by side ----------------------------------------------------------------------------------------
 */

template <int W> struct pack {
    float v[W];
};

template <int W> static __forceinline__ __device__ pack<W> load(const float *from)
{
    static_assert(W == 1 || W == 4, "one number, or 128 bits");
    if constexpr (W == 4) {
        const float4 x = *reinterpret_cast<const float4 *>(from);
        return {{x.x, x.y, x.z, x.w}};
    } else {
        return {{*from}};
    }
}

template <int W> static __forceinline__ __device__ void store(float *to, const pack<W> &x)
{
    static_assert(W == 1 || W == 4, "one number, or 128 bits");
    if constexpr (W == 4)
        *reinterpret_cast<float4 *>(to) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
    else
        *to = x.v[0];
}

/* Two numbers in 32 bits, the first in the low half. */
static __forceinline__ __device__ float2 unpacked(unsigned two)
{
    return make_float2(__uint_as_float(two << 16), __uint_as_float(two & 0xffff0000u));
}

static __forceinline__ __device__ unsigned packed(float low, float high)
{
    const __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
    unsigned bits;
    memcpy(&bits, &two, sizeof bits);
    return bits;
}

template <int W> static __forceinline__ __device__ pack<W> load(const bf16 *from)
{
    pack<W> out;
    static_assert(W == 1 || W == 4 || W == 8, "one number, 64 bits or 128");
    if constexpr (W == 1) {
        out.v[0] = __bfloat162float(*from);
    } else {
        unsigned words[W / 2];
        if constexpr (W == 4) {
            const uint2 x = *reinterpret_cast<const uint2 *>(from);
            words[0] = x.x;
            words[1] = x.y;
        } else {
            const uint4 x = *reinterpret_cast<const uint4 *>(from);
            words[0] = x.x;
            words[1] = x.y;
            words[2] = x.z;
            words[3] = x.w;
        }
#pragma unroll
        for (int i = 0; i < W / 2; i++) {
            const float2 two = unpacked(words[i]);
            out.v[2 * i] = two.x;
            out.v[2 * i + 1] = two.y;
        }
    }
    return out;
}

template <int W> static __forceinline__ __device__ void store(bf16 *to, const pack<W> &x)
{
    if constexpr (W == 1)
        *to = __float2bfloat16(x.v[0]);
    else if constexpr (W == 4)
        *reinterpret_cast<uint2 *>(to) = make_uint2(packed(x.v[0], x.v[1]), packed(x.v[2], x.v[3]));
    else
        *reinterpret_cast<uint4 *>(to) =
            make_uint4(packed(x.v[0], x.v[1]), packed(x.v[2], x.v[3]), packed(x.v[4], x.v[5]), packed(x.v[6], x.v[7]));
}

/* What would be read again after a store. */
template <class T, int W> static __forceinline__ __device__ pack<W> as_stored(pack<W> x)
{
    if constexpr (sizeof(T) == sizeof(bf16))
#pragma unroll
        for (int i = 0; i < W; i++) x.v[i] = __bfloat162float(__float2bfloat16(x.v[i]));
    return x;
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
template <int W, class T>
static __forceinline__ __device__ void sum_of_rows(T *y, const T *a, const T *b, const T *c, int width)
{
    for (int i = lane_of_warp() * W; i < width; i += WARP * W) {
        pack<W> sum = a ? load<W>(a + i) : pack<W>{};
        if (b) sum = sum + load<W>(b + i);
        if (c) sum = sum + load<W>(c + i);
        store<W>(y + i, sum);
    }
}

#endif
