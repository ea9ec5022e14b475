/* Shapes and element types. */
#include "kernels/tensor.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void a_shape_counts_its_rows_and_elements(void **state)
{
    (void)state;
    const vg_shape s = VG_SHAPE(2, 3, 4), scalar = {0};
    assert_int_equal(s.rank, 3);
    assert_int_equal(vg_shape_count(&s), 24);
    assert_int_equal(vg_shape_rows(&s), 6);
    assert_int_equal(vg_shape_last(&s), 4);
    assert_int_equal(vg_shape_count(&scalar), 1);
    assert_int_equal(vg_shape_last(&scalar), 1);
}

static void equal_shapes_have_equal_ranks_and_axes(void **state)
{
    (void)state;
    assert_true(vg_shape_equal(&VG_SHAPE(2, 3), &VG_SHAPE(2, 3)));
    assert_false(vg_shape_equal(&VG_SHAPE(2, 3), &VG_SHAPE(3, 2)));
    assert_false(vg_shape_equal(&VG_SHAPE(2, 3), &VG_SHAPE(2, 3, 1)));
}

static void a_shape_of_any_size_fits_its_text(void **state)
{
    (void)state;
    char text[64];
    assert_string_equal(vg_shape_text(&VG_SHAPE(8, 261, 384), text), "[8,261,384]");
    assert_string_equal(vg_shape_text(&VG_SHAPE(5), text), "[5]");
    vg_shape_text(&VG_SHAPE(INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN), text);
    assert_int_equal(text[63], '\0'); /* cut, not overrun */
}

static void types_know_their_bytes(void **state)
{
    (void)state;
    const size_t bytes[VG_DTYPES] = {
        [VG_F32] = 4, [VG_F64] = 8, [VG_BF16] = 2, [VG_I32] = 4, [VG_U32] = 4, [VG_U8] = 1};
    for (int i = 0; i < VG_DTYPES; i++) assert_int_equal(vg_dtype_bytes((vg_dtype)i), bytes[i]);
    assert_string_equal(vg_dtype_name(VG_BF16), "bf16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shape_counts_its_rows_and_elements),
        cmocka_unit_test(equal_shapes_have_equal_ranks_and_axes),
        cmocka_unit_test(a_shape_of_any_size_fits_its_text),
        cmocka_unit_test(types_know_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
