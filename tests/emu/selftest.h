/* What the kernels of the self-test take. */
#ifndef VG_EMU_SELFTEST_H
#define VG_EMU_SELFTEST_H

enum { SELFTEST_THREADS = 64, SELFTEST_BLOCKS = 2, SELFTEST_NUMBERS = SELFTEST_THREADS * SELFTEST_BLOCKS };

struct selftest_args {
    const float *x; /* SELFTEST_NUMBERS ones, 16-byte aligned */
    float *y;       /* as many, without values */
    int *count;     /* SELFTEST_NUMBERS zeros */
    float *host;    /* memory of the host */
};

#endif
