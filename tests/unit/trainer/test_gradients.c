/* How the gradients of a model are cut into buckets. */
#include "trainer/gradients.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const double mib = 1 << 20;
static const int64_t mib_floats = 1 << 18;

static void a_bucket_is_a_quarter_of_all_within_bounds(void **state)
{
    const vg_options o = {0};
    (void)state;
    assert_true(vg_bucket_bytes(&o, 8 * mib_floats) == 2 * mib);
    assert_true(vg_bucket_bytes(&o, mib_floats) == mib);
    assert_true(vg_bucket_bytes(&o, 400 * mib_floats) == 16 * mib);
}

static void four_buckets_are_enough_where_blocks_do_not_divide_by_four(void **state)
{
    const vg_options o = {0};
    const int64_t n = 8 * mib_floats + 1024;
    (void)state;
    assert_true(4 * vg_bucket_bytes(&o, n) >= (double)n * sizeof(float));
}

static void a_size_that_is_given_counts(void **state)
{
    const vg_options o = {.train_bucket_mb = 0.5};
    (void)state;
    assert_true(vg_bucket_bytes(&o, 8 * mib_floats) == mib / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_is_a_quarter_of_all_within_bounds),
        cmocka_unit_test(four_buckets_are_enough_where_blocks_do_not_divide_by_four),
        cmocka_unit_test(a_size_that_is_given_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
