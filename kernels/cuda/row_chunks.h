/* How rows are divided that are summed up. dW = dz^T x, the gradient of a weight, has few results and each is a sum
 * over all rows, so tiles of dW alone would leave most processors without work: rows are multiplied in chunks side by
 * side, and what the chunks give is added in their order. The division hangs on the shape alone, so the bits do too. */
#ifndef VG_KERNELS_CUDA_ROW_CHUNKS_H
#define VG_KERNELS_CUDA_ROW_CHUNKS_H

#include <stdint.h>

enum { VG_PRODUCT_TILE = 64, VG_MOST_ROW_CHUNKS = 8, VG_MOST_ROW_PARTS = VG_MOST_ROW_CHUNKS + 1 };

/* Rows that are summed one after the other, where chunks of them are summed side by side: in sums of columns, and in
 * those of LayerNorm's gradients. */
enum { VG_COLUMN_CHUNK = 128, VG_LAYERNORM_CHUNK = 32 };

static inline int64_t vg_chunks_of(int64_t rows, int64_t chunk)
{
    return (rows + chunk - 1) / chunk;
}

/* Tiles of a product's [rows,columns] results. */
static inline int64_t vg_product_tiles(int64_t rows, int64_t columns)
{
    return (rows + VG_PRODUCT_TILE - 1) / VG_PRODUCT_TILE * ((columns + VG_PRODUCT_TILE - 1) / VG_PRODUCT_TILE);
}

/* Chunks of rows / chunks rows for dW [n,k]; the rows that are left are one more chunk. As many as give the largest GPU
 * a few rounds of tiles, but no more than are worth their way through memory: 8 bytes for each of the n * k. */
static inline int64_t vg_row_chunks(int64_t rows, int64_t n, int64_t k)
{
    enum { ENOUGH_TILES = 1024, LEAST_ROWS = 1024 };
    const int64_t tiles = vg_product_tiles(n, k);
    int64_t chunks = 1;
    while (chunks < VG_MOST_ROW_CHUNKS && chunks * tiles < ENOUGH_TILES && (chunks + 1) * LEAST_ROWS <= rows) chunks++;
    return chunks;
}

/* With the rows that are left. */
static inline int64_t vg_row_parts(int64_t rows, int64_t n, int64_t k)
{
    const int64_t chunks = vg_row_chunks(rows, n, k);
    return chunks + (rows % chunks > 0);
}

#endif
