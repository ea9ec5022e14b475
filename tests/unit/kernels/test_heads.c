/* The operations on heads: heads are the threads' to share, and what nobody wants is left out. */
#define _DEFAULT_SOURCE /* setenv */
#include "tests/unit/kernels/kernel_test.h"

enum { SLOTS = 3, QUERIES = 25, HEADS = 6, SIZE = 20, WIDTH = 70, ROWS = QUERIES * HEADS, N_OPS = 3 };

static vg_node node_of(test_memory *m, int op)
{
    const vg_operand narrow = random_operand(m, VG_SHAPE(SLOTS, QUERIES, HEADS * SIZE), 1);
    const vg_operand wide = random_operand(m, VG_SHAPE(SLOTS, ROWS, WIDTH), 2);
    const vg_operand sums = random_operand(m, VG_SHAPE(SLOTS, 1, ROWS), 3);
    const vg_operand weight = random_operand(m, VG_SHAPE(HEADS * SIZE, WIDTH), 4);
    const vg_operand bias = random_operand(m, VG_SHAPE(HEADS * SIZE), 5);
    const vg_node nodes[N_OPS] = {
        {.op = VG_OP_heads_expand, .in = {narrow, weight, bias}, .out = {wide, sums}, .n_in = 3, .n_out = 2},
        {.op = VG_OP_heads_contract, .in = {wide, weight, bias, sums}, .out = {narrow}, .n_in = 4, .n_out = 1},
        {.op = VG_OP_heads_dw, .in = {narrow, wide, sums}, .out = {weight, bias}, .n_in = 3, .n_out = 2}};
    vg_node node = fresh_outputs(m, &nodes[op]);
    node.attr.heads.heads = HEADS;
    return node;
}

static void bits_do_not_depend_on_the_thread_count(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++)
        for (int op = 0; op < N_OPS; op++) {
            use_isa(isa);
            test_memory m = {0};
            vg_node one = node_of(&m, op);
            run_node(&one, 1);
            for (int n_threads = 2; n_threads <= 4; n_threads++) {
                vg_node more = fresh_outputs(&m, &one);
                run_node(&more, n_threads);
                same_outputs(&one, &more);
            }
            release(&m);
        }
}

/* The last thread writes as far into its part as one thread alone, and so no two parts overlap. */
static void each_thread_has_a_workspace_of_its_own(void **state)
{
    (void)state;
    const vg_backend *cpu = vg_backend_cpu();
    for (int isa = 0; isa < N_ISAS; isa++)
        for (int op = 0; op < N_OPS; op++) {
            use_isa(isa);
            test_memory m = {0};
            vg_node node = node_of(&m, op);
            const size_t alone = run_node(&node, 1);
            const size_t part = cpu->workspace_bytes(&node, 2) - cpu->workspace_bytes(&node, 1);
            assert_true(alone > 0 && part > 0);
            for (int n_threads = 2; n_threads <= 4; n_threads++)
                assert_int_equal(run_node(&node, n_threads), alone + (size_t)(n_threads - 1) * part);
            release(&m);
        }
}

static void dw_outputs_may_be_absent(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node both = node_of(&m, N_OPS - 1);
    run_node(&both, 2);
    for (int only = 0; only < both.n_out; only++) {
        vg_node one = one_output(&m, &both, only);
        run_node(&one, 2);
        same_outputs(&one, &both);
    }
    release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_the_thread_count),
        cmocka_unit_test(each_thread_has_a_workspace_of_its_own),
        cmocka_unit_test(dw_outputs_may_be_absent),
    };
    return cmocka_run_group_tests_name("heads", tests, NULL, NULL);
}
