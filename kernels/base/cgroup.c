#include "kernels/base/cgroup.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST = 4096 }; /* path or line that is read */

/* Numbers at the head of a file; how many were there. */
static int read_numbers(const char *folder, const char *name, double *first, double *second)
{
    char path[LONGEST];
    const int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = n < (int)sizeof path ? fopen(path, "re") : NULL;
    if (!f) return 0;
    const int found = fscanf(f, "%lf %lf", first, second);
    fclose(f);
    return found;
}

static void narrow_cpus(vg_cgroup *grant, double quota, double period)
{
    if (quota > 0 && period > 0) grant->cpus = fmin(grant->cpus, quota / period);
}

/* What one folder of a hierarchy says: version 2 writes "max" where version 1 has -1 or a number beyond all memory. */
static void narrow(vg_cgroup *grant, const char *folder)
{
    double a, b;
    if (read_numbers(folder, "cpu.max", &a, &b) == 2) narrow_cpus(grant, a, b);
    if (read_numbers(folder, "cpu.cfs_quota_us", &a, &b) == 1 && read_numbers(folder, "cpu.cfs_period_us", &b, &b) == 1)
        narrow_cpus(grant, a, b);
    if (read_numbers(folder, "memory.max", &a, &b) == 1 || read_numbers(folder, "memory.limit_in_bytes", &a, &b) == 1)
        grant->memory = fmin(grant->memory, a);
}

/* The group's folder and those above it. A container may see its own group as the top, under a path that is only valid
 * outside: then only the top is there. */
static void narrow_upwards(vg_cgroup *grant, const char *root, const char *hierarchy, const char *group)
{
    char folder[LONGEST];
    const int top = snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s", root, hierarchy);
    const int n = snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s%s", root, hierarchy, group);
    if (n >= (int)sizeof folder) return;
    for (;;) {
        narrow(grant, folder);
        char *last = strrchr(folder, '/');
        if (last < folder + top) return;
        *last = '\0';
    }
}

static bool lists(const char *controllers, const char *wanted)
{
    const size_t n = strlen(wanted);
    for (const char *c = controllers; c; c = strchr(c, ','), c = c ? c + 1 : NULL)
        if (strncmp(c, wanted, n) == 0 && (c[n] == ',' || c[n] == '\0')) return true;
    return false;
}

vg_cgroup vg_cgroup_read(const char *root)
{
    vg_cgroup grant = {INFINITY, INFINITY};
    char line[LONGEST];
    const int n = snprintf(line, sizeof line, "%s/proc/self/cgroup", root);
    FILE *f = n < (int)sizeof line ? fopen(line, "re") : NULL;
    if (!f) return grant;
    while (fgets(line, sizeof line, f)) { /* number:controllers:group; version 2 has no controllers */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = '\0';
        controllers++;
        if (!*controllers) narrow_upwards(&grant, root, "", group);
        if (lists(controllers, "cpu")) narrow_upwards(&grant, root, "/cpu", group);
        if (lists(controllers, "memory")) narrow_upwards(&grant, root, "/memory", group);
    }
    fclose(f);
    return grant;
}
