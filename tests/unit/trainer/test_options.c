#include "trainer/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static vg_status parse(vg_options *o, const char *yaml, const char *const *sets, int n_sets)
{
    return vg_options_parse(o, yaml, strlen(yaml), "run.yaml", sets, n_sets);
}

static void refuse(const char *yaml, const char *word)
{
    vg_options o = {0};
    assert_int_equal(parse(&o, yaml, NULL, 0), VG_E_CONFIG);
    assert_non_null(strstr(vg_error_text(), "run.yaml"));
    assert_non_null(strstr(vg_error_text(), word));
    assert_null(o.model_preset); /* nothing is handed out on failure */
}

static void the_order_is_preset_then_file_then_command_line(void **state)
{
    (void)state;
    vg_options o;
    const char *sets[] = {"fusion.width=64", "model.preset=tiny"};
    assert_int_equal(parse(&o, "model: {preset: strong}\nfusion: {width: 48, queries: 7}\n", sets, 2), VG_OK);
    assert_string_equal(o.model_preset, "tiny");
    assert_int_equal(o.fusion_width, 64);         /* the command line's */
    assert_int_equal(o.fusion_queries, 7);        /* the file's */
    assert_int_equal(o.fusion_decoder_layers, 2); /* the preset's */
    assert_int_equal(o.fusion_encoder_layers, 0); /* strong is not applied */
    assert_string_equal(o.fusion_norm, "post");   /* the default */
    vg_options_release(&o);
}

static void stages_are_read_in_order_and_set_by_name(void **state)
{
    (void)state;
    vg_options o;
    const char *sets[] = {"schedule.blocks.steps=9", "schedule.0.lr=0.5"};
    assert_int_equal(parse(&o,
                           "schedule:\n  - {name: heads, steps: 5}\n  - name: blocks\n    train: {heads: 1, "
                           "'vision.blocks.?.*': 0.1}\n    unfreeze_blocks: 3\n",
                           sets, 2),
                     VG_OK);
    assert_int_equal(o.n_stages, 2);
    assert_float_equal(o.schedule[0].lr, 0.5, 0);
    assert_int_equal(o.schedule[1].steps, 9);
    assert_int_equal(o.schedule[1].train.n, 2);
    assert_string_equal(o.schedule[1].train.items[1], "vision.blocks.?.*=0.1");
    vg_options_release(&o);
}

static void what_is_printed_reads_back_to_the_same(void **state)
{
    (void)state;
    vg_options o, again;
    vg_text first = {0}, second = {0};
    uint64_t hash = 0, hash_again = 1;
    assert_int_equal(
        parse(
            &o,
            "data: {shards: [a, 'b \"c\" \\'], side: 518, sets: {vg: 'a=b', ref: \"c d\"}}\nrun: {folder: \"x\\ty\"}\n"
            "train: {eps: 1.23456789012345e-7}\nschedule:\n  - {name: a, train: {'*': 0.3}, mix: {ref: 2}}\n",
            NULL, 0),
        VG_OK);
    assert_int_equal(vg_options_print(&o, &first), VG_OK);
    assert_int_equal(parse(&again, first.data, NULL, 0), VG_OK);
    assert_int_equal(vg_options_print(&again, &second), VG_OK);
    assert_string_equal(first.data, second.data);
    assert_string_equal(again.data_sets.items[0], "vg=a=b");
    assert_string_equal(again.schedule[0].mix.items[0], "ref=2");
    assert_string_equal(again.data_shards.items[1], "b \"c\" \\");
    assert_int_equal(vg_options_hash(&o, &hash), VG_OK);
    assert_int_equal(vg_options_hash(&again, &hash_again), VG_OK);
    assert_true(hash == hash_again);
    vg_options_release(&o);
    vg_options_release(&again);
    free(first.data);
    free(second.data);
}

/* The command line may give what a file would be refused for: a checkpoint holds it, and must be read. */
static void long_words_read_back_or_are_refused_at_once(void **state)
{
    (void)state;
    vg_options o, again;
    vg_text text = {0};
    char path[1024], pattern[512];
    snprintf(path, sizeof path, "data.sets=far=/%0900d", 0);
    snprintf(pattern, sizeof pattern, "schedule.a.train=%0300d=1", 0);
    const char *far[] = {path}, *refused[] = {pattern};
    const char *yaml = "schedule:\n  - {name: a}\n";
    assert_int_equal(parse(&o, yaml, far, 1), VG_OK);
    assert_int_equal(vg_options_print(&o, &text), VG_OK);
    assert_int_equal(parse(&again, text.data, NULL, 0), VG_OK);
    assert_string_equal(again.data_sets.items[0], strchr(path, '=') + 1);
    assert_int_equal(parse(&o, yaml, refused, 1), VG_E_CONFIG);
    assert_non_null(strstr(vg_error_text(), "is too long"));
    vg_options_release(&o);
    vg_options_release(&again);
    free(text.data);
}

static uint64_t hash_with(const char *set)
{
    vg_options o;
    uint64_t hash = 0;
    assert_int_equal(parse(&o, "schedule: [{name: a}]\n", &set, 1), VG_OK);
    assert_int_equal(vg_options_hash(&o, &hash), VG_OK);
    vg_options_release(&o);
    return hash;
}

static void the_hash_knows_what_shapes_the_bits(void **state)
{
    (void)state;
    const uint64_t plain = hash_with("train.seed=1");
    assert_true(hash_with("train.seed=2") != plain);
    assert_true(hash_with("train.micro_batch=4") != plain);
    assert_true(hash_with("schedule.a.lr=0.1") != plain);
    assert_true(hash_with("run.folder=elsewhere") == plain);
    assert_true(hash_with("data.shards=elsewhere") == plain); /* checkpoints tell what is in them */
    assert_true(hash_with("data.sets=vg=here") == hash_with("data.sets=vg=there"));
    assert_true(hash_with("data.sets=vg=here") != hash_with("data.sets=ref=here"));
    assert_true(hash_with("data.workers=3") == plain);
    assert_true(hash_with("features.phrases=off") == plain);
}

static void differ(const char *then, const char *now, const char *expected)
{
    vg_options a, b;
    vg_text text = {0};
    assert_int_equal(parse(&a, then, NULL, 0), VG_OK);
    assert_int_equal(parse(&b, now, NULL, 0), VG_OK);
    assert_int_equal(vg_options_difference(&a, &b, &text), VG_OK);
    assert_string_equal(text.data ? text.data : "", expected);
    free(text.data);
    vg_options_release(&a);
    vg_options_release(&b);
}

static void the_first_difference_is_named(void **state)
{
    (void)state;
    differ("train: {seed: 7}\nrun: {folder: a}\ntext: {tokenizer: x}\n", "train: {seed: 7}\nrun: {folder: b}\n", "");
    differ("train: {seed: 7}\n", "train: {seed: 77}\n", "train.seed was 7 and is 77");
    differ("train: {beta1: 0.9}\n", "train: {beta1: 0.90000000000000013}\n",
           "train.beta1 was 0.9 and is 0.9000000000000001");
    differ("data: {sets: {a: x, b: y}}\n", "data: {sets: {a: y}}\n", "data.sets was a, b and is a");
    differ("schedule: [{name: a, steps: 5}]\n", "schedule: [{name: a, steps: 6}]\n", "schedule.0.steps was 5 and is 6");
    differ("schedule: [{name: a}]\n", "schedule: [{name: a}, {name: b}]\n", "schedule was 1 stages and is 2 stages");
}

static void mistakes_are_named_with_their_line(void **state)
{
    (void)state;
    refuse("train:\n  seeed: 1\n", "run.yaml:2: unknown key 'train.seeed'; did you mean 'train.seed'?");
    refuse("train: {seed: 1}\nmodel: {preset: huge}\n", "no preset 'huge'");
    refuse("train: {seed: x}\n", "'x' is not a number");
    refuse("train: {seed: 1.5}\n", "not a whole number");
    refuse("train: {beta1: 1}\n", "out of range");
    refuse("fusion: {modality: maybe}\n", "neither true nor false");
    refuse("train: {seed: [1, 2]}\n", "one value is expected");
    refuse("train: {seed: 1}\ntrain: {seed: 2}\n", "given before");
    refuse("run: {folder: ''}\n", "a folder with a name");
    refuse("data: {side: 500}\n", "multiple of vision.patch");
    refuse("schedule: [{name: a, train: {heads: much}}]\n", "not a number");
    refuse("data: {sets: {vg: ''}}\n", "'vg=' is not a name with a value");
    refuse("data: {sets: {vg: a, vg: b}}\n", "'vg' is named twice");
    refuse("data: {sets: {vg: a}}\nschedule: [{name: a, mix: {ref: 1}}]\n", "there is no set 'ref'");
    refuse("data: {sets: {vg: a}}\nschedule: [{name: a, mix: {vg: 1.5}}]\n", "not a whole number");
    refuse("data: {sets: {vg: a}}\nschedule: [{name: a, mix: {vg: 0}}]\n", "every weight is 0");
    refuse("schedule: [{name: a, sides: [518, 500]}]\n", "500 pixels are not a multiple of vision.patch 14");
    refuse("schedule: [{name: a, sides: [518, big]}]\n", "'big' is not a side");
    refuse("schedule: [{name: a, sides: [518, 518]}]\n", "518 is there twice");
    refuse("train: &x {seed: 1}\n", "anchors");
    refuse("train: {seed: 1}\n---\ntrain: {}\n", "end of the file");
    refuse("- a\n", "a mapping of sections");
}

static void what_no_configuration_file_could_hold_is_refused(void **state)
{
    (void)state;
    vg_options o;
    const char *sets[] = {"run.folder=caf\xe9"}; /* Latin-1 */
    assert_int_equal(parse(&o, "", sets, 1), VG_E_CONFIG);
    assert_non_null(strstr(vg_error_text(), "run.folder: the value is not UTF-8"));
}

static void an_empty_file_is_the_defaults(void **state)
{
    (void)state;
    vg_options o;
    assert_int_equal(parse(&o, "", NULL, 0), VG_OK);
    assert_int_equal(o.vision_width, 384);
    assert_int_equal(o.fusion_queries, 10);
    vg_options_release(&o);
}

static void the_shipped_configurations_are_read(void **state)
{
    (void)state;
    static const char *const names[] = {"refcoco", "quickstart", "photographs"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        vg_options o;
        snprintf(path, sizeof path, "%s/../../jobs/%s.yaml", FIXTURES, names[i]);
        assert_int_equal(vg_options_read(&o, path, NULL, 0), VG_OK);
        assert_true(o.n_stages > 0);
        vg_options_release(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_is_preset_then_file_then_command_line),
        cmocka_unit_test(stages_are_read_in_order_and_set_by_name),
        cmocka_unit_test(what_is_printed_reads_back_to_the_same),
        cmocka_unit_test(long_words_read_back_or_are_refused_at_once),
        cmocka_unit_test(the_hash_knows_what_shapes_the_bits),
        cmocka_unit_test(the_first_difference_is_named),
        cmocka_unit_test(mistakes_are_named_with_their_line),
        cmocka_unit_test(what_no_configuration_file_could_hold_is_refused),
        cmocka_unit_test(an_empty_file_is_the_defaults),
        cmocka_unit_test(the_shipped_configurations_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
