/* Small products whose sums live in registers, and the layouts they read. Included below a vector_<isa>_impl.h and the
 * tile sizes: ROWS x (VECTORS * VF_LANES) sums, SIDE rows where the left operand lies across. */
#ifndef VG_TILE_LANES_IMPL_H
#define VG_TILE_LANES_IMPL_H

#include "kernels/cpu/ahead_lanes_impl.h"
#include "kernels/cpu/vector_math_impl.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { COLUMNS = VECTORS * VF_LANES };

/* c [rows][..] = (add ? c : 0) + sum over k of a(i,k) * b[k * b_row ..], one chain of multiply-adds per element.
 * The left operand lies in chunks: along, a chunk holds COLUMNS values of k for each row, [rows][COLUMNS]; across, the
 * same chunk is read the other way, k down its rows and i along a row. */
typedef struct tile {
    int64_t n_k;
    const float *a;
    int64_t a_chunk; /* floats from one chunk of COLUMNS values of k to the next */
    const float *b;
    int64_t b_row;
    float *c;
    int64_t c_row;
    bool add;
    rows_ahead *ahead;
    float factor;      /* across alone, where c may lie far: what is stored is plus, if any, + factor * that */
    const float *plus; /* like c */
} tile;

static inline __attribute__((always_inline)) void tile_body(const tile *t, const float *a, int64_t column, float *c,
                                                            const int rows, const int vectors, const int a_row,
                                                            const int a_step)
{
    const int64_t b_row = t->b_row, c_row = t->c_row;
    const bool across = a_row == 1;
    const vf factor = vf_set(t->factor);
    const float *b = t->b + column;
    vf sum[ROWS > SIDE ? ROWS : SIDE][VECTORS];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[i][v] = t->add ? vf_load(c + i * c_row + v * VF_LANES) : vf_set(0.0F);
#pragma GCC unroll 16
    for (int i = 0; across && i < rows; i++)
        for (int v = 0; v < vectors; v++) __builtin_prefetch(c + i * c_row + v * VF_LANES, 1);
    for (int64_t left = t->n_k; left > 0; left -= COLUMNS, a += t->a_chunk) {
        const int n = left < COLUMNS ? (int)left : COLUMNS;
        const float *x = a;
        ahead_fetch(t->ahead);
#pragma GCC unroll 2
        for (int k = 0; k < n; k++, x += a_step, b += b_row) {
            vf right[VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) right[v] = vf_load(b + v * VF_LANES);
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) sum[i][v] = vf_fma(vf_set(x[i * a_row]), right[v], sum[i][v]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            float *to = c + i * c_row + v * VF_LANES;
            if (across && t->plus)
                sum[i][v] = vf_fma(sum[i][v], factor, vf_load(t->plus + (to - t->c)));
            else if (across)
                sum[i][v] = sum[i][v] * factor;
            vf_store(to, sum[i][v]);
        }
}

#define TILE(rows)                                                            \
    static void tile_##rows##_wide(const tile *t, int64_t column)             \
    {                                                                         \
        tile_body(t, t->a, column, t->c + column, rows, VECTORS, COLUMNS, 1); \
    }                                                                         \
    static void tile_##rows##_narrow(const tile *t, int64_t column)           \
    {                                                                         \
        tile_body(t, t->a, column, t->c + column, rows, 1, COLUMNS, 1);       \
    }
#define TILE_PAIR(rows)                          \
    {                                            \
        tile_##rows##_narrow, tile_##rows##_wide \
    }
EACH_ROWS(TILE)
static void (*const tiles_along[ROWS][2])(const tile *, int64_t column) = {EACH_ROWS_LISTED(TILE_PAIR)};
#undef TILE
#undef TILE_PAIR

static void tile_across_wide(const tile *t, int64_t row, int64_t column)
{
    tile_body(t, t->a + row, column, t->c + row * t->c_row + column, SIDE, VECTORS, 1, COLUMNS);
}
static void tile_across_narrow(const tile *t, int64_t row, int64_t column)
{
    tile_body(t, t->a + row, column, t->c + row * t->c_row + column, SIDE, 1, 1, COLUMNS);
}

/* A product with `width` columns, a multiple of VF_LANES: wide tiles, then narrow ones. */
static inline void product_along(const tile *t, int rows, int64_t width)
{
    int64_t column = 0;
    for (; column + COLUMNS <= width; column += COLUMNS) tiles_along[rows - 1][1](t, column);
    for (; column < width; column += VF_LANES) tiles_along[rows - 1][0](t, column);
}

/* The transpose of a chunk [n_k][COLUMNS] times b: the first `rows` rows of c, up to a whole SIDE. */
static inline void product_across(const tile *t, int64_t rows, int64_t width)
{
    for (int64_t column = 0; column < width;) {
        const bool wide = width - column >= COLUMNS;
        for (int64_t row = 0; row < rows; row += SIDE) (wide ? tile_across_wide : tile_across_narrow)(t, row, column);
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
