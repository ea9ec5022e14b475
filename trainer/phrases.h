/* Phrase features kept: while the phrase encoder is frozen, a phrase is encoded once. The bits are those of encoding it
 * in every step, since a phrase's features do not depend on its neighbours in a batch. Local. */
#ifndef VG_TRAINER_PHRASES_H
#define VG_TRAINER_PHRASES_H

#include "data/loader.h"
#include "kernels/graph.h"

typedef struct vg_phrases {
    vg_program *encoder; /* vg_model_build_text; kept until release */
    int64_t n_sentences;
    float *rows;          /* [n_sentences, row_floats], then the same of swapped phrases; NULL: nothing is kept */
    unsigned char *known; /* of each row */
    float *features;      /* [m*P, row_floats] of the current batch */
    int64_t row_floats;
} vg_phrases;

/* A store for the sentences of one split, of at most max_bytes (else features are encoded anew each time); with room
 * for each with left and right exchanged as well where `swaps`, as mirrored pictures need them. */
vg_status vg_phrases_init(vg_phrases *p, vg_program *encoder, int64_t n_sentences, bool swaps, int64_t slots,
                          size_t max_bytes);
void vg_phrases_release(vg_phrases *p);

/* Features of the batch's phrases, [m*P, rows, C]; valid until the next call. */
vg_status vg_phrases_of(vg_phrases *p, const vg_batch *batch, const float **features);

/* Bytes a store takes. */
size_t vg_phrases_bytes(int64_t n_sentences, bool swaps, int64_t slots, int64_t row_floats, size_t max_bytes);

#endif
