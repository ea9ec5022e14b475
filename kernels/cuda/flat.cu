/* Passes over flat parameter ranges: the sums of kernels/cpu/flat.c in the same order, compiled without multiply-add
 * contraction, so with the CPU's bits but for the pow of the bias corrections. What a step decides on stays on the
 * device: see vg_update. */
#include "kernels/cuda/cuda_impl.h"
#include "kernels/cuda/warp.h"
#include "kernels/params.h"

#include <math.h>

enum { THREADS = VG_PARAM_BLOCK / 4, LANES = 16, LANES_EACH = 4 };

extern "C" vg_status vg_cuda_sum(vg_stream *stream, float *dst, const float *a, const float *b, int64_t n)
{
    if (n == 0) return VG_OK;
    vg_node node = {};
    node.in[0].data = (void *)a;
    node.in[1].data = (void *)b;
    node.out[0].data = dst;
    node.in[0].shape.rank = 1;
    node.in[0].shape.dim[0] = n;
    return vg_cuda_add(stream, &node);
}

struct squares_args {
    const float *x;
    double *block_sums;
    int64_t n_blocks;
};

/* Lane l of a block sums the squares of elements l, l+16, ..; then the lanes are added from first to last. A thread has
 * four lanes, so four threads a block and 64 bytes of it at a time. Memory bound: 4 bytes a number. */
KERNEL(THREADS) void sum_block_squares(const struct squares_args p)
{
    const int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x, block = thread / LANES_EACH;
    const int quarter = threadIdx.x % LANES_EACH;
    double lane[LANES_EACH] = {0, 0, 0, 0}, total = 0;
    if (block < p.n_blocks) {
        const float4 *x = (const float4 *)(p.x + block * VG_PARAM_BLOCK) + quarter;
#pragma unroll 8
        for (int i = 0; i < VG_PARAM_BLOCK / LANES; i++) {
            const float4 four = x[i * (LANES / LANES_EACH)];
            lane[0] += (double)four.x * (double)four.x;
            lane[1] += (double)four.y * (double)four.y;
            lane[2] += (double)four.z * (double)four.z;
            lane[3] += (double)four.w * (double)four.w;
        }
    }
    for (int from = 0; from < LANES / LANES_EACH; from++)
#pragma unroll
        for (int l = 0; l < LANES_EACH; l++) total += __shfl_sync(ALL_LANES, lane[l], from, LANES_EACH);
    if (block < p.n_blocks && quarter == 0) p.block_sums[block] = total;
}
KERNEL_ENTRY(sum_block_squares, struct squares_args)

extern "C" vg_status vg_cuda_sum_squares(vg_stream *stream, const float *x, int64_t n_blocks, double *block_sums)
{
    if (n_blocks == 0) return VG_OK;
    const squares_args p = {x, block_sums, n_blocks};
    LAUNCH(sum_block_squares, (unsigned)((n_blocks * LANES_EACH + THREADS - 1) / THREADS), THREADS, 0,
           vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("sum_squares");
}

/* One block, a thread a lane. Bound by latency: a few loads behind each other, and an addition for every halving. */
KERNEL(VG_NORM_LANES) void gradient_norm(const struct vg_grad_norm p)
{
    SHARED(double, lanes, [VG_NORM_LANES]);
    const int lane = (int)threadIdx.x;
    double sum = 0;
#pragma unroll 8
    for (int64_t b = lane; b < p.n_blocks; b += VG_NORM_LANES) sum += p.block_sums[b];
    lanes[lane] = sum;
    for (int half = VG_NORM_LANES / 2; half; half /= 2) {
        __syncthreads();
        if (lane < half) lanes[lane] += lanes[lane + half];
    }
    if (lane) return;
    vg_update *u = p.update;
    u->norm = sqrt(lanes[0]);
    u->clip = (float)(p.clip_norm > 0 ? fmin(1.0, p.clip_norm / (u->norm + 1e-6)) : 1.0);
    if (!isfinite(u->norm)) u->skip = 1;
    if (u->skip) return;
    u->steps++;
    u->bias1 = 1 - pow(p.beta1, (double)u->steps);
    u->bias2 = 1 - pow(p.beta2, (double)u->steps);
}
KERNEL_ENTRY(gradient_norm, struct vg_grad_norm)

extern "C" vg_status vg_cuda_norm(vg_stream *stream, const vg_grad_norm *args)
{
    LAUNCH(gradient_norm, 1, VG_NORM_LANES, 0, vg_cuda_queue(stream), *args);
    return VG_CUDA_LAUNCHED("norm");
}

/* The numbers of one block that all its elements share. */
struct adamw_step {
    float shrink; /* lr * decay */
    float rate;   /* lr / bias1 */
    float root2;  /* 1 / sqrt(bias2) */
    float beta1, beta2, eps, clip;
};

static __device__ adamw_step step_of(const vg_adamw &a, int64_t block)
{
    const vg_update *u = a.update;
    const double lr = (double)(a.block_lr[block] * u->course);
    adamw_step s;
    s.shrink = (float)(lr * (double)a.block_decay[block]);
    s.rate = (float)(lr / u->bias1);
    s.root2 = (float)(1 / sqrt(u->bias2));
    s.beta1 = a.beta1;
    s.beta2 = a.beta2;
    s.eps = a.eps;
    s.clip = u->clip;
    return s;
}

static __device__ void move_one(const adamw_step &s, float gradient, float *p, float *m, float *v)
{
    const float g = gradient * s.clip, shrunk = *p - s.shrink * *p;
    *m = s.beta1 * *m + (1.0F - s.beta1) * g;
    *v = s.beta2 * *v + (1.0F - s.beta2) * (g * g);
    *p = shrunk - s.rate * (*m / (sqrtf(*v) * s.root2 + s.eps));
}

static __device__ float blend(float decay, float average, float x)
{
    return decay * average + (1.0F - decay) * x;
}

/* A block per block of parameters, four a thread. Memory bound: 28 bytes a number, 36 with an average. The loads are
 * under way while one thread works out the rates, in fp64. */
KERNEL(THREADS) void adamw_blocks(const struct vg_adamw a)
{
    SHARED(struct adamw_step, shared, [1]);
    if (a.update->skip) return;
    const int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const float4 g = ((const float4 *)a.grad)[at];
    float4 p = ((float4 *)a.param)[at], m = ((float4 *)a.moment1)[at], v = ((float4 *)a.moment2)[at];
    if (threadIdx.x == 0) shared[0] = step_of(a, blockIdx.x);
    __syncthreads();
    const adamw_step s = shared[0];
    move_one(s, g.x, &p.x, &m.x, &v.x);
    move_one(s, g.y, &p.y, &m.y, &v.y);
    move_one(s, g.z, &p.z, &m.z, &v.z);
    move_one(s, g.w, &p.w, &m.w, &v.w);
    ((float4 *)a.param)[at] = p;
    ((float4 *)a.moment1)[at] = m;
    ((float4 *)a.moment2)[at] = v;
    if (!a.average) return;
    const float4 old = ((float4 *)a.average)[at];
    const float d = a.average_decay;
    ((float4 *)a.average)[at] =
        make_float4(blend(d, old.x, p.x), blend(d, old.y, p.y), blend(d, old.z, p.z), blend(d, old.w, p.w));
}
KERNEL_ENTRY(adamw_blocks, struct vg_adamw)

extern "C" vg_status vg_cuda_adamw(vg_stream *stream, const vg_adamw *args)
{
    if (args->n_blocks == 0) return VG_OK;
    LAUNCH(adamw_blocks, (unsigned)args->n_blocks, THREADS, 0, vg_cuda_queue(stream), *args);
    return VG_CUDA_LAUNCHED("adamw");
}
