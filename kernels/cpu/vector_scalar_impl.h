/* A "vector" of one float, for CPUs without the wide ones: multiply-adds are rounded twice. */
#ifndef VG_VECTOR_SCALAR_IMPL_H
#define VG_VECTOR_SCALAR_IMPL_H

#include <math.h>

typedef float vf;
enum { VF_LANES = 1 };

static inline vf vf_load(const float *p)
{
    return *p;
}
static inline void vf_store(float *p, vf x)
{
    *p = x;
}
/* The first n of a vector's lanes; the others are 0 when loaded and not touched when stored. */
static inline vf vf_load_part(const float *p, int n)
{
    return n ? *p : 0.0F;
}
/* The others are those of `rest`. */
static inline vf vf_load_else(const float *p, int n, vf rest)
{
    return n ? *p : rest;
}
static inline void vf_store_part(float *p, vf x, int n)
{
    if (n) *p = x;
}
static inline vf vf_set(float x)
{
    return x;
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    return a * b + c;
}
/* NaN in b comes out. */
static inline vf vf_max(vf a, vf b)
{
    return a > b ? a : b;
}
static inline vf vf_min(vf a, vf b)
{
    return a < b ? a : b;
}
static inline vf vf_round(vf x)
{
    return nearbyintf(x);
}
/* x * 2^n, n a whole number and the result a normal one. */
static inline vf vf_scale(vf x, vf n)
{
    return n == n ? ldexpf(x, (int)n) : n; /* NaN has no exponent */
}
/* x > 0 ? a : b */
static inline vf vf_if_positive(vf x, vf a, vf b)
{
    return x > 0 ? a : b;
}
/* All lanes, as a tree; the largest lane (any, when one is NaN). */
static inline float vf_sum(vf x)
{
    return x;
}
static inline float vf_largest(vf x)
{
    return x;
}
/* Rows become columns: lane j of rows[i] goes to lane i of rows[j]. */
static inline void vf_transpose(vf rows[VF_LANES])
{
    (void)rows;
}

#endif
