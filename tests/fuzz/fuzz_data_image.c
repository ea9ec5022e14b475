/* Any bytes as a picture: a status comes back, what was decoded can be stretched and encoded, and any part of it comes
 * out as it does in the whole. The last bytes choose the part, and what becomes of it on every instruction set. */
#define _DEFAULT_SOURCE /* setenv, unsetenv */
#include "data/image_impl.h"

#include <stdlib.h>
#include <string.h>

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

static void use_decoded(const vg_decoded *decoded, const uint8_t *last)
{
    static const char *const sets[] = {"base", "avx2", "avx512"};
    static vg_resize_scratch scratch;
    static uint8_t out[3][256 * 256 * 3];
    const int width = 1 + last[1], height = 1 + last[2];
    uint64_t sums[3][3];
    for (int s = 0; s < 3; s++) {
        setenv("VLGTR_ISA", sets[s], 1);
        const vg_status st = vg_decoded_stretch(decoded, last[3] % 2, width, height, out[s], &scratch, sums[s]);
        if (st != VG_OK && decoded->image.width <= 65535 && decoded->image.height <= 65535) abort();
        if (st != VG_OK) break;
        if (memcmp(out[s], out[0], 3 * (size_t)width * (size_t)height) != 0) abort();
        if (memcmp(sums[s], sums[0], sizeof sums[s]) != 0) abort();
    }
    unsetenv("VLGTR_ISA");
}

/* A part that the bytes choose: the same pixels at full size; at any smaller size its window lies inside what came; as
 * planes it can be stretched. */
static void use_part(const uint8_t *data, size_t size, const vg_image *whole)
{
    static vg_decoded part;
    const uint8_t *last = data + size - 4; /* what was decoded is longer than that */
    vg_decode how = {.width = whole->width, .height = whole->height, .partial_ok = true};
    how.window.x = last[0] * whole->width / 256;
    how.window.y = last[1] * whole->height / 256;
    how.window.width = 1 + last[2] * (whole->width - how.window.x - 1) / 256;
    how.window.height = 1 + last[3] * (whole->height - how.window.y - 1) / 256;
    if (vg_image_decode_part(data, size, &how, &part) != VG_OK) abort();
    for (int y = 0; y < how.window.height; y++) {
        const int from_y = (int)part.window.y + y, from_x = (int)part.window.x;
        if (memcmp(part.image.pixels + 3 * ((size_t)from_y * (size_t)part.image.width + (size_t)from_x),
                   whole->pixels + 3 * ((size_t)(how.window.y + y) * (size_t)whole->width + (size_t)how.window.x),
                   3 * (size_t)how.window.width) != 0)
            abort();
    }
    how.least_pixels = 1;
    if (vg_image_decode_part(data, size, &how, &part) != VG_OK) return;
    if (part.window.x + part.window.width > part.image.width || part.window.y + part.window.height > part.image.height)
        abort();
    how.planes = true;
    how.least_pixels = last[0] % 2;
    if (vg_image_decode_part(data, size, &how, &part) != VG_OK) abort();
    use_decoded(&part, last);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)vg_image_is_turned(data, size);
    for (int partial_ok = 0; partial_ok < 2; partial_ok++) {
        vg_image image;
        if (vg_image_decode(data, size, partial_ok, &image) != VG_OK) continue;
        use(&image);
        if (partial_ok && (int64_t)image.width * image.height <= MOST_PIXELS) use_part(data, size, &image);
        vg_image_release(&image);
    }
    return 0;
}
