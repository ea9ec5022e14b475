/* Inside the made-up data set: a scene, its phrases, its picture, its tokenizer. Lengths are shares of the side of the
 * picture; y points down. */
#ifndef VG_DATA_SYNTH_IMPL_H
#define VG_DATA_SYNTH_IMPL_H

#include "data/draw.h"
#include "kernels/base/base.h"

enum {
    SYNTH_COLOURS = 8,
    SYNTH_SIZES = 3,
    SYNTH_MAX_OBJECTS = 7,
    SYNTH_MAX_PHRASES = 5,
    SYNTH_MAX_POINTS = 12,
    SYNTH_ANY = -1 /* a colour or a shape that is not named */
};

typedef enum synth_split { SYNTH_TRAIN, SYNTH_VAL, SYNTH_TEST_A, SYNTH_TEST_B, SYNTH_SPLITS } synth_split;
typedef enum synth_shape {
    SYNTH_CIRCLE,
    SYNTH_SQUARE,
    SYNTH_TRIANGLE,
    SYNTH_STAR,
    SYNTH_CROSS,
    SYNTH_RING,
    SYNTH_SHAPES
} synth_shape;
typedef enum synth_kind {
    SYNTH_ATTRIBUTE,
    SYNTH_SIZE,
    SYNTH_POSITION,
    SYNTH_RELATION,
    SYNTH_PLURAL,
    SYNTH_KINDS
} synth_kind;

/* ---- random numbers of one image ---- */

typedef struct synth_random {
    vg_rng_key key;
    uint64_t image;
    uint32_t block, words[4];
    int left;
} synth_random;

void vg_synth_random_init(synth_random *random, uint64_t seed, const char *purpose, uint64_t image);
uint32_t vg_synth_below(synth_random *random, uint32_t n); /* 0..n-1, n > 0 */
double vg_synth_between(synth_random *random, double a, double b);

/* ---- scenes ---- */

typedef struct synth_object {
    int colour, shape, size; /* size 0 is small */
    double x, y, radius, angle;
    double points[SYNTH_MAX_POINTS][2]; /* the outline; circles and rings have none */
    int n_points;
    double box[4]; /* x1 y1 x2 y2, of the outline */
} synth_object;

typedef struct synth_scene {
    synth_object objects[SYNTH_MAX_OBJECTS];
    int n;
} synth_scene;

/* Pairs of (colour, shape) that train and val never show, one per shape. */
bool vg_synth_pair_is_held_out(int colour, int shape);
/* Pairs (shape of the target, shape it is related to) that no phrase of train or val relates, one per shape. */
bool vg_synth_relation_is_held_out(int target_shape, int anchor_shape);

/* Draws a scene that fits the split; false where the objects did not find room (draw again). */
bool vg_synth_scene_draw(synth_random *random, synth_split split, synth_scene *out);

/* ---- phrases ---- */

typedef struct synth_phrase {
    char text[96];
    synth_kind kind;
    int targets[SYNTH_MAX_OBJECTS];
    int n_targets;
} synth_phrase;

const char *vg_synth_kind_name(synth_kind kind);
const char *vg_synth_shape_name(int shape);

/* One phrase per kind (testB: two to four relations), each about an object drawn evenly among those that can be told;
 * a plural besides, if asked for and possible. Returns the count, 0 where the scene does not offer the kinds. */
int vg_synth_phrases_draw(const synth_scene *scene, synth_split split, bool plural, synth_random *random,
                          synth_phrase phrases[SYNTH_MAX_PHRASES]);

/* The words a phrase may hold, NULL after the last. */
const char *const *vg_synth_words(void);

/* ---- pictures ---- */

/* Paints the scene, antialiased, on a textured ground. The caller releases *out. Errors: VG_E_NOMEM. */
vg_status vg_synth_paint(const synth_scene *scene, synth_random *random, int side, vg_image *out);

/* ---- files ---- */

/* Writes vocab.json and merges.txt into folder. */
vg_status vg_synth_tokenizer_write(const char *folder);

/* A pickle that grows: protocol 2; lists, dictionaries, integers and text only. Zeroed is empty. The first error stays
 * in `status`, so that a writer reads like what it writes. */
typedef struct synth_pickle {
    vg_text bytes;
    vg_status status;
} synth_pickle;

void vg_synth_pickle_begin(synth_pickle *pickle);
void vg_synth_pickle_list(synth_pickle *pickle); /* opens a list or */
void vg_synth_pickle_dict(synth_pickle *pickle); /* a dictionary: key, value, key, value, .. */
void vg_synth_pickle_list_end(synth_pickle *pickle);
void vg_synth_pickle_dict_end(synth_pickle *pickle);
void vg_synth_pickle_int(synth_pickle *pickle, int32_t value);
void vg_synth_pickle_string(synth_pickle *pickle, const char *value);
void vg_synth_pickle_end(synth_pickle *pickle);

#endif
