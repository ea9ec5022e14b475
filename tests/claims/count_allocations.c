/* Preloaded into a run, counts what its main thread allocates and prints the count at exit: two runs that differ in
 * their number of steps alone show what a step allocates. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static long long n_allocations;

static int in_main_thread(void)
{
    return syscall(SYS_gettid) == getpid();
}

void *malloc(size_t bytes)
{
    static void *(*next)(size_t);
    if (!next) next = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    if (in_main_thread()) n_allocations++;
    return next(bytes);
}

void *realloc(void *old, size_t bytes)
{
    static void *(*next)(void *, size_t);
    if (!next) next = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    if (in_main_thread()) n_allocations++;
    return next(old, bytes);
}

__attribute__((destructor)) static void report(void)
{
    fprintf(stderr, "allocations %lld\n", n_allocations);
}
