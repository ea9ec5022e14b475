/* How ranks come to their watch, on a network where what they say first is late or lost. */
#define _GNU_SOURCE /* sendto */
#include "mpi_test.h"

#include "dist/health_impl.h"

#include <sys/socket.h>
#include <time.h>

enum { HELLO_BYTES = 16 }; /* nothing else that is sent here has this size */

static vg_comm *comm;
static int late, lost; /* hellos of this rank that are to be so */

/* In the place of the C library's. */
ssize_t send(int fd, const void *data, size_t n, int flags)
{
    const struct timespec while_it_is_late = {.tv_nsec = 700 * 1000 * 1000};
    if (n == HELLO_BYTES && late > 0 && late--) nanosleep(&while_it_is_late, NULL);
    if (n == HELLO_BYTES && lost > 0 && lost--) {
        shutdown(fd, SHUT_RDWR);
        return (ssize_t)n;
    }
    return sendto(fd, data, n, flags, NULL, 0);
}

static void assert_all_connect(void)
{
    int *fds = NULL;
    bool all = false;
    assert_int_equal(vg_health_connect(comm, 5, &fds, &all), VG_OK);
    assert_true(all);
    assert_int_equal(late + lost, 0);
    vg_health_disconnect(&fds, vg_comm_rank(comm) == 0 ? vg_comm_size(comm) : 1);
    assert_int_equal(vg_comm_barrier(comm), VG_OK);
}

static void all_reach_rank_0(void **state)
{
    (void)state;
    assert_all_connect();
}

static void a_hello_that_comes_late_is_waited_for(void **state)
{
    (void)state;
    late = vg_comm_rank(comm) == 1 ? 2 : 0;
    assert_all_connect();
}

static void a_hello_that_is_lost_is_said_again(void **state)
{
    (void)state;
    lost = vg_comm_rank(comm) == vg_comm_size(comm) - 1 && vg_comm_size(comm) > 1 ? 3 : 0;
    assert_all_connect();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_reach_rank_0),
        cmocka_unit_test(a_hello_that_comes_late_is_waited_for),
        cmocka_unit_test(a_hello_that_is_lost_is_said_again),
    };
    return mpi_run("health", tests, sizeof tests / sizeof *tests, &comm);
}
