/* Phrase features kept: while the phrase encoder is frozen, a distinct phrase is encoded once. They are kept in memory
 * as they come up, or in a store on disk that is made at once (features.phrases). The bits are those of encoding
 * phrases in every step, since a phrase's features do not depend on its neighbours in a batch. */
#ifndef VG_TRAINER_PHRASES_H
#define VG_TRAINER_PHRASES_H

#include "trainer/features.h"
#include "trainer/phrase_table.h"

typedef struct vg_phrases {
    vg_program *encoder; /* vg_model_build_text; kept until release */
    vg_phrase_table table;
    vg_feature_store *store; /* has every row, or NULL: */
    float *rows;             /* [n_rows, row_floats], or NULL: nothing is kept */
    unsigned char *known;    /* [n_rows] */
    float *features;         /* [slots, row_floats] of the current batch */
    int64_t row_floats, slots;
} vg_phrases;

/* For the phrases of the source's split (kept until release), with `swaps` also with left and right exchanged. What
 * is kept in memory, also where a store is asked for and cannot be made, is bounded by features.memory_mb: a larger set
 * is encoded anew each time. Collective. Errors: VG_E_NOMEM, and those of vg_features_provide. */
vg_status vg_phrases_open(vg_phrases *p, const vg_feature_source *source, bool swaps, vg_program *encoder);
void vg_phrases_release(vg_phrases *p);

/* Features of the batch's phrases, [m*P, rows, C]; valid until the next call. Local. Errors: VG_E_STORAGE. */
vg_status vg_phrases_of(vg_phrases *p, const vg_batch *batch, const float **features);

/* Bytes of memory for n_rows distinct phrases in batches of so many slots, and bytes of a store on disk. */
size_t vg_phrases_bytes(const vg_options *o, int64_t n_rows);
size_t vg_phrases_store_bytes(const vg_options *o, int64_t n_rows);

#endif
