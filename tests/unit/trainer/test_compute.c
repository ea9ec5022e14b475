#include "trainer/compute.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void a_device_leaves_the_host_s_processors_to_the_loader(void **state)
{
    (void)state;
    const vg_device_ops apart = {0};
    const vg_backend device = {.device = &apart}, host = {.device = &vg_host_device};
    const struct {
        const vg_backend *backend;
        int n_processors, wanted, given;
    } cases[] = {{&host, 16, -1, 1},   {&host, 16, 0, 0},   {&host, 1, 5, 5},
                 {&device, 1, -1, 1},  {&device, 2, -1, 1}, {&device, 6, -1, 5},
                 {&device, 64, -1, 8}, {&device, 64, 0, 0}, {&device, 2, 20, 20}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const vg_compute compute = {.backend = cases[k].backend, .n_processors = cases[k].n_processors};
        assert_int_equal(vg_compute_workers(&compute, cases[k].wanted), cases[k].given);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_leaves_the_host_s_processors_to_the_loader),
    };
    return cmocka_run_group_tests_name("compute", tests, NULL, NULL);
}
