/* The linear layer in its three directions and the activation gradients, through the backend's table, against fp64. */
#define _DEFAULT_SOURCE /* setenv */
#include "kernels/backend.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const isas[] = {"base", "avx2", "avx512"};
enum { N_ISAS = sizeof isas / sizeof *isas, ROWS = 37, N = 45, K = 50, LONG_ROWS = 4500 };

static float *random_floats(int64_t n, uint64_t purpose)
{
    float *x = vg_new0_array((size_t)n, sizeof *x);
    assert_non_null(x);
    vg_fill_normal(x, n, vg_rng_key_of(11, purpose), 0, 1);
    return x;
}

static vg_operand operand(float *data, vg_shape shape)
{
    return (vg_operand){.data = data, .dtype = VG_F32, .shape = shape};
}

static void run(vg_node *node, int n_threads)
{
    const vg_backend *cpu = vg_backend_cpu();
    const size_t bytes = vg_round_up(cpu->workspace_bytes(node, n_threads) + 64, 64);
    node->workspace = aligned_alloc(64, bytes);
    assert_non_null(node->workspace);
    memset(node->workspace, 0xff, bytes); /* NaN: nothing may be read before it is written */
    vg_stream stream = {.n_threads = n_threads};
    assert_int_equal(cpu->kernels[node->op](&stream, node), VG_OK);
    free(node->workspace);
    node->workspace = NULL;
}

static void assert_near(const float *got, double expected, double tolerance)
{
    if (!(fabs((double)*got - expected) <= tolerance)) fail_msg("%.9g is not %.9g", (double)*got, expected);
}

/* The operands of a layer, all random. */
typedef struct layer {
    int64_t rows;
    float *x, *w, *b, *gamma, *res, *y, *z, *dz, *dx, *dw, *db, *dgamma;
} layer;

static layer layer_new(int64_t rows)
{
    return (layer){.rows = rows,
                   .x = random_floats(rows * K, 1),
                   .w = random_floats(N * K, 2),
                   .b = random_floats(N, 3),
                   .gamma = random_floats(N, 4),
                   .res = random_floats(rows * N, 5),
                   .y = random_floats(rows * N, 6),
                   .z = random_floats(rows * N, 7),
                   .dz = random_floats(rows * N, 8),
                   .dx = random_floats(rows * K, 9),
                   .dw = random_floats(N * K, 10),
                   .db = random_floats(N, 11),
                   .dgamma = random_floats(N, 12)};
}

static void layer_free(layer *l)
{
    float *all[] = {l->x, l->w, l->b, l->gamma, l->res, l->y, l->z, l->dz, l->dx, l->dw, l->db, l->dgamma};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static vg_node forward(const layer *l)
{
    return (vg_node){
        .op = VG_OP_linear,
        .n_in = 5,
        .n_out = 2,
        .in = {operand(l->x, VG_SHAPE(l->rows, K)), operand(l->w, VG_SHAPE(N, K)), operand(l->b, VG_SHAPE(N))},
        .out = {operand(l->y, VG_SHAPE(l->rows, N))}};
}

static double z_of(const layer *l, int64_t i, int64_t j)
{
    double sum = (double)l->b[j];
    for (int64_t k = 0; k < K; k++) sum += (double)l->x[i * K + k] * (double)l->w[j * K + k];
    return sum;
}

static void forward_keeps_z_for_gelu(void **state)
{
    (void)state;
    layer l = layer_new(ROWS);
    for (int isa = 0; isa < N_ISAS; isa++) {
        setenv("VLGTR_ISA", isas[isa], 1);
        vg_node node = forward(&l);
        node.attr.linear.act = VG_ACT_GELU;
        node.out[1] = operand(l.z, VG_SHAPE(ROWS, N));
        run(&node, 2);
        for (int64_t e = 0; e < ROWS * N; e++) {
            const double z = z_of(&l, e / N, e % N);
            assert_near(l.z + e, z, 2e-5); /* 50 products of standard normals: 50 * eps, times 3 */
            assert_near(l.y + e, z * 0.5 * erfc(-z / sqrt(2.0)), 2e-5);
        }
    }
    layer_free(&l);
}

static void forward_scales_and_adds_the_residual_also_in_place(void **state)
{
    (void)state;
    layer l = layer_new(ROWS);
    for (int isa = 0; isa < N_ISAS; isa++)
        for (int in_place = 0; in_place < 2; in_place++) {
            setenv("VLGTR_ISA", isas[isa], 1);
            vg_node node = forward(&l);
            node.in[3] = operand(l.gamma, VG_SHAPE(N));
            node.in[4] = operand(l.res, VG_SHAPE(ROWS, N));
            memcpy(l.y, l.res, ROWS * N * sizeof(float));
            if (in_place) node.in[4].data = l.y;
            run(&node, 2);
            for (int64_t e = 0; e < ROWS * N; e++)
                assert_near(l.y + e, (double)l.res[e] + (double)l.gamma[e % N] * z_of(&l, e / N, e % N), 5e-5);
        }
    layer_free(&l);
}

static void a_packed_weight_changes_no_bit_in_either_direction(void **state)
{
    (void)state;
    const vg_backend *cpu = vg_backend_cpu();
    layer l = layer_new(ROWS);
    for (int isa = 0; isa < N_ISAS; isa++)
        for (int direction = 0; direction < 2; direction++) {
            setenv("VLGTR_ISA", isas[isa], 1);
            vg_node node = forward(&l);
            if (direction == 1)
                node = (vg_node){.op = VG_OP_linear_dx,
                                 .in = {operand(l.dz, VG_SHAPE(ROWS, N)), operand(l.w, VG_SHAPE(N, K))},
                                 .out = {operand(l.y, VG_SHAPE(ROWS, K))}};
            const size_t bytes = (size_t)vg_shape_count(&node.out[0].shape) * sizeof(float);
            node.out[0].data = l.z;
            if (direction == 1) node.out[0].data = l.dx;
            run(&node, 1);
            void *packed = vg_new0(cpu->packed_bytes(&node)), *plain = vg_new0(bytes);
            memcpy(plain, node.out[0].data, bytes);
            memset(node.out[0].data, 0xff, bytes);
            cpu->pack(&(vg_stream){.n_threads = 1}, &node, packed);
            node.packed = packed;
            run(&node, 2);
            assert_memory_equal(node.out[0].data, plain, bytes);
            free(packed);
            free(plain);
        }
    layer_free(&l);
}

/* Slots of seven rows; the counts leave a slot empty, another whole, and go beyond both ends. */
static void padding_becomes_zero_and_changes_no_bit_of_the_rest(void **state)
{
    (void)state;
    enum { SLOTS = 5, LENGTH = 7 };
    const int32_t counts[SLOTS] = {3, 0, 7, 9, -1};
    layer l = layer_new(SLOTS * LENGTH), plain = layer_new(SLOTS * LENGTH);
    for (int isa = 0; isa < N_ISAS; isa++) {
        setenv("VLGTR_ISA", isas[isa], 1);
        vg_node node = forward(&plain);
        node.attr.linear.act = VG_ACT_GELU;
        node.out[1] = operand(plain.z, VG_SHAPE(SLOTS * LENGTH, N));
        run(&node, 1);
        for (int64_t e = 0; e < SLOTS * LENGTH * N; e++)
            if (e / N % LENGTH >= counts[e / N / LENGTH]) plain.y[e] = plain.z[e] = 0;
        node.n_in = 6;
        node.in[0].shape = VG_SHAPE(SLOTS, LENGTH, K);
        node.in[5] = (vg_operand){(int32_t *)counts, VG_I32, VG_SHAPE(SLOTS)};
        node.out[0] = operand(l.y, VG_SHAPE(SLOTS, LENGTH, N));
        node.out[1] = operand(l.z, VG_SHAPE(SLOTS, LENGTH, N));
        run(&node, 2);
        assert_memory_equal(l.y, plain.y, SLOTS * LENGTH * N * sizeof(float));
        assert_memory_equal(l.z, plain.z, SLOTS * LENGTH * N * sizeof(float));
    }
    layer_free(&l);
    layer_free(&plain);
}

static vg_node weight_gradient(const layer *l, bool gamma)
{
    vg_node node = {.op = VG_OP_linear_dw,
                    .in = {operand(l->dz, VG_SHAPE(l->rows, N)), operand(l->x, VG_SHAPE(l->rows, K))},
                    .out = {operand(l->dw, VG_SHAPE(N, K)), operand(l->db, VG_SHAPE(N))}};
    if (gamma) {
        node.in[2] = operand(l->w, VG_SHAPE(N, K));
        node.in[3] = operand(l->b, VG_SHAPE(N));
        node.in[4] = operand(l->gamma, VG_SHAPE(N));
        node.out[2] = operand(l->dgamma, VG_SHAPE(N));
    }
    return node;
}

/* `node` with and without counts. More rows than a run of a product has. */
enum { SLOTS = 6, LENGTH = 150 };
static void same_with_counts(vg_node *node, int place, const int32_t *counts)
{
    float *plain[3] = {0};
    size_t bytes[3] = {0};
    node->n_in = place + 1;
    run(node, 1);
    for (int i = 0; i < 3 && node->out[i].data; i++) {
        bytes[i] = (size_t)vg_shape_count(&node->out[i].shape) * sizeof(float);
        plain[i] = vg_new0(bytes[i]);
        memcpy(plain[i], node->out[i].data, bytes[i]);
        memset(node->out[i].data, 0xff, bytes[i]);
    }
    node->in[place] = (vg_operand){(int32_t *)counts, VG_I32, VG_SHAPE(SLOTS)};
    run(node, 2);
    for (int i = 0; i < 3 && plain[i]; i++) {
        for (size_t e = 0; e < bytes[i] / sizeof(float); e++) /* of two zeros, either will do */
            assert_true(((float *)node->out[i].data)[e] == plain[i][e]);
        free(plain[i]);
    }
}

static void padding_without_gradient_changes_no_bit_of_the_gradients(void **state)
{
    (void)state;
    const int32_t some[SLOTS] = {150, 17, 0, 99, -1, 200}, none[SLOTS] = {0};
    layer l = layer_new(SLOTS * LENGTH);
    for (int k = 0; k < 2 * N_ISAS; k++) {
        const int32_t *counts = k < N_ISAS ? some : none;
        setenv("VLGTR_ISA", isas[k % N_ISAS], 1);
        for (int64_t row = 0; row < l.rows; row++) {
            if (row % LENGTH < counts[row / LENGTH]) continue;
            memset(l.dz + row * N, 0, N * sizeof(float));
        }
        vg_node dw = weight_gradient(&l, false), scaled = weight_gradient(&l, true);
        vg_node dx = {.op = VG_OP_linear_dx, .in = {dw.in[0], scaled.in[2], scaled.in[4]}};
        vg_node wide = {.op = VG_OP_linear_dw, .in = {dw.in[1], dw.in[0]}}; /* its gradient has more columns */
        dx.out[0] = operand(l.dx, VG_SHAPE(SLOTS, LENGTH, K));
        wide.out[0] = operand(l.dw, VG_SHAPE(K, N));
        dx.in[0].shape = dw.in[0].shape = scaled.in[0].shape = VG_SHAPE(SLOTS, LENGTH, N);
        wide.in[0].shape = VG_SHAPE(SLOTS, LENGTH, K);
        same_with_counts(&dx, 4, counts);
        same_with_counts(&dw, 5, counts);
        same_with_counts(&scaled, 5, counts);
        for (int64_t row = 0; row < l.rows; row++) /* here x is the gradient */
            if (row % LENGTH >= counts[row / LENGTH]) memset(l.x + row * K, 0, K * sizeof(float));
        same_with_counts(&wide, 5, counts);
    }
    layer_free(&l);
}

static void dx_adds_the_other_contributions(void **state)
{
    (void)state;
    layer l = layer_new(ROWS);
    float *acc = random_floats(ROWS * K, 20);
    for (int isa = 0; isa < N_ISAS; isa++)
        for (int bits = 0; bits < 4; bits++) {
            setenv("VLGTR_ISA", isas[isa], 1);
            vg_node node = {.op = VG_OP_linear_dx,
                            .in = {operand(l.dz, VG_SHAPE(ROWS, N)), operand(l.w, VG_SHAPE(N, K))},
                            .out = {operand(l.dx, VG_SHAPE(ROWS, K))}};
            if (bits & 1) node.in[2] = operand(l.gamma, VG_SHAPE(N));
            if (bits & 2) node.in[3] = operand(acc, VG_SHAPE(ROWS, K));
            run(&node, 2);
            for (int64_t e = 0; e < ROWS * K; e++) {
                double sum = bits & 2 ? (double)acc[e] : 0;
                for (int64_t j = 0; j < N; j++)
                    sum +=
                        (double)l.dz[e / K * N + j] * (bits & 1 ? (double)l.gamma[j] : 1) * (double)l.w[j * K + e % K];
                assert_near(l.dx + e, sum, 5e-5);
            }
        }
    free(acc);
    layer_free(&l);
}

/* The exact gradients of output j; g [K] is its row of dz^T x. */
static double sums_of(const layer *l, int64_t j, double g[K])
{
    double sum = 0;
    memset(g, 0, K * sizeof *g);
    for (int64_t i = 0; i < l->rows; i++) {
        const double dz = (double)l->dz[i * N + j];
        sum += dz;
        for (int64_t k = 0; k < K; k++) g[k] += dz * (double)l->x[i * K + k];
    }
    return sum;
}

static void check_weight_gradient(const layer *l, const layer *before, bool gamma, bool accumulate, double tolerance)
{
    const double old = accumulate ? 1 : 0;
    for (int64_t j = 0; j < N; j++) {
        double g[K], dot = 0;
        const double sum = sums_of(l, j, g), scale = gamma ? (double)l->gamma[j] : 1;
        for (int64_t k = 0; k < K; k++) {
            assert_near(l->dw + j * K + k, old * (double)before->dw[j * K + k] + scale * g[k], tolerance);
            dot += (double)l->w[j * K + k] * g[k];
        }
        assert_near(l->db + j, old * (double)before->db[j] + scale * sum, tolerance);
        if (gamma)
            assert_near(l->dgamma + j, old * (double)before->dgamma[j] + dot + (double)l->b[j] * sum, 8 * tolerance);
    }
}

static void dw_is_written_or_added_with_and_without_gamma(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++)
        for (int bits = 0; bits < 8; bits++) {
            setenv("VLGTR_ISA", isas[isa], 1);
            const int64_t rows = bits & 4 ? LONG_ROWS : ROWS; /* the long sum has several spans */
            if (rows == LONG_ROWS && isa == 0 && bits != 7) continue;
            layer l = layer_new(rows), before = layer_new(rows);
            vg_node node = weight_gradient(&l, bits & 1);
            node.accumulate = bits & 2;
            run(&node, 2);
            check_weight_gradient(&l, &before, bits & 1, bits & 2, rows == ROWS ? 1e-4 : 2e-3);
            layer_free(&l);
            layer_free(&before);
        }
}

static void dw_outputs_may_be_absent(void **state)
{
    (void)state;
    layer l = layer_new(ROWS), whole = layer_new(ROWS);
    vg_node node = weight_gradient(&whole, true);
    run(&node, 1);
    for (int only = 0; only < 3; only++) {
        node = weight_gradient(&l, true);
        for (int o = 0; o < 3; o++)
            if (o != only) node.out[o].data = NULL;
        run(&node, 1);
    }
    assert_memory_equal(l.dw, whole.dw, N * K * sizeof(float));
    assert_memory_equal(l.db, whole.db, N * sizeof(float));
    assert_memory_equal(l.dgamma, whole.dgamma, N * sizeof(float));
    layer_free(&l);
    layer_free(&whole);
}

static void dw_bits_do_not_depend_on_the_thread_count(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++)
        for (int gamma = 0; gamma < 2; gamma++) {
            setenv("VLGTR_ISA", isas[isa], 1);
            layer one = layer_new(700), many = layer_new(700);
            vg_node node = weight_gradient(&one, gamma);
            run(&node, 1);
            for (int n_threads = 2; n_threads < 5; n_threads++) {
                node = weight_gradient(&many, gamma);
                run(&node, n_threads);
                assert_memory_equal(many.dw, one.dw, N * K * sizeof(float));
                assert_memory_equal(many.db, one.db, N * sizeof(float));
                if (gamma) assert_memory_equal(many.dgamma, one.dgamma, N * sizeof(float));
            }
            layer_free(&one);
            layer_free(&many);
        }
}

static double slope(vg_act act, double x)
{
    switch (act) {
    case VG_ACT_RELU: return x > 0;
    case VG_ACT_SIGMOID: return x * (1 - x);
    case VG_ACT_GELU: return 0.5 * erfc(-x / sqrt(2.0)) + x * exp(-x * x / 2) / sqrt(2 * 3.14159265358979);
    default: return 1;
    }
}

static void act_grad_is_dy_times_the_slope(void **state)
{
    (void)state;
    enum { COUNT = 16384 + 133 };
    float *dy = random_floats(COUNT, 1), *x = random_floats(COUNT, 2), *dz = random_floats(COUNT, 3);
    float *again = random_floats(COUNT, 4);
    for (int i = 0; i < COUNT; i++) x[i] *= 3;
    for (int isa = 0; isa < N_ISAS; isa++)
        for (vg_act act = VG_ACT_RELU; act <= VG_ACT_SIGMOID; act++) {
            setenv("VLGTR_ISA", isas[isa], 1);
            vg_node node = {.op = VG_OP_act_grad,
                            .in = {operand(dy, VG_SHAPE(COUNT)), operand(x, VG_SHAPE(COUNT))},
                            .out = {operand(dz, VG_SHAPE(COUNT))},
                            .attr.linear = {act, act == VG_ACT_RELU ? 0.2F : 0}};
            const double share = 1 - (double)node.attr.linear.dropout;
            run(&node, 2);
            for (int i = 0; i < COUNT; i++)
                assert_near(dz + i, (double)dy[i] * slope(act, (double)x[i]) / share,
                            3e-6 * fmax(1, fabs((double)x[i])));
            memcpy(again, dz, COUNT * sizeof(float));
            memcpy(dz, dy, COUNT * sizeof(float));
            node.in[0].data = dz; /* in place, other thread count */
            run(&node, 1);
            assert_memory_equal(dz, again, COUNT * sizeof(float));
        }
    free(dy);
    free(x);
    free(dz);
    free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_keeps_z_for_gelu),
        cmocka_unit_test(forward_scales_and_adds_the_residual_also_in_place),
        cmocka_unit_test(a_packed_weight_changes_no_bit_in_either_direction),
        cmocka_unit_test(padding_becomes_zero_and_changes_no_bit_of_the_rest),
        cmocka_unit_test(padding_without_gradient_changes_no_bit_of_the_gradients),
        cmocka_unit_test(dx_adds_the_other_contributions),
        cmocka_unit_test(dw_is_written_or_added_with_and_without_gamma),
        cmocka_unit_test(dw_outputs_may_be_absent),
        cmocka_unit_test(dw_bits_do_not_depend_on_the_thread_count),
        cmocka_unit_test(act_grad_is_dy_times_the_slope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
