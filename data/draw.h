/* Pictures for people: boxes and phrases on photographs, and galleries of them. One home, used by predict, eval and
 * shard inspect. */
#ifndef VG_DATA_DRAW_H
#define VG_DATA_DRAW_H

#include "kernels/base/base.h"

/* 8-bit RGB, rows top down. */
typedef struct vg_image {
    uint8_t *pixels; /* [height,width,3], heap */
    int width, height;
} vg_image;

void vg_image_release(vg_image *image);

/* A part of a picture, in whole pixels. */
typedef struct vg_window {
    int x, y, width, height;
} vg_window;

/* Decodes JPEG or PNG bytes (told apart by their first bytes): grey is replicated, alpha dropped, EXIF orientation
 * ignored, at most 2^28 pixels. A JPEG whose end is missing is accepted when `partial_ok`. Errors: VG_E_DATA. */
vg_status vg_image_decode(const unsigned char *bytes, size_t n, bool partial_ok, vg_image *out);
vg_status vg_image_read(const char *path, vg_image *out);

/* Stretches to width x height by separable antialiased bicubic (a = -0.5), in integers: the same bits everywhere, and
 * those of PIL's BICUBIC, width first (newer versions of PIL take the height first where that is cheaper; the bytes
 * between the two passes then differ). Sides of at most 65535 pixels become at most 16384. out is [height,width,3];
 * scratch is grown as needed, the caller frees its data. Errors: VG_E_DATA (too large), VG_E_NOMEM.
 * Source: vl-gtr-model 1.5 and 7. */
typedef struct vg_resize_scratch {
    void *data;
    size_t capacity;
} vg_resize_scratch;
vg_status vg_image_resize(const vg_image *image, int width, int height, uint8_t *out, vg_resize_scratch *scratch);

/* The same of a part of the picture, as if it were cut out first; mirrored: the columns of `out` in reverse. The part
 * is x, y, width, height in pixels, inside the picture, perhaps between them. Errors: as above. */
typedef struct vg_stretch {
    double x, y, width, height;
    bool mirrored;
} vg_stretch;
vg_status vg_image_stretch(const vg_image *image, const vg_stretch *part, int width, int height, uint8_t *out,
                           vg_resize_scratch *scratch);

/* A box to draw: corners in pixels, a colour 0xRRGGBB, and an optional label (may be NULL). */
typedef struct vg_drawn_box {
    float xyxy[4];
    uint32_t colour;
    const char *label;
} vg_drawn_box;

/* Draws boxes with labels onto the image, at most 32767 pixels a side; a box that is not finite is left out, a label
 * that is too long is cut. Errors: VG_E_NOMEM. */
vg_status vg_draw_boxes(vg_image *image, const vg_drawn_box *boxes, int n_boxes);

/* A contact sheet: n tiles of tile_side pixels in `columns` columns, each image fitted into its tile with its caption
 * (may be NULL) below, in up to three lines; a line feed starts a new one. The caller releases *out. Errors: VG_E_USAGE
 * (over 32767 pixels a side), VG_E_NOMEM. */
vg_status vg_draw_gallery(const vg_image *images, const char *const *captions, int n, int columns, int tile_side,
                          vg_image *out);

/* Writes a PNG. Errors: VG_E_STORAGE. */
vg_status vg_image_write_png(const char *path, const vg_image *image);
/* Encodes a PNG or a JPEG (quality 1..100) into heap memory; the caller frees. */
vg_status vg_image_encode_png(const vg_image *image, unsigned char **bytes, size_t *n);
vg_status vg_image_encode_jpeg(const vg_image *image, int quality, unsigned char **bytes, size_t *n);

#endif
