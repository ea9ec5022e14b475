#include "trainer/evaluate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void the_best_scored_query_answers_and_ties_go_to_the_lowest(void **state)
{
    (void)state;
    const float logits[] = {0, 1, 2, 0, 3, 1, 2, 0}; /* object minus no-object: -1, 2, 2, 2 */
    const float boxes[] = {0.5F, 0.5F, 1, 1, 0.25F, 0.5F, 0.5F, 1, 0.75F, 0.5F, 0.5F, 1, 0.5F, 0.5F, 0.1F, 0.1F};
    const float target[] = {0, 0, 50, 40};
    const vg_answer a = vg_answer_of(logits, boxes, 4, 100, 40, target, 1);
    assert_float_equal(a.box[0], 0, 1e-5);
    assert_float_equal(a.box[2], 50, 1e-5);
    assert_float_equal(a.box[3], 40, 1e-5);
    assert_float_equal(a.iou, 1, 1e-6);
    assert_float_equal(a.score, 1 / (1 + exp(-2.0)), 1e-6);
}

static void a_box_is_clamped_to_its_image(void **state)
{
    (void)state;
    const float logits[] = {1, 0}, boxes[] = {0.9F, 0.1F, 0.6F, 0.6F}, target[] = {60, 0, 100, 40};
    const vg_answer a = vg_answer_of(logits, boxes, 1, 100, 100, target, 1);
    assert_float_equal(a.box[0], 60, 1e-4);
    assert_float_equal(a.box[1], 0, 0);
    assert_float_equal(a.box[2], 100, 0);
    assert_float_equal(a.box[3], 40, 1e-4);
    assert_float_equal(a.iou, 1, 1e-6);
    assert_float_equal(a.giou, 1, 1e-6);
}

static void any_of_the_best_queries_counts_for_hit_rates(void **state)
{
    (void)state;
    float logits[12], boxes[24];
    const float target[] = {0, 0, 10, 10};
    for (int q = 0; q < 6; q++) { /* the sixth best is right */
        logits[2 * q] = (float)-q;
        logits[2 * q + 1] = 0;
        for (int i = 0; i < 4; i++) boxes[4 * q + i] = q == 5 ? (const float[]){0.05F, 0.05F, 0.1F, 0.1F}[i] : 0.9F;
    }
    const vg_answer a = vg_answer_of(logits, boxes, 6, 100, 100, target, 1);
    assert_int_equal(a.hit5, 0);
    assert_int_equal(a.hit10, 1);
    assert_true(a.iou < 0.5F);
}

static void without_targets_there_is_an_answer_and_no_overlap(void **state)
{
    (void)state;
    const float logits[] = {0, 0}, boxes[] = {0.5F, 0.5F, 0.2F, 0.2F};
    const vg_answer a = vg_answer_of(logits, boxes, 1, 10, 10, NULL, 0);
    assert_float_equal(a.iou, 0, 0);
    assert_float_equal(a.score, 0.5, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_scored_query_answers_and_ties_go_to_the_lowest),
        cmocka_unit_test(a_box_is_clamped_to_its_image),
        cmocka_unit_test(any_of_the_best_queries_counts_for_hit_rates),
        cmocka_unit_test(without_targets_there_is_an_answer_and_no_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
