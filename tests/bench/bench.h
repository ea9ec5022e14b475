/* What the benches share: a clock, and the peak to compare with. */
#ifndef VG_TESTS_BENCH_H
#define VG_TESTS_BENCH_H

#include <stdbool.h>
#include <time.h>

/* Processor time of one thread, so that a busy machine does not show; wall time of more. */
static inline double now_s(int n_threads)
{
    struct timespec t;
    clock_gettime(n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A loop of multiply-adds in registers: chains of eight floats, or of sixteen where the path has them. */
typedef float eight __attribute__((vector_size(32)));
typedef float sixteen __attribute__((vector_size(64)));
enum { PEAK_STEPS = 40000, CHAINS = 12 };

#define PEAK(name, vector, isa)                                                                 \
    __attribute__((target(isa), optimize("O3,fp-contract=fast"))) static float name(float seed) \
    {                                                                                           \
        vector sum[CHAINS], total = {0};                                                        \
        const vector x = (vector){0} + seed, y = x * 0.5F;                                      \
        for (int i = 0; i < CHAINS; i++) sum[i] = x;                                            \
        for (int s = 0; s < PEAK_STEPS; s++)                                                    \
            for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * x + y;                           \
        for (int i = 0; i < CHAINS; i++) total += sum[i];                                       \
        return total[0];                                                                        \
    }
PEAK(peak8, eight, "avx2,fma")
PEAK(peak16, sixteen, "avx512f,prefer-vector-width=512")

/* Operations per second, in the moment of the call. */
static inline double peak_flops(int n_threads, bool wide)
{
    double best = 0;
    for (int trial = 0; trial < 5; trial++) {
        const double start = now_s(n_threads);
        float sink = 0;
#pragma omp parallel num_threads(n_threads) reduction(+ : sink)
        sink += wide ? peak16(1e-3F) : peak8(1e-3F);
        const double flops = 2.0 * PEAK_STEPS * CHAINS * (wide ? 16 : 8) * n_threads / (now_s(n_threads) - start);
        if (flops > best && sink < 1) best = flops;
    }
    return best;
}

#endif
