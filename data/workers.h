/* The same work on many things by many threads: what reading and decoding images wants, which do not know each other.
 *
 *     vg_work_on_each(n, vg_processors(), decode_one, &job);        decode_one(&job, i) for every i in 0..n-1 */
#ifndef VG_DATA_WORKERS_H
#define VG_DATA_WORKERS_H

#include <stddef.h>

/* The processors this process may use, no more than its control groups grant time of. */
int vg_processors(void);

/* Calls work(context, i) for each i in [0, n), on n_threads threads (64 at most, the caller one of them), in no order,
 * and returns when all is done. A thread that cannot be had only costs time. */
void vg_work_on_each(size_t n, int n_threads, void (*work)(void *context, size_t i), void *context);

#endif
