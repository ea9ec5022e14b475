#include "kernels/base/random.h"

#include <math.h>

void vg_philox(const uint32_t counter[4], vg_rng_key key, uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key.v[0], k1 = key.v[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

vg_rng_key vg_rng_key_of(uint64_t seed, uint64_t purpose)
{
    uint32_t out[4];
    const uint32_t counter[4] = {(uint32_t)purpose, (uint32_t)(purpose >> 32), 0, 0};
    vg_philox(counter, (vg_rng_key){{(uint32_t)seed, (uint32_t)(seed >> 32)}}, out);
    return (vg_rng_key){{out[0], out[1]}};
}

uint64_t vg_rng_purpose(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *c = name; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return hash;
}

void vg_rng_block(vg_rng_key key, uint64_t position, uint32_t phrase, uint32_t block, uint32_t out[4])
{
    const uint32_t counter[4] = {block, phrase, (uint32_t)position, (uint32_t)(position >> 32)};
    vg_philox(counter, key, out);
}

void vg_fill_uniform(float *x, int64_t n, vg_rng_key key, float a, float b)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t word[4];
        vg_rng_block(key, (uint64_t)i >> 34, 0, (uint32_t)(i >> 2), word);
        for (int64_t j = 0; j < 4 && i + j < n; j++) x[i + j] = a + (b - a) * vg_uniform(word[j]);
    }
}

void vg_fill_normal(float *x, int64_t n, vg_rng_key key, float mean, float sd)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t word[4];
        vg_rng_block(key, (uint64_t)i >> 34, 0, (uint32_t)(i >> 2), word);
        for (int64_t j = 0; j < 4 && i + j < n; j++) {
            const double u = ((double)word[j & 2] + 0.5) * 0x1p-32, v = (double)word[(j & 2) + 1] * 0x1p-32;
            const double radius = sqrt(-2.0 * log(u)), angle = 6.283185307179586476925 * v;
            x[i + j] = (float)(mean + sd * radius * (j & 1 ? sin(angle) : cos(angle)));
        }
    }
}
