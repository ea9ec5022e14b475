/* The flat parameter space. */
#include "kernels/params.h"
#include "tests/unit/kernels/apart_device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static int add(vg_params *p, const char *name, vg_shape shape)
{
    int index = -1;
    assert_int_equal(vg_params_add(p, name, &shape, &index), VG_OK);
    return index;
}

/* Three parameters, laid out with b and c trainable in this order, values 1, 2, 3. */
static vg_params *three(int index[3])
{
    vg_params *p = NULL;
    assert_int_equal(vg_params_new(&p), VG_OK);
    index[0] = add(p, "a", VG_SHAPE(10));
    index[1] = add(p, "b", VG_SHAPE(3, 700));
    index[2] = add(p, "c", VG_SHAPE(5));
    assert_int_equal(vg_params_layout(p, index + 1, 2), VG_OK);
    for (int i = 0; i < 3; i++)
        for (int64_t j = 0; j < p->items[index[i]].count; j++) vg_params_data(p, index[i])[j] = (float)(i + 1);
    return p;
}

static void a_name_keeps_its_index_and_its_shape(void **state)
{
    (void)state;
    int index[3], again = -1;
    vg_params *p = three(index);
    assert_int_equal(add(p, "b", VG_SHAPE(3, 700)), index[1]);
    assert_int_equal(vg_params_find(p, "c"), index[2]);
    assert_int_equal(vg_params_find(p, "d"), -1);
    assert_int_equal(vg_params_add(p, "b", &VG_SHAPE(700, 3), &again), VG_E_SHAPE);
    assert_non_null(strstr(vg_error_text(), "b is [3,700] and asked for as [700,3]"));
    assert_int_equal(again, -1);
    vg_params_free(p);
}

static void every_parameter_starts_a_block_of_its_own(void **state)
{
    (void)state;
    int index[3];
    vg_params *p = three(index);
    assert_int_equal(p->items[index[1]].offset, 0);
    assert_int_equal(p->items[index[2]].offset, 3 * VG_PARAM_BLOCK); /* 2100 floats take three blocks */
    assert_int_equal(p->n_trainable, 4 * VG_PARAM_BLOCK);
    assert_int_equal(p->n_frozen, VG_PARAM_BLOCK);
    for (int64_t i = 2100; i < 3 * VG_PARAM_BLOCK; i++) assert_true(p->master[i] == 0);
    vg_params_free(p);
}

static void a_new_layout_keeps_values_and_forgets_moments(void **state)
{
    (void)state;
    int index[3];
    vg_params *p = three(index);
    p->moment1[7] = p->moment2[8] = 9;
    p->keep_average = true;
    assert_int_equal(vg_params_layout(p, (int[]){index[0], index[1]}, 2), VG_OK);
    for (int i = 0; i < 3; i++)
        for (int64_t j = 0; j < p->items[index[i]].count; j++)
            assert_true(vg_params_data(p, index[i])[j] == (float)(i + 1));
    for (int64_t i = 0; i < p->n_trainable; i++) assert_true(p->moment1[i] == 0 && p->moment2[i] == 0);
    assert_memory_equal(p->average, p->master, (size_t)p->n_trainable * sizeof(float));
    assert_false(p->items[index[2]].trainable);
    assert_int_equal(vg_params_bytes(p, 2), sizeof(float) * (size_t)(p->n_trainable * 6 + p->n_frozen));
    vg_params_free(p);
}

static void weights_and_average_change_places(void **state)
{
    (void)state;
    int index[3];
    vg_params *p = three(index);
    p->keep_average = true;
    assert_int_equal(vg_params_layout(p, (int[]){index[0], index[1]}, 2), VG_OK);
    p->average[3] = 7;
    const float value = p->master[3], frozen = vg_params_data(p, index[2])[0];
    assert_true(value != 7);
    assert_int_equal(vg_params_swap_average(p), VG_OK);
    assert_true(p->master[3] == 7 && p->average[3] == value && vg_params_data(p, index[2])[0] == frozen);
    assert_int_equal(vg_params_swap_average(p), VG_OK);
    assert_true(p->master[3] == value && p->average[3] == 7);
    vg_params_free(p);
}

static void a_layout_that_names_one_twice_changes_nothing(void **state)
{
    (void)state;
    int index[3];
    vg_params *p = three(index);
    const float *master = p->master;
    assert_int_equal(vg_params_layout(p, (int[]){index[0], index[0]}, 2), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "a comes twice"));
    assert_int_equal(vg_params_layout(p, (int[]){3}, 1), VG_E_BUG);
    assert_ptr_equal(p->master, master);
    assert_true(p->items[index[1]].trainable);
    vg_params_free(p);
}

static void a_frozen_parameter_can_change_its_shape(void **state)
{
    (void)state;
    int index[3];
    vg_params *p = three(index);
    float values[2000];
    for (int i = 0; i < 2000; i++) values[i] = (float)i;
    const int late = add(p, "late", VG_SHAPE(4));
    assert_null(vg_params_data(p, late));
    assert_int_equal(vg_params_reshape(p, late, &VG_SHAPE(5), values), VG_E_BUG); /* not laid out yet */
    assert_int_equal(vg_params_reshape(p, index[1], &VG_SHAPE(5), values), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "trainable"));
    p->moment1[3] = 4;
    assert_int_equal(vg_params_reshape(p, index[0], &VG_SHAPE(2, 1000), values), VG_OK);
    assert_int_equal(p->items[index[0]].count, 2000);
    assert_memory_equal(vg_params_data(p, index[0]), values, sizeof values);
    assert_true(vg_params_data(p, index[2])[4] == 3 && p->moment1[3] == 4);
    vg_params_free(p);
}

static void an_absurd_shape_is_refused(void **state)
{
    (void)state;
    vg_params *p = NULL;
    int index = -1;
    assert_int_equal(vg_params_new(&p), VG_OK);
    assert_int_equal(vg_params_add(p, "x", &VG_SHAPE(INT64_MAX, 4), &index), VG_E_SHAPE);
    assert_int_equal(vg_params_add(p, "x", &VG_SHAPE(3, 0), &index), VG_E_SHAPE);
    assert_int_equal(p->n, 0);
    vg_params_free(p);
}

static void on_a_device_kernels_have_copies_that_come_home_when_asked(void **state)
{
    (void)state;
    int index[3];
    vg_stream stream = {.n_threads = 1};
    vg_params *p = three(index);
    assert_ptr_equal(vg_params_at(p, index[1]), vg_params_data(p, index[1])); /* the host is its own place */
    assert_int_equal(vg_params_place(p, &apart_device, &stream), VG_OK);
    for (int i = 0; i < 3; i++) {
        const size_t bytes = (size_t)p->items[index[i]].count * sizeof(float);
        assert_true(is_on_device(vg_params_at(p, index[i]), bytes));
        assert_memory_equal(vg_params_at(p, index[i]), vg_params_data(p, index[i]), bytes);
    }
    p->at.master[0] = 7; /* what a step does */
    p->at.moment2[1] = 8;
    assert_true(vg_params_data(p, index[1])[0] == 2);
    assert_int_equal(vg_params_fetch(p), VG_OK);
    assert_true(vg_params_data(p, index[1])[0] == 7 && p->moment2[1] == 8);
    vg_params_data(p, index[0])[3] = 9; /* what a loaded file does */
    assert_int_equal(vg_params_send(p), VG_OK);
    assert_true(vg_params_at(p, index[0])[3] == 9);
    assert_int_equal(vg_params_layout(p, index, 1), VG_OK); /* a new layout begins on the host */
    assert_ptr_equal(vg_params_at(p, index[1]), vg_params_data(p, index[1]));
    assert_true(vg_params_data(p, index[1])[0] == 7);
    assert_int_equal(apart_pieces_held(), 0);
    vg_params_free(p);
}

static void moments_that_are_elsewhere_take_no_room(void **state)
{
    (void)state;
    int index[3];
    vg_stream stream = {.n_threads = 1};
    vg_params *p = three(index);
    p->moments_elsewhere = p->keep_average = true;
    assert_int_equal(vg_params_layout(p, index, 2), VG_OK);
    assert_true(!p->moment1 && !p->moment2 && !p->at.moment1);
    assert_int_equal(vg_params_bytes(p, 0), sizeof(float) * (size_t)(p->n_trainable * 2 + p->n_frozen));
    assert_int_equal(vg_params_place(p, &apart_device, &stream), VG_OK);
    assert_true(!p->at.moment1 && is_on_device(p->at.average, (size_t)p->n_trainable * sizeof(float)));
    p->at.master[0] = 7;
    p->at.average[p->n_trainable - 1] = 8;
    assert_int_equal(vg_params_fetch(p), VG_OK);
    assert_true(p->master[0] == 7 && p->average[p->n_trainable - 1] == 8);
    vg_params_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_keeps_its_index_and_its_shape),
        cmocka_unit_test(every_parameter_starts_a_block_of_its_own),
        cmocka_unit_test(a_new_layout_keeps_values_and_forgets_moments),
        cmocka_unit_test(weights_and_average_change_places),
        cmocka_unit_test(a_layout_that_names_one_twice_changes_nothing),
        cmocka_unit_test(a_frozen_parameter_can_change_its_shape),
        cmocka_unit_test(an_absurd_shape_is_refused),
        cmocka_unit_test(on_a_device_kernels_have_copies_that_come_home_when_asked),
        cmocka_unit_test(moments_that_are_elsewhere_take_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
