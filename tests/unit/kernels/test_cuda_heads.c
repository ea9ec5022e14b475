/* heads_expand, heads_contract and heads_dw on the device beside the CPU's: rows around the chunks of the bias's sums,
 * sizes around a warp, with and without what may be absent. */
#define _DEFAULT_SOURCE
#include "tests/unit/kernels/cuda_test.h"

typedef struct sizes {
    int64_t slots, queries, heads, size, width;
} sizes;

static const sizes cases[] = {
    {1, 1, 1, 1, 1}, {2, 5, 3, 7, 9}, {3, 10, 8, 32, 64}, {43, 3, 2, 33, 20}, {1, 64, 4, 8, 4}};
enum { N_CASES = sizeof cases / sizeof *cases, UNITS = 4 };

static vg_node node_of(vg_op op, const sizes *s, int n_in, int n_out)
{
    return (vg_node){.op = op, .n_in = n_in, .n_out = n_out, .attr.heads.heads = (int)s->heads};
}

static vg_operand narrow(test_memory *m, const sizes *s)
{
    return random_operand(m, VG_SHAPE(s->slots, s->queries, s->heads * s->size), 1);
}

static vg_operand wide(test_memory *m, const sizes *s)
{
    return random_operand(m, VG_SHAPE(s->slots, s->queries * s->heads, s->width), 2);
}

static vg_operand sums(test_memory *m, const sizes *s)
{
    return random_operand(m, VG_SHAPE(s->slots, 1, s->queries * s->heads), 3);
}

static void rows_of_heads_become_wide_ones(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * N_CASES; i++) {
        const sizes *s = &cases[i / 2];
        test_memory m = {0};
        vg_node n = node_of(VG_OP_heads_expand, s, 3, 2);
        n.in[0] = narrow(&m, s);
        n.in[1] = random_operand(&m, VG_SHAPE(s->heads * s->size, s->width), 4);
        n.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(s->slots, s->queries * s->heads, s->width));
        if (i % 2) {
            n.in[2] = random_operand(&m, VG_SHAPE(s->heads * s->size), 5);
            n.out[1] = blank_operand(&m, VG_F32, VG_SHAPE(s->slots, 1, s->queries * s->heads));
        }
        cuda_matches_cpu(&m, &n, UNITS, s->size);
        release(&m);
    }
}

static void wide_rows_become_rows_of_heads(void **state)
{
    (void)state;
    for (int i = 0; i < 3 * N_CASES; i++) {
        const sizes *s = &cases[i / 3];
        test_memory m = {0};
        vg_node n = node_of(VG_OP_heads_contract, s, 4, 1);
        n.in[0] = wide(&m, s);
        n.in[1] = random_operand(&m, VG_SHAPE(s->heads * s->size, s->width), 4);
        if (i % 3 > 0) n.in[2] = random_operand(&m, VG_SHAPE(s->heads * s->size), 5);
        if (i % 3 > 1) n.in[3] = sums(&m, s);
        n.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(s->slots, s->queries, s->heads * s->size));
        cuda_matches_cpu(&m, &n, UNITS, s->width);
        release(&m);
    }
}

/* With and without sums and what is there already, each output alone and both. */
static void gradients_of_weights_and_biases_are_sums_over_rows(void **state)
{
    (void)state;
    for (int i = 0; i < 12 * N_CASES; i++) {
        const sizes *s = &cases[i / 12];
        const int outputs = 1 + i % 12 / 4;
        test_memory m = {0};
        vg_node n = node_of(VG_OP_heads_dw, s, 3, 2);
        n.accumulate = i & 1;
        n.in[0] = narrow(&m, s);
        n.in[1] = wide(&m, s);
        if (i & 2) n.in[2] = sums(&m, s);
        if (outputs & 1) n.out[0] = random_operand(&m, VG_SHAPE(s->heads * s->size, s->width), 6);
        if (outputs & 2) n.out[1] = random_operand(&m, VG_SHAPE(s->heads * s->size), 7);
        cuda_matches_cpu(&m, &n, UNITS, s->slots * s->queries);
        release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_heads_become_wide_ones),
        cmocka_unit_test(wide_rows_become_rows_of_heads),
        cmocka_unit_test(gradients_of_weights_and_biases_are_sums_over_rows),
    };
    cuda_open();
    return cmocka_run_group_tests_name("rows of heads on the device", tests, NULL, NULL);
}
