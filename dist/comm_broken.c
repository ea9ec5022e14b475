/* A group that lost a rank: every collective fails at once, instead of waiting for ever. How the others learn of it,
 * and who of them says so. */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include "dist/comm_impl.h"
#include "dist/health_impl.h"

#include <errno.h>
#include <time.h>

static vg_status broken_call(vg_comm *comm)
{
    (void)comm;
    return VG_E_COMM;
}

static vg_status broken_broadcast(vg_comm *comm, void *data, size_t bytes, int root)
{
    (void)comm, (void)data, (void)bytes, (void)root;
    return VG_E_COMM;
}

static vg_status broken_reduce_i64(vg_comm *comm, int64_t *x, int n, bool largest)
{
    (void)comm, (void)x, (void)n, (void)largest;
    return VG_E_COMM;
}

static vg_status broken_gather(vg_comm *comm, const void *mine, size_t bytes, void *all, bool everywhere)
{
    (void)comm, (void)mine, (void)bytes, (void)all, (void)everywhere;
    return VG_E_COMM;
}

static vg_status broken_begin(vg_comm *comm, int exchange, const vg_message *sends, int n_sends,
                              const vg_message *recvs, int n_recvs)
{
    (void)comm, (void)exchange, (void)sends, (void)n_sends, (void)recvs, (void)n_recvs;
    return VG_E_COMM;
}

static vg_status broken_end(vg_comm *comm, int exchange)
{
    (void)comm, (void)exchange;
    return VG_E_COMM;
}

static vg_status broken_share(vg_comm *comm, size_t bytes, vg_window *window)
{
    (void)comm, (void)bytes, (void)window;
    return VG_E_COMM;
}

static vg_status broken_window(vg_comm *comm, vg_window *window)
{
    (void)comm, (void)window;
    return VG_E_COMM;
}

static void broken_abort(vg_comm *comm, int exit_code)
{
    comm->intact->abort(comm, exit_code);
}

static void break_off(vg_comm *comm)
{
    static const vg_comm_ops broken = {
        .close = broken_call,
        .barrier = broken_call,
        .broadcast = broken_broadcast,
        .reduce_i64 = broken_reduce_i64,
        .gather = broken_gather,
        .begin = broken_begin,
        .end = broken_end,
        .share = broken_share,
        .unshare = broken_window,
        .fence = broken_window,
        .abort = broken_abort,
    };
    comm->intact = comm->ops;
    comm->ops = &broken;
}

/* Longer than a launcher takes to end the ranks when one of them has aborted the job. */
static void let_pass(int turns)
{
    struct timespec left = {.tv_sec = 2 * turns};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) continue; /* it begins with SIGTERM */
}

/* A rank that left and knows why goes before all others; of these, the first one need not wait where a process is seen
 * to have ended: that one will say nothing any more. */
void vg_comm_break(vg_comm *comm, int lost)
{
    const int first = lost == 0 ? 1 : 0;
    if (vg_comm_broken(comm)) return;
    break_off(comm);
    if (lost < 0 || comm->rank != first) let_pass(comm->rank + 1);
    comm->speaker = comm->rank;
}

bool vg_comm_broken(const vg_comm *comm)
{
    return comm->intact != NULL;
}

bool vg_comm_speaks(const vg_comm *comm)
{
    return comm->rank == comm->speaker;
}

void vg_comm_set_deadline(vg_comm *comm, double seconds)
{
    comm->deadline_s = seconds;
}

vg_patience vg_patience_of(double limit_s)
{
    return (vg_patience){.limit_s = limit_s, .looked_s = vg_now_s()};
}

bool vg_patience_ends(vg_patience *p)
{
    enum { ASLEEP_S = 2 }; /* between two rounds, which take microseconds */
    const double now = vg_now_s(), passed = now - p->looked_s;
    p->looked_s = now;
    if (passed < ASLEEP_S) p->waited_s += passed;
    return p->limit_s > 0 && p->waited_s > p->limit_s;
}

vg_status vg_comm_too_late(vg_comm *comm, const char *whose, double deadline_s)
{
    char latest[600];
    const bool known = vg_health_latest(comm, latest, sizeof latest); /* before the others give up, too */
    vg_comm_break(comm, -1);
    return vg_fail(VG_E_COMM,
                   "no answer from %s for %g s, longer than train.deadline allows; see the other ranks' logs, then "
                   "start again: a run goes on from its last checkpoint",
                   known ? latest : whose, deadline_s);
}

vg_status vg_comm_leave(vg_comm *comm, vg_status status)
{
    if (status == VG_OK || vg_comm_broken(comm) || !comm->ops->tell) return status;
    const vg_verdict v = vg_comm_verdict(comm, status);
    comm->ops->tell(comm, &v);
    break_off(comm);
    vg_health_hush(comm);
    comm->speaker = comm->rank;
    return vg_fail(status, "%s", v.text);
}

vg_status vg_comm_look(vg_comm *comm)
{
    vg_verdict v;
    if (vg_comm_broken(comm)) return VG_E_COMM; /* told before */
    if (!comm->ops->hear || !comm->ops->hear(comm, &v)) return VG_OK;
    vg_health_hush(comm);
    vg_comm_break(comm, -1);
    return vg_fail(VG_E_COMM, "%s", v.text);
}
