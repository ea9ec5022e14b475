#define _DEFAULT_SOURCE /* setenv */
/* Matching, matched losses and the alignment loss on the device. */
#include "tests/unit/kernels/cuda_test.h"

/* What a function of the C library or a division may be off by, a few times over. */
static const double roundings = 16;

/* ---- matched losses ---- */

typedef struct loss_size {
    int64_t layers, slots, queries, targets;
} loss_size;

static const float scales[8] = {0.25F, 0.025F, 0.3F, 0.12F, 0.7F};

/* Slot b has b % (T + 3) targets, which is none at first and now and then more than there is room for; every seventh
 * slot is empty. */
static vg_node loss_of(test_memory *m, loss_size s)
{
    vg_node n = {.op = VG_OP_detr_loss, .n_in = 6, .n_out = 5};
    n.attr.detr_loss.eos = 0.1F;
    n.attr.detr_loss.cost_class = 1;
    n.attr.detr_loss.cost_l1 = 5;
    n.attr.detr_loss.cost_giou = 2;
    n.in[0] = random_operand(m, VG_SHAPE(s.layers, s.slots, s.queries, 2), 1);
    n.in[1] = random_operand(m, VG_SHAPE(s.layers, s.slots, s.queries, 4), 2);
    n.in[2] = random_operand(m, VG_SHAPE(s.slots, s.targets, 4), 3);
    for (int k = 1; k < 3; k++)
        vg_fill_uniform(n.in[k].data, vg_shape_count(&n.in[k].shape), vg_rng_key_of(1, (uint64_t)k), 0.05F, 0.95F);
    n.in[3] = blank_operand(m, VG_I32, VG_SHAPE(s.slots));
    n.in[4] = blank_operand(m, VG_I32, VG_SHAPE(s.slots));
    for (int64_t b = 0; b < s.slots; b++) {
        ((int32_t *)n.in[3].data)[b] = (int32_t)(b % (s.targets + 3));
        ((int32_t *)n.in[4].data)[b] = b % 7 != 6;
    }
    n.in[5] = random_operand(m, VG_SHAPE(8), 4);
    memcpy(n.in[5].data, scales, sizeof scales);
    n.out[0] = blank_operand(m, VG_F64, VG_SHAPE(s.slots, s.layers, 3));
    n.out[1] = blank_operand(m, VG_I32, VG_SHAPE(s.slots, s.layers, s.queries));
    n.out[2] = blank_operand(m, VG_F32, n.in[0].shape);
    n.out[3] = blank_operand(m, VG_F32, n.in[1].shape);
    n.out[4] = blank_operand(m, VG_I32, VG_SHAPE(s.slots));
    return n;
}

static void fill_counts(vg_node *n, int32_t targets)
{
    for (int64_t b = 0; b < n->in[3].shape.dim[0]; b++) {
        ((int32_t *)n->in[3].data)[b] = targets;
        ((int32_t *)n->in[4].data)[b] = 1;
    }
}

static void losses_of_any_size_follow_the_cpu(void **state)
{
    (void)state;
    static const loss_size sizes[] = {
        {6, 9, 10, 1},  /* the usual one */
        {1, 12, 10, 8}, /* several targets */
        {2, 13, 5, 8},  /* more targets than queries */
        {13, 3, 1, 1},  /* more layers than warps, one query */
        {2, 8, 33, 2},  /* more queries than lanes */
        {1, 5, 70, 40}, {1, 5, 40, 64}, {1, 4, 32, 32},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        test_memory m = {0};
        const vg_node n = loss_of(&m, sizes[i]);
        cuda_matches_cpu(&m, &n, roundings, 1);
        release(&m);
    }
}

static void huge_logits_stay_finite(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m, (loss_size){2, 6, 10, 3});
    for (int64_t i = 0; i < vg_shape_count(&n.in[0].shape); i++) ((float *)n.in[0].data)[i] *= 1e3F;
    cuda_matches_cpu(&m, &n, roundings, 1);
    for (int b = 0; b < 6; b++) assert_int_equal(((int32_t *)n.out[4].data)[b], 0);
    release(&m);
}

/* 300 queries and 64 targets are the most that the options allow; all slots are full. */
static void the_largest_problem_fits_its_scratch(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = loss_of(&m, (loss_size){2, 2, 300, 64});
    fill_counts(&n, 64);
    cuda_matches_cpu(&m, &n, roundings, 1);
    release(&m);
}

/* All queries alike, then all targets too: the result hangs on the order of search alone. */
static void ties_fall_as_on_the_cpu(void **state)
{
    (void)state;
    static const int32_t counts[] = {1, 2, 3, 7, 12};
    static const int64_t queries[] = {3, 7, 40};
    for (int i = 0; i < 5 * 3; i++)
        for (int alike = 0; alike < 2; alike++) {
            test_memory m = {0};
            vg_node n = loss_of(&m, (loss_size){2, 2, queries[i % 3], 12});
            fill_counts(&n, counts[i / 3]);
            for (int k = 0; k < 2 + alike; k++) {
                const int64_t width = k ? 4 : 2, count = vg_shape_count(&n.in[k].shape);
                float *x = n.in[k].data;
                for (int64_t j = width; j < count; j++) x[j] = x[j % width];
            }
            cuda_matches_cpu(&m, &n, roundings, 1);
            release(&m);
        }
}

/* Two queries of equal cost: the lower one is taken, wherever the lanes look first. */
static void the_lowest_of_equal_queries_takes_the_only_target(void **state)
{
    (void)state;
    enum { QUERIES = 70 };
    static const int pairs[][2] = {{3, 5}, {5, 35}, {33, 34}, {2, 66}, {31, 32}};
    for (int i = 0; i < 5; i++) {
        test_memory m = {0};
        vg_node n = loss_of(&m, (loss_size){1, 1, QUERIES, 1});
        fill_counts(&n, 1);
        float *logits = n.in[0].data, *boxes = n.in[1].data;
        for (int q = 0; q < QUERIES; q++) logits[2 * q] = logits[2 * q + 1] = 0;
        for (int k = 0; k < 2; k++) memcpy(boxes + 4 * pairs[i][k], n.in[2].data, 4 * sizeof(float));
        cuda_run(&n);
        for (int q = 0; q < QUERIES; q++) assert_int_equal(((int32_t *)n.out[1].data)[q], q == pairs[i][0] ? 0 : -1);
        release(&m);
    }
}

/* Equal, nested, crossing, touching, apart along one axis and both, with a common side, without area. */
static void boxes_in_every_position_have_the_gradient_of_the_cpu(void **state)
{
    (void)state;
    static const float target[4] = {0.5F, 0.5F, 0.25F, 0.25F};
    static const float boxes[][4] = {
        {0.5F, 0.5F, 0.25F, 0.25F},   {0.5F, 0.5F, 0.125F, 0.125F},   {0.5F, 0.5F, 0.5F, 0.5F},
        {0.5F, 0.5F, 0.5F, 0.125F},   {0.625F, 0.625F, 0.25F, 0.25F}, {0.75F, 0.5F, 0.25F, 0.25F},
        {0.5F, 0.25F, 0.25F, 0.25F},  {0.875F, 0.5F, 0.125F, 0.25F},  {0.125F, 0.125F, 0.125F, 0.125F},
        {0.5F, 0.875F, 0.25F, 0.0F},  {0.4375F, 0.5F, 0.125F, 0.25F}, {0.5F, 0.5625F, 0.25F, 0.125F},
        {0.25F, 0.75F, 0.25F, 0.25F}, {0.5F, 0.5F, 0.0F, 0.0F},       {0.3F, 0.4F, 0.2F, 0.6F},
        {0.75F, 0.5F, 0.25F, 0.5F},   {0.5F, 0.25F, 0.5F, 0.25F}, /* touching, but not filling their hull */

    };
    enum { BOXES = sizeof boxes / sizeof *boxes };
    test_memory m = {0};
    vg_node n = loss_of(&m, (loss_size){1, BOXES, 1, 1});
    fill_counts(&n, 1);
    memcpy(n.in[1].data, boxes, sizeof boxes);
    for (int b = 0; b < BOXES; b++) memcpy((float *)n.in[2].data + 4 * b, target, sizeof target);
    vg_node cpu = fresh_outputs(&m, &n);
    cuda_run(&n);
    run_node(&cpu, 1);
    for (int64_t i = 0; i < 4 * BOXES; i++) /* no function of the C library is in it: the same bits */
        assert_true(float_at(&n.out[3], i) == float_at(&cpu.out[3], i));
    for (int64_t i = 0; i < BOXES; i++)
        for (int k = 1; k < 3; k++) assert_true(float_at(&n.out[0], 3 * i + k) == float_at(&cpu.out[0], 3 * i + k));
    release(&m);
}

/* Layers 0 to 12 over six warps: the first bad one is found whether it shares its warp or not, and the bad query
 * whether it is its lane's last or not. */
static void a_cost_that_is_not_finite_names_the_first_such_layer_and_pairs_in_order(void **state)
{
    (void)state;
    enum { LAYERS = 13, SLOTS = 4, QUERIES = 40, TARGETS = 3 };
    static const int bad_layers[SLOTS][3] = {{8, 3, 9}, {1, 7, 12}, {12, 12, 12}, {11, 6, 5}};
    static const int first[SLOTS] = {3, 1, 12, 5};
    test_memory m = {0};
    vg_node n = loss_of(&m, (loss_size){LAYERS, SLOTS, QUERIES, TARGETS});
    fill_counts(&n, 2);
    for (int b = 0; b < SLOTS; b++)
        for (int k = 0; k < 3; k++)
            ((float *)n.in[1].data)[((bad_layers[b][k] * SLOTS + b) * QUERIES + (b % 2 ? 35 : 3)) * 4 + k] =
                k ? NAN : INFINITY;
    cuda_run(&n);
    for (int b = 0; b < SLOTS; b++) {
        assert_int_equal(((int32_t *)n.out[4].data)[b], first[b] + 1);
        const int32_t *match = (int32_t *)n.out[1].data + (b * LAYERS + first[b]) * QUERIES;
        for (int q = 0; q < QUERIES; q++) assert_int_equal(match[q], q < 2 ? q : -1);
    }
    release(&m);
}

static void an_empty_slot_writes_zeros_whatever_it_holds(void **state)
{
    (void)state;
    enum { LAYERS = 7, QUERIES = 34 };
    test_memory m = {0};
    vg_node n = loss_of(&m, (loss_size){LAYERS, 1, QUERIES, 2});
    fill_counts(&n, 2);
    ((int32_t *)n.in[4].data)[0] = 0;
    for (int i = 0; i < LAYERS * QUERIES * 2; i++) ((float *)n.in[0].data)[i] = NAN;
    cuda_run(&n);
    for (int k = 0; k < 4; k++)
        for (int64_t i = 0; k != 1 && i < vg_shape_count(&n.out[k].shape); i++)
            assert_true(float_at(&n.out[k], i) == 0);
    for (int i = 0; i < LAYERS * QUERIES; i++) assert_int_equal(((int32_t *)n.out[1].data)[i], -1);
    assert_int_equal(((int32_t *)n.out[4].data)[0], 0);
    release(&m);
}

static void each_output_alone_is_what_all_together_give(void **state)
{
    (void)state;
    test_memory m = {0};
    const vg_node n = loss_of(&m, (loss_size){7, 8, 10, 3});
    cuda_run(&n);
    for (int only = 0; only < 5; only++) {
        vg_node one = one_output(&m, &n, only);
        cuda_run(&one);
        same_outputs(&one, &n);
    }
    release(&m);
}

/* ---- alignment ---- */

typedef struct align_size {
    int64_t width;
    int gh, gw;
    bool index; /* eleven slots over three images, the second of which has none; else three over three */
} align_size;

/* More slots than a block has warps. */
enum { IMAGES = 3, MAX_SLOTS = 11, BOXES = 3 };
static const int32_t image_of[MAX_SLOTS] = {0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2};
static const int32_t n_boxes[MAX_SLOTS] = {1, 3, 2, 1, 0, 1, 2, 3, 1, 2, 3};
static const int32_t filled[MAX_SLOTS] = {1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1}; /* the first of the second block, too */

static vg_node align_of(test_memory *m, align_size s)
{
    vg_node n = {.op = VG_OP_align_loss, .n_in = 9, .n_out = 5, .attr.align = {.gh = s.gh, .gw = s.gw}};
    const int64_t slots = s.index ? MAX_SLOTS : IMAGES;
    n.in[0] = random_operand(m, VG_SHAPE(IMAGES, (int64_t)s.gh * s.gw, s.width), 1);
    n.in[1] = random_operand(m, VG_SHAPE(slots, 1, s.width), 2);
    n.in[2] = random_operand(m, VG_SHAPE(1), 3);
    n.in[3] = random_operand(m, VG_SHAPE(1), 4);
    ((float *)n.in[2].data)[0] = 1.5F;
    n.in[4] = random_operand(m, VG_SHAPE(slots, BOXES, 4), 5);
    vg_fill_uniform(n.in[4].data, slots * BOXES * 4, vg_rng_key_of(5, 5), 0.2F, 0.8F);
    n.in[5] = int_operand(m, VG_SHAPE(slots), n_boxes);
    n.in[6] = int_operand(m, VG_SHAPE(slots), filled);
    if (s.index) n.in[7] = int_operand(m, VG_SHAPE(slots), image_of);
    n.in[8] = random_operand(m, VG_SHAPE(8), 6);
    memcpy(n.in[8].data, scales, sizeof scales);
    n.out[0] = blank_operand(m, VG_F64, VG_SHAPE(slots));
    for (int k = 0; k < 4; k++) n.out[1 + k] = blank_operand(m, VG_F32, n.in[k].shape);
    return n;
}

/* Rows that are a multiple of four and not, shorter than a warp, of more than 48 KB a chunk; grids of one cell, of one
 * chunk and of several with a rest. */
static const align_size align_sizes[] = {{256, 9, 8, true}, {285, 5, 13, true}, {3, 7, 5, true},  {2, 1, 1, false},
                                         {48, 4, 8, false}, {2048, 2, 6, true}, {64, 3, 11, true}};
enum { ALIGN_SIZES = sizeof align_sizes / sizeof *align_sizes };

static void alignment_of_any_size_follows_the_cpu(void **state)
{
    (void)state;
    for (int i = 0; i < ALIGN_SIZES; i++) {
        test_memory m = {0};
        const vg_node n = align_of(&m, align_sizes[i]);
        cuda_matches_cpu(&m, &n, roundings, align_sizes[i].width);
        release(&m);
    }
}

static void alignment_adds_to_the_gradients_of_its_parameters_only(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = align_of(&m, align_sizes[1]);
    n.accumulate = true;
    for (int k = 3; k < 5; k++) *(float *)n.out[k].data = (float)k;
    cuda_matches_cpu(&m, &n, roundings, align_sizes[1].width);
    release(&m);
}

/* A row of zeros and one just above the bound: their norms are not divided by. */
static void rows_without_length_pass_on_a_bounded_gradient(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = align_of(&m, align_sizes[2]);
    float *a = n.in[0].data, *u = n.in[1].data;
    for (int c = 0; c < 3; c++) a[c] = 0;
    for (int c = 3; c < 6; c++) a[c] = 1e-13F;
    for (int c = 0; c < 3; c++) u[c] = c ? 0 : 1e-13F;
    cuda_matches_cpu(&m, &n, roundings, 3);
    release(&m);
}

/* A slot with NaN in it, but nobody's: nothing of it reaches its image. */
static void an_empty_slot_gives_nothing_to_its_image(void **state)
{
    (void)state;
    test_memory m = {0};
    const vg_node n = align_of(&m, align_sizes[1]);
    const int64_t width = align_sizes[1].width;
    vg_node other = fresh_outputs(&m, &n);
    other.in[1] = random_operand(&m, n.in[1].shape, 2);
    for (int64_t c = 0; c < width; c++) ((float *)other.in[1].data)[3 * width + c] = NAN;
    cuda_run(&n);
    cuda_run(&other);
    assert_memory_equal(n.out[1].data, other.out[1].data, operand_bytes(&n.out[1]));
    for (int64_t c = 0; c < width; c++) assert_true(((float *)other.out[2].data)[3 * width + c] == 0);
    assert_true(((double *)other.out[0].data)[3] == 0);
    release(&m);
}

static void each_gradient_of_alignment_alone_is_what_all_together_give(void **state)
{
    (void)state;
    test_memory m = {0};
    const vg_node n = align_of(&m, align_sizes[0]);
    cuda_run(&n);
    for (int only = 0; only < 5; only++) {
        vg_node one = one_output(&m, &n, only);
        cuda_run(&one);
        same_outputs(&one, &n);
    }
    release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_of_any_size_follow_the_cpu),
        cmocka_unit_test(huge_logits_stay_finite),
        cmocka_unit_test(the_largest_problem_fits_its_scratch),
        cmocka_unit_test(ties_fall_as_on_the_cpu),
        cmocka_unit_test(the_lowest_of_equal_queries_takes_the_only_target),
        cmocka_unit_test(boxes_in_every_position_have_the_gradient_of_the_cpu),
        cmocka_unit_test(a_cost_that_is_not_finite_names_the_first_such_layer_and_pairs_in_order),
        cmocka_unit_test(an_empty_slot_writes_zeros_whatever_it_holds),
        cmocka_unit_test(each_output_alone_is_what_all_together_give),
        cmocka_unit_test(alignment_of_any_size_follows_the_cpu),
        cmocka_unit_test(alignment_adds_to_the_gradients_of_its_parameters_only),
        cmocka_unit_test(rows_without_length_pass_on_a_bounded_gradient),
        cmocka_unit_test(an_empty_slot_gives_nothing_to_its_image),
        cmocka_unit_test(each_gradient_of_alignment_alone_is_what_all_together_give),
    };
    cuda_open();
    return cmocka_run_group_tests_name("losses on the device", tests, NULL, NULL);
}
