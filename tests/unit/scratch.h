/* A folder of its own for a test, gone afterwards. The includer defines _XOPEN_SOURCE 700 first (mkdtemp, nftw). */
#ifndef VG_TESTS_SCRATCH_H
#define VG_TESTS_SCRATCH_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

static inline int scratch_remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info, (void)type, (void)walk;
    return remove(path);
}

static inline int scratch_make(void **state)
{
    const char *base = getenv("TMPDIR");
    char *folder = malloc(256);
    snprintf(folder, 256, "%s/vlgtr-test-XXXXXX", base ? base : "/tmp");
    *state = folder;
    return mkdtemp(folder) ? 0 : -1;
}

static inline int scratch_remove(void **state)
{
    const int rc = nftw(*state, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return rc;
}

/* The place of a name in a folder. */
static inline const char *path_in(const char *folder, const char *name)
{
    static char path[8][512]; /* as many as a test holds at once */
    static int next;
    next = (next + 1) % 8;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

#endif
