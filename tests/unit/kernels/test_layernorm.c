/* Layer normalisation and its gradient against fp64. */
#define _DEFAULT_SOURCE /* setenv */
#include "tests/unit/kernels/kernel_test.h"

static const int64_t widths[] = {1, 7, 8, 16, 33, 96, 256, 384, 769};
enum { N_WIDTHS = sizeof widths / sizeof *widths, ROWS = 70 };

static vg_node norm_of(test_memory *m, int64_t width, bool res)
{
    vg_node n = {.op = VG_OP_layernorm, .n_in = 4, .n_out = 4, .attr.layernorm.eps = 1e-5F};
    n.in[0] = random_operand(m, VG_SHAPE(ROWS, width), 1);
    n.in[1] = random_operand(m, VG_SHAPE(width), 2);
    n.in[2] = random_operand(m, VG_SHAPE(width), 3);
    if (res) n.in[3] = random_operand(m, VG_SHAPE(ROWS, width), 4);
    for (int k = 0; k < (res ? 4 : 3); k++)
        n.out[k] = blank_operand(m, VG_F32, k == 1 || k == 2 ? VG_SHAPE(ROWS) : n.in[0].shape);
    return n;
}

static double summand(const vg_node *n, int64_t at)
{
    const float *x = n->in[0].data, *res = n->in[3].data;
    return res ? (double)(x[at] + res[at]) : (double)x[at];
}

/* Mean and 1/sd of a row, and the normalised values. */
static void reference_row(const vg_node *n, int64_t row, double *mean, double *rstd)
{
    const int64_t width = n->in[0].shape.dim[1];
    double squares = 0;
    *mean = 0;
    for (int64_t c = 0; c < width; c++) *mean += summand(n, row * width + c) / (double)width;
    for (int64_t c = 0; c < width; c++) squares += pow(summand(n, row * width + c) - *mean, 2) / (double)width;
    *rstd = 1 / sqrt(squares + (double)n->attr.layernorm.eps);
}

/* Sums of n terms in 8 or 16 lanes: eps of a term for each of n / 8 additions at most, and usually their root. */
static double tolerance_of(int64_t width)
{
    return 1e-6 * (4 + sqrt((double)width) / 4);
}

static void every_width_matches_fp64(void **state)
{
    (void)state;
    for (int k = 0; k < 2 * N_WIDTHS * N_ISAS; k++) {
        test_memory m = {0};
        const int64_t width = widths[k / 2 % N_WIDTHS];
        use_isa(k / 2 / N_WIDTHS);
        vg_node n = norm_of(&m, width, k % 2);
        run_node(&n, 2);
        const float *y = n.out[0].data, *gamma = n.in[1].data, *beta = n.in[2].data, *sum = n.out[3].data;
        for (int64_t r = 0; r < ROWS; r++) {
            double mean, rstd;
            reference_row(&n, r, &mean, &rstd);
            assert_near((double)((float *)n.out[1].data)[r], mean, tolerance_of(width));
            assert_near((double)((float *)n.out[2].data)[r] / rstd, 1, tolerance_of(width));
            for (int64_t c = 0; c < width; c++) {
                const double x = summand(&n, r * width + c), hat = (x - mean) * rstd;
                assert_near((double)y[r * width + c], hat * (double)gamma[c] + (double)beta[c],
                            tolerance_of(width) * (1 + fabs(hat * (double)gamma[c])));
                if (sum) assert_true((double)sum[r * width + c] == x);
            }
        }
        release(&m);
    }
}

static void a_large_mean_does_not_spoil_the_variance(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++) {
        test_memory m = {0};
        use_isa(isa);
        vg_node n = norm_of(&m, 384, false);
        for (int64_t i = 0; i < ROWS * 384; i++) ((float *)n.in[0].data)[i] += 1000;
        run_node(&n, 1);
        for (int64_t r = 0; r < ROWS; r++) {
            double mean, rstd;
            reference_row(&n, r, &mean, &rstd);
            assert_near((double)((float *)n.out[2].data)[r] / rstd, 1, 1e-4);
        }
        release(&m);
    }
}

static void what_is_not_wanted_is_left_out(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++) {
        test_memory m = {0};
        use_isa(isa);
        vg_node n = norm_of(&m, 100, true);
        run_node(&n, 1);
        vg_node bare = fresh_outputs(&m, &n);
        for (int k = 1; k < 4; k++) bare.out[k].data = NULL;
        run_node(&bare, 1);
        assert_memory_equal(bare.out[0].data, n.out[0].data, operand_bytes(&n.out[0]));
        release(&m);
    }
}

static void the_result_may_take_the_place_of_x_or_res(void **state)
{
    (void)state;
    for (int k = 0; k < 2 * N_ISAS; k++) {
        test_memory m = {0};
        use_isa(k / 2);
        vg_node n = norm_of(&m, 100, true);
        run_node(&n, 1);
        vg_node in_place = fresh_outputs(&m, &n);
        in_place.out[0].data = in_place.in[k % 2 ? 3 : 0].data;
        run_node(&in_place, 1);
        same_outputs(&n, &in_place);
        release(&m);
    }
}

/* --- gradient --- */

static vg_node gradient_of(test_memory *m, const vg_node *norm, bool acc)
{
    vg_node g = {.op = VG_OP_layernorm_grad, .n_in = 6, .n_out = 3};
    g.in[0] = random_operand(m, norm->in[0].shape, 8);
    g.in[1] = norm->in[3].data ? norm->out[3] : norm->in[0];
    g.in[2] = norm->in[1];
    g.in[3] = norm->out[1];
    g.in[4] = norm->out[2];
    if (acc) g.in[5] = random_operand(m, norm->in[0].shape, 9);
    g.out[0] = blank_operand(m, VG_F32, norm->in[0].shape);
    g.out[1] = blank_operand(m, VG_F32, norm->in[1].shape);
    g.out[2] = blank_operand(m, VG_F32, norm->in[1].shape);
    return g;
}

static void compare_gradient(const vg_node *n, const vg_node *g)
{
    const int64_t width = n->in[0].shape.dim[1];
    const float *dy = g->in[0].data, *gamma = g->in[2].data, *acc = g->in[5].data, *dx = g->out[0].data;
    double *dgamma = vg_new0_array((size_t)width, sizeof *dgamma), *dbeta = vg_new0_array((size_t)width, sizeof *dbeta);
    for (int64_t r = 0; r < ROWS; r++) {
        double mean, rstd, sum = 0, along = 0;
        reference_row(n, r, &mean, &rstd);
        for (int64_t c = 0; c < width; c++) {
            const double d = (double)dy[r * width + c], hat = (summand(n, r * width + c) - mean) * rstd;
            sum += d * (double)gamma[c] / (double)width;
            along += d * (double)gamma[c] * hat / (double)width;
            dgamma[c] += d * hat;
            dbeta[c] += d;
        }
        for (int64_t c = 0; c < width && width > 1; c++) {
            const double d = (double)dy[r * width + c], hat = (summand(n, r * width + c) - mean) * rstd;
            const double expected = (d * (double)gamma[c] - sum - hat * along) * rstd;
            assert_near((double)dx[r * width + c], expected + (acc ? (double)acc[r * width + c] : 0),
                        tolerance_of(width) * (4 + 2 * rstd));
        }
    }
    for (int64_t c = 0; c < width; c++) {
        assert_near((double)((float *)g->out[1].data)[c], dgamma[c], 2e-5);
        assert_near((double)((float *)g->out[2].data)[c], dbeta[c], 2e-5);
    }
    free(dgamma);
    free(dbeta);
}

static void every_gradient_matches_fp64(void **state)
{
    (void)state;
    for (int k = 0; k < 2 * N_WIDTHS * N_ISAS; k++) {
        test_memory m = {0};
        use_isa(k / 2 / N_WIDTHS);
        vg_node n = norm_of(&m, widths[k / 2 % N_WIDTHS], k % 2);
        run_node(&n, 1);
        vg_node g = gradient_of(&m, &n, k % 2);
        run_node(&g, 2);
        compare_gradient(&n, &g);
        release(&m);
    }
}

static void parameter_gradients_accumulate_on_request(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++) {
        test_memory m = {0};
        use_isa(isa);
        vg_node n = norm_of(&m, 33, false);
        run_node(&n, 1);
        vg_node g = gradient_of(&m, &n, false);
        run_node(&g, 1);
        vg_node twice = g;
        for (int k = 1; k < 3; k++) twice.out[k] = random_operand(&m, g.out[k].shape, 9);
        float before[2][33];
        for (int k = 0; k < 2; k++) memcpy(before[k], twice.out[1 + k].data, sizeof before[k]);
        twice.accumulate = true;
        run_node(&twice, 1);
        for (int k = 0; k < 2; k++)
            for (int c = 0; c < 33; c++)
                assert_true(((float *)twice.out[1 + k].data)[c] == before[k][c] + ((float *)g.out[1 + k].data)[c]);
        release(&m);
    }
}

static void bits_do_not_depend_on_the_thread_count(void **state)
{
    (void)state;
    for (int k = 0; k < N_WIDTHS * N_ISAS; k++) {
        test_memory m = {0};
        use_isa(k / N_WIDTHS);
        vg_node n = norm_of(&m, widths[k % N_WIDTHS], true);
        run_node(&n, 1);
        vg_node n3 = fresh_outputs(&m, &n);
        run_node(&n3, 3);
        same_outputs(&n, &n3);
        vg_node g = gradient_of(&m, &n, false), g3 = fresh_outputs(&m, &g);
        run_node(&g, 1);
        run_node(&g3, 3);
        same_outputs(&g, &g3);
        release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_matches_fp64),
        cmocka_unit_test(a_large_mean_does_not_spoil_the_variance),
        cmocka_unit_test(what_is_not_wanted_is_left_out),
        cmocka_unit_test(the_result_may_take_the_place_of_x_or_res),
        cmocka_unit_test(every_gradient_matches_fp64),
        cmocka_unit_test(parameter_gradients_accumulate_on_request),
        cmocka_unit_test(bits_do_not_depend_on_the_thread_count),
    };
    return cmocka_run_group_tests_name("layernorm", tests, NULL, NULL);
}
