/* What the benches share: a clock, and the peak to compare with. */
#ifndef VG_TESTS_BENCH_H
#define VG_TESTS_BENCH_H

#include "kernels/cpu/gemm_impl.h"

#include <time.h>

/* Processor time of one thread, so that a busy machine does not show; wall time of more. */
static inline double now_s(int n_threads)
{
    struct timespec t;
    clock_gettime(n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A loop of multiply-adds in registers: chains of as many floats as the vectors of the path have. */
typedef float four __attribute__((vector_size(16)));
typedef float eight __attribute__((vector_size(32)));
typedef float sixteen __attribute__((vector_size(64)));
enum { PEAK_STEPS = 40000, CHAINS = 12 };

#define PEAK(name, vector, ...)                                                                   \
    __attribute__((optimize("O3,fp-contract=fast"), ##__VA_ARGS__)) static float name(float seed) \
    {                                                                                             \
        vector sum[CHAINS], total = {0};                                                          \
        const vector x = (vector){0} + seed, y = x * 0.5F;                                        \
        for (int i = 0; i < CHAINS; i++) sum[i] = x;                                              \
        for (int s = 0; s < PEAK_STEPS; s++)                                                      \
            for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * x + y;                             \
        for (int i = 0; i < CHAINS; i++) total += sum[i];                                         \
        return total[0];                                                                          \
    }
PEAK(peak4, four)
#if defined __x86_64__
PEAK(peak8, eight, target("avx2,fma"))
PEAK(peak16, sixteen, target("avx512f,prefer-vector-width=512"))
#endif

static inline float peak_loop(int lanes, float seed)
{
#if defined __x86_64__
    if (lanes > 4) return lanes > 8 ? peak16(seed) : peak8(seed);
#endif
    (void)lanes;
    return peak4(seed);
}

/* Operations per second in the moment of the call, in vectors as wide as those of our products. */
static inline double peak_flops(int n_threads)
{
    const int lanes = vg_gemm_isa_get()->nr / 2;
    double best = 0;
    for (int trial = 0; trial < 5; trial++) {
        const double start = now_s(n_threads);
        float sink = 0;
#pragma omp parallel num_threads(n_threads) reduction(+ : sink)
        sink += peak_loop(lanes, 1e-3F);
        const double flops = 2.0 * PEAK_STEPS * CHAINS * lanes * n_threads / (now_s(n_threads) - start);
        if (flops > best && sink < 1) best = flops;
    }
    return best;
}

#endif
