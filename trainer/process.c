/* What a rank knows of its process: cores and memory. */
#include "trainer/process.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hwloc.h>
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

int vg_core_share(const cpu_set_t *cores, int n, int mine)
{
    double share = 0;
    for (int core = 0; core < CPU_SETSIZE; core++) {
        int users = 0;
        if (!CPU_ISSET(core, &cores[mine])) continue;
        for (int i = 0; i < n; i++) users += CPU_ISSET(core, &cores[i]) != 0;
        share += 1.0 / users;
    }
    return share < 1 ? 1 : (int)(share + 1e-6);
}

cpu_set_t vg_cores_of(struct hwloc_topology *topology, const cpu_set_t *processors)
{
    cpu_set_t cores;
    CPU_ZERO(&cores);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, processors)) continue;
        const hwloc_obj_t one = topology ? hwloc_get_pu_obj_by_os_index(topology, (unsigned)i) : NULL;
        const hwloc_obj_t core = one ? hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, one) : NULL;
        CPU_SET(core ? hwloc_bitmap_first(core->complete_cpuset) : i, &cores);
    }
    return cores;
}

/* Where a rank may run. */
typedef struct site {
    char host[64];
    cpu_set_t processors, cores;
    int cores_of_mpirun; /* that it may run on; 0 where it did not bind this rank */
} site;

/* Also processors that this process may not use, for other ranks may; NULL where the system does not tell. */
static hwloc_topology_t topology_of_host(void)
{
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0) return NULL;
    hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
    if (hwloc_topology_load(topology) == 0) return topology;
    hwloc_topology_destroy(topology);
    return NULL;
}

/* The two hardware threads of a core multiply no faster than one. */
static void find_site(const vg_comm *comm, site *own)
{
    const hwloc_topology_t topology = topology_of_host();
    cpu_set_t set;
    snprintf(own->host, sizeof own->host, "%s", vg_comm_host(comm));
    if (sched_getaffinity(0, sizeof own->processors, &own->processors) != 0) /* there are more than a set holds */
        for (int i = 0; i < CPU_SETSIZE; i++) CPU_SET(i, &own->processors);
    own->cores = vg_cores_of(topology, &own->processors);
    if (getenv("OMPI_MCA_orte_bound_at_launch") && sched_getaffinity(getppid(), sizeof set, &set) == 0) {
        set = vg_cores_of(topology, &set);
        own->cores_of_mpirun = CPU_COUNT(&set);
    }
    if (topology) hwloc_topology_destroy(topology);
}

/* The share of this rank among those of its host. */
static vg_cores share_of(const vg_comm *comm, const site *sites, cpu_set_t *sets)
{
    const int me = vg_comm_rank(comm), size = vg_comm_size(comm);
    cpu_set_t all;
    int n = 0, mine = 0;
    CPU_ZERO(&all);
    for (int r = 0; r < size; r++) {
        if (strcmp(sites[r].host, sites[me].host) != 0) continue;
        if (r == me) mine = n;
        CPU_OR(&all, &all, &sites[r].cores);
        sets[n] = sites[r].cores;
        sets[size + n++] = sites[r].processors;
    }
    const double granted = vg_cgroup_read("").cpus;
    const int used = CPU_COUNT(&all), usable = (int)fmin(sites[me].cores_of_mpirun, ceil(granted));
    const int cores = vg_core_share(sets, n, mine), processors = vg_core_share(sets + size, n, mine);
    return (vg_cores){.threads = (int)fmax(1, fmin(cores, granted / n + 1e-6)),
                      .processors = (int)fmax(1, fmin(processors, granted / n + 1e-6)),
                      .used = used,
                      .ranks = n,
                      .usable = usable > used ? usable : used};
}

/* A launcher may have bound a rank to cores of its own, or to a socket or a job's cores that others have, too. */
vg_status vg_cores_share(vg_comm *comm, int64_t wanted, vg_cores *out)
{
    const size_t n = (size_t)vg_comm_size(comm);
    site own = {0}, *sites = vg_new0_array(n, sizeof *sites);
    cpu_set_t *sets = vg_new0_array(2 * n, sizeof *sets);
    vg_status st = sites && sets ? VG_OK : vg_fail(VG_E_NOMEM, "no memory to compare the cores of ranks");
    find_site(comm, &own);
    st = vg_comm_agree(comm, st);
    if (st == VG_OK) st = vg_comm_allgather(comm, &own, sizeof own, sites);
    if (st == VG_OK) *out = share_of(comm, sites, sets);
    if (st == VG_OK && wanted > 0) out->threads = out->processors = (int)wanted;
    free(sites);
    free(sets);
    return st;
}

double vg_host_memory(void)
{
    return fmin((double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE), vg_cgroup_read("").memory);
}

bool vg_host_holds(double bytes)
{
    return bytes < 0.9 * vg_host_memory();
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
