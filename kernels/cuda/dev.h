/* The dialect of device code. nvcc compiles it for the GPU; g++ compiles the same files for the emulator that runs them
 * in tests on machines without one (tests/emu). What the two read differently stands here and nowhere else: kernels use
 * no <<<>>>, no __shared__ and no inline assembly of their own.
 *
 *     struct rows { const float *x; float *y; int64_t n; };
 *
 *     KERNEL(256) void copy_rows(const struct rows r)        at most 256 threads a block; one struct by value
 *     {
 *         SHARED(float, tile, [8][33]);
 *         ...
 *         __syncthreads();                                   one a line: its line is its name in reports
 *     }
 *     KERNEL_ENTRY(copy_rows, struct rows)
 *
 *     extern "C" vg_status vg_cuda_copy(vg_stream *s, const vg_node *n)
 *     {
 *         const struct rows r = ..;
 *         LAUNCH(copy_rows, n_blocks, 256, 0, vg_cuda_queue(s), r);
 *         return VG_CUDA_LAUNCHED("copy");
 *     }
 *
 * A kernel takes its arguments as one struct by value, has C linkage and a name that is unique in the program: that is
 * how the emulator finds its body. Templates are for the functions that kernels call. Everything else is plain CUDA C:
 * threadIdx, __syncthreads, __syncwarp, __shfl_xor_sync, float4, __nv_bfloat16. Blocks of one launch do not wait for
 * each other: what one block needs from another is a second launch. */
#ifndef VG_KERNELS_CUDA_DEV_H
#define VG_KERNELS_CUDA_DEV_H

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

/* KERNEL(max_threads) or KERNEL(max_threads, blocks): how many blocks should fit one multiprocessor, for where the
 * compiler's own guess would spill registers. */
#define KERNEL(...)             extern "C" __global__ __launch_bounds__(__VA_ARGS__)
#define SHARED(type, name, ...) __shared__ type name __VA_ARGS__
/* The block's dynamic shared memory, 16-byte aligned, or to 1024 where there is no other; LAUNCH gives its size. */
#define DYN_SHARED(type, name)                                   \
    extern __shared__ __align__(16) unsigned char dyn_shared_[]; \
    type *const name = reinterpret_cast<type *>(dyn_shared_)
#define LAUNCH(kernel, grid, block, shared_bytes, queue, args) \
    kernel<<<(grid), (block), (shared_bytes), (queue)>>>(args)
#define KERNEL_ENTRY(kernel, args_type)

/* d += a b by one warp on tensor cores: a [16,16], b [16,8] in bf16, d [16,8] in fp32, spread over the lanes as
 * mma.sync.m16n8k16 has it. With group = lane / 4 and pair = 2 (lane % 4), each register two neighbours:
 *     a[r]  row group + 8 (r % 2), columns pair + 8 (r / 2) ..        b[r]  column group, rows pair + 8 r ..
 *     d[i]  row group + 8 (i / 2), column pair + i % 2 */
__device__ __forceinline__ void mma_bf16_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Loads 1, 2 or 4 matrices of 8 x 8 16-bit numbers from shared memory: lane 8i + r passes the address of row r of
 * matrix i (16 bytes, aligned), and gets in m[i] row lane / 4, columns 2 (lane % 4) and the next; of the transposed
 * matrix in ldmatrix_transposed. So a row-major a is ldmatrix<4>, a b that lies [n,k] is ldmatrix<2>, one that lies
 * [k,n] is ldmatrix_transposed<2>. */
template <int n> __device__ __forceinline__ void ldmatrix(unsigned (&m)[n], const void *row)
{
    const unsigned at = (unsigned)__cvta_generic_to_shared(row);
    static_assert(n == 1 || n == 2 || n == 4, "ldmatrix loads 1, 2 or 4 matrices");
    if constexpr (n == 1)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(m[0]) : "r"(at) : "memory");
    else if constexpr (n == 2)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                     : "=r"(m[0]), "=r"(m[1])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                     : "r"(at)
                     : "memory");
}
template <int n> __device__ __forceinline__ void ldmatrix_transposed(unsigned (&m)[n], const void *row)
{
    const unsigned at = (unsigned)__cvta_generic_to_shared(row);
    static_assert(n == 1 || n == 2 || n == 4, "ldmatrix loads 1, 2 or 4 matrices");
    if constexpr (n == 1)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(m[0]) : "r"(at) : "memory");
    else if constexpr (n == 2)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                     : "=r"(m[0]), "=r"(m[1])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                     : "r"(at)
                     : "memory");
}

/* 2^x within 2 units in the last place, 0 for what would be a denormal number. */
__device__ __forceinline__ float exp2_approximate(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Copies 4, 8 or 16 bytes (aligned) from global to shared memory in the background: the first `valid` come from memory,
 * the rest are zero. Copies are waited for in groups: commit ends a group, wait<n> waits for all but the last n of
 * them. What was waited for is there for the thread itself; other threads see it after a barrier. */
template <int bytes> __device__ __forceinline__ void cp_async(void *shared, const void *global, int valid = bytes)
{
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
    const unsigned at = (unsigned)__cvta_generic_to_shared(shared);
    if constexpr (bytes == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(global), "r"(valid) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(at), "l"(global), "n"(bytes), "r"(valid)
                     : "memory");
}
__device__ __forceinline__ void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int n> __device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

/* What only compute capability 9.0 has, compiled as 9.0a: products of four warps that work in the background (team.h).
 */
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define WGMMA_SUMS(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define WGMMA_LEFT    "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])

/* d = a b or, with `add`, d += a b; d and a as mma_bf16_16x8x16 has them, 16 rows a warp and 8 columns of b in each
 * d[n]. `b` describes a matrix in shared memory that lies [n,k] or, `transposed`, [k,n]. */
template <bool add, bool transposed>
__device__ __forceinline__ void wgmma_bf16(float (&d)[4][4], const unsigned (&a)[4], uint64_t b)
{
    asm volatile(
        "{ .reg .pred add; setp.ne.b32 add, %21, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,"
        "%15}, {%16,%17,%18,%19}, %20, add, 1, 1, %22; }"
        : WGMMA_SUMS(0), WGMMA_SUMS(1), WGMMA_SUMS(2), WGMMA_SUMS(3)
        : WGMMA_LEFT, "l"(b), "n"(add), "n"(transposed));
}
template <bool add, bool transposed>
__device__ __forceinline__ void wgmma_bf16(float (&d)[8][4], const unsigned (&a)[4], uint64_t b)
{
    asm volatile(
        "{ .reg .pred add; setp.ne.b32 add, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,"
        "%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, add, 1, 1, "
        "%38; }"
        : WGMMA_SUMS(0), WGMMA_SUMS(1), WGMMA_SUMS(2), WGMMA_SUMS(3), WGMMA_SUMS(4), WGMMA_SUMS(5), WGMMA_SUMS(6),
          WGMMA_SUMS(7)
        : WGMMA_LEFT, "l"(b), "n"(add), "n"(transposed));
}
/* Before the first product after registers of d or a were written. */
__device__ __forceinline__ void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int n> __device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory");
}
/* Keeps what reads x behind what stands before. */
__device__ __forceinline__ void keep_behind(float &x)
{
    asm volatile("" : "+f"(x)::"memory");
}
/* Makes what this thread put into shared memory visible to wgmma. */
__device__ __forceinline__ void fence_async_proxy()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
#endif

#else
#include <emu/device.h>
#endif

#endif
