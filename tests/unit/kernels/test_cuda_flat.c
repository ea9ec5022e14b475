#define _DEFAULT_SOURCE /* setenv */
/* Passes over flat parameter ranges on the device: the bits of the CPU. */
#include "kernels/params.h"
#include "tests/unit/kernels/cuda_test.h"

/* More blocks than one block of threads sums, and no multiple of that. */
enum { BLOCKS = 70, COUNT = BLOCKS * VG_PARAM_BLOCK, BEHIND = 5 };

static vg_stream host = {.n_threads = 1};

/* Values on the host and on the device. */
typedef struct pair {
    vg_operand host;
    vg_arena device;
} pair;

static pair pair_of(vg_operand x)
{
    pair p = {.host = x};
    const vg_device_ops *d = vg_backend_cuda()->device;
    assert_int_equal(d->allocate(&cuda_stream, operand_bytes(&x), &p.device), VG_OK);
    assert_int_equal(d->upload(&cuda_stream, p.device.base, x.data, operand_bytes(&x)), VG_OK);
    return p;
}

/* The device's values must be the host's, byte for byte. */
static void assert_same_and_free(pair *p)
{
    const vg_device_ops *d = vg_backend_cuda()->device;
    const size_t bytes = operand_bytes(&p->host);
    void *values = malloc(bytes);
    assert_non_null(values);
    assert_int_equal(d->download(&cuda_stream, values, p->device.base, bytes), VG_OK);
    assert_int_equal(d->wait(&cuda_stream), VG_OK);
    assert_memory_equal(values, p->host.data, bytes);
    d->release(&cuda_stream, &p->device);
    free(values);
}

static void sums_of_any_length_land_where_they_should(void **state)
{
    (void)state;
    static const int64_t lengths[] = {0, 1, 3, 4, 5, 1023, 1024, 1025, 4096, 5003};
    for (int i = 0; i < 10 * 2; i++) {
        test_memory m = {0};
        const int64_t n = lengths[i / 2];
        pair x[3];
        for (int k = 0; k < 3; k++) x[k] = pair_of(random_operand(&m, VG_SHAPE(n + BEHIND), (uint64_t)k + 1));
        pair *dst = i % 2 ? &x[1] : &x[0]; /* in place, or not */
        vg_backend_cpu()->sum(&host, dst->host.data, x[1].host.data, x[2].host.data, n);
        assert_int_equal(vg_backend_cuda()->sum(&cuda_stream, (float *)dst->device.base, (float *)x[1].device.base,
                                                (float *)x[2].device.base, n),
                         VG_OK);
        for (int k = 0; k < 3; k++) assert_same_and_free(&x[k]);
        release(&m);
    }
}

static void sums_of_squares_have_the_order_of_the_cpu(void **state)
{
    (void)state;
    static const int64_t counts[] = {0, 1, 2, 63, 64, 65, BLOCKS};
    for (int i = 0; i < 7; i++) {
        test_memory m = {0};
        pair x = pair_of(random_operand(&m, VG_SHAPE(COUNT), 1));
        pair sums = pair_of(blank_operand(&m, VG_F64, VG_SHAPE(BLOCKS + BEHIND)));
        vg_backend_cpu()->sum_squares(&host, x.host.data, counts[i], sums.host.data);
        assert_int_equal(
            vg_backend_cuda()->sum_squares(&cuda_stream, (float *)x.device.base, counts[i], (double *)sums.device.base),
            VG_OK);
        assert_same_and_free(&x);
        assert_same_and_free(&sums);
        release(&m);
    }
}

/* What the device decides from these sums of squares. */
static vg_update decide(const vg_grad_norm *norm, vg_update update)
{
    test_memory m = {0};
    const vg_device_ops *d = vg_backend_cuda()->device;
    vg_operand sums = blank_operand(&m, VG_F64, VG_SHAPE(norm->n_blocks));
    memcpy(sums.data, norm->block_sums, operand_bytes(&sums));
    pair on_device = pair_of(sums);
    vg_arena memory;
    assert_int_equal(d->allocate(&cuda_stream, sizeof update, &memory), VG_OK);
    assert_int_equal(d->upload(&cuda_stream, memory.base, &update, sizeof update), VG_OK);
    vg_grad_norm args = *norm;
    args.block_sums = (const double *)(void *)on_device.device.base;
    args.update = (vg_update *)(void *)memory.base;
    assert_int_equal(vg_backend_cuda()->norm(&cuda_stream, &args), VG_OK);
    assert_int_equal(d->download(&cuda_stream, &update, memory.base, sizeof update), VG_OK);
    assert_int_equal(d->wait(&cuda_stream), VG_OK);
    d->release(&cuda_stream, &memory);
    assert_same_and_free(&on_device);
    release(&m);
    return update;
}

static void same_decision(const vg_grad_norm *norm, vg_update before)
{
    const vg_update device = decide(norm, before);
    vg_update cpu = before;
    vg_grad_norm args = *norm;
    args.update = &cpu;
    assert_int_equal(vg_backend_cpu()->norm(&host, &args), VG_OK);
    assert_memory_equal(&device.norm, &cpu.norm, sizeof cpu.norm);
    assert_true(device.course == cpu.course && device.skip == cpu.skip && device.steps == cpu.steps);
    assert_true(device.clip == cpu.clip || isnan(cpu.clip));
    assert_near(device.bias1, cpu.bias1, 4 * DBL_EPSILON); /* pow may round otherwise */
    assert_near(device.bias2, cpu.bias2, 4 * DBL_EPSILON);
}

static void the_norm_adds_its_blocks_in_the_order_of_the_cpu_and_decides_alike(void **state)
{
    (void)state;
    enum { LANES = VG_NORM_LANES, MOST = 2 * LANES + 5 };
    static const int64_t counts[] = {1, 2, 33, LANES - 1, LANES, LANES + 1, MOST};
    static const double clips[] = {0, 0.1, 1e6};
    static double sums[MOST];
    for (int b = 0; b < MOST; b++) sums[b] = ldexp(1 + (double)random_word(9, (uint32_t)b) * 0x1p-32, b % 40 - 20);
    const vg_update before = {.course = 0.5F, .steps = 7, .bias1 = 0.25, .bias2 = 0.125, .clip = 3};
    for (int i = 0; i < 7 * 3; i++)
        same_decision(&(vg_grad_norm){sums, counts[i / 3], clips[i % 3], 0.9, 0.999, NULL}, before);
}

static void a_norm_that_is_not_finite_and_a_step_that_is_forbidden_are_skipped(void **state)
{
    (void)state;
    const double broken[] = {1, NAN, 1}, endless[] = {INFINITY}, fine[] = {1, 2};
    const vg_update before = {.course = 1, .steps = 7, .bias1 = 0.25, .bias2 = 0.125};
    vg_update forbidden = before;
    forbidden.skip = 1;
    assert_int_equal(decide(&(vg_grad_norm){broken, 3, 1, 0.9, 0.999, NULL}, before).skip, 1);
    same_decision(&(vg_grad_norm){broken, 3, 1, 0.9, 0.999, NULL}, before);
    same_decision(&(vg_grad_norm){endless, 1, 1, 0.9, 0.999, NULL}, before);
    same_decision(&(vg_grad_norm){fine, 2, 1, 0.9, 0.999, NULL}, forbidden);
}

enum { PARAM, MOMENT1, MOMENT2, AVERAGE, GRADIENT, RATES, DECAYS, UPDATE, N_BUFFERS };

static void optimizer_of(test_memory *m, vg_update update, pair x[N_BUFFERS])
{
    for (int k = 0; k < N_BUFFERS; k++) {
        const bool table = k == RATES || k == DECAYS;
        vg_operand o = random_operand(m, VG_SHAPE(table ? BLOCKS : COUNT), (uint64_t)k + 1);
        float *values = o.data;
        if (k == UPDATE) {
            o.shape = VG_SHAPE((int64_t)(sizeof update / sizeof(float)));
            memcpy(o.data, &update, sizeof update);
        }
        for (int64_t i = 0; k == MOMENT2 && i < COUNT; i++) values[i] *= values[i];
        for (int b = 0; b < BLOCKS && table; b++)
            values[b] = k == RATES ? 1e-3F * (float)(b + 1) : b % 2 ? 0.05F : 0.0F;
        x[k] = pair_of(o);
    }
}

static vg_adamw arguments(const pair x[N_BUFFERS], bool device, bool average)
{
    void *at[N_BUFFERS];
    for (int k = 0; k < N_BUFFERS; k++) at[k] = device ? x[k].device.base : x[k].host.data;
    return (vg_adamw){.param = at[PARAM],
                      .moment1 = at[MOMENT1],
                      .moment2 = at[MOMENT2],
                      .average = average ? at[AVERAGE] : NULL,
                      .grad = at[GRADIENT],
                      .n_blocks = BLOCKS,
                      .block_lr = at[RATES],
                      .block_decay = at[DECAYS],
                      .beta1 = 0.9F,
                      .beta2 = 0.99F,
                      .eps = 1e-3F,
                      .average_decay = 0.97F,
                      .update = at[UPDATE]};
}

static void adamw_moves_every_buffer_as_the_cpu(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        test_memory m = {0};
        const vg_update update = {
            .course = 0.5F, .clip = 0.7F, .steps = 2, .bias1 = 1 - 0.81, .bias2 = 1 - 0.9801, .skip = i / 2};
        pair x[N_BUFFERS];
        optimizer_of(&m, update, x);
        const vg_adamw cpu = arguments(x, false, i % 2), cuda = arguments(x, true, i % 2);
        assert_int_equal(vg_backend_cpu()->adamw(&host, &cpu), VG_OK);
        assert_int_equal(vg_backend_cuda()->adamw(&cuda_stream, &cuda), VG_OK);
        for (int k = 0; k < N_BUFFERS; k++) assert_same_and_free(&x[k]);
        release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_any_length_land_where_they_should),
        cmocka_unit_test(sums_of_squares_have_the_order_of_the_cpu),
        cmocka_unit_test(the_norm_adds_its_blocks_in_the_order_of_the_cpu_and_decides_alike),
        cmocka_unit_test(a_norm_that_is_not_finite_and_a_step_that_is_forbidden_are_skipped),
        cmocka_unit_test(adamw_moves_every_buffer_as_the_cpu),
    };
    cuda_open();
    return cmocka_run_group_tests_name("flat passes on the device", tests, NULL, NULL);
}
