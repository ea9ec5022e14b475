/* Attention, forward, of bf16 values on tensor cores: products of bf16 with sums, softmax and log-sum-exp in fp32.
 * Source: Dao 2023 (FlashAttention-2), section 3: each warp owns its rows, weights stay in registers. */
#include "kernels/cuda/attention_bf16_impl.h"
#include "kernels/cuda/attention_forward_impl.h"

/* --- the running softmax of a lane's two rows
 * ------------------------------------------------------------------------- */

template <int HD> struct fragment_softmax {
    float top[2], sum[2]; /* the largest score so far; of 2^(score - top), over this lane's columns */
    float out[HD / 8][4];
};

template <int HD> static __device__ __forceinline__ void begin(struct fragment_softmax<HD> *x)
{
#pragma unroll
    for (int r = 0; r < 2; r++) x->top[r] = -INFINITY;
}

/* Raw products of row r of the lane, query `query`, and the keys from `base` on become scores. */
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

/* Scores of row r become weights, and what is summed so far is rescaled. */
template <int HD, int KEYS>
static __device__ __forceinline__ void advance(struct fragment_softmax<HD> *x, int r, float s[KEYS / 8][4])
{
    float top = x->top[r];
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) top = fmaxf(top, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
    top = group_max(top);
    const float base = base_of(top), rescale = exp2f(x->top[r] - base);
    x->top[r] = top;
    x->sum[r] *= rescale;
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            s[n][2 * r + e] = exp2f(s[n][2 * r + e] - base);
            x->sum[r] += s[n][2 * r + e];
        }
#pragma unroll
    for (int n = 0; n < HD / 8; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) x->out[n][2 * r + e] *= rescale;
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

/* --- results
 * ---------------------------------------------------------------------------------------------------------- */

/* Each warp has seen all keys of its own rows, from query `first` on; `lines` held its queries, and is where the rows
 * are put together. */
template <int HD>
static __device__ __forceinline__ void write_rows(const struct attention_args &p, const struct result_rows &where,
                                                  int first, struct fragment f, const struct fragment_softmax<HD> &x,
                                                  union bf16_line<HD> *lines)
{
    const struct head_place to = {result_row<bf16>(p, where, first), (int64_t)p.heads * p.size, 0, p.n_queries - first};
    float part[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const float sum = group_sum(x.sum[r]);
        part[r] = part_of(sum, where);
        if (f.pair == 0) write_lse(p, where, first + f.group + 8 * r, x.top[r], sum);
    }
    write_sums<HD>(x.out, part, to, p.size, p.wide, f, lines);
}

template <int HD>
static __device__ __forceinline__ void publish(const struct fragment_softmax<HD> &x, struct fragment f,
                                               struct shares *s, struct line<HD> *out)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const float sum = group_sum(x.sum[r]);
        if (f.pair > 0) continue;
        s->top[f.warp][f.group + 8 * r] = x.top[r];
        s->sum[f.warp][f.group + 8 * r] = sum;
    }
    publish_sums<HD>(x.out, f, out);
}

/* --- kernels
 * ---------------------------------------------------------------------------------------------------------- */

/* Where tiles of keys and values lie, and afterwards what each warp made of its share. */
template <int HD, int ROWS> union walk {
    union bf16_line<HD> rows[ROWS];
    struct line<HD> parts[WARPS * OWNED];
};

/* Many queries: a block takes 64 of a slot and head, 16 a warp, and walks the keys, 64 at a time. Few (SHARED_ROWS): a
 * block takes all, at most 16; each warp walks every fourth tile of 32 keys by itself, and the shares are merged.
 * Values are fetched while scores are made, the next keys while values are weighed.
 *
 * Bound by tensor cores, 2 * Nq * N * HD multiply-adds per head, and by one power of two per score. Shared memory at
 * HD = 64: queries 9 KiB (2.3 few), keys and values 18 (36 few). From L2: keys and values once a block. */
template <int HD, bool SHARED_ROWS> static __device__ __forceinline__ void attend(const struct attention_args &p)
{
    constexpr int GROUP = SHARED_ROWS ? WARP : THREADS, ROWS = SHARED_ROWS ? OWNED : WARPS * OWNED;
    constexpr int KEYS = SHARED_ROWS ? 32 : 64, SHARES = SHARED_ROWS ? WARPS : 1, STEP = SHARES * KEYS;
    typedef union walk<HD, 2 * STEP> key_tiles;
    SHARED(union bf16_line<HD>, queries, [ROWS]);
    SHARED(key_tiles, tiles, [1]);
    SHARED(struct shares, shares, [1]);
    const struct fragment f = fragment_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % p.tiles, head = (int)blockIdx.x / p.tiles % p.heads;
    const int slot = (int)blockIdx.x / p.tiles / p.heads;
    const struct seen_keys seen = seen_by(p, slot);
    const struct result_rows where = {slot, head, seen_end(seen)};
    const struct strip<bf16> key_rows = key_strip<bf16>(p, p.k, p.k2, slot, head, seen);
    const struct strip<bf16> value_rows = key_strip<bf16>(p, p.v, p.v2, slot, head, seen);
    const int share = SHARED_ROWS ? f.warp : 0, mine = SHARED_ROWS ? 0 : f.warp * OWNED, first = tile * ROWS + mine;
    union bf16_line<HD> *keys = tiles->rows + 2 * share * KEYS, *values = keys + KEYS;
    struct left_rows<HD> left;
    struct fragment_softmax<HD> x = {
    };
    begin<HD>(&x);
    fetch<HD, ROWS, THREADS>(queries, plain_strip<bf16>(p, p.q, slot, p.n_queries, head), tile * ROWS, p.size, p.wide);
    fetch<HD, KEYS, GROUP>(keys, key_rows, share * KEYS, p.size, p.wide);
    cp_async_wait<1>();
    __syncthreads();
    load_left<HD>(queries + mine, f, &left);
    for (int base = share * KEYS; base < where.seen_end; base += STEP) {
        float s[KEYS / 8][4];
        cp_async_wait<0>();
        group_sync<GROUP>();
        fetch<HD, KEYS, GROUP>(values, value_rows, base, p.size, p.wide);
        score<HD, KEYS>(left, keys, f, s);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int query = first + f.group + 8 * r;
            finish_scores<KEYS>(p, seen, head, query, base, f.pair, r, s);
            advance<HD, KEYS>(&x, r, s);
            if (p.slot_keys) drop<KEYS>(p, slot, head, query, base, f.pair, r, s);
        }
        cp_async_wait<0>();
        group_sync<GROUP>();
        fetch<HD, KEYS, GROUP>(keys, key_rows, base + STEP, p.size, p.wide);
        weigh_rows<HD, KEYS>(s, values, f, x.out);
    }
    cp_async_wait<0>();
    __syncthreads();
    if (SHARED_ROWS) {
        publish<HD>(x, f, shares, tiles->parts + f.warp * OWNED);
        __syncthreads();
        merge<HD, bf16>(p, where, shares, tiles->parts, OWNED);
    } else {
        write_rows<HD>(p, where, first, f, x, queries + mine);
    }
}

KERNEL(THREADS, 2) void attention_bf16_32(const struct attention_args p)
{
    attend<32, false>(p);
}
KERNEL_ENTRY(attention_bf16_32, struct attention_args)

KERNEL(THREADS, 2) void attention_bf16_64(const struct attention_args p)
{
    attend<64, false>(p);
}
KERNEL_ENTRY(attention_bf16_64, struct attention_args)

KERNEL(THREADS, 3) void attention_bf16_few_32(const struct attention_args p)
{
    attend<32, true>(p);
}
KERNEL_ENTRY(attention_bf16_few_32, struct attention_args)

KERNEL(THREADS, 3) void attention_bf16_few_64(const struct attention_args p)
{
    attend<64, true>(p);
}
KERNEL_ENTRY(attention_bf16_few_64, struct attention_args)

void vg_cuda_attention_bf16(vg_stream *stream, const struct attention_args *args)
{
    const struct attention_args p = *args;
    const unsigned blocks = (unsigned)(p.slots * p.heads * p.tiles);
    const bool few = p.n_queries <= OWNED, small = p.size <= 32;
    if (few && small) {
        LAUNCH(attention_bf16_few_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (few) {
        LAUNCH(attention_bf16_few_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (small) {
        LAUNCH(attention_bf16_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else {
        LAUNCH(attention_bf16_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    }
}
