/* Leaves of a canonical sum, and its definition. */
#ifndef TESTS_DIST_LEAF_TEST_H
#define TESTS_DIST_LEAF_TEST_H

#include "kernels/base/base.h"

#include <stdlib.h>

/* Values of many magnitudes and signs, so that the order of additions shows in the last bits. */
static inline void fill_leaf(float *x, int64_t n, int leaf, int step)
{
    uint32_t word = (uint32_t)(leaf * 7919 + step * 104729 + 1);
    for (int64_t i = 0; i < n; i++) {
        word = word * 1664525u + 1013904223u;
        x[i] = ((float)(int32_t)word) * (float)(1 << ((i + leaf) % 13));
    }
}

/* The definition, word for word, over leaves[n_leaves]. */
static inline void definition(float *const *leaf, int n_leaves, int64_t n)
{
    for (int stride = 1; stride < n_leaves; stride *= 2)
        for (int i = 0; i + stride < n_leaves; i += 2 * stride)
            for (int64_t j = 0; j < n; j++) leaf[i][j] += leaf[i + stride][j];
}

/* The expected total; a leaf numbered `empty` is zero. swap exchanges two leaves first. */
static inline float *expected_total(int n_leaves, int64_t n, int step, int empty, bool swap)
{
    float **leaf = vg_new0_array((size_t)n_leaves, sizeof *leaf);
    for (int i = 0; i < n_leaves; i++) {
        leaf[i] = vg_new0_array((size_t)n, sizeof **leaf);
        if (i != empty) fill_leaf(leaf[i], n, i, step);
    }
    if (swap) {
        float *first = leaf[0];
        leaf[0] = leaf[2];
        leaf[2] = first;
    }
    definition(leaf, n_leaves, n);
    float *total = leaf[0];
    for (int i = 1; i < n_leaves; i++) free(leaf[i]);
    free(leaf);
    return total;
}

#endif
