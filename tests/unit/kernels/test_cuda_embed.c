#define _DEFAULT_SOURCE /* setenv */
/* Embedding tables on the device: pads, ids that repeat, ids that no table has. */
#include "tests/unit/kernels/cuda_test.h"

/* At most more slots than a block has warps. */
enum { WORDS = 11, LENGTH = 9, POSITIONS = LENGTH + 3, MOST_SLOTS = 9 };
static const int64_t widths[] = {1, 3, 4, 33, 64, 384}, slots[] = {1, 3, MOST_SLOTS};
enum { N_WIDTHS = sizeof widths / sizeof *widths, N_SLOTS = sizeof slots / sizeof *slots };

static vg_operand ids_of(test_memory *m, int64_t n)
{
    int32_t ids[MOST_SLOTS * LENGTH], *id = ids;
    for (uint32_t i = 0; i < n * LENGTH; i++) *id++ = (int32_t)(random_word(1, i) % (WORDS + 2)) - 1; /* -1 .. WORDS */
    return int_operand(m, VG_SHAPE(n, LENGTH), ids);
}

static vg_operand counts_of(test_memory *m, int64_t n)
{
    int32_t counts[MOST_SLOTS];
    for (uint32_t i = 0; i < n; i++) counts[i] = (int32_t)(random_word(2, i) % (LENGTH + 1));
    counts[0] = LENGTH;
    return int_operand(m, VG_SHAPE(n), counts);
}

static void tokens_are_looked_up(void **state)
{
    (void)state;
    for (int k = 0; k < N_WIDTHS * N_SLOTS; k++) {
        test_memory m = {0};
        const int64_t width = widths[k / N_SLOTS], n = slots[k % N_SLOTS];
        vg_node node = {.op = VG_OP_text_embed, .n_in = 5, .n_out = 1, .attr.embed = {1}};
        node.in[0] = ids_of(&m, n);
        node.in[1] = counts_of(&m, n);
        node.in[2] = random_operand(&m, VG_SHAPE(WORDS, width), 3);
        node.in[3] = random_operand(&m, VG_SHAPE(POSITIONS, width), 4);
        node.in[4] = random_operand(&m, VG_SHAPE(1, width), 5);
        node.out[0] = blank_operand(&m, VG_F32, VG_SHAPE(n, LENGTH, width));
        cuda_matches_cpu(&m, &node, 0, 1);
        release(&m);
    }
}

/* Words and positions are summed in token order, as the CPU does: bit for bit. */
static void gradients_are_gathered_row_by_row(void **state)
{
    (void)state;
    for (int k = 0; k < N_WIDTHS * N_SLOTS * 8; k++) {
        test_memory m = {0};
        const int64_t width = widths[k / 8 / N_SLOTS], n = slots[k / 8 % N_SLOTS];
        vg_node node = {.op = VG_OP_text_embed_grad, .n_in = 3, .n_out = 3, .attr.embed = {1}, .accumulate = k & 1};
        node.in[0] = random_operand(&m, VG_SHAPE(n, LENGTH, width), 3);
        node.in[1] = ids_of(&m, n);
        node.in[2] = counts_of(&m, n);
        if (k % 8 != 2) node.out[0] = random_operand(&m, VG_SHAPE(WORDS, width), 4);
        if (k % 8 != 5) node.out[1] = random_operand(&m, VG_SHAPE(POSITIONS, width), 5);
        if (k % 8 >= 6) node.out[2] = random_operand(&m, VG_SHAPE(1, width), 6);
        cuda_matches_cpu(&m, &node, k % 8 >= 6 || k & 1 ? 2 : 0, n * LENGTH);
        release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_looked_up),
        cmocka_unit_test(gradients_are_gathered_row_by_row),
    };
    cuda_open();
    return cmocka_run_group_tests_name("embeddings on the device", tests, NULL, NULL);
}
