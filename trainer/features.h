/* Features of frozen towers, computed once and kept in stores on disk (data/feature_store.h): of a split's phrases, and
 * of its images in stages whose vision tower is frozen. The bits of an fp32 store are those of computing in every step,
 * since what a tower makes of an image or a phrase does not depend on its neighbours in a batch. */
#ifndef VG_TRAINER_FEATURES_H
#define VG_TRAINER_FEATURES_H

#include "data/feature_store.h"
#include "dist/comm.h"
#include "trainer/compute.h"
#include "trainer/model/model.h"

/* Whose features, and where they are computed. Everything is borrowed for the call. */
typedef struct vg_feature_source {
    vg_comm *comm;
    const vg_options *options;
    vg_params *params; /* the host has the towers' values */
    vg_compute *compute;
    const vg_tokenizer *tokenizer;
    const vg_split *split;
    const vg_loader_stage *views; /* whose fixed views of images are wanted; NULL: images as they are */
    vg_text *told;                /* why stores were not made so far: each stage asks anew, and that is said once */
} vg_feature_source;

/* Features of every image of the split, by its index, or of its views one after the other; an image that cannot be
 * decoded has no row. Takes the store in features.folder where it fits; else all ranks build it, at the step's own
 * shapes, on the parameters' layout of now. *out stays NULL, with a line that says why, where the store would be larger
 * than features.max_gb or cannot be written. Collective. Errors: VG_E_STOPPED (a signal; the next call goes on with
 * what is there), VG_E_CONFIG (a bf16 store that cannot be had), VG_E_DATA, VG_E_STORAGE, VG_E_NOMEM, VG_E_DEVICE. */
vg_status vg_features_of_images(const vg_feature_source *source, vg_feature_store **out);

/* Bytes of that store for n images or views, and floats of a row. */
size_t vg_features_image_bytes(const vg_options *o, int64_t n_images);
int64_t vg_features_image_floats(const vg_options *o);

/* What computing features costs on this host with so many threads, measured on one image. */
typedef struct vg_feature_pace {
    double image_s;     /* an image through the vision tower */
    double flops_per_s; /* the rate it was computed at */
} vg_feature_pace;

/* Local; takes as long as a few images. Errors: VG_E_NOMEM. */
vg_status vg_features_measure(const vg_options *o, int n_threads, vg_feature_pace *out);

/* --- for those who make a store --- */

/* A store that is wanted and how its rows are made. */
typedef struct vg_feature_job {
    const char *what; /* "image" or "phrase" */
    const char *kind; /* of them, part of the file's name; empty for the usual one */
    vg_feature_key key;
    /* Local, each. Finds those of this rank's rows that the store lacks; puts the next few of them, *more: there are
     * others; gives back what begin made, however far that came. */
    vg_status (*begin)(void *context, vg_feature_store *store);
    vg_status (*put)(void *context, bool *more);
    void (*end)(void *context);
    void *context;
} vg_feature_job;

/* Opens the store features.folder/<what>s-<split><kind>.h5, or has all ranks build it. As vg_features_of_images.
 * Collective.
 */
vg_status vg_features_provide(const vg_feature_source *source, const vg_feature_job *job, vg_feature_store **out);

/* Whether a row is there and is what was put; `scratch` holds a row. */
bool vg_features_row_is_whole(const vg_feature_store *store, int64_t row, float *scratch);

/* Tells people now and then how far a build is, and how long it will take; zeroed is its beginning. */
typedef struct vg_feature_progress {
    double start_s, told_s;
    int64_t n_first, n_done;
} vg_feature_progress;
void vg_features_tell(vg_feature_progress *progress, const char *what, int64_t n_rows, int64_t n_more);

#endif
