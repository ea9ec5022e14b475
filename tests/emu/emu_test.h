/* Tests of the emulated libraries: each body runs in a process of its own, since what they are set to do is read once
 * and a report ends the process. */
#ifndef VG_TESTS_EMU_TEST_H
#define VG_TESTS_EMU_TEST_H

#define _GNU_SOURCE

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { SKIPPED = 77, REPORTED = 86, WRONG = 1 };

typedef struct ended {
    int status;
    char text[4096]; /* what it wrote to stderr */
} ended;

/* In a body: the process ends here when the condition is false, and says where. */
#define NEED(condition)                                                     \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(WRONG);                                                    \
        }                                                                   \
    } while (0)
#define OK(call) NEED((call) == cudaSuccess)

/* Runs a body with a variable of the environment set to a number (NULL: none); a body that returns ends with 0. */
static inline ended run_apart(void (*body)(void), const char *variable, long value)
{
    ended e = {0};
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        char number[32];
        snprintf(number, sizeof number, "%ld", value);
        signal(SIGSEGV, SIG_DFL);          /* cmocka's handler would go on with the next test, here */
        setenv("VG_EMU_ALONE_MS", "0", 1); /* the device runs when it is waited for, and only then */
        if (variable) setenv(variable, number, 1);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        body();
        exit(0);
    }
    close(ends[1]);
    size_t n = 0;
    for (ssize_t got; (got = read(ends[0], e.text + n, sizeof e.text - 1 - n)) > 0;) n += (size_t)got;
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    e.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return e;
}

static inline void passes(void (*body)(void), const char *variable, long value)
{
    const ended e = run_apart(body, variable, value);
    if (e.status != 0) print_message("%s=%ld: status %d\n%s", variable ? variable : "-", value, e.status, e.text);
    assert_int_equal(e.status, 0);
}

/* The body is reported, in words that name it. */
static inline void is_reported(void (*body)(void), const char *words)
{
    const ended e = run_apart(body, NULL, 0);
    if (e.status != REPORTED || !strstr(e.text, words)) print_message("wanted \"%s\", got:\n%s", words, e.text);
    assert_int_equal(e.status, REPORTED);
    assert_non_null(strstr(e.text, words));
}

/* On how many of the first n seeds does the body fail? */
static inline int failures_of_seeds(void (*body)(void), int n)
{
    int failures = 0;
    for (int seed = 0; seed < n; seed++) failures += run_apart(body, "VG_EMU_SEED", seed).status != 0;
    return failures;
}

/* These tests are about the stand-ins: there is nothing to see with the real libraries. */
static inline void need_stand_ins(void)
{
    if (!dlsym(RTLD_DEFAULT, "emu_register")) exit(SKIPPED);
}

#endif
