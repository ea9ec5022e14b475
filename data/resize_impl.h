/* What stretches share: the weights of an axis, and memory for them. */
#ifndef VG_DATA_RESIZE_IMPL_H
#define VG_DATA_RESIZE_IMPL_H

#include "data/draw.h"
#include "data/pixel_ops_impl.h"

enum { VG_PIECE_BYTES = 64 };

/* Whether the part lies inside a picture of these sides, and its stretch is within bounds. Errors: VG_E_BUG, VG_E_DATA.
 */
vg_status vg_stretch_check(const vg_stretch *part, int width_in, int height_in, int width, int height);

/* The next n values of the memory at `at`, from a multiple of VG_PIECE_BYTES on; with `at` NULL they are only counted.
 */
void *vg_piece(unsigned char *at, size_t *offset, size_t n, size_t bytes_each);

/* Room in the scratch for `bytes` bytes of pieces. Errors: VG_E_NOMEM. */
vg_status vg_scratch_take(vg_resize_scratch *scratch, size_t bytes, unsigned char **at);

/* Memory for the weights with which n_out outputs cover a length. */
void vg_taps_place(vg_taps *taps, double length, int n_out, unsigned char *at, size_t *offset);

#endif
