/* Token sequences put together and taken apart: forward and backward are transposes of each other. */
#define _DEFAULT_SOURCE /* setenv */
#include "tests/unit/kernels/kernel_test.h"

enum { WIDTH = 700 }; /* enough for several threads to be worth it */

/* <f(x), dy> over all elements, in fp64. */
static double inner(const vg_operand *a, const vg_operand *b)
{
    double sum = 0;
    for (int64_t i = 0; a->data && b->data && i < vg_shape_count(&a->shape); i++)
        sum += (double)((const float *)a->data)[i] * (double)((const float *)b->data)[i];
    return sum;
}

/* A linear f and its gradient f': <f(x), dy> = <x, f'(dy)>, summed over the inputs. Rounding of fp32 sums apart. */
static void assert_transposed(const vg_node *f, const vg_operand *dy, const vg_node *g, int n_inputs)
{
    double forward = inner(&f->out[0], dy), backward = 0;
    for (int k = 0; k < n_inputs; k++) backward += inner(&f->in[k], &g->out[k]);
    assert_near(forward, backward, 1e-3);
}

static void vit_tokens_and_its_gradient_are_transposes(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) { /* with and without cls and registers */
        test_memory m = {0};
        const int64_t prefix = (k & 1 ? 1 : 0) + (k & 2 ? 4 : 0);
        vg_node f = {.op = VG_OP_vit_tokens, .n_in = 4, .n_out = 1};
        f.in[0] = random_operand(&m, VG_SHAPE(3, 6, WIDTH), 1);
        f.in[1] = random_operand(&m, VG_SHAPE(6, WIDTH), 2);
        if (k & 1) f.in[2] = random_operand(&m, VG_SHAPE(1, 1, WIDTH), 3);
        if (k & 2) f.in[3] = random_operand(&m, VG_SHAPE(1, 4, WIDTH), 4);
        f.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(3, 6 + prefix, WIDTH));
        run_node(&f, 2);
        vg_node g = {.op = VG_OP_vit_tokens_grad, .n_in = 1, .n_out = 4};
        g.in[0] = random_operand(&m, f.out[0].shape, 5);
        for (int i = 0; i < 4; i++)
            if (f.in[i].data) g.out[i] = blank_operand(&m, VG_F32, f.in[i].shape);
        run_node(&g, 2);
        assert_transposed(&f, &g.in[0], &g, 4);
        release(&m);
    }
}

static void the_prefix_comes_first_and_has_no_position(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node f = {.op = VG_OP_vit_tokens, .n_in = 4, .n_out = 1};
    f.in[0] = random_operand(&m, VG_SHAPE(2, 6, WIDTH), 1);
    f.in[1] = random_operand(&m, VG_SHAPE(6, WIDTH), 2);
    f.in[2] = random_operand(&m, VG_SHAPE(1, 1, WIDTH), 3);
    f.in[3] = random_operand(&m, VG_SHAPE(1, 4, WIDTH), 4);
    f.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(2, 11, WIDTH));
    run_node(&f, 1);
    const float *x = f.out[0].data, *patch = f.in[0].data, *pos = f.in[1].data;
    for (int64_t i = 0; i < 2; i++) {
        assert_memory_equal(x + i * 11 * WIDTH, f.in[2].data, WIDTH * sizeof *x);
        assert_memory_equal(x + i * 11 * WIDTH + WIDTH, f.in[3].data, 4 * WIDTH * sizeof *x);
        for (int64_t c = 0; c < 6 * WIDTH; c++)
            assert_true(x[(i * 11 + 5) * WIDTH + c] == patch[i * 6 * WIDTH + c] + pos[c]);
    }
    release(&m);
}

static void a_slice_and_its_gradient_are_transposes(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node f = {.op = VG_OP_slice_tokens, .n_in = 1, .n_out = 1, .attr.slice = {.first = 2, .count = 3}};
    f.in[0] = random_operand(&m, VG_SHAPE(3, 6, WIDTH), 1);
    f.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(3, 3, WIDTH));
    run_node(&f, 2);
    vg_node g = {.op = VG_OP_slice_tokens_grad, .n_in = 2, .n_out = 1, .attr = f.attr};
    g.in[0] = random_operand(&m, f.out[0].shape, 2);
    g.out[0] = blank_operand(&m, VG_F32, f.in[0].shape);
    run_node(&g, 2);
    assert_transposed(&f, &g.in[0], &g, 1);
    vg_node with = g;
    with.in[1] = random_operand(&m, f.in[0].shape, 3);
    with.out[0] = blank_operand(&m, VG_F32, f.in[0].shape);
    run_node(&with, 2);
    for (int64_t i = 0; i < 3 * 6 * WIDTH; i++)
        assert_true(((float *)with.out[0].data)[i] == ((float *)with.in[1].data)[i] + ((float *)g.out[0].data)[i]);
    release(&m);
}

static void concatenation_and_its_gradient_are_transposes(void **state)
{
    (void)state;
    const int32_t image[4] = {0, 0, 2, 2};
    for (int k = 0; k < 2; k++) {
        test_memory m = {0};
        vg_node f = {.op = VG_OP_concat_tokens, .n_in = 3, .n_out = 1};
        f.in[0] = random_operand(&m, VG_SHAPE(k ? 3 : 4, 6, WIDTH), 1);
        f.in[1] = random_operand(&m, VG_SHAPE(4, 2, WIDTH), 2);
        if (k) f.in[2] = int_operand(&m, VG_SHAPE(4), image);
        f.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(4, 8, WIDTH));
        run_node(&f, 2);
        vg_node g = {.op = VG_OP_concat_tokens_grad, .n_in = 2, .n_out = 2};
        g.in[0] = random_operand(&m, f.out[0].shape, 3);
        g.in[1] = f.in[2];
        for (int i = 0; i < 2; i++) g.out[i] = blank_operand(&m, VG_F32, f.in[i].shape);
        run_node(&g, 2);
        assert_transposed(&f, &g.in[0], &g, 2);
        for (int only = 0; only < 2; only++) {
            vg_node one = one_output(&m, &g, only);
            run_node(&one, 1);
            same_outputs(&one, &g);
        }
        release(&m);
    }
}

static void position_and_register_gradients_accumulate_on_request(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node g = {.op = VG_OP_vit_tokens_grad, .n_in = 1, .n_out = 4};
    g.in[0] = random_operand(&m, VG_SHAPE(3, 11, WIDTH), 1);
    const vg_shape shapes[4] = {VG_SHAPE(3, 6, WIDTH), VG_SHAPE(6, WIDTH), VG_SHAPE(1, 1, WIDTH),
                                VG_SHAPE(1, 4, WIDTH)};
    for (int k = 0; k < 4; k++) g.out[k] = blank_operand(&m, VG_F32, shapes[k]);
    run_node(&g, 1);
    vg_node twice = fresh_outputs(&m, &g);
    run_node(&twice, 2);
    same_outputs(&g, &twice);
    twice.accumulate = true;
    run_node(&twice, 2);
    for (int k = 0; k < 4; k++)
        for (int64_t i = 0; i < vg_shape_count(&shapes[k]); i++)
            assert_true(((float *)twice.out[k].data)[i] == ((float *)g.out[k].data)[i] * (k ? 2 : 1));
    release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vit_tokens_and_its_gradient_are_transposes),
        cmocka_unit_test(the_prefix_comes_first_and_has_no_position),
        cmocka_unit_test(a_slice_and_its_gradient_are_transposes),
        cmocka_unit_test(concatenation_and_its_gradient_are_transposes),
        cmocka_unit_test(position_and_register_gradients_accumulate_on_request),
    };
    return cmocka_run_group_tests_name("tokens", tests, NULL, NULL);
}
