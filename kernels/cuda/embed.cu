/* Embedding tables of the text encoder: looked up, and added to without atomics. */
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/rows.h"

enum table { WORDS, POSITIONS };

/* Which rows of the tables a token names. */
struct embed_tokens {
    const int32_t *ids, *counts; /* [B,L], [B] */
    int n, length, words;        /* B * L, L, V */
};

static __forceinline__ __device__ int word_of(const struct embed_tokens &t, int token)
{
    const int32_t id = t.ids[token];
    return id >= 0 && id < t.words ? id : 0;
}

/* Real tokens stand at 2, 3, ..; pads at row 1, as their position embedding was trained. */
static __forceinline__ __device__ int position_of(const struct embed_tokens &t, int token)
{
    const int at = token % t.length;
    return at < t.counts[token / t.length] ? at + 2 : 1;
}

static vg_status tokens_of(const vg_operand *ids, const vg_operand *counts, int64_t words, int64_t positions,
                           struct embed_tokens *out)
{
    const int64_t length = ids->shape.dim[1];
    VG_CHECK(length + 2 <= positions, VG_E_BUG, "%lld tokens do not fit %lld positions", (long long)length,
             (long long)positions);
    *out = {(const int32_t *)ids->data, (const int32_t *)counts->data, (int)vg_shape_count(&ids->shape), (int)length,
            (int)words};
    return VG_OK;
}

/* --- forward ------------------------------------------------------------------------------------------------------ */

struct embed_args {
    struct embed_tokens tokens;
    const float *word, *pos, *type;
    float *x; /* [B,L,C] */
    int width;
    bool wide;
};

template <int W> static __device__ void embed_row(const struct embed_args &p, int token)
{
    const int64_t word = word_of(p.tokens, token), position = position_of(p.tokens, token);
    sum_of_rows<W, float>(p.x + (int64_t)token * p.width, p.word + word * p.width, p.type, p.pos + position * p.width,
                          p.width);
}

/* A warp makes the row of a token, a block those of ROW_WARPS slots at one place, which share a row of positions.
 * Memory bound: rows of words are read and x written once, the type once in ROW_WARPS rows; some 9 * B * L * C bytes.
 */
KERNEL(ROW_THREADS) void embed_tokens_rows(const struct embed_args p)
{
    const int length = p.tokens.length;
    const int token = (int)(blockIdx.x / length * ROW_WARPS + threadIdx.x / WARP) * length + (int)(blockIdx.x % length);
    if (token >= p.tokens.n) return;
    p.wide ? embed_row<4>(p, token) : embed_row<1>(p, token);
}
KERNEL_ENTRY(embed_tokens_rows, struct embed_args)

extern "C" vg_status vg_cuda_text_embed(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in;
    struct embed_args p = {};
    VG_TRY(tokens_of(&in[0], &in[1], in[2].shape.dim[0], in[3].shape.dim[0], &p.tokens));
    p.word = (const float *)in[2].data;
    p.pos = (const float *)in[3].data;
    p.type = (const float *)in[4].data;
    p.x = (float *)node->out[0].data;
    p.width = (int)in[2].shape.dim[1];
    p.wide = is_wide(p.width, p.word, p.pos, p.type, p.x);
    const unsigned groups = blocks_for(in[0].shape.dim[0], ROW_WARPS);
    LAUNCH(embed_tokens_rows, groups * (unsigned)p.tokens.length, ROW_THREADS, 0, vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("text_embed");
}

/* --- backward ----------------------------------------------------------------------------------------------------- */

/* The tokens that name one row of a table, in token order: list[first .. first + count - 1]. The first of them has the
 * group, the others have an empty one. */
struct embed_group {
    int first, count;
};

struct group_args {
    struct embed_tokens tokens;
    struct embed_group *group; /* [n] */
    int *list;                 /* [n] tokens by the row that they name, equal ones in token order */
    enum table table;
};

static __forceinline__ __device__ int row_of(const struct embed_tokens &t, enum table table, int token)
{
    return table == WORDS ? word_of(t, token) : position_of(t, token);
}

/* A warp finds the place of a token in the list: how many tokens name a lower row, or the same and stand before it. The
 * ids, 4 * n bytes, are read n times from the caches; n is some hundreds. */
KERNEL(ROW_THREADS) void group_tokens(const struct group_args p)
{
    const int token = (int)row_of_warp();
    if (token >= p.tokens.n) return;
    const int row = row_of(p.tokens, p.table, token);
    int lower = 0, before = 0, equal = 0;
    for (int other = lane_of_warp(); other < p.tokens.n; other += WARP) {
        const int its = row_of(p.tokens, p.table, other);
        lower += its < row;
        equal += its == row;
        before += its == row && other < token;
    }
    lower = warp_sum(lower);
    equal = warp_sum(equal);
    before = warp_sum(before);
    if (lane_of_warp() > 0) return;
    p.list[lower + before] = token;
    p.group[token] = {lower, before ? 0 : equal};
}
KERNEL_ENTRY(group_tokens, struct group_args)

struct scatter_args {
    struct group_args by;
    const void *dx; /* [n,C] */
    float *out;     /* the table, rows that nothing names are 0 already */
    int width;
    bool bf16, wide;
};

template <int W, class T>
static __device__ void scatter_row(const struct scatter_args &p, const struct embed_group &group, float *out)
{
    for (int c = lane_of_warp() * W; c < p.width; c += WARP * W) {
        pack<W> sum = {};
#pragma unroll 4
        for (int i = 0; i < group.count; i++)
            sum = sum + load<W>((const T *)p.dx + (int64_t)p.by.list[group.first + i] * p.width + c);
        store<W>(out + c, load<W>(out + c) + sum);
    }
}

/* A warp adds the rows of a group in token order to their row of the table: one writer a row, no atomics. Memory bound:
 * dx is read once, named rows are read and written once. */
KERNEL(ROW_THREADS) void scatter_groups(const struct scatter_args p)
{
    const int token = (int)row_of_warp();
    if (token >= p.by.tokens.n) return;
    const struct embed_group group = p.by.group[token];
    if (group.count == 0) return;
    float *out = p.out + (int64_t)row_of(p.by.tokens, p.by.table, token) * p.width;
    BY_TYPE_AND_FP32(p.bf16, p.wide, scatter_row, p, group, out);
}
KERNEL_ENTRY(scatter_groups, struct scatter_args)

static size_t list_bytes(int64_t n)
{
    return vg_round_up((size_t)n * (sizeof(struct embed_group) + sizeof(int)), 64);
}

extern "C" size_t vg_cuda_text_embed_grad_workspace(const vg_node *node)
{
    const int64_t n = vg_shape_rows(&node->in[0].shape);
    return list_bytes(n) + vg_cuda_column_sums_workspace(n, vg_shape_last(&node->in[0].shape));
}

static vg_status scatter(vg_stream *stream, const vg_node *node, enum table table, const struct embed_tokens *tokens)
{
    const vg_operand *out = &node->out[table];
    struct embed_group *group = (struct embed_group *)node->workspace;
    const size_t bytes = (size_t)vg_shape_count(&out->shape) * sizeof(float);
    const struct group_args by = {*tokens, group, (int *)(group + tokens->n), table};
    struct scatter_args p = {by,   node->in[0].data, (float *)out->data, (int)out->shape.dim[1], is_bf16(&node->in[0]),
                             false};
    p.wide = is_wide(p.width, p.dx, p.out);
    if (!node->accumulate) VG_CUDA(cudaMemsetAsync(p.out, 0, bytes, vg_cuda_queue(stream)));
    LAUNCH(group_tokens, blocks_for(tokens->n, ROW_WARPS), ROW_THREADS, 0, vg_cuda_queue(stream), by);
    LAUNCH(scatter_groups, blocks_for(tokens->n, ROW_WARPS), ROW_THREADS, 0, vg_cuda_queue(stream), p);
    return VG_OK;
}

extern "C" vg_status vg_cuda_text_embed_grad(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in, *out = node->out;
    const int64_t n = vg_shape_rows(&in[0].shape), width = vg_shape_last(&in[0].shape);
    struct embed_tokens tokens = {};
    const int64_t positions = out[POSITIONS].data ? out[POSITIONS].shape.dim[0] : INT32_MAX;
    VG_TRY(tokens_of(&in[1], &in[2], out[WORDS].data ? out[WORDS].shape.dim[0] : 0, positions, &tokens));
    for (int table = WORDS; table <= POSITIONS; table++)
        if (out[table].data) VG_TRY(scatter(stream, node, (enum table)table, &tokens));
    vg_column_sums sums = {};
    sums.x = in[0].data;
    sums.bf16 = is_bf16(&in[0]);
    sums.n = n;
    sums.stride = sums.columns = sums.split = width;
    sums.out = (float *)out[2].data;
    sums.accumulate = node->accumulate;
    if (sums.out) vg_cuda_column_sums(stream, &sums, (unsigned char *)node->workspace + list_bytes(n));
    return VG_CUDA_LAUNCHED("text_embed_grad");
}
