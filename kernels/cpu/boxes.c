#include "kernels/cpu/boxes_impl.h"

#include <math.h>

static const float epsilon = 1e-7F;

/* What two boxes share along one axis: the overlap and the hull, both clamped at 0. */
typedef struct span {
    float a1, a2, b1, b2, overlap, hull;
} span;

static span span_of(float a_centre, float a_size, float b_centre, float b_size)
{
    span s = {.a1 = a_centre - a_size / 2.0F,
              .a2 = a_centre + a_size / 2.0F,
              .b1 = b_centre - b_size / 2.0F,
              .b2 = b_centre + b_size / 2.0F};
    s.overlap = fmaxf(fminf(s.a2, s.b2) - fmaxf(s.a1, s.b1), 0.0F);
    s.hull = fmaxf(fmaxf(s.a2, s.b2) - fminf(s.a1, s.b1), 0.0F);
    return s;
}

/* d max(a, b) / da */
static float max_share(float a, float b)
{
    return a > b ? 1.0F : a == b ? 0.5F : 0.0F;
}

/* Adds what the corners a1, a2 of one axis get: from the overlap, the hull and the own side length. */
static void span_grad(const span *s, float d_overlap, float d_hull, float d_side, float *d_centre, float *d_size)
{
    const float open = fminf(s->a2, s->b2) - fmaxf(s->a1, s->b1) >= 0.0F ? 1.0F : 0.0F;
    const float d1 = -d_overlap * open * max_share(s->a1, s->b1) - d_hull * max_share(s->b1, s->a1) - d_side;
    const float d2 = d_overlap * open * max_share(s->b2, s->a2) + d_hull * max_share(s->a2, s->b2) + d_side;
    *d_centre = d1 + d2;
    *d_size = (d2 - d1) / 2.0F;
}

float vg_box_l1(const float a[4], const float b[4])
{
    float sum = 0.0F;
    for (int k = 0; k < 4; k++) sum += fabsf(a[k] - b[k]);
    return sum;
}

float vg_box_giou_grad(const float a[4], const float b[4], float da[4])
{
    const span x = span_of(a[0], a[2], b[0], b[2]), y = span_of(a[1], a[3], b[1], b[3]);
    const float wide = x.a2 - x.a1, high = y.a2 - y.a1;
    const float shared = x.overlap * y.overlap, hull = x.hull * y.hull;
    const float both = wide * high + (x.b2 - x.b1) * (y.b2 - y.b1) - shared;
    const float both_e = both + epsilon, hull_e = hull + epsilon;
    if (da) {
        const float d_both = 1.0F / hull_e - shared / both_e / both_e;
        const float d_shared = 1.0F / both_e - d_both;
        const float d_hull = (hull - both) / hull_e / hull_e - 1.0F / hull_e;
        span_grad(&x, d_shared * y.overlap, d_hull * y.hull, d_both * high, &da[0], &da[2]);
        span_grad(&y, d_shared * x.overlap, d_hull * x.hull, d_both * wide, &da[1], &da[3]);
    }
    return shared / both_e - (hull - both) / hull_e;
}

float vg_box_giou(const float a[4], const float b[4])
{
    return vg_box_giou_grad(a, b, 0);
}
