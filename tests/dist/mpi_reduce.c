/* The canonical sum has the same bits on any number of ranks, in one host or several. */
#include "dist/reduce.h"
#include "leaf_test.h"
#include "mpi_test.h"

static vg_comm *comm;

static const int leaf_counts[] = {1, 2, 3, 5, 8, 12, 16};
enum { N_LEAF_COUNTS = 7, N = 20 * 1024 + 37, BIG = 3 << 19 };

static const float *run_step(vg_reducer *r, int64_t n, int step, int empty)
{
    int first, count;
    const float *total = NULL;
    vg_reducer_leaves(r, &first, &count);
    for (int i = first; i < first + count; i++) {
        if (i != empty) fill_leaf(vg_reducer_leaf(r), n, i, step);
        vg_reducer_push(r, i == empty);
    }
    assert_int_equal(vg_reducer_finish(r, &total), VG_OK);
    return total;
}

static void the_total_has_the_bits_of_the_definition_for_every_leaf_count(void **state)
{
    (void)state;
    for (int k = 0; k < N_LEAF_COUNTS; k++) {
        const int n_leaves = leaf_counts[k];
        if (n_leaves < vg_comm_size(comm)) continue;
        vg_reducer *r = NULL;
        assert_int_equal(vg_reducer_new(comm, N, n_leaves, NULL, NULL, &r), VG_OK);
        for (int step = 0; step < 3; step++) { /* buffers are used again */
            float *expected = expected_total(n_leaves, N, step, -1, false);
            assert_memory_equal(run_step(r, N, step, -1), expected, N * sizeof(float));
            free(expected);
        }
        vg_reducer_free(r);
    }
}

static void an_empty_leaf_counts_as_zeros(void **state)
{
    (void)state;
    const int n_leaves = 11;
    vg_reducer *r = NULL;
    assert_int_equal(vg_reducer_new(comm, N, n_leaves, NULL, NULL, &r), VG_OK);
    run_step(r, N, 0, -1); /* leaves something behind in every buffer */
    float *expected = expected_total(n_leaves, N, 1, 10, false);
    assert_memory_equal(run_step(r, N, 1, 10), expected, N * sizeof(float));
    free(expected);
    vg_reducer_free(r);
}

static void large_totals_are_exchanged_in_rounds(void **state)
{
    (void)state;
    const int n_leaves = 9;
    vg_reducer *r = NULL;
    assert_int_equal(vg_reducer_new(comm, BIG, n_leaves, NULL, NULL, &r), VG_OK);
    float *expected = expected_total(n_leaves, BIG, 0, -1, false);
    assert_memory_equal(run_step(r, BIG, 0, -1), expected, BIG * sizeof(float));
    free(expected);
    vg_reducer_free(r);
}

static void a_swapped_pair_of_leaves_shows_in_the_bits(void **state)
{
    (void)state; /* else the tests above could not fail */
    float *right = expected_total(8, N, 0, -1, false), *swapped = expected_total(8, N, 0, -1, true);
    assert_memory_not_equal(right, swapped, N * sizeof(float));
    free(right);
    free(swapped);
}

static void more_ranks_than_leaves_are_refused_with_the_largest_number(void **state)
{
    (void)state;
    if (vg_comm_size(comm) < 3) return;
    vg_reducer *r = NULL;
    assert_int_equal(vg_reducer_new(comm, N, 2, NULL, NULL, &r), VG_E_CONFIG);
    assert_null(r);
    assert_non_null(strstr(vg_error_text(), "at most 2 ranks"));
}

static void padding_that_no_leaf_wrote_is_zero_in_the_total(void **state)
{
    (void)state;
    const int n_leaves = 12;
    vg_reducer *r = NULL;
    assert_int_equal(vg_reducer_new(comm, N, n_leaves, NULL, NULL, &r), VG_OK);
    const float *total = run_step(r, N - 37, 0, -1);
    for (int i = 0; i < 37; i++) assert_true(total[N - 37 + i] == 0);
    vg_reducer_free(r);
}

static void losses_follow_the_same_tree_in_fp64(void **state)
{
    (void)state;
    for (int k = 0; k < N_LEAF_COUNTS; k++) {
        const int n_leaves = leaf_counts[k];
        double leaf[16][2], total[2];
        for (int i = 0; i < n_leaves; i++) {
            leaf[i][0] = 1.0 / (3 + 7 * i);
            leaf[i][1] = (i % 2 ? -1e17 : 1e17) / (i + 3);
        }
        int first, count;
        vg_leaves_of(n_leaves, vg_comm_size(comm), vg_comm_rank(comm), &first, &count);
        assert_int_equal(vg_tree_sum_f64(comm, n_leaves, &leaf[first < 16 ? first : 0][0], 2, total), VG_OK);
        for (int stride = 1; stride < n_leaves; stride *= 2)
            for (int i = 0; i + stride < n_leaves; i += 2 * stride)
                for (int j = 0; j < 2; j++) leaf[i][j] += leaf[i + stride][j];
        assert_memory_equal(total, leaf[0], sizeof total);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_total_has_the_bits_of_the_definition_for_every_leaf_count),
        cmocka_unit_test(an_empty_leaf_counts_as_zeros),
        cmocka_unit_test(large_totals_are_exchanged_in_rounds),
        cmocka_unit_test(a_swapped_pair_of_leaves_shows_in_the_bits),
        cmocka_unit_test(more_ranks_than_leaves_are_refused_with_the_largest_number),
        cmocka_unit_test(padding_that_no_leaf_wrote_is_zero_in_the_total),
        cmocka_unit_test(losses_follow_the_same_tree_in_fp64),
    };
    return mpi_run("reduce", tests, sizeof tests / sizeof *tests, &comm);
}
