/* The order of an epoch, computed where it is needed: no shuffle buffer, no memory, and any rank can name the i-th
 * sample of any epoch.
 *
 *     const vg_place place = vg_sampler_place(seed, n, position);      stream position -> epoch and sample
 *
 * Positions have no seams: epoch e is positions [e * n, (e + 1) * n), and a step may span two epochs. Several sets with
 * weights make one stream in the same way, see vg_sampler_mix. */
#ifndef VG_DATA_SAMPLER_H
#define VG_DATA_SAMPLER_H

#include <stdint.h>

/* The i-th element of the permutation of 0..n-1 that belongs to key; 0 <= i < n. Every key gives a bijection.
 * Source: Luby and Rackoff 1988 (Feistel networks as permutations); Black and Rogaway 2002, section 3 (cycle walking:
 * a permutation of a power of four is applied until the value lies below n, four times at the most on average). */
int64_t vg_permute(uint64_t key, int64_t n, int64_t i);

typedef struct vg_place {
    int64_t epoch, sample;
} vg_place;

/* Where stream position p >= 0 lies: epoch p / n, and the sample that the epoch's permutation has at p % n. */
vg_place vg_sampler_place(uint64_t seed, int64_t n, int64_t position);

/* The same for set `set` >= 0 of a mix, whose order is its own: of n samples, at its position. */
vg_place vg_sampler_place_in_set(uint64_t seed, int set, int64_t n, int64_t position);

/* Which set serves stream position p >= 0, and as which of the set's own positions. With W the sum of the weights (each
 * 0 or more, W > 0), block b of positions [b * W, (b + 1) * W) holds the set's positions [b * w, (b + 1) * w) in an
 * order keyed by (seed, b): every share is exact in every block, each set goes through its own epochs, nothing is
 * remembered. */
typedef struct vg_mixed {
    int set;
    int64_t position;
} vg_mixed;
vg_mixed vg_sampler_mix(uint64_t seed, const int *weights, int n_sets, int64_t position);

/* The j-th of n phrases of an image in this epoch, in an order keyed by (seed, epoch, image). */
int64_t vg_sampler_phrase(uint64_t seed, int64_t epoch, int64_t image, int64_t n, int64_t j);

#endif
