/* The matched losses: values, gradients, empty slots, and inputs that are not finite. */
#define _DEFAULT_SOURCE /* setenv */
#include "tests/unit/kernels/kernel_test.h"

enum { LAYERS = 2, SLOTS = 7, QUERIES = 5, TARGETS = 8 };

/* 0, 1, a few, as many as queries, more than queries; the fourth slot is empty. */
static const int32_t n_targets[SLOTS] = {0, 1, 3, 0, QUERIES, TARGETS, 2};
static const int32_t filled[SLOTS] = {1, 1, 1, 0, 1, 1, 1};
static const float scales[8] = {0.25F, 0.025F, 0.3F, 0.12F};

static vg_node loss_of(test_memory *m)
{
    vg_node n = {.op = VG_OP_detr_loss, .n_in = 6, .n_out = 5};
    n.attr.detr_loss.eos = 0.1F;
    n.attr.detr_loss.cost_class = 1;
    n.attr.detr_loss.cost_l1 = 5;
    n.attr.detr_loss.cost_giou = 2;
    n.in[0] = random_operand(m, VG_SHAPE(LAYERS, SLOTS, QUERIES, 2), 1);
    n.in[1] = random_operand(m, VG_SHAPE(LAYERS, SLOTS, QUERIES, 4), 2);
    n.in[2] = random_operand(m, VG_SHAPE(SLOTS, TARGETS, 4), 3);
    for (int k = 1; k < 3; k++)
        vg_fill_uniform(n.in[k].data, vg_shape_count(&n.in[k].shape), vg_rng_key_of(1, (uint64_t)k), 0.05F, 0.95F);
    n.in[3] = int_operand(m, VG_SHAPE(SLOTS), n_targets);
    n.in[4] = int_operand(m, VG_SHAPE(SLOTS), filled);
    n.in[5] = random_operand(m, VG_SHAPE(8), 4);
    memcpy(n.in[5].data, scales, sizeof scales);
    n.out[0] = blank_operand(m, VG_F64, VG_SHAPE(SLOTS, LAYERS, 3));
    n.out[1] = blank_operand(m, VG_I32, VG_SHAPE(SLOTS, LAYERS, QUERIES));
    n.out[2] = blank_operand(m, VG_F32, n.in[0].shape);
    n.out[3] = blank_operand(m, VG_F32, n.in[1].shape);
    n.out[4] = blank_operand(m, VG_I32, VG_SHAPE(SLOTS));
    return n;
}

static double giou(const double a[4], const float b[4])
{
    double hull = 1, shared = 1;
    for (int k = 0; k < 2; k++) {
        const double a1 = a[k] - a[2 + k] / 2, a2 = a[k] + a[2 + k] / 2;
        const double b1 = (double)b[k] - (double)b[2 + k] / 2, b2 = (double)b[k] + (double)b[2 + k] / 2;
        shared *= fmax(fmin(a2, b2) - fmax(a1, b1), 0);
        hull *= fmax(a2, b2) - fmin(a1, b1);
    }
    const double both = a[2] * a[3] + (double)(b[2] * b[3]) - shared;
    return shared / (both + 1e-7) - (hull - both) / (hull + 1e-7);
}

/* Class, L1 and GIoU numerators of one query, given its target or -1. */
static void reference_query(const double logit[2], const double box[4], const float *target, double parts[3])
{
    const int own = target ? 0 : 1;
    parts[0] = (target ? 1 : (double)0.1F) * log(1 + exp(logit[1 - own] - logit[own]));
    parts[1] = parts[2] = 0;
    for (int k = 0; k < 4 && target; k++) parts[1] += fabs(box[k] - (double)target[k]);
    if (target) parts[2] = 1 - giou(box, target);
}

static const float *target_of(const vg_node *n, int l, int b, int q)
{
    const int32_t t = ((const int32_t *)n->out[1].data)[(b * LAYERS + l) * QUERIES + q];
    return t < 0 ? NULL : (const float *)n->in[2].data + (b * TARGETS + t) * 4;
}

static void read_query(const vg_node *n, int l, int b, int q, double logit[2], double box[4])
{
    const int64_t at = (l * SLOTS + b) * QUERIES + q;
    for (int k = 0; k < 2; k++) logit[k] = (double)((const float *)n->in[0].data)[2 * at + k];
    for (int k = 0; k < 4; k++) box[k] = (double)((const float *)n->in[1].data)[4 * at + k];
}

static void numerators_match_fp64(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m);
    run_node(&n, 2);
    for (int b = 0; b < SLOTS; b++)
        for (int l = 0; l < LAYERS; l++) {
            double sum[3] = {0};
            for (int q = 0; q < QUERIES && filled[b]; q++) {
                double logit[2], box[4], parts[3];
                read_query(&n, l, b, q, logit, box);
                reference_query(logit, box, target_of(&n, l, b, q), parts);
                for (int k = 0; k < 3; k++) sum[k] += parts[k];
            }
            for (int k = 0; k < 3; k++) assert_near(((double *)n.out[0].data)[(b * LAYERS + l) * 3 + k], sum[k], 1e-5);
        }
    release(&m);
}

static void every_slot_makes_as_many_pairs_as_it_can(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m);
    run_node(&n, 1);
    for (int b = 0; b < SLOTS; b++)
        for (int l = 0; l < LAYERS; l++) {
            int pairs = 0;
            for (int q = 0; q < QUERIES; q++) pairs += target_of(&n, l, b, q) != NULL;
            assert_int_equal(pairs, n_targets[b] < QUERIES ? n_targets[b] : QUERIES);
        }
    for (int b = 0; b < SLOTS; b++) assert_int_equal(((int32_t *)n.out[4].data)[b], 0);
    release(&m);
}

/* What the gradients belong to: numerators times the step's scales. */
static double scaled_query(const double logit[2], const double box[4], const float *target)
{
    double parts[3];
    reference_query(logit, box, target, parts);
    const double weight = target ? (double)scales[0] : (double)scales[1] / (double)0.1F;
    return weight * parts[0] + (double)scales[2] * parts[1] + (double)scales[3] * parts[2];
}

static void gradients_match_finite_differences(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m);
    run_node(&n, 2);
    const double step = 1e-6;
    for (int at = 0; at < LAYERS * SLOTS * QUERIES; at++) {
        const int l = at / (SLOTS * QUERIES), b = at / QUERIES % SLOTS, q = at % QUERIES;
        const float *target = target_of(&n, l, b, q);
        for (int k = 0; k < 6; k++) {
            double logit[2], box[4];
            read_query(&n, l, b, q, logit, box);
            double *x = k < 2 ? &logit[k] : &box[k - 2];
            *x += step;
            const double up = scaled_query(logit, box, target);
            *x -= 2 * step;
            const double slope = filled[b] ? (up - scaled_query(logit, box, target)) / (2 * step) : 0;
            const float *d = n.out[k < 2 ? 2 : 3].data;
            assert_near((double)d[k < 2 ? 2 * at + k : 4 * at + k - 2], slope, 1e-5 * (1 + fabs(slope)));
        }
    }
    release(&m);
}

static void an_empty_slot_writes_zeros_whatever_it_holds(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m);
    const int64_t first = 3 * QUERIES; /* layer 0 of the empty slot */
    ((float *)n.in[0].data)[2 * first] = NAN;
    run_node(&n, 1);
    for (int i = 0; i < QUERIES * 2; i++) assert_true(((float *)n.out[2].data)[2 * first + i] == 0.0F);
    for (int i = 0; i < QUERIES * 4; i++) assert_true(((float *)n.out[3].data)[4 * first + i] == 0.0F);
    for (int i = 0; i < LAYERS * 3; i++) assert_true(((double *)n.out[0].data)[3 * LAYERS * 3 + i] == 0);
    assert_int_equal(((int32_t *)n.out[4].data)[3], 0);
    release(&m);
}

static void a_cost_that_is_not_finite_names_its_layer_and_pairs_in_order(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m);
    ((float *)n.in[1].data)[((SLOTS + 2) * QUERIES + 1) * 4] = INFINITY; /* layer 1, slot 2 */
    run_node(&n, 1);
    for (int b = 0; b < SLOTS; b++) assert_int_equal(((int32_t *)n.out[4].data)[b], b == 2 ? 2 : 0);
    const int32_t *matched = (int32_t *)n.out[1].data + (2 * LAYERS + 1) * QUERIES;
    for (int q = 0; q < QUERIES; q++) assert_int_equal(matched[q], q < n_targets[2] ? q : -1);
    release(&m);
}

static void huge_logits_stay_finite(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m);
    for (int64_t i = 0; i < vg_shape_count(&n.in[0].shape); i++) ((float *)n.in[0].data)[i] *= 1e4F;
    run_node(&n, 1);
    for (int i = 0; i < SLOTS * LAYERS * 3; i++) assert_true(isfinite(((double *)n.out[0].data)[i]));
    for (int64_t i = 0; i < vg_shape_count(&n.in[0].shape); i++) assert_true(isfinite(((float *)n.out[2].data)[i]));
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
        cmocka_unit_test(numerators_match_fp64),
        cmocka_unit_test(every_slot_makes_as_many_pairs_as_it_can),
        cmocka_unit_test(gradients_match_finite_differences),
        cmocka_unit_test(an_empty_slot_writes_zeros_whatever_it_holds),
        cmocka_unit_test(a_cost_that_is_not_finite_names_its_layer_and_pairs_in_order),
        cmocka_unit_test(huge_logits_stay_finite),
        cmocka_unit_test(bits_do_not_depend_on_the_thread_count_or_on_what_is_wanted),
    };
    return cmocka_run_group_tests_name("detr_loss", tests, NULL, NULL);
}
