/* What libraries that are loaded before the C library have in common. Included by one file of each. */
#ifndef VG_TESTS_FAULT_PRELOADED_H
#define VG_TESTS_FAULT_PRELOADED_H

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static inline long from_environment(const char *name)
{
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static inline int ends_with(const char *path, const char *end)
{
    const size_t n = strlen(path), m = end ? strlen(end) : 0;
    return m > 0 && n >= m && strcmp(path + n - m, end) == 0;
}

/* The including file says what becomes of each open(2). */
static int open_instead(const char *path, int flags, int mode);

static inline int mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    const int mode = mode_of(flags, rest);
    va_end(rest);
    return open_instead(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    const int mode = mode_of(flags, rest);
    va_end(rest);
    return open_instead(path, flags | O_LARGEFILE, mode);
}

#endif
