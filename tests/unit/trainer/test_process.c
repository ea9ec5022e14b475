#define _GNU_SOURCE /* CPU_SET */
#include "trainer/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static cpu_set_t cores(int first, int n)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int core = first; core < first + n; core++) CPU_SET(core, &set);
    return set;
}

static void cores_of_its_own_are_a_rank_s(void **state)
{
    (void)state;
    const cpu_set_t bound[] = {cores(0, 2), cores(2, 6)};
    assert_int_equal(vg_core_share(bound, 2, 0), 2);
    assert_int_equal(vg_core_share(bound, 2, 1), 6);
}

static void cores_that_several_may_use_are_divided(void **state)
{
    (void)state;
    const cpu_set_t unbound[] = {cores(0, 64), cores(0, 64), cores(0, 64)};
    for (int i = 0; i < 3; i++) assert_int_equal(vg_core_share(unbound, 3, i), 21);
    const cpu_set_t sockets[] = {cores(0, 32), cores(0, 32), cores(32, 32), cores(32, 32)}; /* mpirun's default */
    for (int i = 0; i < 4; i++) assert_int_equal(vg_core_share(sockets, 4, i), 16);
}

static void a_rank_has_a_thread_where_there_are_fewer_cores_than_ranks(void **state)
{
    (void)state;
    const cpu_set_t one[] = {cores(5, 1), cores(5, 1)};
    assert_int_equal(vg_core_share(one, 2, 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cores_of_its_own_are_a_rank_s),
        cmocka_unit_test(cores_that_several_may_use_are_divided),
        cmocka_unit_test(a_rank_has_a_thread_where_there_are_fewer_cores_than_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
