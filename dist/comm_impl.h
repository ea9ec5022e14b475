/* What an implementation of the process group brings. Everything else in comm.h is built on these rows. */
#ifndef VG_DIST_COMM_IMPL_H
#define VG_DIST_COMM_IMPL_H

#include "dist/comm.h"

#include <stdatomic.h>

/* One piece of an exchange. Messages between two ranks under one number of an exchange meet in the order in which each
 * names them. */
typedef struct vg_message {
    int peer;
    void *data;
    size_t bytes; /* at most VG_MESSAGE_BYTES */
} vg_message;

enum { VG_MESSAGE_BYTES = 1 << 30, VG_HOST_BYTES = 64, VG_EXCHANGES = 16 };

/* Memory that the local ranks share. */
typedef struct vg_window {
    unsigned char **of; /* [local_size]: where the piece of each local rank lies here; NULL without a window */
    void *handle;
} vg_window;

/* A rank's failure, as the others hear of it. */
typedef struct vg_verdict {
    int status;
    char text[2048];
} vg_verdict;

/* All collective over the group, `fence` over the local ranks. Buffers as in comm.h. */
typedef struct vg_comm_ops {
    vg_status (*close)(vg_comm *comm);
    vg_status (*barrier)(vg_comm *comm);
    vg_status (*broadcast)(vg_comm *comm, void *data, size_t bytes, int root); /* at most VG_MESSAGE_BYTES */
    vg_status (*reduce_i64)(vg_comm *comm, int64_t *x, int n, bool largest);   /* sum or largest */
    vg_status (*gather)(vg_comm *comm, const void *mine, size_t bytes, void *all, bool everywhere);
    /* Messages on their way, up to VG_EXCHANGES times, told apart by number; the end of one that did not begin comes at
     * once. */
    vg_status (*begin)(vg_comm *comm, int exchange, const vg_message *sends, int n_sends, const vg_message *recvs,
                       int n_recvs);
    vg_status (*end)(vg_comm *comm, int exchange);
    /* A window with `bytes` of each rank, page-aligned, untouched. window->of stays NULL on all ranks, after one log
     * line, where some host has no room for it. */
    vg_status (*share)(vg_comm *comm, size_t bytes, vg_window *window);
    vg_status (*unshare)(vg_comm *comm, vg_window *window);
    vg_status (*fence)(vg_comm *comm, vg_window *window); /* what a local rank wrote before, all see afterwards */
    void (*abort)(vg_comm *comm, int exit_code);
    /* Local: to all others, without their consent; what another one told so. NULL: there are no others. */
    void (*tell)(vg_comm *comm, const vg_verdict *verdict);
    bool (*hear)(vg_comm *comm, vg_verdict *verdict);
} vg_comm_ops;

struct vg_comm {
    const vg_comm_ops *ops;
    int rank, size, place, local_rank, local_size;
    const vg_comm_ops *intact; /* what ops was before the group broke */
    int speaker;               /* the rank that prints errors */
    double deadline_s;         /* 0: none */
    atomic_bool naps;          /* whoever waits leaves the processor to others meanwhile */
    int leader;                /* the group rank of local rank 0: names the host */
    char host[VG_HOST_BYTES];
    struct vg_health *health; /* NULL: no watch */
    void *backend;            /* of the implementation */
    void *scratch;            /* grows on first use, so that later steps allocate nothing */
    size_t scratch_bytes;
};

/* One exchange from begin to end, where no other is on its way. */
vg_status vg_comm_exchange(vg_comm *comm, const vg_message *sends, int n_sends, const vg_message *recvs, int n_recvs);

/* The implementations: they fill a zeroed group. */
vg_status vg_comm_self_open(vg_comm *comm);
vg_status vg_comm_mpi_open(vg_comm *comm);

/* Local. The rank's own failure, named; one that was agreed on before has its rank already. */
vg_verdict vg_comm_verdict(const vg_comm *comm, vg_status status);

/* A wait that ends. Time in which this process did not run, as when a scheduler suspends the job, is not waited: the
 * others could not answer then. */
typedef struct vg_patience {
    double limit_s, waited_s, looked_s; /* limit_s 0: none */
} vg_patience;

/* Local. Begins a wait; whether it has come to its end, asked in every round of it. */
vg_patience vg_patience_of(double limit_s);
bool vg_patience_ends(vg_patience *patience);

/* Local. The others did not answer in time: breaks the group. `whose` is named where the watch does not know who is
 * late. Returns VG_E_COMM. */
vg_status vg_comm_too_late(vg_comm *comm, const char *whose, double deadline_s);

#endif
