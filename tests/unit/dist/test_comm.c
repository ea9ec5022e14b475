/* A process that no launcher started is a group of one, with the same calls. What agreement makes of a group that fails
 * is seen on one whose calls are this file's. */
#define _DEFAULT_SOURCE /* setenv */
#include "dist/comm_impl.h"
#include "dist/reduce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int open_alone(void **state)
{
    unsetenv("OMPI_COMM_WORLD_SIZE");
    unsetenv("PMI_RANK");
    unsetenv("PMIX_RANK");
    return vg_comm_open((vg_comm **)state) == VG_OK ? 0 : -1;
}

static int close_alone(void **state)
{
    return vg_comm_close(*state) == VG_OK ? 0 : -1;
}

static void collectives_of_one_give_back_what_came(void **state)
{
    vg_comm *comm = *state;
    int64_t x[2] = {5, -7}, all = 0;
    assert_int_equal(vg_comm_size(comm), 1);
    assert_int_equal(vg_comm_rank(comm), 0);
    assert_int_equal(vg_comm_local_size(comm), 1);
    assert_int_equal(vg_comm_sum_i64(comm, x, 2), VG_OK);
    assert_int_equal(vg_comm_max_i64(comm, x, 2), VG_OK);
    assert_true(x[0] == 5 && x[1] == -7);
    assert_int_equal(vg_comm_gather(comm, x, sizeof *x, &all), VG_OK);
    assert_int_equal(all, 5);
    char *text = NULL;
    size_t bytes;
    assert_int_equal(vg_comm_gather_text(comm, "abc", 3, &text, &bytes), VG_OK);
    assert_string_equal(text, "abc");
    assert_int_equal(bytes, 3);
    free(text);
    assert_int_equal(vg_comm_same(comm, "p", 1, "profile"), VG_OK);
    assert_int_equal(vg_comm_barrier(comm), VG_OK);
}

static void a_failure_keeps_its_own_sentence(void **state)
{
    assert_int_equal(vg_comm_agree(*state, vg_fail(VG_E_DATA, "torn")), VG_E_DATA);
    assert_string_equal(vg_error_text(), "torn");
    assert_int_equal(vg_comm_agree(*state, VG_OK), VG_OK);
}

/* ---- a group of two that fails ---- */

static vg_status lost_in_reduction(vg_comm *comm, int64_t *x, int n, bool largest)
{
    (void)comm, (void)x, (void)n, (void)largest;
    return vg_fail(VG_E_COMM, "the other rank is gone");
}

/* This rank's own key is the largest: the other one came with no failure. */
static vg_status whole_reduction(vg_comm *comm, int64_t *x, int n, bool largest)
{
    (void)comm, (void)x, (void)n, (void)largest;
    return VG_OK;
}

static vg_status lost_in_broadcast(vg_comm *comm, void *data, size_t bytes, int root)
{
    (void)comm, (void)data, (void)bytes, (void)root;
    return vg_fail(VG_E_COMM, "the other rank is gone");
}

static const vg_comm_ops lost_first = {.reduce_i64 = lost_in_reduction, .broadcast = lost_in_broadcast};
static const vg_comm_ops lost_later = {.reduce_i64 = whole_reduction, .broadcast = lost_in_broadcast};

static void where_the_group_fails_a_rank_that_failed_before_keeps_its_sentence(void **state)
{
    (void)state;
    const vg_comm_ops *const groups[] = {&lost_first, &lost_later};
    for (int i = 0; i < 2; i++) {
        vg_comm comm = {.ops = groups[i], .rank = 1, .size = 2, .host = "node7"};
        assert_int_equal(vg_comm_agree(&comm, vg_fail(VG_E_DATA, "torn")), VG_E_COMM);
        assert_string_equal(vg_error_text(), "rank 1 on node7: torn");
        assert_int_equal(vg_comm_agree(&comm, vg_fail(VG_E_STOPPED, "asked to stop")), VG_E_COMM);
        assert_string_equal(vg_error_text(), "the other rank is gone"); /* a request is no reason */
    }
    vg_comm comm = {.ops = &lost_first, .rank = 1, .size = 2};
    assert_int_equal(vg_comm_agree(&comm, VG_OK), VG_E_COMM);
    assert_string_equal(vg_error_text(), "the other rank is gone");
}

static void a_failure_in_a_broken_group_is_told_as_it_is(void **state)
{
    (void)state;
    vg_comm comm = {.ops = &lost_first, .intact = &lost_first, .rank = 1, .size = 2};
    assert_true(vg_comm_broken(&comm));
    assert_int_equal(vg_comm_agree(&comm, vg_fail(VG_E_DATA, "torn")), VG_E_DATA);
    assert_string_equal(vg_error_text(), "torn");
    assert_int_equal(vg_comm_agree(&comm, VG_OK), VG_E_COMM);
}

static void ones_sum(void *context, float *dst, const float *a, const float *b, int64_t n)
{
    ++*(int *)context;
    for (int64_t i = 0; i < n; i++) dst[i] = a[i] + b[i];
}

static void the_callers_sum_joins_each_pair_once(void **state)
{
    int calls = 0;
    vg_reducer *r = NULL;
    const float *total;
    const int64_t end = 3;
    const vg_sum_plan plan = {.n = 3, .n_leaves = 7, .n_buckets = 1, .bucket_ends = &end};
    assert_int_equal(vg_reducer_new(*state, &plan, ones_sum, &calls, &r), VG_OK);
    for (int i = 0; i < 7; i++) {
        float *leaf = vg_reducer_leaf(r);
        for (int j = 0; j < 3; j++) leaf[j] = (float)(i + j);
        vg_reducer_push(r, i == 4);
    }
    assert_int_equal(vg_reducer_finish(r, &total), VG_OK);
    assert_int_equal(calls, 6);
    assert_true(total[0] == 17 && total[1] == 23 && total[2] == 29);
    vg_reducer_free(r);
}

static void a_missing_leaf_is_noticed(void **state)
{
    vg_reducer *r = NULL;
    const float *total = NULL;
    const int64_t end = 3;
    const vg_sum_plan plan = {.n = 3, .n_leaves = 2, .n_buckets = 1, .bucket_ends = &end};
    assert_int_equal(vg_reducer_new(*state, &plan, NULL, NULL, &r), VG_OK);
    vg_reducer_push(r, true);
    assert_int_equal(vg_reducer_finish(r, &total), VG_E_BUG);
    assert_null(total);
    vg_reducer_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collectives_of_one_give_back_what_came),
        cmocka_unit_test(a_failure_keeps_its_own_sentence),
        cmocka_unit_test(where_the_group_fails_a_rank_that_failed_before_keeps_its_sentence),
        cmocka_unit_test(a_failure_in_a_broken_group_is_told_as_it_is),
        cmocka_unit_test(the_callers_sum_joins_each_pair_once),
        cmocka_unit_test(a_missing_leaf_is_noticed),
    };
    return cmocka_run_group_tests_name("comm", tests, open_alone, close_alone);
}
