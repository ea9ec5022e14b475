/* exp, the normal distribution and what activations are made of, on the vectors of whichever vector_*_impl.h came
 * before. An element goes through the same operations in every lane and in every width, so its bits depend on nothing
 * else. The polynomials are minimax fits made for this file (fp64 Lawson iteration, coefficients rounded once). */
#ifndef VG_VECTOR_MATH_IMPL_H
#define VG_VECTOR_MATH_IMPL_H

/* 2^(n+r), n whole, |r| <= 1/2 and -126 < n < 127. Relative error of the polynomial 2e-9. */
static inline vf vf_exp2_parts(vf n, vf r)
{
    vf p = vf_set(0x1.41d334p-13F);
    p = vf_fma(p, r, vf_set(0x1.5f456ap-10F));
    p = vf_fma(p, r, vf_set(0x1.3b2dbcp-7F));
    p = vf_fma(p, r, vf_set(0x1.c6aed4p-5F));
    p = vf_fma(p, r, vf_set(0x1.ebfbdap-3F));
    p = vf_fma(p, r, vf_set(0x1.62e430p-1F));
    p = vf_fma(p, r, vf_set(1.0F));
    return vf_scale(p, n);
}

/* exp(x); x is first clamped to -86..88, NaN stays NaN. Relative error 2e-7. */
static inline vf vf_exp(vf x)
{
    const vf log2e = vf_set(0x1.715476p+0F), log2e_low = vf_set(0x1.4ae0c0p-26F);
    x = vf_min(vf_set(88.0F), vf_max(vf_set(-86.0F), x));
    const vf n = vf_round(x * log2e);
    return vf_exp2_parts(n, vf_fma(x, log2e_low, vf_fma(x, log2e, -n)));
}

static inline vf vf_sigmoid(vf x)
{
    return vf_set(1.0F) / (vf_set(1.0F) + vf_exp(-x));
}

/* The standard normal distribution function, (1 + erf(x/sqrt 2)) / 2. The fit is of -log2 of its lower tail on 0..8,
 * where it is 6e-16: the upper side is 1 minus it. Absolute error 8e-8. */
static inline vf vf_normal(vf x)
{
    const vf t = vf_min(vf_set(8.0F), vf_max(-x, x));
    vf p = vf_set(-0x1.4e0168p-23F);
    p = vf_fma(p, t, vf_set(0x1.13ebaep-18F));
    p = vf_fma(p, t, vf_set(-0x1.5e9f78p-15F));
    p = vf_fma(p, t, vf_set(0x1.797882p-13F));
    p = vf_fma(p, t, vf_set(0x1.60c75ap-13F));
    p = vf_fma(p, t, vf_set(-0x1.d21768p-8F));
    p = vf_fma(p, t, vf_set(0x1.ae54f8p-5F));
    p = vf_fma(p, t, vf_set(0x1.d637bep-2F));
    p = vf_fma(p, t, vf_set(0x1.26aeecp+0F));
    p = vf_fma(p, t, vf_set(0x1.fffffep-1F));
    const vf n = vf_round(-p), tail = vf_exp2_parts(n, -p - n);
    return vf_if_positive(x, vf_set(1.0F) - tail, tail);
}

static inline vf vf_gelu(vf z)
{
    return z * vf_normal(z);
}

/* normal(z) + z * density(z) */
static inline vf vf_gelu_slope(vf z)
{
    const vf density = vf_set(0.3989422804F) * vf_exp(z * z * vf_set(-0.5F));
    return vf_fma(z, density, vf_normal(z));
}

#endif
