/* What a rank knows of its process: cores and signals. */
#include "trainer/process.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t stop_flag; /* the signal flag: one of the two globals of the house */

static void on_stop(int signal_number)
{
    (void)signal_number;
    stop_flag = 1;
}

void vg_stop_on_signals(void)
{
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
}

bool vg_stop_requested(void)
{
    return stop_flag != 0;
}

int vg_thread_count(const vg_comm *comm, int64_t wanted)
{
    if (wanted > 0) return (int)wanted;
    const int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t mine;
    const int allowed = sched_getaffinity(0, sizeof mine, &mine) == 0 ? CPU_COUNT(&mine) : cores;
    /* a launcher that binds ranks has divided the cores already */
    const int share = allowed < cores ? allowed : cores / vg_comm_local_size(comm);
    return share > 0 ? share : 1;
}

size_t vg_peak_memory(void)
{
    char line[256];
    unsigned long long kilobytes = 0;
    FILE *f = fopen("/proc/self/status", "r");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %llu kB", &kilobytes) == 1) break;
    fclose(f);
    return (size_t)kilobytes * 1024;
}

void vg_peak_memory_reset(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f) return;
    fputs("5", f); /* proc(5): the peak becomes the present size */
    fclose(f);
}
