#define _DEFAULT_SOURCE /* setenv */
/* Token sequences on the device: every prefix, slice and sharing of images, rows of any length. */
#include "tests/unit/kernels/cuda_test.h"

static const int64_t widths[] = {1, 3, 4, 33, 64, 384};
enum { N_WIDTHS = sizeof widths / sizeof *widths, PATCHES = 5, REG = 3 };

static vg_node vit_of(test_memory *m, int64_t images, int64_t width, bool cls, bool reg)
{
    const int64_t tokens = PATCHES + (cls ? 1 : 0) + (reg ? REG : 0);
    vg_node n = {.op = VG_OP_vit_tokens, .n_in = 4, .n_out = 1};
    n.in[0] = random_operand(m, VG_SHAPE(images, PATCHES, width), 1);
    n.in[1] = random_operand(m, VG_SHAPE(PATCHES, width), 2);
    if (cls) n.in[2] = random_operand(m, VG_SHAPE(1, 1, width), 3);
    if (reg) n.in[3] = random_operand(m, VG_SHAPE(1, REG, width), 4);
    n.out[0] = blank_operand(m, VG_F32, VG_SHAPE(images, tokens, width));
    return n;
}

static void a_vit_sequence_has_its_prefix_and_positions(void **state)
{
    (void)state;
    static const int64_t images[] = {1, 8, 9};
    for (int k = 0; k < N_WIDTHS * 3 * 4; k++) {
        test_memory m = {0};
        const vg_node n = vit_of(&m, images[k / 4 % 3], widths[k / 12], k & 1, k & 2);
        cuda_matches_cpu(&m, &n, 0, 1);
        release(&m);
    }
}

/* Every choice of what is wanted: bits of k say dpatches, dpos, dcls, dreg and whether it is added. Without patches or
 * their positions, and without cls, the registers come first. */
static void gradients_of_a_vit_sequence_find_their_tables(void **state)
{
    (void)state;
    for (int k = 0; k < N_WIDTHS * 32; k++) {
        test_memory m = {0};
        const int64_t width = widths[k / 32], images = 1 + k % 3;
        const vg_shape shapes[] = {VG_SHAPE(images, PATCHES, width), VG_SHAPE(PATCHES, width), VG_SHAPE(1, 1, width),
                                   VG_SHAPE(1, REG, width)};
        const bool cls = k & 4 || k & 1;
        vg_node n = {.op = VG_OP_vit_tokens_grad, .n_in = 1, .n_out = 4, .accumulate = k & 16};
        n.in[0] = random_operand(&m, VG_SHAPE(images, PATCHES + REG + (cls ? 1 : 0), width), 1);
        for (int i = 0; i < 4; i++)
            if (k >> i & 1) n.out[i] = random_operand(&m, shapes[i], 2 + (uint64_t)i);
        cuda_matches_cpu(&m, &n, 2, images);
        release(&m);
    }
}

static void slices_are_cut_out_and_put_back(void **state)
{
    (void)state;
    static const int64_t cuts[][2] = {{0, 1}, {1, 4}, {0, 7}, {6, 1}};
    for (int k = 0; k < N_WIDTHS * 4; k++) {
        test_memory m = {0};
        const int64_t width = widths[k / 4], first = cuts[k % 4][0], count = cuts[k % 4][1];
        const vg_shape whole = VG_SHAPE(3, 7, width), part = VG_SHAPE(3, count, width);
        vg_node cut = {.op = VG_OP_slice_tokens, .n_in = 1, .n_out = 1, .in = {random_operand(&m, whole, 1)}};
        cut.attr.slice.first = first;
        cut.attr.slice.count = count;
        cut.out[0] = blank_operand(&m, VG_F32, part);
        cuda_matches_cpu(&m, &cut, 0, 1);
        vg_node back = {.op = VG_OP_slice_tokens_grad, .n_in = 2, .n_out = 1, .in = {random_operand(&m, part, 2)}};
        back.attr.slice = cut.attr.slice;
        if (k % 3) back.in[1] = random_operand(&m, whole, 3);
        back.out[0] = blank_operand(&m, VG_F32, whole);
        cuda_matches_cpu(&m, &back, 0, 1);
        release(&m);
    }
}

/* Images with many slots (more than a warp looks at at once), with one, and with none. */
static const int32_t shared[] = {0, 0, 0, 2, 4, 4};
static int32_t many[40];

static void two_sequences_come_together_and_apart(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++) many[i] = i < 2 ? 0 : i < 37 ? 1 : 3;
    for (int k = 0; k < N_WIDTHS * 3 * 3; k++) {
        test_memory m = {0};
        const int64_t width = widths[k / 9], images = 5, slots = k % 3 == 0 ? images : k % 3 == 1 ? 6 : 40;
        const vg_shape a = VG_SHAPE(images, 4, width), b = VG_SHAPE(slots, 3, width), whole = VG_SHAPE(slots, 7, width);
        const vg_operand index = k % 3 ? int_operand(&m, VG_SHAPE(slots), k % 3 == 1 ? shared : many) : (vg_operand){0};
        vg_node join = {.op = VG_OP_concat_tokens, .n_in = 3, .n_out = 1, .out = {blank_operand(&m, VG_F32, whole)}};
        join.in[0] = random_operand(&m, a, 1);
        join.in[1] = random_operand(&m, b, 2);
        join.in[2] = index;
        cuda_matches_cpu(&m, &join, 0, 1);
        vg_node apart = {.op = VG_OP_concat_tokens_grad, .n_in = 2, .n_out = 2};
        apart.in[0] = random_operand(&m, whole, 3);
        apart.in[1] = index;
        if (k / 3 % 3 != 1) apart.out[0] = blank_operand(&m, VG_F32, a);
        if (k / 3 % 3 != 2) apart.out[1] = blank_operand(&m, VG_F32, b);
        cuda_matches_cpu(&m, &apart, 0, 1);
        release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vit_sequence_has_its_prefix_and_positions),
        cmocka_unit_test(gradients_of_a_vit_sequence_find_their_tables),
        cmocka_unit_test(slices_are_cut_out_and_put_back),
        cmocka_unit_test(two_sequences_come_together_and_apart),
    };
    cuda_open();
    return cmocka_run_group_tests_name("tokens on the device", tests, NULL, NULL);
}
