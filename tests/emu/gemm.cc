#include "emu/gemm.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace emu
{

float elements::at(int64_t i, int64_t j) const
{
    const int64_t at = i * row + j * column;
    uint32_t bits;
    if (!bf16)
        memcpy(&bits, data + 4 * at, 4);
    else {
        uint16_t high;
        memcpy(&high, data + 2 * at, 2);
        bits = (uint32_t)high << 16;
    }
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

/* To bf16 the nearest, halves to even; not-a-number stays it. */
void put(char *data, bool bf16, int64_t at, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (!bf16) {
        memcpy(data + 4 * at, &bits, 4);
        return;
    }
    const uint16_t high = x != x ? 0x7fff : (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    memcpy(data + 2 * at, &high, 2);
}

namespace
{

enum { ROWS = 16, COLUMNS = 6 }; /* of a tile */
typedef float lanes __attribute__((vector_size(ROWS * sizeof(float)), may_alias, aligned(4)));

/* a [k][ROWS], b [k][COLUMNS] -> sums [COLUMNS][ROWS] */
#ifdef __x86_64__
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
void tile(int64_t k, const float *a, const float *b, float *sums)
{
    lanes sum[COLUMNS] = {};
    for (int64_t i = 0; i < k; i++) {
        const lanes x = *(const lanes *)(a + i * ROWS);
        for (int j = 0; j < COLUMNS; j++) sum[j] += x * b[i * COLUMNS + j];
    }
    memcpy(sums, sum, sizeof sum);
}

/* Rows first..first+n-1 of x [..,k], side by side for each k; zeros where x ends before. */
void pack(const elements &x, int64_t first, int64_t n, int64_t end, int64_t k, float *out)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < k; i++) out[i * n + r] = first + r < end ? x.at(first + r, i) : 0;
}

} // namespace

void gemm(int64_t m, int64_t n, int64_t k, const elements &a, const elements &b, float *sums)
{
    const elements columns = {b.data, b.bf16, b.column, b.row}; /* b, transposed */
    const int64_t n_tiles = (n + COLUMNS - 1) / COLUMNS;
    std::vector<float> right((size_t)(n_tiles * COLUMNS * k)), left((size_t)(ROWS * k));
    for (int64_t j = 0; j < n_tiles; j++) pack(columns, j * COLUMNS, COLUMNS, n, k, right.data() + j * COLUMNS * k);
    for (int64_t i = 0; i < m; i += ROWS) {
        pack(a, i, ROWS, m, k, left.data());
        for (int64_t j = 0; j < n; j += COLUMNS) {
            float part[COLUMNS * ROWS];
            tile(k, left.data(), right.data() + j * k, part);
            for (int64_t c = 0; c < std::min<int64_t>(COLUMNS, n - j); c++)
                memcpy(sums + (j + c) * m + i, part + c * ROWS, (size_t)std::min<int64_t>(ROWS, m - i) * sizeof(float));
        }
    }
}

} // namespace emu
