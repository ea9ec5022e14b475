/* Attention, backward, without the scores in memory: probabilities are made again from the log-sum-exp.
 *     P = softmax(S), O = (P * keep) V:   dV = (P * keep)^T dO,  dP = (dO V^T) * keep,  dS = P * (dP - <dO, O>),
 *     dQ = scale dS K,  dK = scale dS^T Q,  dbias = dS
 * Whoever owns a row of a gradient makes all of its sum, in order: keys for dQ, the slots of an image and their queries
 * for dK and dV, slots for dbias. So the scores are computed once for each of the three, and nothing is added by two.
 * Source: Dao et al. 2022 (FlashAttention), appendix B. */
#include "kernels/cuda/attention_grad_impl.h"

constexpr int WARPS = 2, THREADS = WARPS * WARP, ROWS = WARPS * OWNED, DELTA_THREADS = 256, DELTA_LANES = 16;

/* --- <dO, O> --------------------------------------------------------------------------------------------------------
 */

template <class T> static __device__ __forceinline__ void row_products(const struct attention_grad_args &p)
{
    const int64_t n = (int64_t)blockIdx.x * (DELTA_THREADS / DELTA_LANES) + threadIdx.x / DELTA_LANES;
    const int lane = (int)threadIdx.x % DELTA_LANES;
    const bool inside = n < (int64_t)p.a.slots * p.a.n_queries * p.a.heads;
    float sum = 0.0F;
    for (int c = 4 * lane; inside && c < p.a.size; c += 4 * DELTA_LANES) {
        const float4 x = load4((const T *)p.a.o + n * p.a.size + c, p.a.size - c, p.a.wide);
        const float4 y = load4((const T *)p.d_o + n * p.a.size + c, p.a.size - c, p.a.wide);
        sum += x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
    }
    for (int bit = 1; bit < DELTA_LANES; bit *= 2) sum += __shfl_xor_sync(~0u, sum, bit);
    const int64_t head = n % p.a.heads, row = n / p.a.heads, slot = row / p.a.n_queries, query = row % p.a.n_queries;
    const int64_t to = (slot * p.a.heads + head) * p.a.n_queries + query;
    if (inside && lane == 0) p.delta[to] = p.d_sums ? sum + p.d_sums[to] * p.a.sums[to] : sum;
}

/* 16 lanes a row of a head: o and do are read once, 8 * B * Nq * H * D bytes, 4 of bf16. */
KERNEL(DELTA_THREADS) void attention_delta(const struct attention_grad_args p)
{
    p.bf16 ? row_products<bf16>(p) : row_products<float>(p);
}
KERNEL_ENTRY(attention_delta, struct attention_grad_args)

/* dS of four queries against four keys, row i: raw products s and d_p of query `query` and the keys from `column` on.
 */
static __device__ __forceinline__ float4 query_grad(const struct attention_grad_args &p, const struct seen_keys &seen,
                                                    int slot, int head, int query, int column, struct row_state row,
                                                    const float s[4], const float d_p[4])
{
    float bias[4], keep[4], ds[4];
    bias4(p.a, head, query, column, bias);
    keep4(p.a, slot, head, query, column, keep);
#pragma unroll
    for (int t = 0; t < 4; t++) ds[t] = score_grad_of(sees(seen, column + t), s[t] + bias[t], d_p[t], keep[t], row).ds;
    return make_float4(ds[0], ds[1], ds[2], ds[3]);
}

/* Rows of one head of a gradient: item's rows are n, those before `end` are written. */
struct target {
    int item, n, head, first, end;
};

static __device__ __forceinline__ void write_chunk(const struct attention_args &p, const struct head_rows &to,
                                                   const struct target &where, int row, int chunk, float4 value)
{
    store4(head_of<float>(p, to, where.item, where.n, where.head) + (int64_t)row * to.stride + 4 * chunk, value,
           p.size - 4 * chunk, p.wide);
}

/* A lane's sums, times factor, as rows first.. of the target. */
template <int HD>
static __device__ __forceinline__ void write_rows(const struct attention_args &p, const struct head_rows &to,
                                                  const struct target &where, struct place at,
                                                  const struct sums<HD> &sum, float factor)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int c = 0; c < HD / WALKED; c++)
            if (where.first + i >= 0 && where.first + i < where.end)
                write_chunk(p, to, where, where.first + i, c * 8 + at.column, times(sum.of[i][c], factor));
}

/* --- dQ -------------------------------------------------------------------------------------------------------------
 */

template <int HD>
static __device__ __forceinline__ void publish(const struct sums<HD> &sum, struct place at, struct line<HD> *to)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int c = 0; c < HD / WALKED; c++) to[4 * at.row + i].chunk[c * 8 + at.column] = sum.of[i][c];
}

/* Adds what the warps made of their shares of the keys, in order; each left 16 lines where its tile was. */
template <int HD>
static __device__ __forceinline__ void merge(const struct attention_grad_args &p, int slot, int head,
                                             const struct line<HD> *parts)
{
    const struct target where = {slot, p.a.n_queries, head, 0, p.a.n_queries};
    for (int n = (int)threadIdx.x; n < OWNED * HD / 4; n += THREADS) {
        const int row = n / (HD / 4), chunk = n % (HD / 4);
        if (row >= p.a.n_queries) return;
        float4 sum = parts[row].chunk[chunk];
        for (int w = 1; w < WARPS; w++) add_product(&sum, 1.0F, parts[w * WALKED + row].chunk[chunk]);
        write_chunk(p.a, p.dq, where, row, chunk, times(sum, p.a.scale));
    }
}

/* Many queries: a block takes 32 of a slot and head, 16 a warp, and walks the keys. Few (SHARED_ROWS): a block takes
 * all, at most 16; each warp walks every second tile of keys, and the sums of the warps are added in order.
 *
 * Bound by multiply-adds, 3 * Nq * N * HD of them per head. Shared memory at HD = 64: queries and dO 17 KiB (8.5 few),
 * a tile of keys and values 17 (34 few), weights 4.5. From L2: keys and values once a block. */
template <int HD, bool SHARED_ROWS>
static __device__ __forceinline__ void query_gradients(const struct attention_grad_args &p)
{
    constexpr int GROUP = SHARED_ROWS ? WARP : THREADS, OWN = SHARED_ROWS ? OWNED : ROWS;
    constexpr int STEP = SHARED_ROWS ? WARPS * WALKED : WALKED;
    SHARED(struct line<HD>, queries, [OWN]);
    SHARED(struct line<HD>, d_os, [OWN]);
    SHARED(struct line<HD>, all_keys, [STEP]);
    SHARED(struct line<HD>, all_values, [STEP]);
    SHARED(weight_line, all_weights, [ROWS]);
    const struct place at = place_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % p.a.tiles, head = (int)blockIdx.x / p.a.tiles % p.a.heads;
    const int slot = (int)blockIdx.x / p.a.tiles / p.a.heads, first = tile * OWN;
    const struct seen_keys seen = seen_by(p.a, slot);
    const struct strip<float> keys = key_strip<float>(p.a, p.a.k, p.a.k2, slot, head, seen);
    const struct strip<float> values = key_strip<float>(p.a, p.a.v, p.a.v2, slot, head, seen);
    const int share = SHARED_ROWS ? at.warp * WALKED : 0, mine = SHARED_ROWS ? 0 : at.warp * OWNED;
    const int query = first + mine + 4 * at.row;
    weight_line *weights = all_weights + at.warp * OWNED;
    struct line<HD> *walked_keys = all_keys + share, *walked_values = all_values + share;
    struct row_state rows[4];
    struct sums<HD> dq = {
    };
#pragma unroll
    for (int i = 0; i < 4; i++) rows[i] = row_state_of(p, slot, head, query + i);
    fill<HD, OWN, OWNED, THREADS>(queries, plain_strip<float>(p.a, p.a.q, slot, p.a.n_queries, head), first, p.a.size,
                                  p.a.wide, p.a.scale * LOG2_E);
    fill<HD, OWN, OWNED, THREADS>(d_os, d_o_strip<float>(p, slot, head), first, p.a.size, p.a.wide, 1.0F);
    __syncthreads();
    for (int base = share; base < seen_end(seen); base += STEP) {
        float s[4][4], d_p[4][4];
        fill<HD, WALKED, WALKED, GROUP>(walked_keys, keys, base, p.a.size, p.a.wide, 1.0F);
        fill<HD, WALKED, WALKED, GROUP>(walked_values, values, base, p.a.size, p.a.wide, 1.0F);
        group_sync<GROUP>();
        multiply<HD>(queries + mine, walked_keys, at, s);
        multiply<HD>(d_os + mine, walked_values, at, d_p);
#pragma unroll
        for (int i = 0; i < 4; i++)
            weights[i * (OWNED / 4) + at.row].chunk[at.column] =
                query_grad(p, seen, slot, head, query + i, base + 4 * at.column, rows[i], s[i], d_p[i]);
        __syncwarp();
        weigh<HD>(weights, walked_keys, at, &dq);
        group_sync<GROUP>();
    }
    if (SHARED_ROWS) {
        publish<HD>(dq, at, walked_keys);
        __syncthreads();
        merge<HD>(p, slot, head, all_keys);
    } else {
        write_rows<HD>(p.a, p.dq, {slot, p.a.n_queries, head, query, p.a.n_queries}, at, dq, p.a.scale);
    }
}

KERNEL(THREADS, 5) void attention_dq_32(const struct attention_grad_args p)
{
    query_gradients<32, false>(p);
}
KERNEL_ENTRY(attention_dq_32, struct attention_grad_args)

KERNEL(THREADS, 4) void attention_dq_64(const struct attention_grad_args p)
{
    query_gradients<64, false>(p);
}
KERNEL_ENTRY(attention_dq_64, struct attention_grad_args)

KERNEL(THREADS, 4) void attention_dq_few_32(const struct attention_grad_args p)
{
    query_gradients<32, true>(p);
}
KERNEL_ENTRY(attention_dq_few_32, struct attention_grad_args)

KERNEL(THREADS, 4) void attention_dq_few_64(const struct attention_grad_args p)
{
    query_gradients<64, true>(p);
}
KERNEL_ENTRY(attention_dq_few_64, struct attention_grad_args)

/* --- dK, dV ---------------------------------------------------------------------------------------------------------
 */

/* A block takes 32 keys of an image (of a slot, in the second segment) and head, 16 a warp, and walks the queries of
 * all slots that see them. Roles are turned: keys and values are owned, rows of weights are keys, columns are queries.
 *
 * Bound by multiply-adds, 4 * Nq * N * HD of them per head and slot. Shared memory at HD = 64: keys and values 17 KiB,
 * a tile of queries and dO 17, weights 4.5. From L2: queries and dO once a block. */
template <int HD> static __device__ __forceinline__ void key_gradients(const struct attention_grad_args &p)
{
    SHARED(struct line<HD>, keys, [ROWS]);
    SHARED(struct line<HD>, values, [ROWS]);
    SHARED(struct line<HD>, queries, [WALKED]);
    SHARED(struct line<HD>, d_os, [WALKED]);
    SHARED(weight_line, all_weights, [ROWS]);
    SHARED(struct row_state, states, [WALKED]);
    const struct attention_args &a = p.a;
    const struct place at = place_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % a.tiles, head = (int)blockIdx.x / a.tiles % a.heads;
    const int item = (int)blockIdx.x / a.tiles / a.heads; /* an image, or a slot */
    const int first = p.column + tile * ROWS, mine = at.warp * OWNED, column = first + mine + 4 * at.row;
    const int slot_end = p.second ? item + 1 : first_slot_of(a, item + 1);
    const struct seen_keys owned = {a.n_first, p.second ? 0 : a.n_first, p.second ? a.keys : a.n_first};
    const int n_rows = p.second ? a.keys - a.n_first : a.n_first;
    weight_line *weights = all_weights + mine;
    struct sums<HD> dk = {}, dv = {
    };
    fill<HD, ROWS, OWNED, THREADS>(keys, owned_strip<float>(p, p.second ? a.k2 : a.k, item, n_rows, head, owned), first,
                                   a.size, a.wide, a.scale * LOG2_E);
    fill<HD, ROWS, OWNED, THREADS>(values, owned_strip<float>(p, p.second ? a.v2 : a.v, item, n_rows, head, owned),
                                   first, a.size, a.wide, 1.0F);
    for (int slot = p.second ? item : first_slot_of(a, item); slot < slot_end; slot++) {
        const struct seen_keys seen = seen_by(a, slot);
        const struct strip<float> query_rows = plain_strip<float>(a, a.q, slot, a.n_queries, head);
        const struct strip<float> d_o_rows = d_o_strip<float>(p, slot, head);
        for (int base = 0; base < a.n_queries; base += WALKED) {
            float s[4][4], d_p[4][4];
            __syncthreads();
            fill<HD, WALKED, WALKED, THREADS>(queries, query_rows, base, a.size, a.wide, 1.0F);
            fill<HD, WALKED, WALKED, THREADS>(d_os, d_o_rows, base, a.size, a.wide, 1.0F);
            if (threadIdx.x < WALKED) states[threadIdx.x] = row_state_of(p, slot, head, base + (int)threadIdx.x);
            __syncthreads();
            multiply<HD>(keys + mine, queries, at, s);
            multiply<HD>(values + mine, d_os, at, d_p);
#pragma unroll
            for (int t = 0; t < 4; t++) {
                const int query = base + 4 * at.column + t;
                const struct row_state state = states[4 * at.column + t];
                float bias[4], keep[4];
                bias4(a, head, query, column, bias);
                keep4(a, slot, head, query, column, keep);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const struct score_grad g =
                        score_grad_of(sees(seen, column + i), s[i][t] + bias[i], d_p[i][t], keep[i], state);
                    s[i][t] = g.kept;
                    d_p[i][t] = g.ds;
                }
            }
#pragma unroll
            for (int i = 0; i < 4; i++)
                weights[i * (OWNED / 4) + at.row].chunk[at.column] = make_float4(s[i][0], s[i][1], s[i][2], s[i][3]);
            __syncwarp();
            if (p.dv.data) weigh<HD>(weights, d_os, at, &dv);
            __syncwarp();
#pragma unroll
            for (int i = 0; i < 4; i++)
                weights[i * (OWNED / 4) + at.row].chunk[at.column] =
                    make_float4(d_p[i][0], d_p[i][1], d_p[i][2], d_p[i][3]);
            __syncwarp();
            if (p.dk.data) weigh<HD>(weights, queries, at, &dk);
        }
    }
    const struct target where = {item, n_rows, head, column - (p.second ? a.n_first : 0), n_rows};
    if (p.dk.data) write_rows<HD>(a, p.dk, where, at, dk, a.scale);
    if (p.dv.data) write_rows<HD>(a, p.dv, where, at, dv, 1.0F);
}

KERNEL(THREADS, 5) void attention_dkv_32(const struct attention_grad_args p)
{
    key_gradients<32>(p);
}
KERNEL_ENTRY(attention_dkv_32, struct attention_grad_args)

KERNEL(THREADS, 4) void attention_dkv_64(const struct attention_grad_args p)
{
    key_gradients<64>(p);
}
KERNEL_ENTRY(attention_dkv_64, struct attention_grad_args)

/* --- dbias ----------------------------------------------------------------------------------------------------------
 */

/* A block takes 32 queries and 32 keys of a head and walks the slots. Bound by multiply-adds, 2 * Nq * N * HD of them
 * per head and slot; reads queries, dO, keys and values of a tile once a slot. */
template <int HD> static __device__ __forceinline__ void bias_gradients(const struct attention_grad_args &p)
{
    SHARED(struct line<HD>, queries, [ROWS]);
    SHARED(struct line<HD>, d_os, [ROWS]);
    SHARED(struct line<HD>, keys, [WALKED]);
    SHARED(struct line<HD>, values, [WALKED]);
    const struct attention_args &a = p.a;
    const struct place at = place_of((int)threadIdx.x);
    const int tile = (int)blockIdx.x % a.tiles, head = (int)blockIdx.x / a.tiles;
    const int across = (a.keys + WALKED - 1) / WALKED, first = tile / across * ROWS, base = tile % across * WALKED;
    const int mine = at.warp * OWNED, query = first + mine + 4 * at.row, column = base + 4 * at.column;
    float4 sum[4];
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    for (int slot = 0; slot < a.slots; slot++) {
        const struct seen_keys seen = seen_by(a, slot);
        float s[4][4], d_p[4][4];
        __syncthreads();
        fill<HD, ROWS, OWNED, THREADS>(queries, plain_strip<float>(a, a.q, slot, a.n_queries, head), first, a.size,
                                       a.wide, a.scale * LOG2_E);
        fill<HD, ROWS, OWNED, THREADS>(d_os, d_o_strip<float>(p, slot, head), first, a.size, a.wide, 1.0F);
        fill<HD, WALKED, WALKED, THREADS>(keys, key_strip<float>(a, a.k, a.k2, slot, head, seen), base, a.size, a.wide,
                                          1.0F);
        fill<HD, WALKED, WALKED, THREADS>(values, key_strip<float>(a, a.v, a.v2, slot, head, seen), base, a.size,
                                          a.wide, 1.0F);
        __syncthreads();
        multiply<HD>(queries + mine, keys, at, s);
        multiply<HD>(d_os + mine, values, at, d_p);
#pragma unroll
        for (int i = 0; i < 4; i++)
            add_product(&sum[i], 1.0F,
                        query_grad(p, seen, slot, head, query + i, column, row_state_of(p, slot, head, query + i), s[i],
                                   d_p[i]));
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (query + i < a.n_queries)
            store4(p.dbias + score_row(a, head, query + i) * a.keys + column, sum[i], a.keys - column, a.wide_bias);
}

KERNEL(THREADS, 5) void attention_dbias_32(const struct attention_grad_args p)
{
    bias_gradients<32>(p);
}
KERNEL_ENTRY(attention_dbias_32, struct attention_grad_args)

KERNEL(THREADS, 5) void attention_dbias_64(const struct attention_grad_args p)
{
    bias_gradients<64>(p);
}
KERNEL_ENTRY(attention_dbias_64, struct attention_grad_args)

/* --- launchers ------------------------------------------------------------------------------------------------------
 */

static struct head_rows like(const struct head_rows *x, const vg_operand *in, const vg_operand *out)
{
    struct head_rows rows = {NULL, x->stride};
    if (out->data) rows.data = (char *)out->data + ((const char *)x->data - (const char *)in->data);
    return rows;
}

static void launch_delta(vg_stream *stream, const struct attention_grad_args &p)
{
    const int64_t rows = (int64_t)p.a.slots * p.a.n_queries * p.a.heads, a_block = DELTA_THREADS / DELTA_LANES;
    LAUNCH(attention_delta, (unsigned)((rows + a_block - 1) / a_block), DELTA_THREADS, 0, vg_cuda_queue(stream), p);
}

/* What the kernels of narrow heads don't do. */
static bool is_for_teams(const struct attention_grad_args &p)
{
    return p.a.size > LARGEST_HEAD || p.a.fold > 1 || p.d_sums || p.add_k.data || p.add_v.data;
}

static void launch_queries(vg_stream *stream, struct attention_grad_args p)
{
    const bool few = p.a.n_queries <= OWNED, small = p.a.size <= 32;
    if (is_for_teams(p)) return vg_cuda_attention_dq_wide(stream, &p);
    if (p.bf16) return vg_cuda_attention_dq_bf16(stream, &p);
    p.a.tiles = (int)tiles_of(p.a.n_queries, few ? OWNED : ROWS);
    const unsigned blocks = (unsigned)(p.a.slots * p.a.heads * p.a.tiles);
    if (few && small) {
        LAUNCH(attention_dq_few_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (few) {
        LAUNCH(attention_dq_few_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else if (small) {
        LAUNCH(attention_dq_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else {
        LAUNCH(attention_dq_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    }
}

static void launch_keys(vg_stream *stream, struct attention_grad_args p, bool second)
{
    p.second = second;
    p.column = second ? p.a.n_first / 4 * 4 : 0; /* numbers of dropout come in fours */
    if (is_for_teams(p)) return vg_cuda_attention_dkv_wide(stream, &p);
    if (p.bf16) return vg_cuda_attention_dkv_bf16(stream, &p);
    p.a.tiles = (int)tiles_of((second ? p.a.keys : p.a.n_first) - p.column, ROWS);
    const unsigned blocks = (unsigned)((second ? p.a.slots : p.a.images) * p.a.heads * p.a.tiles);
    if (p.a.size <= 32) {
        LAUNCH(attention_dkv_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else {
        LAUNCH(attention_dkv_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    }
}

static void launch_bias(vg_stream *stream, struct attention_grad_args p)
{
    if (is_for_teams(p)) return vg_cuda_attention_dbias_wide(stream, &p);
    if (p.bf16) return vg_cuda_attention_dbias_bf16(stream, &p);
    p.a.tiles = (int)(tiles_of(p.a.n_queries, ROWS) * tiles_of(p.a.keys, WALKED));
    const unsigned blocks = (unsigned)(p.a.heads * p.a.tiles);
    if (p.a.size <= 32) {
        LAUNCH(attention_dbias_32, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    } else {
        LAUNCH(attention_dbias_64, blocks, THREADS, 0, vg_cuda_queue(stream), p);
    }
}

extern "C" size_t vg_cuda_attention_grad_workspace(const vg_node *node)
{
    const vg_operand *q = &node->in[1];
    return (size_t)(q->shape.dim[0] * q->shape.dim[1]) * (size_t)node->attr.attention.heads * sizeof(float);
}

extern "C" vg_status vg_cuda_attention_grad(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in + 1, *out = node->out;
    struct attention_grad_args p = {};
    VG_TRY(vg_cuda_attention_args(node, 1, &p.a));
    p.bf16 = in[0].dtype == VG_BF16;
    p.d_o = node->in[0].data;
    p.a.o = node->in[10].data;
    p.a.lse = (float *)node->in[11].data;
    p.a.sums = (float *)node->in[12].data;
    p.d_sums = (const float *)node->in[13].data;
    p.delta = (float *)node->workspace;
    p.dq = like(&p.a.q, &in[0], &out[0]);
    p.dbias = (float *)out[5].data;
    launch_delta(stream, p);
    if (p.dq.data) launch_queries(stream, p);
    if (p.dbias) launch_bias(stream, p);
    p.dk = like(&p.a.k, &in[1], &out[1]);
    p.dv = like(&p.a.v, &in[2], &out[2]);
    p.add_k = like(&p.a.k, &in[1], &node->in[14]);
    p.add_v = like(&p.a.v, &in[2], &node->in[15]);
    if (p.dk.data || p.dv.data) launch_keys(stream, p, false);
    p.add_k.data = p.add_v.data = NULL;
    p.dk = like(&p.a.k2, &in[3], &out[3]);
    p.dv = like(&p.a.v2, &in[4], &out[4]);
    if (p.dk.data || p.dv.data) launch_keys(stream, p, true);
    return VG_CUDA_LAUNCHED("attention_grad");
}
