/* What a rank knows of its process: cores and memory. */
#include "trainer/process.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

static vg_status hash_program(XXH3_state_t *state, uint64_t *hash)
{
    static const char path[] = "/proc/self/exe";
    char piece[1 << 16];
    FILE *f = fopen(path, "rb");
    VG_CHECK(f, VG_E_STORAGE, "%s: %s", path, strerror(errno));
    XXH3_64bits_reset(state);
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;) XXH3_64bits_update(state, piece, n);
    const bool whole = !ferror(f);
    fclose(f);
    VG_CHECK(whole, VG_E_STORAGE, "%s: the program cannot be read: %s", path, strerror(errno));
    *hash = XXH3_64bits_digest(state);
    return VG_OK;
}

vg_status vg_same_program(vg_comm *comm)
{
    uint64_t hash = 0;
    if (vg_comm_size(comm) == 1) return VG_OK;
    XXH3_state_t *state = XXH3_createState();
    const vg_status st = state ? hash_program(state, &hash) : vg_fail(VG_E_NOMEM, "no memory to compare programs");
    XXH3_freeState(state);
    VG_TRY(vg_comm_agree(comm, st));
    return vg_comm_same(comm, &hash, sizeof hash, "the program");
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
