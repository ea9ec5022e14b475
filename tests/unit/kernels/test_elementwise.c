/* Sums, repetitions, stacks, and the patches of a picture. */
#define _DEFAULT_SOURCE /* setenv */
#include "tests/unit/kernels/kernel_test.h"

enum { LEAD = 3, ROWS = 41, WIDTH = 300, PERIOD = ROWS * WIDTH };

static void sums_are_sums(void **state)
{
    (void)state;
    test_memory m = {0};
    for (int rows_only = 0; rows_only < 2; rows_only++) {
        vg_node n = {.op = rows_only ? VG_OP_add_rows : VG_OP_add, .n_in = 2, .n_out = 1};
        n.in[0] = random_operand(&m, VG_SHAPE(LEAD, ROWS, WIDTH), 1);
        n.in[1] = random_operand(&m, rows_only ? VG_SHAPE(ROWS, WIDTH) : n.in[0].shape, 2);
        n.out[0] = blank_operand(&m, VG_F32, n.in[0].shape);
        run_node(&n, 2);
        const float *a = n.in[0].data, *b = n.in[1].data, *y = n.out[0].data;
        for (int64_t i = 0; i < LEAD * PERIOD; i++) assert_true(y[i] == a[i] + b[rows_only ? i % PERIOD : i]);
    }
    release(&m);
}

static void repetition_copies_and_its_gradient_sums_in_order(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = {.op = VG_OP_repeat, .n_in = 1, .n_out = 1, .attr.repeat.count = LEAD};
    n.in[0] = random_operand(&m, VG_SHAPE(ROWS, WIDTH), 1);
    n.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(LEAD, ROWS, WIDTH));
    run_node(&n, 2);
    for (int64_t r = 0; r < LEAD; r++)
        assert_memory_equal((float *)n.out[0].data + r * PERIOD, n.in[0].data, operand_bytes(&n.in[0]));
    vg_node g = {.op = VG_OP_sum_rows, .n_in = 1, .n_out = 1};
    g.in[0] = random_operand(&m, n.out[0].shape, 2);
    g.out[0] = blank_operand(&m, VG_F32, n.in[0].shape);
    run_node(&g, 2);
    const float *dy = g.in[0].data, *dp = g.out[0].data;
    for (int64_t i = 0; i < PERIOD; i++) assert_true(dp[i] == dy[i] + dy[i + PERIOD] + dy[i + 2 * PERIOD]);
    vg_node twice = fresh_outputs(&m, &g);
    run_node(&twice, 3);
    same_outputs(&g, &twice);
    twice.accumulate = true;
    run_node(&twice, 1);
    for (int64_t i = 0; i < PERIOD; i++) assert_true(((float *)twice.out[0].data)[i] == dp[i] + dp[i]);
    release(&m);
}

static void a_stack_comes_apart_again(void **state)
{
    (void)state;
    for (int count = 1; count <= VG_MAX_IN; count += 5) {
        test_memory m = {0};
        vg_node n = {.op = VG_OP_stack, .n_in = VG_MAX_IN, .n_out = 1};
        for (int k = 0; k < count; k++) n.in[k] = random_operand(&m, VG_SHAPE(5, 7), (uint64_t)k);
        n.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(count, 5, 7));
        run_node(&n, 2);
        vg_node g = {.op = VG_OP_stack_grad, .n_in = 1, .n_out = VG_MAX_OUT};
        g.in[0] = n.out[0];
        for (int k = 0; k < count; k += 2) g.out[k] = blank_operand(&m, VG_F32, n.in[k].shape);
        run_node(&g, 2);
        for (int k = 0; k < count; k += 2) assert_memory_equal(g.out[k].data, n.in[k].data, operand_bytes(&n.in[k]));
        release(&m);
    }
}

static void patches_are_normalised_channel_by_channel(void **state)
{
    (void)state;
    static const double mean[3] = {0.485, 0.456, 0.406}, std[3] = {0.229, 0.224, 0.225};
    enum { IMAGES = 2, SIDE = 28, PATCH = 7, GRID = SIDE / PATCH };
    test_memory m = {0};
    vg_node n = {.op = VG_OP_patchify, .n_in = 1, .n_out = 1, .attr.patchify.patch = PATCH};
    n.in[0] = blank_operand(&m, VG_U8, VG_SHAPE(IMAGES, SIDE, SIDE, 3));
    uint8_t *pixels = n.in[0].data;
    for (uint32_t i = 0; i < IMAGES * SIDE * SIDE * 3; i++) pixels[i] = (uint8_t)random_word(1, i);
    n.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(IMAGES, GRID * GRID, 3 * PATCH * PATCH));
    run_node(&n, 2);
    const float *x = n.out[0].data;
    for (int i = 0; i < IMAGES; i++)
        for (int p = 0; p < GRID * GRID; p++)
            for (int c = 0; c < 3; c++)
                for (int r = 0; r < PATCH; r++)
                    for (int k = 0; k < PATCH; k++, x++) {
                        const int row = p / GRID * PATCH + r, column = p % GRID * PATCH + k;
                        const double v = pixels[((i * SIDE + row) * SIDE + column) * 3 + c] / 255.0;
                        assert_near((double)*x, (v - mean[c]) / std[c], 1e-6);
                    }
    release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_sums),
        cmocka_unit_test(repetition_copies_and_its_gradient_sums_in_order),
        cmocka_unit_test(a_stack_comes_apart_again),
        cmocka_unit_test(patches_are_normalised_channel_by_channel),
    };
    return cmocka_run_group_tests_name("elementwise", tests, NULL, NULL);
}
