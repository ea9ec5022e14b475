/* A ViT tower (S/14 at 224 pixels unless told otherwise) with a small loss on top: the program of one micro-batch as
 * the trainer would run it, and where its time goes.
 *
 *     bench_vit [threads] [trainable blocks, 12] [images, 8] [tokens, 261] */
#define _POSIX_C_SOURCE 200809L
#include "kernels/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { C = 384, HEADS = 6, BLOCKS = 12, RUNS = 5 };

typedef struct model {
    vg_graph *g;
    vg_params *params;
    int images, tokens, first_trained;
} model;

static vg_value param(model *m, int block, const char *name, vg_shape shape)
{
    char full[64];
    snprintf(full, sizeof full, "blocks.%d.%s", block, name);
    return vg_graph_param(m->g, full, shape);
}

static vg_value norm(model *m, int block, const char *weight, const char *bias, vg_value x)
{
    return vg_graph_layernorm(m->g, x, VG_NONE, param(m, block, weight, VG_SHAPE(C)),
                              param(m, block, bias, VG_SHAPE(C)), 1e-6F);
}

static vg_value block(model *m, int i, vg_value x)
{
    vg_graph *g = m->g;
    char scope[32];
    snprintf(scope, sizeof scope, "blocks.%d", i);
    vg_graph_scope(g, scope);
    vg_value h = norm(m, i, "norm1.weight", "norm1.bias", x);
    h = vg_graph_linear(g, h, param(m, i, "qkv.weight", VG_SHAPE(3 * C, C)), param(m, i, "qkv.bias", VG_SHAPE(3 * C)),
                        VG_ACT_NONE);
    const vg_attention a = {.q = h, .k = h, .v = h, .heads = HEADS, .head_size = C / HEADS, .k_col = C, .v_col = 2 * C};
    h = vg_graph_attention(g, &a);
    x = vg_graph_linear_residual(g, h, param(m, i, "proj.weight", VG_SHAPE(C, C)),
                                 param(m, i, "proj.bias", VG_SHAPE(C)), param(m, i, "ls1", VG_SHAPE(C)), x);
    h = norm(m, i, "norm2.weight", "norm2.bias", x);
    h = vg_graph_linear(g, h, param(m, i, "fc1.weight", VG_SHAPE(4 * C, C)), param(m, i, "fc1.bias", VG_SHAPE(4 * C)),
                        VG_ACT_GELU);
    return vg_graph_linear_residual(g, h, param(m, i, "fc2.weight", VG_SHAPE(C, 4 * C)),
                                    param(m, i, "fc2.bias", VG_SHAPE(C)), param(m, i, "ls2", VG_SHAPE(C)), x);
}

static void build(model *m)
{
    vg_graph *g = m->g;
    vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(m->images, m->tokens, C));
    for (int i = 0; i < BLOCKS; i++) x = block(m, i, x);
    vg_graph_keep(g, "features", x);
    const vg_align_loss loss = {.a = x,
                                .u = vg_graph_input(g, "u", VG_F32, VG_SHAPE(m->images, C)),
                                .scale = vg_graph_input(g, "scale", VG_F32, VG_SHAPE(1)),
                                .shift = vg_graph_input(g, "shift", VG_F32, VG_SHAPE(1)),
                                .targets = vg_graph_input(g, "targets", VG_F32, VG_SHAPE(m->images, 1, 4)),
                                .n_targets = vg_graph_input(g, "n_targets", VG_I32, VG_SHAPE(m->images)),
                                .filled = vg_graph_input(g, "filled", VG_I32, VG_SHAPE(m->images)),
                                .scales = vg_graph_input(g, "scales", VG_F32, VG_SHAPE(8)),
                                .gh = 1,
                                .gw = m->tokens};
    vg_graph_align_loss(g, &loss);
}

static bool is_trained(const void *context, int index)
{
    const model *m = context;
    return atoi(m->params->items[index].name + strlen("blocks.")) >= m->first_trained;
}

static double processor_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static vg_status bind_inputs(vg_program *program, const model *m, float *memory)
{
    const int64_t n = (int64_t)m->images * m->tokens * C;
    vg_fill_normal(memory, n + m->images * C, vg_rng_key_of(1, 1), 0, 1);
    float *u = memory + n, *rest = u + m->images * C;
    VG_TRY(vg_program_bind(program, "x", memory));
    VG_TRY(vg_program_bind(program, "u", u));
    for (int i = 0; i < 64 + 8 * m->images; i++) rest[i] = 0.5F;
    VG_TRY(vg_program_bind(program, "scale", rest));
    VG_TRY(vg_program_bind(program, "shift", rest));
    VG_TRY(vg_program_bind(program, "scales", rest));
    VG_TRY(vg_program_bind(program, "targets", rest));
    int32_t *ones = (int32_t *)(rest + 8 + 4 * m->images);
    for (int i = 0; i < m->images; i++) ones[i] = 1;
    VG_TRY(vg_program_bind(program, "n_targets", ones));
    return vg_program_bind(program, "filled", ones);
}

static vg_status measure(model *m, int n_threads)
{
    vg_program *program;
    vg_arena arena, gradients, inputs;
    int *order, n_order;
    VG_TRY(vg_graph_differentiate(m->g, is_trained, m));
    order = vg_new0_array((size_t)m->params->n, sizeof *order);
    vg_graph_gradient_order(m->g, order, &n_order);
    VG_TRY(vg_params_layout(m->params, order, n_order));
    for (int i = 0; i < m->params->n; i++)
        vg_fill_normal(vg_params_data(m->params, i), m->params->items[i].count, vg_rng_key_of(2, (uint64_t)i), 0,
                       0.03F);
    VG_TRY(vg_graph_plan(m->g, vg_backend_cpu(), n_threads, &program));
    VG_TRY(vg_arena_init(&arena, vg_program_arena_bytes(program)));
    VG_TRY(vg_arena_init(&gradients, (size_t)m->params->n_trainable * sizeof(float)));
    VG_TRY(vg_arena_init(&inputs, ((size_t)m->images * ((size_t)m->tokens + 1) * C + 64 + 16 * (size_t)m->images) * 4));
    VG_TRY(vg_program_attach(program, arena.base));
    vg_program_bind_gradients(program, (float *)gradients.base);
    VG_TRY(bind_inputs(program, m, (float *)inputs.base));
    VG_TRY(vg_program_run(program));
    vg_program_profile(program, true);
    double wall = 1e9, processor = 1e9;
    for (int i = 0; i < RUNS; i++) {
        const double start = vg_now_s(), start_processor = processor_s();
        VG_TRY(vg_program_run(program));
        if (vg_now_s() - start < wall) wall = vg_now_s() - start;
        if (processor_s() - start_processor < processor) processor = processor_s() - start_processor;
    }
    const vg_cost cost = vg_program_cost(program);
    puts(vg_program_profile_text(program));
    printf("%s, %d threads: %.1f ms (%.1f ms of processor), %.1f GFLOP, %.1f GF/s\n", vg_backend_cpu()->profile(NULL),
           n_threads, 1e3 * wall, 1e3 * processor, 1e-9 * cost.flops, 1e-9 * cost.flops / wall);
    printf("arena %zu MiB, packed and constant %zu MiB\n", vg_program_arena_bytes(program) >> 20,
           vg_program_constant_bytes(program) >> 20);
    return VG_OK;
}

int main(int n_arguments, char **arguments)
{
    const int n_threads = n_arguments > 1 ? atoi(arguments[1]) : 1;
    model m = {.images = n_arguments > 3 ? atoi(arguments[3]) : 8,
               .tokens = n_arguments > 4 ? atoi(arguments[4]) : 261};
    m.first_trained = BLOCKS - (n_arguments > 2 ? atoi(arguments[2]) : BLOCKS);
    vg_status st = vg_params_new(&m.params);
    VG_KEEP(st, vg_graph_new(m.params, &m.g));
    if (st == VG_OK) {
        build(&m);
        st = measure(&m, n_threads);
    }
    if (st != VG_OK) fprintf(stderr, "%s\n", vg_error_text());
    return vg_exit_code(st);
}
