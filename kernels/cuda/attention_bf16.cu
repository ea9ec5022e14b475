/* Attention, forward, of bf16 values on tensor cores: products of bf16 with sums, softmax and log-sum-exp in fp32.
 * Source: Dao 2023 (FlashAttention-2), section 3: each warp owns its rows, weights stay in registers. */
#include "kernels/cuda/attention_bf16_impl.h"
#include "kernels/cuda/attention_forward_impl.h"

/* --- the running softmax of a lane's two rows
 * ------------------------------------------------------------------------- */

struct fragment_softmax {
    float top[2], sum[2]; /* the largest score so far; of 2^(score - top), over this lane's columns */
};

/* Raw products of row r of the lane, query `query`, and the keys from `base` on become scores, in units of log 2. */
template <int KEYS>
static __device__ __forceinline__ void finish_scores(const struct attention_args &p, const struct seen_keys &seen,
                                                     int head, int query, int base, int pair, int r,
                                                     float s[KEYS / 8][4])
{
    const float *bias = p.bias && query < p.n_queries ? p.bias + score_row(p, head, query) * p.keys : NULL;
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int column = base + 8 * n + pair + e;
            float *x = &s[n][2 * r + e];
            *x = sees(seen, column) ? *x * (p.scale * LOG2_E) + (bias ? bias[column] * LOG2_E : 0.0F) : -INFINITY;
        }
}

/* Hides what the slot does not see of the keys from `base` on. */
template <int KEYS>
static __device__ __forceinline__ void hide_unseen(const struct seen_keys &seen, int base, int pair,
                                                   float s[KEYS / 8][4])
{
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int e = 0; e < 2; e++)
            if (!sees(seen, base + 8 * n + pair + e)) s[n][e] = s[n][2 + e] = -INFINITY;
}

/* Scores of the lane's rows, once multiplied by `factor`, become weights, and what is summed so far is rescaled. The
 * rows go in step: neither waits for the other's reduction. */
template <int HD, int KEYS>
static __device__ __forceinline__ void advance(struct fragment_softmax *x, float factor, float s[KEYS / 8][4],
                                               float out[HD / 8][4])
{
    float top[2] = {-INFINITY, -INFINITY}, base[2], rescale[2];
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) top[i / 2] = fmaxf(top[i / 2], s[n][i]);
#pragma unroll
    for (int bit = 1; bit <= 2; bit *= 2)
#pragma unroll
        for (int r = 0; r < 2; r++) top[r] = fmaxf(top[r], __shfl_xor_sync(~0u, top[r], bit));
#pragma unroll
    for (int r = 0; r < 2; r++) {
        top[r] = fmaxf(x->top[r], top[r] * factor);
        base[r] = base_of(top[r]);
        rescale[r] = exp2_approximate(x->top[r] - base[r]);
        x->top[r] = top[r];
        x->sum[r] *= rescale[r];
    }
#pragma unroll
    for (int n = 0; n < HD / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) out[n][i] *= rescale[i / 2];
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            s[n][i] = exp2_approximate(s[n][i] * factor - base[i / 2]);
            x->sum[i / 2] += s[n][i];
        }
}

template <int KEYS>
static __device__ __forceinline__ void drop(const struct attention_args &p, int slot, int head, int query, int base,
                                            int pair, int r, float s[KEYS / 8][4])
{
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
        float keep[4];
        keep4(p, slot, head, query, base + 8 * n + (pair & 4), keep);
        s[n][2 * r] *= pair & 2 ? keep[2] : keep[0];
        s[n][2 * r + 1] *= pair & 2 ? keep[3] : keep[1];
    }
}

/* Raw products of the lane's rows, from query `first` on, become weights. PLAIN: without a bias and dropout. */
template <int HD, int KEYS, bool PLAIN>
static __device__ __forceinline__ void
weights_of(const struct attention_args &p, const struct seen_keys &seen, int slot, int head, int first, int base,
           struct fragment f, struct fragment_softmax *x, float s[KEYS / 8][4], float out[HD / 8][4])
{
    if constexpr (PLAIN) {
        if (base + KEYS > seen.first_end) hide_unseen<KEYS>(seen, base, f.pair, s);
        advance<HD, KEYS>(x, p.scale * LOG2_E, s, out);
    } else {
#pragma unroll
        for (int r = 0; r < 2; r++) finish_scores<KEYS>(p, seen, head, first + f.group + 8 * r, base, f.pair, r, s);
        advance<HD, KEYS>(x, 1.0F, s, out);
        if (p.slot_keys)
#pragma unroll
            for (int r = 0; r < 2; r++) drop<KEYS>(p, slot, head, first + f.group + 8 * r, base, f.pair, r, s);
    }
}

/* --- results
 * ---------------------------------------------------------------------------------------------------------- */

/* Each warp has seen all keys of its own rows, from query `first` on; `lines` held its queries, and is where the rows
 * are put together. */
template <int HD>
static __device__ __forceinline__ void write_rows(const struct attention_args &p, const struct result_rows &where,
                                                  int first, struct fragment f, const struct fragment_softmax &x,
                                                  const float out[HD / 8][4], struct bf16_line<HD> *lines)
{
    const struct head_place to = {result_row<bf16>(p, where, first), (int64_t)p.heads * p.size, 0, p.n_queries - first};
    float part[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const float sum = group_sum(x.sum[r]);
        part[r] = part_of(sum, where);
        if (f.pair == 0) write_lse(p, where, first + f.group + 8 * r, x.top[r], sum);
    }
    write_sums<HD>(out, part, to, p.size, p.wide, f, lines);
}

template <int HD>
static __device__ __forceinline__ void publish(const struct fragment_softmax &x, const float out[HD / 8][4],
                                               struct fragment f, struct shares *s, struct line<HD> *lines)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const float sum = group_sum(x.sum[r]);
        if (f.pair > 0) continue;
        s->top[f.warp][f.group + 8 * r] = x.top[r];
        s->sum[f.warp][f.group + 8 * r] = sum;
    }
    publish_sums<HD>(out, f, lines);
}

/* --- kernels
 * ---------------------------------------------------------------------------------------------------------- */

/* Where tiles of keys and values lie, and afterwards what each warp made of its share, or its rows on their way out. */
template <int HD, int ROWS> union alignas(1024) walk {
    struct bf16_line<HD> rows[ROWS];
    struct line<HD> parts[WARPS * OWNED];
};

/* Many queries: a block takes 64 of a slot and head, 16 a warp, and walks the keys, 64 at a time. Few (SHARED_ROWS): a
 * block takes all, at most 16; each warp walks every fourth tile of 16 keys by itself, and the shares are merged. The
 * next tile of keys and values is fetched while this one is computed.
 *
 * Bound by tensor cores, 2 * Nq * N * HD multiply-adds per head, and by one power of two per score. Shared memory at
 * HD = 64: queries 8 KiB, two tiles of keys and values 32. From L2: keys and values once a block. */
template <int HD, bool SHARED_ROWS, bool PLAIN>
static __device__ __forceinline__ void attend(const struct attention_args &p)
{
    constexpr int GROUP = SHARED_ROWS ? WARP : THREADS, ROWS = SHARED_ROWS ? OWNED : WARPS * OWNED;
    constexpr int KEYS = SHARED_ROWS ? 16 : 64, STEP = SHARED_ROWS ? WARPS * KEYS : KEYS, AHEAD = 2 * STEP;
    typedef union walk<HD, 2 * AHEAD> key_tiles;
    SHARED(key_tiles, tiles, [1]);
    SHARED(struct bf16_line<HD>, queries, [ROWS]);
    SHARED(struct shares, shares, [1]);
    const struct fragment f = fragment_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % p.tiles, head = (int)blockIdx.x / p.tiles % p.heads;
    const int slot = (int)blockIdx.x / p.tiles / p.heads;
    const struct seen_keys seen = seen_by(p, slot);
    const struct result_rows where = {slot, head, seen_end(seen)};
    const struct strip<bf16> key_rows = key_strip<bf16>(p, p.k, p.k2, slot, head, seen);
    const struct strip<bf16> value_rows = key_strip<bf16>(p, p.v, p.v2, slot, head, seen);
    const int share = SHARED_ROWS ? f.warp : 0, mine = SHARED_ROWS ? 0 : f.warp * OWNED;
    const int first = tile * ROWS + mine;
    struct bf16_line<HD> *walked = tiles->rows + 2 * share * KEYS;
    struct fragment_softmax x = {{-INFINITY, -INFINITY}, {0.0F, 0.0F}};
    float out[HD / 8][4] = {};
    fetch<HD, ROWS, THREADS>(queries, plain_strip<bf16>(p, p.q, slot, p.n_queries, head), tile * ROWS, p.size, p.wide);
    fetch<HD, KEYS, GROUP>(walked, key_rows, share * KEYS, p.size, p.wide);
    fetch<HD, KEYS, GROUP>(walked + KEYS, value_rows, share * KEYS, p.size, p.wide);
    cp_async_commit();
    if constexpr (SHARED_ROWS) {
        cp_async_wait<0>();
        __syncthreads(); /* queries are everyone's */
    }
    int offset = 0; /* of the present tile: 0 or AHEAD */
    for (int base = share * KEYS; base < where.seen_end; base += STEP) {
        float s[KEYS / 8][4];
        struct left_rows<HD> left;
        struct left_weights<KEYS> weights;
        cp_async_wait<0>();
        team_publish();
        group_sync<GROUP>();
        const struct bf16_line<HD> *keys = walked + offset;
        offset = AHEAD - offset;
        if (base + STEP < where.seen_end) {
            fetch<HD, KEYS, GROUP>(walked + offset, key_rows, base + STEP, p.size, p.wide);
            fetch<HD, KEYS, GROUP>(walked + offset + KEYS, value_rows, base + STEP, p.size, p.wide);
        }
        cp_async_commit();
        load_left<HD>(queries + mine, f, &left);
        multiply_rows<SHARED_ROWS, HD, KEYS>(left, keys, s);
        team_wait<0>();
        team_results(s);
        weights_of<HD, KEYS, PLAIN>(p, seen, slot, head, first, base, f, &x, s, out);
        pack_weights<KEYS>(s, &weights);
        add_weighted<SHARED_ROWS, HD, KEYS>(weights, keys + KEYS, out);
        team_wait<0>();
        team_results(out);
    }
    cp_async_wait<0>();
    __syncthreads();
    if constexpr (SHARED_ROWS) {
        publish<HD>(x, out, f, shares, tiles->parts + f.warp * OWNED);
        __syncthreads();
        merge<HD, bf16>(p, where, shares, tiles->parts, OWNED);
    } else {
        write_rows<HD>(p, where, first, f, x, out, tiles->rows + mine);
    }
}

KERNEL(THREADS, TEAM_TILES ? 4 : 2) void attention_bf16_plain_32(const struct attention_args p)
{
    attend<32, false, true>(p);
}
KERNEL_ENTRY(attention_bf16_plain_32, struct attention_args)

KERNEL(THREADS, TEAM_TILES ? 4 : 2) void attention_bf16_plain_64(const struct attention_args p)
{
    attend<64, false, true>(p);
}
KERNEL_ENTRY(attention_bf16_plain_64, struct attention_args)

KERNEL(THREADS, 3) void attention_bf16_32(const struct attention_args p)
{
    attend<32, false, false>(p);
}
KERNEL_ENTRY(attention_bf16_32, struct attention_args)

KERNEL(THREADS, 2) void attention_bf16_64(const struct attention_args p)
{
    attend<64, false, false>(p);
}
KERNEL_ENTRY(attention_bf16_64, struct attention_args)

KERNEL(THREADS, 3) void attention_bf16_few_32(const struct attention_args p)
{
    attend<32, true, false>(p);
}
KERNEL_ENTRY(attention_bf16_few_32, struct attention_args)

KERNEL(THREADS, 3) void attention_bf16_few_64(const struct attention_args p)
{
    attend<64, true, false>(p);
}
KERNEL_ENTRY(attention_bf16_few_64, struct attention_args)

void vg_cuda_attention_bf16(vg_stream *stream, const struct attention_args *args)
{
    struct attention_args p = *args;
    const bool few = p.n_queries <= OWNED, small = p.size <= 32, plain = !p.bias && !p.slot_keys;
    p.tiles = (int)tiles_of(p.n_queries, few ? OWNED : WARPS * OWNED);
    const unsigned blocks = (unsigned)(p.slots * p.heads * p.tiles);
    if (few && small) {
        LAUNCH(attention_bf16_few_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (few) {
        LAUNCH(attention_bf16_few_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (plain && small) {
        LAUNCH(attention_bf16_plain_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (plain) {
        LAUNCH(attention_bf16_plain_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (small) {
        LAUNCH(attention_bf16_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else {
        LAUNCH(attention_bf16_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    }
}
