#define _GNU_SOURCE /* sched_getaffinity */
#include "data/workers.h"

#include "kernels/base/base.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { MAX_THREADS = 64 };

typedef struct job {
    size_t n;
    void (*work)(void *context, size_t i);
    void *context;
    atomic_size_t next;
} job;

int vg_processors(void)
{
    cpu_set_t set;
    const int bound = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return (int)fmax(1, fmin(bound, ceil(vg_cgroup_read("").cpus)));
}

static void *work(void *argument)
{
    job *j = argument;
    for (size_t i; (i = atomic_fetch_add(&j->next, 1)) < j->n;) j->work(j->context, i);
    return NULL;
}

void vg_work_on_each(size_t n, int n_threads, void (*function)(void *context, size_t i), void *context)
{
    job j = {.n = n, .work = function, .context = context};
    pthread_t threads[MAX_THREADS];
    int started = 0;
    if (n_threads > MAX_THREADS) n_threads = MAX_THREADS;
    while (started < n_threads - 1 && pthread_create(&threads[started], NULL, work, &j) == 0) started++;
    work(&j);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
}
