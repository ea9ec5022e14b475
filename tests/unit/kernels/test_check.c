/* The guard: each kind of broken kernel is caught, a good one is not disturbed. */
#include "kernels/check/check_impl.h"
#include "tests/unit/kernels/reference_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { ROWS = 3, K = 2 };

/* dW = dz^T x, db = column sums, over fixed numbers. */
typedef struct fixture {
    float dz[ROWS * K], x[ROWS * K], dw[K * K], db[K];
    vg_node node;
} fixture;

static void set_up(fixture *f)
{
    *f = (fixture){.dz = {1, 2, 3, 4, 5, 6}, .x = {1, 0, 0, 1, 1, 1}, .dw = {7, 7, 7, 7}, .db = {7, 7}};
    const vg_shape rows = VG_SHAPE(ROWS, K);
    f->node = (vg_node){.op = VG_OP_linear_dw, .n_in = 5, .n_out = 3};
    f->node.in[0] = (vg_operand){f->dz, VG_F32, rows};
    f->node.in[1] = (vg_operand){f->x, VG_F32, rows};
    f->node.out[0] = (vg_operand){f->dw, VG_F32, VG_SHAPE(K, K)};
    f->node.out[1] = (vg_operand){f->db, VG_F32, VG_SHAPE(K)};
}

static vg_status run(fixture *f, vg_kernel kernel)
{
    vg_backend inner = {.name = "inner", .kernels = {[VG_OP_linear_dw] = kernel}};
    return vg_check_node(&inner, &(vg_stream){.n_threads = 1}, &f->node);
}

static void a_good_kernel_passes_and_its_result_stays(void **state)
{
    (void)state;
    fixture f;
    set_up(&f);
    assert_int_equal(run(&f, ref_linear_dw), VG_OK);
    assert_true(f.dw[0] == 6 && f.dw[1] == 8 && f.db[0] == 9 && f.db[1] == 12);
    f.node.accumulate = true;
    assert_int_equal(run(&f, ref_linear_dw), VG_OK); /* what is added to is not poisoned */
    assert_true(f.dw[0] == 12 && f.db[1] == 24);
}

static vg_status forgets_the_last(vg_stream *s, const vg_node *n)
{
    const float old = ref_out(n, 0)[K * K - 1];
    const vg_status st = ref_linear_dw(s, n);
    ref_out(n, 0)[K * K - 1] = old;
    return st;
}

static void an_element_that_is_not_written_is_named(void **state)
{
    (void)state;
    fixture f;
    set_up(&f);
    assert_int_equal(run(&f, forgets_the_last), VG_E_BUG);
    assert_string_equal(vg_error_text(), "linear_dw never wrote element 3 of its output 0 [2,2]");
}

static vg_status adds_where_it_should_write(vg_stream *s, const vg_node *n)
{
    vg_node adding = *n;
    adding.accumulate = true;
    return ref_linear_dw(s, &adding);
}

static void a_sum_that_starts_from_what_was_there_is_caught(void **state)
{
    (void)state;
    fixture f;
    set_up(&f);
    assert_int_equal(run(&f, adds_where_it_should_write), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "never wrote element 0"));
}

static vg_status scribbles(vg_stream *s, const vg_node *n)
{
    const vg_status st = ref_linear_dw(s, n);
    ((float *)n->in[1].data)[5] += 1;
    return st;
}

static void a_changed_input_is_named(void **state)
{
    (void)state;
    fixture f;
    set_up(&f);
    assert_int_equal(run(&f, scribbles), VG_E_BUG);
    assert_string_equal(vg_error_text(), "linear_dw changed its input 1 [3,2]");
}

static vg_status doubles(vg_stream *s, const vg_node *n)
{
    (void)s;
    for (int64_t i = 0; i < ref_count(&n->in[0]); i++) ref_out(n, 0)[i] = ref_in(n, 0)[i] + ref_in(n, 1)[i];
    return VG_OK;
}

static vg_status doubles_but_one(vg_stream *s, const vg_node *n)
{
    (void)s;
    for (int64_t i = 1; i < ref_count(&n->in[0]); i++) ref_out(n, 0)[i] = ref_in(n, 0)[i] + ref_in(n, 1)[i];
    return VG_OK;
}

static void packed_outputs_are_one_tensor(void **state)
{
    (void)state; /* two outputs in one place, as the gradients of packed q and k are */
    float a[4] = {1, 2, 3, 4}, y[4];
    const vg_operand in = {a, VG_F32, VG_SHAPE(4)}, out = {y, VG_F32, VG_SHAPE(4)};
    const vg_node n = {.op = VG_OP_add, .n_in = 2, .n_out = 2, .in = {in, in}, .out = {out, out}};
    const vg_backend good = {.name = "good", .kernels = {[VG_OP_add] = doubles}};
    const vg_backend bad = {.name = "bad", .kernels = {[VG_OP_add] = doubles_but_one}};
    assert_int_equal(vg_check_node(&good, &(vg_stream){.n_threads = 1}, &n), VG_OK);
    assert_true(y[3] == 8);
    assert_int_equal(vg_check_node(&bad, &(vg_stream){.n_threads = 1}, &n), VG_E_BUG);
}

static vg_status writes_no_count(vg_stream *s, const vg_node *n)
{
    (void)s;
    *(double *)n->out[0].data = 1;
    return VG_OK;
}

static void doubles_and_integers_are_guarded_too(void **state)
{
    (void)state;
    double parts[1];
    int32_t match[1] = {0};
    vg_node n = {.op = VG_OP_detr_loss, .n_out = 2};
    n.out[0] = (vg_operand){parts, VG_F64, VG_SHAPE(1)};
    n.out[1] = (vg_operand){match, VG_I32, VG_SHAPE(1)};
    const vg_backend inner = {.name = "inner", .kernels = {[VG_OP_detr_loss] = writes_no_count}};
    assert_int_equal(vg_check_node(&inner, &(vg_stream){.n_threads = 1}, &n), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "element 0 of its output 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_kernel_passes_and_its_result_stays),
        cmocka_unit_test(an_element_that_is_not_written_is_named),
        cmocka_unit_test(a_sum_that_starts_from_what_was_there_is_caught),
        cmocka_unit_test(a_changed_input_is_named),
        cmocka_unit_test(packed_outputs_are_one_tensor),
        cmocka_unit_test(doubles_and_integers_are_guarded_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
