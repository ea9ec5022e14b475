/* What tests of single kernels share: random operands, a node, and a run of it on every instruction set. */
#ifndef VG_TESTS_KERNEL_TEST_H
#define VG_TESTS_KERNEL_TEST_H

#include "kernels/backend.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_ISAS = 3, MAX_HELD = 256, GUARD_BYTES = 64 };

/* Memory of one test, freed together. */
typedef struct test_memory {
    void *held[MAX_HELD];
    int n;
} test_memory;

static inline void *hold(test_memory *m, size_t bytes)
{
    assert_true(m->n < MAX_HELD);
    void *p = vg_new0(bytes);
    assert_non_null(p);
    m->held[m->n++] = p;
    return p;
}

static inline void release(test_memory *m)
{
    while (m->n) free(m->held[--m->n]);
}

static inline void use_isa(int which)
{
    static const char *const names[N_ISAS] = {"base", "avx2", "avx512"};
    setenv("VLGTR_ISA", names[which], 1);
}

/* A random 32-bit word of one test's stream. */
static inline uint32_t random_word(uint64_t purpose, uint32_t i)
{
    uint32_t word[4];
    vg_rng_block(vg_rng_key_of(11, purpose), 0, 0, i, word);
    return word[0];
}

static inline vg_operand random_operand(test_memory *m, vg_shape shape, uint64_t purpose)
{
    const vg_operand x = {.data = hold(m, (size_t)vg_shape_count(&shape) * sizeof(float)), .shape = shape};
    vg_fill_normal(x.data, vg_shape_count(&shape), vg_rng_key_of(11, purpose), 0.0F, 1.0F);
    return x;
}

/* An operand of NaN (or of bytes 0xff), to be written. */
static inline vg_operand blank_operand(test_memory *m, vg_dtype dtype, vg_shape shape)
{
    const size_t bytes = (size_t)vg_shape_count(&shape) * vg_dtype_bytes(dtype);
    const vg_operand x = {.data = hold(m, bytes), .dtype = dtype, .shape = shape};
    memset(x.data, 0xff, bytes);
    return x;
}

static inline size_t operand_bytes(const vg_operand *x)
{
    return (size_t)vg_shape_count(&x->shape) * vg_dtype_bytes(x->dtype);
}

static inline vg_operand int_operand(test_memory *m, vg_shape shape, const int32_t *values)
{
    const vg_operand x = {.data = hold(m, (size_t)vg_shape_count(&shape) * 4), .dtype = VG_I32, .shape = shape};
    memcpy(x.data, values, operand_bytes(&x));
    return x;
}

/* Keys of slots as the loader makes them: {0, phrase, position low, position high}. */
static inline vg_operand key_operand(test_memory *m, int64_t slots)
{
    vg_operand x = {.data = hold(m, (size_t)slots * 16), .dtype = VG_U32, .shape = VG_SHAPE(slots, 4)};
    uint32_t *key = x.data;
    for (uint32_t b = 0; b < (uint32_t)slots; b++, key += 4) {
        key[1] = b % 3;
        key[2] = 1000 + b / 3;
        key[3] = b;
    }
    return x;
}

/* Runs a node with poisoned workspace and checks that the kernel stayed inside it; how far it wrote, in bytes. */
static inline size_t run_node(vg_node *node, int n_threads)
{
    const vg_backend *cpu = vg_backend_cpu();
    const size_t bytes = vg_round_up(cpu->workspace_bytes(node, n_threads), 64);
    unsigned char *workspace = aligned_alloc(64, bytes + GUARD_BYTES);
    assert_non_null(workspace);
    memset(workspace, 0xff, bytes + GUARD_BYTES);
    node->workspace = workspace;
    vg_stream stream = {.n_threads = n_threads};
    const vg_status st = cpu->kernels[node->op](&stream, node);
    if (st != VG_OK) print_error("%s\n", vg_error_text());
    assert_int_equal(st, VG_OK);
    for (int i = 0; i < GUARD_BYTES; i++) assert_int_equal(workspace[bytes + (size_t)i], 0xff);
    size_t written = bytes;
    while (written > 0 && workspace[written - 1] == 0xff) written--;
    free(workspace);
    return written;
}

/* The outputs of a node once more, as blank copies; `same_outputs` compares them byte for byte. */
static inline vg_node fresh_outputs(test_memory *m, const vg_node *node)
{
    vg_node copy = *node;
    for (int k = 0; k < node->n_out; k++)
        if (node->out[k].data) copy.out[k] = blank_operand(m, node->out[k].dtype, node->out[k].shape);
    return copy;
}

/* A copy of the node that writes one of its outputs, to a blank, and none of the others. */
static inline vg_node one_output(test_memory *m, const vg_node *node, int only)
{
    vg_node copy = fresh_outputs(m, node);
    for (int k = 0; k < node->n_out; k++)
        if (k != only) copy.out[k].data = NULL;
    return copy;
}

static inline void same_outputs(const vg_node *a, const vg_node *b)
{
    for (int k = 0; k < a->n_out; k++)
        if (a->out[k].data) assert_memory_equal(a->out[k].data, b->out[k].data, operand_bytes(&a->out[k]));
}

static inline void assert_near(double actual, double expected, double tolerance)
{
    if (!(fabs(actual - expected) <= tolerance)) print_error("%.9g is not %.9g +- %g\n", actual, expected, tolerance);
    assert_true(fabs(actual - expected) <= tolerance);
}

#endif
