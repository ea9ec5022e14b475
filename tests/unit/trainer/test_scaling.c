/* The arithmetic of a forecast for many ranks, on a network and a stage of round numbers. */
#define _XOPEN_SOURCE 700
#include "tests/unit/scratch.h"
#include "trainer/scaling.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* 4 ranks a host; a message 1 ms and 100 MB/s inside, 10 ms and 10 MB/s between; a round starts in 100 us. */
static const vg_network net = {.host_ranks = 4, .near = {1e-3, 100e6}, .far = {10e-3, 10e6}, .start_s = 1e-4};

static const vg_workload load = {.leaf_s = 0.5,
                                 .update_s = 0.1,
                                 .leaf_images = 8,
                                 .exchange = {.bytes = 4e6, .bucket_bytes = 1e6, .backward_s = 10}};

static void same(double actual, double expected)
{
    if (!(fabs(actual - expected) <= 1e-9 * fabs(expected))) print_error("%.12g is not %.12g\n", actual, expected);
    assert_true(fabs(actual - expected) <= 1e-9 * fabs(expected));
}

static const double near_round = 1e-4 + 3 * 1e-3 + 1e6 * 3 / 4 / 100e6, /* of a bucket, three mates */
    far_round = 1e-4 + 2 * 10e-3 + 1e6 * 2 / 3 / 10e6;                  /* and two other hosts */

static void a_sum_takes_two_rounds_inside_and_two_between_hosts(void **state)
{
    (void)state;
    const vg_sum_shape host = vg_sum_shape_of(4, 4, 4), hosts = vg_sum_shape_of(12, 12, 4);
    assert_int_equal(hosts.hosts, 3);
    assert_int_equal(hosts.mates, 4);
    same(vg_network_exchange(&net, &host, &load.exchange).total_s, 4 * 2 * near_round);
    same(vg_network_exchange(&net, &hosts, &load.exchange).total_s, 4 * 2 * (near_round + far_round));
}

/* 3 leaves a rank are two nodes of the tree, 12 a host are two again. */
static void uneven_trees_send_more(void **state)
{
    (void)state;
    const vg_sum_shape shape = vg_sum_shape_of(24, 8, 4);
    assert_int_equal(shape.parts, 2);
    assert_int_equal(shape.nodes, 2);
    const vg_network free_of_charge = {.host_ranks = 4, .far = {10e-3, 10e6}};
    const double a_way = 10e-3 + 1e6 / 2 / 10e6;
    same(vg_network_exchange(&free_of_charge, &shape, &load.exchange).total_s, 4 * 3 * a_way);
}

static void all_but_the_last_bucket_hide_as_far_as_backward_goes(void **state)
{
    (void)state;
    const vg_sum_shape pair = vg_sum_shape_of(2, 2, 1);
    const vg_network far = {.host_ranks = 1, .far = {10e-3, 10e6}};
    const double a_way = 10e-3 + 1e6 / 2 / 10e6;
    vg_exchange_plan plan = load.exchange;
    same(vg_network_exchange(&far, &pair, &plan).total_s, 4 * 2 * a_way);
    same(vg_network_exchange(&far, &pair, &plan).hidden_s, 3 * 2 * a_way);
    plan.backward_s = 0.05;
    same(vg_network_exchange(&far, &pair, &plan).hidden_s, 0.05 * 3 / 4); /* none before the first */
    plan.backward_s = 10;
    plan.sliced = true; /* weights come back after the update */
    same(vg_network_exchange(&far, &pair, &plan).hidden_s, 3 * a_way);
}

static void a_lone_rank_exchanges_nothing(void **state)
{
    (void)state;
    const vg_scaling s = vg_scaling_of(&load, &net, 1, 4);
    same(s.step_s, 0.1 + 4 * 0.5);
    assert_true(s.exchange_s == 0 && s.exposed_s == 0);
    same(s.images, 32);
    same(s.efficiency, 1);
}

static void a_step_is_computing_and_what_nothing_hides(void **state)
{
    (void)state;
    const vg_scaling s = vg_scaling_of(&load, &net, 12, 12);
    /* the last bucket; counts and losses to 3 mates and 8 ranks elsewhere */
    const double exposed = 2 * (near_round + far_round) + 1e-4 + 2 * (3 * 1e-3 + 8 * 10e-3);
    assert_int_equal(s.hosts, 3);
    same(s.compute_s, 0.6);
    same(s.exposed_s, exposed);
    same(s.step_s, 0.6 + exposed);
    same(s.images_per_s, 96 / (0.6 + exposed));
    same(s.efficiency, 0.6 / (0.6 + exposed));
}

static void ranks_that_have_fewer_micro_batches_wait(void **state)
{
    (void)state;
    const vg_network nothing = {.host_ranks = 64};
    const vg_scaling s = vg_scaling_of(&load, &nothing, 6, 8); /* 2 each on 4 of them */
    same(s.step_s, 0.1 + 2 * 0.5);
    same(s.efficiency, (0.1 + 0.5 * 8 / 6) / 1.1);
}

static void a_measured_network_gives_back_what_was_measured(void **state)
{
    (void)state;
    for (int ranks = 2; ranks <= 5; ranks++) {
        const vg_sum_shape shape = vg_sum_shape_of(ranks, ranks, 1);
        const vg_network fitted = {.host_ranks = 1, .far = vg_network_fitted(&shape, 3e-3, 1 / 20e6)};
        const vg_exchange_plan plan = {.bytes = 5e6, .bucket_bytes = 5e6};
        same(vg_network_exchange(&fitted, &shape, &plan).total_s, 3e-3 + 5e6 / 20e6);
    }
}

static void a_written_network_is_read_back(void **state)
{
    const char *path = path_in(*state, "network.json");
    vg_network back = {0};
    assert_int_equal(vg_network_write(path, &net), VG_OK);
    assert_int_equal(vg_network_read(path, &back), VG_OK);
    assert_int_equal(back.host_ranks, 4);
    same(back.far.alpha_s, 10e-3);
    same(back.far.beta, 10e6);
}

static void an_unknown_network_names_the_known_ones(void **state)
{
    (void)state;
    vg_network out;
    assert_int_equal(vg_network_read("10gbe", &out), VG_OK);
    same(out.far.beta, 1.25e9 * 0.94);
    assert_int_equal(vg_network_read("ndr8", &out), VG_OK);
    same(out.far.beta, 8 * 50e9 * 0.91);
    assert_int_equal(vg_network_read("nowhere", &out), VG_E_USAGE);
    assert_non_null(strstr(vg_error_text(), "10gbe hdr ndr"));
}

static void a_damaged_network_file_is_refused_by_name(void **state)
{
    static const char *const texts[] = {
        "",
        "[]",
        "{",
        "{\"host_ranks\": 1, \"message_us\": 5}",
        "{\"host_ranks\": 0, \"message_us\": 5, \"host_gb_s\": 1}",
        "{\"host_ranks\": 1e9, \"message_us\": 5, \"host_gb_s\": 1}",
        "{\"host_ranks\": 1, \"message_us\": -5, \"host_gb_s\": 1}",
        "{\"host_ranks\": 1, \"message_us\": 5, \"host_gb_s\": \"fast\"}",
    };
    const char *path = path_in(*state, "network.json");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        vg_network out;
        memcpy(&out, &net, sizeof out); /* padding, too */
        assert_int_equal(vg_file_write_atomic(path, texts[i], strlen(texts[i])), VG_OK);
        if (vg_network_read(path, &out) != VG_E_DATA) fail_msg("taken: %s", texts[i]);
        assert_non_null(strstr(vg_error_text(), path));
        assert_memory_equal(&out, &net, sizeof out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sum_takes_two_rounds_inside_and_two_between_hosts),
        cmocka_unit_test(uneven_trees_send_more),
        cmocka_unit_test(all_but_the_last_bucket_hide_as_far_as_backward_goes),
        cmocka_unit_test(a_lone_rank_exchanges_nothing),
        cmocka_unit_test(a_step_is_computing_and_what_nothing_hides),
        cmocka_unit_test(ranks_that_have_fewer_micro_batches_wait),
        cmocka_unit_test(a_measured_network_gives_back_what_was_measured),
        cmocka_unit_test_setup_teardown(a_written_network_is_read_back, scratch_make, scratch_remove),
        cmocka_unit_test(an_unknown_network_names_the_known_ones),
        cmocka_unit_test_setup_teardown(a_damaged_network_file_is_refused_by_name, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
