#define _DEFAULT_SOURCE /* setenv */
/* The linear layer on the device in its three directions: one output, ragged rows, all that may be absent. */
#include "tests/unit/kernels/cuda_test.h"

typedef struct layer {
    int64_t rows, n, k;
} layer;

static const layer layers[] = {{1, 1, 1}, {37, 2, 5}, {5, 45, 50}, {130, 64, 36}, {300, 4, 64}};
enum { N_LAYERS = sizeof layers / sizeof *layers };
/* So many rows that the gradient of W takes them in chunks: with rows left, ragged and not, and without. */
static const layer tall[] = {{2051, 5, 7}, {3074, 12, 8}, {4096, 8, 4}, {2048, 3, 130}};
enum { N_TALL = sizeof tall / sizeof *tall };

enum { X, W, B, GAMMA, RES, COUNTS };

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

static void a_bias_that_is_part_of_another_may_begin_anywhere(void **state)
{
    (void)state;
    for (int k = 0; k < N_LAYERS; k++) {
        test_memory m = {0};
        vg_node n = forward(&m, layers[k], VG_ACT_RELU, true);
        cuda_matches_cpu(&m, &n, 4, layers[k].k); /* finds an algorithm for a bias that begins at a whole line */
        misalign(&m, &n, &n.in[B]);
        cuda_matches_cpu(&m, &n, 4, layers[k].k);
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

/* ---- rows of which some are padding ---- */

enum { SLOTS = 5, LENGTH = 7, RAGGED_N = 12, RAGGED_K = 20 };
static const int32_t counts[SLOTS] = {3, 0, 7, 9, -1};
static const layer ragged = {SLOTS * LENGTH, RAGGED_N, RAGGED_K};

/* Padding of x [SLOTS * LENGTH, *], finite numbers before, is 0 now; x is cut into slots. */
static void clear_padding(vg_operand *x)
{
    const int64_t width = vg_shape_last(&x->shape);
    float *v = x->data;
    x->shape = VG_SHAPE(SLOTS, LENGTH, width);
    for (int64_t i = 0; i < SLOTS * LENGTH * width; i++) {
        assert_true(isfinite(v[i]));
        if (i / width % LENGTH >= counts[i / width / LENGTH]) v[i] = 0;
    }
}

/* The device computes padding, the CPU leaves it out; nobody uses what it becomes. */
static void rows_before_the_padding_are_the_cpus(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = forward(&m, ragged, VG_ACT_GELU, true);
    n.n_in = 6;
    n.in[X].shape = VG_SHAPE(SLOTS, LENGTH, RAGGED_K);
    n.in[COUNTS] = int_operand(&m, VG_SHAPE(SLOTS), counts);
    n.out[1] = blank_operand(&m, VG_F32, VG_SHAPE(SLOTS * LENGTH, RAGGED_N));
    vg_node cpu = fresh_outputs(&m, &n);
    run_node(&cpu, 1);
    cuda_run(&n);
    for (int k = 0; k < 2; k++) {
        clear_padding(&n.out[k]);
        assert_operand_near(&n.out[k], &cpu.out[k], 4, RAGGED_K);
    }
    release(&m);
}

static void gradients_of_ragged_rows_are_the_cpus(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node dw = weight_gradient(&m, ragged, 3, false, false);
    vg_node dx = {.op = VG_OP_linear_dx, .n_in = 5, .n_out = 1};
    clear_padding(&dw.in[0]);
    dw.in[1].shape = VG_SHAPE(SLOTS, LENGTH, RAGGED_K);
    dw.n_in = 6;
    dw.in[5] = int_operand(&m, VG_SHAPE(SLOTS), counts);
    cuda_matches_cpu(&m, &dw, 4, ragged.rows);
    dx.in[0] = dw.in[0];
    dx.in[1] = random_operand(&m, VG_SHAPE(RAGGED_N, RAGGED_K), 1);
    dx.in[4] = dw.in[5];
    dx.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(SLOTS, LENGTH, RAGGED_K));
    cuda_matches_cpu(&m, &dx, 4, RAGGED_N);
    release(&m);
}

/* ---- more rows, and bf16 ---- */

static layer any_layer(int k)
{
    return k < N_LAYERS ? layers[k] : tall[k - N_LAYERS];
}

static void gradients_of_the_parameters(void **state)
{
    (void)state;
    for (int k = 0; k < (N_LAYERS + N_TALL) * 6; k++) {
        test_memory m = {0};
        const layer l = any_layer(k / 6);
        vg_node n = weight_gradient(&m, l, 1 + k % 6 / 2, false, false);
        n.accumulate = k % 2;
        cuda_matches_cpu(&m, &n, 4, l.rows);
        release(&m);
    }
}

static void gradients_of_the_parameters_with_gamma(void **state)
{
    (void)state;
    for (int k = 0; k < 4 * 28; k++) {
        test_memory m = {0};
        const layer l = any_layer(k % (N_LAYERS + N_TALL)); /* 28 ways and 9 layers have no common divisor */
        vg_node n = weight_gradient(&m, l, 1 + k / 4 % 7, true, k & 2);
        n.accumulate = k & 1;
        cuda_matches_cpu(&m, &n, 4, l.rows * l.k); /* dgamma sums both ways */
        release(&m);
    }
}

/* On the device x (and dz) of a node are bf16, on the CPU fp32 of the same values: their products are exact in fp32. */
static void bf16_matches_cpu(test_memory *m, const vg_node *node, int n_factors, int64_t n)
{
    vg_node cpu = fresh_outputs(m, node), device = *node;
    for (int k = 0; k < node->n_out; k++)
        if (node->out[k].data) memcpy(cpu.out[k].data, node->out[k].data, operand_bytes(&node->out[k]));
    for (int i = 0; i < n_factors; i++) device.in[i] = rounded(m, &cpu.in[i]);
    run_node(&cpu, 1);
    cuda_run(&device);
    for (int k = 0; k < node->n_out; k++)
        if (node->out[k].data) assert_operand_near(&device.out[k], &cpu.out[k], 4, n);
}

static void parameters_of_bf16_layers(void **state)
{
    (void)state;
    for (int k = 0; k < (N_LAYERS + N_TALL) * 4; k++) {
        test_memory m = {0};
        const layer l = any_layer(k / 4);
        vg_node n = weight_gradient(&m, l, k & 1 ? 7 : 3, k & 1, k & 1);
        n.accumulate = k & 2;
        bf16_matches_cpu(&m, &n, 2, k & 1 ? l.rows * l.k : l.rows);
        release(&m);
    }
}

/* Among them some with rows whose length is no multiple of 16 bytes. */
static void bf16_layers(void **state)
{
    (void)state;
    for (int k = 0; k < N_LAYERS * 4; k++) {
        test_memory m = {0};
        const layer l = layers[k / 4];
        vg_node n = forward(&m, l, k & 1 ? VG_ACT_RELU : VG_ACT_NONE, k & 2);
        bf16_matches_cpu(&m, &n, 2, l.k);
        release(&m);
    }
}

/* Powers of two, so that gamma W is exact in bf16 too. */
static void gamma_of_a_bf16_layer(void **state)
{
    (void)state;
    for (int k = 0; k < N_LAYERS * 2; k++) {
        test_memory m = {0};
        const layer l = layers[k / 2];
        vg_node n = forward(&m, l, VG_ACT_NONE, k & 1);
        rounded(&m, &n.in[W]);
        n.in[GAMMA] = random_operand(&m, VG_SHAPE(l.n), 4);
        for (int64_t i = 0; i < l.n; i++)
            ((float *)n.in[GAMMA].data)[i] = ldexpf(i % 2 ? -1.0F : 1.0F, (int)(i % 5) - 2);
        bf16_matches_cpu(&m, &n, 1, l.k);
        release(&m);
    }
}

/* Whole numbers, of dz times a power of two that differs from chunk to chunk: every sum in a chunk is exact in any
 * order, a sum of chunks is not. */
static void fill_chunks(const vg_node *n, int64_t chunk)
{
    static const float scales[] = {0x1p0F, 0x1p-15F, 0x1p9F, 0x1p-7F};
    for (int i = 0; i < 2; i++) {
        float *x = n->in[i].data;
        const int64_t width = vg_shape_last(&n->in[i].shape);
        for (int64_t k = 0; k < vg_shape_count(&n->in[i].shape); k++)
            x[k] = (float)((int)(random_word(9 + (uint64_t)i, (uint32_t)k) % 17) - 8) *
                   (i == 0 ? scales[k / width / chunk] : 1.0F);
    }
}

/* Adds what a chunk gives to sums [n,k] and [n], exactly; all in one fp32 rounding. */
static void add_chunk(const vg_node *n, int64_t first, int64_t end, float *dw, float *db)
{
    const int64_t N = n->in[0].shape.dim[1], K = n->in[1].shape.dim[1];
    const float *dz = n->in[0].data, *x = n->in[1].data;
    for (int64_t i = 0; i < N; i++) {
        double sum = 0;
        for (int64_t r = first; r < end; r++) sum += (double)dz[r * N + i];
        db[i] += (float)sum;
        for (int64_t j = 0; j < K; j++) {
            sum = 0;
            for (int64_t r = first; r < end; r++) sum += (double)dz[r * N + i] * (double)x[r * K + j];
            dw[i * K + j] += (float)sum;
        }
    }
}

static void chunks_of_rows_are_added_in_their_order(void **state)
{
    (void)state;
    enum { CHUNK = 1024, CHUNKS = 3, ROWS = CHUNK * CHUNKS + 2, N = 12, K = 8 };
    test_memory m = {0};
    const vg_node node = weight_gradient(&m, (layer){ROWS, N, K}, 3, false, false);
    float dw[N * K] = {0}, db[N] = {0}, backwards[N * K] = {0}, db_backwards[N] = {0};
    fill_chunks(&node, CHUNK);
    for (int c = 0; c <= CHUNKS; c++) {
        const int64_t back = CHUNKS - c;
        add_chunk(&node, c * CHUNK, c < CHUNKS ? (c + 1) * CHUNK : ROWS, dw, db);
        add_chunk(&node, back * CHUNK, back < CHUNKS ? (back + 1) * CHUNK : ROWS, backwards, db_backwards);
    }
    cuda_run(&node);
    assert_memory_equal(node.out[0].data, dw, sizeof dw);
    assert_memory_equal(node.out[1].data, db, sizeof db);
    assert_memory_not_equal(dw, backwards, sizeof dw); /* or the order would not show */
    release(&m);
}

/* What a library that may split long sums would not give. Another number of rows may have another algorithm. */
static void a_row_has_the_same_bits_in_any_place(void **state)
{
    (void)state;
    enum { ROWS = 400, N = 16, K = 1500, ROW = 123 };
    static const int places[] = {0, 1, 77, 256, ROWS - 1};
    test_memory m = {0};
    const vg_node node = forward(&m, (layer){ROWS, N, K}, VG_ACT_NONE, true);
    float *x = node.in[X].data;
    const float *y = node.out[0].data;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) memcpy(x + places[i] * K, x + ROW * K, K * sizeof *x);
    cuda_run(&node);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        assert_memory_equal(y + places[i] * N, y + ROW * N, N * sizeof *y);
    release(&m);
}

static void slopes_of_every_activation(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 3, 4, 1027, 2048};
    for (int k = 0; k < 30; k++) {
        test_memory m = {0};
        const vg_shape shape = VG_SHAPE(lengths[k / 6]);
        vg_node n = {.op = VG_OP_act_grad,
                     .n_in = 2,
                     .n_out = 1,
                     .attr.linear = {(vg_act)(VG_ACT_RELU + k % 3), k % 2 ? 0.2F : 0}};
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
        cmocka_unit_test(a_bias_that_is_part_of_another_may_begin_anywhere),
        cmocka_unit_test(gamma_and_residual_in_every_pairing_also_in_place),
        cmocka_unit_test(dx_with_gamma_and_other_contributions),
        cmocka_unit_test(rows_before_the_padding_are_the_cpus),
        cmocka_unit_test(gradients_of_ragged_rows_are_the_cpus),
        cmocka_unit_test(gradients_of_the_parameters),
        cmocka_unit_test(gradients_of_the_parameters_with_gamma),
        cmocka_unit_test(parameters_of_bf16_layers),
        cmocka_unit_test(bf16_layers),
        cmocka_unit_test(gamma_of_a_bf16_layer),
        cmocka_unit_test(chunks_of_rows_are_added_in_their_order),
        cmocka_unit_test(a_row_has_the_same_bits_in_any_place),
        cmocka_unit_test(slopes_of_every_activation),
    };
    cuda_open();
    return cmocka_run_group_tests_name("linear layers on the device", tests, NULL, NULL);
}
