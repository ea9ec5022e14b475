/* The made-up data set: scenes of coloured shapes with phrases that point at one of them, in the file layout of
 * RefCOCO. It is what a machine without photographs learns grounding from, within minutes.
 *
 *     vg_synth_spec spec = vg_synth_defaults("data/synth");
 *     spec.seed = 7;
 *     VG_TRY(vg_synth_write(&spec));
 *
 * Written below `folder`:
 *     synth/refs(vlgtr).p     pickle, protocol 2: one ref per phrase, with two keys more than RefCOCO has: `kind`
 *                             (attribute, size, position, relation, plural) and `ann_ids` (every object meant)
 *     synth/instances.json    images, categories (the shapes) and every object of every scene
 *     images/<id>.jpg|png     textured ground with 4 to 7 shapes
 *     tokenizer/vocab.json, merges.txt    byte-level BPE over the words below; the same for every seed, since the
 *                             shipped text tower was trained with it
 *
 * Every phrase is unambiguous in its scene by a margin, every phrase has distractors, and every object may be a target:
 * who does not read the phrase guesses. Splits: train and val share the combinations; the targets of testA are
 * colour-shape pairs that neither train nor val ever shows; the phrases of testB relate shapes that no phrase of train
 * or val relates. */
#ifndef VG_DATA_SYNTH_H
#define VG_DATA_SYNTH_H

#include "kernels/base/base.h"

typedef enum vg_synth_format { VG_SYNTH_JPEG, VG_SYNTH_PNG } vg_synth_format;

typedef struct vg_synth_spec {
    const char *folder;
    uint64_t seed;
    int n_train, n_val, n_test; /* images; n_test for testA and as many for testB */
    int side;                   /* pixels, 32..2048 */
    vg_synth_format format;
    double plural; /* share of the images that get one phrase more, which means several objects; 0..1 */
} vg_synth_spec;

/* Seed 1; 16000, 500 and 250 images of 128 pixels; JPEG; no plurals. `folder` is borrowed. */
vg_synth_spec vg_synth_defaults(const char *folder);

/* Writes the data set. The same spec writes the same phrases and boxes everywhere, and the same bytes with the same
 * cairo and libjpeg. Files that are there already are written over. Errors: VG_E_USAGE (a figure of the spec is out of
 * range), VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_synth_write(const vg_synth_spec *spec);

#endif
