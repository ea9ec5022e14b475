/* A recorded case: its settings as options, its inputs and weights, and the tensors that PyTorch gave for them.
 * README.md says what is recorded. Anything wrong with the file ends the program with a line about it. */
#ifndef TESTS_PARITY_FIXTURE_H
#define TESTS_PARITY_FIXTURE_H

#include "checkpoints/safetensors.h"
#include "trainer/model/model.h"

#include <jansson.h>
#include <math.h>

/* How far a value may be from the truth: eight times what PyTorch's own fp32 run is off by, and a share of the tensor's
 * largest element; likewise for its norm. Where rounding alone is to be allowed for, the share is some units in the
 * last place, since the two programs sum in other orders. */
typedef struct parity_limits {
    double element, norm;
} parity_limits;

enum { PARITY_UNITS = 16 };
static inline double parity_bound(double error, double largest, double share)
{
    return 8 * error + share * largest;
}

typedef struct fixture {
    vg_tensors *file;
    json_t *description; /* config and names */
    vg_options options;
    double *stats; /* [n_names,5], see README.md */
    float *samples;
    int64_t *first_sample; /* [n_names + 1] */
    int n_names, n_samples_each;
    parity_limits rounding; /* of this size of model */
    int n_steps;            /* of a training run; 0 for a single forward and backward */
} fixture;

/* Opens a case and turns its configuration into options; a training run is their only stage. */
void fixture_open(const char *path, fixture *f);
void fixture_close(fixture *f);

/* Ends the program with the error's line. */
void must(vg_status st);

/* The bytes of a tensor (heap) and how many elements it has. */
void *fixture_read(const fixture *f, const char *name, int64_t *count);

/* The micro-batch of a step (0 where there is no run): recorded numbers, generated pixels. Fills the buffers of
 * `batch`, which vg_batch_init made. */
void fixture_batch(const fixture *f, int step, vg_batch *batch);

/* Fills every parameter by the rules of README.md. */
void fixture_fill_params(const fixture *f, const vg_params *params);

/* ---- comparing ---- */

/* The larger of two distances; NaN is the largest. */
static inline double parity_worse(double worst, double off)
{
    return off > worst || isnan(off) ? off : worst;
}

/* What a comparison found. An error is relative to the tensor's largest element, or to a thousandth of the largest of
 * its kind (values, gradients, updates) where that is more: some tensors are 0 but for rounding. */
typedef struct parity_tally {
    bool verbose; /* prints a line for each tensor that is off */
    int n, n_off;
    double relative, pytorch_relative; /* the largest errors: ours, PyTorch's fp32 run's */
    const char *relative_name;
    double share; /* the largest part of its bound that a tensor took */
    const char *share_name;
} parity_tally;

const char *fixture_name(const fixture *f, int i);
int64_t fixture_count(const fixture *f, int i); /* elements of tensor i */
double fixture_largest(const fixture *f, int i);

/* Compares x[count] with tensor i: the samples, the norm and the largest element. Returns by how much the samples and
 * the largest element are off at most. */
double fixture_compare(const fixture *f, int i, const float *x, int64_t count, const parity_limits *limits,
                       parity_tally *tally);
void parity_print(const parity_tally *tally);

#endif
