/* Small products whose sums live in registers, and the layouts they read. Included below a vector_<isa>_impl.h and the
 * tile sizes: ROWS x (VECTORS * VF_LANES) sums. */
#ifndef VG_TILE_LANES_IMPL_H
#define VG_TILE_LANES_IMPL_H

#include "kernels/cpu/ahead_lanes_impl.h"
#include "kernels/cpu/vector_math_impl.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { COLUMNS = VECTORS * VF_LANES };

/* c(i, ..) = (add ? c : 0) + sum over k of a(i, k) * b[k * b_row ..], one chain of multiply-adds per element. The left
 * operand lies in chunks of COLUMNS values of k, in which a(i, k) is a[i * a_row + k * a_step]. */
typedef struct tile {
    int64_t n_k;
    const float *a;
    int64_t a_row, a_step;
    int64_t a_chunk; /* floats from one chunk to the next */
    const float *b;
    int64_t b_row;
    float *c;
    int64_t c_row;
    bool add;
    bool far; /* c is asked for early; what is stored is plus, if any, + factor * that */
    float factor;
    const float *plus; /* like c */
    rows_ahead *ahead;
} tile;

typedef vf tile_sums[ROWS][VECTORS];

static inline __attribute__((always_inline)) void tile_begin(const tile *t, int64_t at, tile_sums sum, const int rows,
                                                             const int vectors)
{
    const float *c = t->c + at;
    if (t->add)
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sum[i][v] = vf_load(c + i * t->c_row + v * VF_LANES);
    else
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sum[i][v] = vf_set(0.0F);
    if (t->far)
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++, c += t->c_row)
            for (int v = 0; v < vectors; v++) __builtin_prefetch(c + v * VF_LANES, 1);
}

/* One value of k; four rows lie behind each x. */
static inline __attribute__((always_inline)) void tile_step(const float *x[4], int64_t a_row, int64_t a_step,
                                                            const float *b, tile_sums sum, const int rows,
                                                            const int vectors)
{
    vf right[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) right[v] = vf_load(b + v * VF_LANES);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[i][v] = vf_fma(vf_set(x[i / 4][i % 4 * a_row]), right[v], sum[i][v]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) x[i] += a_step;
}

static inline __attribute__((always_inline)) void tile_end(const tile *t, int64_t at, tile_sums sum, const int rows,
                                                           const int vectors)
{
    const vf factor = vf_set(t->factor);
    const float *plus = t->plus ? t->plus + at : NULL;
    float *c = t->c + at;
    if (plus)
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++, plus += t->c_row)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sum[i][v] = vf_fma(sum[i][v], factor, vf_load(plus + v * VF_LANES));
    else if (t->far)
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sum[i][v] = sum[i][v] * factor;
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++, c += t->c_row)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) vf_store(c + v * VF_LANES, sum[i][v]);
}

/* Rows row..row+rows-1 of c, columns column.. */
static inline __attribute__((always_inline)) void tile_body(const tile *t, int64_t row, int64_t column, const int rows,
                                                            const int vectors)
{
    const int64_t a_row = t->a_row, a_step = t->a_step, b_row = t->b_row, at = row * t->c_row + column;
    const float *a = t->a + row * a_row, *b = t->b + column;
    tile_sums sum;
    tile_begin(t, at, sum, rows, vectors);
    for (int64_t left = t->n_k; left > 0; left -= COLUMNS, a += t->a_chunk) {
        const float *x[4] = {a, a + 4 * a_row, a + 8 * a_row, a + 12 * a_row};
        int n = left < COLUMNS ? (int)left : COLUMNS;
        ahead_fetch(t->ahead);
        for (; n > 1; n -= 2) {
            tile_step(x, a_row, a_step, b, sum, rows, vectors);
            tile_step(x, a_row, a_step, b + b_row, sum, rows, vectors);
            b += 2 * b_row;
        }
        if (n) tile_step(x, a_row, a_step, b, sum, rows, vectors);
        b += n * b_row;
    }
    tile_end(t, at, sum, rows, vectors);
}

#define TILE(rows)                                                               \
    static void tile_##rows##_wide(const tile *t, int64_t row, int64_t column)   \
    {                                                                            \
        tile_body(t, row, column, rows, VECTORS);                                \
    }                                                                            \
    static void tile_##rows##_narrow(const tile *t, int64_t row, int64_t column) \
    {                                                                            \
        tile_body(t, row, column, rows, 1);                                      \
    }
#define TILE_PAIR(rows)                          \
    {                                            \
        tile_##rows##_narrow, tile_##rows##_wide \
    }
EACH_ROWS(TILE)
static void (*const tiles[ROWS][2])(const tile *, int64_t row, int64_t column) = {EACH_ROWS_LISTED(TILE_PAIR)};
#undef TILE
#undef TILE_PAIR

/* Rows of a group when `rows` rows go into groups of at most ROWS, as even as they can be. */
static inline int64_t rows_of_group(int64_t rows)
{
    const int64_t groups = (rows + ROWS - 1) / ROWS;
    return groups > 1 ? (rows + groups - 1) / groups : rows;
}

/* The first `rows` rows of c and `width` columns, a multiple of VF_LANES. */
static void product(const tile *t, int64_t rows, int64_t width)
{
    const int64_t most = rows_of_group(rows);
    for (int64_t column = 0; column < width;) {
        const int wide = width - column >= COLUMNS;
        for (int64_t row = 0; row < rows; row += most)
            tiles[(rows - row < most ? rows - row : most) - 1][wide](t, row, column);
        column += wide ? COLUMNS : VF_LANES;
    }
}

/* Heads are short rows far apart, which the hardware does not follow: a row is asked for FETCH rows before it is read.
 */
enum { FETCH = 16 };

static inline void fetch_row(const float *row, int64_t size)
{
    for (int64_t d = 0; d < size; d += LINE) __builtin_prefetch(row + d);
}

/* Rows of `size` floats, one after the other in `to`, each filled up with zeros to `padded`. */
static void pack_rows(float *to, int64_t padded, const float *from, int64_t stride, int64_t n, int64_t size)
{
    for (int64_t r = 0; r < n; r++, to += padded, from += stride) {
        fetch_row(from + FETCH * stride, size);
        memcpy(to, from, (size_t)size * sizeof *to);
        memset(to + size, 0, (size_t)(padded - size) * sizeof *to);
    }
}

static inline vf load_some(const float *p, int64_t count)
{
    return count >= VF_LANES ? vf_load(p) : vf_load_part(p, (int)count);
}

static inline void store_some(float *p, vf x, int64_t count)
{
    if (count >= VF_LANES)
        vf_store(p, x);
    else
        vf_store_part(p, x, (int)count);
}

static inline void scale_row(float *to, const float *from, int64_t n, float factor)
{
    for (int64_t d = 0; d < n; d += VF_LANES) store_some(to + d, load_some(from + d, n - d) * vf_set(factor), n - d);
}

static inline void scale_add_row(float *to, const float *from, int64_t n, float factor, const float *add)
{
    for (int64_t d = 0; d < n; d += VF_LANES)
        store_some(to + d, vf_fma(load_some(from + d, n - d), vf_set(factor), load_some(add + d, n - d)), n - d);
}

/* Rows as chunks [size / COLUMNS][n][COLUMNS], each value times factor: a left operand that lies along. */
static void pack_left(float *to, const float *from, int64_t stride, int64_t n, int64_t size, float factor)
{
    for (int64_t d = 0; d < size; d += COLUMNS)
        for (int64_t i = 0; i < n; i++, to += COLUMNS)
            scale_row(to, from + i * stride + d, size - d < COLUMNS ? size - d : COLUMNS, factor);
}

/* VF_LANES values of VF_LANES rows into as many columns of a panel. */
static inline void pack_square(float *to, const float *from, int64_t stride)
{
    vf rows[VF_LANES];
#pragma GCC unroll 16
    for (int i = 0; i < VF_LANES; i++) rows[i] = vf_load(from + i * stride);
    vf_transpose(rows);
#pragma GCC unroll 16
    for (int i = 0; i < VF_LANES; i++) vf_store(to + i * COLUMNS, rows[i]);
}

/* Rows become columns first.. of panels [size][COLUMNS]: a right operand. */
static void pack_panels(float *panels, int64_t first, const float *from, int64_t stride, int64_t n, int64_t size)
{
    for (int64_t r = 0; r < n;) {
        const int64_t column = first + r;
        float *to = panels + column / COLUMNS * size * COLUMNS + column % COLUMNS;
        const float *row = from + r * stride;
        const bool square = column % VF_LANES == 0 && n - r >= VF_LANES;
        const int count = square ? VF_LANES : 1;
        for (int i = 0; i < count && r + FETCH + i < n; i++) fetch_row(row + (FETCH + i) * stride, size);
        int64_t d = 0;
        for (; square && d + VF_LANES <= size; d += VF_LANES) pack_square(to + d * COLUMNS, row + d, stride);
        for (; d < size; d++)
            for (int i = 0; i < count; i++) to[d * COLUMNS + i] = row[i * stride + d];
        r += count;
    }
}

#endif
