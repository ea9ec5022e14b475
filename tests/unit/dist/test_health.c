#define _GNU_SOURCE /* syscall */
#include "dist/health.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static time_t ahead_s; /* the time of day is wrong by so much, and will be set right */

/* In the place of the C library's. */
int clock_gettime(clockid_t clock, struct timespec *out)
{
    const long rc = syscall(SYS_clock_gettime, clock, out);
    if (clock == CLOCK_REALTIME) out->tv_sec += ahead_s;
    return (int)rc;
}

_Noreturn static void stand_still(void)
{
    const vg_health_limits limits = {.phase = {[VG_PHASE_compute] = 1}};
    vg_comm *comm = NULL;
    if (vg_comm_open(&comm) != VG_OK || vg_health_watch(comm, &limits) != VG_OK) _exit(1);
    vg_health_phase(comm, VG_PHASE_compute, 3, -1);
    for (;;) pause();
}

/* Seconds until a process that stands still has ended, with VG_E_COMM; 0: it has not. */
static double seconds_until_noticed(void)
{
    enum { MOST_S = 6 };
    const struct timespec moment = {.tv_nsec = 50 * 1000 * 1000};
    const double start_s = vg_now_s();
    int status = 0;
    const pid_t child = fork();
    if (child == 0) stand_still();
    while (vg_now_s() - start_s < MOST_S) {
        nanosleep(&moment, NULL);
        if (waitpid(child, &status, WNOHANG) != child) continue;
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), vg_exit_code(VG_E_COMM));
        return vg_now_s() - start_s;
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return 0;
}

static void a_rank_that_stands_still_is_noticed(void **state)
{
    (void)state;
    ahead_s = 0;
    assert_true(seconds_until_noticed() > 1);
}

static void a_clock_that_is_set_back_does_not_put_the_watch_to_sleep(void **state)
{
    (void)state;
    ahead_s = 3600;
    assert_true(seconds_until_noticed() > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_that_stands_still_is_noticed),
        cmocka_unit_test(a_clock_that_is_set_back_does_not_put_the_watch_to_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
