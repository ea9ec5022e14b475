/* The canonical sum over device memory has the bits of its definition on any number of ranks, in buckets and slices. */
#include "device_group_test.h"
#include "leaf_test.h"
#include "mpi_test.h"

static ranks all;

static const int leaf_counts[] = {1, 2, 3, 5, 8, 12};
enum { N_LEAF_COUNTS = 6, BLOCK = 1024, N = 9 * BLOCK };

static const int64_t one_bucket[] = {N}, buckets[] = {BLOCK, 6 * BLOCK, 6 * BLOCK, N};

typedef struct bench {
    vg_device_reducer *reducer;
    vg_arena memory;
    vg_sum_plan plan;
    float *leaf, *total; /* [n] of the host */
} bench;

static bench open_bench(vg_sum_plan plan)
{
    bench b = {.plan = plan, .leaf = vg_new0_array(N, sizeof(float)), .total = vg_new0_array(N, sizeof(float))};
    size_t bytes;
    assert_int_equal(vg_device_reducer_bytes(all.group, &plan, &bytes), VG_OK);
    assert_int_equal(all.backend->device->allocate(&all.compute, bytes, &b.memory), VG_OK);
    assert_int_equal(vg_device_reducer_new(all.group, &plan, b.memory.base, &b.reducer), VG_OK);
    return b;
}

static void close_bench(bench *b)
{
    vg_device_reducer_free(b->reducer);
    all.backend->device->release(&all.compute, &b->memory);
    free(b->leaf);
    free(b->total);
}

static vg_sum_plan plan_of(int n_leaves, bool several)
{
    return (vg_sum_plan){
        .n = N, .n_leaves = n_leaves, .n_buckets = several ? 4 : 1, .bucket_ends = several ? buckets : one_bucket};
}

/* A leaf arrives piece by piece, as backward would write it. */
static void write_leaf(bench *b, int leaf, int step)
{
    enum { PIECE = 2 * BLOCK };
    float *to = vg_device_reducer_leaf(b->reducer);
    fill_leaf(b->leaf, N, leaf, step);
    for (int64_t at = 0; at < N; at += PIECE) {
        const int64_t n = N - at < PIECE ? N - at : PIECE;
        assert_int_equal(all.backend->device->upload(&all.compute, to + at, b->leaf + at, (size_t)n * sizeof(float)),
                         VG_OK);
        assert_int_equal(vg_device_reducer_complete(b->reducer, at + n), VG_OK);
    }
    assert_int_equal(all.backend->device->wait(&all.compute), VG_OK); /* b->leaf is used again */
}

static void download(void *to, const void *from, size_t bytes)
{
    assert_int_equal(all.backend->device->download(&all.compute, to, from, bytes), VG_OK);
    assert_int_equal(vg_device_group_wait(all.group), VG_OK);
    assert_int_equal(all.backend->device->wait(&all.compute), VG_OK);
}

/* The device's total after a step; leaf number `as[i]` stands at place i where `as` is given. */
static float *run_step(bench *b, int step, int empty, const int *as)
{
    int first, count;
    float *total;
    vg_device_reducer_leaves(b->reducer, &first, &count);
    for (int i = first; i < first + count; i++) {
        if (i != empty) write_leaf(b, as ? as[i] : i, step);
        assert_int_equal(vg_device_reducer_push(b->reducer, i == empty), VG_OK);
    }
    assert_int_equal(vg_device_reducer_finish(b->reducer, &total), VG_OK);
    return total;
}

static void assert_total(bench *b, const float *total, int step, int empty)
{
    float *expected = expected_total(b->plan.n_leaves, N, step, empty, false);
    download(b->total, total, N * sizeof(float));
    assert_memory_equal(b->total, expected, N * sizeof(float));
    free(expected);
}

static void the_total_has_the_bits_of_the_definition_for_every_leaf_count(void **state)
{
    (void)state;
    for (int k = 0; k < 2 * N_LEAF_COUNTS; k++) {
        const int n_leaves = leaf_counts[k / 2];
        if (n_leaves < vg_comm_size(all.comm)) continue;
        bench b = open_bench(plan_of(n_leaves, k % 2));
        for (int step = 0; step < 2; step++) /* buffers are used again */
            assert_total(&b, run_step(&b, step, -1, NULL), step, -1);
        close_bench(&b);
    }
}

static void an_empty_leaf_counts_as_zeros(void **state)
{
    (void)state;
    for (int empty = 9; empty < 12; empty++) {
        bench b = open_bench(plan_of(12, true));
        run_step(&b, 0, -1, NULL); /* leaves something behind in every buffer */
        assert_total(&b, run_step(&b, 1, empty, NULL), 1, empty);
        close_bench(&b);
    }
}

/* The memory is zeroed by the stream that computes, and the ranks' first messages follow on the other. */
static void padding_that_is_left_alone_is_zero_in_the_total(void **state)
{
    (void)state;
    for (int several = 0; several < 2; several++) {
        bench b = open_bench(plan_of(12, several));
        int first, count;
        float *total;
        vg_device_reducer_leaves(b.reducer, &first, &count);
        for (int i = 0; i < count; i++) assert_int_equal(vg_device_reducer_push(b.reducer, false), VG_OK);
        assert_int_equal(vg_device_reducer_finish(b.reducer, &total), VG_OK);
        download(b.total, total, N * sizeof(float));
        for (int j = 0; j < N; j++) assert_true(b.total[j] == 0);
        close_bench(&b);
    }
}

/* What the exchange stream had to do is done when the group was waited for; the other stream has no part in it. */
static void waiting_for_the_group_waits_for_its_messages(void **state)
{
    (void)state;
    const vg_device_ops *d = all.backend->device;
    vg_arena from, to;
    if (vg_comm_size(all.comm) == 1) return; /* nobody to send anything */
    assert_int_equal(d->allocate_staging(&all.compute, N * sizeof(float), &to), VG_OK);
    assert_int_equal(d->allocate(&all.compute, N * sizeof(float), &from), VG_OK);
    assert_int_equal(d->wait(&all.compute), VG_OK);
    memset(to.base, 1, N * sizeof(float));
    assert_int_equal(d->download(&all.exchange, to.base, from.base, N * sizeof(float)), VG_OK);
    assert_int_equal(vg_device_group_wait(all.group), VG_OK);
    for (size_t j = 0; j < N * sizeof(float); j++) assert_int_equal(to.base[j], 0);
    d->release(&all.compute, &from);
    d->release_staging(&all.compute, &to);
}

static void two_leaves_in_each_others_place_show_in_the_bits(void **state)
{
    (void)state; /* else the tests above could not fail */
    const int as[] = {2, 1, 0, 3, 4, 5, 6, 7};
    bench b = open_bench(plan_of(8, true));
    float *right = expected_total(8, N, 0, -1, false);
    download(b.total, run_step(&b, 0, -1, as), N * sizeof(float));
    assert_memory_not_equal(b.total, right, N * sizeof(float));
    free(right);
    close_bench(&b);
}

static void slices_of_all_ranks_make_the_whole(void **state)
{
    (void)state;
    vg_sum_plan plan = plan_of(12, true);
    plan.sliced = true;
    bench b = open_bench(plan);
    vg_arena copy;
    assert_int_equal(all.backend->device->allocate(&all.compute, N * sizeof(float), &copy), VG_OK);
    float *total = run_step(&b, 0, -1, NULL), *mine = (float *)(void *)copy.base;
    int64_t own = 0;
    for (int bucket = 0; bucket < plan.n_buckets; bucket++) {
        int64_t first, count;
        vg_device_reducer_slice(b.reducer, bucket, &first, &count);
        own += count;
        assert_int_equal(
            all.backend->device->copy(&all.compute, mine + first, total + first, (size_t)count * sizeof(float)), VG_OK);
    }
    assert_true(own < N || vg_comm_size(all.comm) == 1);
    assert_int_equal(vg_device_reducer_gather(b.reducer, mine, BLOCK), VG_OK);
    assert_total(&b, mine, 0, -1);
    all.backend->device->release(&all.compute, &copy);
    close_bench(&b);
}

/* Whole numbers: their sum is exact in any order. */
static void the_librarys_sum_is_the_same_number(void **state)
{
    (void)state;
    vg_sum_plan plan = plan_of(7, true);
    plan.fast = true;
    bench b = open_bench(plan);
    int first, count;
    float *total;
    vg_device_reducer_leaves(b.reducer, &first, &count);
    for (int i = first; i < first + count; i++) {
        for (int j = 0; j < N; j++) b.leaf[j] = (float)(i * 3 + j % 100);
        assert_int_equal(
            all.backend->device->upload(&all.compute, vg_device_reducer_leaf(b.reducer), b.leaf, N * sizeof(float)),
            VG_OK);
        assert_int_equal(all.backend->device->wait(&all.compute), VG_OK);
        assert_int_equal(vg_device_reducer_push(b.reducer, false), VG_OK);
    }
    assert_int_equal(vg_device_reducer_finish(b.reducer, &total), VG_OK);
    download(b.total, total, N * sizeof(float));
    for (int j = 0; j < N; j++) assert_true(b.total[j] == (float)(63 + 7 * (j % 100)));
    close_bench(&b);
}

/* Which a rank alone can tell, before there is a group. */
static void the_forecast_of_memory_is_what_the_fullest_rank_needs(void **state)
{
    (void)state;
    for (int k = 0; k < 2 * N_LEAF_COUNTS; k++) {
        const vg_sum_plan plan = plan_of(leaf_counts[k / 2], k % 2);
        size_t needed, forecast;
        if (plan.n_leaves < vg_comm_size(all.comm)) continue;
        assert_int_equal(vg_device_reducer_bytes(all.group, &plan, &needed), VG_OK);
        assert_int_equal(vg_device_sum_bytes(&plan, vg_comm_size(all.comm), vg_comm_local_size(all.comm), &forecast),
                         VG_OK);
        if (vg_comm_rank(all.comm) == 0) assert_int_equal(forecast, needed);
    }
}

static void more_ranks_than_leaves_are_refused_with_the_largest_number(void **state)
{
    (void)state;
    if (vg_comm_size(all.comm) < 3) return;
    const vg_sum_plan plan = plan_of(2, false);
    size_t bytes;
    assert_int_equal(vg_device_reducer_bytes(all.group, &plan, &bytes), VG_E_CONFIG);
    assert_non_null(strstr(vg_error_text(), "at most 2 ranks"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_total_has_the_bits_of_the_definition_for_every_leaf_count),
        cmocka_unit_test(an_empty_leaf_counts_as_zeros),
        cmocka_unit_test(padding_that_is_left_alone_is_zero_in_the_total),
        cmocka_unit_test(waiting_for_the_group_waits_for_its_messages),
        cmocka_unit_test(two_leaves_in_each_others_place_show_in_the_bits),
        cmocka_unit_test(slices_of_all_ranks_make_the_whole),
        cmocka_unit_test(the_librarys_sum_is_the_same_number),
        cmocka_unit_test(the_forecast_of_memory_is_what_the_fullest_rank_needs),
        cmocka_unit_test(more_ranks_than_leaves_are_refused_with_the_largest_number),
    };
    if (open_ranks(&all, 60) != VG_OK) {
        fprintf(stderr, "mpi_device: %s\n", vg_error_text());
        return 1;
    }
    const int failed = cmocka_run_group_tests_name("device", tests, NULL, NULL);
    return close_ranks(&all) == VG_OK ? failed : 1;
}
