/* Builders: shapes come out right, and the first thing that does not fit is named. */
#include "kernels/graph_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct fixture {
    vg_params *params;
    vg_graph *g;
} fixture;

static int set_up(void **state)
{
    static fixture f;
    assert_int_equal(vg_params_new(&f.params), VG_OK);
    assert_int_equal(vg_graph_new(f.params, &f.g), VG_OK);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    vg_graph_free(f->g);
    vg_params_free(f->params);
    return 0;
}

static void assert_shape(const vg_graph *g, vg_value v, vg_shape expected)
{
    char have[64], want[64];
    const vg_shape shape = vg_graph_shape(g, v);
    assert_string_equal(vg_shape_text(&shape, have), vg_shape_text(&expected, want));
}

static void shapes_follow_the_formula(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value pixels = vg_graph_input(g, "pixels", VG_U8, VG_SHAPE(2, 56, 56, 3));
    vg_value x = vg_graph_patchify(g, pixels, 14);
    assert_shape(g, x, VG_SHAPE(2, 16, 588));
    x = vg_graph_linear(g, x, vg_graph_param(g, "proj", VG_SHAPE(32, 3, 14, 14)), VG_NONE, VG_ACT_GELU);
    assert_shape(g, x, VG_SHAPE(2, 16, 32)); /* the convolution's kernel is read as a matrix */
    x = vg_graph_vit_tokens(g, x, vg_graph_param(g, "pos", VG_SHAPE(1, 16, 32)),
                            vg_graph_param(g, "cls", VG_SHAPE(1, 1, 32)), vg_graph_param(g, "reg", VG_SHAPE(1, 4, 32)));
    assert_shape(g, x, VG_SHAPE(2, 21, 32));
    const vg_value qkv = vg_graph_linear(g, x, vg_graph_param(g, "qkv", VG_SHAPE(96, 32)), VG_NONE, VG_ACT_NONE);
    const vg_value o = vg_graph_attention(
        g, &(vg_attention){.q = qkv, .k = qkv, .v = qkv, .heads = 4, .head_size = 8, .k_col = 32, .v_col = 64});
    assert_shape(g, o, VG_SHAPE(2, 21, 32));
    const vg_value image = vg_graph_slice_tokens(g, o, 5, 16);
    const vg_value text = vg_graph_input(g, "text", VG_F32, VG_SHAPE(6, 3, 32));
    const vg_value index = vg_graph_input(g, "index", VG_I32, VG_SHAPE(6));
    assert_shape(g, vg_graph_concat_tokens(g, image, text, index), VG_SHAPE(6, 19, 32));
    assert_shape(g, vg_graph_stack(g, (vg_value[]){image, image, image}, 3), VG_SHAPE(3, 2, 16, 32));
    assert_shape(g, vg_graph_repeat(g, vg_graph_param(g, "q", VG_SHAPE(10, 32)), 6), VG_SHAPE(6, 10, 32));
    assert_int_equal(vg_graph_status(g), VG_OK);
}

static void the_first_error_names_scope_operation_and_shapes(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(8, 10, 256));
    vg_graph_scope(g, "decoder.layers.0");
    const vg_value y = vg_graph_linear(g, x, vg_graph_param(g, "w", VG_SHAPE(768, 128)), VG_NONE, VG_ACT_NONE);
    assert_int_equal(y.id, 0);
    assert_int_equal(vg_graph_add(g, y, x).id, 0); /* a model goes on as if nothing were wrong */
    assert_int_equal(vg_graph_status(g), VG_E_SHAPE);
    assert_string_equal(vg_error_text(), "decoder.layers.0: linear: W must be [N,K] with K the last axis of x; "
                                         "operands [8,10,256] [768,128]");
}

static void a_missing_operand_is_an_error(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    vg_graph_add(g, vg_graph_input(g, "x", VG_F32, VG_SHAPE(2)), VG_NONE);
    assert_int_equal(vg_graph_status(g), VG_E_SHAPE);
    assert_non_null(strstr(vg_error_text(), "add: an operand is missing"));
}

static void an_input_of_the_wrong_type_is_an_error(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    vg_graph_patchify(g, vg_graph_input(g, "x", VG_F32, VG_SHAPE(1, 28, 28, 3)), 14);
    assert_int_equal(vg_graph_status(g), VG_E_SHAPE);
    assert_non_null(strstr(vg_error_text(), "element type"));
}

static void a_name_asked_for_again_is_the_same_value(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(2, 3));
    assert_int_equal(vg_graph_input(g, "x", VG_F32, VG_SHAPE(2, 3)).id, x.id);
    const vg_value w = vg_graph_param(g, "w", VG_SHAPE(6, 3));
    assert_int_equal(vg_graph_param(g, "w", VG_SHAPE(6, 3)).id, w.id);
    const vg_value rows = vg_graph_param_rows(g, w, 2, 3);
    assert_int_equal(vg_graph_param_rows(g, w, 2, 3).id, rows.id);
    assert_shape(g, rows, VG_SHAPE(3, 3));
    assert_int_equal(g->values[rows.id].first, 6);
    vg_graph_input(g, "x", VG_F32, VG_SHAPE(3, 2));
    assert_int_equal(vg_graph_status(g), VG_E_SHAPE);
    assert_non_null(strstr(vg_error_text(), "input x is f32 [2,3] and asked for as f32 [3,2]"));
}

static void rows_outside_a_parameter_are_an_error(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    vg_graph_param_rows(g, vg_graph_param(g, "w", VG_SHAPE(6, 3)), 4, 3);
    assert_int_equal(vg_graph_status(g), VG_E_SHAPE);
    assert_non_null(strstr(vg_error_text(), "rows 4..6 of w do not exist; it has 6"));
}

static void dropout_of_nothing_adds_no_node(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(2, 3));
    assert_int_equal(vg_graph_dropout(g, x, VG_NONE, VG_NONE, 0, (vg_rng_key){{0, 0}}).id, x.id);
    assert_int_equal(g->n_nodes, 0);
    vg_graph_dropout(g, x, x, VG_NONE, 0, (vg_rng_key){{0, 0}});
    assert_int_equal(g->n_nodes, 1);
    assert_int_equal(g->nodes[0].op, VG_OP_add);
}

static void a_value_too_large_for_memory_is_an_error(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    vg_graph_input(g, "x", VG_F32, VG_SHAPE(1 << 30, 1 << 30));
    assert_int_equal(vg_graph_status(g), VG_E_SHAPE);
}

static void attention_checks_its_columns(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value qkv = vg_graph_input(g, "qkv", VG_F32, VG_SHAPE(2, 5, 96));
    vg_graph_attention(g, &(vg_attention){.q = qkv, .k = qkv, .v = qkv, .heads = 4, .head_size = 8, .v_col = 65});
    assert_int_equal(vg_graph_status(g), VG_E_SHAPE);
    assert_non_null(strstr(vg_error_text(), "v lacks columns for its heads"));
}

static void heads_fold_and_unfold(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(2, 5, 24)), w = vg_graph_param(g, "w", VG_SHAPE(24, 7));
    const vg_value wide = vg_graph_heads_expand(g, x, w, VG_NONE, 3);
    vg_shape shape = vg_graph_shape(g, wide);
    assert_true(vg_shape_equal(&shape, &VG_SHAPE(2, 15, 7)));
    shape = vg_graph_shape(g, vg_graph_heads_contract(g, wide, w, VG_NONE, VG_NONE, 3));
    assert_true(vg_shape_equal(&shape, &VG_SHAPE(2, 5, 24)));
    vg_graph_heads_contract(g, wide, w, VG_NONE, VG_NONE, 4);
    assert_int_equal(vg_graph_status(g), VG_E_SHAPE);
    assert_non_null(strstr(vg_error_text(), "x must be [B,Q*H,C]"));
}

static void a_name_keeps_one_value(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(2));
    vg_graph_keep(g, "out", x);
    vg_graph_keep(g, "out", x);
    assert_int_equal(vg_graph_status(g), VG_E_BUG);
    assert_string_equal(vg_error_text(), "out: two values are kept under this name");
}

static void a_graph_reads_as_lines(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(5, 2)), w = vg_graph_param(g, "w", VG_SHAPE(6, 2));
    vg_graph_scope(g, "head");
    const vg_value y = vg_graph_linear(g, x, vg_graph_param_rows(g, w, 2, 2), VG_NONE, VG_ACT_NONE);
    vg_graph_scope(g, "");
    vg_graph_linear_residual(g, y, vg_graph_param_rows(g, w, 0, 2), VG_NONE, VG_NONE, x);
    char *text = vg_graph_text(g);
    assert_string_equal(text, "head: linear x [5,2] w+ [2,2] -> %4 [5,2]\n"
                              "linear %4 [5,2] w [2,2] - - x [5,2] -> %6 [5,2]\n");
    free(text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(shapes_follow_the_formula),
        TEST(the_first_error_names_scope_operation_and_shapes),
        TEST(a_missing_operand_is_an_error),
        TEST(an_input_of_the_wrong_type_is_an_error),
        TEST(a_name_asked_for_again_is_the_same_value),
        TEST(rows_outside_a_parameter_are_an_error),
        TEST(dropout_of_nothing_adds_no_node),
        TEST(a_value_too_large_for_memory_is_an_error),
        TEST(attention_checks_its_columns),
        TEST(heads_fold_and_unfold),
        TEST(a_name_keeps_one_value),
        TEST(a_graph_reads_as_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
