/* Attention, backward, of bf16 values on tensor cores: the sums of attention_grad.cu, with products of bf16 and sums in
 * fp32; P and dS are rounded to bf16 on their way into the next product. Whoever owns a row of a gradient makes all of
 * its sum, in order. Source: Dao 2023 (FlashAttention-2), algorithm 2. */
#include "kernels/cuda/attention_bf16_impl.h"
#include "kernels/cuda/attention_grad_impl.h"

constexpr int WARPS = 4, THREADS = WARPS * WARP;
constexpr int PLAIN_QUERIES = 64, ANY_QUERIES = 32, BIAS_KEYS = 32; /* of tiles that are walked */

static __device__ __forceinline__ float bias_of(const struct attention_args &p, int head, int query, int column)
{
    const bool there = p.bias && query < p.n_queries && column < p.keys;
    return there ? p.bias[score_row(p, head, query) * p.keys + column] * LOG2_E : 0.0F;
}

/* Scores of probabilities without a bias: products become probabilities. */
static __device__ __forceinline__ float plain_probability(const struct attention_args &p, float product, float lse)
{
    return exp2_approximate(product * (p.scale * LOG2_E) - lse);
}

/* Waits for all products. */
template <int N> static __device__ __forceinline__ void await_products(float (&s)[N][4], float (&d_p)[N][4])
{
    team_wait<0>();
    team_results(s);
    team_results(d_p);
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
static __device__ __forceinline__ void differentiate(const struct attention_grad_args &p, const struct seen_keys &seen,
                                                     const struct query_rows &q, int base, struct fragment f,
                                                     float s[KEYS / 8][4], const float d_p[KEYS / 8][4])
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

/* The same without a bias and dropout, of all keys, while the products are on their way: probabilities need but the
 * first. */
template <int KEYS>
static __device__ __forceinline__ void differentiate_plain(const struct attention_args &a, const struct query_rows &q,
                                                           float (&s)[KEYS / 8][4], float (&d_p)[KEYS / 8][4])
{
    team_wait<1>();
    team_results(s);
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) s[n][i] = plain_probability(a, s[n][i], q.row[i / 2].lse);
    team_wait<0>();
    team_results(d_p);
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) s[n][i] *= d_p[n][i] - q.row[i / 2].delta;
}

/* Weights of the keys from `base` on that the slot does not see become 0. */
template <int KEYS>
static __device__ __forceinline__ void hide_unseen(const struct seen_keys &seen, int base, struct fragment f,
                                                   struct left_weights<KEYS> *weights)
{
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
        const int column = base + 8 * n + f.pair;
        const unsigned kept = (sees(seen, column) ? 0xffffu : 0u) | (sees(seen, column + 1) ? 0xffff0000u : 0u);
#pragma unroll
        for (int r = 0; r < 2; r++) weights->of[n / 2][n % 2 * 2 + r] &= kept;
    }
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

/* Where tiles of keys and values lie, and afterwards what each warp made of its share, or its rows on their way out. */
template <int HD, int ROWS> union alignas(1024) grad_walk {
    struct bf16_line<HD> rows[ROWS];
    struct line<HD> parts[WARPS * OWNED];
};

/* Begins to fetch a tile of keys, and of values behind it. Where they are from is worked out here, each time: registers
 * are short. */
template <int HD, int KEYS, int GROUP>
static __device__ __forceinline__ void fetch_keys(const struct attention_args &a, const struct seen_keys &seen,
                                                  int slot, int head, int base, struct bf16_line<HD> *to)
{
    fetch<HD, KEYS, GROUP>(to, key_strip<bf16>(a, a.k, a.k2, slot, head, seen), base, a.size, a.wide);
    fetch<HD, KEYS, GROUP>(to + KEYS, key_strip<bf16>(a, a.v, a.v2, slot, head, seen), base, a.size, a.wide);
}

/* Many queries: a block takes 64 of a slot and head, 16 a warp, and walks the keys, 64 at a time. Few (SHARED_ROWS): a
 * block takes all, at most 16; each warp walks every fourth tile of 16 keys by itself, and the sums are added in order.
 * The next tile of keys and values is fetched while this one is computed. PLAIN: without a bias and dropout.
 *
 * Bound by tensor cores, 3 * Nq * N * HD multiply-adds per head, and by one power of two per score. Shared memory at
 * HD = 64: queries and dO 16 KiB, two tiles of keys and values 32. From L2: keys and values once a block. */
template <int HD, bool SHARED_ROWS, bool PLAIN>
static __device__ __forceinline__ void query_gradients(const struct attention_grad_args &p)
{
    constexpr int GROUP = SHARED_ROWS ? WARP : THREADS, OWN = SHARED_ROWS ? OWNED : WARPS * OWNED;
    constexpr int KEYS = SHARED_ROWS ? 16 : 64, STEP = SHARED_ROWS ? WARPS * KEYS : KEYS, AHEAD = 2 * STEP;
    typedef union grad_walk<HD, 2 * AHEAD> key_tiles;
    SHARED(key_tiles, tiles, [1]);
    SHARED(struct bf16_line<HD>, queries, [OWN]);
    SHARED(struct bf16_line<HD>, d_os, [OWN]);
    const struct attention_args &a = p.a;
    const struct fragment f = fragment_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % a.tiles, head = (int)blockIdx.x / a.tiles % a.heads;
    const int slot = (int)blockIdx.x / a.tiles / a.heads;
    const struct seen_keys seen = seen_by(a, slot);
    const int share = SHARED_ROWS ? f.warp : 0, mine = SHARED_ROWS ? 0 : f.warp * OWNED;
    const int first = tile * OWN + mine, end = seen_end(seen);
    struct bf16_line<HD> *walked = tiles->rows + 2 * share * KEYS;
    float dq[HD / 8][4] = {};
    fetch<HD, OWN, THREADS>(queries, plain_strip<bf16>(a, a.q, slot, a.n_queries, head), tile * OWN, a.size, a.wide);
    fetch<HD, OWN, THREADS>(d_os, d_o_strip<bf16>(p, slot, head), tile * OWN, a.size, a.wide);
    fetch_keys<HD, KEYS, GROUP>(a, seen, slot, head, share * KEYS, walked);
    cp_async_commit();
    const struct query_rows rows = query_rows_of(p, slot, head, first, f);
    if constexpr (SHARED_ROWS) {
        cp_async_wait<0>();
        __syncthreads(); /* queries and dO are everyone's */
    }
    int offset = 0; /* of the present tile: 0 or AHEAD */
    for (int base = share * KEYS; base < end; base += STEP) {
        float s[KEYS / 8][4], d_p[KEYS / 8][4];
        struct left_rows<HD> left_queries, left_d_os;
        struct left_weights<KEYS> weights;
        cp_async_wait<0>();
        team_publish();
        group_sync<GROUP>();
        const struct bf16_line<HD> *keys = walked + offset;
        offset = AHEAD - offset;
        if (base + STEP < end) fetch_keys<HD, KEYS, GROUP>(a, seen, slot, head, base + STEP, walked + offset);
        cp_async_commit();
        load_left<HD>(queries + mine, f, &left_queries);
        load_left<HD>(d_os + mine, f, &left_d_os);
        multiply_rows<SHARED_ROWS, HD, KEYS>(left_queries, keys, s);
        multiply_rows<SHARED_ROWS, HD, KEYS>(left_d_os, keys + KEYS, d_p);
        if constexpr (PLAIN) {
            differentiate_plain<KEYS>(a, rows, s, d_p);
        } else {
            await_products(s, d_p);
            differentiate<KEYS>(p, seen, rows, base, f, s, d_p);
        }
        pack_weights<KEYS>(s, &weights);
        if constexpr (PLAIN)
            if (base + KEYS > seen.first_end) hide_unseen<KEYS>(seen, base, f, &weights);
        add_weighted<SHARED_ROWS, HD, KEYS>(weights, keys, dq);
        team_wait<0>();
        team_results(dq);
    }
    cp_async_wait<0>();
    __syncthreads();
    bf16 *to = head_of<bf16>(a, p.dq, slot, a.n_queries, head);
    if constexpr (SHARED_ROWS) {
        publish_sums<HD>(dq, f, tiles->parts + f.warp * OWNED);
        __syncthreads();
        merge<HD>(p, to, tiles->parts);
    } else {
        const float factor[2] = {a.scale, a.scale};
        const struct head_place place = {to + (int64_t)first * p.dq.stride, p.dq.stride, 0, a.n_queries - first};
        write_sums<HD>(dq, factor, place, a.size, a.wide, f, tiles->rows + mine);
    }
}

KERNEL(THREADS, TEAM_TILES ? 3 : 2) void attention_bf16_dq_plain_32(const struct attention_grad_args p)
{
    query_gradients<32, false, true>(p);
}
KERNEL_ENTRY(attention_bf16_dq_plain_32, struct attention_grad_args)

KERNEL(THREADS, TEAM_TILES ? 3 : 2) void attention_bf16_dq_plain_64(const struct attention_grad_args p)
{
    query_gradients<64, false, true>(p);
}
KERNEL_ENTRY(attention_bf16_dq_plain_64, struct attention_grad_args)

KERNEL(THREADS, 2) void attention_bf16_dq_32(const struct attention_grad_args p)
{
    query_gradients<32, false, false>(p);
}
KERNEL_ENTRY(attention_bf16_dq_32, struct attention_grad_args)

KERNEL(THREADS, 2) void attention_bf16_dq_64(const struct attention_grad_args p)
{
    query_gradients<64, false, false>(p);
}
KERNEL_ENTRY(attention_bf16_dq_64, struct attention_grad_args)

KERNEL(THREADS, 3) void attention_bf16_dq_few_32(const struct attention_grad_args p)
{
    query_gradients<32, true, false>(p);
}
KERNEL_ENTRY(attention_bf16_dq_few_32, struct attention_grad_args)

KERNEL(THREADS, 2) void attention_bf16_dq_few_64(const struct attention_grad_args p)
{
    query_gradients<64, true, false>(p);
}
KERNEL_ENTRY(attention_bf16_dq_few_64, struct attention_grad_args)

void vg_cuda_attention_dq_bf16(vg_stream *stream, const struct attention_grad_args *args)
{
    struct attention_grad_args p = *args;
    const bool few = p.a.n_queries <= OWNED, small = p.a.size <= 32, plain = !p.a.bias && !p.a.slot_keys;
    p.a.tiles = (int)tiles_of(p.a.n_queries, few ? OWNED : WARPS * OWNED);
    const unsigned blocks = (unsigned)(p.a.slots * p.a.heads * p.a.tiles);
    if (few && small) {
        LAUNCH(attention_bf16_dq_few_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (few) {
        LAUNCH(attention_bf16_dq_few_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (plain && small) {
        LAUNCH(attention_bf16_dq_plain_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (plain) {
        LAUNCH(attention_bf16_dq_plain_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (small) {
        LAUNCH(attention_bf16_dq_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else {
        LAUNCH(attention_bf16_dq_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    }
}

/* --- rows are keys ------------------------------------------------------------------------------------------------ */

/* What dropout keeps of the lane's scores, bit 4 * (2 r + e) + key % 4 of the queries 8 n + pair + e, n < 4: the four
 * lanes that differ in group % 4 see one block of numbers, and make those of n = group % 4 for all of them. */
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
template <int QUERIES> struct query_states {
    float lse[QUERIES], delta[QUERIES];
};

/* Begins to fetch them. */
template <int QUERIES>
static __device__ __forceinline__ void fetch_states(const struct attention_grad_args &p, int slot, int head, int base,
                                                    struct query_states<QUERIES> *to)
{
    const int64_t row = ((int64_t)slot * p.a.heads + head) * p.a.n_queries;
    const int n = (int)threadIdx.x % QUERIES, query = base + n;
    const int valid = query < p.a.n_queries ? (int)sizeof(float) : 0;
    if (threadIdx.x >= 2 * QUERIES) return;
    const float *from = (threadIdx.x < QUERIES ? p.a.lse : p.delta) + row;
    cp_async<sizeof(float)>((threadIdx.x < QUERIES ? to->lse : to->delta) + n, valid ? from + query : from, valid);
}

/* Raw products s and d_p of the lane's keys, those of the warp from `column` on, and the queries from `base` on: s
 * becomes P * keep, d_p becomes dS. */
template <int QUERIES>
static __device__ __forceinline__ void differentiate_keys(const struct attention_args &a, const struct seen_keys &seen,
                                                          int slot, int head, int base, int column, struct fragment f,
                                                          const struct query_states<QUERIES> &states,
                                                          float s[QUERIES / 8][4], float d_p[QUERIES / 8][4])
{
    const unsigned bits = a.slot_keys ? kept_bits(a, slot, head, base, column, f) : 0;
#pragma unroll
    for (int n = 0; n < QUERIES / 8; n++) {
        const unsigned kept = a.slot_keys ? __shfl_sync(~0u, bits, (f.lane & ~12) | n << 2) : 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int key = column + f.group + 8 * (i / 2), query = 8 * n + f.pair + i % 2;
            const bool stays = !a.slot_keys || (kept >> (4 * i + f.group % 4) & 1);
            const float keep = !a.slot_keys ? 1.0F : stays ? a.keep.scale : 0.0F;
            const float score = s[n][i] * (a.scale * LOG2_E) + bias_of(a, head, base + query, key);
            const struct score_grad g = score_grad_of(sees(seen, key), score, d_p[n][i], keep,
                                                      {states.lse[query] * LOG2_E, states.delta[query]});
            s[n][i] = g.kept;
            d_p[n][i] = g.ds;
        }
    }
}

/* The same without a bias and dropout, while the products are on their way: the weights of dO need but the first. */
template <int QUERIES>
static __device__ __forceinline__ void
differentiate_plain_keys(const struct attention_args &a, const struct seen_keys &seen, int column, struct fragment f,
                         const struct query_states<QUERIES> &states, float (&s)[QUERIES / 8][4],
                         float (&d_p)[QUERIES / 8][4])
{
    team_wait<1>();
    team_results(s);
#pragma unroll
    for (int n = 0; n < QUERIES / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[n][i] = plain_probability(a, s[n][i], states.lse[8 * n + f.pair + i % 2] * LOG2_E);
    if (column + OWNED > seen.first_end)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (!sees(seen, column + f.group + 8 * (i / 2)))
#pragma unroll
                for (int n = 0; n < QUERIES / 8; n++) s[n][i] = 0.0F;
    team_wait<0>();
    team_results(d_p);
#pragma unroll
    for (int n = 0; n < QUERIES / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) d_p[n][i] = s[n][i] * (d_p[n][i] - states.delta[8 * n + f.pair + i % 2]);
}

/* Two tiles of queries, and the keys and values that are owned, afterwards their gradients on their way out. */
template <int HD, int QUERIES> struct alignas(1024) query_walk {
    struct {
        struct bf16_line<HD> queries[QUERIES], d_os[QUERIES];
    } tiles[2];
    struct bf16_line<HD> keys[WARPS * OWNED], values[WARPS * OWNED];
    struct query_states<QUERIES> states[2];
};

/* Begins to fetch tile n. */
template <int HD, int QUERIES>
static __device__ __forceinline__ void fetch_tile(const struct attention_grad_args &p, int slot, int head, int base,
                                                  struct query_walk<HD, QUERIES> *to, int n)
{
    const struct attention_args &a = p.a;
    fetch<HD, QUERIES, THREADS>(to->tiles[n].queries, plain_strip<bf16>(a, a.q, slot, a.n_queries, head), base, a.size,
                                a.wide);
    fetch<HD, QUERIES, THREADS>(to->tiles[n].d_os, d_o_strip<bf16>(p, slot, head), base, a.size, a.wide);
    fetch_states<QUERIES>(p, slot, head, base, &to->states[n]);
    cp_async_commit();
}

/* A block takes 64 keys of an image (of a slot, in the second segment) and head, 16 a warp, and walks the queries of
 * all slots that see them, 64 or 32 at a time; the next tile is fetched while this one is computed. Roles are turned:
 * keys and values are owned, rows of weights are keys. PLAIN: without a bias and dropout.
 *
 * Bound by tensor cores, 4 * Nq * N * HD multiply-adds per head and slot, and by one power of two per score. Shared
 * memory at HD = 64: keys and values 16 KiB, two tiles of queries and dO 33. From L2: queries and dO once a block. */
template <int HD, bool PLAIN> static __device__ __forceinline__ void key_gradients(const struct attention_grad_args &p)
{
    constexpr int OWN = WARPS * OWNED, QUERIES = PLAIN ? PLAIN_QUERIES : ANY_QUERIES;
    typedef struct query_walk<HD, QUERIES> query_walk;
    DYN_SHARED(query_walk, walk);
    const struct attention_args &a = p.a;
    const struct fragment f = fragment_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % a.tiles, head = (int)blockIdx.x / a.tiles % a.heads;
    const int item = (int)blockIdx.x / a.tiles / a.heads; /* an image, or a slot */
    const int first = p.column + tile * OWN, mine = f.warp * OWNED, column = first + mine;
    const int first_slot = p.second ? item : first_slot_of(a, item);
    const int slot_end = p.second ? item + 1 : first_slot_of(a, item + 1);
    const struct seen_keys owned = {a.n_first, p.second ? 0 : a.n_first, p.second ? a.keys : a.n_first};
    const int n_rows = p.second ? a.keys - a.n_first : a.n_first;
    struct bf16_line<HD> *keys = walk->keys, *values = walk->values;
    float dk[HD / 8][4] = {}, dv[HD / 8][4] = {};
    fetch<HD, OWN, THREADS>(keys, owned_strip<bf16>(p, p.second ? a.k2 : a.k, item, n_rows, head, owned), first, a.size,
                            a.wide);
    fetch<HD, OWN, THREADS>(values, owned_strip<bf16>(p, p.second ? a.v2 : a.v, item, n_rows, head, owned), first,
                            a.size, a.wide);
    cp_async_commit();
    if (first_slot < slot_end) fetch_tile<HD, QUERIES>(p, first_slot, head, 0, walk, 0);
    int present = 0, base = 0, slot = first_slot;
    while (slot < slot_end) {
        float s[QUERIES / 8][4], d_p[QUERIES / 8][4];
        struct left_rows<HD> left_keys, left_values;
        struct left_weights<QUERIES> weights, grads;
        const bool last = base + QUERIES >= a.n_queries;
        const int next = last ? 0 : base + QUERIES, next_slot = last ? slot + 1 : slot;
        cp_async_wait<0>();
        team_publish();
        __syncthreads();
        const auto &at = walk->tiles[present];
        const struct query_states<QUERIES> &states = walk->states[present];
        present = 1 - present;
        if (next_slot < slot_end) fetch_tile<HD, QUERIES>(p, next_slot, head, next, walk, present);
        load_left<HD>(keys + mine, f, &left_keys);
        load_left<HD>(values + mine, f, &left_values);
        multiply_rows<false, HD, QUERIES>(left_keys, at.queries, s);
        multiply_rows<false, HD, QUERIES>(left_values, at.d_os, d_p);
        if constexpr (PLAIN) {
            differentiate_plain_keys(a, seen_by(a, slot), column, f, states, s, d_p);
        } else {
            await_products(s, d_p);
            differentiate_keys(a, seen_by(a, slot), slot, head, base, column, f, states, s, d_p);
        }
        pack_weights<QUERIES>(s, &weights);
        pack_weights<QUERIES>(d_p, &grads);
        add_weighted<false, HD, QUERIES>(weights, at.d_os, dv);
        add_weighted<false, HD, QUERIES>(grads, at.queries, dk);
        await_products(dv, dk);
        base = next;
        slot = next_slot;
    }
    cp_async_wait<0>(); /* an image without slots: the lanes come here while their rows are on the way */
    __syncthreads();
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

KERNEL(THREADS, 2) void attention_bf16_dkv_plain_32(const struct attention_grad_args p)
{
    key_gradients<32, true>(p);
}
KERNEL_ENTRY(attention_bf16_dkv_plain_32, struct attention_grad_args)

KERNEL(THREADS, 2) void attention_bf16_dkv_plain_64(const struct attention_grad_args p)
{
    key_gradients<64, true>(p);
}
KERNEL_ENTRY(attention_bf16_dkv_plain_64, struct attention_grad_args)

KERNEL(THREADS, 2) void attention_bf16_dkv_32(const struct attention_grad_args p)
{
    key_gradients<32, false>(p);
}
KERNEL_ENTRY(attention_bf16_dkv_32, struct attention_grad_args)

KERNEL(THREADS, 2) void attention_bf16_dkv_64(const struct attention_grad_args p)
{
    key_gradients<64, false>(p);
}
KERNEL_ENTRY(attention_bf16_dkv_64, struct attention_grad_args)

/* A block may have more than 48 KiB of shared memory where a kernel says so; if it may not, the launch tells. */
template <class walk>
static void launch_walk(void (*kernel)(struct attention_grad_args), unsigned blocks, vg_stream *stream,
                        const struct attention_grad_args &p)
{
    (void)cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)sizeof(walk));
    LAUNCH(kernel, blocks, THREADS, sizeof(walk), vg_cuda_queue(stream), p);
}

void vg_cuda_attention_dkv_bf16(vg_stream *stream, const struct attention_grad_args *args)
{
    struct attention_grad_args p = *args;
    p.a.tiles = (int)tiles_of((p.second ? p.a.keys : p.a.n_first) - p.column, WARPS * OWNED);
    const unsigned blocks = (unsigned)((p.second ? p.a.slots : p.a.images) * p.a.heads * p.a.tiles);
    const bool small = p.a.size <= 32, plain = !p.a.bias && !p.a.slot_keys;
    if (plain && small) {
        launch_walk<struct query_walk<32, PLAIN_QUERIES>>(attention_bf16_dkv_plain_32, blocks, stream, p);
    } else if (plain) {
        launch_walk<struct query_walk<64, PLAIN_QUERIES>>(attention_bf16_dkv_plain_64, blocks, stream, p);
    } else if (small) {
        launch_walk<struct query_walk<32, ANY_QUERIES>>(attention_bf16_dkv_32, blocks, stream, p);
    } else {
        launch_walk<struct query_walk<64, ANY_QUERIES>>(attention_bf16_dkv_64, blocks, stream, p);
    }
}

/* --- dbias -------------------------------------------------------------------------------------------------------- */

/* A block takes 64 queries, 16 a warp, and 32 keys of a head and walks the slots. Bound by tensor cores, 2 * Nq * N *
 * HD multiply-adds per head and slot; reads queries, dO, keys and values of a tile once a slot. */
template <int HD> static __device__ __forceinline__ void bias_gradients(const struct attention_grad_args &p)
{
    constexpr int OWN = WARPS * OWNED;
    SHARED(struct bf16_line<HD>, queries, [OWN]);
    SHARED(struct bf16_line<HD>, d_os, [OWN]);
    SHARED(struct bf16_line<HD>, keys, [BIAS_KEYS]);
    SHARED(struct bf16_line<HD>, values, [BIAS_KEYS]);
    const struct attention_args &a = p.a;
    const struct fragment f = fragment_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % a.tiles, head = (int)blockIdx.x / a.tiles;
    const int across = (a.keys + BIAS_KEYS - 1) / BIAS_KEYS, base = tile % across * BIAS_KEYS;
    const int mine = f.warp * OWNED, first = tile / across * OWN;
    float sum[BIAS_KEYS / 8][4] = {};
    for (int slot = 0; slot < a.slots; slot++) {
        const struct seen_keys seen = seen_by(a, slot);
        struct left_rows<HD> left;
        float s[BIAS_KEYS / 8][4], d_p[BIAS_KEYS / 8][4];
        __syncthreads();
        fetch<HD, OWN, THREADS>(queries, plain_strip<bf16>(a, a.q, slot, a.n_queries, head), first, a.size, a.wide);
        fetch<HD, OWN, THREADS>(d_os, d_o_strip<bf16>(p, slot, head), first, a.size, a.wide);
        fetch<HD, BIAS_KEYS, THREADS>(keys, key_strip<bf16>(a, a.k, a.k2, slot, head, seen), base, a.size, a.wide);
        fetch<HD, BIAS_KEYS, THREADS>(values, key_strip<bf16>(a, a.v, a.v2, slot, head, seen), base, a.size, a.wide);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
        load_left<HD>(queries + mine, f, &left);
        warp_mma_rows<HD, BIAS_KEYS>(s, left.of, keys->eight);
        load_left<HD>(d_os + mine, f, &left);
        warp_mma_rows<HD, BIAS_KEYS>(d_p, left.of, values->eight);
        differentiate<BIAS_KEYS>(p, seen, query_rows_of(p, slot, head, first + mine, f), base, f, s, d_p);
#pragma unroll
        for (int n = 0; n < BIAS_KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) sum[n][i] += s[n][i];
    }
#pragma unroll
    for (int n = 0; n < BIAS_KEYS / 8; n++)
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
    p.a.tiles = (int)(tiles_of(p.a.n_queries, WARPS * OWNED) * tiles_of(p.a.keys, BIAS_KEYS));
    const unsigned blocks = (unsigned)(p.a.heads * p.a.tiles);
    if (p.a.size <= 32) {
        LAUNCH(attention_bf16_dbias_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else {
        LAUNCH(attention_bf16_dbias_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    }
}
