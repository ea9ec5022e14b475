/* Passes over flat parameter ranges. */
#include "kernels/backend.h"
#include "kernels/params.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 37, COUNT = BLOCKS * VG_PARAM_BLOCK };

static float *random_floats(int64_t n, uint64_t purpose)
{
    float *x = vg_new0_array((size_t)n, sizeof *x);
    assert_non_null(x);
    vg_fill_normal(x, n, vg_rng_key_of(13, purpose), 0, 1);
    return x;
}

static void a_sum_takes_any_length_and_may_land_on_its_first_part(void **state)
{
    (void)state;
    const vg_backend *cpu = vg_backend_cpu();
    float *a = random_floats(COUNT, 1), *b = random_floats(COUNT, 2), *dst = random_floats(COUNT, 3);
    const int64_t lengths[] = {0, 1, 15, 1024, 16384, 16385, COUNT - 1};
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
        for (int n_threads = 1; n_threads < 4; n_threads++) {
            vg_stream stream = {.n_threads = n_threads};
            float *in_place = random_floats(COUNT, 1);
            const float behind = dst[lengths[l]];
            cpu->sum(&stream, dst, a, b, lengths[l]);
            cpu->sum(&stream, in_place, in_place, b, lengths[l]);
            for (int64_t i = 0; i < lengths[l]; i++) assert_true(dst[i] == a[i] + b[i]);
            assert_memory_equal(dst, in_place, (size_t)lengths[l] * sizeof(float));
            assert_true(dst[lengths[l]] == behind);
            free(in_place);
        }
    free(a);
    free(b);
    free(dst);
}

static void sums_of_squares_are_exact_to_fp64_and_the_same_for_any_threads(void **state)
{
    (void)state;
    const vg_backend *cpu = vg_backend_cpu();
    float *x = random_floats(COUNT, 1);
    double one[BLOCKS], many[BLOCKS];
    cpu->sum_squares(&(vg_stream){.n_threads = 1}, x, BLOCKS, one);
    for (int n_threads = 2; n_threads < 5; n_threads++) {
        cpu->sum_squares(&(vg_stream){.n_threads = n_threads}, x, BLOCKS, many);
        assert_memory_equal(one, many, sizeof one);
    }
    for (int b = 0; b < BLOCKS; b++) {
        long double sum = 0;
        for (int i = 0; i < VG_PARAM_BLOCK; i++) {
            const long double v = (long double)x[b * VG_PARAM_BLOCK + i];
            sum += v * v;
        }
        assert_true(fabsl(sum - (long double)one[b]) < 64 * (long double)DBL_EPSILON * sum);
    }
    x[5] = NAN;
    cpu->sum_squares(&(vg_stream){.n_threads = 1}, x, BLOCKS, one);
    assert_true(isnan(one[0]) && !isnan(one[1]));
    free(x);
}

/* Buffers of one optimizer. */
typedef struct optimizer {
    float *p, *m, *v, *average, *grad, lr[BLOCKS], decay[BLOCKS];
    vg_update update;
} optimizer;

static optimizer optimizer_new(void)
{
    optimizer o = {.p = random_floats(COUNT, 1),
                   .m = random_floats(COUNT, 2),
                   .v = random_floats(COUNT, 3),
                   .average = random_floats(COUNT, 4),
                   .grad = random_floats(COUNT, 5),
                   .update = {.course = 0.5F, .clip = 0.7F, .steps = 2, .bias1 = 1 - 0.81, .bias2 = 1 - 0.998001}};
    for (int i = 0; i < COUNT; i++) o.v[i] = o.v[i] * o.v[i];
    for (int b = 0; b < BLOCKS; b++) {
        o.lr[b] = 1e-3F * (float)(b + 1);
        o.decay[b] = b % 2 ? 0.05F : 0.0F;
    }
    return o;
}

static void optimizer_free(optimizer *o)
{
    float *all[] = {o->p, o->m, o->v, o->average, o->grad};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static vg_adamw arguments(const optimizer *o)
{
    return (vg_adamw){.param = o->p,
                      .moment1 = o->m,
                      .moment2 = o->v,
                      .average = o->average,
                      .grad = o->grad,
                      .n_blocks = BLOCKS,
                      .block_lr = o->lr,
                      .block_decay = o->decay,
                      .beta1 = 0.9F,
                      .beta2 = 0.999F,
                      .eps = 1e-8F,
                      .average_decay = 0.99F,
                      .update = &o->update};
}

static void adamw_follows_its_formula(void **state)
{
    (void)state;
    optimizer o = optimizer_new(), before = optimizer_new();
    const vg_adamw a = arguments(&o);
    vg_backend_cpu()->adamw(&(vg_stream){.n_threads = 2}, &a);
    for (int i = 0; i < COUNT; i++) {
        const int block = i / VG_PARAM_BLOCK;
        const double lr = 0.5 * (double)o.lr[block], g = (double)before.grad[i] * (double)a.update->clip;
        const double m = (double)a.beta1 * (double)before.m[i] + (1 - (double)a.beta1) * g;
        const double v = (double)a.beta2 * (double)before.v[i] + (1 - (double)a.beta2) * g * g;
        const double p = (double)before.p[i] * (1 - lr * (double)o.decay[block]) -
                         lr / a.update->bias1 * m / (sqrt(v) / sqrt(a.update->bias2) + (double)a.eps);
        const double average = (double)a.average_decay * (double)before.average[i] + (1 - (double)a.average_decay) * p;
        const double tolerance = 1e-6; /* a handful of roundings of numbers below 4 */
        assert_true(fabs((double)o.m[i] - m) < tolerance);
        assert_true(fabs((double)o.v[i] - v) < 4 * tolerance);
        assert_true(fabs((double)o.p[i] - p) < 2 * tolerance);
        assert_true(fabs((double)o.average[i] - average) < 2 * tolerance);
    }
    optimizer_free(&o);
    optimizer_free(&before);
}

static void adamw_bits_do_not_depend_on_the_thread_count(void **state)
{
    (void)state;
    optimizer one = optimizer_new(), many = optimizer_new();
    const vg_adamw a = arguments(&one), b = arguments(&many);
    vg_backend_cpu()->adamw(&(vg_stream){.n_threads = 1}, &a);
    vg_backend_cpu()->adamw(&(vg_stream){.n_threads = 3}, &b);
    assert_memory_equal(one.p, many.p, COUNT * sizeof(float));
    assert_memory_equal(one.m, many.m, COUNT * sizeof(float));
    assert_memory_equal(one.v, many.v, COUNT * sizeof(float));
    assert_memory_equal(one.average, many.average, COUNT * sizeof(float));
    optimizer_free(&one);
    optimizer_free(&many);
}

static void adamw_without_an_average_moves_the_parameters_alike(void **state)
{
    (void)state;
    optimizer one = optimizer_new(), other = optimizer_new();
    const vg_adamw a = arguments(&one);
    vg_adamw b = arguments(&other);
    b.average = NULL;
    vg_backend_cpu()->adamw(&(vg_stream){.n_threads = 1}, &a);
    vg_backend_cpu()->adamw(&(vg_stream){.n_threads = 1}, &b);
    assert_memory_equal(one.p, other.p, COUNT * sizeof(float));
    assert_memory_not_equal(one.average, other.average, COUNT * sizeof(float));
    optimizer_free(&one);
    optimizer_free(&other);
}

static void a_skipped_step_changes_nothing(void **state)
{
    (void)state;
    optimizer o = optimizer_new(), before = optimizer_new();
    o.update.skip = 1;
    const vg_adamw a = arguments(&o);
    assert_int_equal(vg_backend_cpu()->adamw(&(vg_stream){.n_threads = 1}, &a), VG_OK);
    assert_memory_equal(o.p, before.p, COUNT * sizeof(float));
    assert_memory_equal(o.m, before.m, COUNT * sizeof(float));
    assert_memory_equal(o.v, before.v, COUNT * sizeof(float));
    assert_memory_equal(o.average, before.average, COUNT * sizeof(float));
    optimizer_free(&o);
    optimizer_free(&before);
}

/* What a step decides from these sums of squares. */
static vg_update decide(const double *sums, int64_t n, double clip_norm, vg_update update)
{
    const vg_grad_norm norm = {
        .block_sums = sums, .n_blocks = n, .clip_norm = clip_norm, .beta1 = 0.9, .beta2 = 0.999, .update = &update};
    assert_int_equal(vg_backend_cpu()->norm(&(vg_stream){.n_threads = 1}, &norm), VG_OK);
    return update;
}

static void the_norm_decides_on_clip_factor_bias_and_skip(void **state)
{
    (void)state;
    const double sums[] = {9, 0, 16}, broken[] = {1, NAN, 1}, endless[] = {INFINITY};
    const vg_update u = decide(sums, 3, 0.1, (vg_update){.steps = 1});
    assert_true(u.norm == 5 && !u.skip && u.steps == 2 && u.clip == (float)(0.1 / (5 + 1e-6)));
    assert_true(fabs(u.bias1 - (1 - 0.81)) < 1e-15 && fabs(u.bias2 - (1 - 0.998001)) < 1e-15);
    assert_true(decide(sums, 3, 0, (vg_update){0}).clip == 1);
    assert_true(decide(sums, 3, 6, (vg_update){0}).clip == 1);
    const vg_update nan = decide(broken, 3, 0.1, (vg_update){.steps = 7});
    assert_true(nan.skip && nan.steps == 7 && isnan(nan.norm));
    assert_true(decide(endless, 1, 0.1, (vg_update){0}).skip);
    const vg_update told = decide(sums, 3, 0.1, (vg_update){.skip = 1, .steps = 7});
    assert_true(told.skip && told.steps == 7 && told.norm == 5);
}

static void adamw_leaves_padding_at_zero(void **state)
{
    (void)state;
    optimizer o = optimizer_new();
    float zeros[VG_PARAM_BLOCK] = {0};
    memset(o.p, 0, sizeof zeros);
    memset(o.m, 0, sizeof zeros);
    memset(o.v, 0, sizeof zeros);
    memset(o.grad, 0, sizeof zeros);
    const vg_adamw a = arguments(&o);
    vg_backend_cpu()->adamw(&(vg_stream){.n_threads = 1}, &a);
    for (int i = 0; i < VG_PARAM_BLOCK; i++) assert_true(o.p[i] == 0 && o.m[i] == 0 && o.v[i] == 0);
    optimizer_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sum_takes_any_length_and_may_land_on_its_first_part),
        cmocka_unit_test(sums_of_squares_are_exact_to_fp64_and_the_same_for_any_threads),
        cmocka_unit_test(adamw_follows_its_formula),
        cmocka_unit_test(adamw_bits_do_not_depend_on_the_thread_count),
        cmocka_unit_test(adamw_without_an_average_moves_the_parameters_alike),
        cmocka_unit_test(a_skipped_step_changes_nothing),
        cmocka_unit_test(the_norm_decides_on_clip_factor_bias_and_skip),
        cmocka_unit_test(adamw_leaves_padding_at_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
