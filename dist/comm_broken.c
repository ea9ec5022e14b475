/* A group that lost a rank: every collective fails at once, instead of waiting for ever. */
#include "dist/comm_impl.h"

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

static vg_status broken_exchange(vg_comm *comm, const vg_message *sends, int n_sends, const vg_message *recvs,
                                 int n_recvs)
{
    (void)comm, (void)sends, (void)n_sends, (void)recvs, (void)n_recvs;
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

void vg_comm_break(vg_comm *comm, int lost)
{
    static const vg_comm_ops broken = {
        .close = broken_call,
        .barrier = broken_call,
        .broadcast = broken_broadcast,
        .reduce_i64 = broken_reduce_i64,
        .gather = broken_gather,
        .exchange = broken_exchange,
        .share = broken_share,
        .unshare = broken_window,
        .fence = broken_window,
        .abort = broken_abort,
    };
    if (vg_comm_broken(comm)) return;
    comm->speaker = lost == 0 ? 1 : 0;
    comm->intact = comm->ops;
    comm->ops = &broken;
}
