/* The wire of the watch: a star of TCP connections around rank 0, beside MPI, which only the main thread may use. */
#define _GNU_SOURCE /* getifaddrs, accept4 */
#include "dist/health_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <math.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_ADDRESSES = 16, CONNECT_MS = 3000 };

/* Where rank 0 listens, and a word by which it knows its own. */
typedef struct meeting {
    int64_t n;
    uint64_t word;
    struct sockaddr_in addresses[MOST_ADDRESSES];
} meeting;

typedef struct hello {
    uint64_t word;
    int64_t rank;
} hello;

/* The addresses of this host; loopback first, for the ranks that share it. */
static void list_addresses(meeting *m, in_port_t port)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0) return;
    for (int loopback = 1; loopback >= 0; loopback--)
        for (const struct ifaddrs *i = all; i && m->n < MOST_ADDRESSES; i = i->ifa_next) {
            if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP)) continue;
            if (((i->ifa_flags & IFF_LOOPBACK) != 0) != loopback) continue;
            memcpy(&m->addresses[m->n], i->ifa_addr, sizeof m->addresses[0]);
            m->addresses[m->n++].sin_port = port;
        }
    freeifaddrs(all);
}

static int listen_anywhere(meeting *m)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t size = sizeof any;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    if (bind(fd, (struct sockaddr *)&any, size) == 0 && listen(fd, SOMAXCONN) == 0 &&
        getsockname(fd, (struct sockaddr *)&any, &size) == 0 && getrandom(&m->word, sizeof m->word, 0) > 0) {
        list_addresses(m, any.sin_port);
        return fd;
    }
    close(fd);
    return -1;
}

static bool ready(int fd, short events, int ms)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, ms) == 1 && (p.revents & events);
}

/* Says hello at an address; rank 0 says the word back, anybody else is not it. A second hello tells rank 0 that this
 * one heard it, and stays. */
static int greet(const struct sockaddr_in *address, const hello *own)
{
    uint64_t back = 0;
    int error = 0;
    socklen_t size = sizeof error;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    const bool begun = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EINPROGRESS;
    if (begun && ready(fd, POLLOUT, CONNECT_MS) && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && !error &&
        send(fd, own, sizeof *own, MSG_NOSIGNAL) == sizeof *own && ready(fd, POLLIN, CONNECT_MS) &&
        recv(fd, &back, sizeof back, 0) == sizeof back && back == ~own->word &&
        send(fd, own, sizeof *own, MSG_NOSIGNAL) == sizeof *own)
        return fd;
    close(fd);
    return -1;
}

/* All addresses in turn, until one answers or the time is over. */
static int reach_root(const meeting *m, int rank, double until_s)
{
    const hello own = {m->word, rank};
    const struct timespec moment = {.tv_nsec = 100 * 1000 * 1000};
    for (;;) {
        for (int64_t i = 0; i < m->n; i++) {
            const int fd = greet(&m->addresses[i], &own);
            if (fd >= 0) return fd;
        }
        if (vg_now_s() > until_s) return -1;
        nanosleep(&moment, NULL);
    }
}

/* ---- rank 0 takes them in ---- */

/* Whoever has come, and has not said yet who he is. */
typedef struct guests {
    struct pollfd *polls; /* [capacity]; the first one is the door */
    bool *answered;       /* [capacity] */
    int n, capacity;
} guests;

static void let_in(guests *g)
{
    const int fd = accept4(g->polls[0].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    g->answered[g->n] = false;
    g->polls[g->n++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

/* Who says hello with the word is answered; who says so twice is a rank, whose connection this is. Anybody else is
 * shown out. Returns the ranks that came: 0 or 1. */
static int hear(guests *g, int i, const meeting *m, int *fds, int n_ranks)
{
    hello h;
    const uint64_t back = ~m->word;
    const int fd = g->polls[i].fd;
    const bool knows = recv(fd, &h, sizeof h, MSG_DONTWAIT) == sizeof h && h.word == m->word && h.rank > 0 &&
                       h.rank < n_ranks && fds[h.rank] < 0;
    if (knows && !g->answered[i] && send(fd, &back, sizeof back, MSG_NOSIGNAL) == sizeof back) {
        g->answered[i] = true;
        return 0;
    }
    const bool comes = knows && g->answered[i];
    if (comes) fds[h.rank] = fd;
    if (!comes) close(fd);
    g->polls[i] = g->polls[--g->n];
    g->answered[i] = g->answered[g->n];
    return comes;
}

/* Until all have come or the time is over. One who is slow to speak keeps nobody waiting. */
static bool gather_ranks(guests *g, const meeting *m, int *fds, int n_ranks, double until_s)
{
    int missing = n_ranks - 1;
    for (double left_s; missing > 0 && (left_s = until_s - vg_now_s()) > 0;) {
        g->polls[0].events = g->n < g->capacity ? POLLIN : 0;
        if (poll(g->polls, (nfds_t)g->n, (int)(1e3 * left_s) + 1) <= 0) continue;
        for (int i = g->n - 1; i > 0; i--)
            if (g->polls[i].revents) missing -= hear(g, i, m, fds, n_ranks);
        if (g->polls[0].revents) let_in(g);
    }
    return missing == 0;
}

static bool receive_ranks(int listener, const meeting *m, int *fds, int n_ranks, double until_s)
{
    enum { STRANGERS = 64 };
    guests g = {.n = 1, .capacity = n_ranks + STRANGERS};
    g.polls = vg_new0_array((size_t)g.capacity, sizeof *g.polls);
    g.answered = vg_new0_array((size_t)g.capacity, sizeof *g.answered);
    bool all = false;
    if (g.polls && g.answered) {
        g.polls[0].fd = listener;
        all = gather_ranks(&g, m, fds, n_ranks, until_s);
    }
    for (int i = 1; i < g.n; i++) close(g.polls[i].fd);
    free(g.polls);
    free(g.answered);
    return all;
}

/* ---- both ---- */

/* Time for every address to be tried, at least. */
static double ends_s(const meeting *m, double patience_s)
{
    enum { SLACK_MS = 2000 };
    return vg_now_s() + fmax(patience_s, 1e-3 * (double)(m->n * CONNECT_MS + SLACK_MS));
}

vg_status vg_health_connect(vg_comm *comm, double patience_s, int **fds, bool *all)
{
    const int n = comm->rank == 0 ? comm->size : 1;
    meeting m = {0};
    int *own = vg_new0_array((size_t)n, sizeof *own);
    VG_TRY(vg_comm_agree(comm, own ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the watch over ranks")));
    for (int i = 0; i < n; i++) own[i] = -1;
    const int listener = comm->rank == 0 ? listen_anywhere(&m) : -1;
    vg_status st = vg_comm_broadcast(comm, &m, sizeof m, 0);
    bool connected = false;
    if (st == VG_OK && comm->rank != 0) connected = (own[0] = reach_root(&m, comm->rank, ends_s(&m, patience_s))) >= 0;
    if (st == VG_OK && listener >= 0) connected = receive_ranks(listener, &m, own, n, ends_s(&m, patience_s));
    if (listener >= 0) close(listener);
    int64_t failed = !connected;
    if (st == VG_OK) st = vg_comm_max_i64(comm, &failed, 1);
    *all = st == VG_OK && !failed;
    if (!*all) vg_health_disconnect(&own, n);
    *fds = own;
    return st;
}

void vg_health_disconnect(int **fds, int n)
{
    for (int i = 0; *fds && i < n; i++)
        if ((*fds)[i] >= 0) close((*fds)[i]);
    free(*fds);
    *fds = NULL;
}

void vg_health_send(int fd, const void *message, size_t bytes)
{
    /* A full buffer belongs to somebody who does not read: silence will tell. */
    if (send(fd, message, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
}

int vg_health_receive(int fd, void *message, size_t bytes)
{
    const ssize_t there = recv(fd, message, bytes, MSG_PEEK | MSG_DONTWAIT);
    if (there == 0 || (there < 0 && errno != EAGAIN && errno != EINTR)) return -1;
    if (there < (ssize_t)bytes) return 0;
    return recv(fd, message, bytes, MSG_DONTWAIT) == (ssize_t)bytes ? 1 : -1;
}
