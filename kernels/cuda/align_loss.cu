/* Region-phrase alignment: each cell of an image scores each of its phrases; see the model specification, 4.4. Four
 * kernels: unit vectors of the slots; chunks of an image's cells; sums of a slot over its chunks; sums over slots. Each
 * sum is over fixed pieces in a fixed order. */
#include "kernels/cuda/cuda_impl.h"
#include "kernels/cuda/warp.h"

#include <math.h>

enum { THREADS = 256, WARPS = THREADS / WARP };
enum { MAX_CHUNK = 32, CHUNK_FLOATS = 48 * 1024 / 4 - 256 }; /* cells and floats of a chunk: a block's shared memory */

/* One cell against one slot. */
struct align_term {
    float loss, d_cosine, cosine, d_score;
};

struct align_args {
    const float *a, *u, *scale, *shift, *scales;
    const float4 *targets;
    const int32_t *n_targets, *filled, *index;
    double *parts;
    float *da, *du, *dscale, *dshift;
    float *unit_u, *norm_u; /* [B,C] u / max(|u|, least)   [B] |u| */
    float *partial_du;      /* [B,n_chunks,C] gradient by unit_u of a chunk */
    align_term *terms;      /* [B,P] */
    double *sums;           /* [B,3] loss, gradient of the log gain, gradient of the shift */
    int images, cells, width, slots, capacity, gh, gw;
    int chunk, n_chunks; /* cells of a chunk, chunks of an image */
    bool accumulate;
};

static constexpr float LEAST_NORM = 1e-12F;

static __device__ float norm_of(const float *x, int n, int lane)
{
    float sum = 0;
    for (int c = lane; c < n; c += WARP) sum += x[c] * x[c];
    return sqrtf(warp_sum(sum));
}

/* A warp per slot. */
KERNEL(THREADS) void align_units(const struct align_args p)
{
    const int lane = threadIdx.x % WARP, slot = blockIdx.x * WARPS + threadIdx.x / WARP;
    if (slot >= p.slots) return;
    const float *u = p.u + (int64_t)slot * p.width;
    const float norm = norm_of(u, p.width, lane), scale = 1.0F / fmaxf(norm, LEAST_NORM);
    for (int c = lane; c < p.width; c += WARP) p.unit_u[(int64_t)slot * p.width + c] = u[c] * scale;
    if (lane == 0) p.norm_u[slot] = norm;
}
KERNEL_ENTRY(align_units, struct align_args)

/* The first slot of an image at or after `image`. */
static __device__ int first_slot(const align_args &p, int image)
{
    if (!p.index) return min(image, p.slots);
    int low = 0, high = p.slots;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (p.index[middle] < image)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static __device__ float overlap(float lo, float hi, float centre, float size)
{
    return fmaxf(fminf(hi, centre + size / 2.0F) - fmaxf(lo, centre - size / 2.0F), 0.0F);
}

/* Share of a cell that the slot's boxes cover, at most 1. */
static __device__ float coverage(const align_args &p, int slot, int cell)
{
    const float w = 1.0F / (float)p.gw, h = 1.0F / (float)p.gh;
    const float x = (float)(cell % p.gw) * w, y = (float)(cell / p.gw) * h;
    float share = 0.0F;
    for (int t = 0; t < p.n_targets[slot] && t < p.capacity; t++) {
        const float4 box = p.targets[(int64_t)slot * p.capacity + t];
        share += overlap(x, x + w, box.x, box.z) * overlap(y, y + h, box.y, box.w) / (w * h);
    }
    return fminf(share, 1.0F);
}

static __device__ align_term term_of(const align_args &p, int slot, int cell, float cosine)
{
    const float gain = expf(*p.scale), weight = p.scales[4] / (float)p.cells;
    const float score = gain * cosine + *p.shift, target = coverage(p, slot, cell);
    align_term t;
    t.loss = fmaxf(score, 0.0F) - score * target + log1pf(expf(-fabsf(score)));
    t.d_score = (1.0F / (1.0F + expf(-score)) - target) * weight;
    t.d_cosine = t.d_score * gain;
    t.cosine = cosine;
    return t;
}

/* A warp's cell: the terms of its slots, then its own gradient. Returns 1 / |a|, bounded. */
static __device__ float cell_loss(const align_args &p, const float *a, int cell, int first, int end, float *da,
                                  int lane)
{
    const float norm = norm_of(a, p.width, lane), scale = 1.0F / fmaxf(norm, LEAST_NORM);
    float along = 0;
    for (int s = first; s < end; s++) {
        align_term term = {0, 0, 0, 0};
        if (p.filled[s]) {
            const float *u = p.unit_u + (int64_t)s * p.width;
            float dot = 0;
            for (int c = lane; c < p.width; c += WARP) dot += a[c] * scale * u[c];
            term = term_of(p, s, cell, warp_sum(dot));
        }
        along += term.d_cosine * term.cosine;
        if (lane == 0) p.terms[(int64_t)s * p.cells + cell] = term;
    }
    __syncwarp();
    if (!(norm > LEAST_NORM)) along = 0; /* a clamped norm is a constant */
    for (int c = lane; da && c < p.width; c += WARP) {
        float d = 0;
        for (int s = first; s < end; s++)
            if (p.filled[s]) d += p.terms[(int64_t)s * p.cells + cell].d_cosine * p.unit_u[(int64_t)s * p.width + c];
        da[c] = (d - a[c] * scale * along) * scale;
    }
    return scale;
}

/* What the cells of the chunk give to a slot's unit vector, cell after cell; a thread per column. */
static __device__ void chunk_du(const align_args &p, const float *rows, const float *scale, int first_cell, int n,
                                int slot)
{
    const align_term *terms = p.terms + (int64_t)slot * p.cells + first_cell;
    float *out = p.partial_du + ((int64_t)slot * p.n_chunks + first_cell / p.chunk) * p.width;
    for (int c = threadIdx.x; c < p.width; c += THREADS) {
        float sum = 0;
        for (int i = 0; i < n; i++) sum += terms[i].d_cosine * (rows[i * p.width + c] * scale[i]);
        out[c] = sum;
    }
}

/* A block per chunk of an image's cells, its rows in shared memory: a comes from DRAM once, da goes there once;
 * 8 * m * P * C bytes, and of each slot 4 * C a chunk. */
KERNEL(THREADS, 3) void align_cells(const struct align_args p)
{
    DYN_SHARED(float, rows); /* [chunk,C] */
    SHARED(float, scale, [MAX_CHUNK]);
    const int image = blockIdx.x / p.n_chunks, first_cell = blockIdx.x % p.n_chunks * p.chunk;
    const int n = min(p.chunk, p.cells - first_cell), lane = threadIdx.x % WARP;
    const int first = first_slot(p, image), end = first_slot(p, image + 1);
    const int64_t row = ((int64_t)image * p.cells + first_cell) * p.width;
    if (p.width % 4 == 0)
        for (int i = threadIdx.x; i < n * p.width / 4; i += THREADS)
            ((float4 *)rows)[i] = ((const float4 *)(p.a + row))[i];
    else
        for (int i = threadIdx.x; i < n * p.width; i += THREADS) rows[i] = p.a[row + i];
    __syncthreads();
    for (int i = threadIdx.x / WARP; i < n; i += WARPS) {
        float *da = p.da ? p.da + row + (int64_t)i * p.width : nullptr;
        const float bounded = cell_loss(p, rows + i * p.width, first_cell + i, first, end, da, lane);
        if (lane == 0) scale[i] = bounded;
    }
    __syncthreads();
    for (int s = first; p.du && s < end; s++)
        if (p.filled[s]) chunk_du(p, rows, scale, first_cell, n, s);
}
KERNEL_ENTRY(align_cells, struct align_args)

/* The block's sum: lanes by butterfly, then warps in order; every thread of the first warp has it. */
static __device__ double block_sum(double x, double *warps)
{
    const double sum = warp_sum(x);
    if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = sum;
    __syncthreads();
    double total = 0;
    for (int w = 0; w < WARPS; w++) total += warps[w];
    __syncthreads();
    return total;
}

/* The gradient by the u of a filled slot from the sum of its chunks, in order. */
static __device__ void slot_du(const align_args &p, int slot, float *d, double *warps)
{
    const float *unit = p.unit_u + (int64_t)slot * p.width, norm = p.norm_u[slot];
    const float scale = 1.0F / fmaxf(norm, LEAST_NORM);
    double own = 0;
    for (int c = threadIdx.x; c < p.width; c += THREADS) {
        float sum = 0;
        for (int k = 0; k < p.n_chunks; k++) sum += p.partial_du[((int64_t)slot * p.n_chunks + k) * p.width + c];
        d[c] = sum;
        own += (double)unit[c] * (double)sum;
    }
    const float along = norm > LEAST_NORM ? (float)block_sum(own, warps) : (float)block_sum(0, warps);
    for (int c = threadIdx.x; c < p.width; c += THREADS) d[c] = (d[c] - unit[c] * along) * scale;
}

/* A block per slot: what its cells said, and the gradient by its own vector. */
KERNEL(THREADS) void align_slots(const struct align_args p)
{
    SHARED(double, warps, [WARPS]);
    const int slot = blockIdx.x;
    double loss = 0, d_gain = 0, d_shift = 0;
    for (int i = threadIdx.x; i < p.cells; i += THREADS) {
        const align_term t = p.terms[(int64_t)slot * p.cells + i];
        loss += (double)t.loss;
        d_gain += (double)t.d_cosine * (double)t.cosine;
        d_shift += (double)t.d_score;
    }
    loss = block_sum(loss, warps);
    d_gain = block_sum(d_gain, warps);
    d_shift = block_sum(d_shift, warps);
    if (threadIdx.x == 0) {
        if (p.parts) p.parts[slot] = loss / (double)p.cells;
        p.sums[2 * slot] = d_gain;
        p.sums[2 * slot + 1] = d_shift;
    }
    float *du = p.du ? p.du + (int64_t)slot * p.width : nullptr;
    if (du && p.filled[slot]) slot_du(p, slot, du, warps);
    for (int c = threadIdx.x; du && !p.filled[slot] && c < p.width; c += THREADS) du[c] = 0;
}
KERNEL_ENTRY(align_slots, struct align_args)

/* Thread 0 adds the gradients of the log gain over the slots, in order, thread 1 those of the shift. */
KERNEL(WARP) void align_parameters(const struct align_args p)
{
    if (threadIdx.x > 1) return;
    float *out = threadIdx.x ? p.dshift : p.dscale;
    if (!out) return;
    double sum = 0;
    for (int s = 0; s < p.slots; s++) sum += p.sums[2 * s + threadIdx.x];
    *out = p.accumulate ? *out + (float)sum : (float)sum;
}
KERNEL_ENTRY(align_parameters, struct align_args)

/* Shapes, and how much scratch memory there is of each kind, one after another from `memory`; returns the bytes. */
static size_t lay_out(const vg_node *node, align_args *p, char *memory)
{
    p->images = (int)node->in[0].shape.dim[0];
    p->cells = (int)node->in[0].shape.dim[1];
    p->width = (int)node->in[0].shape.dim[2];
    p->slots = (int)node->in[1].shape.dim[0];
    p->capacity = (int)node->in[4].shape.dim[1];
    const int fit = CHUNK_FLOATS / p->width;
    p->chunk = fit < MAX_CHUNK ? fit : MAX_CHUNK;
    p->n_chunks = (p->cells + p->chunk - 1) / p->chunk;
    const size_t slots = (size_t)p->slots, row = (size_t)p->width * sizeof(float);
    const size_t bytes[] = {slots * (size_t)p->cells * sizeof(align_term), slots * 2 * sizeof(double), slots * row,
                            slots * (size_t)p->n_chunks * row, slots * sizeof(float)};
    size_t at[6] = {0};
    for (int i = 0; i < 5; i++) at[i + 1] = at[i] + vg_round_up(bytes[i], 64);
    p->terms = (align_term *)(memory + at[0]);
    p->sums = (double *)(memory + at[1]);
    p->unit_u = (float *)(memory + at[2]);
    p->partial_du = (float *)(memory + at[3]);
    p->norm_u = (float *)(memory + at[4]);
    return at[5];
}

extern "C" size_t vg_cuda_align_loss_workspace(const vg_node *node)
{
    align_args p;
    return lay_out(node, &p, nullptr);
}

extern "C" vg_status vg_cuda_align_loss(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in, *out = node->out;
    align_args p;
    lay_out(node, &p, (char *)node->workspace);
    p.a = (const float *)in[0].data;
    p.u = (const float *)in[1].data;
    p.scale = (const float *)in[2].data;
    p.shift = (const float *)in[3].data;
    p.targets = (const float4 *)in[4].data;
    p.n_targets = (const int32_t *)in[5].data;
    p.filled = (const int32_t *)in[6].data;
    p.index = (const int32_t *)in[7].data;
    p.scales = (const float *)in[8].data;
    p.parts = (double *)out[0].data;
    p.da = (float *)out[1].data;
    p.du = (float *)out[2].data;
    p.dscale = (float *)out[3].data;
    p.dshift = (float *)out[4].data;
    p.gh = node->attr.align.gh;
    p.gw = node->attr.align.gw;
    p.accumulate = node->accumulate;
    const cudaStream_t queue = vg_cuda_queue(stream);
    LAUNCH(align_units, (unsigned)((p.slots + WARPS - 1) / WARPS), THREADS, 0, queue, p);
    LAUNCH(align_cells, (unsigned)(p.images * p.n_chunks), THREADS, (size_t)p.chunk * (size_t)p.width * sizeof(float),
           queue, p);
    LAUNCH(align_slots, (unsigned)p.slots, THREADS, 0, queue, p);
    LAUNCH(align_parameters, 1, WARP, 0, queue, p);
    return VG_CUDA_LAUNCHED("align_loss");
}
