/* Matrix products as the stand-in of cuBLASLt computes them: each result is one sum over k in ascending order, in fp32,
 * whatever the other rows and columns are. */
#ifndef VG_EMU_GEMM_H
#define VG_EMU_GEMM_H

#include <cstdint>

namespace emu
{

/* Element (i, j) lies at i * row + j * column elements; fp32, or bf16. */
struct elements {
    const char *data;
    bool bf16;
    int64_t row, column;

    float at(int64_t i, int64_t j) const;
};
void put(char *data, bool bf16, int64_t at, float x);

/* sums [m,n], column after column = a [m,k] b [k,n] */
void gemm(int64_t m, int64_t n, int64_t k, const elements &a, const elements &b, float *sums);

} // namespace emu

#endif
