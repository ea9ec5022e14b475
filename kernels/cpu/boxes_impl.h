/* Boxes as cx, cy, w, h in 0..1, and how much two of them share. fp32, no contraction: the matcher's ties hang on it.
 */
#ifndef VG_KERNELS_CPU_BOXES_IMPL_H
#define VG_KERNELS_CPU_BOXES_IMPL_H

/* |a - b| summed over the four numbers, left to right. */
float vg_box_l1(const float a[4], const float b[4]);

/* Generalised IoU, I/(U + e) - (C - U)/(C + e) with e = 1e-7; areas from corners, not clipped to the image.
 * Source: Rezatofighi et al. 2019, algorithm 1. */
float vg_box_giou(const float a[4], const float b[4]);

/* The same, and its gradient by a. Ties of min and max give half to each side; a clamp at its bound passes on. */
float vg_box_giou_grad(const float a[4], const float b[4], float da[4]);

#endif
