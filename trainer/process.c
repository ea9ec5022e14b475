/* What a rank knows of its process: cores and memory. */
#include "trainer/process.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

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
