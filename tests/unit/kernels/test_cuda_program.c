#define _DEFAULT_SOURCE /* setenv */
/* A program on the device: inputs come in on a stream of their own while it computes. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_inputs_come_in_while_a_run_is_under_way),
        cmocka_unit_test(what_was_not_staged_comes_with_the_run),
    };
    cuda_open();
    return cmocka_run_group_tests_name("programs on the device", tests, NULL, NULL);
}
