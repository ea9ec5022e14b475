/* The watch over ranks: a thread that wakes once a second, tells, listens and judges. It makes no call of MPI. */
#define _GNU_SOURCE /* SIGRTMIN */
#include "dist/health.h"

#include "dist/health_impl.h"

#include <execinfo.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The launcher ends a job about two seconds after a rank died; where it does not, we do. */
enum { GONE_S = 4, QUIET_S = 3 /* seconds between signs that are no accident */ };

typedef struct peer {
    char host[VG_HOST_BYTES];
    vg_sign sign;   /* the last one */
    double heard_s; /* when */
    double gone_s;  /* when its connection ended; 0: it has not */
    bool leaving;   /* it closes its group */
} peer;

typedef struct vg_health {
    int rank, size;
    vg_health_limits limits;
    peer *peers; /* [size] */
    int *fds;    /* as vg_health_connect makes them; NULL: this rank alone */
    bool told;   /* that a rank is gone */
    pthread_t thread, watched;
    pthread_mutex_t lock; /* of what follows, and of the peers' signs and when they came */
    pthread_cond_t change;
    bool running; /* the thread */
    vg_sign own;
    double phase_began_s;
    bool ending;
    bool hushed; /* the job ends, and somebody says why */
} vg_health;

#define PHASE_TEXT(name) #name,
static const char *const phase_names[] = {VG_PHASES_OF(PHASE_TEXT)};
#undef PHASE_TEXT

/* ---- this rank ---- */

static void print_stack(int signal_number)
{
    void *frames[64];
    (void)signal_number;
    backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
}

static void where_text(const vg_sign *s, char *text, size_t size)
{
    int n = snprintf(text, size, "in phase '%s'", phase_names[s->phase]);
    if (s->step >= 0) n += snprintf(text + n, size - (size_t)n, " after step %lld", (long long)s->step);
    if (s->position >= 0) snprintf(text + n, size - (size_t)n, ", samples from %lld on", (long long)s->position);
}

static vg_sign own_sign(vg_health *h)
{
    pthread_mutex_lock(&h->lock);
    vg_sign s = h->own;
    s.phase_s = vg_now_s() - h->phase_began_s;
    pthread_mutex_unlock(&h->lock);
    return s;
}

/* Of another rank: its last sign may be a second old; where this one stands is true now. */
static void seen_text(vg_health *h, const vg_sign *s, char *text, size_t size)
{
    const vg_sign own = own_sign(h);
    char there[160], here[160];
    where_text(s, there, sizeof there);
    where_text(&own, here, sizeof here);
    snprintf(text, size, "last seen %s (rank %d is %s)", there, h->rank, here);
}

/* To every rank that this one talks to. */
static void send_sign(vg_health *h, const vg_sign *s)
{
    for (int i = 0; h->fds && i < (h->rank == 0 ? h->size : 1); i++)
        if (h->fds[i] >= 0) vg_health_send(h->fds[i], s, sizeof *s);
}

/* ---- the end ---- */

static void say(const char *text)
{
    fprintf(stderr, "vlgtr: %s; a run goes on from its last checkpoint\n", text);
}

/* What lies in buffers is lost: the thread that stands still may hold one of them for ever. */
_Noreturn static void end_process(void)
{
    _exit(vg_exit_code(VG_E_COMM));
}

_Noreturn static void end_all(vg_health *h)
{
    vg_sign end = own_sign(h);
    end.ends = 1;
    send_sign(h, &end);
    end_process();
}

/* Says why, and takes the others along. */
_Noreturn static void end_job(vg_health *h, const char *text)
{
    say(text);
    end_all(h);
}

/* A phase that takes too long: the stack of the thread that is in it, from within. */
static void judge_self(vg_health *h, const vg_sign *s)
{
    const double limit = h->limits.phase[s->phase];
    const struct timespec while_it_prints = {.tv_nsec = 300 * 1000 * 1000};
    char text[400], where[160];
    if (limit <= 0 || s->phase_s <= limit) return;
    where_text(s, where, sizeof where);
    snprintf(text, sizeof text, "rank %d on %s stands still: %s for %.0f s, %.0f are allowed (watch.%s)", h->rank,
             h->peers[h->rank].host, where, s->phase_s, limit, phase_names[s->phase]);
    fprintf(stderr, "vlgtr [rank %d on %s]: where it stands:\n", h->rank, h->peers[h->rank].host);
    pthread_kill(h->watched, SIGRTMIN);
    nanosleep(&while_it_prints, NULL);
    end_job(h, text);
}

/* ---- the others ---- */

static void hush(vg_health *h)
{
    pthread_mutex_lock(&h->lock);
    h->hushed = true;
    pthread_mutex_unlock(&h->lock);
}

static bool is_hushed(vg_health *h)
{
    pthread_mutex_lock(&h->lock);
    const bool hushed = h->hushed;
    pthread_mutex_unlock(&h->lock);
    return hushed;
}

/* Signs that have come from a rank. */
static void listen_to(vg_health *h, peer *p, int fd, double now)
{
    vg_sign s;
    int got = 0;
    while (p->gone_s == 0 && (got = vg_health_receive(fd, &s, sizeof s)) > 0) {
        if (s.phase < 0 || s.phase >= VG_PHASES) continue;
        if (s.ends && h->rank != 0) end_process(); /* rank 0 says why */
        if (s.ends) hush(h);
        pthread_mutex_lock(&h->lock);
        p->sign = s;
        p->heard_s = now;
        pthread_mutex_unlock(&h->lock);
        p->leaving = s.leaving;
    }
    if (got < 0 && p->gone_s == 0) p->gone_s = now;
}

/* ---- rank 0 over the others ---- */

/* Of the first rank that is gone, once: those after it mostly are the launcher's doing. */
static void tell_gone(vg_health *h, int rank)
{
    const peer *p = &h->peers[rank];
    char text[600], seen[400];
    if (h->told) return;
    h->told = true;
    seen_text(h, &p->sign, seen, sizeof seen);
    snprintf(text, sizeof text, "rank %d on %s is gone, %s; look for its own last words", rank, p->host, seen);
    say(text);
}

static void judge_peer(vg_health *h, int rank, double now)
{
    const peer *p = &h->peers[rank];
    char text[700], seen[400];
    if (p->leaving) return;
    if (p->gone_s > 0 && !is_hushed(h)) tell_gone(h, rank);
    if (p->gone_s > 0 && now - p->gone_s > GONE_S) end_all(h);
    if (p->gone_s > 0 || h->limits.silence <= 0 || now - p->heard_s <= h->limits.silence) return;
    seen_text(h, &p->sign, seen, sizeof seen);
    snprintf(text, sizeof text,
             "rank %d on %s has been silent for %.0f s (watch.silence), %s: its process is stopped, its host hangs or "
             "is cut off",
             rank, p->host, now - p->heard_s, seen);
    end_job(h, text);
}

static void watch_others(vg_health *h, double now)
{
    for (int i = 1; i < h->size; i++) listen_to(h, &h->peers[i], h->fds[i], now);
    for (int i = 1; i < h->size; i++) judge_peer(h, i, now);
}

/* ---- the others under rank 0 ---- */

/* Whether this rank says so when rank 0 cannot: one on each host does. */
static bool speaks_for_root(const vg_health *h)
{
    for (int i = 1; i < h->rank; i++)
        if (strcmp(h->peers[i].host, h->peers[h->rank].host) == 0) return false;
    return true;
}

static void watch_root(vg_health *h, double now)
{
    peer *root = &h->peers[0];
    char text[400];
    listen_to(h, root, h->fds[0], now);
    if (root->leaving) return;
    const bool gone = root->gone_s > 0 && now - root->gone_s > GONE_S;
    if (!gone && (h->limits.silence <= 0 || now - root->heard_s <= h->limits.silence)) return;
    if (!speaks_for_root(h)) {
        const struct timespec while_it_speaks = {.tv_sec = 3}; /* the launcher ends the job with the first of us */
        nanosleep(&while_it_speaks, NULL);
        end_process();
    }
    snprintf(
        text, sizeof text,
        "rank 0 on %s %s %.0f s (watch.silence): its process is stopped, its host hangs or is cut off, or this one is, "
        "rank %d on %s",
        root->host, gone ? "is gone for" : "has been silent for", now - (gone ? root->gone_s : root->heard_s), h->rank,
        h->peers[h->rank].host);
    end_job(h, text);
}

/* ---- the thread ---- */

static bool nap(vg_health *h)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 1;
    pthread_mutex_lock(&h->lock);
    while (!h->ending && pthread_cond_timedwait(&h->change, &h->lock, &until) == 0) continue;
    const bool ending = h->ending;
    pthread_mutex_unlock(&h->lock);
    return !ending;
}

/* Whoever was stopped itself has not heard the others meanwhile, and its own phase stood still without fault. */
static void forgive(vg_health *h, double now, double lost_s)
{
    pthread_mutex_lock(&h->lock);
    for (int i = 0; i < h->size; i++) h->peers[i].heard_s = now;
    h->phase_began_s = fmin(now, h->phase_began_s + lost_s);
    pthread_mutex_unlock(&h->lock);
}

static void *watch(void *argument)
{
    vg_health *h = argument;
    for (double last = vg_now_s(); nap(h);) {
        const double now = vg_now_s();
        if (now - last > GONE_S) forgive(h, now, now - last);
        last = now;
        const vg_sign own = own_sign(h);
        send_sign(h, &own);
        if (h->fds && h->rank == 0) watch_others(h, now);
        if (h->fds && h->rank != 0) watch_root(h, now);
        judge_self(h, &own);
    }
    return NULL;
}

/* No signals for the thread, those are the main thread's. */
static vg_status start_thread(vg_health *h)
{
    sigset_t all, before;
    const struct sigaction show = {.sa_handler = print_stack, .sa_flags = SA_RESTART};
    void *warm_up[1];
    backtrace(warm_up, 1); /* loads what it needs, which a signal handler must not */
    sigaction(SIGRTMIN, &show, NULL);
    h->watched = pthread_self();
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    const int failed = pthread_create(&h->thread, NULL, watch, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    VG_CHECK(!failed, VG_E_NOMEM, "no thread for the watch over ranks: %s", strerror(failed));
    h->running = true;
    return VG_OK;
}

static void end_thread(vg_health *h)
{
    if (!h->running) return;
    pthread_mutex_lock(&h->lock);
    h->ending = true;
    h->own.leaving = 1;
    pthread_cond_signal(&h->change);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
}

/* Naps last as long whatever becomes of the time of day. */
static void init_lock(vg_health *h)
{
    pthread_condattr_t steady;
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->change, &steady);
    pthread_condattr_destroy(&steady);
}

static void health_free(vg_health *h)
{
    vg_health_disconnect(&h->fds, h->rank == 0 ? h->size : 1);
    pthread_cond_destroy(&h->change);
    pthread_mutex_destroy(&h->lock);
    free(h->peers);
    free(h);
}

static vg_status health_fill(vg_health *h, vg_comm *comm)
{
    char(*hosts)[VG_HOST_BYTES] = vg_new0_array((size_t)comm->size, sizeof *hosts);
    h->peers = vg_new0_array((size_t)comm->size, sizeof *h->peers);
    vg_status st = hosts && h->peers ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the watch over ranks");
    st = vg_comm_agree(comm, st);
    if (st == VG_OK) st = vg_comm_allgather(comm, comm->host, sizeof comm->host, hosts);
    for (int i = 0; i < comm->size && st == VG_OK; i++) {
        memcpy(h->peers[i].host, hosts[i], sizeof hosts[i]);
        h->peers[i].heard_s = vg_now_s();
        h->peers[i].sign = h->own; /* until it gives one */
    }
    free(hosts);
    bool connected = false;
    if (st == VG_OK && comm->size > 1) st = vg_health_connect(comm, h->limits.silence, &h->fds, &connected);
    if (st == VG_OK && comm->size > 1 && !connected)
        vg_log_root("warning: not all ranks reach rank 0 on %s by TCP; one that falls silent is not noticed",
                    comm->host);
    return st;
}

vg_status vg_health_watch(vg_comm *comm, const vg_health_limits *limits)
{
    vg_health *h = vg_new0(sizeof *h);
    VG_TRY(vg_comm_agree(comm, h ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the watch over ranks")));
    *h = (vg_health){.rank = comm->rank, .size = comm->size, .limits = *limits, .own = {.step = -1, .position = -1}};
    init_lock(h);
    h->phase_began_s = vg_now_s();
    vg_status st = health_fill(h, comm);
    if (st == VG_OK) st = vg_comm_agree(comm, start_thread(h));
    if (st != VG_OK) {
        end_thread(h); /* it was another rank that could not have one */
        health_free(h);
        return st;
    }
    comm->health = h;
    return VG_OK;
}

void vg_health_phase(vg_comm *comm, vg_phase phase, int64_t step, int64_t position)
{
    vg_health *h = comm->health;
    if (!h) return;
    pthread_mutex_lock(&h->lock);
    h->own.phase = phase;
    h->own.step = step;
    h->own.position = position;
    h->phase_began_s = vg_now_s();
    pthread_mutex_unlock(&h->lock);
}

void vg_health_hush(vg_comm *comm)
{
    if (comm->health) hush(comm->health);
}

/* How long others may have waited for a rank: it says nothing any more, or is busy with something of its own. */
static double lateness(const peer *p, double now)
{
    const double quiet_s = now - p->heard_s;
    return quiet_s > QUIET_S || p->sign.phase != VG_PHASE_exchange ? quiet_s + p->sign.phase_s : 0;
}

bool vg_health_latest(vg_comm *comm, char *text, size_t size)
{
    vg_health *h = comm->health;
    if (!h || !h->fds) return false;
    const int first = h->rank == 0 ? 1 : 0, end = h->rank == 0 ? h->size : 1; /* of those it hears */
    const double now = vg_now_s();
    int latest = -1;
    vg_sign sign = {0};
    char seen[400];
    pthread_mutex_lock(&h->lock);
    for (int i = first; i < end; i++)
        if (lateness(&h->peers[i], now) > (latest < 0 ? 0 : lateness(&h->peers[latest], now))) latest = i;
    if (latest >= 0) sign = h->peers[latest].sign;
    pthread_mutex_unlock(&h->lock);
    if (latest < 0) return false;
    seen_text(h, &sign, seen, sizeof seen);
    snprintf(text, size, "rank %d on %s, %s,", latest, h->peers[latest].host, seen);
    return true;
}

void vg_health_leave(vg_comm *comm)
{
    vg_health *h = comm->health;
    if (!h) return;
    end_thread(h);
    const vg_sign last = own_sign(h); /* it says that we leave */
    send_sign(h, &last);
    comm->health = NULL;
    health_free(h);
}
