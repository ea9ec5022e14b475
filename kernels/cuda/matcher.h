/* The assignment of least cost by one warp: the result of kernels/cpu/matcher.c, ties included. */
#ifndef VG_KERNELS_CUDA_MATCHER_H
#define VG_KERNELS_CUDA_MATCHER_H

#include "kernels/cuda/cuda_impl.h"
#include "kernels/cuda/warp.h"

#include <math.h>

/* Rows are the smaller side; rows and columns count from 1, index 0 is the free place a new row starts from. Column j
 * belongs to lane j % 32: what stands by column is written by that lane alone, except row_of. */
struct match_paths {
    const float *cost;
    int n_rows, n_columns, row_stride, column_stride;
    double *row_price, *column_price, *shortest;
    int32_t *row_of, *previous, *done; /* by column */
};

static inline size_t match_scratch_bytes(int n_queries, int n_targets)
{
    const size_t side = (size_t)(n_queries > n_targets ? n_queries : n_targets) + 1;
    return vg_round_up(side * (3 * sizeof(double) + 3 * sizeof(int32_t)), 64);
}

static __forceinline__ __device__ match_paths match_paths_of(const float *cost, int n_queries, int n_targets,
                                                             void *scratch, int lane)
{
    const bool swap = n_targets <= n_queries;
    const int side = (swap ? n_queries : n_targets) + 1;
    match_paths p;
    p.cost = cost;
    p.n_rows = swap ? n_targets : n_queries;
    p.n_columns = side - 1;
    p.row_stride = swap ? 1 : n_targets;
    p.column_stride = swap ? n_targets : 1;
    p.row_price = (double *)scratch;
    p.column_price = p.row_price + side;
    p.shortest = p.column_price + side;
    p.row_of = (int32_t *)(p.shortest + side);
    p.previous = p.row_of + side;
    p.done = p.previous + side;
    for (int j = lane; j < side; j += WARP) {
        p.row_price[j] = p.column_price[j] = 0;
        p.row_of[j] = 0;
    }
    return p;
}

/* Visits `column`: improves the distances through its row and returns the nearest column still open. */
static __forceinline__ __device__ int match_step(const match_paths &p, int column, double *distance, int lane)
{
    const int row = p.row_of[column];
    const double price = p.row_price[row];
    int nearest = 0;
    *distance = INFINITY;
    for (int j = lane; j <= p.n_columns; j += WARP) {
        if (p.done[j]) continue; /* column 0 always is */
        const double cost = (double)p.cost[(row - 1) * p.row_stride + (j - 1) * p.column_stride];
        const double through = cost - price - p.column_price[j];
        if (through < p.shortest[j]) {
            p.shortest[j] = through;
            p.previous[j] = column;
        }
        if (p.shortest[j] < *distance) {
            *distance = p.shortest[j];
            nearest = j;
        }
    }
    warp_least(distance, &nearest);
    return nearest;
}

static __forceinline__ __device__ void match_reprice(const match_paths &p, double distance, int lane)
{
    for (int j = lane; j <= p.n_columns; j += WARP)
        if (p.done[j]) {
            p.row_price[p.row_of[j]] += distance;
            p.column_price[j] -= distance;
        } else {
            p.shortest[j] -= distance;
        }
}

static __forceinline__ __device__ void match_enter(const match_paths &p, int row, int lane)
{
    for (int j = lane; j <= p.n_columns; j += WARP) {
        p.shortest[j] = INFINITY;
        p.done[j] = 0;
    }
    if (lane == 0) p.row_of[0] = row;
    __syncwarp();
    int column = 0;
    do {
        double distance;
        if (lane == column % WARP) p.done[column] = 1;
        column = match_step(p, column, &distance, lane);
        __syncwarp(); /* all have read the prices */
        match_reprice(p, distance, lane);
        __syncwarp();
    } while (p.row_of[column]);
    __syncwarp(); /* all have seen that the column is free */
    for (; lane == 0 && column; column = p.previous[column]) p.row_of[column] = p.row_of[p.previous[column]];
    __syncwarp();
}

/* The lowest query of least cost takes the only target. */
static __forceinline__ __device__ void match_one(const float *cost, int n_queries, int32_t *match, int lane)
{
    float least = INFINITY;
    int best = n_queries;
    for (int q = lane; q < n_queries; q += WARP)
        if (best == n_queries || cost[q] < least) {
            least = cost[q];
            best = q;
        }
    warp_least(&least, &best);
    for (int q = lane; q < n_queries; q += WARP) match[q] = q == best ? 0 : -1;
}

static __forceinline__ __device__ void match_many(const match_paths &p, bool rows_are_targets, int32_t *match, int lane)
{
    __syncwarp();
    for (int row = 1; row <= p.n_rows; row++) match_enter(p, row, lane);
    for (int j = 1 + lane; j <= p.n_columns; j += WARP) {
        if (rows_are_targets)
            match[j - 1] = p.row_of[j] - 1;
        else if (p.row_of[j])
            match[p.row_of[j] - 1] = j - 1;
    }
}

/* match[q] becomes the target of query q or -1. The whole warp calls it; lane q % 32 reads match[q] after a __syncwarp.
 *   cost  [n_queries,n_targets]  finite, written by this warp before a __syncwarp
 *   scratch  match_scratch_bytes(n_queries, at least n_targets), 8-byte aligned */
static __forceinline__ __device__ void match_queries(const float *cost, int n_queries, int n_targets, int32_t *match,
                                                     void *scratch, int lane)
{
    if (n_targets == 1) {
        match_one(cost, n_queries, match, lane);
    } else if (n_targets > 1) {
        const match_paths p = match_paths_of(cost, n_queries, n_targets, scratch, lane);
        match_many(p, n_targets <= n_queries, match, lane);
    } else {
        for (int q = lane; q < n_queries; q += WARP) match[q] = -1;
    }
}

#endif
