#include "kernels/cuda/padded_rows.h"

#include "kernels/cuda/rows.h"

enum { THREADS = 256, EACH = 8 };

struct pad_args {
    const bf16 *x; /* [rows,width] */
    bf16 *y;       /* [rows,chunks * EACH] */
    int64_t rows;
    int width, chunks;
    bool wide;
};

template <int W> static __device__ void pad_chunk(const struct pad_args &p, int64_t row, int chunk)
{
    pack<EACH> eight = {};
#pragma unroll
    for (int i = 0; i < EACH; i += W) {
        const int column = chunk * EACH + i;
        if (column >= p.width) continue;
        const pack<W> x = load<W>(p.x + row * p.width + column);
#pragma unroll
        for (int k = 0; k < W; k++) eight.v[i + k] = x.v[k];
    }
    store<EACH>(p.y + (row * p.chunks + chunk) * EACH, eight);
}

/* Eight numbers a thread, read 64 bits at a time where rows allow it. Memory bound: 4 bytes a number. */
KERNEL(THREADS) void pad_rows(const struct pad_args p)
{
    const int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x, row = at / p.chunks;
    const int chunk = (int)(at % p.chunks);
    if (row >= p.rows) return;
    p.wide ? pad_chunk<4>(p, row, chunk) : pad_chunk<1>(p, row, chunk);
}
KERNEL_ENTRY(pad_rows, struct pad_args)

void vg_cuda_pad_rows(vg_stream *stream, const vg_operand *x, void *to)
{
    struct pad_args p = {};
    p.x = (const bf16 *)x->data;
    p.y = (bf16 *)to;
    p.rows = vg_shape_rows(&x->shape);
    p.width = (int)vg_shape_last(&x->shape);
    p.chunks = (int)(vg_padded_width(p.width) / EACH);
    p.wide = is_wide(p.width, p.x);
    LAUNCH(pad_rows, blocks_for(p.rows * p.chunks, THREADS), THREADS, 0, vg_cuda_queue(stream), p);
}
