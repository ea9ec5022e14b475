/* Matrix products of the CPU backend: C = finish(A B), where finish is what a layer does to a sum before it is stored.
 *
 * Every element of A B is one sum over k: runs of VG_GEMM_RUN products, each a chain of multiply-adds from zero (fused,
 * but on x86 without AVX2), are added in order. Neither M, nor the thread count, nor the place in a tile shows in the
 * bits (edge tiles are padded with zeros and computed like full ones); the AVX2 and AVX-512 paths agree bit for bit.
 *
 * B is packed in panels of nr columns, [n_panels][k][nr], before the product, a span of K at a time, or a run of a
 * panel when the tiles come to it: where its rows lie side by side, the first tile of each block of A reads them there
 * and leaves them packed for the others; where its columns do, they are turned, if that is not better done once for
 * several threads or blocks. A is packed in blocks of mr rows, as much at a time as the second-level cache holds. A
 * panel of C is finished while it is in the first-level cache. */
#ifndef VG_GEMM_IMPL_H
#define VG_GEMM_IMPL_H

#include "kernels/backend.h"

enum { VG_GEMM_RUN = 384, VG_GEMM_LINE = 16 }; /* floats of a cache line */

/* What becomes of sum [i,j]: c = add + scale * act(sum + bias), z = sum + bias. NULL operands are left out. */
typedef struct vg_gemm_finish {
    float *c, *z;              /* [m,n]; c may be add */
    const float *add;          /* [m,n] */
    const float *bias, *scale; /* [n] */
    vg_act act;
    int64_t c_row; /* floats from one row of c, z and add to the next; 0: n */
} vg_gemm_finish;

typedef struct vg_gemm {
    int64_t m, n, k;
    const float *a, *b;
    int64_t a_row, a_step;    /* A(i,k) = a[i * a_row + k * a_step]; one of both is 1 */
    int64_t b_column, b_step; /* B(k,j) = b[j * b_column + k * b_step]; one of both is 1 */
    const int32_t *rows;      /* [m] the rows of A and of C there are, in order; NULL: the first m. Wants a_step 1 */
    /* [n_steps] at least one: the k that count, in order, A or B being 0 at the others, whose absence changes no bit.
     * NULL: all of them. Wants a_row and b_column 1, so no more than a run at a time, and B not packed. */
    const int32_t *steps;
    int64_t n_steps;
    const float *a_scale; /* [k] multiplies the columns of A; or NULL */
    const float *packed;  /* B, from vg_gemm_pack; or NULL */
    float *a_sums;        /* [m] sums over k of A, in order; or NULL. Wants a_row 1 */
    vg_gemm_finish finish;
} vg_gemm;

static inline int64_t vg_gemm_row(const vg_gemm *g, int64_t i)
{
    return g->rows ? g->rows[i] : i;
}

/* Where row i of c, z and add begins. */
static inline int64_t vg_gemm_row_of_c(const vg_gemm *g, int64_t i)
{
    return vg_gemm_row(g, i) * (g->finish.c_row ? g->finish.c_row : g->n);
}

/* Only m, n, k, a_step, b_step and packed (NULL or not) are read; fewer rows need no more. */
size_t vg_gemm_workspace(const vg_gemm *g, int n_threads);
void vg_gemm_run(const vg_stream *stream, const vg_gemm *g, void *workspace);

size_t vg_gemm_packed_bytes(int64_t n, int64_t k);
void vg_gemm_pack(const vg_gemm *g, float *packed); /* reads n, k and b */

/* --- one instruction set: the kernels that the loops above are made of --- */

/* What a tile asks for while it computes, a line of each at every step of k, so that no burst of them holds up the
 * products: the run of B that follows, or what it will be packed from, into the second-level cache; and where its sums
 * go, its place in C once they are whole, and what is read or written beside it, whose rows lie `row` floats apart. */
typedef struct vg_gemm_ahead {
    const float *b;
    int64_t b_step, b_turn; /* to the next line; and besides, after every VG_GEMM_LINE of them */
    const float *c, *beside;
    int64_t row;
} vg_gemm_ahead;

/* c = (add ? c : 0) + a [k][mr]^T b [k][nr]. Where `kept` is not NULL, B is not packed yet: its rows lie b_row floats
 * apart, and the tile leaves them packed there, for the tiles below it. */
typedef struct vg_gemm_tile {
    int64_t k;
    int n_rows; /* that are wanted, at least: mr or fewer */
    const float *a, *b;
    int64_t b_row;
    float *kept, *c;
    int64_t c_row; /* floats from one row of c to the next */
    bool add;
    vg_gemm_ahead ahead;
} vg_gemm_tile;

typedef struct vg_gemm_isa {
    const char *name;
    int mr, nr;
    /* dst [k][width] = src(lane, k) * scale[k]; lanes from n_lanes to width are 0. lanes, when not NULL, says which
     * they are. Where lanes lie side by side and sums is not NULL, sums[lane] += src(lane, 0) + .., one after the
     * other. What lies `ahead` steps further on is asked for, or as many lanes where steps lie side by side. */
    void (*pack)(float *dst, int width, const float *src, int64_t lane, int64_t step, const int32_t *lanes, int n_lanes,
                 int64_t k, const float *scale, float *sums, int ahead);
    void (*tile)(const vg_gemm_tile *tile); /* c has room for mr rows */
    /* Finishes rows i.. and columns j.. of C from tile sums [n_rows][nr]. */
    void (*finish)(const vg_gemm *g, const float *sums, int64_t i, int64_t n_rows, int64_t j);
    /* dz = dy * scale * act'(y_or_z), n elements */
    void (*act_grad)(vg_act act, float scale, const float *dy, const float *y_or_z, float *dz, int64_t n);
} vg_gemm_isa;

extern const vg_gemm_isa vg_gemm_base, vg_gemm_avx2, vg_gemm_avx512;
const vg_gemm_isa *vg_gemm_isa_get(void);

#endif
