#define _DEFAULT_SOURCE /* setenv */
/* The linear layer on the device in its three directions: one output, ragged rows, all that may be absent. */
#include "tests/unit/kernels/cuda_test.h"

typedef struct layer {
    int64_t rows, n, k;
} layer;

static const layer layers[] = {{1, 1, 1}, {37, 2, 5}, {5, 45, 50}, {130, 64, 36}, {300, 4, 64}};
enum { N_LAYERS = sizeof layers / sizeof *layers };

enum { X, W, B, GAMMA, RES };

static vg_node forward(test_memory *m, layer l, vg_act act, bool b)
{
    vg_node n = {.op = VG_OP_linear, .n_in = 5, .n_out = 2, .attr.linear = {act}};
    n.in[X] = random_operand(m, VG_SHAPE(l.rows, l.k), 1);
    n.in[W] = random_operand(m, VG_SHAPE(l.n, l.k), 2);
    if (b) n.in[B] = random_operand(m, VG_SHAPE(l.n), 3);
    n.out[0] = blank_operand(m, VG_F32, VG_SHAPE(l.rows, l.n));
    return n;
}

static void every_activation_with_and_without_bias(void **state)
{
    (void)state;
    for (int k = 0; k < N_LAYERS * 4 * 2; k++) {
        test_memory m = {0};
        const layer l = layers[k / 8];
        vg_node n = forward(&m, l, (vg_act)(k / 2 % 4), k % 2);
        cuda_matches_cpu(&m, &n, 4, l.k);
        if (n.attr.linear.act == VG_ACT_GELU) {
            n.out[1] = blank_operand(&m, VG_F32, VG_SHAPE(l.rows, l.n));
            cuda_matches_cpu(&m, &n, 4, l.k);
        }
        release(&m);
    }
}

static void gamma_and_residual_in_every_pairing_also_in_place(void **state)
{
    (void)state;
    for (int k = 0; k < 3 * 16; k++) {
        test_memory m = {0};
        const layer l = layers[k % N_LAYERS];
        vg_node n = forward(&m, l, VG_ACT_NONE, k & 1);
        if (k & 2) n.in[GAMMA] = random_operand(&m, VG_SHAPE(l.n), 4);
        if (k & 4) n.in[RES] = random_operand(&m, VG_SHAPE(l.rows, l.n), 5);
        vg_node cpu = fresh_outputs(&m, &n);
        run_node(&cpu, 1);
        if ((k & 12) == 12) n.out[0] = n.in[RES];
        cuda_run(&n);
        assert_operand_near(&n.out[0], &cpu.out[0], 4, l.k);
        release(&m);
    }
}

static void dx_with_gamma_and_other_contributions(void **state)
{
    (void)state;
    for (int k = 0; k < N_LAYERS * 4; k++) {
        test_memory m = {0};
        const layer l = layers[k / 4];
        vg_node n = {.op = VG_OP_linear_dx, .n_in = 4, .n_out = 1};
        n.in[0] = random_operand(&m, VG_SHAPE(l.rows, l.n), 1);
        n.in[1] = random_operand(&m, VG_SHAPE(l.n, l.k), 2);
        if (k & 1) n.in[2] = random_operand(&m, VG_SHAPE(l.n), 3);
        if (k & 2) n.in[3] = random_operand(&m, VG_SHAPE(l.rows, l.k), 4);
        n.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(l.rows, l.k));
        cuda_matches_cpu(&m, &n, 4, l.n);
        release(&m);
    }
}

/* Bits of `wanted` say dW, db, dgamma; without the last, W and b say nothing and are absent. */
static vg_node weight_gradient(test_memory *m, layer l, int wanted, bool gamma, bool b)
{
    vg_node n = {.op = VG_OP_linear_dw, .n_in = 5, .n_out = 3};
    n.in[0] = random_operand(m, VG_SHAPE(l.rows, l.n), 1);
    n.in[1] = random_operand(m, VG_SHAPE(l.rows, l.k), 2);
    if (gamma && wanted & 4) n.in[2] = random_operand(m, VG_SHAPE(l.n, l.k), 3);
    if (gamma && wanted & 4 && b) n.in[3] = random_operand(m, VG_SHAPE(l.n), 4);
    if (gamma) n.in[4] = random_operand(m, VG_SHAPE(l.n), 5);
    for (int k = 0; k < 3; k++)
        if (wanted >> k & 1) n.out[k] = random_operand(m, k == 0 ? VG_SHAPE(l.n, l.k) : VG_SHAPE(l.n), 6 + (uint64_t)k);
    return n;
}

static void gradients_of_the_parameters(void **state)
{
    (void)state;
    for (int k = 0; k < N_LAYERS * 6; k++) {
        test_memory m = {0};
        const layer l = layers[k / 6];
        vg_node n = weight_gradient(&m, l, 1 + k % 6 / 2, false, false);
        n.accumulate = k % 2;
        cuda_matches_cpu(&m, &n, 4, l.rows);
        release(&m);
    }
}

static void gradients_of_the_parameters_with_gamma(void **state)
{
    (void)state;
    for (int k = 0; k < 2 * 28; k++) {
        test_memory m = {0};
        const layer l = layers[k % N_LAYERS];
        vg_node n = weight_gradient(&m, l, 1 + k / 4 % 7, true, k & 2);
        n.accumulate = k & 1;
        cuda_matches_cpu(&m, &n, 4, l.rows * l.k); /* dgamma sums both ways */
        release(&m);
    }
}

/* What a library that may split long sums would not give. */
static void a_row_has_the_same_bits_alone(void **state)
{
    (void)state;
    enum { ROWS = 400, N = 16, K = 1500, ROW = 123 };
    test_memory m = {0};
    const vg_node all = forward(&m, (layer){ROWS, N, K}, VG_ACT_NONE, true);
    vg_node one = all;
    one.in[X].shape = VG_SHAPE(1, K);
    one.in[X].data = (float *)all.in[X].data + ROW * K;
    one.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(1, N));
    cuda_run(&all);
    cuda_run(&one);
    assert_memory_equal(one.out[0].data, (float *)all.out[0].data + ROW * N, N * sizeof(float));
    release(&m);
}

static void slopes_of_every_activation(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 3, 4, 1027, 2048};
    for (int k = 0; k < 30; k++) {
        test_memory m = {0};
        const vg_shape shape = VG_SHAPE(lengths[k / 6]);
        vg_node n = {.op = VG_OP_act_grad, .n_in = 2, .n_out = 1, .attr.linear = {(vg_act)(VG_ACT_RELU + k % 3)}};
        for (int i = 0; i < 2; i++) n.in[i] = random_operand(&m, shape, (uint64_t)i);
        n.out[0] = blank_operand(&m, VG_F32, shape);
        if (k / 3 % 2) misalign(&m, &n, &n.in[0]);
        cuda_matches_cpu(&m, &n, 4, 1);
        release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_activation_with_and_without_bias),
        cmocka_unit_test(gamma_and_residual_in_every_pairing_also_in_place),
        cmocka_unit_test(dx_with_gamma_and_other_contributions),
        cmocka_unit_test(gradients_of_the_parameters),
        cmocka_unit_test(gradients_of_the_parameters_with_gamma),
        cmocka_unit_test(a_row_has_the_same_bits_alone),
        cmocka_unit_test(slopes_of_every_activation),
    };
    cuda_open();
    return cmocka_run_group_tests_name("linear layers on the device", tests, NULL, NULL);
}
