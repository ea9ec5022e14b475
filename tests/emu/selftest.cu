/* Kernels for the self-test of the checker (selftest.cc says what each is to be reported for): small, and wrong in one
 * way that the numbers need not show. */
#include "emu/selftest.h"
#include "kernels/cuda/dev.h"

enum { N = SELFTEST_THREADS };

static __device__ int global_index()
{
    return (int)(blockIdx.x * N + threadIdx.x);
}

static __device__ float warp_sum(float x)
{
    for (int by = 16; by > 0; by /= 2) x += __shfl_xor_sync(~0u, x, by);
    return x;
}

#define CASE(name)  KERNEL(N) void name(const struct selftest_args p)
#define ENTRY(name) KERNEL_ENTRY(name, struct selftest_args)

/* --- nothing wrong --- */

/* A sum over the block, twice through the same shared array, and a count by atomics. */
CASE(right_sums)
{
    SHARED(float, sums, [N / 32]);
    for (int round = 0; round < 2; round++) {
        const float sum = warp_sum(p.x[global_index()]);
        if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
        __syncthreads();
        p.y[global_index()] = sums[0] + sums[1];
        __syncthreads();
    }
    atomicAdd(&p.count[0], 1);
}
ENTRY(right_sums)

/* Bytes and bf16 numbers that neighbours write; a store of what a function returns. */
CASE(right_small_types)
{
    SHARED(unsigned char, bytes, [N]);
    SHARED(__nv_bfloat16, halves, [N]);
    const int neighbour = (int)(threadIdx.x + 1) % N;
    bytes[threadIdx.x] = (unsigned char)threadIdx.x;
    halves[threadIdx.x] = __float2bfloat16(p.x[global_index()]);
    __syncthreads();
    p.y[global_index()] = __bfloat162float(halves[neighbour]) + (float)bytes[neighbour];
}
ENTRY(right_small_types)

/* Lanes hand numbers on through shared memory, in halves of the warp. */
CASE(right_half_warps)
{
    SHARED(float, line, [N]);
    const unsigned half = threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
    line[threadIdx.x] = p.x[global_index()];
    __syncwarp(half);
    p.y[global_index()] = line[threadIdx.x ^ 1];
}
ENTRY(right_half_warps)

CASE(right_pipeline)
{
    SHARED(float4, line, [N / 4]);
    const int quarter = (int)threadIdx.x % (N / 4);
    if (threadIdx.x < N / 4) cp_async<16>(&line[quarter], p.x + blockIdx.x * N + 4 * quarter);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    p.y[global_index()] = line[N / 4 - 1 - quarter].x;
}
ENTRY(right_pipeline)

/* What the counters must tell apart: 16 bytes a lane in order, and 4 bytes a lane 32 bytes from each other. */
CASE(copy_in_order)
{
    const int i = 4 * (int)threadIdx.x;
    if (blockIdx.x == 0 && threadIdx.x < 32)
        *reinterpret_cast<float4 *>(p.y + i) = *reinterpret_cast<const float4 *>(p.x + i);
}
ENTRY(copy_in_order)

CASE(copy_in_columns)
{
    const int i = (int)threadIdx.x % 16 * 8 + (int)threadIdx.x / 16;
    if (blockIdx.x == 0 && threadIdx.x < 32) p.y[i] = p.x[i];
}
ENTRY(copy_in_columns)

/* --- races --- */

CASE(barrier_missing)
{
    SHARED(float, line, [N]);
    line[threadIdx.x] = p.x[global_index()];
    p.y[global_index()] = line[N - 1 - threadIdx.x];
}
ENTRY(barrier_missing)

/* The second round writes what others may still read. */
CASE(barrier_missing_behind_read)
{
    SHARED(float, line, [N]);
    for (int round = 0; round < 2; round++) {
        line[threadIdx.x] = p.x[global_index()];
        __syncthreads();
        p.y[global_index()] = line[N - 1 - threadIdx.x];
    }
}
ENTRY(barrier_missing_behind_read)

/* Lanes do not run in step. */
CASE(warp_barrier_missing)
{
    SHARED(float, line, [N]);
    line[threadIdx.x] = p.x[global_index()];
    p.y[global_index()] = line[threadIdx.x ^ 1];
}
ENTRY(warp_barrier_missing)

/* Only half of each warp is ordered, and reads across. */
CASE(warp_barrier_of_half)
{
    SHARED(float, line, [N]);
    const unsigned half = threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
    line[threadIdx.x] = p.x[global_index()];
    __syncwarp(half);
    p.y[global_index()] = line[threadIdx.x ^ 16];
}
ENTRY(warp_barrier_of_half)

CASE(blocks_write_same_place)
{
    p.y[threadIdx.x] = p.x[global_index()];
}
ENTRY(blocks_write_same_place)

CASE(atomic_lost)
{
    if (threadIdx.x == 0) p.count[0] += 1;
}
ENTRY(atomic_lost)

CASE(atomic_read_plainly)
{
    atomicAdd(&p.count[0], 1);
    p.y[global_index()] = (float)p.count[0];
}
ENTRY(atomic_read_plainly)

CASE(copy_not_shown_to_others)
{
    SHARED(float, line, [N]);
    cp_async<4>(&line[threadIdx.x], p.x + global_index());
    cp_async_commit();
    cp_async_wait<0>();
    p.y[global_index()] = line[N - 1 - threadIdx.x];
}
ENTRY(copy_not_shown_to_others)

/* --- values that nobody wrote --- */

CASE(shared_without_value)
{
    SHARED(float, line, [N]);
    if (threadIdx.x > 0) line[threadIdx.x] = p.x[global_index()];
    __syncthreads();
    p.y[global_index()] = line[N - 1 - threadIdx.x];
}
ENTRY(shared_without_value)

CASE(global_without_value)
{
    p.count[global_index()] = p.y[global_index()] > 0.0f;
}
ENTRY(global_without_value)

CASE(copy_not_waited_for)
{
    SHARED(float, line, [N]);
    cp_async<4>(&line[threadIdx.x], p.x + global_index());
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    p.y[global_index()] = line[threadIdx.x];
}
ENTRY(copy_not_waited_for)

/* What the line holds at the end hangs on when the copy comes. */
CASE(copy_in_place_of_a_result)
{
    SHARED(float, line, [N]);
    cp_async<4>(&line[threadIdx.x], p.x + global_index());
    cp_async_commit();
    line[threadIdx.x] = 0.0f;
    p.y[global_index()] = line[threadIdx.x];
}
ENTRY(copy_in_place_of_a_result)

/* --- memory that is not there --- */

CASE(shared_index_off_by_one)
{
    SHARED(float, line, [N]);
    line[threadIdx.x + 1] = p.x[global_index()];
    __syncthreads();
    p.y[global_index()] = line[threadIdx.x];
}
ENTRY(shared_index_off_by_one)

CASE(guard_missing)
{
    p.y[global_index() + 1] = p.x[global_index()];
}
ENTRY(guard_missing)

/* Launched with half of what it needs. */
CASE(dynamic_shared_too_small)
{
    DYN_SHARED(float, line);
    line[threadIdx.x] = p.x[global_index()];
    p.y[global_index()] = line[threadIdx.x];
}
ENTRY(dynamic_shared_too_small)

CASE(vector_misaligned)
{
    const float4 x = *reinterpret_cast<const float4 *>(p.x + 1);
    p.y[global_index()] = x.x + x.w;
}
ENTRY(vector_misaligned)

CASE(host_memory)
{
    p.y[global_index()] = p.host[0];
}
ENTRY(host_memory)

CASE(local_of_another_thread)
{
    SHARED(float *, place, [1]);
    float mine = p.x[global_index()];
    if (threadIdx.x == 0) place[0] = &mine;
    __syncthreads();
    p.y[global_index()] = *place[0];
    __syncthreads();
}
ENTRY(local_of_another_thread)

CASE(copy_to_global)
{
    cp_async<4>(p.y + global_index(), p.x + global_index());
    cp_async_commit();
    cp_async_wait<0>();
}
ENTRY(copy_to_global)

/* --- threads that do not come --- */

CASE(barrier_in_branches)
{
    SHARED(float, line, [N]);
    line[threadIdx.x] = p.x[global_index()];
    if (threadIdx.x < N / 2) {
        __syncthreads();
        p.y[global_index()] = line[N - 1 - threadIdx.x];
    } else {
        __syncthreads();
    }
}
ENTRY(barrier_in_branches)

CASE(end_before_barrier)
{
    if (threadIdx.x == N - 1) return;
    __syncthreads();
    p.y[global_index()] = p.x[global_index()];
}
ENTRY(end_before_barrier)

CASE(barrier_in_part_of_block)
{
    if (threadIdx.x < 32) __syncthreads();
    p.y[global_index()] = warp_sum(p.x[global_index()]);
    if (threadIdx.x < 32) __syncthreads();
}
ENTRY(barrier_in_part_of_block)

CASE(lane_has_ended)
{
    if (threadIdx.x % 32 == 31) return;
    p.y[global_index()] = warp_sum(p.x[global_index()]);
}
ENTRY(lane_has_ended)

CASE(lane_not_in_mask)
{
    p.y[global_index()] = __shfl_sync(0x7fffffffu, p.x[global_index()], 0);
}
ENTRY(lane_not_in_mask)

CASE(lane_read_outside_mask)
{
    if (threadIdx.x % 32 < 16) p.y[global_index()] = __shfl_xor_sync(0x0000ffffu, p.x[global_index()], 16);
}
ENTRY(lane_read_outside_mask)

CASE(lanes_in_two_collectives)
{
    const float x = p.x[global_index()];
    p.y[global_index()] = threadIdx.x % 2 ? __shfl_sync(~0u, x, 0) : __shfl_down_sync(~0u, x, 1);
}
ENTRY(lanes_in_two_collectives)

CASE(warp_waits_for_barrier)
{
    if (threadIdx.x == 0)
        __syncwarp();
    else
        __syncthreads();
    p.y[global_index()] = p.x[global_index()];
}
ENTRY(warp_waits_for_barrier)
