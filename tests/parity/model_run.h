/* The program of a recorded case: all parameters train, so every gradient can be compared. */
#ifndef TESTS_PARITY_MODEL_RUN_H
#define TESTS_PARITY_MODEL_RUN_H

#include "tests/parity/fixture.h"

typedef struct model_run {
    const fixture *f;
    const vg_backend *backend;
    vg_stream *stream; /* opened */
    vg_params *params;
    vg_program *program;
    vg_arena arena;
    vg_arena device_gradients;
    float *gradients; /* of the last run, on the host */
    vg_batch batch;
    int32_t *key_counts;
    float scales[8];
} model_run;

/* Builds the program of the case under its options, fills weights and inputs. */
void model_run_open(const fixture *f, const vg_backend *backend, vg_stream *stream, model_run *run);
void model_run_close(model_run *run);

/* Forward and backward, on weights and inputs as they are now. */
void model_run_go(model_run *run);

/* Compares the matching and every recorded tensor that the program has. Returns how many are off. */
int model_run_compare(const model_run *run, parity_tally *tally);

/* By how much one recorded tensor is off at most. */
double model_run_off(const model_run *run, const char *name);

#endif
