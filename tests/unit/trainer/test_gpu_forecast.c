/* The arithmetic of a step's forecast, on a GPU of round numbers. */
#include "trainer/gpu_forecast.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const vg_gpu round_gpu = {.name = "round",
                                 .title = "a GPU of round numbers",
                                 .multiprocessors = 100,
                                 .bf16_tflops = 1000,
                                 .fp32_tflops = 100,
                                 .memory_gb_s = 1000,
                                 .memory_gb = 80,
                                 .near_gb_s = 100,
                                 .host_gpus = 8,
                                 .far_gb_s = 10,
                                 .bf16_products = 0.8,
                                 .bf16_attention = 0.4,
                                 .sources = "none"};

/* As devices.def has them; and a bucket. */
static const double memory_share = 0.9, near_share = 0.8, far_share = 0.91, fp32_products = 0.77, start_s = 1.3e-6,
                    collective_s = 40e-6, bucket_bytes = 25e6;

static vg_gpu_step step_on(vg_precision precision, int ranks, int leaves)
{
    return (vg_gpu_step){
        .gpu = &round_gpu, .precision = precision, .ranks = ranks, .leaves = leaves, .bucket_bytes = bucket_bytes};
}

static vg_cost in_bf16(vg_cost cost)
{
    cost.bf16 = true;
    return cost;
}

static void near(double actual, double expected)
{
    if (!(fabs(actual - expected) <= 1e-9 * fabs(expected))) print_error("%.12g is not %.12g\n", actual, expected);
    assert_true(fabs(actual - expected) <= 1e-9 * fabs(expected));
}

static void a_product_takes_what_it_reaches_of_the_peak(void **state)
{
    (void)state;
    const vg_cost cost = {.flops = 1e12, .bytes = 1e6, .pieces = 100, .kernels = 1}, low = in_bf16(cost);
    vg_gpu_step bf16 = step_on(VG_PRECISION_BF16, 1, 3), fp32 = step_on(VG_PRECISION_FP32, 1, 1);
    vg_gpu_add_kernel(&bf16, VG_OP_linear, &low);
    vg_gpu_add_kernel(&fp32, VG_OP_linear_dw, &cost);
    near(bf16.lines[VG_GPU_PRODUCTS].peak_s, 3e-3);
    near(bf16.lines[VG_GPU_PRODUCTS].expected_s, 3e-3 / 0.8);
    near(bf16.lines[VG_GPU_PRODUCTS].flops, 3e12);
    near(fp32.lines[VG_GPU_PRODUCTS].peak_s, 10e-3);
    near(fp32.lines[VG_GPU_PRODUCTS].expected_s, 10e-3 / fp32_products);
}

static void pieces_that_do_not_fill_the_last_round_cost_a_round(void **state)
{
    (void)state;
    const vg_cost cost = {.flops = 1e12, .bytes = 1e6, .pieces = 101, .bf16 = true, .kernels = 1};
    vg_gpu_step s = step_on(VG_PRECISION_BF16, 1, 1);
    vg_gpu_add_kernel(&s, VG_OP_linear_dx, &cost);
    near(s.lines[VG_GPU_PRODUCTS].peak_s, 1e-3);
    near(s.lines[VG_GPU_PRODUCTS].expected_s, 1e-3 / 0.8 * 200 / 101);
}

static void what_moves_more_than_it_computes_is_bound_by_memory(void **state)
{
    (void)state;
    const vg_cost layernorm = {.bytes = 1e9, .kernels = 1},
                  thin = {.flops = 1e9, .bytes = 5e8, .pieces = 100, .bf16 = true, .kernels = 1};
    vg_gpu_step fp32 = step_on(VG_PRECISION_FP32, 1, 1), bf16 = step_on(VG_PRECISION_BF16, 1, 1);
    vg_gpu_add_kernel(&fp32, VG_OP_layernorm, &layernorm);
    vg_gpu_add_kernel(&bf16, VG_OP_attention, &thin);
    near(fp32.lines[VG_GPU_MEMORY].peak_s, 1e-3);
    near(fp32.lines[VG_GPU_MEMORY].expected_s, 1e-3 / memory_share);
    near(bf16.lines[VG_GPU_ATTENTION].peak_s, 0.5e-3);
    near(bf16.lines[VG_GPU_ATTENTION].expected_s, 0.5e-3 / memory_share);
}

static void partial_results_go_through_memory_twice(void **state)
{
    (void)state;
    const vg_cost cost = {.flops = 1e12, .bytes = 1e6, .pieces = 100, .partial = 1e8, .kernels = 2, .bf16 = true};
    vg_gpu_step s = step_on(VG_PRECISION_BF16, 1, 1);
    vg_gpu_add_kernel(&s, VG_OP_linear_dw, &cost);
    near(s.lines[VG_GPU_PRODUCTS].peak_s, 1e-3); /* no part of the operation's own roofline */
    near(s.lines[VG_GPU_PRODUCTS].reached_s, 1e-3 / 0.8);
    near(s.lines[VG_GPU_PRODUCTS].expected_s, 1e-3 / 0.8 + 1e-4 / memory_share); /* written while it multiplies */
    near(s.lines[VG_GPU_PRODUCTS].bytes, 1e6 + 2e8);
    near(s.lines[VG_GPU_PRODUCTS].kernels, 2);
    near(s.backward_s, s.lines[VG_GPU_PRODUCTS].expected_s + 2 * start_s);
}

static void scores_computed_twice_are_no_part_of_the_model(void **state)
{
    (void)state;
    const vg_cost cost = {.flops = 1e12, .bytes = 1e6, .pieces = 100, .bf16 = true, .kernels = 1};
    vg_gpu_step s = step_on(VG_PRECISION_BF16, 1, 2);
    vg_gpu_add_kernel(&s, VG_OP_attention_grad, &cost);
    vg_gpu_add_kernel(&s, VG_OP_attention, &cost);
    near(s.model_flops, 2 * 1.8e12);
    near(s.lines[VG_GPU_ATTENTION].flops, 4e12);
    near(s.backward_s, 1e-3 / 0.4 + start_s); /* of one micro-batch, the gradient alone */
}

static void one_rank_exchanges_nothing_and_merges_its_micro_batches(void **state)
{
    (void)state;
    vg_gpu_step s = step_on(VG_PRECISION_FP32, 1, 4);
    const vg_cost cost = {.flops = 0, .bytes = 1e9, .kernels = 1};
    vg_gpu_add_kernel(&s, VG_OP_add, &cost);
    vg_gpu_finish(&s, 1e6);
    assert_true(s.exchange_s == 0 && s.lines[VG_GPU_EXCHANGE].expected_s == 0);
    near(s.lines[VG_GPU_MERGES].bytes, 3 * 12e6);
    near(s.lines[VG_GPU_UPDATE].bytes, 32e6);
    near(s.lines[VG_GPU_STARTS].kernels, 4 + 3 + 3);
    near(s.lines[VG_GPU_STARTS].expected_s, 10 * start_s);
    const double moves = (4e9 + 36e6 + 32e6) / 1e12 / memory_share;
    near(s.step_s, moves + 10 * start_s);
    near(s.of_reachable, (moves - 36e6 / 1e12 / memory_share) / s.step_s);
    near(s.of_peak, (4e9 + 32e6) / 1e12 / s.step_s);
    assert_true(s.mfu == 0);
}

/* n floats of one bucket. */
static const double one_bucket = bucket_bytes / 4;

static void gradients_cross_the_host_and_then_the_network(void **state)
{
    (void)state;
    vg_gpu_step host = step_on(VG_PRECISION_FP32, 8, 1), hosts = step_on(VG_PRECISION_FP32, 16, 1),
                pair = step_on(VG_PRECISION_FP32, 2, 1);
    vg_gpu_finish(&pair, one_bucket);
    vg_gpu_finish(&host, one_bucket);
    vg_gpu_finish(&hosts, one_bucket);
    const double inside = 2 * bucket_bytes * 7 / 8 / (100e9 * near_share);
    const double between = 2 * bucket_bytes / 8 / 2 / (10e9 * far_share);
    near(pair.exchange_s, 2 * bucket_bytes / 2 / (100e9 * near_share) + 2 * collective_s);
    near(host.exchange_s, inside + 2 * collective_s);
    near(hosts.exchange_s, inside + between + 4 * collective_s);
    /* one bucket is complete when backward ends: nothing hides it; then come the flags */
    near(hosts.lines[VG_GPU_EXCHANGE].expected_s, hosts.exchange_s + collective_s);
}

static void all_buckets_but_the_last_hide_behind_backward(void **state)
{
    (void)state;
    const vg_cost slow = {.flops = 1e13, .pieces = 100, .bf16 = true, .kernels = 1};
    const vg_cost quick = {.flops = 1e9, .pieces = 100, .bf16 = true, .kernels = 1};
    vg_gpu_step s = step_on(VG_PRECISION_BF16, 8, 1), short_one = step_on(VG_PRECISION_BF16, 8, 1);
    vg_gpu_add_kernel(&s, VG_OP_linear_dw, &slow);
    vg_gpu_add_kernel(&short_one, VG_OP_linear_dw, &quick);
    vg_gpu_finish(&s, 10 * one_bucket);
    vg_gpu_finish(&short_one, 10 * one_bucket);
    near(s.hidden_s, 0.9 * s.exchange_s);
    near(short_one.hidden_s, 0.9 * (1e-6 / 0.8 + start_s)); /* the first leaves when a tenth is done */
    near(s.lines[VG_GPU_EXCHANGE].expected_s, 0.1 * s.exchange_s + collective_s);
}

static void the_share_of_the_peak_is_of_the_whole_step(void **state)
{
    (void)state;
    const vg_cost cost = {.flops = 1e12, .pieces = 100, .bf16 = true, .kernels = 1};
    vg_gpu_step s = step_on(VG_PRECISION_BF16, 1, 1);
    vg_gpu_add_kernel(&s, VG_OP_linear, &cost);
    vg_gpu_finish(&s, 1e6);
    /* the update reads 5 numbers and writes 3, then the copies in bf16 are made: 6 bytes */
    near(s.step_s, 1e-3 / 0.8 + 38e6 / 1e12 / memory_share + 5 * start_s);
    near(s.mfu, 1e-3 / s.step_s);
}

static void a_gpu_is_found_by_name_or_the_known_ones_are_named(void **state)
{
    (void)state;
    const vg_gpu *gpu = NULL;
    assert_int_equal(vg_gpu_find("h100", &gpu), VG_OK);
    assert_string_equal(gpu->name, "h100");
    assert_int_equal(gpu->host_gpus, 8);
    assert_int_equal(vg_gpu_find("h1000", &gpu), VG_E_USAGE);
    assert_non_null(strstr(vg_error_text(), "a100 h100 b200"));
}

static void every_assumption_is_listed_with_its_source(void **state)
{
    (void)state;
    static const char *const words[] = {"0.803",
                                        "0.35",
                                        "0.9 of the memory's rate",
                                        "arXiv 2402.13499",
                                        "40 us",
                                        "67.0 in fp32",
                                        "measured: Spector et al. 2025",
                                        "measured: Luo et al.",
                                        "NVIDIA H100 data sheet"};
    const vg_gpu *gpu = NULL;
    assert_int_equal(vg_gpu_find("h100", &gpu), VG_OK);
    char *text = vg_gpu_assumptions(gpu);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!strstr(text, words[i])) print_error("'%s' is missing\n", words[i]);
        assert_non_null(strstr(text, words[i]));
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_takes_what_it_reaches_of_the_peak),
        cmocka_unit_test(pieces_that_do_not_fill_the_last_round_cost_a_round),
        cmocka_unit_test(what_moves_more_than_it_computes_is_bound_by_memory),
        cmocka_unit_test(partial_results_go_through_memory_twice),
        cmocka_unit_test(scores_computed_twice_are_no_part_of_the_model),
        cmocka_unit_test(one_rank_exchanges_nothing_and_merges_its_micro_batches),
        cmocka_unit_test(gradients_cross_the_host_and_then_the_network),
        cmocka_unit_test(all_buckets_but_the_last_hide_behind_backward),
        cmocka_unit_test(the_share_of_the_peak_is_of_the_whole_step),
        cmocka_unit_test(a_gpu_is_found_by_name_or_the_known_ones_are_named),
        cmocka_unit_test(every_assumption_is_listed_with_its_source),
    };
    return cmocka_run_group_tests_name("gpu_forecast", tests, NULL, NULL);
}
