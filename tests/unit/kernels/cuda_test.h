/* Kernels of the CUDA backend beside the CPU's: the same node on both.
 *
 *     #define _DEFAULT_SOURCE                            before the first include
 *     static void rows_of_any_length(void **state)
 *     {
 *         test_memory m = {0};
 *         vg_node node = {.op = VG_OP_add, .n_in = 2, .n_out = 1, .in = {random_operand(&m, VG_SHAPE(3, 7), 1), ..},
 *                         .out = {blank_operand(&m, VG_F32, VG_SHAPE(3, 7))}};
 *         cuda_matches_cpu(&m, &node, 1, 1);
 *         release(&m);
 *     }
 *     int main(void) { cuda_open(); ... return cmocka_run_group_tests(tests, NULL, NULL); }
 *
 * Programs named test_cuda_*.c are run on the emulated device, or on a real one; without either they skip. */
#ifndef VG_TESTS_CUDA_TEST_H
#define VG_TESTS_CUDA_TEST_H

#include "kernels/base/bf16.h"
#include "tests/device_test.h"
#include "tests/unit/kernels/kernel_test.h"

#include <float.h>

static vg_stream cuda_stream;

static inline void cuda_open(void)
{
    setenv("VLGTR_DEVICE", "cuda", 1);
    backend_under_test(1, 0, &cuda_stream);
}

static inline void cuda_run(const vg_node *node)
{
    const vg_status st = run_node_on(vg_backend_cuda(), &cuda_stream, node);
    if (st != VG_OK) print_error("%s\n", vg_error_text());
    assert_int_equal(st, VG_OK);
}

static inline double float_at(const vg_operand *x, int64_t i)
{
    return x->dtype == VG_F64 ? ((const double *)x->data)[i] : (double)((const float *)x->data)[i];
}

/* |a - b| <= c * eps * sqrt(n) * max|b|, where a sum of n terms makes each element; whole numbers are the same. */
static inline void assert_operand_near(const vg_operand *a, const vg_operand *b, double c, int64_t n)
{
    const int64_t count = vg_shape_count(&b->shape);
    if (b->dtype != VG_F32 && b->dtype != VG_F64) {
        assert_memory_equal(a->data, b->data, operand_bytes(b));
        return;
    }
    double largest = 0;
    for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs(float_at(b, i)));
    const double bound = c * (double)FLT_EPSILON * sqrt((double)n) * largest;
    for (int64_t i = 0; i < count; i++) {
        const double off = fabs(float_at(a, i) - float_at(b, i));
        if (!(off <= bound))
            print_error("element %lld: %.9g is not %.9g +- %.3g\n", (long long)i, float_at(a, i), float_at(b, i),
                        bound);
        assert_true(off <= bound);
    }
}

/* Runs the node on the device, and a copy of it with fresh outputs on the CPU. Outputs that are added to (accumulate)
 * start from what the node's hold. */
static inline void cuda_matches_cpu(test_memory *m, const vg_node *node, double c, int64_t n)
{
    vg_node cpu = fresh_outputs(m, node);
    for (int k = 0; k < node->n_out; k++)
        if (node->out[k].data) memcpy(cpu.out[k].data, node->out[k].data, operand_bytes(&node->out[k]));
    run_node(&cpu, 1);
    cuda_run(node);
    for (int k = 0; k < node->n_out; k++)
        if (node->out[k].data) assert_operand_near(&node->out[k], &cpu.out[k], c, n);
}

/* A copy of x in bf16; x is rounded to the same values. */
static inline vg_operand rounded(test_memory *m, vg_operand *x)
{
    const int64_t n = vg_shape_count(&x->shape);
    const vg_operand copy = {.data = hold(m, (size_t)n * sizeof(vg_bf16)), .dtype = VG_BF16, .shape = x->shape};
    for (int64_t i = 0; i < n; i++) {
        const vg_bf16 value = vg_bf16_from(((const float *)x->data)[i]);
        ((vg_bf16 *)copy.data)[i] = value;
        ((float *)x->data)[i] = vg_bf16_to_float(value);
    }
    return copy;
}

/* Puts an operand one number behind the begin of a larger piece of memory: as out[1], which the kernel does not know,
 * the piece reaches the device as a whole. */
static inline void misalign(test_memory *m, vg_node *n, vg_operand *x)
{
    const size_t bytes = operand_bytes(x), one = vg_dtype_bytes(x->dtype);
    n->out[n->n_out] = (vg_operand){hold(m, bytes + one), x->dtype, VG_SHAPE(vg_shape_count(&x->shape) + 1)};
    x->data = memcpy((char *)n->out[n->n_out++].data + one, x->data, bytes);
}

#endif
