/* cuBLASLt thinks in columns: a row-major [r,c] tensor is its c x r matrix. So d = A B is asked for as d' = B' A', with
 * B first; a row of d, with its bias, is a column there, and the sums of A are those of its second operand. */
#include "kernels/cuda/matmul.h"

#include <stdlib.h>
#include <string.h>

/* All that the choice of an algorithm hangs on. Compared byte for byte: there are no gaps. */
typedef struct problem {
    int64_t m, n, k, batch;
    vg_matmul_rows a, b, d;
    int32_t factors, sums, a_transposed, b_transposed, adds, epilogue; /* the first two are a cudaDataType_t */
    uint32_t alignment[4];                                             /* bytes, of a, b, c and d */
} problem;

typedef struct plan {
    problem of;
    bool possible;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t first, second, result; /* B', A', d' */
    cublasLtMatmulAlgo_t algorithm;
} plan;

/* cuBLASLt wants its workspace at 256 bytes, a node's begins at 64. */
enum { WORKSPACE_ALIGNMENT = 256, USABLE_BYTES = VG_MATMUL_WORKSPACE_BYTES - WORKSPACE_ALIGNMENT };

struct vg_matmul_plans {
    plan *items;
    size_t n, capacity;
};

static void plan_release(plan *p)
{
    if (p->operation) cublasLtMatmulDescDestroy(p->operation);
    if (p->first) cublasLtMatrixLayoutDestroy(p->first);
    if (p->second) cublasLtMatrixLayoutDestroy(p->second);
    if (p->result) cublasLtMatrixLayoutDestroy(p->result);
}

void vg_matmul_plans_free(struct vg_matmul_plans *plans)
{
    if (!plans) return;
    for (size_t i = 0; i < plans->n; i++) plan_release(&plans->items[i]);
    free(plans->items);
    free(plans);
}

/* --- a problem ---------------------------------------------------------------------------------------------------- */

static cublasLtEpilogue_t epilogue_of(const vg_matmul *product)
{
    if (product->a_sums) return CUBLASLT_EPILOGUE_BGRADB;
    if (product->relu) return product->bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    return product->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

/* The largest power of two, up to the 16 bytes of a wide access, that divides the address of each product's matrix. */
static uint32_t alignment_of(const void *data, vg_matmul_rows rows, vg_dtype dtype)
{
    const uintptr_t bits = (uintptr_t)data | (uintptr_t)rows.step * vg_dtype_bytes(dtype) | 16;
    return (uint32_t)(bits & (~bits + 1));
}

/* Of d, and of the bias: no preference speaks of it, and algorithms may read it as wide as they write d. */
static uint32_t alignment_of_result(const vg_matmul *product)
{
    const uint32_t d = alignment_of(product->d, product->d_rows, product->sums);
    const uint32_t bias = alignment_of(product->bias, (vg_matmul_rows){0}, product->sums);
    return bias < d ? bias : d;
}

static int32_t type_of(vg_dtype dtype)
{
    return dtype == VG_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static problem problem_of(const vg_matmul *product)
{
    const vg_dtype factors = product->factors, sums = product->sums;
    return (problem){.m = product->m,
                     .n = product->n,
                     .k = product->k,
                     .batch = product->batch > 1 ? product->batch : 1,
                     .a = product->a_rows,
                     .b = product->b_rows,
                     .d = product->d_rows,
                     .factors = type_of(factors),
                     .sums = type_of(sums),
                     .a_transposed = product->a_transposed,
                     .b_transposed = product->b_transposed,
                     .adds = product->c != NULL,
                     .epilogue = epilogue_of(product),
                     .alignment = {alignment_of(product->a, product->a_rows, factors),
                                   alignment_of(product->b, product->b_rows, factors),
                                   alignment_of(product->c ? product->c : product->d, product->d_rows, sums),
                                   alignment_of_result(product)}};
}

/* --- asking for an algorithm -------------------------------------------------------------------------------------- */

#define SET_OPERATION(name, value) \
    VG_CUDA_BLAS(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_##name, &(value), sizeof(value)))
#define SET_LAYOUT(of, name, value) \
    VG_CUDA_BLAS(cublasLtMatrixLayoutSetAttribute(of, CUBLASLT_MATRIX_LAYOUT_##name, &(value), sizeof(value)))
#define SET_PREFERENCE(name, value) \
    VG_CUDA_BLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_##name, &(value), sizeof(value)))

/* The layout of row-major [rows,columns] matrices, one of each product of a batch. */
static vg_status layout(cublasLtMatrixLayout_t *out, const problem *of, int32_t type, int64_t rows, int64_t columns,
                        vg_matmul_rows lie)
{
    const int32_t count = (int32_t)of->batch;
    const int64_t row = lie.row ? lie.row : columns, apart = lie.step ? lie.step : rows * columns;
    VG_CUDA_BLAS(cublasLtMatrixLayoutCreate(out, (cudaDataType_t)type, (uint64_t)columns, (uint64_t)rows, row));
    SET_LAYOUT(*out, BATCH_COUNT, count);
    SET_LAYOUT(*out, STRIDED_BATCH_OFFSET, apart);
    return VG_OK;
}

/* Where the epilogue reads its bias, or writes the sums of A. */
static vg_status place_bias(const plan *p, const vg_matmul *product)
{
    const void *bias = product->a_sums ? product->a_sums : product->bias;
    if (bias) SET_OPERATION(BIAS_POINTER, bias);
    return VG_OK;
}

static vg_status describe(plan *p)
{
    const problem *of = &p->of;
    const cublasOperation_t first = of->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = of->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    VG_CUDA_BLAS(cublasLtMatmulDescCreate(&p->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    SET_OPERATION(TRANSA, first);
    SET_OPERATION(TRANSB, second);
    SET_OPERATION(EPILOGUE, of->epilogue);
    if (of->epilogue == CUBLASLT_EPILOGUE_BGRADB) SET_OPERATION(BIAS_BATCH_STRIDE, of->m);
    const bool at = of->a_transposed, bt = of->b_transposed;
    VG_TRY(layout(&p->first, of, of->factors, bt ? of->n : of->k, bt ? of->k : of->n, of->b));
    VG_TRY(layout(&p->second, of, of->factors, at ? of->k : of->m, at ? of->m : of->k, of->a));
    return layout(&p->result, of, of->sums, of->m, of->n, of->d);
}

static vg_status limit(cublasLtMatmulPreference_t preference, const problem *of)
{
    const uint64_t workspace = USABLE_BYTES;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE; /* no split sums */
    SET_PREFERENCE(MAX_WORKSPACE_BYTES, workspace);
    SET_PREFERENCE(REDUCTION_SCHEME_MASK, schemes);
    SET_PREFERENCE(MIN_ALIGNMENT_A_BYTES, of->alignment[1]);
    SET_PREFERENCE(MIN_ALIGNMENT_B_BYTES, of->alignment[0]);
    SET_PREFERENCE(MIN_ALIGNMENT_C_BYTES, of->alignment[2]);
    SET_PREFERENCE(MIN_ALIGNMENT_D_BYTES, of->alignment[3]);
    return VG_OK;
}

static vg_status ask(const vg_stream *stream, cublasLtMatmulPreference_t preference, plan *p)
{
    cublasLtMatmulHeuristicResult_t found = {.state = CUBLAS_STATUS_NOT_SUPPORTED};
    int n = 0;
    VG_TRY(limit(preference, &p->of));
    const cublasStatus_t result = cublasLtMatmulAlgoGetHeuristic(stream->cuda->blas, p->operation, p->first, p->second,
                                                                 p->result, p->result, preference, 1, &found, &n);
    if (result == CUBLAS_STATUS_NOT_SUPPORTED) return VG_OK;
    VG_TRY(vg_cuda_blas_status(result, "cublasLtMatmulAlgoGetHeuristic"));
    p->possible = n == 1 && found.state == CUBLAS_STATUS_SUCCESS;
    p->algorithm = found.algo;
    return VG_OK;
}

static vg_status plan_fill(const vg_stream *stream, const vg_matmul *product, plan *p)
{
    cublasLtMatmulPreference_t preference = NULL;
    VG_TRY(describe(p));
    VG_TRY(place_bias(p, product));
    VG_CUDA_BLAS(cublasLtMatmulPreferenceCreate(&preference));
    const vg_status st = ask(stream, preference, p);
    cublasLtMatmulPreferenceDestroy(preference);
    return st;
}

static vg_status plan_add(const vg_stream *stream, const vg_matmul *product, const problem *of, plan **out)
{
    struct vg_matmul_plans *plans = stream->cuda->plans;
    VG_TRY(vg_grow(&plans->items, &plans->capacity, plans->n + 1, sizeof *plans->items));
    plan *p = &plans->items[plans->n];
    *p = (plan){.of = *of};
    const vg_status st = plan_fill(stream, product, p);
    if (st != VG_OK) {
        plan_release(p);
        return st;
    }
    plans->n++;
    *out = p;
    return VG_OK;
}

static vg_status plan_find(const vg_stream *stream, const vg_matmul *product, plan **out)
{
    struct vg_matmul_plans *plans = stream->cuda->plans;
    if (!plans) {
        plans = stream->cuda->plans = vg_new0(sizeof *plans);
        VG_CHECK(plans, VG_E_NOMEM, "no memory for the plans of matrix products");
    }
    const problem of = problem_of(product);
    for (size_t i = 0; i < plans->n; i++)
        if (memcmp(&plans->items[i].of, &of, sizeof of) == 0) {
            *out = &plans->items[i];
            return VG_OK;
        }
    return plan_add(stream, product, &of, out);
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static vg_status run(const vg_stream *stream, const vg_matmul *product, plan *p, void *workspace)
{
    const float one = 1.0F, beta = product->c ? 1.0F : 0.0F;
    void *const aligned = (void *)vg_round_up((uintptr_t)workspace, WORKSPACE_ALIGNMENT);
    VG_TRY(place_bias(p, product));
    VG_CUDA_BLAS(cublasLtMatmul(stream->cuda->blas, p->operation, &one, product->b, p->first, product->a, p->second,
                                &beta, product->c ? product->c : product->d, p->result, product->d, p->result,
                                &p->algorithm, aligned, USABLE_BYTES, vg_cuda_queue(stream)));
    return VG_OK;
}

vg_status vg_cuda_matmul(vg_stream *stream, const vg_matmul *product, void *workspace, bool *summed)
{
    vg_matmul plain = *product;
    plan *p = NULL;
    VG_TRY(plan_find(stream, &plain, &p));
    if (!p->possible && plain.a_sums) {
        plain.a_sums = NULL;
        VG_TRY(plan_find(stream, &plain, &p));
    }
    VG_CHECK(p->possible, VG_E_DEVICE, "cuBLASLt knows no algorithm for a product of [%lld,%lld] and [%lld,%lld]",
             (long long)plain.m, (long long)plain.k, (long long)plain.k, (long long)plain.n);
    if (summed) *summed = plain.a_sums;
    return run(stream, &plain, p, workspace);
}
