/* A small parameter space and a state, for the tests of checkpoints with one rank and with several. */
#ifndef TESTS_CHECKPOINT_FIXTURE_H
#define TESTS_CHECKPOINT_FIXTURE_H

#include "checkpoints/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    vg_shape shape;
    bool trainable;
} fixture_params[] = {
    {"vision.blocks.0.norm1.weight", {1, {384}}, false},
    {"visual_proj.weight", {2, {50, 61}}, true}, /* three blocks, the last one partly filled */
    {"visual_proj.bias", {1, {50}}, true},
    {"text.embeddings.weight", {2, {9, 4}}, false},
    {"query_embed.weight", {2, {32, 64}}, true}, /* two blocks exactly */
    {"class_embed.bias", {1, {2}}, true},
};

enum { N_FIXTURE_PARAMS = sizeof fixture_params / sizeof *fixture_params };

static inline float fixture_value(const char *buffer, const char *name, int64_t i, int step)
{
    const vg_rng_key key = vg_rng_key_of(vg_rng_purpose(buffer) + (uint64_t)step, vg_rng_purpose(name));
    uint32_t word[4];
    vg_rng_block(key, (uint64_t)i, 0, 0, word);
    return vg_uniform(word[0]) - 0.5F;
}

/* backwards lays the trainable ones out the other way round. Values are zero. */
static inline vg_params *fixture_space(bool backwards, bool average)
{
    vg_params *params = NULL;
    int order[N_FIXTURE_PARAMS], n = 0;
    if (vg_params_new(&params) != VG_OK) abort();
    params->keep_average = average;
    for (int k = 0; k < N_FIXTURE_PARAMS; k++) {
        int index;
        const int i = backwards ? N_FIXTURE_PARAMS - 1 - k : k;
        if (vg_params_add(params, fixture_params[i].name, &fixture_params[i].shape, &index) != VG_OK) abort();
        if (fixture_params[i].trainable) order[n++] = index;
    }
    if (vg_params_layout(params, order, n) != VG_OK) abort();
    return params;
}

/* Fills weights, and the moments of the slice of one rank of n_ranks; NaN marks what others own. */
static inline void fixture_fill(vg_params *params, int step, int n_ranks, int rank)
{
    int64_t first, count;
    vg_slice_of(params->n_trainable, VG_PARAM_BLOCK, n_ranks, rank, &first, &count);
    for (int k = 0; k < params->n; k++) {
        const vg_param *p = &params->items[k];
        float *w = vg_params_data(params, k);
        for (int64_t i = 0; i < p->count; i++) {
            w[i] = fixture_value("weight", p->name, i, step);
            if (!p->trainable) continue;
            const int64_t at = p->offset + i;
            const bool own = at >= first && at < first + count;
            params->moment1[at] = own ? fixture_value("moment1", p->name, i, step) : NAN;
            params->moment2[at] = own ? fixture_value("moment2", p->name, i, step) : NAN;
            if (params->average) params->average[at] = own ? fixture_value("average", p->name, i, step) : NAN;
        }
    }
}

static inline int fixture_differs(const vg_params *params, int step, bool moments)
{
    int wrong = 0;
    for (int k = 0; k < params->n; k++) {
        const vg_param *p = &params->items[k];
        const float *w = vg_params_data(params, k);
        for (int64_t i = 0; i < p->count; i++) {
            wrong += w[i] != fixture_value("weight", p->name, i, step);
            if (!p->trainable || !moments) continue;
            wrong += params->moment1[p->offset + i] != fixture_value("moment1", p->name, i, step);
            wrong += params->moment2[p->offset + i] != fixture_value("moment2", p->name, i, step);
            if (params->average) wrong += params->average[p->offset + i] != fixture_value("average", p->name, i, step);
        }
    }
    return wrong;
}

static const vg_checkpoint_number fixture_numbers[] = {{"best_acc50", 0.8125}, {"loss_mean", 1.0 / 3}};

static inline vg_checkpoint_state fixture_state(int step, uint64_t generation)
{
    return (vg_checkpoint_state){
        .step = step,
        .stage = 1,
        .stage_step = step - 5,
        .position = 64 * (int64_t)step,
        .optimizer_steps = step - 1,
        .skipped_steps = 1,
        .seed = UINT64_MAX - 3,
        .generation = generation,
        .configuration = "train:\n  name: \"caf\xc3\xa9\"\n",
        .configuration_hash = "00c0ffee",
        .profile = "cpu avx512",
        .numbers = fixture_numbers,
        .n_numbers = 2,
    };
}

/* A save from begin to end. Collective. *path as of vg_checkpoint_finish. */
static inline vg_status fixture_save(vg_comm *comm, const char *folder, const vg_params *params,
                                     const vg_checkpoint_state *state, int keep, char **path)
{
    vg_checkpoint_writer *writer = NULL;
    VG_TRY(vg_checkpoint_writer_open(comm, folder, params, &(vg_checkpoint_retention){.last = keep}, 1, &writer));
    vg_status st = vg_checkpoint_begin(writer, state);
    if (st == VG_OK) st = vg_checkpoint_finish(writer, path);
    vg_checkpoint_writer_close(writer);
    return st;
}

#endif
