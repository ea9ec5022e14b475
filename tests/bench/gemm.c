/* Linear layers in the three directions: GF/s of our kernels and of OpenBLAS, and the share of what a loop of
 * multiply-adds reaches in the same moment. Best of several runs, the two taken in turns; one thread is measured in
 * processor time, so that a busy machine does not show, more in wall time.
 *
 *     bench_gemm [threads] [shape] [direction]      parts of names */
#define _POSIX_C_SOURCE 200809L
#include "kernels/cpu/gemm_impl.h"
#include "tests/bench/bench.h"

#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum direction { PACKED, FORWARD, DX, DW, DIRECTIONS } direction;
static const char *const direction_names[] = {"y packed", "y", "dx", "dw"};

typedef struct shape {
    const char *name;
    int64_t m, n, k; /* rows, outputs, inputs */
} shape;

static const shape shapes[] = {
    {"vit.qkv", 2088, 1152, 384},    {"vit.proj", 2088, 384, 384},     {"vit.fc1", 2088, 1536, 384},
    {"vit.fc2", 2088, 384, 1536},    {"vit518.fc1", 1374, 1536, 384},  {"text.qkv", 160, 2304, 768},
    {"text.proj", 160, 768, 768},    {"text.fc1", 160, 3072, 768},     {"text.fc2", 160, 768, 3072},
    {"encoder.qkv", 2208, 768, 256}, {"encoder.fc1", 2208, 2048, 256}, {"encoder.fc2", 2208, 256, 2048},
    {"decoder.q", 80, 256, 256},     {"decoder.kv", 2208, 512, 256},   {"decoder.fc1", 80, 2048, 256},
    {"decoder.fc2", 80, 256, 2048},  {"heads.boxes", 480, 4, 256},     {"tiny.fc1", 400, 192, 48},
};

typedef struct job {
    shape s;
    direction d;
    int n_threads;
    float *x, *w, *y, *packed;
    void *workspace;
} job;

static vg_gemm product(const job *j)
{
    const shape *s = &j->s;
    if (j->d == DX)
        return (vg_gemm){.m = s->m,
                         .n = s->k,
                         .k = s->n,
                         .a = j->y,
                         .a_row = s->n,
                         .a_step = 1,
                         .b = j->w,
                         .b_column = 1,
                         .b_step = s->k,
                         .finish = {.c = j->x}};
    if (j->d == DW)
        return (vg_gemm){.m = s->n,
                         .n = s->k,
                         .k = s->m,
                         .a = j->y,
                         .a_row = 1,
                         .a_step = s->n,
                         .b = j->x,
                         .b_column = 1,
                         .b_step = s->k,
                         .finish = {.c = j->w}};
    return (vg_gemm){.m = s->m,
                     .n = s->n,
                     .k = s->k,
                     .a = j->x,
                     .a_row = s->k,
                     .a_step = 1,
                     .b = j->w,
                     .b_column = s->k,
                     .b_step = 1,
                     .packed = j->d == PACKED ? j->packed : NULL,
                     .finish = {.c = j->y}};
}

static void ours(void *context)
{
    const job *j = context;
    const vg_gemm g = product(j);
    const vg_stream stream = {.n_threads = j->n_threads};
    vg_gemm_run(&stream, &g, j->workspace);
}

static void openblas(void *context)
{
    const job *j = context;
    const int m = (int)j->s.m, n = (int)j->s.n, k = (int)j->s.k;
    if (j->d == DX)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, k, n, 1, j->y, n, j->w, k, 0, j->x, k);
    else if (j->d == DW)
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, k, m, 1, j->y, n, j->x, k, 0, j->w, k);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, j->x, k, j->w, k, 0, j->y, n);
}

/* Seconds of one run. */
static double seconds(void (*f)(void *), job *j)
{
    const double start = now_s(j->n_threads);
    f(j);
    return now_s(j->n_threads) - start;
}

static float *floats(vg_arena *arena, size_t *used, size_t n)
{
    float *p = (float *)(arena->base + *used);
    *used += vg_round_up(n * sizeof(float), 4096) + 192; /* not all at the same place of a page */
    return p;
}

static void measure(vg_arena *arena, job j, const char *direction_part)
{
    size_t used = 0;
    j.x = floats(arena, &used, (size_t)(j.s.m * j.s.k));
    j.w = floats(arena, &used, (size_t)(j.s.n * j.s.k));
    j.y = floats(arena, &used, (size_t)(j.s.m * j.s.n));
    j.packed = floats(arena, &used, vg_gemm_packed_bytes(j.s.n, j.s.k) / sizeof(float));
    j.workspace = floats(arena, &used, 0);
    for (direction d = 0; d < DIRECTIONS; d++) {
        if (!strstr(direction_names[d], direction_part)) continue;
        j.d = d;
        vg_fill_uniform(j.x, j.s.m * j.s.k, vg_rng_key_of(1, 1), -1, 1);
        vg_fill_uniform(j.w, j.s.n * j.s.k, vg_rng_key_of(1, 2), -1, 1);
        vg_fill_uniform(j.y, j.s.m * j.s.n, vg_rng_key_of(1, 3), -1, 1);
        const vg_gemm g = product(&j);
        if (d == PACKED) vg_gemm_pack(&g, j.packed);
        if (used + vg_gemm_workspace(&g, j.n_threads) > arena->size_bytes) continue;
        double best_ours = 1e9, best_blas = 1e9, peak = 0;
        const double start = vg_now_s();
        for (int trial = 0; trial < 8 || (vg_now_s() - start < 0.4 && trial < 1000); trial++) {
            const double a = seconds(ours, &j), b = seconds(openblas, &j);
            if (a < best_ours) best_ours = a;
            if (b < best_blas) best_blas = b;
        }
        peak = peak_flops(j.n_threads);
        const double flops = 2.0 * (double)j.s.m * (double)j.s.n * (double)j.s.k;
        printf("%-12s %5lld %5lld %5lld  %-8s  %7.1f %5.1f%%   %7.1f %5.1f%%\n", j.s.name, (long long)j.s.m,
               (long long)j.s.n, (long long)j.s.k, direction_names[d], flops / best_ours * 1e-9,
               100 * flops / best_ours / peak, flops / best_blas * 1e-9, 100 * flops / best_blas / peak);
    }
}

int main(int n_arguments, char **arguments)
{
    const int n_threads = n_arguments > 1 ? atoi(arguments[1]) : 1;
    vg_arena arena;
    if (vg_arena_init(&arena, (size_t)200 << 20) != VG_OK) {
        fprintf(stderr, "%s\n", vg_error_text());
        return 71;
    }
    openblas_set_num_threads(n_threads);
    printf("%s, %d threads; OpenBLAS kernels: %s; peak %.1f GF/s\n", vg_gemm_isa_get()->name, n_threads,
           openblas_get_corename(), 1e-9 * peak_flops(n_threads));
    printf("shape            m     n     k  what      GF/s ours  peak   OpenBLAS  peak\n");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (n_arguments < 3 || strstr(shapes[i].name, arguments[2]))
            measure(&arena, (job){.s = shapes[i], .n_threads = n_threads}, n_arguments > 3 ? arguments[3] : "");
    vg_arena_release(&arena);
    return 0;
}
