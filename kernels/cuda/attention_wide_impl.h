/* What the kernels of both directions of attention share for wide heads, of up to 256 columns: a head is cut into
 * slices of 64 columns, and a team of four warps owns 16 rows of one side, each warp the columns of its slice.
 *
 * The team walks the rows of the other side 32 at a time. Each warp multiplies its slices of the owned and the walked
 * rows; the four products of a tile meet in shared memory, where the team's threads add them in the order of slices and
 * make weights of them, four each; then each warp weighs its slice of the walked rows. So nobody holds more than a
 * quarter of a row of sums, and no score is computed twice.
 *
 * fp32 and bf16 differ in how a slice is held and multiplied: slices are those of attention_tiles_impl.h or of
 * attention_bf16_impl.h. Columns past the head's size are zeros. */
#ifndef VG_KERNELS_CUDA_ATTENTION_WIDE_IMPL_H
#define VG_KERNELS_CUDA_ATTENTION_WIDE_IMPL_H

#include "kernels/cuda/attention_bf16_impl.h"

constexpr int SLICES = 4, SLICE = 64, TEAM = SLICES * WARP;
static_assert(SLICES * SLICE == WIDEST_HEAD, "slices make a head");

/* Products of a slice of an owned row with those of 32 walked rows. */
typedef weight_line product_line;

/* Where a thread stands: its warp's slice of the columns; and of a tile of 16 x 32 products, a row and four columns. */
struct seat {
    int team, slice, row, chunk;
};

static __device__ __forceinline__ struct seat seat_of(int thread)
{
    const int in_team = thread % TEAM;
    const struct seat s = {thread / TEAM, in_team / WARP, in_team / 8, in_team % 8};
    return s;
}

/* A block may have more than 48 KiB of shared memory where a kernel says so; if it may not, the launch tells. */
template <class args>
static void launch_wide(void (*kernel)(args), unsigned blocks, int teams, size_t shared_bytes, vg_stream *stream,
                        const args &p)
{
    (void)cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
    LAUNCH(kernel, blocks, teams * TEAM, shared_bytes, vg_cuda_queue(stream), p);
}

/* Reduces over the threads that share a row of products. */
static __device__ __forceinline__ float seat_max(float x)
{
    for (int bit = 1; bit <= 4; bit *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, bit));
    return x;
}

static __device__ __forceinline__ float seat_sum(float x)
{
    for (int bit = 1; bit <= 4; bit *= 2) x += __shfl_xor_sync(~0u, x, bit);
    return x;
}

/* --- how slices are held ------------------------------------------------------------------------------------------ */

template <class T> struct slices_of;

template <> struct slices_of<float> {
    typedef struct line<SLICE> row;
    typedef weight_line weight;
    typedef struct sums<SLICE> sum;
    typedef const struct line<SLICE> *owned; /* stays in shared memory */
    static constexpr bool TWO_TILES = false; /* room for two kinds of walked rows at a time */
};

template <> struct slices_of<bf16> {
    typedef struct bf16_line<SLICE> row;
    typedef struct bf16_line<WALKED> weight;
    struct sum {
        float of[SLICE / 8][4];
    };
    typedef struct left_rows<SLICE> owned;
    static constexpr bool TWO_TILES = true;
};

/* Slices of the rows that the teams of a block own, of one or two KINDS, and products of each kind. bf16 rows go into
 * registers before there are products, and results come by way of their lines. */
template <class T, int TEAMS, int KINDS> struct owned_space {
    typename slices_of<T>::row rows[KINDS][TEAMS * SLICES * OWNED];
    product_line products[KINDS][TEAMS * SLICES * OWNED];
};

template <int TEAMS, int KINDS> struct owned_space<bf16, TEAMS, KINDS> {
    union {
        struct bf16_line<SLICE> rows[KINDS][TEAMS * SLICES * OWNED];
        product_line products[KINDS][TEAMS * SLICES * OWNED];
    };
};

template <class T> struct walked_space {
    typename slices_of<T>::row tiles[slices_of<T>::TWO_TILES ? 2 : 1][SLICES * WALKED];
};

/* --- from global memory ------------------------------------------------------------------------------------------- */

/* Rows first..first+N-1 of a strip by THREADS threads, GROUP rows of a slice after another, the next slice's after
 * them; rows that are not seen, and columns past the size, become 0. They are there after `arrived`. */
template <int N, int GROUP, int THREADS>
static __device__ __forceinline__ void stage(struct line<SLICE> *to, const struct strip<float> &from, int first,
                                             int size, bool wide)
{
    constexpr int CHUNKS = WIDEST_HEAD / 4, OF_SLICE = SLICE / 4;
#pragma unroll 4
    for (int n = (int)threadIdx.x; n < N * CHUNKS; n += THREADS) {
        const int row = n / CHUNKS, chunk = n % CHUNKS, lines = row / GROUP * SLICES + chunk / OF_SLICE;
        const float *x = strip_row(from, first + row);
        to[lines * GROUP + line_of<GROUP>(row % GROUP)].chunk[chunk % OF_SLICE] =
            load4(x + 4 * chunk, x ? size - 4 * chunk : 0, wide);
    }
}

template <int N, int GROUP, int THREADS>
static __device__ __forceinline__ void stage(struct bf16_line<SLICE> *to, const struct strip<bf16> &from, int first,
                                             int size, bool wide)
{
    constexpr int CHUNKS = WIDEST_HEAD / 8, OF_SLICE = SLICE / 8;
#pragma unroll 1
    for (int n = (int)threadIdx.x; n < N * CHUNKS; n += THREADS) {
        const int row = n / CHUNKS, chunk = n % CHUNKS, lines = row / GROUP * SLICES + chunk / OF_SLICE;
        const bf16 *x = strip_row(from, first + row);
        const int left = x ? size - 8 * chunk : 0;
        bf16 *y = numbers_of<SLICE>(to, lines * GROUP + row % GROUP, chunk % OF_SLICE * 8);
        if (wide) {
            cp_async<16>(y, left > 0 ? x + 8 * chunk : from.first, left > 0 ? 16 : 0);
        } else {
            for (int e = 0; e < 8; e++) y[e] = e < left ? x[8 * chunk + e] : __float2bfloat16(0.0F);
        }
    }
    cp_async_commit();
}

/* A tile of walked rows. */
template <int THREADS, class T>
static __device__ __forceinline__ void stage_tile(typename slices_of<T>::row *to, const struct strip<T> &from, int base,
                                                  const struct attention_args &p)
{
    stage<WALKED, WALKED, THREADS>(to, from, base, p.size, p.wide);
}

/* All but the `behind` last that the block has staged are there; fp32 rows, which came at once, are in any case. */
template <class T, int behind> static __device__ __forceinline__ void arrived()
{
    if (sizeof(T) == sizeof(bf16)) cp_async_wait<behind>();
    __syncthreads();
}

/* The row of a query, which may be folded, among the numbers of dropout. */
static __device__ __forceinline__ uint32_t dropout_row(const struct attention_args &p, int head, int query)
{
    return (uint32_t)score_row(p, head, query % p.fold * (p.n_queries / p.fold) + query / p.fold);
}

/* --- one slice ---------------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ void own(const struct line<SLICE> *rows, const struct line<SLICE> **owned)
{
    *owned = rows;
}

static __device__ __forceinline__ void own(const struct bf16_line<SLICE> *rows, struct left_rows<SLICE> *owned)
{
    load_left<SLICE>(rows, fragment_of((int)threadIdx.x), owned);
}

/* Products of 16 owned and 32 walked rows, as far as this slice goes. */
static __device__ __forceinline__ void multiply_slice(const struct line<SLICE> *owned, const struct line<SLICE> *walked,
                                                      product_line *out)
{
    const struct place at = place_of((int)threadIdx.x);
    float s[4][4];
    multiply<SLICE>(owned, walked, at, s);
#pragma unroll
    for (int i = 0; i < 4; i++) out[4 * at.row + i].chunk[at.column] = make_float4(s[i][0], s[i][1], s[i][2], s[i][3]);
}

static __device__ __forceinline__ void multiply_slice(const struct left_rows<SLICE> &owned,
                                                      const struct bf16_line<SLICE> *walked, product_line *out)
{
    const struct fragment f = fragment_of((int)threadIdx.x);
    float s[WALKED / 8][4];
    warp_mma_rows<SLICE, WALKED>(s, owned.of, walked->eight);
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int n = 0; n < WALKED / 8; n++) {
            float2 *two = reinterpret_cast<float2 *>(&out[f.group + 8 * r].chunk[2 * n + f.pair / 4]);
            two[f.pair % 4 / 2] = make_float2(s[n][2 * r], s[n][2 * r + 1]);
        }
}

/* Adds the walked rows of a slice times the weights of the owned rows. */
static __device__ __forceinline__ void weigh_slice(const weight_line *weights, const struct line<SLICE> *walked,
                                                   struct sums<SLICE> *out)
{
    weigh<SLICE>(weights, walked, place_of((int)threadIdx.x), out);
}

static __device__ __forceinline__ void weigh_slice(const struct bf16_line<WALKED> *weights,
                                                   const struct bf16_line<SLICE> *walked,
                                                   struct slices_of<bf16>::sum *out)
{
    const struct fragment f = fragment_of((int)threadIdx.x);
    struct left_rows<WALKED> left;
    load_left<WALKED>(weights, f, &left);
    warp_mma_columns<SLICE, WALKED>(out->of, left.of, walked->eight);
}

/* Multiplies each owned row of sums by its factor. */
static __device__ __forceinline__ void rescale(struct sums<SLICE> *s, const float factor[OWNED])
{
    const struct place at = place_of((int)threadIdx.x);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int c = 0; c < SLICE / WALKED; c++) s->of[i][c] = times(s->of[i][c], factor[4 * at.row + i]);
}

static __device__ __forceinline__ void rescale(struct slices_of<bf16>::sum *s, const float factor[OWNED])
{
    const struct fragment f = fragment_of((int)threadIdx.x);
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int n = 0; n < SLICE / 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) s->of[n][2 * r + e] *= factor[f.group + 8 * r];
}

/* --- weights ------------------------------------------------------------------------------------------------------ */

/* Four products of a row, added in the order of slices. */
static __device__ __forceinline__ void add_slices(const product_line *products, int row, int chunk, float out[4])
{
    float4 sum = products[row].chunk[chunk];
#pragma unroll
    for (int s = 1; s < SLICES; s++) add_product(&sum, 1.0F, products[s * OWNED + row].chunk[chunk]);
    unpack(sum, out);
}

/* One product of a row. */
static __device__ __forceinline__ float add_slices(const product_line *products, int row, int column)
{
    float sum = 0.0F;
#pragma unroll
    for (int s = 0; s < SLICES; s++) sum += reinterpret_cast<const float *>(products[s * OWNED + row].chunk)[column];
    return sum;
}

static __device__ __forceinline__ void put_weights(weight_line *weights, int row, int chunk, float4 w)
{
    weights[line_of<OWNED>(row)].chunk[chunk] = w;
}

static __device__ __forceinline__ void put_weights(struct bf16_line<WALKED> *weights, int row, int chunk, float4 w)
{
    __nv_bfloat162 *two = pair_of<WALKED>(weights, row, 4 * chunk);
    two[0] = __floats2bfloat162_rn(w.x, w.y);
    two[1] = __floats2bfloat162_rn(w.z, w.w);
}

static __device__ __forceinline__ void put_weight(weight_line *weights, int row, int column, float w)
{
    reinterpret_cast<float *>(weights[line_of<OWNED>(row)].chunk)[column] = w;
}

static __device__ __forceinline__ void put_weight(struct bf16_line<WALKED> *weights, int row, int column, float w)
{
    *numbers_of<WALKED>(weights, row, column) = __float2bfloat16(w);
}

/* --- results ------------------------------------------------------------------------------------------------------ */

/* Where the team's 16 rows of a result lie: row r at first + r * stride, those of begin..end-1 are there; so are rows
 * that are added to them, where `added` is not NULL. */
template <class T> struct result_place {
    T *first;
    const T *added;
    int64_t stride;
    int begin, end;
};

static __device__ __forceinline__ void write_slice(const struct sums<SLICE> &s, const struct result_place<float> &to,
                                                   const struct seat &at, int size, bool wide, struct line<SLICE> *)
{
    const struct place lane = place_of((int)threadIdx.x);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int c = 0; c < SLICE / WALKED; c++) {
            const int row = 4 * lane.row + i, column = SLICE * at.slice + 4 * (c * 8 + lane.column);
            const int left = row >= to.begin && row < to.end ? size - column : 0;
            float4 sum = s.of[i][c];
            if (to.added) add_product(&sum, 1.0F, load4(to.added + row * to.stride + column, left, wide));
            store4(to.first + row * to.stride + column, sum, left, wide);
        }
}

/* Adds the rows that are to be added, 128 bits at a time by way of 16 lines of the warp's own. */
static __device__ __forceinline__ void add_rows(struct slices_of<bf16>::sum *s, const struct result_place<bf16> &to,
                                                int column, int size, bool wide, struct bf16_line<SLICE> *lines)
{
    const struct fragment f = fragment_of((int)threadIdx.x);
    for (int n = f.lane; n < OWNED * SLICE / 8; n += WARP) {
        const int row = n / (SLICE / 8), first = column + n % (SLICE / 8) * 8;
        const int left = row >= to.begin && row < to.end ? size - first : 0;
        const bf16 *x = to.added + row * to.stride + first;
        if (wide && left > 0) *chunk_of<SLICE>(lines, row, n % (SLICE / 8)) = *reinterpret_cast<const uint4 *>(x);
        for (int e = 0; !(wide && left > 0) && e < 8; e++)
            numbers_of<SLICE>(lines, row, n % (SLICE / 8) * 8)[e] = e < left ? x[e] : __float2bfloat16(0.0F);
    }
    __syncwarp();
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int n = 0; n < SLICE / 8; n++) {
            const __nv_bfloat162 x = *pair_of<SLICE>(lines, f.group + 8 * r, 8 * n + f.pair);
            s->of[n][2 * r] += __bfloat162float(x.x);
            s->of[n][2 * r + 1] += __bfloat162float(x.y);
        }
    __syncwarp();
}

/* The lane's sums as bf16, by way of 16 lines of the warp's own. */
static __device__ __forceinline__ void write_slice(struct slices_of<bf16>::sum s, const struct result_place<bf16> &to,
                                                   const struct seat &at, int size, bool wide,
                                                   struct bf16_line<SLICE> *lines)
{
    const float factor[2] = {1.0F, 1.0F};
    const int column = SLICE * at.slice;
    if (to.added) add_rows(&s, to, column, size, wide, lines);
    write_sums<SLICE>(s.of, factor, {to.first + column, to.stride, to.begin, to.end}, size - column, wide,
                      fragment_of((int)threadIdx.x), lines);
}

/* Teams of a block. */
constexpr int TEAMS = 1, TEAMS_BF16 = 3;

#endif
