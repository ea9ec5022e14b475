#define _POSIX_C_SOURCE 200809L
#include "data/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TERMINAL_EVERY_S 0.5
#define LOG_EVERY_S      30.0

enum { LINE_BYTES = 160 };

void vg_progress_begin(vg_progress *p, const char *what, const char *unit, int64_t total)
{
    const bool terminal = isatty(STDERR_FILENO);
    *p = (vg_progress){.what = what,
                       .unit = unit,
                       .total = total,
                       .begin_s = vg_now_s(),
                       .every_s = terminal ? TERMINAL_EVERY_S : LOG_EVERY_S,
                       .terminal = terminal};
    p->next_s = p->begin_s + p->every_s;
    pthread_mutex_init(&p->telling, NULL);
}

void vg_progress_text(const vg_progress *p, int64_t done, double elapsed_s, char *out, size_t out_bytes)
{
    const bool bytes = strcmp(p->unit, VG_PROGRESS_BYTES) == 0;
    const double scale = bytes ? 1e-6 : 1.0, rate = elapsed_s > 0 ? (double)done / elapsed_s : 0;
    const int digits = bytes ? 1 : 0;
    if (p->total <= 0 || rate <= 0) {
        snprintf(out, out_bytes, "%s: %.*f %s, %.1f %s/s", p->what, digits, (double)done * scale, p->unit, rate * scale,
                 p->unit);
        return;
    }
    const double left = done < p->total ? (double)(p->total - done) / rate : 0;
    const long long s = (long long)left;
    snprintf(out, out_bytes, "%s: %.*f of %.*f %s (%d %%), %.1f %s/s, %lld:%02lld:%02lld left", p->what, digits,
             (double)done * scale, digits, (double)p->total * scale, p->unit,
             (int)(100.0 * (double)done / (double)p->total), rate * scale, p->unit, s / 3600, s / 60 % 60, s % 60);
}

static void tell(const vg_progress *p, double now)
{
    char line[LINE_BYTES];
    vg_progress_text(p, atomic_load(&p->done), now - p->begin_s, line, sizeof line);
    if (p->terminal)
        fprintf(stderr, "\r%s\033[K", line);
    else
        vg_log_root("%s", line);
}

void vg_progress_add(vg_progress *p, int64_t n)
{
    atomic_fetch_add(&p->done, n);
    if (pthread_mutex_trylock(&p->telling) != 0) return; /* another thread tells */
    const double now = vg_now_s();
    if (now >= p->next_s) {
        tell(p, now);
        p->next_s = now + p->every_s;
    }
    pthread_mutex_unlock(&p->telling);
}

void vg_progress_end(vg_progress *p)
{
    const bool told = p->next_s > p->begin_s + p->every_s;
    if (p->terminal && told) fputs("\r\033[K", stderr);
    pthread_mutex_destroy(&p->telling);
}
