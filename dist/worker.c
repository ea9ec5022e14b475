#define _POSIX_C_SOURCE 200809L /* pthread_sigmask */
#include "dist/worker_impl.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct vg_worker {
    vg_worker_job run;
    void *context;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t change;
    int next, allowed; /* jobs below `next` are done or under way */
    bool busy;         /* the thread, with job next - 1 */
    bool ending;
    vg_error failure; /* of the first job that failed; error texts belong to their thread */
};

/* With the lock held, which the job itself does without. */
static void do_next(vg_worker *w)
{
    const int job = w->next++;
    pthread_mutex_unlock(&w->lock);
    const vg_status st = w->run(w->context, job);
    pthread_mutex_lock(&w->lock);
    if (st != VG_OK && w->failure.status == VG_OK) w->failure = vg_error_of(st);
}

static void *work(void *argument)
{
    vg_worker *w = argument;
    pthread_mutex_lock(&w->lock);
    while (!w->ending) {
        if (w->next >= w->allowed || w->failure.status != VG_OK) {
            pthread_cond_wait(&w->change, &w->lock);
            continue;
        }
        w->busy = true;
        do_next(w);
        w->busy = false;
        pthread_cond_broadcast(&w->change);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* No signals for the thread, those are the main thread's. */
vg_status vg_worker_start(vg_worker_job run, void *context, vg_worker **out)
{
    sigset_t all, before;
    vg_worker *w = vg_new0(sizeof *w);
    VG_CHECK(w, VG_E_NOMEM, "no memory for a thread that exchanges gradients");
    w->run = run;
    w->context = context;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->change, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    const int failed = pthread_create(&w->thread, NULL, work, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        free(w);
        return vg_fail(VG_E_NOMEM, "no thread to exchange gradients: %s", strerror(failed));
    }
    *out = w;
    return VG_OK;
}

void vg_worker_free(vg_worker *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->ending = true;
    pthread_cond_broadcast(&w->change);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->change);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void vg_worker_allow(vg_worker *w, int end)
{
    pthread_mutex_lock(&w->lock);
    w->allowed = end;
    pthread_cond_broadcast(&w->change);
    pthread_mutex_unlock(&w->lock);
}

vg_status vg_worker_finish(vg_worker *w, int n)
{
    pthread_mutex_lock(&w->lock);
    w->allowed = 0; /* for the thread; the rest is done here */
    while (w->busy) pthread_cond_wait(&w->change, &w->lock);
    while (w->next < n && w->failure.status == VG_OK) do_next(w);
    const vg_error failure = w->failure;
    w->next = 0;
    w->failure.status = VG_OK;
    pthread_mutex_unlock(&w->lock);
    return vg_error_raise(&failure);
}
