/* A last line before a wild access ends the process: whose it was. */
#include "emu/trap.h"
#include "emu/exec_impl.h"
#include "emu/heap.h"

#include <csignal>
#include <cstdio>

namespace emu
{

static void explain(int signal, siginfo_t *info, void *)
{
    const void *const p = info->si_addr;
    const allocation *a = heap_find(p);
    if (self)
        fprintf(stderr, "vg-emu: %s accesses %p, which is no memory\n", where(*self).c_str(), p);
    else if (a)
        fprintf(stderr, "vg-emu: host code accesses %p of the device: allocation %d of %zu bytes, byte %zu\n", p,
                a->number, a->bytes, (size_t)((const char *)p - a->base));
    else if (heap_contains(p))
        fprintf(stderr, "vg-emu: host code accesses %p of the device, which is not allocated\n", p);
    std::signal(signal, SIG_DFL); /* the access is made again, and ends the process */
}

void trap_install()
{
    static char stack[64 << 10]; /* a fiber may have none left */
    stack_t alternative = {};
    alternative.ss_sp = stack;
    alternative.ss_size = sizeof stack;
    sigaltstack(&alternative, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = explain;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
}

} // namespace emu
