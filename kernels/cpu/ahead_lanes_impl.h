/* Rows of heads that will be read or written later, asked for a few lines at a time while multiply-adds go on: many at
 * once are more than a core keeps track of, and then it waits. */
#ifndef VG_AHEAD_LANES_IMPL_H
#define VG_AHEAD_LANES_IMPL_H

#include "kernels/cpu/attention_impl.h"

#include <assert.h>

enum { LINE = 16, SOME = 4 * LINE, RUNS_AHEAD = 10 };

typedef struct ahead_run {
    const float *row;
    int64_t stride, left;
} ahead_run;

typedef struct rows_ahead {
    ahead_run runs[RUNS_AHEAD];
    int n, at;           /* runs, and the one that is asked for */
    int64_t size, times; /* of a row; that some of a row will be asked for */
    int64_t column;      /* of what is next, SOME of a row */
    int64_t total, at_once;
} rows_ahead;

/* Adds rows first..first+n-1 of an item, which has `rows` of them; rows without data are none. */
static void ahead_add(rows_ahead *f, const vg_heads *x, int64_t item, int64_t rows, int64_t first, int64_t n,
                      int64_t head)
{
    if (!x->data) return;
    assert(f->n < RUNS_AHEAD);
    f->runs[f->n++] = (ahead_run){vg_heads_row(x, item, rows, first, head, f->size), x->stride, n};
    f->total += n * ((f->size + SOME - 1) / SOME);
    f->at_once = 1 + f->total / f->times;
}

/* They go to the second-level cache. */
static inline __attribute__((always_inline)) void ahead_fetch(rows_ahead *f)
{
    for (int64_t k = 0; k < f->at_once && f->at < f->n; k++) {
        ahead_run *run = &f->runs[f->at];
        const float *from = run->row + f->column;
        const int64_t left = f->size - f->column;
#pragma GCC unroll 4
        for (int64_t d = 0; d < SOME; d += LINE)
            if (d < left) __builtin_prefetch(from + d, 0, 2);
        f->column += SOME;
        if (f->column < f->size) continue;
        f->column = 0;
        run->row += run->stride;
        if (--run->left <= 0) f->at++;
    }
}

#endif
