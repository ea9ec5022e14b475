/* News of work that takes long: how far it is, how fast, how long it will take. On a terminal a line that rewrites
 * itself, elsewhere a line of the log every half minute; work that ends sooner says nothing.
 *
 *     vg_progress progress;
 *     vg_progress_begin(&progress, "verify", VG_PROGRESS_BYTES, total);
 *     for each piece: vg_progress_add(&progress, bytes_of_the_piece);      from any thread
 *     vg_progress_end(&progress); */
#ifndef VG_DATA_PROGRESS_H
#define VG_DATA_PROGRESS_H

#include "kernels/base/base.h"

#include <pthread.h>
#include <stdatomic.h>

#define VG_PROGRESS_BYTES "MB" /* counted in bytes, told in 10^6 of them; any other unit is told as it is counted */

typedef struct vg_progress {
    const char *what, *unit; /* borrowed until the end */
    int64_t total;           /* 0 when unknown: no share and no time left are told */
    atomic_llong done;
    double begin_s, next_s, every_s;
    bool terminal;
    pthread_mutex_t telling;
} vg_progress;

void vg_progress_begin(vg_progress *progress, const char *what, const char *unit, int64_t total);
void vg_progress_add(vg_progress *progress, int64_t n); /* thread-safe */
void vg_progress_end(vg_progress *progress);

/* The line: "verify: 31.0 of 124.0 MB (25 %), 10.3 MB/s, 0:00:09 left". Cut where out_bytes end. */
void vg_progress_text(const vg_progress *progress, int64_t done, double elapsed_s, char *out, size_t out_bytes);

#endif
