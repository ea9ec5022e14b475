#define _GNU_SOURCE /* CPU_SET */
#include "trainer/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <hwloc.h>

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

/* Eight processors, two of each core, as they are often numbered: 0 and 4 are of the first one. */
static void hardware_threads_of_a_core_are_one(void **state)
{
    (void)state;
    hwloc_topology_t topology;
    assert_int_equal(hwloc_topology_init(&topology), 0);
    assert_int_equal(hwloc_topology_set_synthetic(topology, "core:4 pu:2(indexes=0,4,1,5,2,6,3,7)"), 0);
    assert_int_equal(hwloc_topology_load(topology), 0);
    const struct {
        cpu_set_t processors, cores;
    } cases[] = {{cores(0, 8), cores(0, 4)}, /* all of them */
                 {cores(0, 4), cores(0, 4)}, /* one of each */
                 {cores(5, 3), cores(1, 3)}, /* the second ones of three */
                 {cores(100, 7), cores(100, 7)} /* not told of */};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const cpu_set_t found = vg_cores_of(topology, &cases[k].processors);
        assert_true(CPU_EQUAL(&found, &cases[k].cores));
    }
    const cpu_set_t alone = vg_cores_of(NULL, &cases[0].processors);
    assert_true(CPU_EQUAL(&alone, &cases[0].processors));
    hwloc_topology_destroy(topology);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cores_of_its_own_are_a_rank_s),
        cmocka_unit_test(cores_that_several_may_use_are_divided),
        cmocka_unit_test(a_rank_has_a_thread_where_there_are_fewer_cores_than_ranks),
        cmocka_unit_test(hardware_threads_of_a_core_are_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
