#include "trainer/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { RANKS = 4 };

static void add_steps(vg_pace *pace, int steps, const int64_t us[RANKS])
{
    for (int s = 0; s < steps; s++)
        for (int rank = 0; rank < RANKS; rank++) vg_pace_add(pace, rank, us[rank], 2);
}

static void the_rank_that_all_wait_for_is_named_once(void **state)
{
    (void)state;
    vg_pace pace;
    vg_slow_rank slow;
    assert_int_equal(vg_pace_init(&pace, RANKS), VG_OK);
    add_steps(&pace, 4, (int64_t[]){1000, 1100, 5000, 900});
    assert_false(vg_pace_slowest(&pace, &slow)); /* too few steps to say */
    add_steps(&pace, 1, (int64_t[]){1000, 1100, 5000, 900});
    assert_true(vg_pace_slowest(&pace, &slow));
    assert_int_equal(slow.rank, 2);
    assert_true(slow.ms > 2.499 && slow.ms < 2.501 && slow.usual_ms > 0.499 && slow.usual_ms < 0.501);
    add_steps(&pace, 5, (int64_t[]){1000, 1100, 5000, 900});
    assert_false(vg_pace_slowest(&pace, &slow)); /* known already */
    add_steps(&pace, 5, (int64_t[]){1000, 1100, 1200, 900});
    assert_false(vg_pace_slowest(&pace, &slow));
    add_steps(&pace, 5, (int64_t[]){1000, 1100, 5000, 900});
    assert_true(vg_pace_slowest(&pace, &slow)); /* again */
    vg_pace_release(&pace);
}

static void usual_unevenness_is_not_slowness(void **state)
{
    (void)state;
    vg_pace pace;
    vg_slow_rank slow;
    assert_int_equal(vg_pace_init(&pace, RANKS), VG_OK);
    add_steps(&pace, 20, (int64_t[]){1000, 2500, 900, 1000});
    assert_false(vg_pace_slowest(&pace, &slow));
    add_steps(&pace, 17, (int64_t[]){1000, 1000, 1000, 1000});
    add_steps(&pace, 3, (int64_t[]){1000, 1000, 1000, 90000}); /* a hiccup */
    assert_false(vg_pace_slowest(&pace, &slow));
    vg_pace_release(&pace);
}

static void micro_batches_are_compared_not_shares(void **state)
{
    (void)state;
    vg_pace pace;
    vg_slow_rank slow;
    assert_int_equal(vg_pace_init(&pace, 2), VG_OK);
    for (int s = 0; s < 5; s++) {
        vg_pace_add(&pace, 0, 4000, 4);
        vg_pace_add(&pace, 1, 1000, 1);
    }
    assert_false(vg_pace_slowest(&pace, &slow));
    vg_pace_release(&pace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rank_that_all_wait_for_is_named_once),
        cmocka_unit_test(usual_unevenness_is_not_slowness),
        cmocka_unit_test(micro_batches_are_compared_not_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
