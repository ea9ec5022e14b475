/* Attention, forward, of heads of more than 64 columns, and of those whose rows of probabilities are summed: the sums
 * of attention.cu by teams of warps (attention_wide_impl.h). Few rows of many columns are what queries become that have
 * taken in the projection of the keys. */
#include "kernels/cuda/attention_forward_impl.h"
#include "kernels/cuda/attention_wide_impl.h"

/* What a thread knows of its row of scores, each of the row's threads of its own columns. */
struct row_softmax {
    float top, sum, kept; /* the largest score so far; of 2^(score - top); of what dropout leaves of them */
};

/* Four products of query `query` become weights; what is summed so far is to be rescaled by what comes back. */
static __device__ __forceinline__ float advance(const struct attention_args &p, const struct seen_keys &seen, int head,
                                                int query, int column, const float keep[4], float s[4],
                                                struct row_softmax *x)
{
    float bias[4];
    bias4(p, head, query, column, bias);
#pragma unroll
    for (int t = 0; t < 4; t++) s[t] = sees(seen, column + t) ? s[t] * (p.scale * LOG2_E) + bias[t] : -INFINITY;
    const float top = fmaxf(x->top, seat_max(fmaxf(fmaxf(s[0], s[1]), fmaxf(s[2], s[3]))));
    const float base = base_of(top), factor = exp2f(x->top - base);
#pragma unroll
    for (int t = 0; t < 4; t++) s[t] = exp2f(s[t] - base);
    x->top = top;
    x->sum = x->sum * factor + (s[0] + s[1] + s[2] + s[3]);
#pragma unroll
    for (int t = 0; t < 4; t++) s[t] *= keep[t];
    x->kept = x->kept * factor + (s[0] + s[1] + s[2] + s[3]);
    return factor;
}

/* Writes what is left of a row beside its result; returns the factor of its sums. */
static __device__ __forceinline__ float finish(const struct attention_args &p, const struct result_rows &where,
                                               int query, int chunk, const struct row_softmax &x)
{
    const float sum = seat_sum(x.sum), kept = seat_sum(x.kept), part = part_of(sum, where);
    if (chunk > 0) return part;
    write_lse(p, where, query, x.top, sum);
    if (p.sums && query < p.n_queries)
        p.sums[((int64_t)where.slot * p.heads + where.head) * p.n_queries + query] =
            p.slot_keys || where.seen_end == 0 ? kept * part : 1.0F;
    return part;
}

template <class T, int TEAMS> struct wide_space {
    struct owned_space<T, TEAMS, 1> owned;
    struct walked_space<T> walked;
    typename slices_of<T>::weight weights[TEAMS][OWNED];
    float factors[TEAMS][OWNED];
};

/* A block takes 16 queries a team of a slot and head and walks the keys, 32 at a time. Values are fetched while scores
 * are made, the next keys while values are weighed. fp32 has room for one tile: values come into the place of the keys.
 *
 * Bound by multiply-adds, 2 * Nq * N * 256 of them per head, in bf16 by the shared memory that feeds the tensor cores.
 * From L2: keys and values once a block. */
template <class T, int TEAMS> static __device__ __forceinline__ void attend(const struct attention_args &p)
{
    constexpr int THREADS = TEAMS * TEAM, ROWS = TEAMS * OWNED;
    constexpr bool TWO = slices_of<T>::TWO_TILES;
    typedef struct wide_space<T, TEAMS> wide_space;
    DYN_SHARED(wide_space, space);
    const struct seat at = seat_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % p.tiles, head = (int)blockIdx.x / p.tiles % p.heads;
    const int slot = (int)blockIdx.x / p.tiles / p.heads, first = tile * ROWS + at.team * OWNED, query = first + at.row;
    const struct seen_keys seen = seen_by(p, slot);
    const struct result_rows where = {slot, head, seen_end(seen)};
    const struct strip<T> keys = key_strip<T>(p, p.k, p.k2, slot, head, seen);
    const struct strip<T> values = key_strip<T>(p, p.v, p.v2, slot, head, seen);
    const int mine = (at.team * SLICES + at.slice) * OWNED;
    const uint32_t numbers = dropout_row(p, head, query);
    typename slices_of<T>::row *key_tile = space->walked.tiles[0], *value_tile = space->walked.tiles[TWO ? 1 : 0];
    typename slices_of<T>::owned queries;
    typename slices_of<T>::sum out = {};
    struct row_softmax x = {-INFINITY, 0.0F, 0.0F};
    stage<ROWS, OWNED, THREADS>(space->owned.rows[0], plain_strip<T>(p, p.q, slot, p.n_queries, head), tile * ROWS,
                                p.size, p.wide);
    if (TWO) stage_tile<THREADS, T>(key_tile, keys, 0, p);
    arrived<T, TWO ? 1 : 0>();
    own(space->owned.rows[0] + mine, &queries);
    for (int base = 0; base < where.seen_end; base += WALKED) {
        float s[4], keep[4];
        stage_tile<THREADS, T>(TWO ? value_tile : key_tile, TWO ? values : keys, base, p);
        arrived<T, TWO ? 1 : 0>();
        multiply_slice(queries, key_tile + at.slice * WALKED, space->owned.products[0] + mine);
        __syncthreads();
        stage_tile<THREADS, T>(TWO ? key_tile : value_tile, TWO ? keys : values, TWO ? base + WALKED : base, p);
        keep_row4(p, slot, numbers, base + 4 * at.chunk, keep);
        add_slices(space->owned.products[0] + at.team * SLICES * OWNED, at.row, at.chunk, s);
        const float factor = advance(p, seen, head, query, base + 4 * at.chunk, keep, s, &x);
        put_weights(space->weights[at.team], at.row, at.chunk, make_float4(s[0], s[1], s[2], s[3]));
        if (at.chunk == 0) space->factors[at.team][at.row] = factor;
        arrived<T, TWO ? 1 : 0>();
        rescale(&out, space->factors[at.team]);
        weigh_slice(space->weights[at.team], value_tile + at.slice * WALKED, &out);
        __syncthreads();
    }
    const float part = finish(p, where, query, at.chunk, x);
    if (at.chunk == 0) space->factors[at.team][at.row] = part;
    arrived<T, 0>();
    rescale(&out, space->factors[at.team]);
    const int64_t stride = (int64_t)p.heads * p.size;
    const struct result_place<T> to = {
        result_row<T>(p, where, first), NULL, stride, 0, p.n_queries - first
    };
    write_slice(out, to, at, p.size, p.wide, space->owned.rows[0] + mine);
}

KERNEL(TEAMS *TEAM, 2) void attention_wide(const struct attention_args p)
{
    attend<float, TEAMS>(p);
}
KERNEL_ENTRY(attention_wide, struct attention_args)

KERNEL(TEAMS_BF16 *TEAM, 1) void attention_wide_bf16(const struct attention_args p)
{
    attend<bf16, TEAMS_BF16>(p);
}
KERNEL_ENTRY(attention_wide_bf16, struct attention_args)

void vg_cuda_attention_wide(vg_stream *stream, const struct attention_args *args, bool bf16_values)
{
    struct attention_args p = *args;
    const int teams = bf16_values ? TEAMS_BF16 : TEAMS;
    p.tiles = (int)tiles_of(p.n_queries, teams * OWNED);
    const unsigned blocks = (unsigned)(p.slots * p.heads * p.tiles);
    if (bf16_values)
        launch_wide(attention_wide_bf16, blocks, teams, sizeof(struct wide_space<bf16, TEAMS_BF16>), stream, p);
    else
        launch_wide(attention_wide, blocks, teams, sizeof(struct wide_space<float, TEAMS>), stream, p);
}
