/* A library that the program calls: the one that it was built with, and the one that runs here. */
#ifndef VG_BASE_LIBRARY_H
#define VG_BASE_LIBRARY_H

#include <stdbool.h>

typedef struct vg_library {
    const char *what;            /* "mpi", "driver"; for the eye */
    char built[64], running[64]; /* "Open MPI 4.1.4" */
    bool fits;                   /* what runs is what was built with, or known to do for it */
} vg_library;

#endif
