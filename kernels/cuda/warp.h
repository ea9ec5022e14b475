/* What the 32 threads of a warp do together. Sums go by a fixed butterfly: every lane ends with the same bits. */
#ifndef VG_KERNELS_CUDA_WARP_H
#define VG_KERNELS_CUDA_WARP_H

#include "kernels/cuda/dev.h"

enum { WARP = 32 };
static constexpr unsigned ALL_LANES = 0xffffffffu;

template <typename number> static __forceinline__ __device__ number warp_sum(number x)
{
    for (int step = WARP / 2; step; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}

/* The least value of all lanes and its place; of equal ones the lowest place. */
template <typename number> static __forceinline__ __device__ void warp_least(number *value, int *place)
{
    for (int step = WARP / 2; step; step /= 2) {
        const number other = __shfl_xor_sync(ALL_LANES, *value, step);
        const int where = __shfl_xor_sync(ALL_LANES, *place, step);
        if (other < *value || (other == *value && where < *place)) {
            *value = other;
            *place = where;
        }
    }
}

#endif
