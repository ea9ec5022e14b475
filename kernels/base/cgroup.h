/* What the control groups of this process grant it (cgroups(7)): a container, a Slurm job and a service may have less
 * of a host than its processors and its memory say. */
#ifndef VG_BASE_CGROUP_H
#define VG_BASE_CGROUP_H

/* INFINITY where nothing is limited. */
typedef struct vg_cgroup {
    double cpus;   /* seconds of processor a second */
    double memory; /* bytes */
} vg_cgroup;

/* The least that the process's groups and all above them grant, of both versions of control groups; what cannot be read
 * limits nothing. `root` stands before /proc and /sys: "" but in tests. */
vg_cgroup vg_cgroup_read(const char *root);

#endif
