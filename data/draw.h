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
 * ignored, at most 2^28 pixels (a progressive JPEG: what fits in 512 MiB of coefficients, at least 2^26). A JPEG whose
 * end is missing is accepted when `partial_ok`. Errors: VG_E_DATA, VG_E_NOMEM. */
vg_status vg_image_decode(const unsigned char *bytes, size_t n, bool partial_ok, vg_image *out);
vg_status vg_image_read(const char *path, vg_image *out);

/* Part of a picture that is to be stretched: in its pixels, perhaps between them; mirrored: columns in reverse. */
typedef struct vg_stretch {
    double x, y, width, height;
    bool mirrored;
} vg_stretch;

/* What of a picture is wanted. Zeroed: all of it, at full size, as RGB. */
typedef struct vg_decode {
    int width, height;   /* the size the picture must have; 0: any */
    vg_window window;    /* of the stored picture; without a width: the whole */
    double least_pixels; /* a JPEG is decoded at 1/8, 1/4 or 1/2 (the smallest that serves) of its size where that
                            leaves the window so many pixels on either side; 0: never */
    bool planes;         /* a JPEG that stores brightness and colour apart may be left so, to be stretched so */
    bool partial_ok;     /* as vg_image_decode */
} vg_decode;

/* Samples of one kind, a byte each, of the window and around it. A sample of colour mostly covers 2 x 2 pixels. */
enum { VG_PLANE_BEHIND = 64 };
typedef struct vg_plane {
    uint8_t *samples; /* [height,stride], and VG_PLANE_BEHIND bytes that may be read and mean nothing */
    size_t stride;
    int width, height;
    vg_stretch window; /* in these samples */
} vg_plane;

/* Pixels of the window and perhaps around it, and where in them the window lies; or planes: Y, or Y, Cb and Cr. Zeroed
 * is empty; used again, its memory is. */
typedef struct vg_decoded {
    vg_image image;
    size_t capacity; /* bytes of image.pixels, which hold the planes where there are some */
    vg_stretch window;
    vg_plane planes[3];
    int n_planes; /* 0: the image */
} vg_decoded;

/* Decodes what is asked for and little more: rows above and below the window, blocks beside it and the finer half of
 * the frequencies of a JPEG that will be shrunk cost no transform. A JPEG at full size gives the pixels vg_image_decode
 * gives; rows behind the window are not looked at, so damage there is not noticed. Of planes, blocks beside the window
 * are transformed too, and the size of `image` and `window` say nothing. On an error `out` may be used again.
 * Errors: VG_E_DATA, VG_E_NOMEM. */
vg_status vg_image_decode_part(const unsigned char *bytes, size_t n, const vg_decode *how, vg_decoded *out);

/* Stretches to width x height by separable antialiased bicubic (a = -0.5), in integers: the same bits everywhere, and
 * those of PIL's BICUBIC, width first (newer versions of PIL take the height first where that is cheaper; the bytes
 * between the two passes then differ). Sides of at most 65535 pixels become at most VG_MAX_STRETCHED. out is
 * [height,width,3]; scratch is grown as needed, the caller frees its data. Errors: VG_E_DATA (too large), VG_E_NOMEM.
 * Source: vl-gtr-model 1.5 and 7. */
enum { VG_MAX_STRETCHED = 16384 };
typedef struct vg_resize_scratch {
    void *data;
    size_t capacity;
} vg_resize_scratch;
vg_status vg_image_resize(const vg_image *image, int width, int height, uint8_t *out, vg_resize_scratch *scratch);

/* The same of a part of the picture, as if it were cut out first; mirrored: the columns of `out` in reverse. The part
 * is x, y, width, height in pixels, inside the picture, perhaps between them. Errors: as above. */
vg_status vg_image_stretch(const vg_image *image, const vg_stretch *part, int width, int height, uint8_t *out,
                           vg_resize_scratch *scratch);

/* The window of what was decoded, stretched; mirrored if asked. Planes are stretched each from its own samples and then
 * become RGB, which is a third of the work and leaves out that colours are first spread over the pixels they cover and
 * rounded. sums: of each channel of `out`, or NULL. Errors: as above. */
vg_status vg_decoded_stretch(const vg_decoded *decoded, bool mirrored, int width, int height, uint8_t *out,
                             vg_resize_scratch *scratch, uint64_t sums[3]);

/* A box to draw: corners in pixels, a colour 0xRRGGBB, and an optional label (may be NULL). */
typedef struct vg_drawn_box {
    float xyxy[4];
    uint32_t colour;
    const char *label;
} vg_drawn_box;

/* Draws boxes with labels onto the image, at most 32767 pixels a side; a box that is not finite is left out, a label
 * that is too long is cut. Errors: VG_E_DATA (a larger image), VG_E_NOMEM. */
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
