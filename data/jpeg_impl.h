/* Between the files that read JPEGs. */
#ifndef VG_DATA_JPEG_IMPL_H
#define VG_DATA_JPEG_IMPL_H

#include "data/image_impl.h"

#include <stdio.h>

#include <jpeglib.h>

#if JPEG_LIB_VERSION >= 70
#error "this jpeglib.h has the programming interface of libjpeg 7 or later; build against libjpeg-turbo with that of 6b"
#endif

/* Whether the picture whose header was read is brightness alone, or with two colours at no more samples, as all but a
 * few are; and one sample of colour for 3 pixels is left to others, so that windows stay exact in binary. */
bool vg_jpeg_has_planes(const struct jpeg_decompress_struct *info);

/* Reads planes (raw_data_out was set) that hold the window, given in pixels of the stored picture, and rows top.. up to
 * but not bottom of what comes out. May longjmp. Errors: VG_E_DATA (too many pixels), VG_E_NOMEM. */
vg_status vg_jpeg_read_planes(struct jpeg_decompress_struct *info, const vg_window *window, JDIMENSION top,
                              JDIMENSION bottom, vg_decoded *out);

#endif
