/* bfloat16: the upper half of an fp32, rounded to nearest even. */
#ifndef VG_BASE_BF16_H
#define VG_BASE_BF16_H

#include <stdint.h>
#include <string.h>

typedef uint16_t vg_bf16;

static inline vg_bf16 vg_bf16_from(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (vg_bf16)((bits >> 16) | 0x40u); /* NaN stays NaN */
    return (vg_bf16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline float vg_bf16_to_float(vg_bf16 x)
{
    const uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
