#include "kernels/cpu/matcher_impl.h"

#include "kernels/base/base.h"

#include <math.h>
#include <string.h>

/* Rows are the smaller side. Index 0 of every array is the free place a new row starts from; rows and columns count
 * from 1. */
typedef struct paths {
    const float *cost;
    int n_rows, n_columns, row_stride, column_stride;
    double *row_price, *column_price, *shortest;
    int32_t *row_of, *previous; /* by column */
    bool *done;
} paths;

size_t vg_match_scratch_bytes(int n_queries, int n_targets)
{
    const size_t side = (size_t)(n_queries > n_targets ? n_queries : n_targets) + 1;
    return vg_round_up(side * (3 * sizeof(double) + 2 * sizeof(int32_t) + sizeof(bool)), 64);
}

static void paths_init(paths *p, const float *cost, int n_queries, int n_targets, void *scratch)
{
    const size_t side = (size_t)(n_queries > n_targets ? n_queries : n_targets) + 1;
    const bool swap = n_targets <= n_queries;
    memset(scratch, 0, vg_match_scratch_bytes(n_queries, n_targets));
    p->cost = cost;
    p->n_rows = swap ? n_targets : n_queries;
    p->n_columns = swap ? n_queries : n_targets;
    p->row_stride = swap ? 1 : n_targets;
    p->column_stride = swap ? n_targets : 1;
    p->row_price = scratch;
    p->column_price = p->row_price + side;
    p->shortest = p->column_price + side;
    p->row_of = (int32_t *)(p->shortest + side);
    p->previous = p->row_of + side;
    p->done = (bool *)(p->previous + side);
}

/* Visits `column`: improves the distances through its row and returns the nearest column still open. */
static int paths_step(paths *p, int column, double *distance)
{
    const int row = p->row_of[column];
    int nearest = 0;
    *distance = INFINITY;
    for (int j = 1; j <= p->n_columns; j++) {
        if (p->done[j]) continue;
        const double cost = p->cost[(row - 1) * p->row_stride + (j - 1) * p->column_stride];
        const double through = cost - p->row_price[row] - p->column_price[j];
        if (through < p->shortest[j]) {
            p->shortest[j] = through;
            p->previous[j] = column;
        }
        if (p->shortest[j] < *distance) {
            *distance = p->shortest[j];
            nearest = j;
        }
    }
    return nearest;
}

static void paths_reprice(paths *p, double distance)
{
    for (int j = 0; j <= p->n_columns; j++)
        if (p->done[j]) {
            p->row_price[p->row_of[j]] += distance;
            p->column_price[j] -= distance;
        } else {
            p->shortest[j] -= distance;
        }
}

static void paths_enter(paths *p, int row)
{
    for (int j = 0; j <= p->n_columns; j++) {
        p->shortest[j] = INFINITY;
        p->done[j] = false;
    }
    p->row_of[0] = row;
    int column = 0;
    do {
        double distance;
        p->done[column] = true;
        column = paths_step(p, column, &distance);
        paths_reprice(p, distance);
    } while (p->row_of[column]);
    for (; column; column = p->previous[column]) p->row_of[column] = p->row_of[p->previous[column]];
}

static int cheapest(const float *cost, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (cost[i] < cost[best]) best = i;
    return best;
}

void vg_match(const float *cost, int n_queries, int n_targets, int32_t *match, void *scratch)
{
    for (int q = 0; q < n_queries; q++) match[q] = -1;
    if (n_queries == 0 || n_targets == 0) return;
    if (n_targets == 1) {
        match[cheapest(cost, n_queries)] = 0;
        return;
    }
    paths p;
    paths_init(&p, cost, n_queries, n_targets, scratch);
    for (int row = 1; row <= p.n_rows; row++) paths_enter(&p, row);
    for (int j = 1; j <= p.n_columns; j++) {
        if (!p.row_of[j]) continue;
        const int row = p.row_of[j] - 1, column = j - 1;
        if (n_targets <= n_queries)
            match[column] = row;
        else
            match[row] = column;
    }
}
