/* Counter-based random numbers: a value is a function of what it is for, never of who asks or when.
 * Source: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox4x32-10). */
#ifndef VG_BASE_RANDOM_H
#define VG_BASE_RANDOM_H

#include <stdint.h>

typedef struct vg_rng_key {
    uint32_t v[2];
} vg_rng_key;

/* Ten rounds of Philox4x32. */
void vg_philox(const uint32_t counter[4], vg_rng_key key, uint32_t out[4]);

/* The key of one purpose (a layer and place, an augmentation step, a parameter's name through vg_rng_purpose). */
vg_rng_key vg_rng_key_of(uint64_t seed, uint64_t purpose);

/* A purpose from a name: the 64-bit FNV-1a hash of its bytes. */
uint64_t vg_rng_purpose(const char *name);

/* Four 32-bit values for block `block` of (position in the sample stream, phrase index): counter = {block, phrase,
 * position low, position high}. Element e of a stream of values is word e % 4 of block e / 4. */
void vg_rng_block(vg_rng_key key, uint64_t position, uint32_t phrase, uint32_t block, uint32_t out[4]);

/* [0, 1) in steps of 2^-24. */
static inline float vg_uniform(uint32_t bits)
{
    return (float)(bits >> 8) * 0x1p-24F;
}

/* Fills x[n] with values a + (b - a) * uniform, or mean + sd * normal (Box-Muller on words 0,1 and 2,3 of a block, in
 * fp64, rounded once). Element i depends on (key, i) alone. */
void vg_fill_uniform(float *x, int64_t n, vg_rng_key key, float a, float b);
void vg_fill_normal(float *x, int64_t n, vg_rng_key key, float mean, float sd);

#endif
