/* What the kernels of both directions of attention share: which rows a block reads, and products of small tiles.
 *
 * A warp owns 16 rows of one side (queries, or keys in the gradient of keys) and walks the rows of the other side 32 at
 * a time. Lane (row, column), row 0..3 and column 0..7, holds the 4 x 4 scores of owned rows 4 * row + i and walked
 * rows 4 * column + t, and of sums over the walk the owned rows 4 * row + i and chunks column, column + 8 of the head.
 *
 * Rows lie in shared memory as lines of HD / 4 chunks of four floats and one chunk more, and are spread: row 4 * n + i
 * of a tile of N is line i * N / 4 + n. So the lines that the lanes of a warp read at a time are neighbours, and a
 * line's length makes neighbours fall into different banks. Head sizes below HD are filled up with zeros. */
#ifndef VG_KERNELS_CUDA_ATTENTION_TILES_IMPL_H
#define VG_KERNELS_CUDA_ATTENTION_TILES_IMPL_H

#include "kernels/cuda/cuda_impl.h"
#include "kernels/cuda/dev.h"
#include "kernels/cuda/philox.h"

#define LOG2_E 0x1.715476p+0F
#define LN_2   0x1.62e430p-1F

typedef __nv_bfloat16 bf16;

constexpr int WARP = 32, OWNED = 16, WALKED = 32, LARGEST_HEAD = 64, WIDEST_HEAD = 256;

/* Row 0 of item 0 (a slot or an image), at head 0; rows are stride elements apart. */
struct head_rows {
    void *data; /* NULL when absent */
    int stride;
};

struct attention_args {
    struct head_rows q, k, v, k2, v2;
    const int32_t *counts, *index;
    const float *bias;                    /* [H,Nq,keys] */
    const uint4 *slot_keys;               /* [B]; NULL without dropout */
    void *o;                              /* [B,Nq,H*D], like q of fp32 or bf16 */
    float *lse, *sums;                    /* [B,H,Nq]; NULL when nobody wants it */
    int slots, images, heads, size, fold; /* B, Bk, H, D, fold of ops.def */
    int n_queries, n_first, keys, tiles;  /* keys = Nk + N2; tiles: blocks a head takes */
    float scale;
    struct keep_rule keep;
    bool mask_second;
    bool wide, wide_bias; /* 16 bytes of a row can be read at once; four floats of a row of bias */
};

/* `first` is the place of q among the inputs: 0 in attention, 1 in its gradient. */
vg_status vg_cuda_attention_args(const vg_node *node, int first, struct attention_args *out);

static inline unsigned tiles_of(int n, int size)
{
    return (unsigned)((n + size - 1) / size);
}

/* --- where a lane stands ------------------------------------------------------------------------------------------ */

struct place {
    int warp, row, column;
};

/* Lanes that differ in bit 0 read the same walked row, those that differ in bit 1 the same owned one: the shared memory
 * serves such pairs together. */
static __device__ __forceinline__ struct place place_of(int thread)
{
    const int lane = thread % WARP;
    const struct place at = {thread / WARP, (lane & 1) | (lane >> 3 & 2), lane >> 1 & 7};
    return at;
}

/* Reduces over the lanes that share a row. */
static __device__ __forceinline__ float row_max(float x)
{
    for (int bit = 2; bit <= 8; bit *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, bit));
    return x;
}

static __device__ __forceinline__ float row_sum(float x)
{
    for (int bit = 2; bit <= 8; bit *= 2) x += __shfl_xor_sync(~0u, x, bit);
    return x;
}

/* A tile belongs to a warp or to the whole block; so does waiting for it. */
template <int GROUP> static __device__ __forceinline__ void group_sync()
{
    if (GROUP == WARP)
        __syncwarp();
    else
        __syncthreads();
}

/* --- rows in global memory ---------------------------------------------------------------------------------------- */

/* Four floats, of which the first `left` exist; the others are 0. */
static __device__ __forceinline__ float4 load4(const float *x, int left, bool wide)
{
    if (left <= 0) return make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    if (wide) return *reinterpret_cast<const float4 *>(x);
    return make_float4(x[0], left > 1 ? x[1] : 0.0F, left > 2 ? x[2] : 0.0F, left > 3 ? x[3] : 0.0F);
}

static __device__ __forceinline__ void store4(float *x, float4 value, int left, bool wide)
{
    if (left <= 0) return;
    if (wide) {
        *reinterpret_cast<float4 *>(x) = value;
        return;
    }
    x[0] = value.x;
    if (left > 1) x[1] = value.y;
    if (left > 2) x[2] = value.z;
    if (left > 3) x[3] = value.w;
}

static __device__ __forceinline__ float4 load4(const bf16 *x, int left, bool wide)
{
    float4 y = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    if (left <= 0) return y;
    if (wide) {
        const uint2 four = *reinterpret_cast<const uint2 *>(x);
        return make_float4(__uint_as_float(four.x << 16), __uint_as_float(four.x & 0xffff0000u),
                           __uint_as_float(four.y << 16), __uint_as_float(four.y & 0xffff0000u));
    }
    y.x = __bfloat162float(x[0]);
    if (left > 1) y.y = __bfloat162float(x[1]);
    if (left > 2) y.z = __bfloat162float(x[2]);
    if (left > 3) y.w = __bfloat162float(x[3]);
    return y;
}

static __device__ __forceinline__ void store4(bf16 *x, float4 value, int left, bool wide)
{
    const __nv_bfloat162 low = __floats2bfloat162_rn(value.x, value.y), high = __floats2bfloat162_rn(value.z, value.w);
    if (left <= 0) return;
    if (wide) {
        reinterpret_cast<__nv_bfloat162 *>(x)[0] = low;
        reinterpret_cast<__nv_bfloat162 *>(x)[1] = high;
        return;
    }
    x[0] = low.x;
    if (left > 1) x[1] = low.y;
    if (left > 2) x[2] = high.x;
    if (left > 3) x[3] = high.y;
}

static __device__ __forceinline__ float4 times(float4 x, float factor)
{
    return make_float4(x.x * factor, x.y * factor, x.z * factor, x.w * factor);
}

/* The columns of a row of scores that a slot sees: 0..first_end-1 are rows of the first segment, n_first..second_end-1
 * are rows 0.. of the second. */
struct seen_keys {
    int n_first, first_end, second_end;
};

static __device__ __forceinline__ struct seen_keys seen_by(const struct attention_args &p, int slot)
{
    struct seen_keys s = {p.n_first, p.n_first, p.keys};
    if (!p.counts) return s;
    const int count = max(p.counts[slot], 0);
    if (p.mask_second)
        s.second_end = p.n_first + min(count, p.keys - p.n_first);
    else
        s.first_end = min(count, p.n_first);
    return s;
}

static __device__ __forceinline__ bool sees(const struct seen_keys &s, int column)
{
    return column < s.first_end || (column >= s.n_first && column < s.second_end);
}

static __device__ __forceinline__ int seen_end(const struct seen_keys &s)
{
    return s.second_end > s.n_first ? s.second_end : s.first_end;
}

/* One head of the rows that a tile is filled from; rows that are not seen are not read. */
template <class T> struct strip {
    const T *first, *second;
    int first_stride, second_stride;
    struct seen_keys seen;
};

template <class T> static __device__ __forceinline__ const T *strip_row(const struct strip<T> &s, int row)
{
    if (!sees(s.seen, row)) return NULL;
    return row < s.seen.n_first ? s.first + (int64_t)row * s.first_stride
                                : s.second + (int64_t)(row - s.seen.n_first) * s.second_stride;
}

/* Row 0 of a head of an item whose items have n rows. */
template <class T>
static __device__ __forceinline__ T *head_of(const struct attention_args &p, const struct head_rows &x, int item, int n,
                                             int head)
{
    return (T *)x.data + (int64_t)item * n * x.stride + head * p.size;
}

/* n rows of one item. */
template <class T>
static __device__ __forceinline__ struct strip<T> plain_strip(const struct attention_args &p, const struct head_rows &x,
                                                              int item, int n, int head) {
    const struct strip<T> s = {
        head_of<T>(p, x, item, n, head), NULL, x.stride, 0,
        {
            n, n, n
        }
    };
    return s;
}

static __device__ __forceinline__ int
image_of(const struct attention_args &p, int slot)
{
    return p.index ? p.index[slot] : slot;
}

/* Keys or values as a slot sees them: its image's, then its own. */
template <class T>
static __device__ __forceinline__ struct strip<T> key_strip(const struct attention_args &p, const struct head_rows &x,
                                                            const struct head_rows &x2, int slot, int head,
                                                            const struct seen_keys &seen) {
    const struct strip<T> s = {
        head_of<T>(p, x, image_of(p, slot), p.n_first, head),
            x2.data ? head_of<T>(p, x2, slot, p.keys - p.n_first, head) : NULL, x.stride, x2.stride, seen
    };
    return s;
}

/* --- tiles in shared memory --------------------------------------------------------------------------------------- */

template <int HD>
struct line {
    float4 chunk[HD / 4 + 1];
};

/* 16 rows of weights against 32 walked rows, spread like the owned rows; a warp has its own. */
typedef struct line<WALKED> weight_line;

template <int N> static __device__ __forceinline__ int line_of(int row)
{
    return row / N * N + row % 4 * (N / 4) + row % N / 4;
}

/* Rows first..first+N-1 of a strip, times factor, into N lines in groups of SPREAD, by GROUP threads. */
template <int HD, int N, int SPREAD, int GROUP>
static __device__ __forceinline__ void fill(struct line<HD> *to, const struct strip<float> &from, int first, int size,
                                            bool wide, float factor)
{
    enum { CHUNKS = HD / 4 };
#pragma unroll 4
    for (int i = 0; i < N * CHUNKS / GROUP; i++) {
        const int n = i * GROUP + (int)threadIdx.x % GROUP, row = n / CHUNKS, chunk = n % CHUNKS;
        const float *x = strip_row(from, first + row);
        to[line_of<SPREAD>(row)].chunk[chunk] =
            x ? times(load4(x + 4 * chunk, size - 4 * chunk, wide), factor) : make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    }
}

/* s[i][t] = the product of owned row 4 * row + i and walked row 4 * column + t: one chain over the head. */
template <int HD>
static __device__ __forceinline__ void multiply(const struct line<HD> *owned, const struct line<HD> *walked,
                                                struct place at, float s[4][4])
{
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int t = 0; t < 4; t++) s[i][t] = 0.0F;
#pragma unroll 2
    for (int d = 0; d < HD / 4; d++) {
        float4 a[4], b[4];
#pragma unroll
        for (int i = 0; i < 4; i++) a[i] = owned[i * (OWNED / 4) + at.row].chunk[d];
#pragma unroll
        for (int t = 0; t < 4; t++) b[t] = walked[t * (WALKED / 4) + at.column].chunk[d];
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int t = 0; t < 4; t++) {
                s[i][t] += a[i].x * b[t].x;
                s[i][t] += a[i].y * b[t].y;
                s[i][t] += a[i].z * b[t].z;
                s[i][t] += a[i].w * b[t].w;
            }
    }
}

/* Sums over the walk for four owned rows: chunk c of row i is chunks c * 8 + column of the head. */
template <int HD> struct sums {
    float4 of[4][HD / WALKED];
};

static __device__ __forceinline__ void add_product(float4 *sum, float w, float4 x)
{
    sum->x += w * x.x;
    sum->y += w * x.y;
    sum->z += w * x.z;
    sum->w += w * x.w;
}

/* Adds the walked rows times the weights of the owned rows: one chain over the walked rows in order. */
template <int HD>
static __device__ __forceinline__ void weigh(const weight_line *weights, const struct line<HD> *walked, struct place at,
                                             struct sums<HD> *out)
{
#pragma unroll 2
    for (int n = 0; n < WALKED / 4; n++) {
        float4 w[4];
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = weights[i * (OWNED / 4) + at.row].chunk[n];
#pragma unroll
        for (int c = 0; c < HD / WALKED; c++) {
            float4 x[4];
#pragma unroll
            for (int t = 0; t < 4; t++) x[t] = walked[t * (WALKED / 4) + n].chunk[c * 8 + at.column];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                add_product(&out->of[i][c], w[i].x, x[0]);
                add_product(&out->of[i][c], w[i].y, x[1]);
                add_product(&out->of[i][c], w[i].z, x[2]);
                add_product(&out->of[i][c], w[i].w, x[3]);
            }
        }
    }
}

/* --- the rows of scores that a warp owns ---------------------------------------------------------------------------
 */

/* Row `query` of the scores of a head, the same for all slots. */
static __device__ __forceinline__ int64_t score_row(const struct attention_args &p, int head, int query)
{
    return (int64_t)head * p.n_queries + query;
}

static __device__ __forceinline__ void unpack(float4 from, float to[4])
{
    to[0] = from.x;
    to[1] = from.y;
    to[2] = from.z;
    to[3] = from.w;
}

/* Bias of the columns from `column` on, in units of log 2. */
static __device__ __forceinline__ void bias4(const struct attention_args &p, int head, int query, int column,
                                             float bias[4])
{
    float4 b = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    if (p.bias && query < p.n_queries)
        b = load4(p.bias + score_row(p, head, query) * p.keys + column, p.keys - column, p.wide_bias);
    unpack(times(b, LOG2_E), bias);
}

/* What dropout makes of the columns from `column` on, a multiple of 4, of row `row` among its numbers. Rows take whole
 * blocks of numbers. */
static __device__ __forceinline__ void keep_row4(const struct attention_args &p, int slot, uint32_t row, int column,
                                                 float keep[4])
{
    float4 k = make_float4(1.0F, 1.0F, 1.0F, 1.0F);
    const uint32_t blocks = (uint32_t)(p.keys + 3) / 4;
    if (p.slot_keys) k = keep_factors(p.keep, p.slot_keys[slot], row * blocks + (uint32_t)column / 4);
    unpack(k, keep);
}

/* Likewise of a query that is not folded. */
static __device__ __forceinline__ void keep4(const struct attention_args &p, int slot, int head, int query, int column,
                                             float keep[4])
{
    keep_row4(p, slot, (uint32_t)score_row(p, head, query), column, keep);
}

#endif
