/* Matrix products on every instruction set this machine has, against fp64. */
#define _DEFAULT_SOURCE /* setenv */
#include "kernels/cpu/gemm_impl.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const isas[] = {"base", "avx2", "avx512"};
enum { N_ISAS = sizeof isas / sizeof *isas };

static vg_rng_key key(uint64_t purpose)
{
    return vg_rng_key_of(7, purpose);
}

static float *random_floats(int64_t n, uint64_t purpose)
{
    float *x = vg_new0_array((size_t)n, sizeof *x);
    assert_non_null(x);
    vg_fill_normal(x, n, key(purpose), 0, 1);
    return x;
}

static void run(const vg_gemm *g, int n_threads)
{
    void *workspace = aligned_alloc(64, vg_round_up(vg_gemm_workspace(g, n_threads), 64));
    assert_non_null(workspace);
    memset(workspace, 0xff, vg_gemm_workspace(g, n_threads)); /* NaN: nothing may be read before it is written */
    const vg_stream stream = {.n_threads = n_threads};
    vg_gemm_run(&stream, g, workspace);
    free(workspace);
}

static double element(const vg_gemm *g, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t k = 0; k < g->k; k++) {
        const double a = (double)g->a[i * g->a_row + k * g->a_step] * (g->a_scale ? (double)g->a_scale[k] : 1);
        sum += a * (double)g->b[j * g->b_column + k * g->b_step];
    }
    return sum;
}

/* A partial sum of j products is about sqrt(j), its rounding half an eps of that: k of them walk about eps * k / 4. The
 * constant is for the largest of a few products. */
static double tolerance_of(int64_t k)
{
    return (double)FLT_EPSILON * (double)(32 + 2 * k);
}

/* Operands of standard normals for one of the four layouts. */
typedef struct problem {
    vg_gemm g;
    float *a, *b, *c;
} problem;

static problem problem_new(int64_t m, int64_t n, int64_t k, bool a_across, bool b_across)
{
    problem p = {.a = random_floats(m * k, 1), .b = random_floats(n * k, 2), .c = random_floats(m * n, 3)};
    p.g = (vg_gemm){.m = m, .n = n, .k = k, .a = p.a, .b = p.b, .finish = {.c = p.c}};
    p.g.a_row = a_across ? 1 : k;
    p.g.a_step = a_across ? m : 1;
    p.g.b_column = b_across ? 1 : k;
    p.g.b_step = b_across ? n : 1;
    return p;
}

static void problem_free(problem *p)
{
    free(p->a);
    free(p->b);
    free(p->c);
}

static void every_layout_and_ragged_shape_matches_fp64(void **state)
{
    (void)state;
    for (int trial = 0; trial < 60; trial++) {
        uint32_t r[4];
        vg_rng_block(key(4), (uint64_t)trial, 0, 0, r);
        const int64_t m = 1 + r[0] % 70, n = 1 + r[1] % 70, k = trial % 10 ? 1 + r[2] % 70 : 500 + r[2] % 70;
        problem p = problem_new(m, n, k, trial & 1, trial & 2);
        float *scale = random_floats(k, 5);
        if (trial % 3 == 0) p.g.a_scale = scale;
        const double tolerance = tolerance_of(k);
        for (int isa = 0; isa < N_ISAS; isa++) {
            setenv("VLGTR_ISA", isas[isa], 1);
            memset(p.c, 0xff, (size_t)(m * n) * sizeof(float));
            run(&p.g, 1 + trial % 3);
            for (int64_t i = 0; i < m; i++)
                for (int64_t j = 0; j < n; j++)
                    assert_true(fabs((double)p.c[i * n + j] - element(&p.g, i, j)) < tolerance);
        }
        free(scale);
        problem_free(&p);
    }
}

static void a_sum_longer_than_a_span_matches_fp64(void **state)
{
    (void)state;
    problem p = problem_new(33, 35, 9001, true, true);
    for (int isa = 0; isa < N_ISAS; isa++) {
        setenv("VLGTR_ISA", isas[isa], 1);
        run(&p.g, 2);
        for (int64_t i = 0; i < p.g.m; i++)
            for (int64_t j = 0; j < p.g.n; j++)
                assert_true(fabs((double)p.c[i * p.g.n + j] - element(&p.g, i, j)) <
                            tolerance_of(VG_GEMM_RUN) * sqrt(9001.0 / VG_GEMM_RUN) * 2);
    }
    problem_free(&p);
}

static void assert_same_on_any_threads(int64_t m, int64_t n, int64_t k, bool a_across, bool b_across)
{
    const size_t bytes = (size_t)(m * n) * sizeof(float);
    problem p = problem_new(m, n, k, a_across, b_across);
    float *one = random_floats(m * n, 6);
    p.g.finish.c = one;
    run(&p.g, 1);
    p.g.finish.c = p.c;
    for (int n_threads = 2; n_threads <= 6; n_threads++) {
        memset(p.c, 0xff, bytes);
        run(&p.g, n_threads);
        assert_memory_equal(p.c, one, bytes);
    }
    free(one);
    problem_free(&p);
}

/* One run of a sum, several, several spans; and more rows than are packed at a time. */
static void bits_do_not_depend_on_the_thread_count(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++) {
        setenv("VLGTR_ISA", isas[isa], 1);
        for (int layout = 0; layout < 4; layout++) {
            for (int64_t k = 70; k < 8000; k *= 10) assert_same_on_any_threads(61, 100, k, layout & 1, layout & 2);
            assert_same_on_any_threads(600, 70, 400, layout & 1, layout & 2);
        }
    }
}

static void bits_of_a_row_do_not_depend_on_the_rows_around_it(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++) {
        setenv("VLGTR_ISA", isas[isa], 1);
        const int64_t m = 50, n = 37, k = 300;
        problem p = problem_new(m, n, k, false, false);
        run(&p.g, 1);
        for (int64_t i = 0; i < m; i++) {
            float row[37];
            vg_gemm alone = p.g;
            alone.m = 1;
            alone.a = p.a + i * k;
            alone.finish.c = row;
            run(&alone, 1);
            assert_memory_equal(row, p.c + i * n, sizeof row);
        }
        problem_free(&p);
    }
}

static void bits_of_a_column_do_not_depend_on_the_columns_around_it(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++) {
        setenv("VLGTR_ISA", isas[isa], 1);
        const int64_t m = 5, n = 50, k = 300;
        problem p = problem_new(m, n, k, false, false);
        run(&p.g, 1);
        for (int64_t j = 0; j < n; j++) {
            float column[5];
            vg_gemm alone = p.g;
            alone.n = 1;
            alone.b = p.b + j * k;
            alone.finish.c = column;
            run(&alone, 1);
            for (int64_t i = 0; i < m; i++) assert_memory_equal(column + i, p.c + i * n + j, sizeof(float));
        }
        problem_free(&p);
    }
}

/* Products too small for a float leave -0, in tiles at the edge and in whole ones, which are finished otherwise. */
static void bits_of_a_zero_do_not_depend_on_its_place(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++) {
        setenv("VLGTR_ISA", isas[isa], 1);
        problem p = problem_new(49, 50, 3, false, true);
        for (int e = 0; e < 49 * 3; e++) p.a[e] = 1e-30F;
        for (int e = 0; e < 50 * 3; e++) p.b[e] = -1e-30F;
        run(&p.g, 1);
        for (int e = 0; e < 49 * 50; e++) assert_memory_equal(p.c + e, p.c, sizeof(float));
        problem_free(&p);
    }
}

static void a_packed_operand_changes_no_bit(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++) {
        setenv("VLGTR_ISA", isas[isa], 1);
        problem p = problem_new(29, 83, 310, false, isa & 1);
        float *plain = random_floats(29 * 83, 6);
        float *packed = vg_new0(vg_gemm_packed_bytes(83, 310));
        run(&p.g, 2);
        memcpy(plain, p.c, 29 * 83 * sizeof(float));
        vg_gemm_pack(&p.g, packed);
        p.g.packed = packed;
        p.g.b = NULL;
        memset(p.c, 0xff, 29 * 83 * sizeof(float));
        run(&p.g, 2);
        assert_memory_equal(p.c, plain, 29 * 83 * sizeof(float));
        free(packed);
        free(plain);
        problem_free(&p);
    }
}

static double normal(double x)
{
    return 0.5 * erfc(-x / sqrt(2.0));
}

static double act(vg_act a, double z)
{
    switch (a) {
    case VG_ACT_RELU: return z > 0 ? z : 0;
    case VG_ACT_GELU: return z * normal(z);
    case VG_ACT_SIGMOID: return 1 / (1 + exp(-z));
    default: return z;
    }
}

static void a_finish_does_what_the_formula_says(void **state)
{
    (void)state;
    const int64_t m = 19, n = 45, k = 30;
    problem p = problem_new(m, n, k, false, false);
    float *add = random_floats(m * n, 6), *bias = random_floats(n, 7), *scale = random_floats(n, 8);
    float *z = random_floats(m * n, 9);
    for (int isa = 0; isa < N_ISAS; isa++)
        for (int bits = 0; bits < 16; bits++)
            for (vg_act a = VG_ACT_NONE; a <= VG_ACT_SIGMOID; a++) {
                setenv("VLGTR_ISA", isas[isa], 1);
                p.g.finish = (vg_gemm_finish){.c = p.c,
                                              .z = bits & 8 ? z : NULL,
                                              .add = bits & 4 ? add : NULL,
                                              .bias = bits & 2 ? bias : NULL,
                                              .scale = bits & 1 ? scale : NULL,
                                              .act = a};
                run(&p.g, 2);
                for (int64_t e = 0; e < m * n; e++) {
                    const double sum = element(&p.g, e / n, e % n) + (bits & 2 ? (double)bias[e % n] : 0);
                    const double y = act(a, sum) * (bits & 1 ? (double)scale[e % n] : 1);
                    assert_true(fabs((double)p.c[e] - (y + (bits & 4 ? (double)add[e] : 0))) < 2e-5);
                    if (bits & 8) assert_true(fabs((double)z[e] - sum) < 2e-5);
                }
            }
    free(add);
    free(bias);
    free(scale);
    free(z);
    problem_free(&p);
}

static void the_sum_may_be_added_in_place(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++) {
        setenv("VLGTR_ISA", isas[isa], 1);
        problem p = problem_new(15, 33, 5000, true, true);
        float *before = random_floats(15 * 33, 3); /* the same numbers as c */
        p.g.finish.add = p.c;
        run(&p.g, 2);
        for (int64_t e = 0; e < 15 * 33; e++)
            assert_true(fabs((double)p.c[e] - (double)before[e] - element(&p.g, e / 33, e % 33)) < 2e-4);
        free(before);
        problem_free(&p);
    }
}

#if defined(__x86_64__)
static void the_vector_widths_agree_bit_for_bit(void **state)
{
    (void)state;
    setenv("VLGTR_ISA", "avx512", 1);
    if (vg_gemm_isa_get() != &vg_gemm_avx512) skip();
    problem p = problem_new(40, 50, 700, false, true);
    float *wide = random_floats(40 * 50, 6);
    for (vg_act a = VG_ACT_NONE; a <= VG_ACT_SIGMOID; a++) {
        p.g.finish = (vg_gemm_finish){.c = wide, .act = a};
        setenv("VLGTR_ISA", "avx512", 1);
        run(&p.g, 1);
        p.g.finish.c = p.c;
        setenv("VLGTR_ISA", "avx2", 1);
        run(&p.g, 1);
        assert_memory_equal(p.c, wide, 40 * 50 * sizeof(float));
    }
    free(wide);
    problem_free(&p);
}
#endif

/* A product with the number one applies the activation to a list of numbers. */
static void activate_list(vg_act a, const float *x, float *y, int64_t n)
{
    const float one = 1;
    const vg_gemm g = {.m = n,
                       .n = 1,
                       .k = 1,
                       .a = x,
                       .a_row = 1,
                       .a_step = 1,
                       .b = &one,
                       .b_column = 1,
                       .b_step = 1,
                       .finish = {.c = y, .act = a}};
    run(&g, 1);
}

static void activations_are_exact_to_a_few_parts_in_ten_million(void **state)
{
    (void)state;
    enum { N = 40001 };
    float *x = random_floats(N, 1), *y = random_floats(N, 2);
    for (int i = 0; i < N; i++) x[i] = -20.0F + 40.0F * (float)i / (N - 1);
    for (int isa = 0; isa < N_ISAS; isa++) {
        setenv("VLGTR_ISA", isas[isa], 1);
        activate_list(VG_ACT_GELU, x, y, N);
        for (int i = 0; i < N; i++)
            assert_true(fabs((double)y[i] - act(VG_ACT_GELU, (double)x[i])) <
                        1.5e-7 * fmax(1, fabs((double)x[i]))); /* z times a distribution good to 1e-7 */
        activate_list(VG_ACT_SIGMOID, x, y, N);
        for (int i = 0; i < N; i++) {
            const double exact = act(VG_ACT_SIGMOID, (double)x[i]);
            assert_true(fabs((double)y[i] - exact) < 1e-6 * exact);
        }
    }
    free(x);
    free(y);
}

static void not_a_number_stays_one(void **state)
{
    (void)state;
    const float x[3] = {NAN, INFINITY, -INFINITY};
    float y[3];
    for (int isa = 0; isa < N_ISAS; isa++) {
        setenv("VLGTR_ISA", isas[isa], 1);
        for (vg_act a = VG_ACT_NONE; a <= VG_ACT_SIGMOID; a++) {
            activate_list(a, x, y, 3);
            assert_true(isnan(y[0]));
        }
        activate_list(VG_ACT_SIGMOID, x, y, 3);
        assert_true(y[1] == 1.0F && y[2] >= 0 && y[2] < 1e-30F);
        activate_list(VG_ACT_GELU, x, y, 3);
        assert_true(isinf(y[1]));
    }
}

static void fewer_rows_need_no_more_memory(void **state)
{
    (void)state;
    const float packed = 0;
    for (int isa = 0; isa < N_ISAS; isa++)
        for (int trial = 0; trial < 8; trial++) {
            setenv("VLGTR_ISA", isas[isa], 1);
            vg_gemm g = {.n = 100, .k = trial & 4 ? 2000 : 300, .a_step = trial & 2 ? 7 : 1, .b_step = 1};
            if (trial & 1) g.packed = &packed;
            size_t before = 0;
            for (g.m = 1; g.m < 1200; g.m++) {
                const size_t bytes = vg_gemm_workspace(&g, 2);
                assert_true(bytes >= before);
                before = bytes;
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_and_ragged_shape_matches_fp64),
        cmocka_unit_test(a_sum_longer_than_a_span_matches_fp64),
        cmocka_unit_test(bits_do_not_depend_on_the_thread_count),
        cmocka_unit_test(bits_of_a_row_do_not_depend_on_the_rows_around_it),
        cmocka_unit_test(bits_of_a_column_do_not_depend_on_the_columns_around_it),
        cmocka_unit_test(bits_of_a_zero_do_not_depend_on_its_place),
        cmocka_unit_test(a_packed_operand_changes_no_bit),
        cmocka_unit_test(fewer_rows_need_no_more_memory),
        cmocka_unit_test(a_finish_does_what_the_formula_says),
        cmocka_unit_test(the_sum_may_be_added_in_place),
#if defined(__x86_64__)
        cmocka_unit_test(the_vector_widths_agree_bit_for_bit),
#endif
        cmocka_unit_test(activations_are_exact_to_a_few_parts_in_ten_million),
        cmocka_unit_test(not_a_number_stays_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
