/* What a program costs: floating-point operations of the products (a multiply-add is 2) and bytes that must move, by
 * the cost rules of ops.def; and what it took, as measured. */
#include "kernels/cuda/row_chunks.h"
#include "kernels/heads_impl.h"
#include "kernels/program_impl.h"

#include <math.h>
#include <stdlib.h>

/* Queries of a block of attention; above so many columns, or folded, a head is wide. */
enum { QUERY_TILE = 64, QUERY_TILE_BF16 = 128, WIDE_TILE = 16, WIDE_TILE_BF16 = 48, LARGEST_HEAD = 64 };

static double operand_bytes(const vg_operand *o)
{
    return o->shape.rank ? (double)vg_shape_count(&o->shape) * (double)vg_dtype_bytes(o->dtype) : 0;
}

/* Every operand once; a gradient that is added to is read as well. */
static vg_cost cost_bytes(const vg_node *n)
{
    vg_cost cost = {0};
    for (int i = 0; i < n->n_in; i++) cost.bytes += operand_bytes(&n->in[i]);
    for (int i = 0; i < n->n_out; i++) {
        const bool added_to = n->accumulate && ((vg_op_parameter_outputs(n->op) >> i) & 1);
        cost.bytes += operand_bytes(&n->out[i]) * (added_to ? 2 : 1);
    }
    return cost;
}

/* Of the tables, only the rows that ids name: a word, a position and the type for each token. */
static vg_cost cost_embed(const vg_node *n)
{
    return (vg_cost){.bytes = 4 * operand_bytes(&n->out[0])};
}

/* linear, linear_dx: the rows of x or dz against W. linear_dw: the columns of dz against those of x, a chunk of rows at
 * a time. */
static vg_cost cost_linear(const vg_node *n)
{
    vg_cost cost = cost_bytes(n);
    const int64_t rows = vg_shape_rows(&n->in[0].shape), inner = vg_shape_last(&n->in[0].shape),
                  last = vg_shape_last(&n->in[1].shape);
    if (n->op != VG_OP_linear_dw) {
        cost.flops = 2 * (double)rows * (double)vg_shape_count(&n->in[1].shape);
        cost.pieces = (double)vg_product_tiles(rows, n->op == VG_OP_linear ? n->in[1].shape.dim[0] : last);
    } else if (n->out[0].shape.rank || n->out[2].shape.rank) {
        const double parts = (double)vg_row_parts(rows, inner, last), results = (double)inner * (double)last;
        cost.flops = 2 * (double)rows * results;
        cost.pieces = (double)(vg_row_chunks(rows, inner, last) * vg_product_tiles(inner, last));
        cost.partial = parts > 1 ? parts * results * sizeof(float) : 0;
    }
    return cost;
}

/* Per head, D columns of x or a against its rows of W: the same work in each of the three. */
static vg_cost cost_heads(const vg_node *n)
{
    vg_cost cost = cost_bytes(n);
    const bool contract = n->op == VG_OP_heads_contract, dw = n->op == VG_OP_heads_dw;
    const vg_heads_sizes s = vg_heads_sizes_of(n);
    cost.flops = 2 * (double)(s.n * s.heads) * (double)(s.size * s.width);
    cost.pieces = (double)(s.heads * vg_product_tiles(dw ? s.size : s.n, contract ? s.size : s.width));
    return cost;
}

/* Two products forward; backward those two again (the scores are not kept) and three more. */
static vg_cost cost_attention(const vg_node *n)
{
    const bool backward = n->op == VG_OP_attention_grad;
    const vg_operand *q = &n->in[backward], *k = q + 1, *k2 = q + 3;
    const double width = (double)n->attr.attention.heads * n->attr.attention.head_size;
    const double queries = (double)vg_shape_rows(&q->shape);
    const double keys = (double)(k->shape.dim[1] + (k2->shape.rank ? k2->shape.dim[1] : 0));
    const double rows = 2 * queries + 2 * (double)vg_shape_rows(&k->shape) +
                        (k2->shape.rank ? 2 * (double)vg_shape_rows(&k2->shape) : 0);
    const double added = backward ? operand_bytes(&n->in[14]) + operand_bytes(&n->in[15]) : 0;
    const bool is_wide = n->attr.attention.head_size > LARGEST_HEAD || n->attr.attention.fold > 1;
    const bool bf16 = q->dtype == VG_BF16;
    const int tile = is_wide ? bf16 ? WIDE_TILE_BF16 : WIDE_TILE : bf16 ? QUERY_TILE_BF16 : QUERY_TILE;
    return (vg_cost){.flops = 2 * queries * keys * width * (backward ? 5 : 2),
                     .bytes = (double)vg_dtype_bytes(q->dtype) * rows * width * (backward ? 2 : 1) + added,
                     .pieces =
                         ceil((double)q->shape.dim[1] / tile) * (double)q->shape.dim[0] * n->attr.attention.heads};
}

/* --- kernels of the CUDA backend, a node; tests/claims/gpu_bytes counts them, but for those of products --- */

/* Passes down the columns, a chunk of rows to one, until one is left. */
static int column_passes(int64_t rows)
{
    int passes = 1;
    for (; rows > VG_COLUMN_CHUNK; rows = vg_chunks_of(rows, VG_COLUMN_CHUNK)) passes++;
    return passes;
}

static int linear_kernels(const vg_node *n)
{
    const vg_act act = n->attr.linear.act;
    return 1 + (n->in[3].shape.rank > 0) + (act == VG_ACT_GELU || act == VG_ACT_SIGMOID);
}

static int linear_dw_kernels(const vg_node *n)
{
    const vg_operand *dz = &n->in[0], *dw = &n->out[0], *db = &n->out[1], *dgamma = &n->out[2];
    const int64_t rows = vg_shape_rows(&dz->shape), inner = vg_shape_last(&dz->shape),
                  last = vg_shape_last(&n->in[1].shape);
    const bool product = dw->shape.rank || dgamma->shape.rank, gamma = n->in[4].shape.rank > 0;
    const bool in_parts = dw->shape.rank && vg_row_parts(rows, inner, last) > 1;
    const bool left = rows % vg_row_chunks(rows, inner, last) > 0;
    const bool pass = gamma || in_parts || (db->shape.rank && n->accumulate);
    return (product ? 1 + left : column_passes(rows)) + pass;
}

static int attention_grad_kernels(const vg_node *n)
{
    const vg_operand *out = n->out; /* dq, dk, dv, dk2, dv2, dbias; and delta */
    return 1 + (out[0].shape.rank > 0) + (out[1].shape.rank || out[2].shape.rank) +
           (out[3].shape.rank || out[4].shape.rank) + (out[5].shape.rank > 0);
}

static int heads_kernels(const vg_node *n)
{
    const vg_operand *in = n->in, *out = n->out;
    const int64_t rows = vg_shape_rows(&in[0].shape);
    if (n->op == VG_OP_heads_expand) return 1 + (out[1].shape.rank > 0);
    if (n->op == VG_OP_heads_contract) return 1 + (in[2].shape.rank > 0);
    return (out[0].shape.rank > 0) + (out[1].shape.rank ? column_passes(rows) : 0);
}

static int layernorm_grad_kernels(const vg_node *n)
{
    const int64_t chunks = vg_chunks_of(vg_shape_rows(&n->in[0].shape), VG_LAYERNORM_CHUNK);
    return 1 + (n->out[1].shape.rank || n->out[2].shape.rank ? column_passes(chunks) : 0);
}

static int embed_grad_kernels(const vg_node *n)
{
    const vg_operand *out = n->out; /* tables of words and of positions, the row of the type */
    return 2 * (out[0].shape.rank > 0) + 2 * (out[1].shape.rank > 0) +
           (out[2].shape.rank ? column_passes(vg_shape_rows(&n->in[0].shape)) : 0);
}

static int kernels_of(const vg_node *n)
{
    enum { ALIGN_LOSS = 4 };
    switch (n->op) {
    case VG_OP_linear: return linear_kernels(n);
    case VG_OP_linear_dx: return 1 + (n->in[2].shape.rank > 0);
    case VG_OP_linear_dw: return linear_dw_kernels(n);
    case VG_OP_attention_grad: return attention_grad_kernels(n);
    case VG_OP_heads_expand:
    case VG_OP_heads_contract:
    case VG_OP_heads_dw: return heads_kernels(n);
    case VG_OP_layernorm_grad: return layernorm_grad_kernels(n);
    case VG_OP_text_embed_grad: return embed_grad_kernels(n);
    case VG_OP_sum_rows: return column_passes(vg_shape_count(&n->in[0].shape) / vg_shape_count(&n->out[0].shape));
    case VG_OP_align_loss: return ALIGN_LOSS;
    default: return 1;
    }
}

/* --- the cost of a program --- */

static vg_cost (*const rules[VG_OP_COUNT])(const vg_node *n) = {
#define VG_OP(name, n_in, n_out, shape, grad, cost) [VG_OP_##name] = cost,
#include "kernels/ops.def"
#undef VG_OP
};

void vg_program_each_cost(const vg_program *p, void (*each)(void *context, vg_op op, const vg_cost *cost),
                          void *context)
{
    for (int i = 0; i < p->n_nodes; i++) {
        vg_cost cost = rules[p->nodes[i].op](&p->nodes[i]);
        cost.kernels = kernels_of(&p->nodes[i]);
        cost.bf16 = p->nodes[i].in[0].dtype == VG_BF16;
        each(context, p->nodes[i].op, &cost);
    }
}

static void add_cost(void *context, vg_op op, const vg_cost *cost)
{
    vg_cost *total = context;
    (void)op;
    total->flops += cost->flops;
    total->bytes += cost->bytes;
    total->pieces += cost->pieces;
    total->partial += cost->partial;
    total->kernels += cost->kernels;
}

vg_cost vg_program_cost(const vg_program *p)
{
    vg_cost total = {0};
    vg_program_each_cost(p, add_cost, &total);
    return total;
}

/* --- the profile --- */

/* Nodes of one operation in one scope. */
typedef struct line {
    int scope;
    vg_op op;
    int64_t count;
    double seconds, flops;
} line;

void vg_program_profile(vg_program *p, bool on)
{
    p->profiling = on;
}

static int by_time(const void *a, const void *b)
{
    const line *x = a, *y = b;
    if (x->seconds != y->seconds) return x->seconds > y->seconds ? -1 : 1;
    return x->scope != y->scope ? x->scope - y->scope : (int)x->op - (int)y->op;
}

static size_t collect(const vg_program *p, line *lines, double *total)
{
    size_t n = 0;
    for (int i = 0; i < p->n_nodes; i++) {
        const vg_node_info *info = &p->infos[i];
        if (!info->runs) continue;
        size_t at = 0;
        while (at < n && (lines[at].scope != info->scope || lines[at].op != p->nodes[i].op)) at++;
        if (at == n) lines[n++] = (line){.scope = info->scope, .op = p->nodes[i].op};
        lines[at].count += info->runs;
        lines[at].seconds += info->seconds;
        lines[at].flops += rules[p->nodes[i].op](&p->nodes[i]).flops * (double)info->runs;
        *total += info->seconds;
    }
    return n;
}

char *vg_program_profile_text(const vg_program *p)
{
    line *lines = vg_new0_array((size_t)p->n_nodes, sizeof *lines);
    if (!lines) return NULL;
    double total = 0;
    const size_t n = collect(p, lines, &total);
    qsort(lines, n, sizeof *lines, by_time);
    vg_text text = {0};
    vg_text_add(&text, "%-36s %-18s %8s %10s %6s %8s\n", "scope", "operation", "count", "ms", "share", "gflop/s");
    for (size_t i = 0; i < n; i++) {
        const line *l = &lines[i];
        vg_text_add(&text, "%-36s %-18s %8lld %10.3f %5.1f%% ", p->scopes[l->scope], vg_op_name(l->op),
                    (long long)l->count, 1e3 * l->seconds, total > 0 ? 100 * l->seconds / total : 0);
        if (l->flops > 0 && l->seconds > 0)
            vg_text_add(&text, "%8.1f\n", 1e-9 * l->flops / l->seconds);
        else
            vg_text_add(&text, "%8s\n", "-");
    }
    free(lines);
    return text.data;
}
