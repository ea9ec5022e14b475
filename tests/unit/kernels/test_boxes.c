/* GIoU and its gradient against fp64. */
#define _DEFAULT_SOURCE /* setenv */
#include "kernels/cpu/boxes_impl.h"
#include "tests/unit/kernels/kernel_test.h"

static double giou(const double a[4], const double b[4])
{
    double hull = 1, shared = 1;
    for (int k = 0; k < 2; k++) {
        const double a1 = a[k] - a[2 + k] / 2, a2 = a[k] + a[2 + k] / 2;
        const double b1 = b[k] - b[2 + k] / 2, b2 = b[k] + b[2 + k] / 2;
        shared *= fmax(fmin(a2, b2) - fmax(a1, b1), 0);
        hull *= fmax(a2, b2) - fmin(a1, b1);
    }
    const double both = a[2] * a[3] + b[2] * b[3] - shared;
    return shared / (both + 1e-7) - (hull - both) / (hull + 1e-7);
}

static void random_box(float box[4], uint64_t purpose)
{
    vg_fill_uniform(box, 4, vg_rng_key_of(17, purpose), 0.05F, 0.95F);
}

static void giou_and_its_gradient_match_fp64(void **state)
{
    (void)state;
    for (uint64_t trial = 0; trial < 500; trial++) {
        float a[4], b[4], da[4];
        random_box(a, 2 * trial);
        random_box(b, 2 * trial + 1);
        if (trial % 3 == 0) a[2] /= 8, a[3] /= 8, b[2] /= 8, b[3] /= 8; /* mostly apart */
        double wide_a[4], wide_b[4];
        for (int k = 0; k < 4; k++) wide_a[k] = (double)a[k], wide_b[k] = (double)b[k];
        assert_near((double)vg_box_giou(a, b), giou(wide_a, wide_b), 4e-6);
        assert_true(vg_box_giou_grad(a, b, da) == vg_box_giou(a, b));
        for (int k = 0; k < 4; k++) {
            const double step = 1e-6, old = wide_a[k];
            wide_a[k] = old + step;
            const double up = giou(wide_a, wide_b);
            wide_a[k] = old - step;
            const double slope = (up - giou(wide_a, wide_b)) / (2 * step);
            wide_a[k] = old;
            assert_near((double)da[k], slope, 2e-4 * (1 + fabs(slope)));
        }
    }
}

static void equal_boxes_share_the_slope_of_their_ties(void **state)
{
    (void)state;
    const float box[4] = {0.5F, 0.5F, 0.25F, 0.5F};
    float da[4];
    assert_near((double)vg_box_giou_grad(box, box, da), 1, 2e-6);
    for (int k = 0; k < 4; k++) assert_near((double)da[k], 0, 1e-5); /* a maximum, and the halves cancel */
}

static void the_overlap_of_boxes_that_touch_has_a_slope(void **state)
{
    (void)state;
    const float a[4] = {0.25F, 0.5F, 0.25F, 0.5F}, b[4] = {0.5F, 0.5F, 0.25F, 0.25F};
    float da[4];
    vg_box_giou_grad(a, b, da);
    /* By hand: U = 3/16, C = 1/4; moving right adds 1/4 to I, takes it from U, and takes 1/2 from C. */
    assert_near((double)da[0], 0.25 / 0.1875 + 1.0 - 0.5, 1e-5);
}

static void l1_is_the_sum_of_four_distances(void **state)
{
    (void)state;
    const float a[4] = {0, 1, 2, 3}, b[4] = {1, 1, 0, 3.5F};
    assert_true(vg_box_l1(a, b) == 3.5F);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(giou_and_its_gradient_match_fp64),
        cmocka_unit_test(equal_boxes_share_the_slope_of_their_ties),
        cmocka_unit_test(the_overlap_of_boxes_that_touch_has_a_slope),
        cmocka_unit_test(l1_is_the_sum_of_four_distances),
    };
    return cmocka_run_group_tests_name("boxes", tests, NULL, NULL);
}
