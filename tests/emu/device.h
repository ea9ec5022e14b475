/* What kernels/cuda/dev.h is to g++: CUDA's device dialect in plain C++, on top of the executor's calls. */
#ifndef VG_EMU_DEVICE_H
#define VG_EMU_DEVICE_H

#include "emu/calls.h"

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <vector_functions.h>

#ifdef __SANITIZE_THREAD__
#define EMU_CHECKED true
#else
#define EMU_CHECKED false
#endif

#define EMU_JOIN_(a, b) a##b
#define EMU_JOIN(a, b)  EMU_JOIN_(a, b)

/* The bound stands before the kernel's name is known: it is kept for the KERNEL_ENTRY that follows. */
static unsigned emu_last_bound;
struct emu_bound {
    explicit emu_bound(unsigned max_threads)
    {
        emu_last_bound = max_threads;
    }
};

template <class args> struct emu_entry {
    emu_entry(const char *name, void (*body)(const void *))
    {
        emu_register(name, sizeof(args), emu_last_bound, EMU_CHECKED, body);
    }
};

#define KERNEL(max_threads, ...)                                           \
    static const emu_bound EMU_JOIN(emu_bound_of_, __LINE__)(max_threads); \
    extern "C"
#define KERNEL_ENTRY(kernel, args_type)               \
    static const emu_entry<args_type> kernel##_entry( \
        #kernel, [](const void *args) { kernel(*static_cast<const args_type *>(args)); });
#define SHARED(type, name, ...)                                                                      \
    using name##_type = type __VA_ARGS__;                                                            \
    static emu_shared_array name##_array = {#name, sizeof(name##_type), alignof(name##_type), 0, 0}; \
    name##_type &name = *static_cast<name##_type *>(emu_shared(&name##_array))
#define DYN_SHARED(type, name) type *const name = static_cast<type *>(emu_dynamic_shared())
/* Host code that launches is compiled with the kernels and not used: the build's own launchers run. */
#define LAUNCH(kernel, grid, block, shared_bytes, queue, args) \
    emu_launch_operands(kernel, dim3(grid), dim3(block), shared_bytes, queue, args)
template <class args> void emu_launch_operands(void (*)(args), dim3, dim3, size_t, cudaStream_t, const args &)
{
}

#define threadIdx emu_thread_index()
#define blockIdx  emu_block_index()
#define blockDim  emu_block_size()
#define gridDim   emu_grid_size()
#define warpSize  32

/* Where the caller stands: its barriers and collectives are known by it. */
#define EMU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(EMU_HERE)
{
    emu_barrier({file, line}, false);
}
static inline int __syncthreads_count(int predicate, EMU_HERE)
{
    return emu_barrier({file, line}, predicate != 0);
}
static inline int __syncthreads_or(int predicate, EMU_HERE)
{
    return emu_barrier({file, line}, predicate != 0) != 0;
}
static inline int __syncthreads_and(int predicate, EMU_HERE)
{
    return emu_barrier({file, line}, predicate == 0) == 0;
}
/* One OS thread runs everything: every thread sees all there is. */
static inline void __threadfence_block()
{
}
static inline void __threadfence()
{
}

static inline void __syncwarp(unsigned mask = ~0u, EMU_HERE)
{
    emu_warp_barrier({file, line}, mask);
}
template <class T>
static inline T emu_shuffled(emu_site site, unsigned mask, emu_shuffle_kind kind, T value, int arg, int width)
{
    static_assert(sizeof(T) <= sizeof(uint64_t), "shuffles move up to eight bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = emu_shuffle(site, mask, kind, bits, arg, width);
    memcpy(&value, &bits, sizeof value);
    return value;
}
template <class T> static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, EMU_HERE)
{
    return emu_shuffled({file, line}, mask, EMU_SHUFFLE_INDEX, value, lane, width);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, EMU_HERE)
{
    return emu_shuffled({file, line}, mask, EMU_SHUFFLE_UP, value, (int)by, width);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, EMU_HERE)
{
    return emu_shuffled({file, line}, mask, EMU_SHUFFLE_DOWN, value, (int)by, width);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32, EMU_HERE)
{
    return emu_shuffled({file, line}, mask, EMU_SHUFFLE_XOR, value, by, width);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, EMU_HERE)
{
    return emu_ballot({file, line}, mask, predicate != 0);
}
static inline int __any_sync(unsigned mask, int predicate, EMU_HERE)
{
    return emu_ballot({file, line}, mask, predicate != 0) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, EMU_HERE)
{
    return emu_ballot({file, line}, mask, predicate != 0) == mask;
}

/* Atomics of whole numbers; sums of floating-point numbers have an order, so there are none for them. The compiler's
 * builtins are what check mode knows an atomic access by. */
#define EMU_ATOMIC(name, T, wanted)                                                                                \
    static inline T name(T *p, T value)                                                                            \
    {                                                                                                              \
        T old = __atomic_load_n(p, __ATOMIC_RELAXED);                                                              \
        while (!__atomic_compare_exchange_n(p, &old, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue; \
        return old;                                                                                                \
    }
#define EMU_ATOMICS(T)                                                                               \
    EMU_ATOMIC(atomicAdd, T, (T)(old + value))                                                       \
    EMU_ATOMIC(atomicExch, T, value)                                                                 \
    EMU_ATOMIC(atomicMin, T, (value < old ? value : old))                                            \
    EMU_ATOMIC(atomicMax, T, (value > old ? value : old))                                            \
    EMU_ATOMIC(atomicAnd, T, (old & value))                                                          \
    EMU_ATOMIC(atomicOr, T, (old | value))                                                           \
    static inline T atomicCAS(T *p, T expected, T value)                                             \
    {                                                                                                \
        __atomic_compare_exchange_n(p, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED); \
        return expected;                                                                             \
    }
EMU_ATOMICS(int)
EMU_ATOMICS(unsigned)
EMU_ATOMICS(unsigned long long)

/* Loads and stores with a hint for the caches. */
#define EMU_LOAD(name)                                  \
    template <class T> static inline T name(const T *p) \
    {                                                   \
        return *p;                                      \
    }
EMU_LOAD(__ldg)
EMU_LOAD(__ldca)
EMU_LOAD(__ldcg)
EMU_LOAD(__ldcs)
EMU_LOAD(__ldlu)
#define EMU_STORE(name)                                          \
    template <class T> static inline void name(T *p, const T &x) \
    {                                                            \
        *p = x;                                                  \
    }
EMU_STORE(__stwb)
EMU_STORE(__stcg)
EMU_STORE(__stcs)
EMU_STORE(__stwt)

/* Numbers. */
#define EMU_MIN_MAX(T)            \
    static inline T min(T a, T b) \
    {                             \
        return b < a ? b : a;     \
    }                             \
    static inline T max(T a, T b) \
    {                             \
        return a < b ? b : a;     \
    }
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned)
EMU_MIN_MAX(long)
EMU_MIN_MAX(unsigned long)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
static inline float min(float a, float b)
{
    return fminf(a, b);
}
static inline float max(float a, float b)
{
    return fmaxf(a, b);
}
static inline double min(double a, double b)
{
    return fmin(a, b);
}
static inline double max(double a, double b)
{
    return fmax(a, b);
}
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
static inline double rsqrt(double x)
{
    return 1.0 / sqrt(x);
}
static inline float exp2_approximate(float x)
{
    return exp2f(x);
}
/* The C library declares some of these names for itself. */
#define __expf(x)            expf(x)
#define __exp2f(x)           exp2f(x)
#define __exp10f(x)          exp10f(x)
#define __logf(x)            logf(x)
#define __log2f(x)           log2f(x)
#define __sinf(x)            sinf(x)
#define __cosf(x)            cosf(x)
#define __tanhf(x)           tanhf(x)
#define __powf(x, y)         powf(x, y)
#define __fdividef(x, y)     ((x) / (y))
#define __fdiv_rn(x, y)      ((x) / (y))
#define __fadd_rn(x, y)      ((x) + (y))
#define __fsub_rn(x, y)      ((x) - (y))
#define __fmul_rn(x, y)      ((x) * (y))
#define __fmaf_rn(x, y, z)   fmaf(x, y, z)
#define __fsqrt_rn(x)        sqrtf(x)
#define __frsqrt_rn(x)       (1.0f / sqrtf(x))
#define __frcp_rn(x)         (1.0f / (x))
#define __dadd_rn(x, y)      ((x) + (y))
#define __dmul_rn(x, y)      ((x) * (y))
#define __saturatef(x)       fminf(fmaxf(x, 0.0f), 1.0f)
#define __float2int_rn(x)    ((int)rintf(x))
#define __float2int_rz(x)    ((int)(x))
#define __float2int_rd(x)    ((int)floorf(x))
#define __int2float_rn(x)    ((float)(int)(x))
#define __uint2float_rn(x)   ((float)(unsigned)(x))
#define __double2float_rn(x) ((float)(double)(x))
#define __umulhi(x, y)       ((unsigned)((uint64_t)(unsigned)(x) * (unsigned)(y) >> 32))
#define __umul64hi(x, y)     ((unsigned long long)((unsigned __int128)(x) * (y) >> 64))
#define __popc(x)            __builtin_popcount(x)
#define __popcll(x)          __builtin_popcountll(x)
#define __ffs(x)             __builtin_ffs(x)
static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}
template <class to, class from> static inline to emu_same_bits(from x)
{
    static_assert(sizeof(to) == sizeof(from), "as many bits");
    to y;
    memcpy(&y, &x, sizeof y);
    return y;
}
#define __float_as_int(x)  emu_same_bits<int, float>(x)
#define __float_as_uint(x) emu_same_bits<unsigned, float>(x)
#define __int_as_float(x)  emu_same_bits<float, int>(x)
#define __uint_as_float(x) emu_same_bits<float, unsigned>(x)

/* The wrappers of dev.h around PTX. */
static inline void mma_bf16_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMU_HERE)
{
    emu_mma_bf16({file, line}, d, a, b);
}
template <int n> static inline void ldmatrix(unsigned (&m)[n], const void *row, EMU_HERE)
{
    emu_ldmatrix({file, line}, m, n, false, row);
}
template <int n> static inline void ldmatrix_transposed(unsigned (&m)[n], const void *row, EMU_HERE)
{
    emu_ldmatrix({file, line}, m, n, true, row);
}
template <int bytes> static inline void cp_async(void *shared, const void *global, int valid = bytes)
{
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
    emu_copy_async(shared, global, bytes, (unsigned)valid);
}
static inline void cp_async_commit()
{
    emu_copy_async_commit();
}
template <int n> static inline void cp_async_wait()
{
    emu_copy_async_wait(n);
}

#endif
