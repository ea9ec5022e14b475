/* What the programs under mpirun have in common: one group for all tests. A failed check aborts (CMOCKA_TEST_ABORT). */
#ifndef TESTS_DIST_MPI_TEST_H
#define TESTS_DIST_MPI_TEST_H

#include "dist/comm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef __SANITIZE_ADDRESS__
/* MPI's modules stay loaded to the end: lsan.supp goes by their names. */
int dlclose(void *handle);
int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
#endif

static inline int mpi_run(const char *name, const struct CMUnitTest *tests, size_t n, vg_comm **comm)
{
    if (vg_comm_open(comm) != VG_OK) {
        fprintf(stderr, "%s: %s\n", name, vg_error_text());
        return 1;
    }
    const int failed = _cmocka_run_group_tests(name, tests, n, NULL, NULL);
    if (vg_comm_close(*comm) != VG_OK) return 1;
    return failed;
}

#endif
