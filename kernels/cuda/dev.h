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
 * threadIdx, __syncthreads, __syncwarp, __shfl_xor_sync, float4, __nv_bfloat16. */
#ifndef VG_KERNELS_CUDA_DEV_H
#define VG_KERNELS_CUDA_DEV_H

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_runtime.h>

/* KERNEL(max_threads) or KERNEL(max_threads, blocks): how many blocks should fit one multiprocessor, for where the
 * compiler's own guess would spill registers. */
#define KERNEL(...)             extern "C" __global__ __launch_bounds__(__VA_ARGS__)
#define SHARED(type, name, ...) __shared__ type name __VA_ARGS__
/* The block's dynamic shared memory, 16-byte aligned; its size comes from LAUNCH. */
#define DYN_SHARED(type, name)                                   \
    extern __shared__ __align__(16) unsigned char dyn_shared_[]; \
    type *const name = reinterpret_cast<type *>(dyn_shared_)
#define LAUNCH(kernel, grid, block, shared_bytes, queue, args) \
    kernel<<<(grid), (block), (shared_bytes), (queue)>>>(args)
#define KERNEL_ENTRY(kernel, args_type)

#else
#include <emu/device.h>
#endif

#endif
