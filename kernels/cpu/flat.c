/* Passes over flat parameter ranges. Elements are independent or sums have a fixed order inside a block, so threads and
 * vector widths do not show in the bits; no multiply-add is fused. */
#include "kernels/cpu/flat_impl.h"
#include "kernels/params.h"

#include <math.h>

enum {
    BLOCK = VG_PARAM_BLOCK,
    LANES = 16, /* sums side by side, of a cache line */
};

VG_EACH_CPU static void sum_some(float *dst, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) dst[i] = a[i] + b[i];
}

vg_status vg_cpu_sum(vg_stream *stream, float *dst, const float *a, const float *b, int64_t n)
{
    enum { CHUNK = 16 * BLOCK };
#pragma omp parallel for num_threads(stream->n_threads) if (stream->n_threads > 1) schedule(static)
    for (int64_t i = 0; i < n; i += CHUNK) sum_some(dst + i, a + i, b + i, n - i < CHUNK ? n - i : CHUNK);
    return VG_OK;
}

/* Lane l sums the squares of elements l, l+16, ...; then the lanes are added from first to last. */
VG_EACH_CPU static double block_sum_squares(const float *x)
{
    double lanes[LANES] = {0}, total = 0;
    for (int i = 0; i < BLOCK; i += LANES) {
        __builtin_prefetch(x + i + VG_FLOATS_AHEAD);
#pragma omp simd
        for (int l = 0; l < LANES; l++) lanes[l] += (double)x[i + l] * (double)x[i + l];
    }
    for (int l = 0; l < LANES; l++) total += lanes[l];
    return total;
}

vg_status vg_cpu_sum_squares(vg_stream *stream, const float *x, int64_t n_blocks, double *block_sums)
{
#pragma omp parallel for num_threads(stream->n_threads) if (stream->n_threads > 1) schedule(static)
    for (int64_t b = 0; b < n_blocks; b++) block_sums[b] = block_sum_squares(x + b * BLOCK);
    return VG_OK;
}

static double sum_of_blocks(const double *x, int64_t n)
{
    double lanes[VG_NORM_LANES] = {0};
    for (int64_t b = 0; b < n; b++) lanes[b % VG_NORM_LANES] += x[b];
    for (int half = VG_NORM_LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) lanes[l] += lanes[l + half];
    return lanes[0];
}

vg_status vg_cpu_norm(vg_stream *stream, const vg_grad_norm *a)
{
    (void)stream;
    vg_update *u = a->update;
    u->norm = sqrt(sum_of_blocks(a->block_sums, a->n_blocks));
    u->clip = (float)(a->clip_norm > 0 ? fmin(1, a->clip_norm / (u->norm + 1e-6)) : 1);
    if (!isfinite(u->norm)) u->skip = 1;
    if (u->skip) return VG_OK;
    u->steps++;
    u->bias1 = 1 - pow(a->beta1, (double)u->steps);
    u->bias2 = 1 - pow(a->beta2, (double)u->steps);
    return VG_OK;
}

/* The numbers of one block that all its elements share. */
typedef struct step {
    float shrink; /* lr * decay */
    float rate;   /* lr / bias1 */
    float root2;  /* 1 / sqrt(bias2) */
    float beta1, beta2, eps, clip;
} step;

VG_EACH_CPU static void block_adamw(step s, float *restrict p, float *restrict m, float *restrict v,
                                    const float *restrict grad)
{
    for (int line = 0; line < BLOCK; line += LANES) {
        __builtin_prefetch(p + line + VG_FLOATS_AHEAD, 1);
        __builtin_prefetch(m + line + VG_FLOATS_AHEAD, 1);
        __builtin_prefetch(v + line + VG_FLOATS_AHEAD, 1);
        __builtin_prefetch(grad + line + VG_FLOATS_AHEAD);
        for (int i = line; i < line + LANES; i++) {
            const float g = grad[i] * s.clip;
            const float shrunk = p[i] - s.shrink * p[i];
            m[i] = s.beta1 * m[i] + (1.0F - s.beta1) * g;
            v[i] = s.beta2 * v[i] + (1.0F - s.beta2) * (g * g);
            p[i] = shrunk - s.rate * (m[i] / (sqrtf(v[i]) * s.root2 + s.eps));
        }
    }
}

VG_EACH_CPU static void block_average(float *restrict average, const float *restrict p, float decay)
{
    for (int i = 0; i < BLOCK; i++) average[i] = decay * average[i] + (1.0F - decay) * p[i];
}

vg_status vg_cpu_adamw(vg_stream *stream, const vg_adamw *a)
{
    const vg_update *u = a->update;
    if (u->skip) return VG_OK;
    const double root2 = 1 / sqrt(u->bias2);
#pragma omp parallel for num_threads(stream->n_threads) if (stream->n_threads > 1) schedule(static)
    for (int64_t b = 0; b < a->n_blocks; b++) {
        const double lr = (double)(a->block_lr[b] * u->course);
        const step s = {.shrink = (float)(lr * (double)a->block_decay[b]),
                        .rate = (float)(lr / u->bias1),
                        .root2 = (float)root2,
                        .beta1 = a->beta1,
                        .beta2 = a->beta2,
                        .eps = a->eps,
                        .clip = u->clip};
        const int64_t at = b * BLOCK;
        block_adamw(s, a->param + at, a->moment1 + at, a->moment2 + at, a->grad + at);
        if (a->average) block_average(a->average + at, a->param + at, a->average_decay);
    }
    return VG_OK;
}
