/* The alignment loss against fp64. */
#define _DEFAULT_SOURCE /* setenv */
#include "tests/unit/kernels/kernel_test.h"

enum { IMAGES = 3, SLOTS = 5, GRID_H = 3, GRID_W = 4, CELLS = GRID_H * GRID_W, WIDTH = 285, TARGETS = 3 };

/* The second image has no slot, slot 3 is empty, slot 4 has no box. */
static const int32_t image_of[SLOTS] = {0, 0, 2, 2, 2}, n_targets[SLOTS] = {1, 3, 2, 1, 0};
static const int32_t filled[SLOTS] = {1, 1, 1, 0, 1};
static const float weight = 0.7F;

static vg_node loss_of(test_memory *m)
{
    vg_node n = {.op = VG_OP_align_loss, .n_in = 9, .n_out = 5, .attr.align = {.gh = GRID_H, .gw = GRID_W}};
    n.in[0] = random_operand(m, VG_SHAPE(IMAGES, CELLS, WIDTH), 1);
    n.in[1] = random_operand(m, VG_SHAPE(SLOTS, 1, WIDTH), 2);
    n.in[2] = random_operand(m, VG_SHAPE(1), 3);
    n.in[3] = random_operand(m, VG_SHAPE(1), 4);
    ((float *)n.in[2].data)[0] = 1.5F;
    n.in[4] = random_operand(m, VG_SHAPE(SLOTS, TARGETS, 4), 5);
    vg_fill_uniform(n.in[4].data, SLOTS * TARGETS * 4, vg_rng_key_of(5, 5), 0.2F, 0.8F);
    n.in[5] = int_operand(m, VG_SHAPE(SLOTS), n_targets);
    n.in[6] = int_operand(m, VG_SHAPE(SLOTS), filled);
    n.in[7] = int_operand(m, VG_SHAPE(SLOTS), image_of);
    n.in[8] = random_operand(m, VG_SHAPE(8), 6);
    ((float *)n.in[8].data)[4] = weight;
    n.out[0] = blank_operand(m, VG_F64, VG_SHAPE(SLOTS));
    for (int k = 0; k < 4; k++) n.out[1 + k] = blank_operand(m, VG_F32, n.in[k].shape);
    return n;
}

static double norm_of(const float *x)
{
    double sum = 0;
    for (int c = 0; c < WIDTH; c++) sum += (double)x[c] * (double)x[c];
    return fmax(sqrt(sum), 1e-12);
}

/* Length that [lo, hi] and a box's extent share. */
static double shared(double lo, double hi, double centre, double size)
{
    return fmax(fmin(hi, centre + size / 2) - fmax(lo, centre - size / 2), 0);
}

static double covered(const vg_node *n, int b, int p)
{
    double sum = 0;
    for (int t = 0; t < n_targets[b]; t++) {
        const float *box = (const float *)n->in[4].data + (b * TARGETS + t) * 4;
        const double x = p % GRID_W, y = (double)(p / GRID_W);
        sum += shared(x / GRID_W, (x + 1) / GRID_W, (double)box[0], (double)box[2]) * GRID_W *
               shared(y / GRID_H, (y + 1) / GRID_H, (double)box[1], (double)box[3]) * GRID_H;
    }
    return fmin(sum, 1);
}

static double reference_part(const vg_node *n, int b)
{
    const float *u = (const float *)n->in[1].data + b * WIDTH;
    double mean = 0;
    for (int p = 0; p < CELLS && filled[b]; p++) {
        const float *a = (const float *)n->in[0].data + (image_of[b] * CELLS + p) * WIDTH;
        double dot = 0;
        for (int c = 0; c < WIDTH; c++) dot += (double)a[c] * (double)u[c];
        const double score = exp((double)*(const float *)n->in[2].data) * dot / norm_of(a) / norm_of(u) +
                             (double)*(const float *)n->in[3].data;
        const double target = covered(n, b, p);
        mean += (target * log1p(exp(-score)) + (1 - target) * log1p(exp(score))) / CELLS;
    }
    return mean;
}

static double reference_loss(const vg_node *n)
{
    double sum = 0;
    for (int b = 0; b < SLOTS; b++) sum += reference_part(n, b);
    return (double)weight * sum;
}

static void parts_match_fp64(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m);
    run_node(&n, 2);
    for (int b = 0; b < SLOTS; b++) assert_near(((double *)n.out[0].data)[b], reference_part(&n, b), 3e-6);
    release(&m);
}

static void gradients_match_finite_differences(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m);
    run_node(&n, 2);
    for (int k = 0; k < 4; k++) {
        float *x = n.in[k].data;
        for (int64_t i = 0; i < vg_shape_count(&n.in[k].shape); i += 13) {
            const float old = x[i];
            x[i] = old + 0x1p-9F;
            double slope = reference_loss(&n);
            const double high = (double)x[i];
            x[i] = old - 0x1p-9F;
            slope = (slope - reference_loss(&n)) / (high - (double)x[i]);
            x[i] = old;
            assert_near((double)((float *)n.out[1 + k].data)[i], slope, 2e-5);
        }
    }
    release(&m);
}

static void a_vector_of_zeros_is_no_accident(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m);
    memset(n.in[0].data, 0, WIDTH * sizeof(float));
    memset((float *)n.in[1].data + WIDTH, 0, WIDTH * sizeof(float));
    run_node(&n, 1);
    for (int k = 1; k < 5; k++)
        for (int64_t i = 0; i < vg_shape_count(&n.out[k].shape); i++)
            assert_true(isfinite(((float *)n.out[k].data)[i]));
    release(&m);
}

static void parameter_gradients_accumulate_on_request(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m);
    run_node(&n, 1);
    const float once = *(float *)n.out[3].data, shift = *(float *)n.out[4].data;
    n.accumulate = true;
    run_node(&n, 1);
    assert_true(*(float *)n.out[3].data == once + once && *(float *)n.out[4].data == shift + shift);
    release(&m);
}

static void bits_do_not_depend_on_the_thread_count_or_on_what_is_wanted(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m), n3 = fresh_outputs(&m, &n);
    run_node(&n, 1);
    run_node(&n3, 3);
    same_outputs(&n, &n3);
    for (int only = 0; only < 5; only++) {
        vg_node one = one_output(&m, &n, only);
        run_node(&one, 1);
        same_outputs(&one, &n);
    }
    release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_match_fp64),
        cmocka_unit_test(gradients_match_finite_differences),
        cmocka_unit_test(a_vector_of_zeros_is_no_accident),
        cmocka_unit_test(parameter_gradients_accumulate_on_request),
        cmocka_unit_test(bits_do_not_depend_on_the_thread_count_or_on_what_is_wanted),
    };
    return cmocka_run_group_tests_name("align_loss", tests, NULL, NULL);
}
