#define _DEFAULT_SOURCE /* setenv */
/* Sums, repetitions and stacks on the device, lengths and addresses that do not allow 128 bits at a time among them. */
#include "tests/unit/kernels/cuda_test.h"

static const int64_t periods[] = {1, 3, 4, 33, 64, 1021, 1028}, counts[] = {1, 7, 8, 9, 17};
enum { N_PERIODS = sizeof periods / sizeof *periods, N_COUNTS = sizeof counts / sizeof *counts };

static void sums_of_any_length_are_the_cpu_s(void **state)
{
    (void)state;
    for (int k = 0; k < N_PERIODS * 2; k++) {
        test_memory m = {0};
        const vg_shape shape = VG_SHAPE(periods[k / 2]);
        vg_node n = {.op = VG_OP_add, .n_in = 2, .n_out = 1, .out = {blank_operand(&m, VG_F32, shape)}};
        for (int i = 0; i < 2; i++) n.in[i] = random_operand(&m, shape, (uint64_t)i);
        if (k % 2) misalign(&m, &n, &n.in[1]);
        cuda_matches_cpu(&m, &n, 0, 1);
        release(&m);
    }
}

static void rows_are_spread_over_any_number_of_others(void **state)
{
    (void)state;
    for (int k = 0; k < N_PERIODS * N_COUNTS * 2; k++) {
        test_memory m = {0};
        const int64_t count = counts[k / 2 % N_COUNTS];
        const vg_shape row = VG_SHAPE(periods[k / 2 / N_COUNTS]), rows = VG_SHAPE(count, row.dim[0]);
        vg_node add = {.op = VG_OP_add_rows, .n_in = 2, .n_out = 1, .out = {blank_operand(&m, VG_F32, rows)}};
        add.in[0] = random_operand(&m, rows, 1);
        add.in[1] = random_operand(&m, row, 2);
        if (k % 2) misalign(&m, &add, &add.in[1]);
        vg_node repeat = {.op = VG_OP_repeat, .n_in = 1, .n_out = 1, .in = {random_operand(&m, row, 3)}};
        repeat.attr.repeat.count = count;
        repeat.out[0] = blank_operand(&m, VG_F32, rows);
        cuda_matches_cpu(&m, &add, 0, 1);
        cuda_matches_cpu(&m, &repeat, 0, 1);
        release(&m);
    }
}

static void stacks_come_together_and_apart(void **state)
{
    (void)state;
    for (int k = 0; k < N_PERIODS * 3; k++) {
        test_memory m = {0};
        const int n_parts = k % 3 == 0 ? 1 : k % 3 == 1 ? 3 : VG_MAX_IN;
        const vg_shape part = VG_SHAPE(periods[k / 3]), whole = VG_SHAPE(n_parts, part.dim[0]);
        vg_node stack = {.op = VG_OP_stack, .n_in = VG_MAX_IN, .n_out = 1, .out = {blank_operand(&m, VG_F32, whole)}};
        vg_node apart = {.op = VG_OP_stack_grad, .n_in = 1, .n_out = n_parts, .in = {random_operand(&m, whole, 1)}};
        for (int i = 0; i < n_parts; i++) {
            stack.in[i] = random_operand(&m, part, 2 + (uint64_t)i);
            if (i != 1) apart.out[i] = blank_operand(&m, VG_F32, part); /* one that nobody wants */
        }
        cuda_matches_cpu(&m, &stack, 0, 1);
        cuda_matches_cpu(&m, &apart, 0, 1);
        release(&m);
    }
}

/* Up to chunks of chunks: a chunk is 128 rows. */
static void columns_are_summed_over_any_number_of_rows(void **state)
{
    (void)state;
    static const int64_t rows[] = {1, 2, 8, 127, 128, 129, 300, 16389}, columns[] = {1, 3, 32, 36, 132};
    for (int k = 0; k < 8 * 5 * 2; k++) {
        test_memory m = {0};
        const int64_t n = rows[k / 2 / 5], c = n < 16000 ? columns[k / 2 % 5] : 1 + k / 2 % 5;
        const vg_node sum = {.op = VG_OP_sum_rows,
                             .n_in = 1,
                             .n_out = 1,
                             .in = {random_operand(&m, VG_SHAPE(n, c), 1)},
                             .out = {random_operand(&m, VG_SHAPE(c), 2)},
                             .accumulate = k % 2};
        cuda_matches_cpu(&m, &sum, 4, n);
        release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_any_length_are_the_cpu_s),
        cmocka_unit_test(rows_are_spread_over_any_number_of_others),
        cmocka_unit_test(stacks_come_together_and_apart),
        cmocka_unit_test(columns_are_summed_over_any_number_of_rows),
    };
    cuda_open();
    return cmocka_run_group_tests_name("elementwise on the device", tests, NULL, NULL);
}
