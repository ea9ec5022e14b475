/* Orders: bijections for every size, keyed, and near enough to uniform. */
#include "data/sampler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void assert_bijection(uint64_t key, int64_t n)
{
    static bool seen[5000];
    memset(seen, 0, sizeof seen);
    for (int64_t i = 0; i < n; i++) {
        const int64_t x = vg_permute(key, n, i);
        assert_true(x >= 0 && x < n);
        assert_false(seen[x]);
        seen[x] = true;
    }
}

static void every_size_gives_a_bijection(void **state)
{
    (void)state;
    for (int64_t n = 1; n <= 70; n++)
        for (uint64_t key = 0; key < 8; key++) assert_bijection(key * 0x9E3779B97F4A7C15u, n);
    assert_bijection(1, 4095);
    assert_bijection(2, 4096);
    assert_bijection(3, 4097);
}

static void a_very_large_set_stays_in_range(void **state)
{
    (void)state;
    const int64_t sizes[] = {INT64_C(1) << 40, (INT64_C(1) << 40) + 1, INT64_MAX};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int64_t i = 0; i < 100; i++) {
            const int64_t x = vg_permute(7, sizes[k], sizes[k] - 1 - i);
            assert_true(x >= 0 && x < sizes[k]);
        }
}

/* All orders of four things over many keys: chi square with 23 degrees of freedom exceeds 60 once in 30 000 keys. */
static void orders_of_four_are_equally_likely(void **state)
{
    (void)state;
    enum { KEYS = 24000 };
    int counts[256] = {0}, different = 0;
    for (int e = 0; e < KEYS; e++) {
        int code = 0;
        for (int64_t j = 0; j < 4; j++) code = code * 4 + (int)vg_sampler_phrase(5, e, 3, 4, j);
        counts[code]++;
    }
    double chi = 0;
    for (int code = 0; code < 256; code++) {
        if (!counts[code]) continue;
        different++;
        chi += (counts[code] - KEYS / 24.0) * (counts[code] - KEYS / 24.0) / (KEYS / 24.0);
    }
    assert_int_equal(different, 24);
    assert_true(chi < 60);
}

static void positions_have_no_seams(void **state)
{
    (void)state;
    enum { N = 11 };
    for (int64_t epoch = 0; epoch < 20; epoch++) {
        bool seen[N] = {false};
        for (int64_t i = 0; i < N; i++) {
            const vg_place place = vg_sampler_place(3, N, epoch * N + i);
            assert_int_equal(place.epoch, epoch);
            assert_false(seen[place.sample]);
            seen[place.sample] = true;
        }
    }
}

/* Every block holds each set as often as it weighs, and each set's positions come once, in the order of blocks. */
static void a_mix_keeps_its_shares_in_every_block(void **state)
{
    (void)state;
    const int weights[] = {3, 0, 1, 4};
    int different = 0;
    int64_t before[8] = {0};
    for (int64_t block = 0; block < 200; block++) {
        bool seen[4][8] = {{false}};
        for (int64_t i = 0; i < 8; i++) {
            const vg_mixed m = vg_sampler_mix(9, weights, 4, block * 8 + i);
            const int64_t place = m.position - block * weights[m.set];
            assert_true(place >= 0 && place < weights[m.set]);
            assert_false(seen[m.set][place]);
            seen[m.set][place] = true;
            different += block > 0 && before[i] != m.set;
            before[i] = m.set;
        }
    }
    assert_true(different > 600); /* of 1592, were the blocks' orders independent: 1 - (9 + 1 + 16) / 64 of them */
    const int alone[] = {0, 2};
    for (int64_t p = 0; p < 50; p++) {
        const vg_mixed m = vg_sampler_mix(9, alone, 2, p);
        assert_int_equal(m.set, 1);
        assert_int_equal(m.position / 2, p / 2);
    }
}

/* How many of the first n positions hold the same sample in both. */
static int agreements(uint64_t seed_a, int64_t epoch_a, uint64_t seed_b, int64_t epoch_b, int64_t n)
{
    int same = 0;
    for (int64_t i = 0; i < n; i++)
        same +=
            vg_sampler_place(seed_a, n, epoch_a * n + i).sample == vg_sampler_place(seed_b, n, epoch_b * n + i).sample;
    return same;
}

/* Two independent orders agree in one place on average; 8 or more happen once in 100 000 times. */
static void seeds_and_epochs_give_different_orders(void **state)
{
    (void)state;
    assert_int_equal(agreements(1, 0, 1, 0, 1000), 1000);
    assert_in_range(agreements(1, 0, 2, 0, 1000), 0, 7);
    assert_in_range(agreements(1, 0, 1, 1, 1000), 0, 7);
    assert_in_range(agreements(1, 4, 1, 5, 1000), 0, 7);
}

/* A run that is resumed by another build must go on in the same order. */
static void the_order_never_changes_between_builds(void **state)
{
    (void)state;
    const int64_t expected[] = {784, 460, 904, 317, 30, 95};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_int_equal(vg_sampler_place(42, 1000, (int64_t)i).sample, expected[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_gives_a_bijection),
        cmocka_unit_test(a_very_large_set_stays_in_range),
        cmocka_unit_test(orders_of_four_are_equally_likely),
        cmocka_unit_test(positions_have_no_seams),
        cmocka_unit_test(a_mix_keeps_its_shares_in_every_block),
        cmocka_unit_test(seeds_and_epochs_give_different_orders),
        cmocka_unit_test(the_order_never_changes_between_builds),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
