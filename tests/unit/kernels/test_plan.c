/* The plan: temporaries that are alive together never overlap, and the arena is not larger than it must be. */
#include "kernels/program_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_no_overlap(const vg_temporary *t, size_t n, size_t arena_bytes)
{
    for (size_t i = 0; i < n; i++) {
        assert_true(t[i].offset % 64 == 0 && t[i].offset + t[i].bytes <= arena_bytes);
        for (size_t j = 0; j < i; j++) {
            const bool together = t[i].first <= t[j].last && t[j].first <= t[i].last;
            const bool apart = t[i].offset + t[i].bytes <= t[j].offset || t[j].offset + t[j].bytes <= t[i].offset;
            assert_true(!together || apart);
        }
    }
}

static void values_that_live_together_never_overlap(void **state)
{
    (void)state;
    enum { N = 300 };
    static vg_temporary t[N];
    for (uint32_t round = 0; round < 5; round++) {
        size_t live[N] = {0}, peak = 0, arena_bytes = 0;
        for (uint32_t i = 0; i < N; i++) {
            uint32_t r[4];
            vg_rng_block((vg_rng_key){{1, 2}}, round, 0, i, r);
            t[i] = (vg_temporary){.first = (int)(r[0] % N), .bytes = 1 + r[1] % 100000};
            t[i].last = t[i].first + (int)(r[2] % 30);
        }
        assert_int_equal(vg_place_temporaries(t, N, &arena_bytes), VG_OK);
        assert_no_overlap(t, N, arena_bytes);
        for (int i = 0; i < N; i++)
            for (int at = t[i].first; at <= t[i].last && at < N; at++) live[at] += t[i].bytes;
        for (int at = 0; at < N; at++) peak = live[at] > peak ? live[at] : peak;
        assert_true(arena_bytes >= peak && (double)arena_bytes <= 1.3 * (double)peak);
    }
}

static void a_chain_needs_two_places(void **state)
{
    (void)state;
    vg_temporary t[10];
    size_t arena_bytes = 0;
    for (int i = 0; i < 10; i++) t[i] = (vg_temporary){.first = i, .last = i + 1, .bytes = 1000};
    assert_int_equal(vg_place_temporaries(t, 10, &arena_bytes), VG_OK);
    assert_int_equal(arena_bytes, 2 * 1024);
}

static int first_of_an_add(vg_op op, int output)
{
    return op == VG_OP_add && output == 0 ? 0 : -1;
}

static const void *place_of(const vg_program *p, int node)
{
    return p->nodes[node].out[0].data;
}

static void an_output_takes_the_place_of_an_input_that_nobody_else_reads(void **state)
{
    (void)state;
    vg_params *params = NULL;
    vg_graph *g = NULL;
    vg_program *p = NULL;
    vg_arena arena = {0};
    vg_backend backend = *vg_backend_cpu();
    backend.in_place = first_of_an_add;
    assert_int_equal(vg_params_new(&params), VG_OK);
    assert_int_equal(vg_graph_new(params, &g), VG_OK);
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(40));
    const vg_value a = vg_graph_add(g, x, x), b = vg_graph_add(g, a, x), c = vg_graph_add(g, a, b);
    const vg_value d = vg_graph_add(g, c, c), e = vg_graph_add(g, d, x), f = vg_graph_add(g, e, x);
    vg_graph_keep(g, "e", e);
    vg_graph_keep(g, "f", f);
    assert_int_equal(vg_graph_plan(g, &backend, 1, &p), VG_OK);
    assert_int_equal(vg_arena_init(&arena, vg_program_arena_bytes(p)), VG_OK);
    assert_int_equal(vg_program_attach(p, arena.base), VG_OK);
    assert_ptr_not_equal(place_of(p, 1), place_of(p, 0)); /* c reads a after b is written */
    assert_ptr_equal(place_of(p, 2), place_of(p, 0));
    assert_ptr_not_equal(place_of(p, 3), place_of(p, 2)); /* d reads c twice */
    assert_ptr_equal(place_of(p, 4), place_of(p, 3));
    assert_ptr_not_equal(place_of(p, 5), place_of(p, 4)); /* e is kept */
    vg_program_free(p);
    vg_graph_free(g);
    vg_params_free(params);
    vg_arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_that_live_together_never_overlap),
        cmocka_unit_test(a_chain_needs_two_places),
        cmocka_unit_test(an_output_takes_the_place_of_an_input_that_nobody_else_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
