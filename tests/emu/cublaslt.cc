/* A stand-in of cuBLASLt under its own header: what the program asks for is checked as the library documents it, and
 * computed when the stream gets there. fp32, and bf16 with sums in fp32; matrices are column-major. */
#include "emu/gemm.h"
#include "emu/heap.h"
#include "emu/report.h"
#include "emu/stream.h"

#include <cublasLt.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

using namespace emu;

namespace
{

/* --- what descriptors hold --- */

struct layout {
    cudaDataType_t type;
    int32_t order, batches;
    uint64_t rows, columns;
    int64_t leading, stride;
};

struct product {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t pointer_mode, transpose_a, transpose_b;
    uint32_t epilogue;
    void *bias;
    int64_t bias_stride; /* between the biases of a batch */
    int32_t bias_type;   /* -1: that of D */
};

struct preference {
    uint64_t workspace_bytes;
    uint32_t reduction_schemes, alignment[4]; /* of A, B, C, D */
};

/* What the heuristic has chosen, and for which products it is good. */
struct algorithm {
    uint32_t kind;
    bool splits; /* sums k in two halves */
    uint32_t alignment[4];
    uint64_t workspace_bytes;
};

struct field {
    int attribute;
    size_t offset, bytes;
};
#define FIELD(attribute, type, member)                          \
    {                                                           \
        attribute, offsetof(type, member), sizeof(type::member) \
    }

const std::vector<field> LAYOUT = {
    FIELD(CUBLASLT_MATRIX_LAYOUT_TYPE, layout, type),
    FIELD(CUBLASLT_MATRIX_LAYOUT_ORDER, layout, order),
    FIELD(CUBLASLT_MATRIX_LAYOUT_ROWS, layout, rows),
    FIELD(CUBLASLT_MATRIX_LAYOUT_COLS, layout, columns),
    FIELD(CUBLASLT_MATRIX_LAYOUT_LD, layout, leading),
    FIELD(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, layout, batches),
    FIELD(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, layout, stride),
};
const std::vector<field> PRODUCT = {
    FIELD(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, product, compute),
    FIELD(CUBLASLT_MATMUL_DESC_SCALE_TYPE, product, scale),
    FIELD(CUBLASLT_MATMUL_DESC_POINTER_MODE, product, pointer_mode),
    FIELD(CUBLASLT_MATMUL_DESC_TRANSA, product, transpose_a),
    FIELD(CUBLASLT_MATMUL_DESC_TRANSB, product, transpose_b),
    FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE, product, epilogue),
    FIELD(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product, bias),
    FIELD(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, product, bias_stride),
    FIELD(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, product, bias_type),
};
const std::vector<field> PREFERENCE = {
    FIELD(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, preference, workspace_bytes),
    FIELD(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, preference, reduction_schemes),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, preference, alignment[0]),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, preference, alignment[1]),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, preference, alignment[2]),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, preference, alignment[3]),
};
#undef FIELD

cublasStatus_t set_field(const std::vector<field> &fields, void *object, int attribute, const void *value, size_t bytes)
{
    for (const field &f : fields) {
        if (f.attribute != attribute) continue;
        if (value == nullptr || bytes != f.bytes) return CUBLAS_STATUS_INVALID_VALUE;
        memcpy((char *)object + f.offset, value, bytes);
        return CUBLAS_STATUS_SUCCESS;
    }
    report("misuse", nullptr, "cuBLASLt attribute %d is not emulated", attribute);
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

/* The library's descriptors are opaque room for ours. */
template <typename ours, typename theirs> ours &inside(theirs *descriptor)
{
    static_assert(sizeof(ours) <= sizeof(theirs), "a descriptor must fit into the library's");
    return *reinterpret_cast<ours *>(descriptor);
}

template <typename ours, typename theirs> const ours &inside(const theirs *descriptor)
{
    return inside<ours>(const_cast<theirs *>(descriptor));
}

/* --- one product --- */

struct problem {
    product p;
    layout a, b, c, d;
    int64_t m, n, k;
};

size_t element_bytes(const layout &l)
{
    return l.type == CUDA_R_32F ? 4 : 2;
}

size_t span_bytes(const layout &l)
{
    const int64_t last = (int64_t)(l.columns - 1) * l.leading + (int64_t)l.rows + (l.batches - 1) * l.stride;
    return (size_t)last * element_bytes(l);
}

problem make_problem(const product &p, const layout &a, const layout &b, const layout &c, const layout &d)
{
    const uint64_t k = p.transpose_a == CUBLAS_OP_N ? a.columns : a.rows;
    return {p, a, b, c, d, (int64_t)d.rows, (int64_t)d.columns, (int64_t)k};
}

bool shapes_fit(const problem &q)
{
    const bool ta = q.p.transpose_a != CUBLAS_OP_N, tb = q.p.transpose_b != CUBLAS_OP_N;
    const uint64_t m = ta ? q.a.columns : q.a.rows, n = tb ? q.b.rows : q.b.columns, k = tb ? q.b.columns : q.b.rows;
    if (m != q.d.rows || n != q.d.columns || k != (uint64_t)q.k) return false;
    if (q.c.rows != q.d.rows || q.c.columns != q.d.columns) return false;
    for (const layout *l : {&q.a, &q.b, &q.c, &q.d})
        if (l->leading < (int64_t)l->rows || l->rows == 0 || l->columns == 0 || l->batches != q.d.batches) return false;
    return true;
}

bool types_fit(const problem &q)
{
    const auto known = [](cudaDataType_t t) { return t == CUDA_R_32F || t == CUDA_R_16BF; };
    if (q.p.compute != CUBLAS_COMPUTE_32F && q.p.compute != CUBLAS_COMPUTE_32F_PEDANTIC) return false; /* TF32 rounds */
    if (q.p.scale != CUDA_R_32F || q.p.pointer_mode != CUBLASLT_POINTER_MODE_HOST) return false;
    if (!known(q.a.type) || q.b.type != q.a.type || !known(q.d.type) || q.c.type != q.d.type) return false;
    if (q.a.type == CUDA_R_32F && q.d.type != CUDA_R_32F) return false;
    if (q.p.bias_type != -1 && q.p.bias_type != (int32_t)q.d.type) return false;
    for (const layout *l : {&q.a, &q.b, &q.c, &q.d})
        if (l->order != CUBLASLT_ORDER_COL) return false;
    return true;
}

/* Not every shape is known to have an algorithm that sums an operand on the way: callers must cope with a refusal,
 * which here ragged rows get. */
bool rows_are_aligned(const problem &q)
{
    return q.a.leading * (int64_t)element_bytes(q.a) % 16 == 0 && q.b.leading * (int64_t)element_bytes(q.b) % 16 == 0;
}

bool epilogue_fits(const problem &q)
{
    switch (q.p.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_RELU:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_RELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_BIAS: return true;
    case CUBLASLT_EPILOGUE_BGRADA:
    case CUBLASLT_EPILOGUE_BGRADB: return rows_are_aligned(q);
    default: return false;
    }
}

cublasStatus_t supported(const problem &q)
{
    if (!shapes_fit(q)) return CUBLAS_STATUS_INVALID_VALUE;
    return types_fit(q) && epilogue_fits(q) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

/* An algorithm is good for products of the kind it was asked for. */
uint32_t kind_of(const problem &q)
{
    const uint32_t parts[] = {(uint32_t)q.a.type,        (uint32_t)q.d.type,        q.p.epilogue,
                              (uint32_t)q.p.transpose_a, (uint32_t)q.p.transpose_b, (uint32_t)q.p.compute};
    uint32_t hash = 2166136261u;
    for (const uint32_t part : parts) hash = (hash ^ part) * 16777619u;
    return hash;
}

bool has(const problem &q, uint32_t bit)
{
    return q.p.epilogue != CUBLASLT_EPILOGUE_DEFAULT && (q.p.epilogue & bit) == bit;
}

bool sums_gradient(const problem &q)
{
    return has(q, CUBLASLT_EPILOGUE_BGRADA) || has(q, CUBLASLT_EPILOGUE_BGRADB);
}

bool uses_bias(const problem &q)
{
    return has(q, CUBLASLT_EPILOGUE_BIAS) || sums_gradient(q);
}

/* The bias, or the sums of a gradient, of one product of a batch, and where they begin: in bytes. */
size_t bias_bytes(const problem &q)
{
    return (size_t)(has(q, CUBLASLT_EPILOGUE_BGRADB) ? q.n : q.m) * element_bytes(q.d);
}

size_t bias_at(const problem &q, int64_t batch)
{
    return (size_t)(batch * q.p.bias_stride) * element_bytes(q.d);
}

/* One operand in memory. */
struct place {
    const char *name;
    const void *data;
    size_t bytes;
    uint32_t alignment;
};

struct call {
    problem q;
    float alpha, beta;
    const void *a, *b, *c;
    void *d, *workspace;
    size_t workspace_bytes;
    bool splits;
    uint32_t alignment[4];
};

/* Nobody is asked for that of a bias: what is added to D may be read as wide as D is written. */
uint32_t bias_alignment(const call &x)
{
    enum { WIDEST = 16 };
    return has(x.q, CUBLASLT_EPILOGUE_BIAS) ? std::min<uint32_t>(x.alignment[3], WIDEST) : 1;
}

std::vector<place> places(const call &x)
{
    const problem &q = x.q;
    const uint32_t *align = x.alignment;
    std::vector<place> all = {{"A", x.a, span_bytes(q.a), align[0]},
                              {"B", x.b, span_bytes(q.b), align[1]},
                              {"D", x.d, span_bytes(q.d), align[3]}};
    if (x.beta != 0) all.push_back({"C", x.c, span_bytes(q.c), align[2]});
    if (uses_bias(q)) all.push_back({"bias", q.p.bias, bias_at(q, q.d.batches - 1) + bias_bytes(q), bias_alignment(x)});
    if (x.workspace_bytes > 0) all.push_back({"workspace", x.workspace, x.workspace_bytes, 256});
    return all;
}

bool places_are_right(const call &x)
{
    for (const place &p : places(x)) {
        if (!heap_holds(p.data, p.bytes)) {
            report("out of bounds", nullptr, "cublasLtMatmul [%ld,%ld,%ld]: %s, %zu bytes at %p, lies in no allocation",
                   (long)x.q.m, (long)x.q.n, (long)x.q.k, p.name, p.bytes, p.data);
            return false;
        }
        if ((uintptr_t)p.data % p.alignment != 0) {
            report("misaligned", nullptr, "cublasLtMatmul: %s at %p, but its algorithm was asked for %u-byte alignment",
                   p.name, p.data, p.alignment);
            return false;
        }
    }
    return true;
}

/* --- computing it --- */

/* The hyperbolic form, as the library's. */
float gelu(float x)
{
    return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}

elements view(const void *data, const layout &l, bool transposed, int64_t batch)
{
    const char *at = (const char *)data + (size_t)(batch * l.stride) * element_bytes(l);
    return {at, l.type == CUDA_R_16BF, transposed ? l.leading : 1, transposed ? 1 : l.leading};
}

float finish(const call &x, float sum, int64_t i, int64_t j, const elements &c, const char *bias)
{
    const problem &q = x.q;
    const bool bf16 = q.d.type == CUDA_R_16BF;
    float y = x.alpha * sum;
    if (x.beta != 0) y += x.beta * c.at(i, j);
    if (has(q, CUBLASLT_EPILOGUE_BIAS)) y += elements{bias, bf16, 1, 0}.at(i, 0);
    if (has(q, CUBLASLT_EPILOGUE_RELU)) y = y < 0 ? 0 : y;
    if (has(q, CUBLASLT_EPILOGUE_GELU)) y = gelu(y);
    return y;
}

/* Sums of op(A) over its columns or of op(B) over its rows. */
void sum_gradient(const problem &q, const elements &a, const elements &b, char *bias)
{
    const bool of_a = has(q, CUBLASLT_EPILOGUE_BGRADA);
    for (int64_t i = 0; i < (of_a ? q.m : q.n); i++) {
        float sum = 0;
        for (int64_t k = 0; k < q.k; k++) sum += of_a ? a.at(i, k) : b.at(k, i);
        put(bias, q.d.type == CUDA_R_16BF, i, sum);
    }
}

void multiply(const call &x, const elements &a, const elements &b, std::vector<float> &sums)
{
    const problem &q = x.q;
    const int64_t first = x.splits ? q.k / 2 : q.k;
    gemm(q.m, q.n, first, a, b, sums.data());
    if (first == q.k) return;
    std::vector<float> rest(sums.size());
    const elements late_a = {a.data + (size_t)(first * a.column) * (a.bf16 ? 2 : 4), a.bf16, a.row, a.column};
    const elements late_b = {b.data + (size_t)(first * b.row) * (b.bf16 ? 2 : 4), b.bf16, b.row, b.column};
    gemm(q.m, q.n, q.k - first, late_a, late_b, rest.data());
    for (size_t i = 0; i < sums.size(); i++) sums[i] += rest[i];
}

void compute_batch(const call &x, int64_t batch)
{
    const problem &q = x.q;
    const elements a = view(x.a, q.a, q.p.transpose_a != CUBLAS_OP_N, batch);
    const elements b = view(x.b, q.b, q.p.transpose_b != CUBLAS_OP_N, batch);
    const elements c = view(x.c, q.c, false, batch), d = view(x.d, q.d, false, batch);
    char *bias = (char *)q.p.bias + bias_at(q, batch);
    std::vector<float> sums((size_t)(q.m * q.n));
    multiply(x, a, b, sums);
    for (int64_t j = 0; j < q.n; j++)
        for (int64_t i = 0; i < q.m; i++)
            put((char *)d.data, d.bf16, i + j * d.column, finish(x, sums[(size_t)(i + j * q.m)], i, j, c, bias));
    if (sums_gradient(q)) sum_gradient(q, a, b, bias);
}

/* Every column of a matrix, for check mode. */
template <typename action> void each_column(const void *data, const layout &l, const action &act)
{
    const size_t size = element_bytes(l);
    for (int64_t batch = 0; batch < l.batches; batch++)
        for (uint64_t j = 0; j < l.columns; j++)
            act((const char *)data + (size_t)(batch * l.stride + (int64_t)j * l.leading) * size, l.rows * size);
}

void check_reads(const call &x)
{
    const auto reads = [](const void *p, size_t n) { heap_reads(p, n, "cublasLtMatmul"); };
    const problem &q = x.q;
    each_column(x.a, q.a, reads);
    each_column(x.b, q.b, reads);
    if (x.beta != 0) each_column(x.c, q.c, reads);
    for (int64_t batch = 0; has(q, CUBLASLT_EPILOGUE_BIAS) && batch < q.d.batches; batch++)
        reads((const char *)q.p.bias + bias_at(q, batch), bias_bytes(q));
}

void note_writes(const call &x)
{
    const problem &q = x.q;
    each_column(x.d, q.d, heap_wrote);
    for (int64_t batch = 0; sums_gradient(q) && batch < q.d.batches; batch++)
        heap_wrote((char *)q.p.bias + bias_at(q, batch), bias_bytes(q));
}

/* The workspace is written too: whoever else keeps something there shall see it. */
outcome run(const call &x)
{
    if (!places_are_right(x)) {
        lose_device(cudaErrorIllegalAddress);
        return outcome::done;
    }
    const heap_open open;
    check_reads(x);
    if (x.workspace_bytes > 0) memset(x.workspace, 0xff, x.workspace_bytes);
    for (int64_t batch = 0; batch < x.q.d.batches; batch++) compute_batch(x, batch);
    note_writes(x);
    return outcome::done;
}

bool algorithm_fits(const algorithm &chosen, const call &x, size_t given_bytes)
{
    if (chosen.kind != kind_of(x.q)) {
        report("misuse", nullptr, "cublasLtMatmul: its algorithm was asked for another kind of product");
        return false;
    }
    if (chosen.workspace_bytes > given_bytes) {
        report("misuse", nullptr, "cublasLtMatmul: %zu bytes of workspace, but its algorithm needs %zu", given_bytes,
               (size_t)chosen.workspace_bytes);
        return false;
    }
    return true;
}

} // namespace

struct cublasLtContext {
};

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasLtContext;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion()
{
    return CUBLAS_VERSION;
}

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS_UNKNOWN";
    }
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t l, size_t, cudaDataType type, uint64_t rows,
                                                 uint64_t columns, int64_t leading)
{
    inside<layout>(l) = {type, CUBLASLT_ORDER_COL, 1, rows, columns, leading, 0};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t columns,
                                          int64_t leading)
{
    *l = new cublasLtMatrixLayoutOpaque_t;
    return cublasLtMatrixLayoutInit_internal(*l, sizeof **l, type, rows, columns, leading);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t attribute,
                                                const void *value, size_t bytes)
{
    return set_field(LAYOUT, &inside<layout>(l), attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t p, size_t, cublasComputeType_t compute,
                                               cudaDataType_t scale)
{
    inside<product>(p) = {compute,     scale,       CUBLASLT_POINTER_MODE_HOST,
                          CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT,
                          nullptr,     0,           -1};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *p, cublasComputeType_t compute, cudaDataType_t scale)
{
    *p = new cublasLtMatmulDescOpaque_t;
    return cublasLtMatmulDescInit_internal(*p, sizeof **p, compute, scale);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t p)
{
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t p, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    return set_field(PRODUCT, &inside<product>(p), attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t p, size_t)
{
    enum { UNLESS_SAID = 256 }; /* bytes of alignment */
    inside<preference>(p) = {0, CUBLASLT_REDUCTION_SCHEME_MASK, {UNLESS_SAID, UNLESS_SAID, UNLESS_SAID, UNLESS_SAID}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    *p = new cublasLtMatmulPreferenceOpaque_t;
    return cublasLtMatmulPreferenceInit_internal(*p, sizeof **p);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes)
{
    return set_field(PREFERENCE, &inside<preference>(p), attribute, value, bytes);
}

/* One answer: an algorithm that needs some workspace where some is allowed, and the alignment that was promised. As the
 * library would, it splits the sums of small results where that is allowed: their bits then depend on their shape. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t p, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t wishes, int room,
                                              cublasLtMatmulHeuristicResult_t *results, int *n)
{
    enum { WORKSPACE = 4096, SMALL = 1024 };
    const problem q =
        make_problem(inside<product>(p), inside<layout>(a), inside<layout>(b), inside<layout>(c), inside<layout>(d));
    *n = 0;
    const cublasStatus_t status = supported(q);
    if (room < 1) return CUBLAS_STATUS_INVALID_VALUE;
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const preference &wish = inside<preference>(wishes);
    const bool may_split = wish.reduction_schemes != CUBLASLT_REDUCTION_SCHEME_NONE && wish.workspace_bytes > 0;
    algorithm chosen = {kind_of(q), may_split && q.m * q.n <= SMALL, {}, 0};
    chosen.workspace_bytes = std::min<uint64_t>(wish.workspace_bytes, WORKSPACE);
    memcpy(chosen.alignment, wish.alignment, sizeof chosen.alignment);
    results[0] = {};
    inside<algorithm>(&results[0].algo) = chosen;
    results[0].workspaceSize = chosen.workspace_bytes;
    results[0].state = CUBLAS_STATUS_SUCCESS;
    *n = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* Without an algorithm the library asks its own heuristic, for the pointers as they are. */
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t p, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream)
{
    call x = {make_problem(inside<product>(p), inside<layout>(a_layout), inside<layout>(b_layout),
                           inside<layout>(c_layout), inside<layout>(d_layout)),
              *(const float *)alpha,
              *(const float *)beta,
              a,
              b,
              c,
              d,
              workspace,
              0,
              false,
              {}};
    const cublasStatus_t status = supported(x.q);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    for (uint32_t &bytes : x.alignment) bytes = (uint32_t)element_bytes(x.q.a);
    if (algo != nullptr) {
        const algorithm &chosen = inside<algorithm>(algo);
        if (!algorithm_fits(chosen, x, workspace_bytes)) return CUBLAS_STATUS_INVALID_VALUE;
        memcpy(x.alignment, chosen.alignment, sizeof x.alignment);
        x.workspace_bytes = chosen.workspace_bytes;
        x.splits = chosen.splits;
    }
    if (!places_are_right(x)) return CUBLAS_STATUS_INVALID_VALUE;
    return enqueue(stream, "cublasLtMatmul", [x] { return run(x); }) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                                    : CUBLAS_STATUS_EXECUTION_FAILED;
}

} // extern "C"
