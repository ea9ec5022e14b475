#include "kernels/cuda/rows.h"

enum { THREADS = 256, TILE_BYTES = 12288, LARGEST_PATCH = 126 };

struct patchify_args {
    const uint8_t *pixels; /* [m,S,S,3] */
    void *x;               /* [m*grid*grid,3*p*p] */
    int side, patch, grid; /* pixels of an image and of a patch, patches of an image, along one side */
    int patches, tiles;    /* a block's patches side by side; blocks that a band of patches takes */
    bool bf16, wide;
};

/* Copies `lines` lines of n units each into shared memory, one after another. */
template <class unit>
static __device__ void stage_lines(unit *to, const uint8_t *from, int64_t line_bytes, int lines, int n)
{
    for (int i = (int)threadIdx.x; i < lines * n; i += THREADS)
        to[i] = reinterpret_cast<const unit *>(from + i / n * line_bytes)[i % n];
}

/* (level/255 - mean) / std of channel c; mean and std of ImageNet, as every DINOv2 model expects. */
static __forceinline__ __device__ float normalised(uint8_t level, int c)
{
    const float mean = c == 0 ? 0.485F : c == 1 ? 0.456F : 0.406F, std = c == 0 ? 0.229F : c == 1 ? 0.224F : 0.225F;
    return ((float)level / 255.0F - mean) / std;
}

/* Number i of the block's patches: patch, channel, row, column. */
static __forceinline__ __device__ float patch_number(const struct patchify_args &p, const uint8_t *tile, int n, int i)
{
    const int area = p.patch * p.patch, at = i % (3 * area), c = at / area, row = at % area / p.patch;
    const int column = i / (3 * area) * p.patch + at % p.patch;
    return normalised(tile[(row * n * p.patch + column) * 3 + c], c);
}

/* `first` is the block's first patch. */
template <int W, class T>
static __device__ void write_patches(const struct patchify_args &p, const uint8_t *tile, int n, int64_t first)
{
    T *x = (T *)p.x + first * 3 * p.patch * p.patch;
    for (int i = (int)threadIdx.x * W; i < n * 3 * p.patch * p.patch; i += THREADS * W) {
        pack<W> out;
#pragma unroll
        for (int k = 0; k < W; k++) out.v[k] = patch_number(p, tile, n, i + k);
        store<W>(x + i, out);
    }
}

/* A block takes some patches side by side: their lines of pixels go to shared memory as they lie, in units of up to
 * four bytes, and the patches come out of it, 128 bits at a time. Memory bound: 1 byte read and 4 written a number, 2
 * of bf16. */
KERNEL(THREADS) void patchify_tile(const struct patchify_args p)
{
    DYN_SHARED(uint8_t, tile);
    const int64_t band = blockIdx.x / (unsigned)p.tiles; /* a row of patches; those of all images together */
    const int first = (int)(blockIdx.x % (unsigned)p.tiles) * p.patches;
    const int n = p.grid - first < p.patches ? p.grid - first : p.patches;
    const int64_t line_bytes = 3 * (int64_t)p.side;
    const int64_t line = band / p.grid * p.side + band % p.grid * p.patch;
    const uint8_t *from = p.pixels + line * line_bytes + (int64_t)first * p.patch * 3;
    const int bytes = n * p.patch * 3;
    const uintptr_t odd = (uintptr_t)from | (uintptr_t)line_bytes | (uintptr_t)bytes;
    if (odd % 4 == 0)
        stage_lines(reinterpret_cast<uint32_t *>(tile), from, line_bytes, p.patch, bytes / 4);
    else if (odd % 2 == 0)
        stage_lines(reinterpret_cast<uint16_t *>(tile), from, line_bytes, p.patch, bytes / 2);
    else
        stage_lines(tile, from, line_bytes, p.patch, bytes);
    __syncthreads();
    BY_TYPE(p.bf16, p.wide, write_patches, p, tile, n, band * p.grid + first);
}
KERNEL_ENTRY(patchify_tile, struct patchify_args)

extern "C" vg_status vg_cuda_patchify(vg_stream *stream, const vg_node *node)
{
    const int patch = node->attr.patchify.patch, patch_bytes = 3 * patch * patch;
    const int64_t images = node->in[0].shape.dim[0];
    struct patchify_args p = {};
    VG_CHECK(patch <= LARGEST_PATCH, VG_E_BUG, "patches of %d pixels: the GPU takes up to %d", patch, LARGEST_PATCH);
    p.pixels = (const uint8_t *)node->in[0].data;
    p.x = node->out[0].data;
    p.bf16 = is_bf16(&node->out[0]);
    p.side = (int)node->in[0].shape.dim[1];
    p.patch = patch;
    p.grid = p.side / patch;
    p.patches = TILE_BYTES / patch_bytes / 4 * 4; /* whole words, wherever the lines begin at one */
    if (p.patches == 0) p.patches = 1;
    p.tiles = (p.grid + p.patches - 1) / p.patches;
    p.wide = is_wide_in(p.bf16, patch_bytes, p.x);
    LAUNCH(patchify_tile, (unsigned)(images * p.grid * p.tiles), THREADS, (size_t)(p.patches * patch_bytes),
           vg_cuda_queue(stream), p);
    return VG_CUDA_LAUNCHED("patchify");
}
