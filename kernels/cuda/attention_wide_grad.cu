/* Attention, backward, of wide heads: the sums of attention_grad.cu by teams of warps (attention_wide_impl.h). Whoever
 * owns a row of a gradient makes all of its sum, in order. With sums of the rows of probabilities,
 * dP = (dO V^T + dsums) * keep, and <dO, O> + dsums * sums stands for <dO, O>. */
#include "kernels/cuda/attention_grad_impl.h"
#include "kernels/cuda/attention_wide_impl.h"

static __device__ __forceinline__ float d_sum_of(const struct attention_grad_args &p, int slot, int head, int query)
{
    const bool there = p.d_sums && query < p.a.n_queries;
    return there ? p.d_sums[((int64_t)slot * p.a.heads + head) * p.a.n_queries + query] : 0.0F;
}

/* What a block has in shared memory; as many kinds of weights as of sums. */
template <class T, int TEAMS, int KINDS> struct grad_space {
    struct owned_space<T, TEAMS, 2> owned;
    struct walked_space<T> walked;
    typename slices_of<T>::weight weights[KINDS][TEAMS][OWNED];
};

/* --- rows are queries --------------------------------------------------------------------------------------------- */

/* Products of the team's dO with a tile of values, which is staged before the keys, then of its queries with the keys.
 * Where there is one tile, the keys come into the place of the values. */
template <class T, int TEAMS>
static __device__ __forceinline__ void
multiply_keys(const struct attention_args &a, struct grad_space<T, TEAMS, 1> *space, const struct strip<T> &keys,
              int base, const struct seat &at, const typename slices_of<T>::owned &queries,
              const typename slices_of<T>::owned &d_os)
{
    constexpr bool TWO = slices_of<T>::TWO_TILES;
    typename slices_of<T>::row *key_tile = space->walked.tiles[0], *value_tile = space->walked.tiles[TWO ? 1 : 0];
    const int mine = (at.team * SLICES + at.slice) * OWNED;
    arrived<T, TWO ? 1 : 0>();
    multiply_slice(d_os, value_tile + at.slice * WALKED, space->owned.products[1] + mine);
    if (!TWO) {
        __syncthreads();
        stage_tile<TEAMS * TEAM, T>(key_tile, keys, base, a);
    }
    arrived<T, 0>();
    multiply_slice(queries, key_tile + at.slice * WALKED, space->owned.products[0] + mine);
    __syncthreads();
}

/* Where a thread's row of scores is, and what the forward pass left of it. */
struct query_row {
    int slot, head, query;
    uint32_t numbers; /* of dropout */
    struct row_state state;
    float d_sum;
};

static __device__ __forceinline__ struct query_row query_row_of(const struct attention_grad_args &p, int slot, int head,
                                                                int query)
{
    const struct query_row q = {slot,
                                head,
                                query,
                                dropout_row(p.a, head, query),
                                row_state_of(p, slot, head, query),
                                d_sum_of(p, slot, head, query)};
    return q;
}

/* dS of the thread's four products. */
template <class T, int TEAMS>
static __device__ __forceinline__ float4 differentiate(const struct attention_grad_args &p,
                                                       const struct grad_space<T, TEAMS, 1> *space,
                                                       const struct seen_keys &seen, const struct query_row &q,
                                                       int column, const struct seat &at)
{
    const int team = at.team * SLICES * OWNED;
    float s[4], d_p[4], bias[4], keep[4], ds[4];
    add_slices(space->owned.products[0] + team, at.row, at.chunk, s);
    add_slices(space->owned.products[1] + team, at.row, at.chunk, d_p);
    bias4(p.a, q.head, q.query, column, bias);
    keep_row4(p.a, q.slot, q.numbers, column, keep);
#pragma unroll
    for (int t = 0; t < 4; t++)
        ds[t] = score_grad_of(sees(seen, column + t), s[t] * (p.a.scale * LOG2_E) + bias[t], d_p[t] + q.d_sum, keep[t],
                              q.state)
                    .ds;
    return make_float4(ds[0], ds[1], ds[2], ds[3]);
}

/* A block takes 16 queries a team of a slot and head and walks the keys, 32 at a time. The next values are fetched
 * while dS is made and weighs the keys, the next keys while dO is multiplied. fp32 has room for one tile: keys come
 * into the place of the values.
 *
 * Bound by multiply-adds, 3 * Nq * N * 256 of them per head, in bf16 by the shared memory that feeds the tensor cores.
 * From L2: keys and values once a block. */
template <class T, int TEAMS>
static __device__ __forceinline__ void query_gradients(const struct attention_grad_args &p)
{
    constexpr int THREADS = TEAMS * TEAM, ROWS = TEAMS * OWNED;
    constexpr bool TWO = slices_of<T>::TWO_TILES;
    typedef struct grad_space<T, TEAMS, 1> grad_space;
    DYN_SHARED(grad_space, space);
    const struct attention_args &a = p.a;
    const struct seat at = seat_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % a.tiles, head = (int)blockIdx.x / a.tiles % a.heads;
    const int slot = (int)blockIdx.x / a.tiles / a.heads, first = tile * ROWS + at.team * OWNED;
    const struct seen_keys seen = seen_by(a, slot);
    const struct strip<T> keys = key_strip<T>(a, a.k, a.k2, slot, head, seen);
    const struct strip<T> values = key_strip<T>(a, a.v, a.v2, slot, head, seen);
    const struct query_row row = query_row_of(p, slot, head, first + at.row);
    const int mine = (at.team * SLICES + at.slice) * OWNED;
    typename slices_of<T>::row *key_tile = space->walked.tiles[0], *value_tile = space->walked.tiles[TWO ? 1 : 0];
    typename slices_of<T>::owned queries, d_os;
    typename slices_of<T>::sum dq = {};
    stage<ROWS, OWNED, THREADS>(space->owned.rows[0], plain_strip<T>(a, a.q, slot, a.n_queries, head), tile * ROWS,
                                a.size, a.wide);
    stage<ROWS, OWNED, THREADS>(space->owned.rows[1], d_o_strip<T>(p, slot, head), tile * ROWS, a.size, a.wide);
    stage_tile<THREADS, T>(value_tile, values, 0, a);
    if (TWO) stage_tile<THREADS, T>(key_tile, keys, 0, a);
    arrived<T, TWO ? 2 : 0>();
    own(space->owned.rows[0] + mine, &queries);
    own(space->owned.rows[1] + mine, &d_os);
    for (int base = 0; base < seen_end(seen); base += WALKED) {
        multiply_keys<T, TEAMS>(a, space, keys, base, at, queries, d_os);
        if (TWO) stage_tile<THREADS, T>(value_tile, values, base + WALKED, a);
        put_weights(space->weights[0][at.team], at.row, at.chunk,
                    times(differentiate<T, TEAMS>(p, space, seen, row, base + 4 * at.chunk, at), a.scale));
        __syncthreads();
        weigh_slice(space->weights[0][at.team], key_tile + at.slice * WALKED, &dq);
        __syncthreads();
        stage_tile<THREADS, T>(TWO ? key_tile : value_tile, TWO ? keys : values, base + WALKED, a);
    }
    arrived<T, 0>(); /* a slot that sees no key: the lanes come here right from their rows */
    const int64_t stride = p.dq.stride;
    const struct result_place<T> to = {
        head_of<T>(a, p.dq, slot, a.n_queries, head) + first *stride, NULL, stride, 0, a.n_queries - first
    };
    write_slice(dq, to, at, a.size, a.wide, space->owned.rows[0] + mine);
}

KERNEL(TEAMS *TEAM, 2) void attention_wide_dq(const struct attention_grad_args p)
{
    query_gradients<float, TEAMS>(p);
}
KERNEL_ENTRY(attention_wide_dq, struct attention_grad_args)

KERNEL(TEAMS_BF16 *TEAM, 1) void attention_wide_dq_bf16(const struct attention_grad_args p)
{
    query_gradients<bf16, TEAMS_BF16>(p);
}
KERNEL_ENTRY(attention_wide_dq_bf16, struct attention_grad_args)

void vg_cuda_attention_dq_wide(vg_stream *stream, const struct attention_grad_args *args)
{
    struct attention_grad_args p = *args;
    const int teams = p.bf16 ? TEAMS_BF16 : TEAMS;
    p.a.tiles = (int)tiles_of(p.a.n_queries, teams * OWNED);
    const unsigned blocks = (unsigned)(p.a.slots * p.a.heads * p.a.tiles);
    if (p.bf16)
        launch_wide(attention_wide_dq_bf16, blocks, teams, sizeof(struct grad_space<bf16, TEAMS_BF16, 1>), stream, p);
    else
        launch_wide(attention_wide_dq, blocks, teams, sizeof(struct grad_space<float, TEAMS, 1>), stream, p);
}

/* --- rows are keys ------------------------------------------------------------------------------------------------ */

/* Weights of a tile of queries for the sums of the team's keys, dS and P * keep: a lane has a query, a warp four keys.
 */
template <class T, int TEAMS>
static __device__ __forceinline__ void
differentiate_keys(const struct attention_grad_args &p, struct grad_space<T, TEAMS, 2> *space,
                   const struct seen_keys &seen, const struct query_row &q, int column, const struct seat &at)
{
    const struct attention_args &a = p.a;
    const int team = at.team * SLICES * OWNED, lane = (int)threadIdx.x % WARP;
    float bias[4], keep[4];
    bias4(a, q.head, q.query, column + 4 * at.slice, bias);
    keep_row4(a, q.slot, q.numbers, column + 4 * at.slice, keep);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = 4 * at.slice + i;
        const float s = add_slices(space->owned.products[0] + team, row, lane) * (a.scale * LOG2_E);
        const float d_p = add_slices(space->owned.products[1] + team, row, lane) + q.d_sum;
        const struct score_grad g = score_grad_of(sees(seen, column + row), s + bias[i], d_p, keep[i], q.state);
        put_weight(space->weights[0][at.team], row, lane, g.ds * a.scale);
        put_weight(space->weights[1][at.team], row, lane, g.kept);
    }
}

/* Where the team's rows of dk or dv go, from row `row` of the item on. */
template <class T>
static __device__ __forceinline__ struct result_place<T>
keys_place(const struct attention_args &a, const struct head_rows &to, const struct head_rows &add, int item,
           int n_rows, int head, int row) {
    const struct result_place<T> place = {
        head_of<T>(a, to, item, n_rows, head) + (int64_t)row *to.stride,
            add.data ? head_of<T>(a, add, item, n_rows, head) + (int64_t)row *add.stride : NULL, to.stride,
            -row, n_rows - row
    };
    return place;
}

/* A tile of queries on the walk over the slots that see a key. */
struct query_tile {
    int slot, base;
};

static __device__ __forceinline__ struct query_tile next_of(const struct query_tile &t, int n_queries)
{
    const bool last = t.base + WALKED >= n_queries;
    const struct query_tile next = {last ? t.slot + 1 : t.slot, last ? 0 : t.base + WALKED};
    return next;
}

/* A block takes 16 keys a team of an image (of a slot, in the second segment) and head and walks the queries of all
 * slots that see them, 32 at a time. Roles are turned: keys and values are owned, queries and dO are walked. The next
 * dO is fetched while dS weighs the queries, the next queries while dO is multiplied. fp32 has room for one tile: dO
 * comes twice.
 *
 * Bound by multiply-adds, 4 * Nq * N * 256 of them per head and slot, in bf16 by the shared memory that feeds the
 * tensor cores. From L2: queries and dO once a block. */
template <class T, int TEAMS> static __device__ __forceinline__ void key_gradients(const struct attention_grad_args &p)
{
    constexpr int THREADS = TEAMS * TEAM, ROWS = TEAMS * OWNED;
    constexpr bool TWO = slices_of<T>::TWO_TILES;
    typedef struct grad_space<T, TEAMS, 2> grad_space;
    DYN_SHARED(grad_space, space);
    const struct attention_args &a = p.a;
    const struct seat at = seat_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % a.tiles, head = (int)blockIdx.x / a.tiles % a.heads;
    const int item = (int)blockIdx.x / a.tiles / a.heads; /* an image, or a slot */
    const int first = p.column + tile * ROWS, column = first + at.team * OWNED;
    const int slot_end = p.second ? item + 1 : first_slot_of(a, item + 1);
    const struct seen_keys owned = {a.n_first, p.second ? 0 : a.n_first, p.second ? a.keys : a.n_first};
    const int n_rows = p.second ? a.keys - a.n_first : a.n_first, mine = (at.team * SLICES + at.slice) * OWNED;
    typename slices_of<T>::row *queries = space->walked.tiles[0], *d_os = space->walked.tiles[TWO ? 1 : 0];
    typename slices_of<T>::owned keys, values;
    typename slices_of<T>::sum dk = {}, dv = {};
    const auto stage_queries = [&](const struct query_tile &t) {
        if (t.slot < slot_end)
            stage_tile<THREADS, T>(queries, plain_strip<T>(a, a.q, t.slot, a.n_queries, head), t.base, a);
    };
    const auto stage_d_os = [&](const struct query_tile &t) {
        if (t.slot < slot_end) stage_tile<THREADS, T>(d_os, d_o_strip<T>(p, t.slot, head), t.base, a);
    };
    struct query_tile t = {p.second ? item : first_slot_of(a, item), 0};
    stage<ROWS, OWNED, THREADS>(space->owned.rows[0],
                                owned_strip<T>(p, p.second ? a.k2 : a.k, item, n_rows, head, owned), first, a.size,
                                a.wide);
    stage<ROWS, OWNED, THREADS>(space->owned.rows[1],
                                owned_strip<T>(p, p.second ? a.v2 : a.v, item, n_rows, head, owned), first, a.size,
                                a.wide);
    arrived<T, 0>();
    own(space->owned.rows[0] + mine, &keys);
    own(space->owned.rows[1] + mine, &values);
    stage_d_os(t);
    if (TWO) stage_queries(t);
    while (t.slot < slot_end) {
        const struct query_tile next = next_of(t, a.n_queries);
        arrived<T, TWO ? 1 : 0>();
        multiply_slice(values, d_os + at.slice * WALKED, space->owned.products[1] + mine);
        if (!TWO) {
            __syncthreads();
            stage_queries(t);
        }
        arrived<T, 0>();
        multiply_slice(keys, queries + at.slice * WALKED, space->owned.products[0] + mine);
        __syncthreads();
        differentiate_keys<T, TEAMS>(p, space, seen_by(a, t.slot),
                                     query_row_of(p, t.slot, head, t.base + (int)threadIdx.x % WARP), column, at);
        __syncthreads();
        if (TWO) {
            weigh_slice(space->weights[1][at.team], d_os + at.slice * WALKED, &dv);
            __syncthreads();
            stage_d_os(next);
        }
        weigh_slice(space->weights[0][at.team], queries + at.slice * WALKED, &dk);
        __syncthreads();
        if (TWO) {
            stage_queries(next);
        } else {
            stage_d_os(t);
            __syncthreads();
            weigh_slice(space->weights[1][at.team], d_os + at.slice * WALKED, &dv);
            __syncthreads();
            stage_d_os(next);
        }
        t = next;
    }
    __syncthreads(); /* an image without slots: the lanes come here right from their rows */
    const int row = column - (p.second ? a.n_first : 0);
    if (p.dk.data)
        write_slice(dk, keys_place<T>(a, p.dk, p.add_k, item, n_rows, head, row), at, a.size, a.wide,
                    space->owned.rows[0] + mine);
    if (p.dv.data)
        write_slice(dv, keys_place<T>(a, p.dv, p.add_v, item, n_rows, head, row), at, a.size, a.wide,
                    space->owned.rows[1] + mine);
}

KERNEL(TEAMS *TEAM, 2) void attention_wide_dkv(const struct attention_grad_args p)
{
    key_gradients<float, TEAMS>(p);
}
KERNEL_ENTRY(attention_wide_dkv, struct attention_grad_args)

KERNEL(TEAMS_BF16 *TEAM, 1) void attention_wide_dkv_bf16(const struct attention_grad_args p)
{
    key_gradients<bf16, TEAMS_BF16>(p);
}
KERNEL_ENTRY(attention_wide_dkv_bf16, struct attention_grad_args)

void vg_cuda_attention_dkv_wide(vg_stream *stream, const struct attention_grad_args *args)
{
    struct attention_grad_args p = *args;
    const int teams = p.bf16 ? TEAMS_BF16 : TEAMS;
    p.a.tiles = (int)tiles_of((p.second ? p.a.keys : p.a.n_first) - p.column, teams * OWNED);
    const unsigned blocks = (unsigned)((p.second ? p.a.slots : p.a.images) * p.a.heads * p.a.tiles);
    if (p.bf16)
        launch_wide(attention_wide_dkv_bf16, blocks, teams, sizeof(struct grad_space<bf16, TEAMS_BF16, 2>), stream, p);
    else
        launch_wide(attention_wide_dkv, blocks, teams, sizeof(struct grad_space<float, TEAMS, 2>), stream, p);
}

/* --- dbias -------------------------------------------------------------------------------------------------------- */

/* A block takes 16 queries and 32 keys of a head and walks the slots. Bound by multiply-adds, 2 * Nq * N * 256 of them
 * per head and slot; reads queries, dO, keys and values of a tile once a slot. */
template <class T> static __device__ __forceinline__ void bias_gradients(const struct attention_grad_args &p)
{
    constexpr bool TWO = slices_of<T>::TWO_TILES;
    typedef struct grad_space<T, 1, 1> grad_space;
    DYN_SHARED(grad_space, space);
    const struct attention_args &a = p.a;
    const struct seat at = seat_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % a.tiles, head = (int)blockIdx.x / a.tiles;
    const int across = (a.keys + WALKED - 1) / WALKED, first = tile / across * OWNED, base = tile % across * WALKED;
    const int query = first + at.row, column = base + 4 * at.chunk, mine = at.slice * OWNED;
    float4 sum = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    for (int slot = 0; slot < a.slots; slot++) {
        const struct seen_keys seen = seen_by(a, slot);
        const struct strip<T> keys = key_strip<T>(a, a.k, a.k2, slot, head, seen);
        typename slices_of<T>::owned queries, d_os;
        stage<OWNED, OWNED, TEAM>(space->owned.rows[0], plain_strip<T>(a, a.q, slot, a.n_queries, head), first, a.size,
                                  a.wide);
        stage<OWNED, OWNED, TEAM>(space->owned.rows[1], d_o_strip<T>(p, slot, head), first, a.size, a.wide);
        stage_tile<TEAM, T>(space->walked.tiles[TWO ? 1 : 0], key_strip<T>(a, a.v, a.v2, slot, head, seen), base, a);
        if (TWO) stage_tile<TEAM, T>(space->walked.tiles[0], keys, base, a);
        arrived<T, TWO ? 2 : 0>();
        own(space->owned.rows[0] + mine, &queries);
        own(space->owned.rows[1] + mine, &d_os);
        multiply_keys<T, 1>(a, space, keys, base, at, queries, d_os);
        add_product(&sum, 1.0F, differentiate<T, 1>(p, space, seen, query_row_of(p, slot, head, query), column, at));
        __syncthreads();
    }
    if (query < a.n_queries)
        store4(p.dbias + score_row(a, head, query) * a.keys + column, sum, a.keys - column, a.wide_bias);
}

KERNEL(TEAM, 2) void attention_wide_dbias(const struct attention_grad_args p)
{
    bias_gradients<float>(p);
}
KERNEL_ENTRY(attention_wide_dbias, struct attention_grad_args)

KERNEL(TEAM, 2) void attention_wide_dbias_bf16(const struct attention_grad_args p)
{
    bias_gradients<bf16>(p);
}
KERNEL_ENTRY(attention_wide_dbias_bf16, struct attention_grad_args)

void vg_cuda_attention_dbias_wide(vg_stream *stream, const struct attention_grad_args *args)
{
    struct attention_grad_args p = *args;
    p.a.tiles = (int)(tiles_of(p.a.n_queries, OWNED) * tiles_of(p.a.keys, WALKED));
    const unsigned blocks = (unsigned)(p.a.heads * p.a.tiles);
    if (p.bf16)
        launch_wide(attention_wide_dbias_bf16, blocks, 1, sizeof(struct grad_space<bf16, 1, 1>), stream, p);
    else
        launch_wide(attention_wide_dbias, blocks, 1, sizeof(struct grad_space<float, 1, 1>), stream, p);
}
