/* What a program is said to cost, and what it took. */
#include "kernels/program_impl.h"
#include "tests/unit/kernels/reference_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct fixture {
    vg_params *params;
    vg_graph *g;
    vg_program *program;
} fixture;

static int set_up(void **state)
{
    static fixture f;
    f = (fixture){0};
    assert_int_equal(vg_params_new(&f.params), VG_OK);
    assert_int_equal(vg_graph_new(f.params, &f.g), VG_OK);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    vg_program_free(f->program);
    vg_graph_free(f->g);
    vg_params_free(f->params);
    return 0;
}

static vg_cost cost_of(fixture *f, vg_value kept)
{
    vg_graph_keep(f->g, "kept", kept);
    if (vg_graph_plan(f->g, vg_backend_cpu(), 1, &f->program) != VG_OK) fail_msg("%s", vg_error_text());
    return vg_program_cost(f->program);
}

static void a_product_costs_two_operations_a_term(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(5, 7, 3));
    const vg_value y = vg_graph_linear(g, x, vg_graph_param(g, "w", VG_SHAPE(11, 3)), VG_NONE, VG_ACT_GELU);
    const vg_cost cost = cost_of(*state, y);
    assert_true(cost.flops == 2 * 35 * 11 * 3);
    assert_true(cost.bytes == 4 * (35 * 3 + 11 * 3 + 35 * 11)); /* z is not written: no gradient reads it */
    assert_true(cost.pieces == 1);
    assert_true(cost.kernels == 2); /* the GPU's gelu is a pass of its own */
}

/* What vg_program_each_cost saw of linear layers and their gradients. */
typedef struct seen {
    int n;
    double pieces[VG_OP_COUNT], flops, partial, kernels;
} seen;

static void see(void *context, vg_op op, const vg_cost *cost)
{
    seen *s = context;
    s->n++;
    s->pieces[op] = cost->pieces;
    s->flops += cost->flops;
    s->partial += cost->partial;
    s->kernels += cost->kernels;
}

static bool all_train(const void *context, int param)
{
    (void)context;
    (void)param;
    return true;
}

static void work_divides_into_tiles(void **state)
{
    fixture *f = *state;
    vg_graph *g = f->g;
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(1, 2, 1100, 130)); /* 2200 rows: 35 tiles */
    const vg_value w = vg_graph_param(g, "w", VG_SHAPE(65, 130)), v = vg_graph_param(g, "v", VG_SHAPE(2, 65));
    const vg_value hidden = vg_graph_linear(g, x, w, VG_NONE, VG_ACT_NONE);
    vg_graph_detr_loss(g, &(vg_detr_loss){.logits = vg_graph_linear(g, hidden, v, VG_NONE, VG_ACT_NONE),
                                          .boxes = vg_graph_input(g, "boxes", VG_F32, VG_SHAPE(1, 2, 1100, 4)),
                                          .targets = vg_graph_input(g, "targets", VG_F32, VG_SHAPE(2, 1, 4)),
                                          .n_targets = vg_graph_input(g, "n", VG_I32, VG_SHAPE(2)),
                                          .filled = vg_graph_input(g, "filled", VG_I32, VG_SHAPE(2)),
                                          .scales = vg_graph_input(g, "scales", VG_F32, VG_SHAPE(8))});
    assert_int_equal(vg_graph_differentiate(g, all_train, NULL), VG_OK);
    if (vg_graph_plan(g, vg_backend_cpu(), 1, &f->program) != VG_OK) fail_msg("%s", vg_error_text());
    seen s = {0};
    vg_program_each_cost(f->program, see, &s);
    assert_int_equal(s.n, 6);                            /* two layers, the loss, dW of both and dx between them */
    assert_true(s.pieces[VG_OP_linear] == 35 * 1);       /* the last one: 2 columns */
    assert_true(s.pieces[VG_OP_linear_dx] == 35 * 2);    /* 65 columns */
    assert_true(s.pieces[VG_OP_linear_dw] == 2 * 3 * 2); /* 65 x 130, in two chunks of 1100 rows */
    assert_true(s.partial == 4 * 2.0 * (65 * 130 + 2 * 65));
    assert_true(s.kernels == 2 + 1 + 1 + 2 * 2); /* products and the loss; after dW its parts are summed */
    assert_true(s.pieces[VG_OP_detr_loss] == 0);
    assert_true(s.flops == 2 * 2200.0 * (2 * 65 * 130 + 3 * 65 * 2));
}

static void attention_costs_two_products_a_head(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value q = vg_graph_input(g, "q", VG_F32, VG_SHAPE(4, 10, 16)),
                   kv = vg_graph_input(g, "kv", VG_F32, VG_SHAPE(2, 50, 32));
    const vg_value second = vg_graph_input(g, "second", VG_F32, VG_SHAPE(4, 6, 32));
    const vg_attention a = {.q = q,
                            .k = kv,
                            .v = kv,
                            .k2 = second,
                            .v2 = second,
                            .heads = 2,
                            .head_size = 8,
                            .v_col = 16,
                            .v2_col = 16,
                            .index = vg_graph_input(g, "index", VG_I32, VG_SHAPE(4))};
    const vg_cost cost = cost_of(*state, vg_graph_attention(g, &a));
    assert_true(cost.flops == 2 * 2.0 * 4 * 10 * (50 + 6) * 16);
    assert_true(cost.bytes == 4 * 16.0 * (2 * 40 + 2 * 100 + 2 * 24)); /* q and o, keys and values of both segments */
    assert_true(cost.pieces == 4 * 2);                                 /* slots and heads; ten queries are one piece */
}

static void folding_heads_costs_a_product_a_head(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value w = vg_graph_param(g, "w", VG_SHAPE(64, 130)); /* 8 heads of 8 */
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(9, 10, 64));
    const vg_value b = vg_graph_param(g, "b", VG_SHAPE(64));
    const vg_value y = vg_graph_heads_contract(g, vg_graph_heads_expand(g, x, w, b, 8), w, b, VG_NONE, 8);
    const vg_cost cost = cost_of(*state, y);
    assert_true(cost.flops == 2 * 2.0 * 90 * 64 * 130);
    assert_true(cost.pieces == 8 * 2 * 3 + 8 * 2 * 1); /* 90 queries against 130 columns, then against 8 */
    assert_true(cost.kernels == 3); /* a pass for the second bias; nobody reads what the first makes of it */
}

static void an_embedding_is_priced_by_the_rows_it_reads(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value x = vg_graph_text_embed(
        g, vg_graph_input(g, "ids", VG_I32, VG_SHAPE(2, 6)), vg_graph_input(g, "counts", VG_I32, VG_SHAPE(2)),
        vg_graph_param(g, "word", VG_SHAPE(50000, 8)), vg_graph_param(g, "pos", VG_SHAPE(8, 8)),
        vg_graph_param(g, "type", VG_SHAPE(1, 8)));
    assert_true(cost_of(*state, x).bytes == 4 * 4 * 2 * 6 * 8);
}

static void a_profile_counts_only_what_ran_while_it_was_on(void **state)
{
    fixture *f = *state;
    const vg_value x = vg_graph_input(f->g, "x", VG_F32, VG_SHAPE(2, 2));
    vg_graph_scope(f->g, "layer");
    vg_value y = vg_graph_linear(f->g, x, vg_graph_param(f->g, "w", VG_SHAPE(2, 2)), VG_NONE, VG_ACT_NONE);
    y = vg_graph_linear(f->g, y, vg_graph_param(f->g, "w", VG_SHAPE(2, 2)), VG_NONE, VG_ACT_NONE);
    vg_graph_keep(f->g, "y", vg_graph_add(f->g, x, y));
    assert_int_equal(vg_graph_plan(f->g, &reference_backend, 1, &f->program), VG_OK);
    assert_int_equal(vg_params_layout(f->params, NULL, 0), VG_OK);
    vg_arena arena = {0};
    float data[4] = {0};
    assert_int_equal(vg_arena_init(&arena, vg_program_arena_bytes(f->program)), VG_OK);
    assert_int_equal(vg_program_attach(f->program, arena.base), VG_OK);
    assert_int_equal(vg_program_bind(f->program, "x", data), VG_OK);
    for (int i = 0; i < 3; i++) {
        vg_program_profile(f->program, i > 0);
        assert_int_equal(vg_program_run(f->program), VG_OK);
    }
    char *text = vg_program_profile_text(f->program);
    assert_non_null(strstr(text, "layer                                linear                    4 "));
    assert_non_null(strstr(text, "layer                                add                       2 "));
    free(text);
    vg_arena_release(&arena);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_product_costs_two_operations_a_term),       TEST(work_divides_into_tiles),
        TEST(attention_costs_two_products_a_head),         TEST(folding_heads_costs_a_product_a_head),
        TEST(an_embedding_is_priced_by_the_rows_it_reads), TEST(a_profile_counts_only_what_ran_while_it_was_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
