/* Augmentation of a training sample: a crop that respects every box, a mirror image whose phrases still fit, other
 * colours. What is done is a function of (seed, position in the sample stream, the sample), never of who asks.
 *
 *     const vg_view view = vg_view_draw(&augment, seed, position, &picture);    what will be done
 *     vg_view_box(&view, box, seen);                                            a box as the network sees it
 *     if (view.mirrored) VG_TRY(vg_phrase_mirror(text, n, &mirrored, &out));    "left" becomes "right"
 *     vg_recolour(pixels, n_pixels, sums, &view.colours);
 *
 * Local throughout. Source: vl-gtr-model 7. */
#ifndef VG_DATA_AUGMENT_H
#define VG_DATA_AUGMENT_H

#include "data/draw.h"

/* How often each thing is done, 0..1. Zeroed: nothing is done. */
typedef struct vg_augment {
    double crop, flip, colour;
    double crop_keep; /* share of each box's area that a crop keeps at least, above 0 where crop is */
    bool colour_safe; /* a phrase with a word for a colour keeps the picture's colours */
} vg_augment;

/* A phrase of the sample and the boxes it means, borrowed. */
typedef struct vg_seen_phrase {
    const char *text;
    size_t text_bytes;
    const float *boxes; /* [n_boxes,4]  x1 y1 x2 y2, pixels of the stored picture */
    int n_boxes;
} vg_seen_phrase;

/* The sample: one picture and the phrases that will be asked of it. */
typedef struct vg_seen_picture {
    int width, height;
    const vg_seen_phrase *phrases;
    int n_phrases;
} vg_seen_picture;

/* Factors on brightness, contrast and saturation, all 1 where nothing is changed. */
typedef struct vg_colours {
    double brightness, contrast, saturation;
} vg_colours;

typedef struct vg_view {
    vg_window window; /* of the stored picture, the whole of it where nothing is cropped */
    bool cropped, mirrored, recoloured;
    vg_colours colours;
} vg_view;

/* What is done to the sample at this position.
 * Crop: sides of 0.6 to 1 of the picture's, whole pixels, drawn first; then the place, evenly among all that keep the
 * square root of crop_keep of every box's width and of its height, so at least crop_keep of its area (boxes clipped to
 * the picture before); no crop where there is no such place, nor where a phrase says where something is (left, right,
 * top, bottom, middle and their kin). Mirror: only where vg_phrase_may_mirror allows it for every phrase. Colour: three
 * factors of 0.6 to 1.4. */
vg_view vg_view_draw(const vg_augment *augment, uint64_t seed, uint64_t position, const vg_seen_picture *picture);

/* The view of a picture as it is. */
vg_view vg_view_plain(int width, int height);

/* x1 y1 x2 y2 in pixels of the stored picture becomes x1 y1 x2 y2 in pixels of the view: moved, clipped where the view
 * is cropped, mirrored. Not rounded. */
void vg_view_box(const vg_view *view, const float box[4], double seen[4]);

/* Whether a phrase stays true of a mirrored picture once its words are swapped. Not with a digit, a quotation, a word
 * about writing or the compass (letter, word, text, sign, number, logo, clockwise, counterclockwise, anticlockwise,
 * east, west), or a swapped word in odd case ("lEFT"), which could not be swapped back. */
bool vg_phrase_may_mirror(const char *text, size_t n);

/* The phrase with left and right exchanged as whole words, case kept: left, lefthand, leftmost, leftward(s) and their
 * counterparts. A hyphen parts words, so left-hand, far-left and top-left are served too. Appends to *out (length
 * unchanged where nothing is swapped, and *swapped false). Twice gives the phrase back, where it may be mirrored.
 * Errors: VG_E_NOMEM. */
vg_status vg_phrase_mirror(const char *text, size_t n, vg_text *out, bool *swapped);

/* Brightness x * b, contrast m + c * (x - m) with m the mean grey, saturation g + s * (x - g) with g the pixel's grey,
 * as one step in 13 fractional bits, rounded and cut to 0..255 once: so taken, the three give the same in any order.
 * Grey is (9798 R + 19235 G + 3735 B) / 32768. Factors are 0..1.4. pixels [n,3] RGB, in place; sums: of each
 * channel, as vg_decoded_stretch finds them; the same bits on every instruction set. */
void vg_recolour(uint8_t *pixels, size_t n, const uint64_t sums[3], const vg_colours *colours);

#endif
