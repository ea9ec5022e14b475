/* A recorded whole-model case, and the run of the C program that is held against it. README.md says what is recorded.
 */
#ifndef TESTS_PARITY_FIXTURE_H
#define TESTS_PARITY_FIXTURE_H

#include "checkpoints/safetensors.h"
#include "trainer/model/model.h"

#include <jansson.h>

/* How far a value may be from the truth when PyTorch's own fp32 run is off by `error`: eight times that, and 16 units
 * in the last place of the largest element, since the two programs sum in other orders. */
static inline double parity_bound(double error, double largest)
{
    return 8 * error + 16 * 0x1p-23 * largest;
}

typedef struct fixture {
    vg_tensors *file;
    json_t *description; /* config and names */
    vg_options options;
    double *stats; /* [n,5], see README.md */
    float *samples;
    int n_names, n_samples_each;
} fixture;

/* Opens a case and turns its configuration into options. */
void fixture_open(const char *path, fixture *f);
void fixture_close(fixture *f);

/* The micro-batch: recorded numbers, generated pixels. */
void fixture_batch(const fixture *f, vg_batch *batch);

/* Fills one parameter by the rule of README.md. */
void fixture_fill_param(const vg_params *params, int index, uint64_t seed);

/* The model of a case, all parameters trainable, after one run. */
typedef struct fixture_run {
    vg_params *params;
    vg_program *program;
    vg_arena arena, gradients;
    vg_batch batch;
    int32_t *key_counts;
    float scales[8];
} fixture_run;

/* Builds, fills and runs forward and backward. */
void fixture_run_open(const fixture *f, const vg_backend *backend, int n_threads, fixture_run *run);

/* Runs once more, on the weights as they are now. */
void fixture_run_again(const fixture *f, fixture_run *run);
void fixture_run_close(fixture_run *run);

/* Compares every recorded tensor that the program gives. Returns how many are off; with `verbose` each one's line. */
int fixture_compare(const fixture *f, const fixture_run *run, bool verbose, int *n_compared);

#endif
