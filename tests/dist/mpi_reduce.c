/* The canonical sum has the same bits on any number of ranks, in one host or several, in one bucket or several. */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include "dist/reduce.h"
#include "leaf_test.h"
#include "mpi_test.h"

#include <math.h>
#include <time.h>

static vg_comm *comm;

static const int leaf_counts[] = {1, 2, 3, 5, 8, 12, 16};
enum { N_LEAF_COUNTS = 7, N = 20 * 1024 + 37, BIG = 3 << 19, LONG = 1 << 18 };

static const int64_t one_bucket[] = {N}, buckets[] = {1024, 6 * 1024, 6 * 1024, N}, one_big[] = {BIG},
                     big[] = {1024, 1 << 20, BIG}, long_ends[] = {1024, 1 << 17, LONG};

static vg_sum_plan plan_of(int n_leaves, bool several)
{
    return (vg_sum_plan){
        .n = N, .n_leaves = n_leaves, .n_buckets = several ? 4 : 1, .bucket_ends = several ? buckets : one_bucket};
}

static vg_reducer *reducer_of(const vg_sum_plan *plan)
{
    vg_reducer *r = NULL;
    assert_int_equal(vg_reducer_new(comm, plan, NULL, NULL, &r), VG_OK);
    return r;
}

/* A leaf arrives piece by piece, as backward would write it. */
static void write_leaf(vg_reducer *r, int64_t n, int leaf, int step)
{
    enum { PIECE = 4000 };
    float *to = vg_reducer_leaf(r), *all = vg_new0_array((size_t)n, sizeof *all);
    fill_leaf(all, n, leaf, step);
    for (int64_t done = 0; done < n; done += PIECE) {
        const int64_t end = n - done < PIECE ? n : done + PIECE;
        memcpy(to + done, all + done, (size_t)(end - done) * sizeof *to);
        vg_reducer_complete(r, end);
    }
    free(all);
}

static const float *run_step(vg_reducer *r, int64_t n, int step, int empty)
{
    int first, count;
    const float *total = NULL;
    vg_reducer_leaves(r, &first, &count);
    for (int i = first; i < first + count; i++) {
        if (i != empty) write_leaf(r, n, i, step);
        vg_reducer_push(r, i == empty);
    }
    assert_int_equal(vg_reducer_finish(r, &total), VG_OK);
    return total;
}

static void the_total_has_the_bits_of_the_definition_for_every_leaf_count(void **state)
{
    (void)state;
    for (int k = 0; k < 2 * N_LEAF_COUNTS; k++) {
        const int n_leaves = leaf_counts[k / 2];
        if (n_leaves < vg_comm_size(comm)) continue;
        const vg_sum_plan plan = plan_of(n_leaves, k % 2);
        vg_reducer *r = reducer_of(&plan);
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
    const vg_sum_plan plan = plan_of(n_leaves, true);
    vg_reducer *r = reducer_of(&plan);
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
    float *expected = expected_total(n_leaves, BIG, 0, -1, false);
    for (int several = 0; several < 2; several++) {
        const vg_sum_plan plan = {
            .n = BIG, .n_leaves = n_leaves, .n_buckets = several ? 3 : 1, .bucket_ends = several ? big : one_big};
        vg_reducer *r = reducer_of(&plan);
        assert_memory_equal(run_step(r, BIG, 0, -1), expected, BIG * sizeof(float));
        vg_reducer_free(r);
    }
    free(expected);
}

/* An array of block_floats floats a block of which this rank knows its slices alone; the others' are NAN. */
static float *known_slices(const vg_reducer *r, const vg_sum_plan *plan, const float *all, int64_t block_floats)
{
    const int64_t n = plan->n / 1024 * block_floats;
    float *mine = vg_new0_array((size_t)n, sizeof *mine);
    for (int64_t i = 0; i < n; i++) mine[i] = NAN;
    for (int b = 0; b < plan->n_buckets && vg_reducer_is_sliced(r); b++) {
        int64_t first, count;
        vg_reducer_slice(r, b, &first, &count);
        for (int64_t i = first / 1024 * block_floats; i < (first + count) / 1024 * block_floats; i++) mine[i] = all[i];
    }
    if (!vg_reducer_is_sliced(r)) memcpy(mine, all, (size_t)n * sizeof *mine);
    return mine;
}

/* What ranks know of `all` becomes all of it everywhere. */
static void assert_gathered(vg_reducer *r, const vg_sum_plan *plan, const float *all, int64_t block_floats)
{
    float *array = known_slices(r, plan, all, block_floats);
    assert_int_equal(vg_reducer_gather(r, array, block_floats), VG_OK);
    assert_memory_equal(array, all, (size_t)(plan->n / 1024 * block_floats) * sizeof *array);
    free(array);
}

/* A number of each block first, while the total is needed; then two arrays like it, one behind the other. */
static void assert_slices_make_the_whole(const vg_sum_plan *plan)
{
    vg_reducer *r = reducer_of(plan);
    for (int step = 0; step < 2; step++) {
        float *expected = expected_total(plan->n_leaves, plan->n, step, -1, false);
        const float *total = run_step(r, plan->n, step, -1);
        assert_gathered(r, plan, expected, 2);
        float *mine = known_slices(r, plan, total, 1024), *want = known_slices(r, plan, expected, 1024);
        assert_memory_equal(mine, want, (size_t)plan->n * sizeof *mine);
        assert_gathered(r, plan, expected, 1024);
        assert_int_equal(vg_reducer_gather(r, mine, 1024), VG_OK);
        assert_memory_equal(mine, expected, (size_t)plan->n * sizeof *mine);
        fill_leaf(mine, plan->n, 3, step);
        assert_gathered(r, plan, mine, 1024);
        free(mine);
        free(want);
        free(expected);
    }
    vg_reducer_free(r);
}

static void slices_of_all_ranks_make_the_whole(void **state)
{
    (void)state;
    static const int64_t ends[] = {1024, 6 * 1024, 6 * 1024, 20 * 1024};
    for (int k = 0; k < N_LEAF_COUNTS; k++) {
        const vg_sum_plan plan = {
            .n = 20 * 1024, .n_leaves = leaf_counts[k], .n_buckets = 4, .bucket_ends = ends, .sliced = true};
        if (plan.n_leaves >= vg_comm_size(comm)) assert_slices_make_the_whole(&plan);
    }
    assert_slices_make_the_whole(
        &(vg_sum_plan){.n = LONG, .n_leaves = 8, .n_buckets = 3, .bucket_ends = long_ends, .sliced = true});
}

/* In a slice of a whole, so that no rank has what is another's to know. */
static void every_block_has_one_owner(void **state)
{
    (void)state;
    const vg_sum_plan plan = {.n = LONG, .n_leaves = 8, .n_buckets = 3, .bucket_ends = long_ends, .sliced = true};
    vg_reducer *r = reducer_of(&plan);
    int64_t *owners = vg_new0_array(LONG / 1024, sizeof *owners), own = 0, most;
    const int n_slices = vg_reducer_is_sliced(r) ? plan.n_buckets : 0;
    assert_int_equal(n_slices > 0, vg_comm_size(comm) > 1);
    for (int b = 0; b < n_slices; b++) {
        int64_t first, count;
        vg_reducer_slice(r, b, &first, &count);
        own += count;
        for (int64_t i = first / 1024; i < (first + count) / 1024; i++) owners[i]++;
    }
    assert_int_equal(vg_comm_sum_i64(comm, owners, LONG / 1024), VG_OK);
    for (int i = 0; i < LONG / 1024 && n_slices; i++) assert_int_equal(owners[i], 1);
    most = own;
    assert_int_equal(vg_comm_max_i64(comm, &most, 1), VG_OK);
    if (vg_comm_local_size(comm) == vg_comm_size(comm)) /* all of a host have as much, to a block of each bucket */
        assert_true(most <= own + plan.n_buckets * 1024);
    free(owners);
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
    const vg_sum_plan plan = plan_of(2, false);
    vg_reducer *r = NULL;
    assert_int_equal(vg_reducer_new(comm, &plan, NULL, NULL, &r), VG_E_CONFIG);
    assert_null(r);
    assert_non_null(strstr(vg_error_text(), "at most 2 ranks"));
}

static void padding_that_no_leaf_wrote_is_zero_in_the_total(void **state)
{
    (void)state;
    const int n_leaves = 12;
    const vg_sum_plan plan = plan_of(n_leaves, true);
    vg_reducer *r = reducer_of(&plan);
    const float *total = run_step(r, N - 37, 0, -1);
    for (int i = 0; i < 37; i++) assert_true(total[N - 37 + i] == 0);
    vg_reducer_free(r);
}

/* Whether bucket 2 came to its end while this rank computed on for so long, without a call of the group. */
static int64_t ended_meanwhile(vg_reducer *r, double seconds)
{
    const float *total = NULL;
    double start_s, end_s;
    const struct timespec more = {.tv_nsec = (long)(1e9 * seconds)};
    fill_leaf(vg_reducer_leaf(r), N, vg_comm_rank(comm), 0);
    vg_reducer_complete(r, 6 * 1024);
    nanosleep(&more, NULL);
    const double backward_end_s = vg_now_s();
    vg_reducer_push(r, false);
    assert_int_equal(vg_reducer_settle(r), VG_OK);
    assert_int_equal(vg_reducer_finish(r, &total), VG_OK);
    vg_reducer_bucket_times(r, 2, &start_s, &end_s);
    return end_s < backward_end_s;
}

static void buckets_are_summed_while_the_last_leaf_is_computed(void **state)
{
    (void)state;
    if (vg_comm_size(comm) == 1) return;
    const vg_sum_plan plan = plan_of(vg_comm_size(comm), true);
    vg_reducer *r = reducer_of(&plan);
    int64_t missed = 1;
    for (double seconds = 0.01; missed && seconds < 1; seconds *= 2) { /* others may want the processor, too */
        missed = !ended_meanwhile(r, seconds);
        assert_int_equal(vg_comm_max_i64(comm, &missed, 1), VG_OK);
    }
    assert_false(missed);
    vg_reducer_free(r);
}

static void a_rank_whose_leaf_failed_lets_nobody_wait(void **state)
{
    (void)state;
    const vg_sum_plan plan = plan_of(12, true);
    vg_reducer *r = reducer_of(&plan);
    int first, count;
    vg_reducer_leaves(r, &first, &count);
    for (int i = first; i < first + count && vg_comm_rank(comm) != 0; i++) {
        write_leaf(r, N, i, 0);
        vg_reducer_push(r, false);
    }
    assert_int_equal(vg_reducer_settle(r), VG_OK);
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
        cmocka_unit_test(slices_of_all_ranks_make_the_whole),
        cmocka_unit_test(every_block_has_one_owner),
        cmocka_unit_test(a_swapped_pair_of_leaves_shows_in_the_bits),
        cmocka_unit_test(more_ranks_than_leaves_are_refused_with_the_largest_number),
        cmocka_unit_test(padding_that_no_leaf_wrote_is_zero_in_the_total),
        cmocka_unit_test(buckets_are_summed_while_the_last_leaf_is_computed),
        cmocka_unit_test(a_rank_whose_leaf_failed_lets_nobody_wait),
        cmocka_unit_test(losses_follow_the_same_tree_in_fp64),
    };
    return mpi_run("reduce", tests, sizeof tests / sizeof *tests, &comm);
}
