/* The matcher against trying every assignment. */
#define _DEFAULT_SOURCE /* setenv */
#include "kernels/cpu/matcher_impl.h"
#include "tests/unit/kernels/kernel_test.h"

enum { LARGEST = 6 };

/* Least total cost of matching queries from `q` on; `free_targets` are those still open, `left` pairs are to be made.
 */
static double brute_force(const float *cost, int n_queries, int n_targets, int q, unsigned free_targets, int left)
{
    if (left == 0) return 0;
    if (n_queries - q < left) return INFINITY;
    double best = brute_force(cost, n_queries, n_targets, q + 1, free_targets, left);
    for (int t = 0; t < n_targets; t++) {
        if (!(free_targets >> t & 1)) continue;
        const double rest = brute_force(cost, n_queries, n_targets, q + 1, free_targets & ~(1u << t), left - 1);
        best = fmin(best, (double)cost[q * n_targets + t] + rest);
    }
    return best;
}

static void match(const float *cost, int n_queries, int n_targets, int32_t *out)
{
    void *scratch = aligned_alloc(64, vg_match_scratch_bytes(n_queries, n_targets));
    memset(scratch, 0xff, vg_match_scratch_bytes(n_queries, n_targets));
    vg_match(cost, n_queries, n_targets, out, scratch);
    free(scratch);
}

/* Total cost of a match, after checking that it is one-to-one and has min(Q, T) pairs. */
static double total_of(const float *cost, int n_queries, int n_targets, const int32_t *matched)
{
    double total = 0;
    unsigned used = 0;
    int pairs = 0;
    for (int q = 0; q < n_queries; q++) {
        if (matched[q] < 0) continue;
        assert_true(matched[q] < n_targets && !(used >> matched[q] & 1));
        used |= 1u << matched[q];
        total += (double)cost[q * n_targets + matched[q]];
        pairs++;
    }
    assert_int_equal(pairs, n_queries < n_targets ? n_queries : n_targets);
    return total;
}

static void the_total_cost_is_the_least_there_is(void **state)
{
    (void)state;
    for (uint32_t trial = 0; trial < 600; trial++) {
        const int n_queries = 1 + (int)(random_word(1, trial) % LARGEST);
        const int n_targets = 1 + (int)(random_word(2, trial) % LARGEST);
        float cost[LARGEST * LARGEST];
        int32_t matched[LARGEST];
        vg_fill_uniform(cost, LARGEST * LARGEST, vg_rng_key_of(3, trial), -5, 5);
        if (trial % 3 == 0) /* many ties */
            for (int i = 0; i < LARGEST * LARGEST; i++) cost[i] = floorf(cost[i] / 3);
        match(cost, n_queries, n_targets, matched);
        const int pairs = n_queries < n_targets ? n_queries : n_targets;
        const double best = brute_force(cost, n_queries, n_targets, 0, (1u << n_targets) - 1, pairs);
        assert_near(total_of(cost, n_queries, n_targets, matched), best, 1e-9);
    }
}

static void one_target_takes_the_lowest_of_equal_queries(void **state)
{
    (void)state;
    const float cost[5] = {3, 1, 2, 1, 1};
    int32_t matched[5];
    match(cost, 5, 1, matched);
    for (int q = 0; q < 5; q++) assert_int_equal(matched[q], q == 1 ? 0 : -1);
}

static void no_target_matches_nothing(void **state)
{
    (void)state;
    int32_t matched[4] = {7, 7, 7, 7};
    vg_match(NULL, 4, 0, matched, NULL);
    for (int q = 0; q < 4; q++) assert_int_equal(matched[q], -1);
}

static void equal_costs_pair_in_index_order(void **state)
{
    (void)state;
    const float cost[4 * 4] = {0};
    int32_t matched[4];
    match(cost, 4, 3, matched);
    for (int q = 0; q < 4; q++) assert_int_equal(matched[q], q < 3 ? q : -1);
    match(cost, 3, 4, matched);
    for (int q = 0; q < 3; q++) assert_int_equal(matched[q], q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_total_cost_is_the_least_there_is),
        cmocka_unit_test(one_target_takes_the_lowest_of_equal_queries),
        cmocka_unit_test(no_target_matches_nothing),
        cmocka_unit_test(equal_costs_pair_in_index_order),
    };
    return cmocka_run_group_tests_name("matcher", tests, NULL, NULL);
}
