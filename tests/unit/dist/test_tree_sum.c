/* A few numbers of each leaf, in the tree of the gradients. One process plays each rank in turn. */
#include "dist/comm_impl.h"
#include "dist/reduce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_LEAVES = 9, MAX_RANKS = 5, N = 2 };

/* What the ranks have: numbers that differ from leaf to leaf, and some whose sum hangs on the order. */
static double leaves[MAX_LEAVES][N];
static int n_leaves;

static void fill_leaves(int n)
{
    n_leaves = n;
    for (int i = 0; i < n; i++) {
        leaves[i][0] = 1.0 / (3 + 7 * i);
        leaves[i][1] = i == 0 ? 1e16 : 1; /* alone, a 1 is lost beside it */
    }
}

/* Of each rank as many rows as of a full one: those that its leaves do not fill are left as they come. */
static vg_status rows_of_all(vg_comm *comm, const void *mine, size_t bytes, void *all, bool everywhere)
{
    assert_true(everywhere);
    memset(all, 0xff, bytes * (size_t)comm->size);
    for (int r = 0; r < comm->size; r++) {
        int first, count;
        vg_leaves_of(n_leaves, comm->size, r, &first, &count);
        const size_t used = (size_t)count * sizeof *leaves;
        assert_true(used <= bytes);
        if (count) memcpy((char *)all + bytes * (size_t)r, leaves[first], used);
        if (r == comm->rank && count) assert_memory_equal(mine, leaves[first], used);
    }
    return VG_OK;
}

static vg_status lost(vg_comm *comm, const void *mine, size_t bytes, void *all, bool everywhere)
{
    (void)comm, (void)mine, (void)bytes, (void)all, (void)everywhere;
    return vg_fail(VG_E_COMM, "the other rank is gone");
}

/* ((0 1) (2 3)) ((4 5) (6 ..)): pairs, then pairs of pairs. */
static void tree_of(int first, int n, double sum[N])
{
    int half = 1;
    memcpy(sum, leaves[first], N * sizeof *sum);
    if (n == 1) return;
    while (2 * half < n) half *= 2;
    double right[N];
    tree_of(first, half, sum);
    tree_of(first + half, n - half, right);
    for (int j = 0; j < N; j++) sum[j] += right[j];
}

static void every_rank_has_the_bits_of_the_tree_for_every_number_of_ranks_and_leaves(void **state)
{
    (void)state;
    static const vg_comm_ops ops = {.gather = rows_of_all};
    for (int n = 1; n <= MAX_LEAVES; n++)
        for (int size = 1; size <= MAX_RANKS && size <= n; size++)
            for (int rank = 0; rank < size; rank++) {
                vg_comm comm = {.ops = &ops, .rank = rank, .size = size};
                double want[N], total[N];
                int first, count;
                fill_leaves(n);
                tree_of(0, n, want);
                vg_leaves_of(n, size, rank, &first, &count);
                assert_int_equal(vg_tree_sum_f64(&comm, n, count ? leaves[first] : NULL, N, total), VG_OK);
                assert_memory_equal(total, want, sizeof want);
                free(comm.scratch);
            }
}

static void another_order_has_other_bits(void **state)
{
    (void)state;
    double tree[N], in_a_row = 0;
    fill_leaves(MAX_LEAVES);
    tree_of(0, MAX_LEAVES, tree);
    for (int i = 0; i < MAX_LEAVES; i++) in_a_row += leaves[i][1];
    assert_memory_not_equal(&tree[1], &in_a_row, sizeof in_a_row); /* or the test above would show nothing */
}

static void a_group_that_fails_leaves_the_total_untouched(void **state)
{
    (void)state;
    static const vg_comm_ops ops = {.gather = lost};
    vg_comm comm = {.ops = &ops, .size = 2};
    double total[N] = {5, 7};
    fill_leaves(4);
    assert_int_equal(vg_tree_sum_f64(&comm, 4, leaves[0], N, total), VG_E_COMM);
    assert_string_equal(vg_error_text(), "the other rank is gone");
    assert_true(total[0] == 5 && total[1] == 7);
    free(comm.scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_has_the_bits_of_the_tree_for_every_number_of_ranks_and_leaves),
        cmocka_unit_test(another_order_has_other_bits),
        cmocka_unit_test(a_group_that_fails_leaves_the_total_untouched),
    };
    return cmocka_run_group_tests_name("tree sum", tests, NULL, NULL);
}
