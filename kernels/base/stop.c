#define _POSIX_C_SOURCE 200809L
#include "kernels/base/stop.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stop_signal; /* the signal flag: one of the two globals of the house */

static void on_stop(int signal_number)
{
    stop_signal = signal_number;
}

/* Whoever sits at the keyboard hears at once that it has been heard: what is under way takes its time. */
static void on_interrupt(int signal_number)
{
    static const char line[] = "\nvlgtr: asked to stop, at the next occasion; ^C once more ends it at once\n";
    const int error = errno;
    on_stop(signal_number);
    (void)!write(STDERR_FILENO, line, sizeof line - 1);
    errno = error;
}

void vg_stop_on_signals(void)
{
    static const int asking[] = {SIGTERM, SIGUSR1, SIGUSR2, SIGINT, SIGHUP};
    const bool keyboard = isatty(STDERR_FILENO) == 1;
    struct sigaction before;
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof asking / sizeof *asking; i++) {
        const bool interrupt = asking[i] == SIGINT;
        const struct sigaction action = {.sa_handler = interrupt && keyboard ? on_interrupt : on_stop,
                                         .sa_flags = interrupt ? (int)(SA_RESTART | SA_RESETHAND) : SA_RESTART};
        const bool nohup = asking[i] == SIGHUP && sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler == SIG_IGN;
        if (!nohup) sigaction(asking[i], &action, NULL);
        sigaddset(&set, asking[i]);
    }
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int vg_stop_signal(void)
{
    return stop_signal;
}

vg_status vg_stop_check(void)
{
    const int signal_number = stop_signal;
    return signal_number ? vg_fail(VG_E_STOPPED, "stopped on request (signal %d, %s); give the same command again",
                                   signal_number, strsignal(signal_number))
                         : VG_OK;
}
