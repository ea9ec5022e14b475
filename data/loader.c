/* The queue and the threads. A job is one of the caller's batches on its way: free, being filled, or taken by the
 * caller. The unit of work is one image of a job; workers always help the oldest job first, so that the batch which is
 * waited for comes soonest. One lock guards all of it; it is held for a few instructions per image. */
#define _GNU_SOURCE /* affinity of threads */
#include "data/loader_impl.h"

#include <assert.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { ERROR_BYTES = 2048, MAX_WORKERS = 256 };

typedef enum job_state { JOB_FREE, JOB_FILLING, JOB_TAKEN } job_state;

typedef struct job {
    vg_batch *batch;
    job_state state;
    int n_begun, n_done; /* images */
    int failed_image;    /* the first in the batch that failed, so that the error told does not depend on timing */
    vg_status status;    /* and why */
    char error[ERROR_BYTES];
} job;

typedef struct worker {
    vg_loader *loader;
    pthread_t thread;
    vg_fill_scratch scratch;
} worker;

struct vg_loader {
    vg_filler filler;
    int n_images; /* of a batch */
    job *jobs;
    int n_jobs;
    worker *workers; /* one without a thread when the caller does the work */
    int n_workers, n_threads;
    double wait_s;
    pthread_mutex_t lock; /* guards what follows, and the jobs */
    pthread_cond_t work;  /* something to do, or stopping */
    pthread_cond_t ready; /* a job is complete */
    int64_t *wanted;      /* [most_wanted] positions without a batch so far, oldest first: a ring */
    size_t first_wanted, n_wanted, most_wanted;
    int *order; /* [n_jobs] jobs being filled, oldest first: a ring */
    int first_order, n_order;
    bool stopping;
};

/* ---- under the lock ---- */

static job *job_at(const vg_loader *l, int place)
{
    return &l->jobs[l->order[(l->first_order + place) % l->n_jobs]];
}

/* Gives wanted positions to free batches. */
static void dispatch(vg_loader *l)
{
    for (int k = 0; k < l->n_jobs && l->n_wanted > 0; k++) {
        job *j = &l->jobs[k];
        if (j->state != JOB_FREE) continue;
        j->state = JOB_FILLING;
        j->n_begun = j->n_done = 0;
        j->status = VG_OK;
        j->batch->first_position = l->wanted[l->first_wanted];
        j->batch->shape.side = vg_filler_side(&l->filler, j->batch->first_position);
        l->first_wanted = (l->first_wanted + 1) % l->most_wanted;
        l->n_wanted--;
        l->order[(l->first_order + l->n_order++) % l->n_jobs] = k;
    }
    pthread_cond_broadcast(&l->work);
}

static job *job_with_work(const vg_loader *l)
{
    for (int place = 0; place < l->n_order; place++)
        if (job_at(l, place)->n_begun < l->n_images) return job_at(l, place);
    return NULL;
}

/* Fills one image of j; the lock is given up meanwhile. */
static void work_on(vg_loader *l, worker *w, job *j)
{
    const int i = j->n_begun++;
    pthread_mutex_unlock(&l->lock);
    const vg_status st = vg_fill_image(&l->filler, &w->scratch, j->batch, i, j->batch->first_position + i);
    pthread_mutex_lock(&l->lock);
    if (st != VG_OK && (j->status == VG_OK || i < j->failed_image)) {
        j->status = st;
        j->failed_image = i;
        snprintf(j->error, sizeof j->error, "%s", vg_error_text());
    }
    if (++j->n_done == l->n_images) pthread_cond_signal(&l->ready);
}

/* ---- threads ---- */

/* Where that is refused or there are more processors than a set holds, the thread goes where it likes. */
static void pin_to(int place)
{
    cpu_set_t allowed, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    place %= CPU_COUNT(&allowed);
    for (int processor = 0; processor < CPU_SETSIZE; processor++)
        if (CPU_ISSET(processor, &allowed) && place-- == 0) CPU_SET(processor, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
}

static void *worker_main(void *argument)
{
    worker *w = argument;
    vg_loader *l = w->loader;
    if (l->filler.spec.pin) pin_to(l->filler.spec.first_processor + (int)(w - l->workers));
    pthread_mutex_lock(&l->lock);
    while (!l->stopping) {
        job *j = job_with_work(l);
        if (j)
            work_on(l, w, j);
        else
            pthread_cond_wait(&l->work, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Signals stay with the caller's threads: a worker starts with all of them blocked. */
static vg_status workers_start(vg_loader *l, int n_threads)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    for (; rc == 0 && l->n_threads < n_threads; l->n_threads += rc == 0)
        rc = pthread_create(&l->workers[l->n_threads].thread, NULL, worker_main, &l->workers[l->n_threads]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    VG_CHECK(rc == 0, VG_E_NOMEM, "loader thread %d of %d cannot be started; lower data.workers", l->n_threads + 1,
             n_threads);
    return VG_OK;
}

static vg_status spec_check(const vg_loader_spec *spec, const vg_batch *batches, int n_batches)
{
    const vg_batch_shape *s = &spec->shape;
    VG_CHECK(s->images > 0 && s->phrases > 0 && s->phrases <= VG_LOADER_PHRASES && s->max_targets > 0 && s->side > 0 &&
                 s->side <= VG_MAX_STRETCHED && s->text_tokens > 0 && s->text_tokens % 8 == 0,
             VG_E_BUG, "a micro-batch of %d images, %d phrases, side %d, %d tokens, %d targets cannot be filled",
             s->images, s->phrases, s->side, s->text_tokens, s->max_targets);
    VG_CHECK(spec->n_sets >= 0 && spec->n_sets <= VG_LOADER_SETS, VG_E_BUG, "a loader has at most %d sets",
             VG_LOADER_SETS);
    VG_CHECK(n_batches >= 2 && spec->n_workers >= 0 && spec->n_workers <= MAX_WORKERS, VG_E_BUG,
             "a loader has 2 or more batches and 0 to %d workers, not %d and %d", MAX_WORKERS, n_batches,
             spec->n_workers);
    VG_CHECK(s->image_floats == 0 || spec->features, VG_E_BUG, "a loader of features has no store");
    for (int k = 0; k < n_batches; k++) {
        const vg_batch_shape *b = &batches[k].shape;
        VG_CHECK(b->images == s->images && b->phrases == s->phrases && b->side == s->side &&
                     b->text_tokens == s->text_tokens && b->max_targets == s->max_targets &&
                     b->image_floats == s->image_floats,
                 VG_E_BUG, "batch %d of the loader has another shape than the loader", k);
    }
    return VG_OK;
}

static vg_status loader_fill(vg_loader *l, const vg_loader_spec *spec, vg_batch *batches, int n_batches)
{
    VG_TRY(spec_check(spec, batches, n_batches));
    VG_TRY(vg_split_check_images(spec->split));
    VG_TRY(vg_filler_init(&l->filler, spec));
    l->n_images = spec->shape.images;
    l->n_workers = spec->n_workers ? spec->n_workers : 1;
    l->workers = vg_new0_array((size_t)l->n_workers, sizeof *l->workers);
    l->jobs = vg_new0_array((size_t)n_batches, sizeof *l->jobs);
    l->order = vg_new0_array((size_t)n_batches, sizeof *l->order);
    l->most_wanted = n_batches < VG_LOADER_QUEUE ? VG_LOADER_QUEUE : (size_t)n_batches;
    l->wanted = vg_new0_array(l->most_wanted, sizeof *l->wanted);
    VG_CHECK(l->workers && l->jobs && l->order && l->wanted, VG_E_NOMEM, "no memory for a loader of %d batches",
             n_batches);
    l->n_jobs = n_batches;
    for (int k = 0; k < n_batches; k++) l->jobs[k].batch = &batches[k];
    for (int k = 0; k < l->n_workers; k++) l->workers[k].loader = l;
    return workers_start(l, spec->n_workers);
}

vg_status vg_loader_open(const vg_loader_spec *spec, vg_batch *batches, int n_batches, vg_loader **out)
{
    vg_loader *l = vg_new0(sizeof *l);
    VG_CHECK(l, VG_E_NOMEM, "no memory for a loader");
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    const vg_status st = loader_fill(l, spec, batches, n_batches);
    if (st != VG_OK) {
        vg_loader_close(l);
        return st;
    }
    *out = l;
    return VG_OK;
}

void vg_loader_close(vg_loader *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int k = 0; k < l->n_threads; k++) pthread_join(l->workers[k].thread, NULL);
    for (int k = 0; l->workers && k < l->n_workers; k++) vg_fill_scratch_release(&l->workers[k].scratch);
    vg_filler_release(&l->filler);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
    free(l->order);
    free(l->wanted);
    free(l->jobs);
    free(l->workers);
    free(l);
}

/* ---- the caller's side ---- */

vg_status vg_loader_want(vg_loader *l, int64_t first_position)
{
    VG_CHECK(first_position >= 0 && first_position <= INT64_MAX - l->n_images - VG_LOADER_QUEUE, VG_E_BUG,
             "stream position %lld is out of range", (long long)first_position);
    pthread_mutex_lock(&l->lock);
    const bool room = l->n_wanted + (size_t)l->n_order < l->most_wanted;
    if (room) {
        l->wanted[(l->first_wanted + l->n_wanted++) % l->most_wanted] = first_position;
        dispatch(l);
    }
    pthread_mutex_unlock(&l->lock);
    VG_CHECK(room, VG_E_BUG, "more than %zu micro-batches are wanted from the loader", l->most_wanted);
    return VG_OK;
}

/* Waits for the oldest job, or works on it where there are no threads. */
static void complete(vg_loader *l, job *j)
{
    while (j->n_done < l->n_images)
        if (l->n_threads == 0)
            work_on(l, &l->workers[0], j);
        else
            pthread_cond_wait(&l->ready, &l->lock);
}

static vg_status oldest_take(vg_loader *l, vg_batch **out)
{
    job *j = job_at(l, 0);
    complete(l, j);
    l->first_order = (l->first_order + 1) % l->n_jobs;
    l->n_order--;
    if (j->status == VG_OK) {
        j->state = JOB_TAKEN;
        *out = j->batch;
        return VG_OK;
    }
    const vg_status st = vg_fail(j->status, "%s", j->error);
    j->state = JOB_FREE;
    dispatch(l);
    return st;
}

vg_status vg_loader_take(vg_loader *l, vg_batch **out)
{
    const double start_s = vg_now_s();
    pthread_mutex_lock(&l->lock);
    vg_status st;
    if (l->n_order > 0)
        st = oldest_take(l, out);
    else if (l->n_wanted > 0)
        st = vg_fail(VG_E_BUG, "all %d batches of the loader are taken; give one back first", l->n_jobs);
    else
        st = vg_fail(VG_E_BUG, "no micro-batch was wanted from the loader");
    pthread_mutex_unlock(&l->lock);
    l->wait_s += vg_now_s() - start_s;
    return st;
}

void vg_loader_give_back(vg_loader *l, vg_batch *batch)
{
    pthread_mutex_lock(&l->lock);
    for (int k = 0; k < l->n_jobs; k++) {
        if (l->jobs[k].batch != batch) continue;
        assert(l->jobs[k].state == JOB_TAKEN);
        l->jobs[k].state = JOB_FREE;
    }
    dispatch(l);
    pthread_mutex_unlock(&l->lock);
}

double vg_loader_wait_s(const vg_loader *l)
{
    return l->wait_s;
}
