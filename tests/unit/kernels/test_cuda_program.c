#define _DEFAULT_SOURCE /* setenv */
/* A program on the device: inputs come in on a stream of their own while it computes; what is frozen is prepared. */
#include "kernels/graph.h"
#include "tests/unit/kernels/cuda_test.h"

enum { ROWS = 5, WIDTH = 12, COUNT = ROWS * WIDTH, RUNS = 6 };

/* y = x + z */
typedef struct sum_program {
    vg_params *params;
    vg_program *program;
    vg_arena arena;
} sum_program;

static void open_program(sum_program *s)
{
    const vg_backend *cuda = vg_backend_cuda();
    vg_graph *g = NULL;
    *s = (sum_program){0};
    assert_int_equal(vg_params_new(&s->params), VG_OK);
    assert_int_equal(vg_graph_new(s->params, &g), VG_OK);
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(ROWS, WIDTH));
    const vg_value z = vg_graph_input(g, "z", VG_F32, VG_SHAPE(ROWS, WIDTH));
    vg_graph_keep(g, "y", vg_graph_add(g, x, z));
    assert_int_equal(vg_graph_plan(g, cuda, 1, &s->program), VG_OK);
    vg_graph_free(g);
    assert_int_equal(vg_params_layout(s->params, NULL, 0), VG_OK);
    assert_int_equal(vg_params_place(s->params, cuda->device, &cuda_stream), VG_OK);
    assert_int_equal(cuda->device->allocate(&cuda_stream, vg_program_arena_bytes(s->program), &s->arena), VG_OK);
    assert_int_equal(vg_program_attach(s->program, s->arena.base), VG_OK);
}

static void close_program(sum_program *s)
{
    vg_program_free(s->program);
    vg_backend_cuda()->device->release(&cuda_stream, &s->arena);
    vg_params_free(s->params);
}

static void fill_with(float *x, float value)
{
    for (int i = 0; i < COUNT; i++) x[i] = value + (float)i;
}

static void assert_sum(const sum_program *s, float x, float z)
{
    const float *y = vg_program_output(s->program, "y", NULL);
    for (int i = 0; i < COUNT; i++) assert_true(y[i] == x + z + 2 * (float)i);
}

/* x of the next run is on its way while this one computes, z comes when it is known; host memory is free at once. */
static void the_next_inputs_come_in_while_a_run_is_under_way(void **state)
{
    (void)state;
    for (int recorded = 0; recorded < 2; recorded++) {
        sum_program s;
        float x[COUNT], z[COUNT];
        open_program(&s);
        vg_program_record(s.program, recorded);
        fill_with(x, 0);
        assert_int_equal(vg_program_bind(s.program, "x", x), VG_OK);
        assert_int_equal(vg_program_stage(s.program), VG_OK);
        for (int run = 0; run < RUNS; run++) {
            fill_with(z, 1000 * (float)run);
            assert_int_equal(vg_program_bind(s.program, "z", z), VG_OK);
            assert_int_equal(vg_program_run(s.program), VG_OK);
            fill_with(x, (float)(run + 1));
            fill_with(z, NAN);
            assert_int_equal(vg_program_bind(s.program, "x", x), VG_OK);
            assert_int_equal(vg_program_stage(s.program), VG_OK);
            fill_with(x, NAN);
            assert_int_equal(vg_program_wait(s.program), VG_OK);
            assert_sum(&s, (float)run, 1000 * (float)run);
        }
        close_program(&s);
    }
}

static void what_was_not_staged_comes_with_the_run(void **state)
{
    (void)state;
    sum_program s;
    float x[COUNT], z[COUNT];
    open_program(&s);
    for (int run = 0; run < RUNS; run++) {
        fill_with(x, (float)run);
        fill_with(z, 1000 * (float)run);
        assert_int_equal(vg_program_bind(s.program, "x", x), VG_OK);
        assert_int_equal(vg_program_bind(s.program, "z", z), VG_OK);
        assert_int_equal(vg_program_run(s.program), VG_OK);
        assert_int_equal(vg_program_wait(s.program), VG_OK);
        assert_sum(&s, (float)run, 1000 * (float)run);
    }
    close_program(&s);
}

static void set(vg_params *params, const char *name, float first, float step)
{
    const int index = vg_params_find(params, name);
    float *values = vg_params_data(params, index);
    for (int64_t i = 0; i < params->items[index].count; i++) values[i] = first + step * (float)i;
}

/* What `program` makes of x with the parameters as they are. */
static void answer(vg_program *program, vg_params *params, const float x[COUNT], float y[COUNT])
{
    const vg_device_ops *d = vg_backend_cuda()->device;
    vg_arena arena;
    assert_int_equal(vg_params_place(params, d, &cuda_stream), VG_OK);
    assert_int_equal(d->allocate(&cuda_stream, vg_program_arena_bytes(program), &arena), VG_OK);
    assert_int_equal(vg_program_attach(program, arena.base), VG_OK);
    assert_int_equal(vg_program_bind(program, "x", x), VG_OK);
    assert_int_equal(vg_program_run(program), VG_OK);
    assert_int_equal(vg_program_wait(program), VG_OK);
    memcpy(y, vg_program_output(program, "y", NULL), COUNT * sizeof *y);
    d->release(&cuda_stream, &arena);
}

/* y = x + gamma * (x W^T + b), W [WIDTH,WIDTH] */
static vg_program *scaled_layer(vg_params *params)
{
    vg_graph *g = NULL;
    vg_program *program = NULL;
    assert_int_equal(vg_graph_new(params, &g), VG_OK);
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(ROWS, WIDTH));
    const vg_value w = vg_graph_param(g, "w", VG_SHAPE(WIDTH, WIDTH)), b = vg_graph_param(g, "b", VG_SHAPE(WIDTH));
    vg_graph_keep(g, "y", vg_graph_linear_residual(g, x, w, b, vg_graph_param(g, "gamma", VG_SHAPE(WIDTH)), x));
    assert_int_equal(vg_graph_plan(g, vg_backend_cuda(), 1, &program), VG_OK);
    vg_graph_free(g);
    return program;
}

/* gamma W is made once where both and b are frozen, in every run where one of them trains: with the same bits. */
static void frozen_parameters_are_scaled_ahead(void **state)
{
    (void)state;
    static const char *const names[] = {"w", "b", "gamma"};
    vg_params *params = NULL;
    float x[COUNT], frozen[COUNT], trained[COUNT];
    assert_int_equal(vg_params_new(&params), VG_OK);
    vg_program *program = scaled_layer(params);
    assert_int_equal(vg_params_layout(params, NULL, 0), VG_OK);
    for (int i = 0; i < 3; i++) set(params, names[i], 0.3F * (float)(i + 1), -0.07F);
    fill_with(x, 0.1F);
    answer(program, params, x, frozen);
    const size_t bytes = vg_program_constant_bytes(program);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(vg_params_layout(params, (int[]){vg_params_find(params, names[i])}, 1), VG_OK);
        answer(program, params, x, trained);
        assert_true(vg_program_constant_bytes(program) < bytes);
        assert_memory_equal(frozen, trained, sizeof frozen);
    }
    vg_program_free(program);
    vg_params_free(params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_inputs_come_in_while_a_run_is_under_way),
        cmocka_unit_test(what_was_not_staged_comes_with_the_run),
        cmocka_unit_test(frozen_parameters_are_scaled_ahead),
    };
    cuda_open();
    return cmocka_run_group_tests_name("programs on the device", tests, NULL, NULL);
}
