/* What control groups grant, of trees as kernels show them. */
#define _XOPEN_SOURCE 700
#include "kernels/base/base.h"
#include "tests/unit/scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *root;

/* A file below the test's root, with the folders that lead to it. */
static void file(const char *path, const char *text)
{
    char whole[4096];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    char *name = strrchr(whole, '/');
    *name = '\0';
    assert_int_equal(vg_make_directories(whole), VG_OK);
    *name = '/';
    FILE *f = fopen(whole, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void grants(double cpus, double memory)
{
    const vg_cgroup g = vg_cgroup_read(root);
    assert_true(g.cpus == cpus);
    assert_true(g.memory == memory);
}

static void nothing_to_read_limits_nothing(void **state)
{
    root = *state;
    grants(INFINITY, INFINITY);
    file("/proc/self/cgroup", "no colon\n0::\n0::/absent/../group\n3:cpu:\n");
    grants(INFINITY, INFINITY);
    file("/sys/fs/cgroup/cpu.max", "");
    file("/sys/fs/cgroup/memory.max", "much");
    grants(INFINITY, INFINITY);
}

static void the_least_of_a_group_and_those_above_it_counts(void **state)
{
    root = *state;
    file("/proc/self/cgroup", "0::/slurm/job_7/step\n");
    file("/sys/fs/cgroup/slurm/job_7/step/cpu.max", "max 100000\n");
    file("/sys/fs/cgroup/slurm/job_7/step/memory.max", "max\n");
    grants(INFINITY, INFINITY);
    file("/sys/fs/cgroup/slurm/job_7/memory.max", "8000000000\n");
    file("/sys/fs/cgroup/slurm/cpu.max", "250000 100000\n");
    grants(2.5, 8e9);
    file("/sys/fs/cgroup/slurm/job_7/step/cpu.max", "300000 100000\n");
    file("/sys/fs/cgroup/slurm/memory.max", "9000000000\n");
    grants(2.5, 8e9);
}

static void a_container_s_own_group_is_the_top(void **state)
{
    root = *state;
    file("/proc/self/cgroup", "0::/\n");
    file("/sys/fs/cgroup/cpu.max", "150000 100000\n");
    file("/sys/fs/cgroup/memory.max", "1073741824\n");
    grants(1.5, 1073741824);
    file("/proc/self/cgroup", "0::/docker/outside\n"); /* a path of the host */
    grants(1.5, 1073741824);
}

static void version_1_has_a_hierarchy_for_each(void **state)
{
    root = *state;
    file("/proc/self/cgroup", "9:name=systemd:/\n8:cpuset:/a\n4:memory:/a/b\n2:cpuacct,cpu:/a\n0::/\n");
    file("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n");
    file("/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
    file("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
    grants(INFINITY, 9223372036854771712.0);
    file("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "400000\n");
    file("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4096\n");
    file("/sys/fs/cgroup/cpuset/a/cpu.cfs_quota_us", "1\n"); /* not its place */
    grants(4, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_to_read_limits_nothing, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(the_least_of_a_group_and_those_above_it_counts, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(a_container_s_own_group_is_the_top, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(version_1_has_a_hierarchy_for_each, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
