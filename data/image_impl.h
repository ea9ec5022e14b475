/* Between the decoders of pictures. */
#ifndef VG_DATA_IMAGE_IMPL_H
#define VG_DATA_IMAGE_IMPL_H

#include "data/draw.h"

/* Whether a picture of this size is the one that is meant. Errors: VG_E_DATA. */
vg_status vg_decode_check(const vg_decode *how, uint64_t width, uint64_t height);

/* Whether there are so few pixels, but some, that they can be read. Errors: VG_E_DATA (more than 2^28). */
vg_status vg_pixels_check(uint64_t width, uint64_t height);

/* Makes room for width x height pixels, which are not cleared. Errors: as vg_pixels_check, VG_E_NOMEM. */
vg_status vg_decoded_fit(vg_decoded *out, uint64_t width, uint64_t height);

/* Whether a JPEG's EXIF data name another orientation than the stored one (2 to 8), which viewers follow.
 * Source: CIPA DC-008 (Exif 2.3), 4.6.4, Orientation. */
bool vg_image_is_turned(const unsigned char *bytes, size_t n);

/* As vg_image_decode_part, for a JPEG. */
vg_status vg_jpeg_decode(const unsigned char *bytes, size_t n, const vg_decode *how, vg_decoded *out);

#endif
