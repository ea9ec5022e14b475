/* Which query answers which target: the assignment of least cost. */
#ifndef VG_KERNELS_CPU_MATCHER_IMPL_H
#define VG_KERNELS_CPU_MATCHER_IMPL_H

#include <stddef.h>
#include <stdint.h>

/* Scratch of one vg_match call, in bytes, a multiple of 64. */
size_t vg_match_scratch_bytes(int n_queries, int n_targets);

/* match[q] becomes the target of query q or -1, for the min(n_queries, n_targets) pairs of least total cost.
 *   cost  [n_queries,n_targets]  finite
 * One target: the lowest query of least cost. More: shortest augmenting paths in fp64 over the smaller side in index
 * order; a later column wins only when strictly smaller. Source: Jonker and Volgenant 1987, without their start. */
void vg_match(const float *cost, int n_queries, int n_targets, int32_t *match, void *scratch);

#endif
