#define _DEFAULT_SOURCE /* setenv */
/* Patches on the device: lines of pixels that begin at words, half words and bytes, bands of one and of several tiles.
 */
#include "tests/unit/kernels/cuda_test.h"

static vg_node patches_of(test_memory *m, int64_t images, int64_t side, int patch)
{
    const int64_t grid = side / patch, bytes = images * side * side * 3;
    vg_node n = {.op = VG_OP_patchify, .n_in = 1, .n_out = 1, .attr.patchify = {patch}};
    n.in[0] = (vg_operand){hold(m, (size_t)bytes), VG_U8, VG_SHAPE(images, side, side, 3)};
    for (int64_t i = 0; i < bytes; i++) ((uint8_t *)n.in[0].data)[i] = (uint8_t)random_word(1, (uint32_t)i);
    n.out[0] = blank_operand(m, VG_F32, VG_SHAPE(images, grid * grid, 3 * patch * patch));
    return n;
}

static void every_number_is_the_cpu_s(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1},  {3, 3},   {7, 1},   {10, 5},    {12, 4},
                                   {15, 3}, {42, 14}, {64, 16}, {126, 126}, {294, 14}};
    for (int k = 0; k < 10; k++) {
        test_memory m = {0};
        const vg_node n = patches_of(&m, 1 + k % 2, sizes[k][0], sizes[k][1]);
        cuda_matches_cpu(&m, &n, 1, 1); /* nvcc may fuse what g++ does not */
        release(&m);
    }
}

static void a_patch_that_fits_no_block_is_refused(void **state)
{
    (void)state;
    test_memory m = {0};
    const vg_node n = patches_of(&m, 1, 127, 127);
    assert_int_equal(run_node_on(vg_backend_cuda(), &cuda_stream, &n), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "126"));
    release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_is_the_cpu_s),
        cmocka_unit_test(a_patch_that_fits_no_block_is_refused),
    };
    cuda_open();
    return cmocka_run_group_tests_name("patches on the device", tests, NULL, NULL);
}
