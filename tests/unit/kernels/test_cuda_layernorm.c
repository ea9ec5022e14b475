#define _DEFAULT_SOURCE /* setenv */
/* Layer normalisation on the device: rows of any length, what is not wanted, many rows. */
#include "tests/unit/kernels/cuda_test.h"

static const int64_t widths[] = {1, 3, 4, 31, 128, 132, 384, 1021, 3072};
enum { N_WIDTHS = sizeof widths / sizeof *widths };

static vg_node norm_of(test_memory *m, int64_t rows, int64_t width, bool res, bool statistics)
{
    const vg_shape x = VG_SHAPE(rows, width), row = VG_SHAPE(width);
    vg_node n = {.op = VG_OP_layernorm, .n_in = 4, .n_out = 4, .attr.layernorm = {1e-6F}};
    n.in[0] = random_operand(m, x, 1);
    n.in[1] = random_operand(m, row, 2);
    n.in[2] = random_operand(m, row, 3);
    if (res) n.in[3] = random_operand(m, x, 4);
    n.out[0] = blank_operand(m, VG_F32, x);
    for (int k = 1; statistics && k < 3; k++) n.out[k] = blank_operand(m, VG_F32, VG_SHAPE(rows));
    if (res && statistics) n.out[3] = blank_operand(m, VG_F32, x);
    return n;
}

/* rstd of a row of two or three numbers can be large; those of one number are 1/sqrt(eps), hat is rounding alone. */
static void rows_of_any_length_are_normalised(void **state)
{
    (void)state;
    for (int k = 0; k < N_WIDTHS * 4; k++) {
        test_memory m = {0};
        const int64_t rows = k % 3 == 0 ? 1 : 13;
        const vg_node n = norm_of(&m, rows, widths[k / 4], k & 1, k & 2);
        cuda_matches_cpu(&m, &n, 4, widths[k / 4]);
        release(&m);
    }
}

static void the_widest_rows_are_a_warp_a_block_and_wider_ones_refused(void **state)
{
    (void)state;
    test_memory m = {0};
    const vg_node widest = norm_of(&m, 3, 12288, true, true), wider = norm_of(&m, 1, 12292, false, false);
    cuda_matches_cpu(&m, &widest, 4, 12288);
    assert_int_equal(run_node_on(vg_backend_cuda(), &cuda_stream, &wider), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "12288"));
    release(&m);
}

/* Bits of `wanted` say dx, dgamma, dbeta. */
static vg_node gradient_of(test_memory *m, int64_t rows, int64_t width, int wanted)
{
    vg_node norm = norm_of(m, rows, width, false, true);
    run_node(&norm, 1);
    const vg_shape x = VG_SHAPE(rows, width);
    vg_node n = {.op = VG_OP_layernorm_grad, .n_in = 6, .n_out = 3, .attr = norm.attr};
    n.in[0] = random_operand(m, x, 5);
    n.in[1] = norm.in[0];
    n.in[2] = norm.in[1];
    n.in[3] = norm.out[1];
    n.in[4] = norm.out[2];
    for (int k = 0; k < 3; k++)
        if (wanted >> k & 1) n.out[k] = random_operand(m, k == 0 ? x : VG_SHAPE(width), 6 + (uint64_t)k);
    return n;
}

static void gradients_of_rows_of_any_length(void **state)
{
    (void)state;
    for (int k = 0; k < N_WIDTHS * 7; k++) {
        test_memory m = {0};
        const int64_t rows = k % 3 == 0 ? 1 : 37, width = widths[k / 7];
        vg_node n = gradient_of(&m, rows, width, 1 + k % 7);
        if (k % 2) n.in[5] = random_operand(&m, VG_SHAPE(rows, width), 9);
        n.accumulate = k % 4 == 1;
        cuda_matches_cpu(&m, &n, 8, rows > width ? rows : width);
        release(&m);
    }
}

/* Enough for chunks of chunks of dgamma and dbeta: 32 * 128 rows and some. */
static void gradients_of_many_rows(void **state)
{
    (void)state;
    test_memory m = {0};
    const vg_node n = gradient_of(&m, 4133, 12, 7);
    cuda_matches_cpu(&m, &n, 4, 4133);
    release(&m);
}

/* A row's gradient and statistics do not hang on its neighbours. */
static void a_row_has_the_same_bits_alone(void **state)
{
    (void)state;
    enum { ROWS = 40, WIDTH = 388, ROW = 33 };
    test_memory m = {0};
    vg_node all = gradient_of(&m, ROWS, WIDTH, 1), one = all;
    for (int k = 0; k < 2; k++) {
        one.in[k].shape = VG_SHAPE(1, WIDTH);
        one.in[k].data = (float *)all.in[k].data + ROW * WIDTH;
        one.in[3 + k].shape = VG_SHAPE(1);
        one.in[3 + k].data = (float *)all.in[3 + k].data + ROW;
    }
    one.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(1, WIDTH));
    cuda_run(&all);
    cuda_run(&one);
    assert_memory_equal(one.out[0].data, (float *)all.out[0].data + ROW * WIDTH, WIDTH * sizeof(float));
    release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_any_length_are_normalised),
        cmocka_unit_test(the_widest_rows_are_a_warp_a_block_and_wider_ones_refused),
        cmocka_unit_test(gradients_of_rows_of_any_length),
        cmocka_unit_test(gradients_of_many_rows),
        cmocka_unit_test(a_row_has_the_same_bits_alone),
    };
    cuda_open();
    return cmocka_run_group_tests_name("layer normalisation on the device", tests, NULL, NULL);
}
