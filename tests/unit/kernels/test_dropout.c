/* Dropout against the scalar generator. */
#define _DEFAULT_SOURCE /* setenv */
#include "tests/unit/kernels/kernel_test.h"

static vg_node dropout_of(test_memory *m, int64_t slots, int64_t rows, int64_t width, float p, bool res)
{
    vg_node n = {.op = VG_OP_dropout, .n_in = 3, .n_out = 1};
    n.attr.dropout.p = p;
    n.attr.dropout.key = vg_rng_key_of(5, 6);
    n.in[0] = random_operand(m, VG_SHAPE(slots, rows, width), 1);
    n.in[1] = key_operand(m, slots);
    if (res) n.in[2] = random_operand(m, n.in[0].shape, 2);
    n.out[0] = blank_operand(m, VG_F32, n.in[0].shape);
    return n;
}

static void compare(const vg_node *n)
{
    const int64_t slots = n->in[0].shape.dim[0], size = vg_shape_count(&n->in[0].shape) / slots;
    const float *x = n->in[0].data, *res = n->in[2].data, *y = n->out[0].data, p = n->attr.dropout.p;
    const uint32_t *key = n->in[1].data;
    for (int64_t b = 0; b < slots; b++, key += 4)
        for (int64_t e = 0; e < size; e++) {
            uint32_t word[4];
            vg_rng_block(n->attr.dropout.key, key[2] | (uint64_t)key[3] << 32, key[1], (uint32_t)(e / 4), word);
            const float kept = vg_uniform(word[e % 4]) >= p ? x[b * size + e] * (1.0F / (1.0F - p)) : 0.0F;
            const float expected = res ? res[b * size + e] + kept : kept;
            assert_true(y[b * size + e] == expected);
        }
}

static void every_element_follows_its_own_word(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 1}, {5, 7}, {1, 64}, {3, 171}, {10, 256}, {261, 96}};
    static const float rates[] = {0.1F, 0.5F, 0.999F, 1e-7F, 0.0F};
    for (int isa = 0; isa < N_ISAS; isa++)
        for (int k = 0; k < 6 * 5; k++) {
            test_memory m = {0};
            use_isa(isa);
            vg_node n = dropout_of(&m, 3, sizes[k % 6][0], sizes[k % 6][1], rates[k / 6], k % 2);
            run_node(&n, 1 + k % 3);
            compare(&n);
            release(&m);
        }
}

static void the_share_that_is_dropped_is_p(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = dropout_of(&m, 4, 100, 256, 0.1F, false);
    run_node(&n, 1);
    int64_t dropped = 0;
    for (int64_t i = 0; i < 4 * 25600; i++) dropped += ((float *)n.out[0].data)[i] == 0.0F;
    assert_near((double)dropped / (4 * 25600), 0.1, 5 * sqrt(0.09 / (4 * 25600))); /* five sigma */
    release(&m);
}

static void a_slot_drops_the_same_wherever_it_lies(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++) {
        test_memory m = {0};
        use_isa(isa);
        vg_node n = dropout_of(&m, 4, 10, 33, 0.3F, false), alone = n;
        run_node(&n, 1);
        const size_t bytes = operand_bytes(&n.in[0]) / 4;
        alone.in[0].data = (char *)n.in[0].data + 2 * bytes;
        alone.in[1].data = (char *)n.in[1].data + 2 * 16;
        alone.in[0].shape.dim[0] = alone.in[1].shape.dim[0] = 1;
        alone.out[0] = blank_operand(&m, VG_F32, alone.in[0].shape);
        run_node(&alone, 1);
        assert_memory_equal(alone.out[0].data, (char *)n.out[0].data + 2 * bytes, bytes);
        release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_element_follows_its_own_word),
        cmocka_unit_test(the_share_that_is_dropped_is_p),
        cmocka_unit_test(a_slot_drops_the_same_wherever_it_lies),
    };
    return cmocka_run_group_tests_name("dropout", tests, NULL, NULL);
}
