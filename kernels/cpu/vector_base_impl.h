/* Four floats, in the compiler's own vectors: what every 64-bit processor of x86 and ARM has. Where that is without a
 * fused multiply-add, a product and its sum are rounded each. */
#ifndef VG_VECTOR_BASE_IMPL_H
#define VG_VECTOR_BASE_IMPL_H

#include <stdint.h>
#include <string.h>
#if defined __aarch64__
#include <arm_neon.h>
#endif

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vf_ints __attribute__((vector_size(16)));
enum { VF_LANES = 4 };

static inline vf vf_load(const float *p)
{
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline void vf_store(float *p, vf x)
{
    memcpy(p, &x, sizeof x);
}
/* The first n are those of p, the others those of `rest`. */
static inline vf vf_load_else(const float *p, int n, vf rest)
{
    for (int i = 0; i < VF_LANES && i < n; i++) rest[i] = p[i];
    return rest;
}
/* The first n of a vector's lanes; the others are 0 when loaded and not touched when stored. */
static inline vf vf_load_part(const float *p, int n)
{
    return vf_load_else(p, n, (vf){0});
}
static inline void vf_store_part(float *p, vf x, int n)
{
    for (int i = 0; i < VF_LANES && i < n; i++) p[i] = x[i];
}
static inline vf vf_set(float x)
{
    return (vf){x, x, x, x};
}
static inline vf vf_fma(vf a, vf b, vf c)
{
#if defined __aarch64__
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
}
static inline vf vf_choose(vf_ints yes, vf a, vf b)
{
    return (vf)((yes & (vf_ints)a) | (~yes & (vf_ints)b));
}
/* NaN in b comes out. */
static inline vf vf_max(vf a, vf b)
{
    return vf_choose(a > b, a, b);
}
static inline vf vf_min(vf a, vf b)
{
    return vf_choose(a < b, a, b);
}
/* To the nearest whole number, of two the even one, for |x| < 2^22: above 2^23 floats are whole. */
static inline vf vf_round(vf x)
{
    const vf whole = vf_set(0x1.8p23F);
    return (x + whole) - whole;
}
/* x * 2^n, n a whole number and the result a normal one; NaN stays NaN. */
static inline vf vf_scale(vf x, vf n)
{
    return (vf)((vf_ints)x + (__builtin_convertvector(n, vf_ints) << 23));
}
/* x > 0 ? a : b */
static inline vf vf_if_positive(vf x, vf a, vf b)
{
    return vf_choose(x > vf_set(0.0F), a, b);
}
/* All lanes: the upper half is added to the lower until one is left; the largest (any, when one is NaN). */
static inline float vf_sum(vf x)
{
    return (x[0] + x[2]) + (x[1] + x[3]);
}
static inline float vf_largest(vf x)
{
    const float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
    return a > b ? a : b;
}
/* Rows become columns: lane j of rows[i] goes to lane i of rows[j]. */
static inline __attribute__((always_inline)) void vf_transpose(vf rows[VF_LANES])
{
    const vf_ints low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, first = {0, 1, 4, 5}, second = {2, 3, 6, 7};
    const vf a = __builtin_shuffle(rows[0], rows[1], low), b = __builtin_shuffle(rows[2], rows[3], low);
    const vf c = __builtin_shuffle(rows[0], rows[1], high), d = __builtin_shuffle(rows[2], rows[3], high);
    rows[0] = __builtin_shuffle(a, b, first);
    rows[1] = __builtin_shuffle(a, b, second);
    rows[2] = __builtin_shuffle(c, d, first);
    rows[3] = __builtin_shuffle(c, d, second);
}

#endif
