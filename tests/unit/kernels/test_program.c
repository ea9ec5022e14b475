/* Programs: bindings, memory, errors. */
#include "kernels/program_impl.h"
#include "tests/unit/kernels/apart_device.h"
#include "tests/unit/kernels/reference_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void set(vg_params *p, const char *name, const float *values)
{
    const int i = vg_params_find(p, name);
    memcpy(vg_params_data(p, i), values, (size_t)p->items[i].count * sizeof(float));
}

/* y = relu(x W^T + b) + c, x [2,2] W [2,2], kept as y. */
static vg_graph *small_graph(vg_params *params)
{
    vg_graph *g = NULL;
    assert_int_equal(vg_graph_new(params, &g), VG_OK);
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(2, 2));
    const vg_value w = vg_graph_param(g, "w", VG_SHAPE(2, 2)), b = vg_graph_param(g, "b", VG_SHAPE(2));
    vg_graph_scope(g, "layer");
    vg_value y = vg_graph_linear(g, x, w, b, VG_ACT_RELU);
    y = vg_graph_add_rows(g, y, vg_graph_const(g, "c", VG_SHAPE(2), (float[]){10, 20}));
    vg_graph_linear(g, y, w, vg_graph_input(g, "unread", VG_F32, VG_SHAPE(2)), VG_ACT_NONE); /* nobody reads it */
    vg_graph_keep(g, "y", y);
    return g;
}

static void run_and_check(vg_program *program)
{
    vg_arena arena = {0};
    assert_int_equal(vg_arena_init(&arena, vg_program_arena_bytes(program)), VG_OK);
    assert_int_equal(vg_program_attach(program, arena.base), VG_OK);
    float x[4] = {1, 2, 3, -4};
    assert_int_equal(vg_program_bind(program, "x", x), VG_OK);
    assert_int_equal(vg_program_run(program), VG_OK);
    vg_shape shape;
    const float *y = vg_program_output(program, "y", &shape);
    assert_true(vg_shape_equal(&shape, &VG_SHAPE(2, 2)));
    assert_true(y[0] == 10 + 1 + 4 + 0.5F && y[1] == 20 + 3 - 2 && y[2] == 10 && y[3] == 20 + 9 + 4);
    vg_arena_release(&arena);
}

static void a_program_outlives_its_graph_and_survives_a_new_layout(void **state)
{
    (void)state;
    vg_params *params = NULL;
    vg_program *program = NULL;
    assert_int_equal(vg_params_new(&params), VG_OK);
    vg_graph *g = small_graph(params);
    assert_int_equal(vg_graph_plan(g, &reference_backend, 1, &program), VG_OK);
    vg_graph_free(g);
    assert_int_equal(program->n_nodes, 2); /* the second linear is dropped */
    assert_int_equal(vg_params_layout(params, NULL, 0), VG_OK);
    set(params, "w", (float[]){1, 2, 3, -1});
    set(params, "b", (float[]){0.5F, 0});
    run_and_check(program);
    assert_non_null(program->nodes[0].packed); /* w is frozen */
    assert_int_equal(vg_params_layout(params, (int[]){vg_params_find(params, "w")}, 1), VG_OK);
    run_and_check(program);
    assert_null(program->nodes[0].packed);
    assert_null(vg_program_output(program, "z", NULL));
    vg_program_free(program);
    vg_params_free(params);
}

static void what_is_not_bound_is_named(void **state)
{
    (void)state;
    vg_params *params = NULL;
    vg_program *program = NULL;
    vg_arena arena = {0};
    assert_int_equal(vg_params_new(&params), VG_OK);
    vg_graph *g = small_graph(params);
    assert_int_equal(vg_graph_plan(g, &reference_backend, 1, &program), VG_OK);
    assert_int_equal(vg_program_attach(program, NULL), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "parameter w has no storage"));
    assert_int_equal(vg_params_layout(params, NULL, 0), VG_OK);
    assert_int_equal(vg_program_run(program), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "no arena"));
    assert_int_equal(vg_arena_init(&arena, vg_program_arena_bytes(program)), VG_OK);
    assert_int_equal(vg_program_attach(program, arena.base), VG_OK);
    assert_int_equal(vg_program_run(program), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "'x' is not bound"));
    assert_int_equal(vg_program_bind(program, "unread", &arena), VG_OK); /* the plan dropped it */
    assert_int_equal(vg_program_bind(program, "X", &arena), VG_E_BUG);
    vg_arena_release(&arena);
    vg_program_free(program);
    vg_graph_free(g);
    vg_params_free(params);
}

static vg_status failing_linear(vg_stream *s, const vg_node *n)
{
    (void)s;
    (void)n;
    return vg_fail(VG_E_DEVICE, "it broke");
}

static void a_kernel_that_fails_is_named(void **state)
{
    (void)state;
    vg_params *params = NULL;
    vg_program *program = NULL;
    vg_arena arena = {0};
    float x[4] = {0};
    assert_int_equal(vg_params_new(&params), VG_OK);
    vg_graph *g = small_graph(params);
    vg_backend broken = reference_backend;
    broken.kernels[VG_OP_linear] = failing_linear;
    assert_int_equal(vg_graph_plan(g, &broken, 1, &program), VG_OK);
    assert_int_equal(vg_params_layout(params, NULL, 0), VG_OK);
    assert_int_equal(vg_arena_init(&arena, vg_program_arena_bytes(program)), VG_OK);
    assert_int_equal(vg_program_attach(program, arena.base), VG_OK);
    assert_int_equal(vg_program_bind(program, "x", x), VG_OK);
    assert_int_equal(vg_program_run(program), VG_E_DEVICE);
    assert_string_equal(vg_error_text(), "layer: linear: it broke");
    vg_program_free(program);
    vg_arena_release(&arena);
    vg_graph_free(g);
    vg_params_free(params);
}

static void operations_a_backend_lacks_are_named_by_the_plan(void **state)
{
    (void)state;
    vg_params *params = NULL;
    vg_program *program = NULL;
    assert_int_equal(vg_params_new(&params), VG_OK);
    vg_graph *g = small_graph(params);
    vg_backend poor = reference_backend;
    poor.kernels[VG_OP_add_rows] = NULL;
    assert_int_equal(vg_graph_plan(g, &poor, 1, &program), VG_E_BUG);
    assert_string_equal(vg_error_text(), "the reference backend has no kernel for: add_rows");
    assert_null(program);
    vg_graph_free(g);
    vg_params_free(params);
}

static void a_new_attach_forgets_the_packed_weights_of_the_old(void **state)
{
    (void)state;
    vg_params *params = NULL;
    vg_program *program = NULL;
    assert_int_equal(vg_params_new(&params), VG_OK);
    vg_graph *g = small_graph(params);
    assert_int_equal(vg_graph_plan(g, &reference_backend, 1, &program), VG_OK);
    assert_int_equal(vg_params_layout(params, NULL, 0), VG_OK);
    const size_t with_w = vg_program_constant_bytes(program);
    assert_int_equal(with_w, 64 + 64); /* the constant c and the packed w, each rounded up */
    vg_arena arena = {0};
    assert_int_equal(vg_arena_init(&arena, vg_program_arena_bytes(program)), VG_OK);
    set(params, "w", (float[]){1, 2, 3, 4});
    assert_int_equal(vg_program_attach(program, arena.base), VG_OK);
    assert_true(((const float *)program->nodes[0].packed)[3] == 4);
    set(params, "w", (float[]){1, 2, 3, 5});
    assert_int_equal(vg_program_attach(program, arena.base), VG_OK);
    assert_true(((const float *)program->nodes[0].packed)[3] == 5);
    assert_int_equal(vg_params_layout(params, (int[]){vg_params_find(params, "w")}, 1), VG_OK);
    assert_int_equal(vg_program_constant_bytes(program), 64);
    vg_arena_release(&arena);
    vg_program_free(program);
    vg_graph_free(g);
    vg_params_free(params);
}

/* Runs a node of the reference backend if all that it works on is the device's. */
static vg_status run_on_device(vg_stream *stream, const vg_node *node)
{
    for (int i = 0; i < VG_MAX_IN; i++)
        VG_CHECK(!node->in[i].data || is_on_device(node->in[i].data, (size_t)ref_count(&node->in[i]) * sizeof(float)),
                 VG_E_DEVICE, "input %d is the host's", i);
    for (int i = 0; i < VG_MAX_OUT; i++)
        VG_CHECK(!node->out[i].data ||
                     is_on_device(node->out[i].data, (size_t)ref_count(&node->out[i]) * sizeof(float)),
                 VG_E_DEVICE, "output %d is the host's", i);
    return reference_backend.kernels[node->op](stream, node);
}

static void on_a_device_a_program_works_in_its_memory_alone(void **state)
{
    (void)state;
    const vg_backend apart = {.name = "apart",
                              .device = &apart_device,
                              .kernels = {[VG_OP_linear] = run_on_device, [VG_OP_add_rows] = run_on_device}};
    vg_stream stream = {.n_threads = 1};
    vg_params *params = NULL;
    vg_program *program = NULL;
    vg_arena arena = {0};
    float x[4] = {1, 2, 3, -4};
    assert_int_equal(vg_params_new(&params), VG_OK);
    vg_graph *g = small_graph(params);
    assert_int_equal(vg_graph_plan(g, &apart, 1, &program), VG_OK);
    vg_graph_free(g);
    assert_int_equal(vg_params_layout(params, NULL, 0), VG_OK);
    set(params, "w", (float[]){1, 2, 3, -1});
    set(params, "b", (float[]){0.5F, 0});
    assert_int_equal(vg_program_attach(program, x), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "vg_params_place"));
    assert_int_equal(vg_params_place(params, &apart_device, &stream), VG_OK);
    assert_int_equal(apart_allocate(&stream, vg_program_arena_bytes(program), &arena), VG_OK);
    assert_int_equal(vg_program_attach(program, arena.base), VG_OK);
    assert_int_equal(vg_program_bind(program, "x", x), VG_OK);
    assert_int_equal(vg_program_run(program), VG_OK);
    memset(x, 0, sizeof x); /* read before run returned */
    assert_int_equal(vg_program_wait(program), VG_OK);
    memset(arena.base, 0xff, vg_program_arena_bytes(program)); /* as the next program may */
    const float *y = vg_program_output(program, "y", NULL);
    assert_true(y[0] == 10 + 1 + 4 + 0.5F && y[1] == 20 + 3 - 2 && y[2] == 10 && y[3] == 20 + 9 + 4);
    vg_program_free(program);
    apart_release(&stream, &arena);
    vg_params_free(params);
    assert_int_equal(apart_pieces_held(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_outlives_its_graph_and_survives_a_new_layout),
        cmocka_unit_test(what_is_not_bound_is_named),
        cmocka_unit_test(a_kernel_that_fails_is_named),
        cmocka_unit_test(operations_a_backend_lacks_are_named_by_the_plan),
        cmocka_unit_test(on_a_device_a_program_works_in_its_memory_alone),
        cmocka_unit_test(a_new_attach_forgets_the_packed_weights_of_the_old),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
