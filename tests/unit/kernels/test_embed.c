#define _DEFAULT_SOURCE /* setenv */
#include "tests/unit/kernels/kernel_test.h"

enum { SLOTS = 3, LENGTH = 8, WORDS = 20, POSITIONS = 12, WIDTH = 700 };

static const int32_t ids[SLOTS * LENGTH] = {0, 5, 7, 2, 1, 1, 1, 1, 0, 5, 5, 19, 3, 4, 6, 2, 0, 2, 1, 1, 1, 1, 1, 1};
static const int32_t counts[SLOTS] = {4, 8, 2};

static vg_node embed_of(test_memory *m)
{
    vg_node n = {.op = VG_OP_text_embed, .n_in = 5, .n_out = 1, .attr.embed.pad = 1};
    n.in[0] = int_operand(m, VG_SHAPE(SLOTS, LENGTH), ids);
    n.in[1] = int_operand(m, VG_SHAPE(SLOTS), counts);
    n.in[2] = random_operand(m, VG_SHAPE(WORDS, WIDTH), 1);
    n.in[3] = random_operand(m, VG_SHAPE(POSITIONS, WIDTH), 2);
    n.in[4] = random_operand(m, VG_SHAPE(1, WIDTH), 3);
    n.out[0] = blank_operand(m, VG_F32, VG_SHAPE(SLOTS, LENGTH, WIDTH));
    return n;
}

static int position_of(int row)
{
    return row % LENGTH < counts[row / LENGTH] ? row % LENGTH + 2 : 1;
}

static void a_token_is_its_word_its_position_and_the_type(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = embed_of(&m);
    run_node(&n, 2);
    const float *x = n.out[0].data, *word = n.in[2].data, *pos = n.in[3].data, *type = n.in[4].data;
    for (int row = 0; row < SLOTS * LENGTH; row++)
        for (int c = 0; c < WIDTH; c++)
            assert_near(
                (double)x[row * WIDTH + c],
                (double)word[ids[row] * WIDTH + c] + (double)type[c] + (double)pos[position_of(row) * WIDTH + c], 1e-6);
    release(&m);
}

static void an_id_outside_the_table_reads_row_0(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = embed_of(&m), strange = fresh_outputs(&m, &n);
    run_node(&n, 1);
    strange.in[0] = int_operand(&m, n.in[0].shape, ids);
    ((int32_t *)strange.in[0].data)[0] = WORDS;
    ((int32_t *)strange.in[0].data)[8] = -1;
    run_node(&strange, 1);
    same_outputs(&n, &strange);
    release(&m);
}

static void too_few_positions_are_refused(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = embed_of(&m);
    n.in[3].shape.dim[0] = LENGTH + 1;
    vg_stream stream = {.n_threads = 1};
    assert_int_equal(vg_backend_cpu()->kernels[n.op](&stream, &n), VG_E_BUG);
    release(&m);
}

static vg_node gradient_of(test_memory *m, const vg_node *n)
{
    vg_node g = {.op = VG_OP_text_embed_grad, .n_in = 3, .n_out = 3};
    g.in[0] = random_operand(m, n->out[0].shape, 4);
    g.in[1] = n->in[0];
    g.in[2] = n->in[1];
    for (int k = 0; k < 3; k++) g.out[k] = blank_operand(m, VG_F32, n->in[2 + k].shape);
    return g;
}

static void rows_gather_the_gradients_of_their_tokens(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = embed_of(&m), g = gradient_of(&m, &n);
    run_node(&g, 2);
    const float *dx = g.in[0].data;
    const int rows[3] = {WORDS, POSITIONS, 1};
    for (int k = 0; k < 3; k++)
        for (int r = 0; r < rows[k]; r++)
            for (int c = 0; c < WIDTH; c++) {
                double sum = 0;
                for (int row = 0; row < SLOTS * LENGTH; row++)
                    if (r == (k == 0 ? ids[row] : k == 1 ? position_of(row) : 0)) sum += (double)dx[row * WIDTH + c];
                assert_near((double)((float *)g.out[k].data)[r * WIDTH + c], sum, 1e-5);
            }
    release(&m);
}

static void gradients_accumulate_on_request_and_alone(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = embed_of(&m), g = gradient_of(&m, &n);
    run_node(&g, 1);
    for (int only = 0; only < 3; only++) {
        vg_node one = one_output(&m, &g, only);
        run_node(&one, 3);
        same_outputs(&one, &g);
        one.accumulate = true;
        run_node(&one, 3);
        const float *twice = one.out[only].data, *once = g.out[only].data;
        for (int64_t i = 0; i < vg_shape_count(&g.out[only].shape); i++)
            assert_near((double)twice[i], 2 * (double)once[i], 1e-5);
    }
    release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_its_word_its_position_and_the_type),
        cmocka_unit_test(an_id_outside_the_table_reads_row_0),
        cmocka_unit_test(too_few_positions_are_refused),
        cmocka_unit_test(rows_gather_the_gradients_of_their_tokens),
        cmocka_unit_test(gradients_accumulate_on_request_and_alone),
    };
    return cmocka_run_group_tests_name("embed", tests, NULL, NULL);
}
