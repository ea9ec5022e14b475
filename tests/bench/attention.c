/* Attention in both directions, layer normalisation and dropout: time, GF/s, and the share of what a loop of
 * multiply-adds reaches in the same moment. Best of several runs; one thread is measured in processor time, so that a
 * busy machine does not show, more in wall time. Attention counts 4 * Nq * N * D per head forward and 10 backward, the
 * softmax comes on top.
 *
 *     bench_attention [threads] [filter]      filter is a part of a row's name */
#define _POSIX_C_SOURCE 200809L
#include "kernels/cpu/lanes_impl.h"
#include "tests/bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct problem {
    const char *name;
    int images, per_image, n_queries, n_first, n_second, heads, size;
    float dropout;
} problem;

static const problem problems[] = {
    {"vit 224", 8, 1, 261, 261, 0, 6, 64, 0},
    {"vit 518", 1, 1, 1374, 1374, 0, 6, 64, 0},
    {"vit 224 dropout", 8, 1, 261, 261, 0, 6, 64, 0.1F},
    {"text", 8, 1, 24, 24, 0, 12, 64, 0},
    {"encoder", 8, 1, 276, 276, 0, 8, 32, 0},
    {"encoder dropout", 8, 1, 276, 276, 0, 8, 32, 0.1F},
    {"decoder cross", 8, 1, 10, 256, 1, 8, 32, 0},
    {"decoder cross 4 phrases dropout", 8, 4, 10, 256, 20, 8, 32, 0.1F},
    {"decoder cross 518", 2, 4, 10, 1369, 20, 8, 32, 0},
    {"decoder in place", 8, 1, 80, 256, 1, 1, 256, 0.1F},
    {"decoder in place no dropout", 8, 1, 80, 256, 1, 1, 256, 0},
    {"decoder in place 518", 2, 1, 80, 1369, 1, 1, 256, 0.1F},
    {"decoder self", 32, 1, 10, 10, 0, 8, 32, 0},
    {"tiny", 20, 1, 69, 69, 0, 4, 24, 0},
};

static vg_operand operand(vg_shape shape)
{
    const size_t n = (size_t)vg_shape_count(&shape);
    const vg_operand x = {.data = aligned_alloc(64, vg_round_up(n * sizeof(float), 64)), .shape = shape};
    if (!x.data) exit(1);
    vg_fill_normal(x.data, (int64_t)n, vg_rng_key_of(1, n), 0, 1);
    return x;
}

static vg_operand words(vg_shape shape, vg_dtype dtype)
{
    const size_t n = (size_t)vg_shape_count(&shape);
    const vg_operand x = {.data = vg_new0_array(n, 4), .dtype = dtype, .shape = shape};
    if (!x.data) exit(1);
    return x;
}

static double best_s(vg_node *node, int n_threads)
{
    const vg_backend *cpu = vg_backend_cpu();
    vg_stream stream = {.n_threads = n_threads};
    double best = 1e9, spent = 0;
    node->workspace = aligned_alloc(64, vg_round_up(cpu->workspace_bytes(node, n_threads) + 64, 64));
    for (int run = 0; run < 400 && (run < 5 || spent < 0.4); run++) {
        const double start = now_s(n_threads);
        if (cpu->kernels[node->op](&stream, node) != VG_OK) exit(1);
        const double took = now_s(n_threads) - start;
        spent += took;
        best = took < best ? took : best;
    }
    free(node->workspace);
    return best;
}

/* One head alone reads keys and values that lie in tensors of their own. */
static bool is_in_place(const problem *s)
{
    return s->heads == 1 && s->n_second;
}

static vg_node attention_of(const problem *s)
{
    const int64_t slots = (int64_t)s->images * s->per_image, width = (int64_t)s->heads * s->size;
    vg_node n = {.op = VG_OP_attention, .n_in = 9, .n_out = 2};
    const bool packed = s->n_queries == s->n_first, apart = is_in_place(s);
    const int64_t row = apart ? width : 2 * width;
    n.in[0] = operand(VG_SHAPE(slots, s->n_queries, packed ? 3 * width : width));
    n.in[1] = packed ? n.in[0] : operand(VG_SHAPE(s->images, s->n_first, row));
    n.in[2] = apart ? operand(n.in[1].shape) : n.in[1];
    if (s->n_second) n.in[3] = operand(VG_SHAPE(slots, s->n_second, row));
    if (s->n_second) n.in[4] = apart ? operand(n.in[3].shape) : n.in[3];
    n.in[7] = words(VG_SHAPE(slots), VG_I32);
    for (int64_t b = 0; b < slots; b++) ((int32_t *)n.in[7].data)[b] = (int32_t)(b / s->per_image);
    n.in[8] = words(VG_SHAPE(slots, 4), VG_U32);
    n.out[0] = operand(VG_SHAPE(slots, s->n_queries, width));
    n.out[1] = operand(VG_SHAPE(slots, s->heads, s->n_queries));
    n.attr.attention.heads = s->heads;
    n.attr.attention.head_size = s->size;
    n.attr.attention.fold = 1;
    n.attr.attention.k_col = packed ? (int)width : 0;
    n.attr.attention.v_col = packed ? (int)(2 * width) : apart ? 0 : (int)width;
    n.attr.attention.v2_col = apart ? 0 : (int)width;
    n.attr.attention.scale = 0.125F;
    n.attr.attention.dropout = s->dropout;
    return n;
}

static vg_node gradient_of(const vg_node *f)
{
    vg_node g = {.op = VG_OP_attention_grad, .n_in = 12, .n_out = 6, .attr = f->attr};
    g.in[0] = operand(f->out[0].shape);
    for (int k = 0; k < 9; k++) g.in[1 + k] = f->in[k];
    g.in[10] = f->out[0];
    g.in[11] = f->out[1];
    for (int k = 0; k < 5; k++)
        if (f->in[k].data) g.out[k] = k && f->in[k - 1].data == f->in[k].data ? g.out[k - 1] : operand(f->in[k].shape);
    return g;
}

static void attention_row(const problem *s, int n_threads, double peak)
{
    vg_node f = attention_of(s);
    const double forward = best_s(&f, n_threads);
    vg_node g = gradient_of(&f);
    const double backward = best_s(&g, n_threads);
    const double flops =
        4.0 * s->images * s->per_image * s->heads * s->n_queries * (s->n_first + s->n_second) * s->size;
    printf("%-32s forward %8.3f ms %6.1f GF/s %3.0f%%   backward %8.3f ms %6.1f GF/s %3.0f%%\n", s->name, forward * 1e3,
           flops / forward * 1e-9, 100e-9 * flops / forward / peak, backward * 1e3, 2.5 * flops / backward * 1e-9,
           250e-9 * flops / backward / peak);
}

static void rows_row(const char *name, vg_node *n, int n_threads, int arrays)
{
    const double best = best_s(n, n_threads), elements = (double)vg_shape_count(&n->in[0].shape);
    printf("%-32s %8.3f ms %6.3f ns/element %6.1f GB/s\n", name, best * 1e3, best / elements * 1e9,
           elements * 4 * arrays / best * 1e-9);
}

static void rows_rows(int n_threads)
{
    const vg_shape x = VG_SHAPE(2088, 384), row = VG_SHAPE(384), column = VG_SHAPE(2088);
    vg_node n = {.op = VG_OP_layernorm, .n_in = 4, .n_out = 4, .attr.layernorm.eps = 1e-6F};
    n.in[0] = operand(x);
    n.in[1] = n.in[2] = operand(row);
    n.out[0] = operand(x);
    n.out[1] = n.out[2] = operand(column);
    rows_row("layernorm", &n, n_threads, 2);
    n.in[3] = n.out[3] = operand(x);
    rows_row("layernorm with residual", &n, n_threads, 4);
    vg_node g = {.op = VG_OP_layernorm_grad, .n_in = 6, .n_out = 3};
    g.in[0] = g.in[1] = operand(x);
    g.in[2] = operand(row);
    g.in[3] = g.in[4] = operand(column);
    g.out[0] = operand(x);
    g.out[1] = g.out[2] = operand(row);
    rows_row("layernorm_grad", &g, n_threads, 3);
    vg_node d = {.op = VG_OP_dropout, .n_in = 3, .n_out = 1, .attr.dropout.p = 0.1F};
    d.in[0] = operand(VG_SHAPE(8, 261, 384));
    d.in[1] = words(VG_SHAPE(8, 4), VG_U32);
    d.in[2] = operand(d.in[0].shape);
    d.out[0] = operand(d.in[0].shape);
    rows_row("dropout with residual", &d, n_threads, 3);
}

int main(int argc, char **argv)
{
    const int n_threads = argc > 1 ? atoi(argv[1]) : 1;
    const char *filter = argc > 2 ? argv[2] : "";
    const double peak = peak_flops(n_threads) * 1e-9;
    printf("%d thread%s, %s, multiply-adds reach %.1f GF/s\n", n_threads, n_threads > 1 ? "s" : "",
           vg_backend_cpu()->profile(NULL), peak);
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
        if (strstr(problems[i].name, filter)) attention_row(&problems[i], n_threads, peak);
    if (strstr("rows", filter)) rows_rows(n_threads);
    return 0;
}
