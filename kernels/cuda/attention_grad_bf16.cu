/* Attention, backward, of bf16 values on tensor cores: the sums of attention_grad.cu, with products of bf16 and sums in
 * fp32; P and dS are rounded to bf16 on their way into the next product. Whoever owns a row of a gradient makes all of
 * its sum, in order. Source: Dao 2023 (FlashAttention-2), algorithm 2. */
#include "kernels/cuda/attention_bf16_impl.h"
#include "kernels/cuda/attention_grad_impl.h"

constexpr int WARPS = 4, THREADS = WARPS * WARP, WALK = 32; /* WALK: walked rows of a tile */

static __device__ __forceinline__ float bias_of(const struct attention_args &p, int head, int query, int column)
{
    const bool there = p.bias && query < p.n_queries && column < p.keys;
    return there ? p.bias[score_row(p, head, query) * p.keys + column] * LOG2_E : 0.0F;
}

/* A tile of scores where nothing is hidden, dropped or biased needs no look at each: kernels have two paths, chosen
 * tile by tile. Here, n rows of keys from `column` on. */
static __device__ __forceinline__ bool is_plain(const struct attention_args &p, const struct seen_keys &seen,
                                                int column, int n)
{
    return !p.bias && !p.slot_keys && column + n <= seen.first_end;
}

/* As score_grad_of, of a score that is plain. */
static __device__ __forceinline__ struct score_grad plain_grad_of(float score, float d_p, struct row_state row)
{
    const float probability = exp2_approximate(score - row.lse);
    const struct score_grad g = {probability, probability * (d_p - row.delta)};
    return g;
}

/* --- rows are queries --------------------------------------------------------------------------------------------- */

/* Where a lane's scores are. */
struct query_rows {
    int slot, head, first; /* first: query of the warp's row 0 */
    struct row_state row[2];
};

static __device__ __forceinline__ struct query_rows query_rows_of(const struct attention_grad_args &p, int slot,
                                                                  int head, int first, struct fragment f)
{
    struct query_rows q = {slot, head, first, {}};
#pragma unroll
    for (int r = 0; r < 2; r++) q.row[r] = row_state_of(p, slot, head, first + f.group + 8 * r);
    return q;
}

/* Raw products s and d_p of the lane's queries and the keys from `base` on: s becomes dS. */
template <int KEYS>
static __device__ __forceinline__ void
differentiate_any(const struct attention_grad_args &p, const struct seen_keys &seen, const struct query_rows &q,
                  int base, struct fragment f, float s[KEYS / 8][4], const float d_p[KEYS / 8][4])
{
    const struct attention_args &a = p.a;
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int query = q.first + f.group + 8 * r;
            float keep[4];
            keep4(a, q.slot, q.head, query, base + 8 * n + (f.pair & 4), keep);
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int column = base + 8 * n + f.pair + e;
                const float kept = f.pair & 2 ? keep[2 + e] : keep[e];
                float *x = &s[n][2 * r + e];
                const float score = *x * (a.scale * LOG2_E) + bias_of(a, q.head, query, column);
                *x = score_grad_of(sees(seen, column), score, d_p[n][2 * r + e], kept, q.row[r]).ds;
            }
        }
}

template <int KEYS>
static __device__ __forceinline__ void differentiate(const struct attention_grad_args &p, const struct seen_keys &seen,
                                                     const struct query_rows &q, int base, struct fragment f,
                                                     float s[KEYS / 8][4], const float d_p[KEYS / 8][4])
{
    if (!is_plain(p.a, seen, base, KEYS)) {
        differentiate_any<KEYS>(p, seen, q, base, f, s, d_p);
        return;
    }
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) s[n][i] = plain_grad_of(s[n][i] * (p.a.scale * LOG2_E), d_p[n][i], q.row[i / 2]).ds;
}

/* Adds what the warps made of their shares of the keys, in order. */
template <int HD>
static __device__ __forceinline__ void merge(const struct attention_grad_args &p, bf16 *to,
                                             const struct line<HD> *parts)
{
    for (int n = (int)threadIdx.x; n < OWNED * HD / 4; n += THREADS) {
        const int row = n / (HD / 4), chunk = n % (HD / 4);
        if (row >= p.a.n_queries) return;
        float4 sum = parts[row].chunk[chunk];
        for (int w = 1; w < WARPS; w++) add_product(&sum, 1.0F, parts[w * OWNED + row].chunk[chunk]);
        store4(to + (int64_t)row * p.dq.stride + 4 * chunk, times(sum, p.a.scale), p.a.size - 4 * chunk, p.a.wide);
    }
}

/* Where tiles of keys and values lie; before them the queries, and afterwards what each warp made of its share, or
 * its rows on their way out. */
template <int HD, int ROWS> union grad_walk {
    union bf16_line<HD> rows[ROWS];
    struct line<HD> parts[WARPS * OWNED];
};

/* Many queries: a block takes 128 of a slot and head, 32 a warp, and walks the keys, 32 at a time. Few (SHARED_ROWS): a
 * block takes all, at most 16; each warp walks every fourth tile of 16 keys by itself, and the sums are added in order.
 * The next tile of keys and values is fetched while this one is computed.
 *
 * Bound by tensor cores, 3 * Nq * N * HD multiply-adds per head, and by one power of two per score. Shared memory at
 * HD = 64: dO 18 KiB, queries, then two tiles of keys and values, 18. From L2: keys and values once a block. */
template <int HD, bool SHARED_ROWS>
static __device__ __forceinline__ void query_gradients(const struct attention_grad_args &p)
{
    constexpr int GROUP = SHARED_ROWS ? WARP : THREADS, BLOCKS = SHARED_ROWS ? 1 : MANY_BLOCKS;
    constexpr int OWN = SHARED_ROWS ? OWNED : WARPS * BLOCKS * OWNED, KEYS = SHARED_ROWS ? 16 : WALK;
    constexpr int SHARES = SHARED_ROWS ? WARPS : 1, STEP = SHARES * KEYS, AHEAD = 2 * STEP;
    typedef union grad_walk<HD, 2 * AHEAD> key_tiles;
    SHARED(key_tiles, tiles, [1]);
    SHARED(union bf16_line<HD>, d_os, [OWN]);
    const struct attention_args &a = p.a;
    const struct fragment f = fragment_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % a.tiles, head = (int)blockIdx.x / a.tiles % a.heads;
    const int slot = (int)blockIdx.x / a.tiles / a.heads;
    const struct seen_keys seen = seen_by(a, slot);
    const struct strip<bf16> key_rows = key_strip<bf16>(a, a.k, a.k2, slot, head, seen);
    const struct strip<bf16> value_rows = key_strip<bf16>(a, a.v, a.v2, slot, head, seen);
    const int share = SHARED_ROWS ? f.warp : 0, mine = SHARED_ROWS ? 0 : f.warp * BLOCKS * OWNED;
    const int first = tile * OWN + mine, end = seen_end(seen);
    union bf16_line<HD> *queries = tiles->rows, *walked = queries + 2 * share * KEYS;
    struct query_rows rows[BLOCKS];
    struct left_rows<HD> left_queries[BLOCKS];
    float dq[BLOCKS][HD / 8][4] = {};
    fetch<HD, OWN, THREADS>(queries, plain_strip<bf16>(a, a.q, slot, a.n_queries, head), tile * OWN, a.size, a.wide);
    fetch<HD, OWN, THREADS>(d_os, d_o_strip<bf16>(p, slot, head), tile * OWN, a.size, a.wide);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int m = 0; m < BLOCKS; m++) {
        rows[m] = query_rows_of(p, slot, head, first + m * OWNED, f);
        load_left<HD>(queries + mine + m * OWNED, f, &left_queries[m]);
    }
    __syncthreads();
    fetch<HD, KEYS, GROUP>(walked, key_rows, share * KEYS, a.size, a.wide);
    fetch<HD, KEYS, GROUP>(walked + KEYS, value_rows, share * KEYS, a.size, a.wide);
    cp_async_commit();
    int offset = 0; /* of the present tile: 0 or AHEAD */
    for (int base = share * KEYS; base < end; base += STEP) {
        float s[BLOCKS][KEYS / 8][4], d_p[BLOCKS][KEYS / 8][4];
        cp_async_wait<0>();
        group_sync<GROUP>();
        const union bf16_line<HD> *keys = walked + offset;
        offset = AHEAD - offset;
        if (base + STEP < end) {
            fetch<HD, KEYS, GROUP>(walked + offset, key_rows, base + STEP, a.size, a.wide);
            fetch<HD, KEYS, GROUP>(walked + offset + KEYS, value_rows, base + STEP, a.size, a.wide);
        }
        cp_async_commit();
        struct left_rows<HD> left_d_os[BLOCKS]; /* loaded anew each time: registers are short */
#pragma unroll
        for (int m = 0; m < BLOCKS; m++) load_left<HD>(d_os + mine + m * OWNED, f, &left_d_os[m]);
        score<HD, KEYS, BLOCKS>(left_queries, keys, f, s);
        score<HD, KEYS, BLOCKS>(left_d_os, keys + KEYS, f, d_p);
#pragma unroll
        for (int m = 0; m < BLOCKS; m++) differentiate<KEYS>(p, seen, rows[m], base, f, s[m], d_p[m]);
        weigh_rows<HD, KEYS, BLOCKS>(s, keys, f, dq);
    }
    cp_async_wait<0>();
    __syncthreads();
    bf16 *to = head_of<bf16>(a, p.dq, slot, a.n_queries, head);
    if constexpr (SHARED_ROWS) {
        publish_sums<HD>(dq[0], f, tiles->parts + f.warp * OWNED);
        __syncthreads();
        merge<HD>(p, to, tiles->parts);
    } else {
        const float factor[2] = {a.scale, a.scale};
#pragma unroll
        for (int m = 0; m < BLOCKS; m++) {
            const int row = first + m * OWNED;
            const struct head_place place = {to + (int64_t)row * p.dq.stride, p.dq.stride, 0, a.n_queries - row};
            write_sums<HD>(dq[m], factor, place, a.size, a.wide, f, tiles->rows + mine + m * OWNED);
        }
    }
}

KERNEL(THREADS, 2) void attention_bf16_dq_32(const struct attention_grad_args p)
{
    query_gradients<32, false>(p);
}
KERNEL_ENTRY(attention_bf16_dq_32, struct attention_grad_args)

KERNEL(THREADS, 2) void attention_bf16_dq_64(const struct attention_grad_args p)
{
    query_gradients<64, false>(p);
}
KERNEL_ENTRY(attention_bf16_dq_64, struct attention_grad_args)

KERNEL(THREADS, 3) void attention_bf16_dq_few_32(const struct attention_grad_args p)
{
    query_gradients<32, true>(p);
}
KERNEL_ENTRY(attention_bf16_dq_few_32, struct attention_grad_args)

KERNEL(THREADS, 2) void attention_bf16_dq_few_64(const struct attention_grad_args p)
{
    query_gradients<64, true>(p);
}
KERNEL_ENTRY(attention_bf16_dq_few_64, struct attention_grad_args)

void vg_cuda_attention_dq_bf16(vg_stream *stream, const struct attention_grad_args *args)
{
    struct attention_grad_args p = *args;
    const bool few = p.a.n_queries <= OWNED, small = p.a.size <= 32;
    p.a.tiles = (int)tiles_of(p.a.n_queries, few ? OWNED : WARPS * MANY_BLOCKS * OWNED);
    const unsigned blocks = (unsigned)(p.a.slots * p.a.heads * p.a.tiles);
    if (few && small) {
        LAUNCH(attention_bf16_dq_few_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (few) {
        LAUNCH(attention_bf16_dq_few_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (small) {
        LAUNCH(attention_bf16_dq_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else {
        LAUNCH(attention_bf16_dq_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    }
}

/* --- rows are keys ------------------------------------------------------------------------------------------------ */

/* What dropout keeps of the lane's scores, bit 4 * (2 r + e) + key % 4 of the queries 8 n + pair + e: the four lanes
 * that differ in group % 4 see one block of numbers, and make those of n = group % 4 for all of them. */
static __device__ __forceinline__ unsigned kept_bits(const struct attention_args &p, int slot, int head, int base,
                                                     int column, struct fragment f)
{
    unsigned bits = 0;
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float keep[4];
            keep4(p, slot, head, base + 8 * (f.group % 4) + f.pair + e, column + f.group / 4 * 4 + 8 * r, keep);
#pragma unroll
            for (int k = 0; k < 4; k++) bits |= (keep[k] != 0.0F ? 1u : 0u) << (4 * (2 * r + e) + k);
        }
    return bits;
}

/* What the forward pass left of the queries of a tile. Those past the last have zeros: they see nothing of value. */
struct query_states {
    float lse[WALK], delta[WALK];
};

/* Begins to fetch them. */
static __device__ __forceinline__ void fetch_states(const struct attention_grad_args &p, int slot, int head, int base,
                                                    struct query_states *to)
{
    const int64_t row = ((int64_t)slot * p.a.heads + head) * p.a.n_queries;
    const int n = (int)threadIdx.x % WALK, query = base + n, valid = query < p.a.n_queries ? (int)sizeof(float) : 0;
    if (threadIdx.x >= 2 * WALK) return;
    const float *from = (threadIdx.x < WALK ? p.a.lse : p.delta) + row;
    cp_async<sizeof(float)>((threadIdx.x < WALK ? to->lse : to->delta) + n, valid ? from + query : from, valid);
}

static __device__ __forceinline__ struct row_state state_of(const struct query_states *states, int query)
{
    const struct row_state row = {states->lse[query] * LOG2_E, states->delta[query]};
    return row;
}

/* Raw products s and d_p of the lane's keys, those of the warp from `column` on, and the queries from `base` on: s
 * becomes P * keep, d_p becomes dS. */
static __device__ __forceinline__ void differentiate_any_keys(const struct attention_args &a,
                                                              const struct seen_keys &seen, int slot, int head,
                                                              int base, int column, struct fragment f,
                                                              const struct query_states *states, float s[WALK / 8][4],
                                                              float d_p[WALK / 8][4])
{
    const unsigned bits = a.slot_keys ? kept_bits(a, slot, head, base, column, f) : 0;
#pragma unroll
    for (int n = 0; n < WALK / 8; n++) {
        const unsigned kept = a.slot_keys ? __shfl_sync(~0u, bits, (f.lane & ~12) | n << 2) : 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int key = column + f.group + 8 * (i / 2), query = 8 * n + f.pair + i % 2;
            const bool stays = !a.slot_keys || (kept >> (4 * i + f.group % 4) & 1);
            const float keep = !a.slot_keys ? 1.0F : stays ? a.keep.scale : 0.0F;
            const float score = s[n][i] * (a.scale * LOG2_E) + bias_of(a, head, base + query, key);
            const struct score_grad g = score_grad_of(sees(seen, key), score, d_p[n][i], keep, state_of(states, query));
            s[n][i] = g.kept;
            d_p[n][i] = g.ds;
        }
    }
}

static __device__ __forceinline__ void differentiate_keys(const struct attention_args &a, const struct seen_keys &seen,
                                                          int slot, int head, int base, int column, struct fragment f,
                                                          const struct query_states *states, float s[WALK / 8][4],
                                                          float d_p[WALK / 8][4])
{
    if (!is_plain(a, seen, column, OWNED)) {
        differentiate_any_keys(a, seen, slot, head, base, column, f, states, s, d_p);
        return;
    }
#pragma unroll
    for (int n = 0; n < WALK / 8; n++) {
        const struct row_state rows[2] = {state_of(states, 8 * n + f.pair), state_of(states, 8 * n + f.pair + 1)};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const struct score_grad g = plain_grad_of(s[n][i] * (a.scale * LOG2_E), d_p[n][i], rows[i % 2]);
            s[n][i] = g.kept;
            d_p[n][i] = g.ds;
        }
    }
}

/* A tile of queries with what belongs to them. */
template <int HD> struct query_tile {
    union bf16_line<HD> queries[WALK], d_os[WALK];
    struct query_states states;
};

/* Begins to fetch one. */
template <int HD>
static __device__ __forceinline__ void fetch_tile(const struct attention_grad_args &p, int slot, int head, int base,
                                                  struct query_tile<HD> *to)
{
    const struct attention_args &a = p.a;
    fetch<HD, WALK, THREADS>(to->queries, plain_strip<bf16>(a, a.q, slot, a.n_queries, head), base, a.size, a.wide);
    fetch<HD, WALK, THREADS>(to->d_os, d_o_strip<bf16>(p, slot, head), base, a.size, a.wide);
    fetch_states(p, slot, head, base, &to->states);
    cp_async_commit();
}

/* A block takes 64 keys of an image (of a slot, in the second segment) and head, 16 a warp, and walks the queries of
 * all slots that see them, 32 at a time; the next tile is fetched while this one is computed. Roles are turned: keys
 * and values are owned, rows of weights are keys.
 *
 * Bound by tensor cores, 4 * Nq * N * HD multiply-adds per head and slot, and by one power of two per score. Shared
 * memory at HD = 64: keys and values 18 KiB, two tiles of queries and dO 18.5. From L2: queries and dO once a block. */
template <int HD> static __device__ __forceinline__ void key_gradients(const struct attention_grad_args &p)
{
    constexpr int OWN = WARPS * OWNED;
    SHARED(union bf16_line<HD>, keys, [OWN]);
    SHARED(union bf16_line<HD>, values, [OWN]);
    SHARED(struct query_tile<HD>, tiles, [2]);
    const struct attention_args &a = p.a;
    const struct fragment f = fragment_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % a.tiles, head = (int)blockIdx.x / a.tiles % a.heads;
    const int item = (int)blockIdx.x / a.tiles / a.heads; /* an image, or a slot */
    const int first = p.column + tile * OWN, mine = f.warp * OWNED, column = first + mine;
    const int first_slot = p.second ? item : first_slot_of(a, item);
    const int slot_end = p.second ? item + 1 : first_slot_of(a, item + 1);
    const struct seen_keys owned = {a.n_first, p.second ? 0 : a.n_first, p.second ? a.keys : a.n_first};
    const int n_rows = p.second ? a.keys - a.n_first : a.n_first;
    struct left_rows<HD> left_keys, left_values;
    float dk[HD / 8][4] = {}, dv[HD / 8][4] = {};
    fetch<HD, OWN, THREADS>(keys, owned_strip<bf16>(p, p.second ? a.k2 : a.k, item, n_rows, head, owned), first, a.size,
                            a.wide);
    fetch<HD, OWN, THREADS>(values, owned_strip<bf16>(p, p.second ? a.v2 : a.v, item, n_rows, head, owned), first,
                            a.size, a.wide);
    cp_async_commit();
    if (first_slot < slot_end) fetch_tile<HD>(p, first_slot, head, 0, &tiles[0]);
    cp_async_wait<0>();
    __syncthreads();
    load_left<HD>(keys + mine, f, &left_keys);
    load_left<HD>(values + mine, f, &left_values);
    int present = 0, base = 0, slot = first_slot;
    while (slot < slot_end) {
        float s[WALK / 8][4], d_p[WALK / 8][4];
        const bool last = base + WALK >= a.n_queries;
        const int next = last ? 0 : base + WALK, next_slot = last ? slot + 1 : slot;
        cp_async_wait<0>();
        __syncthreads();
        const struct query_tile<HD> &at = tiles[present];
        present = 1 - present;
        if (next_slot < slot_end) fetch_tile<HD>(p, next_slot, head, next, &tiles[present]);
        score<HD, WALK>(&left_keys, at.queries, f, &s);
        score<HD, WALK>(&left_values, at.d_os, f, &d_p);
        differentiate_keys(a, seen_by(a, slot), slot, head, base, column, f, &at.states, s, d_p);
        if (p.dv.data) weigh_rows<HD, WALK>(&s, at.d_os, f, &dv);
        if (p.dk.data) weigh_rows<HD, WALK>(&d_p, at.queries, f, &dk);
        base = next;
        slot = next_slot;
    }
    __syncwarp(); /* an image without slots: the lanes come here right from load_left */
    const int row = column - (p.second ? a.n_first : 0);
    const float plain[2] = {1.0F, 1.0F}, scaled[2] = {a.scale, a.scale};
    const int64_t stride_k = p.dk.stride, stride_v = p.dv.stride;
    if (p.dk.data)
        write_sums<HD>(dk, scaled,
                       {head_of<bf16>(a, p.dk, item, n_rows, head) + row * stride_k, stride_k, -row, n_rows - row},
                       a.size, a.wide, f, keys + mine);
    if (p.dv.data)
        write_sums<HD>(dv, plain,
                       {head_of<bf16>(a, p.dv, item, n_rows, head) + row * stride_v, stride_v, -row, n_rows - row},
                       a.size, a.wide, f, values + mine);
}

KERNEL(THREADS, 3) void attention_bf16_dkv_32(const struct attention_grad_args p)
{
    key_gradients<32>(p);
}
KERNEL_ENTRY(attention_bf16_dkv_32, struct attention_grad_args)

KERNEL(THREADS, 2) void attention_bf16_dkv_64(const struct attention_grad_args p)
{
    key_gradients<64>(p);
}
KERNEL_ENTRY(attention_bf16_dkv_64, struct attention_grad_args)

void vg_cuda_attention_dkv_bf16(vg_stream *stream, const struct attention_grad_args *args)
{
    struct attention_grad_args p = *args;
    p.a.tiles = (int)tiles_of((p.second ? p.a.keys : p.a.n_first) - p.column, WARPS * OWNED);
    const unsigned blocks = (unsigned)((p.second ? p.a.slots : p.a.images) * p.a.heads * p.a.tiles);
    if (p.a.size <= 32) {
        LAUNCH(attention_bf16_dkv_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else {
        LAUNCH(attention_bf16_dkv_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    }
}

/* --- dbias -------------------------------------------------------------------------------------------------------- */

/* A block takes 64 queries, 16 a warp, and 32 keys of a head and walks the slots. Bound by tensor cores, 2 * Nq * N *
 * HD multiply-adds per head and slot; reads queries, dO, keys and values of a tile once a slot. */
template <int HD> static __device__ __forceinline__ void bias_gradients(const struct attention_grad_args &p)
{
    constexpr int OWN = WARPS * OWNED;
    SHARED(union bf16_line<HD>, queries, [OWN]);
    SHARED(union bf16_line<HD>, d_os, [OWN]);
    SHARED(union bf16_line<HD>, keys, [WALK]);
    SHARED(union bf16_line<HD>, values, [WALK]);
    const struct attention_args &a = p.a;
    const struct fragment f = fragment_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % a.tiles, head = (int)blockIdx.x / a.tiles;
    const int across = (a.keys + WALK - 1) / WALK, base = tile % across * WALK;
    const int mine = f.warp * OWNED, first = tile / across * OWN;
    float sum[WALK / 8][4] = {};
    for (int slot = 0; slot < a.slots; slot++) {
        const struct seen_keys seen = seen_by(a, slot);
        struct left_rows<HD> left;
        float s[WALK / 8][4], d_p[WALK / 8][4];
        __syncthreads();
        fetch<HD, OWN, THREADS>(queries, plain_strip<bf16>(a, a.q, slot, a.n_queries, head), first, a.size, a.wide);
        fetch<HD, OWN, THREADS>(d_os, d_o_strip<bf16>(p, slot, head), first, a.size, a.wide);
        fetch<HD, WALK, THREADS>(keys, key_strip<bf16>(a, a.k, a.k2, slot, head, seen), base, a.size, a.wide);
        fetch<HD, WALK, THREADS>(values, key_strip<bf16>(a, a.v, a.v2, slot, head, seen), base, a.size, a.wide);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
        load_left<HD>(queries + mine, f, &left);
        score<HD, WALK>(&left, keys, f, &s);
        load_left<HD>(d_os + mine, f, &left);
        score<HD, WALK>(&left, values, f, &d_p);
        differentiate<WALK>(p, seen, query_rows_of(p, slot, head, first + mine, f), base, f, s, d_p);
#pragma unroll
        for (int n = 0; n < WALK / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) sum[n][i] += s[n][i];
    }
#pragma unroll
    for (int n = 0; n < WALK / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int query = first + mine + f.group + 8 * (i / 2), column = base + 8 * n + f.pair + i % 2;
            if (query < a.n_queries && column < a.keys)
                p.dbias[score_row(a, head, query) * a.keys + column] = sum[n][i];
        }
}

KERNEL(THREADS, 3) void attention_bf16_dbias_32(const struct attention_grad_args p)
{
    bias_gradients<32>(p);
}
KERNEL_ENTRY(attention_bf16_dbias_32, struct attention_grad_args)

KERNEL(THREADS, 2) void attention_bf16_dbias_64(const struct attention_grad_args p)
{
    bias_gradients<64>(p);
}
KERNEL_ENTRY(attention_bf16_dbias_64, struct attention_grad_args)

void vg_cuda_attention_dbias_bf16(vg_stream *stream, const struct attention_grad_args *args)
{
    struct attention_grad_args p = *args;
    p.a.tiles = (int)(tiles_of(p.a.n_queries, WARPS * OWNED) * tiles_of(p.a.keys, WALK));
    const unsigned blocks = (unsigned)(p.a.heads * p.a.tiles);
    if (p.a.size <= 32) {
        LAUNCH(attention_bf16_dbias_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else {
        LAUNCH(attention_bf16_dbias_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    }
}
