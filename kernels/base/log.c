#include "kernels/base/log.h"

#include <stdarg.h>
#include <stdio.h>

/* Who speaks is a fact of the process, like its pid: set once by main and read by every room. */
static struct {
    int rank, n_ranks;
    char host[64];
} speaker = {.n_ranks = 1};

void vg_log_identify(int rank, int n_ranks, const char *host)
{
    speaker.rank = rank;
    speaker.n_ranks = n_ranks;
    snprintf(speaker.host, sizeof speaker.host, "%s", host);
}

static void print_line(const char *who, const char *format, va_list args)
{
    char line[4096]; /* one write per line, so that the lines of several ranks do not mix */
    vsnprintf(line, sizeof line, format, args);
    fprintf(stderr, "vlgtr%s: %s\n", who, line);
}

void vg_log_root(const char *format, ...)
{
    if (speaker.rank != 0) return;
    va_list args;
    va_start(args, format);
    print_line("", format, args);
    va_end(args);
}

void vg_log_rank(const char *format, ...)
{
    char who[128] = "";
    if (speaker.n_ranks > 1) snprintf(who, sizeof who, " [rank %d on %s]", speaker.rank, speaker.host);
    va_list args;
    va_start(args, format);
    print_line(who, format, args);
    va_end(args);
}
