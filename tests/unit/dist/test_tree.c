/* The shape of the canonical sum, without any floats: what ranks hold, and that joining it gives the one tree. */
#include "dist/tree_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void leaves_are_dealt_out_in_runs_without_gaps(void **state)
{
    (void)state;
    for (int n_leaves = 1; n_leaves <= 40; n_leaves++) {
        for (int n_ranks = 1; n_ranks <= n_leaves; n_ranks++) {
            int next = 0, first, count;
            for (int r = 0; r < n_ranks; r++) {
                vg_leaves_of(n_leaves, n_ranks, r, &first, &count);
                assert_int_equal(first, next);
                assert_in_range(count, 0, (n_leaves + n_ranks - 1) / n_ranks);
                next += count;
            }
            assert_int_equal(next, n_leaves);
        }
    }
}

static void slices_cover_everything_in_whole_blocks(void **state)
{
    (void)state;
    const int64_t sizes[] = {0, 1, 1023, 1024, 1025, 10240, 99999};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (int n_ranks = 1; n_ranks <= 13; n_ranks++) {
            int64_t next = 0, first, count;
            for (int r = 0; r < n_ranks; r++) {
                vg_slice_of(sizes[s], 1024, n_ranks, r, &first, &count);
                assert_int_equal(first, next);
                assert_true(count >= 0 && (first % 1024 == 0 || count == 0));
                next += count;
            }
            assert_int_equal(next, sizes[s]);
        }
    }
}

/* Joins everything that the ranks hold, in leaf order, and asks for one root over all leaves. The joins of ranks and
 * those made here together must be n_leaves - 1. */
static void joins_to_one_root(int n_leaves, int n_ranks)
{
    vg_tree_node stack[VG_TREE_DEPTH];
    int depth = 0, joins = 0;
    for (int r = 0; r < n_ranks; r++) {
        vg_tree_node nodes[VG_TREE_DEPTH];
        int n_slots, first, count;
        const int n = vg_tree_of_rank(n_leaves, n_ranks, r, nodes, &n_slots);
        vg_leaves_of(n_leaves, n_ranks, r, &first, &count);
        joins += count - n;
        assert_true(n_slots >= n || n == 0);
        for (int i = 0; i < n; i++) joins += vg_tree_push(n_leaves, stack, &depth, nodes[i]);
    }
    assert_int_equal(depth, 1);
    assert_int_equal(stack[0].start, 0);
    assert_true((1 << stack[0].level) >= n_leaves);
    assert_int_equal(joins, n_leaves - 1);
}

static void what_all_ranks_hold_joins_to_one_root(void **state)
{
    (void)state;
    for (int n_leaves = 1; n_leaves <= 70; n_leaves++)
        for (int n_ranks = 1; n_ranks <= n_leaves; n_ranks++) joins_to_one_root(n_leaves, n_ranks);
    joins_to_one_root(100003, 97);
}

static void a_run_of_a_power_of_two_leaves_one_sum(void **state)
{
    (void)state;
    const int cases[][2] = {{16, 4}, {12, 6}, {12, 3}, {10, 5}, {24, 3}, {7, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int r = 0; r < cases[i][1]; r++) {
            vg_tree_node nodes[VG_TREE_DEPTH];
            int n_slots;
            assert_int_equal(vg_tree_of_rank(cases[i][0], cases[i][1], r, nodes, &n_slots), 1);
        }
    }
    vg_tree_node nodes[VG_TREE_DEPTH];
    int n_slots;
    assert_true(vg_tree_of_rank(12, 4, 1, nodes, &n_slots) > 1); /* leaves 3, 4, 5 */
}

static void buffers_grow_with_the_logarithm_of_the_leaves(void **state)
{
    (void)state;
    vg_tree_node nodes[VG_TREE_DEPTH];
    int n_slots;
    vg_tree_of_rank(1024, 1, 0, nodes, &n_slots);
    assert_int_equal(n_slots, 11);
    vg_tree_of_rank(1024, 1024, 5, nodes, &n_slots);
    assert_int_equal(n_slots, 1);
    vg_sum_plan plan = {.n = 1000, .n_leaves = 8};
    const size_t one = vg_reducer_bytes(&plan, 8, 1);
    assert_int_equal(one, 4096); /* padded to a block */
    assert_int_equal(vg_reducer_bytes(&plan, 8, 0), 2 * one);
    assert_int_equal(vg_reducer_bytes(&plan, 1, 0), 4 * one);
    plan = (vg_sum_plan){.n = 2048, .n_leaves = 5, .sliced = true};
    assert_int_equal(vg_reducer_bytes(&plan, 4, 3), 2 * one); /* no leaf, but a place to gather in */
    assert_int_equal(vg_reducer_bytes(&plan, 4, 0), (2 + 1) * 2 * one + 2 * sizeof(double));
    assert_int_equal(vg_reducer_bytes(&plan, 1, 0), 3 * 2 * one); /* a lone rank has no slices */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_are_dealt_out_in_runs_without_gaps),
        cmocka_unit_test(slices_cover_everything_in_whole_blocks),
        cmocka_unit_test(what_all_ranks_hold_joins_to_one_root),
        cmocka_unit_test(a_run_of_a_power_of_two_leaves_one_sum),
        cmocka_unit_test(buffers_grow_with_the_logarithm_of_the_leaves),
    };
    return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
