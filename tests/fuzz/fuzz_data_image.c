/* Any bytes as a picture: a status comes back, and what was decoded can be stretched and encoded. */
#include "data/draw.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIDE = 14, MOST_PIXELS = 1 << 20 }; /* larger ones are decoded only, to keep a run short */

static void use(const vg_image *image)
{
    static vg_resize_scratch scratch;
    uint8_t out[SIDE * SIDE * 3];
    unsigned char *bytes = NULL;
    size_t n = 0;
    if ((int64_t)image->width * image->height > MOST_PIXELS) return;
    if (vg_image_resize(image, SIDE, SIDE, out, &scratch) != VG_OK && image->width <= 65535 && image->height <= 65535)
        abort();
    if (vg_image_encode_png(image, &bytes, &n) != VG_OK) abort();
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int partial_ok = 0; partial_ok < 2; partial_ok++) {
        vg_image image;
        if (vg_image_decode(data, size, partial_ok, &image) != VG_OK) continue;
        use(&image);
        vg_image_release(&image);
    }
    return 0;
}
