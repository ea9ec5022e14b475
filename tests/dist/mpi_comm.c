/* The process group under a launcher. */
#include "mpi_test.h"

static vg_comm *comm;

static void everyone_knows_the_same_group(void **state)
{
    (void)state;
    const int size = vg_comm_size(comm), rank = vg_comm_rank(comm);
    assert_in_range(rank, 0, size - 1);
    int *ranks = vg_new0_array((size_t)size, sizeof *ranks);
    assert_int_equal(vg_comm_allgather(comm, &rank, sizeof rank, ranks), VG_OK);
    for (int r = 0; r < size; r++) assert_int_equal(ranks[r], r);
    assert_in_range(vg_comm_local_rank(comm), 0, vg_comm_local_size(comm) - 1);
    assert_in_range(vg_comm_place(comm), vg_comm_local_rank(comm), size - 1);
    assert_true(strlen(vg_comm_host(comm)) > 0);
    free(ranks);
}

static void integers_are_summed_and_compared_over_all_ranks(void **state)
{
    (void)state;
    const int64_t size = vg_comm_size(comm), rank = vg_comm_rank(comm), big = (int64_t)1 << 40;
    int64_t x[2] = {rank, big}, y[2] = {rank, -rank};
    assert_int_equal(vg_comm_sum_i64(comm, x, 2), VG_OK);
    assert_int_equal(x[0], size * (size - 1) / 2);
    assert_int_equal(x[1], size * big);
    assert_int_equal(vg_comm_max_i64(comm, y, 2), VG_OK);
    assert_int_equal(y[0], size - 1);
    assert_int_equal(y[1], 0);
}

static void a_broadcast_reaches_everyone(void **state)
{
    (void)state;
    const int root = vg_comm_size(comm) - 1;
    char word[8] = "";
    if (vg_comm_rank(comm) == root) strcpy(word, "hello");
    assert_int_equal(vg_comm_broadcast(comm, word, sizeof word, root), VG_OK);
    assert_string_equal(word, "hello");
    char *text = vg_comm_rank(comm) == root ? vg_copy_string("a longer text") : NULL;
    assert_int_equal(vg_comm_broadcast_text(comm, &text, root), VG_OK);
    assert_string_equal(text, "a longer text");
    free(text);
    text = NULL;
    assert_int_equal(vg_comm_broadcast_text(comm, &text, 0), VG_OK);
    assert_null(text);
}

static void texts_of_different_length_are_joined_in_rank_order(void **state)
{
    (void)state;
    char mine[16] = "", *all = NULL;
    size_t bytes = 99;
    for (int i = 0; i < vg_comm_rank(comm); i++) mine[i] = (char)('0' + vg_comm_rank(comm));
    assert_int_equal(vg_comm_gather_text(comm, mine, strlen(mine), &all, &bytes), VG_OK);
    if (vg_comm_rank(comm) == 0) {
        const char *expected[] = {"", "1", "122", "122333"};
        assert_string_equal(all, expected[vg_comm_size(comm) - 1]);
        assert_int_equal(bytes, strlen(all));
    } else {
        assert_null(all);
        assert_int_equal(bytes, 0);
    }
    free(all);
}

static void all_ranks_leave_with_the_failure_of_one(void **state)
{
    (void)state;
    const int last = vg_comm_size(comm) - 1;
    vg_status st = vg_comm_rank(comm) == last ? vg_fail(VG_E_DATA, "shard 7 is torn") : VG_OK;
    assert_int_equal(vg_comm_agree(comm, st), VG_E_DATA);
    assert_non_null(strstr(vg_error_text(), "shard 7 is torn"));
    if (last == 0) return;
    char who[32];
    snprintf(who, sizeof who, "rank %d on ", last);
    assert_int_equal(strncmp(vg_error_text(), who, strlen(who)), 0);
    char sentence[256];
    snprintf(sentence, sizeof sentence, "%s", vg_error_text());
    assert_int_equal(vg_comm_agree(comm, VG_E_DATA), VG_E_DATA); /* agreed again on the way up: said once */
    assert_string_equal(vg_error_text(), sentence);
}

static void a_failure_outweighs_a_stop_request(void **state)
{
    (void)state;
    const int rank = vg_comm_rank(comm), last = vg_comm_size(comm) - 1;
    vg_status st = rank == last ? vg_fail(VG_E_STORAGE, "disk full") : vg_fail(VG_E_STOPPED, "asked to stop");
    assert_int_equal(vg_comm_agree(comm, st), VG_E_STORAGE);
    st = rank == 0 ? vg_fail(VG_E_STOPPED, "asked to stop") : VG_OK;
    assert_int_equal(vg_comm_agree(comm, st), VG_E_STOPPED);
    assert_int_equal(vg_comm_agree(comm, VG_OK), VG_OK);
}

static void a_rank_that_differs_is_named_everywhere(void **state)
{
    (void)state;
    const int last = vg_comm_size(comm) - 1;
    const char *profile = "avx512", *other = vg_comm_rank(comm) == last && last > 0 ? "avx2" : "avx512";
    assert_int_equal(vg_comm_same(comm, profile, strlen(profile), "numerics profile"), VG_OK);
    const vg_status st = vg_comm_same(comm, other, strlen(other), "numerics profile");
    assert_int_equal(st, last > 0 ? VG_E_COMM : VG_OK);
    if (last == 0) return;
    char who[32];
    snprintf(who, sizeof who, "rank %d on ", last);
    assert_non_null(strstr(vg_error_text(), who));
    assert_non_null(strstr(vg_error_text(), "numerics profile"));
}

static void gathering_touches_only_the_root(void **state)
{
    (void)state;
    int64_t all[8] = {-1, -1, -1, -1, -1, -1, -1, -1}, mine = 10 + vg_comm_rank(comm);
    assert_int_equal(vg_comm_gather(comm, &mine, sizeof mine, all), VG_OK);
    for (int r = 0; r < vg_comm_size(comm); r++) assert_int_equal(all[r], vg_comm_rank(comm) == 0 ? 10 + r : -1);
    assert_int_equal(vg_comm_barrier(comm), VG_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everyone_knows_the_same_group),
        cmocka_unit_test(integers_are_summed_and_compared_over_all_ranks),
        cmocka_unit_test(a_broadcast_reaches_everyone),
        cmocka_unit_test(texts_of_different_length_are_joined_in_rank_order),
        cmocka_unit_test(all_ranks_leave_with_the_failure_of_one),
        cmocka_unit_test(a_failure_outweighs_a_stop_request),
        cmocka_unit_test(a_rank_that_differs_is_named_everywhere),
        cmocka_unit_test(gathering_touches_only_the_root),
    };
    return mpi_run("comm", tests, sizeof tests / sizeof *tests, &comm);
}
