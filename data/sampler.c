#include "data/sampler.h"

#include "kernels/base/random.h"

#include <assert.h>

enum { ROUNDS = 8 };

/* One pass of a balanced Feistel network over 2 * half_bits bits. */
static uint64_t feistel(uint64_t key, int half_bits, uint64_t x)
{
    const uint64_t mask = (UINT64_C(1) << half_bits) - 1;
    const vg_rng_key rng = {{(uint32_t)key, (uint32_t)(key >> 32)}};
    uint64_t left = x >> half_bits, right = x & mask;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t word[4];
        vg_philox((const uint32_t[4]){(uint32_t)right, round, 0, 0}, rng, word);
        const uint64_t next = left ^ (word[0] & mask);
        left = right;
        right = next;
    }
    return left << half_bits | right;
}

int64_t vg_permute(uint64_t key, int64_t n, int64_t i)
{
    assert(n > 0 && i >= 0 && i < n);
    int half_bits = 1;
    while (half_bits < 32 && (UINT64_C(1) << 2 * half_bits) < (uint64_t)n) half_bits++;
    uint64_t x = (uint64_t)i;
    do {
        x = feistel(key, half_bits, x);
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}

/* The key of one permutation: `purpose` of this run in this epoch, for this image (0 where no image is meant). */
static uint64_t order_key(uint64_t seed, const char *purpose, int64_t epoch, int64_t image)
{
    uint32_t word[4];
    const vg_rng_key key = vg_rng_key_of(seed, vg_rng_purpose(purpose));
    const uint64_t e = (uint64_t)epoch, k = (uint64_t)image;
    vg_philox((const uint32_t[4]){(uint32_t)e, (uint32_t)(e >> 32), (uint32_t)k, (uint32_t)(k >> 32)}, key, word);
    return (uint64_t)word[1] << 32 | word[0];
}

/* `order` is 0 for samples that are no set of a mix, else 1 + set. */
static vg_place place_in_order(uint64_t seed, int64_t order, int64_t n, int64_t position)
{
    assert(n > 0 && position >= 0);
    const int64_t epoch = position / n;
    return (vg_place){epoch, vg_permute(order_key(seed, "sampler.epoch", epoch, order), n, position % n)};
}

vg_place vg_sampler_place(uint64_t seed, int64_t n, int64_t position)
{
    return place_in_order(seed, 0, n, position);
}

vg_place vg_sampler_place_in_set(uint64_t seed, int set, int64_t n, int64_t position)
{
    return place_in_order(seed, 1 + (int64_t)set, n, position);
}

vg_mixed vg_sampler_mix(uint64_t seed, const int *weights, int n_sets, int64_t position)
{
    int64_t total = 0;
    for (int k = 0; k < n_sets; k++) total += weights[k];
    assert(total > 0 && position >= 0);
    const int64_t block = position / total;
    int64_t place = vg_permute(order_key(seed, "sampler.mix", block, 0), total, position % total);
    int set = 0;
    while (place >= weights[set]) place -= weights[set++];
    return (vg_mixed){set, block * weights[set] + place};
}

int64_t vg_sampler_phrase(uint64_t seed, int64_t epoch, int64_t image, int64_t n, int64_t j)
{
    return vg_permute(order_key(seed, "sampler.phrases", epoch, image), n, j);
}
