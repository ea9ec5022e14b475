/* Boxes as cx, cy, w, h in 0..1, as kernels/cpu/boxes_impl.h defines them. Files that use this are compiled without
 * multiply-add contraction: the matcher's ties hang on the bits. */
#ifndef VG_KERNELS_CUDA_BOXES_H
#define VG_KERNELS_CUDA_BOXES_H

#include "kernels/cuda/dev.h"

#include <math.h>

/* What two boxes share along one axis: the overlap and the hull, both clamped at 0. */
struct box_span {
    float a1, a2, b1, b2, overlap, hull;
};

static __forceinline__ __device__ box_span box_span_of(float a_centre, float a_size, float b_centre, float b_size)
{
    box_span s;
    s.a1 = a_centre - a_size / 2.0F;
    s.a2 = a_centre + a_size / 2.0F;
    s.b1 = b_centre - b_size / 2.0F;
    s.b2 = b_centre + b_size / 2.0F;
    s.overlap = fmaxf(fminf(s.a2, s.b2) - fmaxf(s.a1, s.b1), 0.0F);
    s.hull = fmaxf(fmaxf(s.a2, s.b2) - fminf(s.a1, s.b1), 0.0F);
    return s;
}

/* d max(a, b) / da */
static __forceinline__ __device__ float max_share(float a, float b)
{
    return a > b ? 1.0F : a == b ? 0.5F : 0.0F;
}

/* What centre and size of one axis get: from the overlap, the hull and the own side length. */
static __forceinline__ __device__ void box_span_grad(const box_span &s, float d_overlap, float d_hull, float d_side,
                                                     float *d_centre, float *d_size)
{
    const float open = fminf(s.a2, s.b2) - fmaxf(s.a1, s.b1) >= 0.0F ? 1.0F : 0.0F;
    const float d1 = -d_overlap * open * max_share(s.a1, s.b1) - d_hull * max_share(s.b1, s.a1) - d_side;
    const float d2 = d_overlap * open * max_share(s.b2, s.a2) + d_hull * max_share(s.a2, s.b2) + d_side;
    *d_centre = d1 + d2;
    *d_size = (d2 - d1) / 2.0F;
}

static __forceinline__ __device__ float box_l1(float4 a, float4 b)
{
    return fabsf(a.x - b.x) + fabsf(a.y - b.y) + fabsf(a.z - b.z) + fabsf(a.w - b.w);
}

/* Generalised IoU; its gradient by a goes into *da unless that is NULL. */
static __forceinline__ __device__ float box_giou(float4 a, float4 b, float4 *da)
{
    const box_span x = box_span_of(a.x, a.z, b.x, b.z), y = box_span_of(a.y, a.w, b.y, b.w);
    const float wide = x.a2 - x.a1, high = y.a2 - y.a1;
    const float shared = x.overlap * y.overlap, hull = x.hull * y.hull;
    const float both = wide * high + (x.b2 - x.b1) * (y.b2 - y.b1) - shared;
    const float both_e = both + 1e-7F, hull_e = hull + 1e-7F;
    if (da) {
        const float d_both = 1.0F / hull_e - shared / both_e / both_e;
        const float d_shared = 1.0F / both_e - d_both;
        const float d_hull = (hull - both) / hull_e / hull_e - 1.0F / hull_e;
        box_span_grad(x, d_shared * y.overlap, d_hull * y.hull, d_both * high, &da->x, &da->z);
        box_span_grad(y, d_shared * x.overlap, d_hull * x.hull, d_both * wide, &da->y, &da->w);
    }
    return shared / both_e - (hull - both) / hull_e;
}

#endif
