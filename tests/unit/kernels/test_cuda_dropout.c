#define _DEFAULT_SOURCE /* setenv */
/* Dropout on the device: the very elements that the CPU drops. */
#include "tests/unit/kernels/cuda_test.h"

static vg_node dropout_of(test_memory *m, vg_shape shape, float p, bool res)
{
    vg_node n = {.op = VG_OP_dropout, .n_in = 3, .n_out = 1};
    n.attr.dropout.p = p;
    n.attr.dropout.key = vg_rng_key_of(5, 6);
    n.in[0] = random_operand(m, shape, 1);
    n.in[1] = key_operand(m, shape.dim[0]);
    if (res) n.in[2] = random_operand(m, shape, 2);
    n.out[0] = blank_operand(m, VG_F32, shape);
    return n;
}

/* Slots that end inside a block of four elements, at its end, and inside a block of threads. */
static void every_element_is_the_cpu_s_bit_for_bit(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {4, 1, 64}, {3, 3, 171}, {2, 10, 256}, {5, 9, 113}};
    static const float rates[] = {0.1F, 0.5F, 0.999F, 1e-7F, 0.0F};
    for (int k = 0; k < 6 * 5 * 2; k++) {
        test_memory m = {0};
        const int64_t *s = sizes[k % 6];
        const vg_node n = dropout_of(&m, VG_SHAPE(s[0], s[1], s[2]), rates[k / 6 % 5], k / 30);
        cuda_matches_cpu(&m, &n, 0, 1);
        release(&m);
    }
}

/* A rate that an element's number equals: it is kept. Of a word the device compares all 32 bits, so the lowest 8 are 0.
 */
static void an_element_on_the_bound_is_kept(void **state)
{
    (void)state;
    enum { BLOCKS = 4096 };
    for (int lane = 0; lane < 4; lane++) {
        test_memory m = {0};
        vg_node n = dropout_of(&m, VG_SHAPE(1, BLOCKS, 4), 0, false);
        const uint32_t *key = n.in[1].data;
        uint32_t word[4] = {1, 1, 1, 1}, block = 0;
        while ((word[lane] & 0xff) && block < BLOCKS)
            vg_rng_block(n.attr.dropout.key, key[2] | (uint64_t)key[3] << 32, key[1], block++, word);
        assert_int_equal(word[lane] & 0xff, 0);
        n.attr.dropout.p = vg_uniform(word[lane]);
        cuda_matches_cpu(&m, &n, 0, 1);
        assert_true(((const float *)n.out[0].data)[4 * (block - 1) + (uint32_t)lane] != 0);
        release(&m);
    }
}

static void what_is_dropped_is_0_even_where_it_was_not_finite(void **state)
{
    (void)state;
    static const int64_t widths[] = {16, 19};
    for (int i = 0; i < 2; i++) {
        test_memory m = {0};
        vg_node n = dropout_of(&m, VG_SHAPE(2, 3, widths[i]), 0.5F, false), cpu = fresh_outputs(&m, &n);
        for (int64_t k = 0; k < 6 * widths[i]; k++) ((float *)n.in[0].data)[k] = INFINITY;
        cuda_run(&n);
        run_node(&cpu, 1);
        same_outputs(&n, &cpu);
        release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_element_is_the_cpu_s_bit_for_bit),
        cmocka_unit_test(an_element_on_the_bound_is_kept),
        cmocka_unit_test(what_is_dropped_is_0_even_where_it_was_not_finite),
    };
    cuda_open();
    return cmocka_run_group_tests_name("dropout on the device", tests, NULL, NULL);
}
