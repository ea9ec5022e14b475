/* The portable path: OpenBLAS on tiles of one fixed shape, single-threaded, so that whatever it does with a tile it
 * does for every row and column alike. */
#include "kernels/cpu/vector_scalar_impl.h"

enum { MR = 48, NR = 48 };
#include "kernels/cpu/gemm_isa_impl.h"

#include <cblas.h>

/* Its own threads would cut a tile in ways that hang on their number. */
static void prepare(void)
{
    openblas_set_num_threads(1);
}

static const char *library(void)
{
    return openblas_get_config();
}

static void tile(const vg_gemm_tile *t)
{
    if (t->kept) pack(t->kept, NR, t->b, 1, t->b_row, NULL, NR, t->k, NULL, NULL, 0);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, MR, NR, (int)t->k, 1.0F, t->a, MR, t->kept ? t->kept : t->b,
                NR, t->add ? 1.0F : 0.0F, t->c, (int)t->c_row);
}

const vg_gemm_isa vg_gemm_openblas = {.name = "cpu openblas tile48x48",
                                      .library = library,
                                      .mr = MR,
                                      .nr = NR,
                                      .prepare = prepare,
                                      .pack = pack,
                                      .tile = tile,
                                      .finish = finish,
                                      .act_grad = act_grad};
