/* The stand-in of cuBLASLt against sums in double, and what it refuses. */
#include "emu/emu_test.h"

#include <cublasLt.h>
#include <math.h>

#define BLAS(call) NEED((call) == CUBLAS_STATUS_SUCCESS)

typedef struct product {
    int m, n, k;
    bool ta, tb, bf16_in, bf16_out;
    cublasLtEpilogue_t epilogue;
    float alpha, beta;
    int batches, padding; /* of leading dimensions, in elements */
} product;

/* Host copies hold fp32; what the device holds is converted on the way. */
typedef struct matrix {
    int rows, columns, leading, batches;
    bool bf16;
    float *host;
    void *device;
    cublasLtMatrixLayout_t layout;
} matrix;

enum { MAX_ELEMENTS = 1 << 16, WORKSPACE_BYTES = 1 << 16 };

static float next_random(void)
{
    static uint32_t x = 1;
    x = x * 1664525 + 1013904223;
    return (float)(int32_t)x * 0x1p-31f;
}

static float as_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000;
    memcpy(&x, &bits, 4);
    return x;
}

static size_t elements_of(const matrix *x)
{
    return (size_t)x->leading * (size_t)x->columns * (size_t)x->batches;
}

static size_t bytes_of(const matrix *x)
{
    return elements_of(x) * (x->bf16 ? 2 : 4);
}

static void upload(const matrix *x)
{
    static uint16_t halves[MAX_ELEMENTS];
    for (size_t i = 0; x->bf16 && i < elements_of(x); i++) {
        uint32_t bits;
        memcpy(&bits, &x->host[i], 4);
        halves[i] = (uint16_t)(bits >> 16);
    }
    OK(cudaMemcpy(x->device, x->bf16 ? (void *)halves : x->host, bytes_of(x), cudaMemcpyHostToDevice));
}

static void download(const matrix *x)
{
    static uint16_t halves[MAX_ELEMENTS];
    OK(cudaMemcpy(x->bf16 ? (void *)halves : x->host, x->device, bytes_of(x), cudaMemcpyDeviceToHost));
    for (size_t i = 0; x->bf16 && i < elements_of(x); i++) {
        const uint32_t bits = (uint32_t)halves[i] << 16;
        memcpy(&x->host[i], &bits, 4);
    }
}

static matrix new_matrix(int rows, int columns, int padding, int batches, bool bf16)
{
    matrix x = {rows, columns, rows + padding, batches, bf16, NULL, NULL, NULL};
    NEED(elements_of(&x) <= MAX_ELEMENTS);
    x.host = malloc(elements_of(&x) * sizeof(float));
    for (size_t i = 0; i < elements_of(&x); i++) x.host[i] = bf16 ? as_bf16(next_random()) : next_random();
    OK(cudaMalloc(&x.device, bytes_of(&x)));
    upload(&x);
    BLAS(cublasLtMatrixLayoutCreate(&x.layout, bf16 ? CUDA_R_16BF : CUDA_R_32F, (uint64_t)rows, (uint64_t)columns,
                                    x.leading));
    const int64_t stride = (int64_t)x.leading * columns;
    BLAS(cublasLtMatrixLayoutSetAttribute(x.layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batches, sizeof(int32_t)));
    BLAS(cublasLtMatrixLayoutSetAttribute(x.layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, 8));
    return x;
}

static double at(const matrix *x, int batch, int i, int j)
{
    return (double)x->host[((size_t)batch * (size_t)x->columns + (size_t)j) * (size_t)x->leading + (size_t)i];
}

/* One product with all that belongs to it. */
typedef struct setup {
    product p;
    matrix a, b, d, bias;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found;
    int n_found;
    void *workspace;
    cudaStream_t stream;
} setup;

static void allow_split_sums(setup *s, bool allowed)
{
    const uint32_t schemes = allowed ? CUBLASLT_REDUCTION_SCHEME_MASK : CUBLASLT_REDUCTION_SCHEME_NONE;
    BLAS(cublasLtMatmulPreferenceSetAttribute(s->preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                              sizeof schemes));
}

static setup set_up(product p)
{
    setup s = {.p = p};
    const int n_bias = p.epilogue == CUBLASLT_EPILOGUE_BGRADB ? p.n : p.m;
    const cublasOperation_t ta = p.ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb = p.tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    s.a = new_matrix(p.ta ? p.k : p.m, p.ta ? p.m : p.k, p.padding, p.batches, p.bf16_in);
    s.b = new_matrix(p.tb ? p.n : p.k, p.tb ? p.k : p.n, p.padding, p.batches, p.bf16_in);
    s.d = new_matrix(p.m, p.n, p.padding, p.batches, p.bf16_out);
    s.bias = new_matrix(n_bias, 1, 0, p.batches, p.bf16_out);
    BLAS(cublasLtCreate(&s.handle));
    BLAS(cublasLtMatmulDescCreate(&s.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    BLAS(cublasLtMatmulDescSetAttribute(s.desc, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
    BLAS(cublasLtMatmulDescSetAttribute(s.desc, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
    BLAS(cublasLtMatmulDescSetAttribute(s.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &p.epilogue, sizeof p.epilogue));
    BLAS(cublasLtMatmulDescSetAttribute(s.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &s.bias.device, sizeof(void *)));
    const int64_t bias_stride = n_bias;
    BLAS(cublasLtMatmulDescSetAttribute(s.desc, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, &bias_stride, 8));
    const uint64_t workspace_bytes = WORKSPACE_BYTES;
    BLAS(cublasLtMatmulPreferenceCreate(&s.preference));
    BLAS(cublasLtMatmulPreferenceSetAttribute(s.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                                              sizeof workspace_bytes));
    allow_split_sums(&s, false);
    OK(cudaMalloc(&s.workspace, WORKSPACE_BYTES));
    OK(cudaStreamCreateWithFlags(&s.stream, cudaStreamNonBlocking));
    return s;
}

static cublasStatus_t ask(setup *s)
{
    return cublasLtMatmulAlgoGetHeuristic(s->handle, s->desc, s->a.layout, s->b.layout, s->d.layout, s->d.layout,
                                          s->preference, 1, &s->found, &s->n_found);
}

static cublasStatus_t multiply(setup *s)
{
    return cublasLtMatmul(s->handle, s->desc, &s->p.alpha, s->a.device, s->a.layout, s->b.device, s->b.layout,
                          &s->p.beta, s->d.device, s->d.layout, s->d.device, s->d.layout, &s->found.algo, s->workspace,
                          WORKSPACE_BYTES, s->stream);
}

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double expected(const setup *s, const matrix *before, int batch, int i, int j)
{
    const product *p = &s->p;
    double y = 0;
    for (int k = 0; k < p->k; k++)
        y += (p->ta ? at(&s->a, batch, k, i) : at(&s->a, batch, i, k)) *
             (p->tb ? at(&s->b, batch, j, k) : at(&s->b, batch, k, j));
    y = (double)p->alpha * y + (double)p->beta * at(before, batch, i, j);
    if (p->epilogue == CUBLASLT_EPILOGUE_BIAS || p->epilogue == CUBLASLT_EPILOGUE_RELU_BIAS ||
        p->epilogue == CUBLASLT_EPILOGUE_GELU_BIAS)
        y += at(&s->bias, batch, i, 0);
    if (p->epilogue == CUBLASLT_EPILOGUE_RELU_BIAS) y = fmax(y, 0);
    if (p->epilogue == CUBLASLT_EPILOGUE_GELU_BIAS) y = gelu(y);
    return y;
}

/* Sums of k products below 1 in fp32, and one rounding of the result. */
static bool is_near(double got, double wanted, const product *p)
{
    const double eps = p->bf16_out ? 0x1p-8 : 0x1p-24;
    return fabs(got - wanted) <= eps * fabs(wanted) + 0x1p-23 * sqrt(p->k) * 4;
}

static void expect_gradient(const setup *s)
{
    const bool of_a = s->p.epilogue == CUBLASLT_EPILOGUE_BGRADA;
    download(&s->bias);
    for (int n = 0; n < s->p.batches * s->bias.rows; n++) {
        const int batch = n / s->bias.rows, i = n % s->bias.rows;
        double sum = 0;
        for (int k = 0; k < s->p.k; k++)
            sum += of_a ? (s->p.ta ? at(&s->a, batch, k, i) : at(&s->a, batch, i, k))
                        : (s->p.tb ? at(&s->b, batch, i, k) : at(&s->b, batch, k, i));
        NEED(is_near(at(&s->bias, batch, i, 0), sum, &s->p));
    }
}

static void compare(product p)
{
    setup s = set_up(p);
    matrix before = s.d;
    before.host = memcpy(malloc(elements_of(&s.d) * sizeof(float)), s.d.host, elements_of(&s.d) * sizeof(float));
    BLAS(ask(&s));
    NEED(s.n_found == 1);
    BLAS(multiply(&s));
    OK(cudaStreamSynchronize(s.stream));
    download(&s.d);
    for (int batch = 0; batch < p.batches; batch++)
        for (int j = 0; j < p.n; j++) {
            for (int i = 0; i < p.m; i++) NEED(is_near(at(&s.d, batch, i, j), expected(&s, &before, batch, i, j), &p));
            for (int i = p.m; i < p.m + p.padding; i++) NEED(at(&s.d, batch, i, j) == at(&before, batch, i, j));
        }
    if (p.epilogue == CUBLASLT_EPILOGUE_BGRADA || p.epilogue == CUBLASLT_EPILOGUE_BGRADB) expect_gradient(&s);
}

static void every_product(void)
{
    const cublasLtEpilogue_t none = CUBLASLT_EPILOGUE_DEFAULT;
    const product products[] = {
        {1, 1, 1, false, false, false, false, none, 1, 0, 1, 0},
        {37, 29, 61, false, false, false, false, none, 1, 0, 1, 0},
        {37, 29, 61, true, false, false, false, none, 1, 1, 1, 3},
        {37, 29, 61, false, true, false, false, none, 0.5f, 2, 1, 1},
        {37, 29, 61, true, true, false, false, none, 1, 0, 3, 2},
        {64, 40, 96, true, false, false, false, CUBLASLT_EPILOGUE_BIAS, 1, 0, 1, 0},
        {64, 40, 96, true, false, false, false, CUBLASLT_EPILOGUE_RELU_BIAS, 1, 0, 1, 0},
        {64, 40, 96, true, false, false, false, CUBLASLT_EPILOGUE_GELU_BIAS, 1, 0, 1, 0},
        {36, 20, 50, false, true, false, false, CUBLASLT_EPILOGUE_BGRADA, 1, 0, 1, 0},
        {36, 20, 50, false, true, false, false, CUBLASLT_EPILOGUE_BGRADB, 1, 0, 1, 0},
        {36, 20, 50, false, true, false, false, CUBLASLT_EPILOGUE_BGRADB, 1, 0, 3, 0},
        {64, 40, 32, true, false, false, false, CUBLASLT_EPILOGUE_BIAS, 1, 0, 2, 0},
        {48, 24, 80, true, false, true, false, none, 1, 0, 1, 0},
        {48, 24, 80, true, false, true, true, CUBLASLT_EPILOGUE_BIAS, 1, 0, 1, 0},
    };
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) compare(products[i]);
}

static void products_are_what_double_says(void **state)
{
    (void)state;
    passes(every_product, NULL, 0);
}

static const product PLAIN = {16, 8, 32, true, false, false, false, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, 1, 0};

/* A column of D alone and among others. */
static void neighbours(bool split)
{
    product p = PLAIN;
    p.n = 400;
    p.k = 150;
    setup whole = set_up(p);
    allow_split_sums(&whole, split);
    BLAS(ask(&whole));
    BLAS(multiply(&whole));
    OK(cudaStreamSynchronize(whole.stream));
    download(&whole.d);
    p.n = 1;
    for (int j = 0; j < 20; j++) {
        setup one = set_up(p);
        allow_split_sums(&one, split);
        memcpy(one.a.host, whole.a.host, elements_of(&one.a) * sizeof(float));
        memcpy(one.b.host, whole.b.host + (size_t)j * (size_t)p.k, (size_t)p.k * sizeof(float));
        upload(&one.a);
        upload(&one.b);
        BLAS(ask(&one));
        BLAS(multiply(&one));
        OK(cudaStreamSynchronize(one.stream));
        download(&one.d);
        NEED(!memcmp(one.d.host, whole.d.host + (size_t)j * (size_t)p.m, (size_t)p.m * sizeof(float)));
    }
}

static void neighbours_of_whole_sums(void)
{
    neighbours(false);
}

static void neighbours_of_split_sums(void)
{
    neighbours(true);
}

static void a_column_has_the_same_bits_alone_and_among_others_unless_sums_may_be_split(void **state)
{
    (void)state;
    passes(neighbours_of_whole_sums, NULL, 0);
    assert_int_equal(run_apart(neighbours_of_split_sums, NULL, 0).status, WRONG);
}

static void captured(void)
{
    setup s = set_up(PLAIN);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    BLAS(ask(&s));
    OK(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
    BLAS(multiply(&s));
    OK(cudaStreamEndCapture(s.stream, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    for (int step = 0; step < 2; step++) {
        for (size_t i = 0; i < elements_of(&s.a); i++) s.a.host[i] = next_random();
        upload(&s.a);
        OK(cudaGraphLaunch(exec, s.stream));
        OK(cudaStreamSynchronize(s.stream));
        download(&s.d);
        NEED(is_near(at(&s.d, 0, 3, 5), expected(&s, &s.d, 0, 3, 5), &s.p));
    }
}

static void products_run_from_a_graph(void **state)
{
    (void)state;
    passes(captured, NULL, 0);
}

static void refusals(void)
{
    setup s = set_up(PLAIN);
    const cublasComputeType_t tf32 = CUBLAS_COMPUTE_32F_FAST_TF32;
    const int64_t short_leading = PLAIN.k - 1;
    BLAS(cublasLtMatmulDescSetAttribute(s.desc, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, &tf32, sizeof tf32));
    NEED(ask(&s) == CUBLAS_STATUS_NOT_SUPPORTED && s.n_found == 0);
    s = set_up((product){33, 20, 50, false, true, false, false, CUBLASLT_EPILOGUE_BGRADB, 1, 0, 1, 0});
    NEED(ask(&s) == CUBLAS_STATUS_NOT_SUPPORTED && s.n_found == 0);
    s = set_up(PLAIN);
    BLAS(cublasLtMatrixLayoutSetAttribute(s.a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &short_leading, 8));
    NEED(ask(&s) == CUBLAS_STATUS_INVALID_VALUE);
    NEED(!strcmp(cublasLtGetStatusName(CUBLAS_STATUS_INVALID_VALUE), "CUBLAS_STATUS_INVALID_VALUE"));
}

static void tf32_sums_of_ragged_rows_and_leading_dimensions_that_are_too_short_are_refused(void **state)
{
    (void)state;
    passes(refusals, NULL, 0);
}

static void operand_past_its_end(void)
{
    setup s = set_up(PLAIN);
    BLAS(ask(&s));
    s.b.device = (char *)s.b.device + 256;
    NEED(multiply(&s) == CUBLAS_STATUS_INVALID_VALUE);
}

static void less_aligned_than_promised(void)
{
    setup s = set_up(PLAIN);
    BLAS(ask(&s));
    OK(cudaMalloc(&s.b.device, bytes_of(&s.b) + 256));
    s.b.device = (char *)s.b.device + 16;
    NEED(multiply(&s) == CUBLAS_STATUS_INVALID_VALUE);
}

static void algorithm_of_another_product(void)
{
    setup s = set_up(PLAIN),
          other = set_up((product){16, 8, 32, false, false, false, false, PLAIN.epilogue, 1, 0, 1, 0});
    BLAS(ask(&s));
    other.found = s.found;
    NEED(multiply(&other) == CUBLAS_STATUS_INVALID_VALUE);
}

static void host_operand(void)
{
    setup s = set_up(PLAIN);
    BLAS(ask(&s));
    s.b.device = s.b.host;
    NEED(multiply(&s) == CUBLAS_STATUS_INVALID_VALUE);
}

static void operand_freed_before_it_ran(void)
{
    setup s = set_up(PLAIN);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    BLAS(ask(&s));
    OK(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
    BLAS(multiply(&s));
    OK(cudaStreamEndCapture(s.stream, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaFree(s.b.device));
    OK(cudaGraphLaunch(exec, s.stream));
    NEED(cudaStreamSynchronize(s.stream) == cudaErrorIllegalAddress);
}

static void wrong_operands_are_reported_by_name(void **state)
{
    (void)state;
    is_reported(operand_past_its_end, "out of bounds: cublasLtMatmul [16,8,32]: B");
    is_reported(less_aligned_than_promised, "misaligned: cublasLtMatmul: B");
    is_reported(algorithm_of_another_product, "another kind of product");
    is_reported(host_operand, "B, 1024 bytes");
    is_reported(operand_freed_before_it_ran, "B, 1024 bytes");
}

int main(void)
{
    need_stand_ins();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_what_double_says),
        cmocka_unit_test(a_column_has_the_same_bits_alone_and_among_others_unless_sums_may_be_split),
        cmocka_unit_test(products_run_from_a_graph),
        cmocka_unit_test(tf32_sums_of_ragged_rows_and_leading_dimensions_that_are_too_short_are_refused),
        cmocka_unit_test(wrong_operands_are_reported_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
