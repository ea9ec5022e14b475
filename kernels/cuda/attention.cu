/* Attention, forward, without the scores in memory: the keys are walked once with a running softmax.
 * Source: Dao et al. 2022 (FlashAttention), algorithm 1; Milakov and Gimelshein 2018, "Online normalizer calculation
 * for softmax". Scores are in units of log 2, so that softmax needs powers of two alone. */
#include "kernels/cuda/attention_forward_impl.h"

static struct head_rows head_rows_of(const vg_operand *x, int column)
{
    struct head_rows rows = {NULL, (int)vg_shape_last(&x->shape)};
    if (x->data) rows.data = (char *)x->data + (size_t)column * vg_dtype_bytes(x->dtype);
    return rows;
}

/* Rows that are not there don't stand in the way. */
static bool is_wide(const struct head_rows *x, int elements)
{
    return !x->data || ((uintptr_t)x->data % 16 == 0 && x->stride % elements == 0);
}

vg_status vg_cuda_attention_args(const vg_node *node, int first, struct attention_args *out)
{
    const vg_operand *in = node->in + first;
    const auto &attr = node->attr.attention;
    struct attention_args a = {};
    a.q = head_rows_of(&in[0], attr.q_col);
    a.k = head_rows_of(&in[1], attr.k_col);
    a.v = head_rows_of(&in[2], attr.v_col);
    a.k2 = head_rows_of(&in[3], attr.k2_col);
    a.v2 = head_rows_of(&in[4], attr.v2_col);
    a.counts = (const int32_t *)in[5].data;
    a.bias = (const float *)in[6].data;
    a.index = (const int32_t *)in[7].data;
    a.slot_keys = attr.dropout > 0.0F ? (const uint4 *)in[8].data : NULL;
    a.slots = (int)in[0].shape.dim[0];
    a.images = (int)in[1].shape.dim[0];
    a.heads = attr.heads;
    a.size = attr.head_size;
    a.fold = attr.fold;
    a.n_queries = (int)in[0].shape.dim[1];
    a.n_first = (int)in[1].shape.dim[1];
    a.keys = a.n_first + (in[3].shape.rank == 3 ? (int)in[3].shape.dim[1] : 0);
    a.scale = attr.scale;
    a.keep = keep_rule_of(attr.key, attr.dropout);
    a.mask_second = attr.mask_second;
    const int elements = 16 / (int)vg_dtype_bytes(in[0].dtype);
    a.wide = a.size % elements == 0 && is_wide(&a.q, elements) && is_wide(&a.k, elements) && is_wide(&a.v, elements) &&
             is_wide(&a.k2, elements) && is_wide(&a.v2, elements);
    a.wide_bias = a.keys % 4 == 0;
    VG_CHECK(a.size <= WIDEST_HEAD, VG_E_CONFIG, "attention on a GPU takes heads of up to %d columns, not %d",
             WIDEST_HEAD, a.size);
    VG_CHECK(attr.dropout <= 0.0F || a.slot_keys, VG_E_BUG, "attention with dropout needs the keys of its slots");
    *out = a;
    return VG_OK;
}

/* --- the running softmax of a lane's four rows ----------------------------------------------------------------------
 */

template <int HD> struct softmax {
    float top[4]; /* the largest score so far */
    float sum[4]; /* of 2^(score - top), over this lane's columns */
    struct sums<HD> out;
};

template <int HD> static __device__ __forceinline__ void begin(struct softmax<HD> *x)
{
#pragma unroll
    for (int i = 0; i < 4; i++) x->top[i] = -INFINITY;
}

/* Four more columns for row i: scores s become weights, and what is summed so far is rescaled. */
template <int HD> static __device__ __forceinline__ void advance(struct softmax<HD> *x, int i, float s[4])
{
    const float top = fmaxf(x->top[i], row_max(fmaxf(fmaxf(s[0], s[1]), fmaxf(s[2], s[3]))));
    const float base = base_of(top), rescale = exp2f(x->top[i] - base);
#pragma unroll
    for (int t = 0; t < 4; t++) s[t] = exp2f(s[t] - base);
    x->top[i] = top;
    x->sum[i] = x->sum[i] * rescale + (s[0] + s[1] + s[2] + s[3]);
#pragma unroll
    for (int c = 0; c < HD / WALKED; c++) x->out.of[i][c] = times(x->out.of[i][c], rescale);
}

/* A tile of keys from column `base` on: raw products s become weights in shared memory. */
template <int HD>
static __device__ __forceinline__ void soften(const struct attention_args &p, const struct seen_keys &seen, int slot,
                                              int head, int query, int base, struct place at, float s[4][4],
                                              struct softmax<HD> *x, weight_line *weights)
{
    const int column = base + 4 * at.column;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float bias[4], keep[4];
        bias4(p, head, query + i, column, bias);
        keep4(p, slot, head, query + i, column, keep);
#pragma unroll
        for (int t = 0; t < 4; t++) s[i][t] = sees(seen, column + t) ? s[i][t] + bias[t] : -INFINITY;
        advance<HD>(x, i, s[i]);
        weights[i * (OWNED / 4) + at.row].chunk[at.column] =
            make_float4(s[i][0] * keep[0], s[i][1] * keep[1], s[i][2] * keep[2], s[i][3] * keep[3]);
    }
}

/* --- results --------------------------------------------------------------------------------------------------------
 */

/* Each warp has seen all keys of its own rows; the lane's are from `query` on. */
template <int HD>
static __device__ __forceinline__ void write_rows(const struct attention_args &p, const struct result_rows &where,
                                                  int query, struct place at, const struct softmax<HD> *x)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float sum = row_sum(x->sum[i]);
        if (at.column == 0) write_lse(p, where, query + i, x->top[i], sum);
#pragma unroll
        for (int c = 0; c < HD / WALKED; c++)
            write_chunk<float>(p, where, query + i, c * 8 + at.column, times(x->out.of[i][c], part_of(sum, where)));
    }
}

template <int HD>
static __device__ __forceinline__ void publish(const struct softmax<HD> *x, struct place at, struct shares *s,
                                               struct line<HD> *out)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = 4 * at.row + i;
        const float sum = row_sum(x->sum[i]);
        if (at.column == 0) {
            s->top[at.warp][row] = x->top[i];
            s->sum[at.warp][row] = sum;
        }
#pragma unroll
        for (int c = 0; c < HD / WALKED; c++) out[row].chunk[c * 8 + at.column] = x->out.of[i][c];
    }
}

/* --- kernels --------------------------------------------------------------------------------------------------------
 */

/* Many queries: a block takes 64 of a slot and head, 16 a warp; the block walks the keys in one tile after another. Few
 * (SHARED_ROWS): a block takes all, at most 16; each warp walks every fourth tile by itself, and the shares are merged.
 * Keys and values take turns in the same tile: half the shared memory, twice the blocks, which hide the barriers.
 *
 * Bound by multiply-adds, 2 * Nq * N * HD of them per head. Shared memory at HD = 64: queries 17 KiB (4.3 few),
 * tile 8.5 (34 few), weights 9; reads of it keep half of the time of the multiply-adds. From L2: keys and values once a
 * block. */
template <int HD, bool SHARED_ROWS> static __device__ __forceinline__ void attend(const struct attention_args &p)
{
    constexpr int GROUP = SHARED_ROWS ? WARP : THREADS, ROWS = SHARED_ROWS ? OWNED : WARPS * OWNED;
    constexpr int STEP = SHARED_ROWS ? WARPS * WALKED : WALKED;
    SHARED(struct line<HD>, queries, [ROWS]);
    SHARED(struct line<HD>, tiles, [STEP]);
    SHARED(weight_line, all_weights, [WARPS * OWNED]);
    SHARED(struct shares, shares, [1]);
    const struct place at = place_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % p.tiles, head = (int)blockIdx.x / p.tiles % p.heads;
    const int slot = (int)blockIdx.x / p.tiles / p.heads, first = tile * ROWS;
    const struct seen_keys seen = seen_by(p, slot);
    const struct result_rows where = {slot, head, seen_end(seen)};
    const struct strip<float> keys = key_strip<float>(p, p.k, p.k2, slot, head, seen);
    const struct strip<float> values = key_strip<float>(p, p.v, p.v2, slot, head, seen);
    const int share = SHARED_ROWS ? at.warp * WALKED : 0, mine = SHARED_ROWS ? 0 : at.warp * OWNED;
    const int query = first + mine + 4 * at.row;
    weight_line *weights = all_weights + at.warp * OWNED;
    struct line<HD> *walked = tiles + share;
    struct softmax<HD> x = {
    };
    begin<HD>(&x);
    fill<HD, ROWS, OWNED, THREADS>(queries, plain_strip<float>(p, p.q, slot, p.n_queries, head), first, p.size, p.wide,
                                   p.scale * LOG2_E);
    __syncthreads();
    for (int base = share; base < where.seen_end; base += STEP) {
        float s[4][4];
        fill<HD, WALKED, WALKED, GROUP>(walked, keys, base, p.size, p.wide, 1.0F);
        group_sync<GROUP>();
        multiply<HD>(queries + mine, walked, at, s);
        soften<HD>(p, seen, slot, head, query, base, at, s, &x, weights);
        group_sync<GROUP>();
        fill<HD, WALKED, WALKED, GROUP>(walked, values, base, p.size, p.wide, 1.0F);
        group_sync<GROUP>();
        weigh<HD>(weights, walked, at, &x.out);
        group_sync<GROUP>();
    }
    if (SHARED_ROWS) {
        publish<HD>(&x, at, shares, walked);
        __syncthreads();
        merge<HD, float>(p, where, shares, tiles, WALKED);
    } else {
        write_rows<HD>(p, where, query, at, &x);
    }
}

KERNEL(THREADS, 3) void attention_32(const struct attention_args p)
{
    attend<32, false>(p);
}
KERNEL_ENTRY(attention_32, struct attention_args)

KERNEL(THREADS, 3) void attention_64(const struct attention_args p)
{
    attend<64, false>(p);
}
KERNEL_ENTRY(attention_64, struct attention_args)

KERNEL(THREADS, 3) void attention_few_32(const struct attention_args p)
{
    attend<32, true>(p);
}
KERNEL_ENTRY(attention_few_32, struct attention_args)

KERNEL(THREADS, 3) void attention_few_64(const struct attention_args p)
{
    attend<64, true>(p);
}
KERNEL_ENTRY(attention_few_64, struct attention_args)

extern "C" vg_status vg_cuda_attention(vg_stream *stream, const vg_node *node)
{
    struct attention_args p;
    VG_TRY(vg_cuda_attention_args(node, 0, &p));
    const bool few = p.n_queries <= OWNED, small = p.size <= 32;
    p.o = node->out[0].data;
    p.lse = (float *)node->out[1].data;
    p.sums = (float *)node->out[2].data;
    p.tiles = (int)tiles_of(p.n_queries, few ? OWNED : WARPS * OWNED);
    const unsigned blocks = (unsigned)(p.slots * p.heads * p.tiles);
    const bool bf16_values = node->in[0].dtype == VG_BF16;
    if (p.size > LARGEST_HEAD || p.fold > 1 || p.sums) {
        vg_cuda_attention_wide(stream, &p, bf16_values);
    } else if (bf16_values) {
        vg_cuda_attention_bf16(stream, &p);
    } else if (few && small) {
        LAUNCH(attention_few_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (few) {
        LAUNCH(attention_few_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (small) {
        LAUNCH(attention_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else {
        LAUNCH(attention_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    }
    return VG_CUDA_LAUNCHED("attention");
}
