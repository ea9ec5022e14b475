/* What inspect tells about shards, for people and for programs, and the contact sheet. */
#define _XOPEN_SOURCE 700
#include "data/shard_inspect_impl.h"
#include "data/shard_tools.h"
#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/unit/data/small_shard.h"

/* What fontconfig keeps until the process ends is not ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig";
}

static const char *two_shards(const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, "%s/a.h5", folder);
    small_shard(path);
    snprintf(path, sizeof path, "%s/b.h5", folder);
    small_shard(path);
    return folder;
}

static void people_read_counts_and_distributions(void **state)
{
    const char *folder = two_shards(*state);
    vg_text text = {0};
    MUST(vg_shard_inspect(&folder, 1, NULL, false, &text));
    const char *lines[] = {
        "test by hand, 2 images",
        "train                 4          6          6          8\n",
        "val                   2          2          2          0\n",
        "plural                2          2          2          4\n",
        "(none)                4          4          4          2\n",
        "words of a phrase           1.8      1.0      1.0      1.0      2.0      2.0      2.0      2.0\n",
        "boxes of a phrase           1.0      0.0      0.0      0.0      1.0      1.0      2.0      2.0\n",
        "box area / image area    0.3542   0.0833   0.0833   0.0833   0.1667   0.1667   1.0000   1.0000\n",
        "image width, pixels          50       40       40       40       40       60       60       60\n",
        "8 phrases, 3 of them distinct; by words:  1: 25.0 %  2: 75.0 %\n",
        "image 7, ref 700, sentence 70 (train): \"left man\" [1 2 11 12]\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(text.data, lines[i])) fail_msg("'%s' is not in\n%s", lines[i], text.data);
    free(text.data);
}

static void programs_read_the_same_as_json(void **state)
{
    const char *folder = two_shards(*state);
    vg_text text = {0};
    json_int_t images = 0, sentences = 0, distinct = 0, n = 0;
    double mean = 0, most = 0;
    MUST(vg_shard_inspect(&folder, 1, "train", true, &text));
    json_t *root = json_loads(text.data, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(root, "shards")), 2);
    assert_int_equal(json_object_size(json_object_get(root, "splits")), 1); /* val was not asked for */
    assert_int_equal(json_unpack(root, "{s:{s:{s:I, s:I}}, s:{s:I}, s:{s:I, s:F, s:F}}", "splits", "train", "images",
                                 &images, "sentences", &sentences, "phrases", "distinct", &distinct, "box_area", "n",
                                 &n, "mean", &mean, "max", &most),
                     0);
    assert_int_equal(images, 4);
    assert_int_equal(sentences, 6);
    assert_int_equal(distinct, 2);
    assert_int_equal(n, 8);
    assert_true(mean > 0.3541 && mean < 0.3542 && most > 0.9999);
    json_decref(root);
    free(text.data);
}

static void quantiles_are_values_by_rank(void **state)
{
    float values[] = {1, 2, 3, 4, 10};
    const vg_measured five = {.values = values, .n = 5}, none = {0};
    (void)state;
    assert_true(vg_measured_quantile(&five, 0) == 1 && vg_measured_quantile(&five, 1) == 10);
    assert_true(vg_measured_quantile(&five, 0.5) == 3 && vg_measured_quantile(&five, 0.95) == 10);
    assert_true(vg_measured_quantile(&five, 0.2) == 1 && vg_measured_quantile(&five, 0.21) == 2);
    assert_true(vg_measured_mean(&five) == 4 && vg_measured_quantile(&none, 0.5) == 0);
}

static void an_absent_split_is_named(void **state)
{
    const char *folder = two_shards(*state);
    vg_text text = {0};
    assert_int_equal(vg_shard_inspect(&folder, 1, "testA", false, &text), VG_E_DATA);
    ASSERT_SAYS("no split 'testA'; there are ");
    assert_int_equal(vg_shard_inspect(&folder, 1, "trian", false, &text), VG_E_DATA);
    ASSERT_SAYS("did you mean 'train'?");
    assert_int_equal(vg_shard_sample(&folder, 1, "testA", 1, 1, "never.png"), VG_E_DATA);
    ASSERT_SAYS("no images of split 'testA'");
}

static void absent_images_are_counted(void **state)
{
    char path[512];
    const char *paths[] = {path};
    vg_shard_writer *w = NULL;
    vg_text text = {0}, json = {0};
    const vg_new_image image = small_image(7, 40, 30, NULL, 0, small_sentences, 3);
    snprintf(path, sizeof path, "%s/a.h5", (const char *)*state);
    MUST(vg_shard_writer_open(path, "test", "hand", &w));
    MUST(vg_shard_writer_add(w, &image));
    MUST(vg_shard_writer_close(w, 0));
    MUST(vg_shard_inspect(paths, 1, NULL, false, &text));
    assert_non_null(strstr(text.data, "test by hand, 1 images in 0.0 MiB (1 absent), 3 sentences"));
    MUST(vg_shard_inspect(paths, 1, NULL, true, &json));
    assert_non_null(strstr(json.data, "\"absent\": 1"));
    free(text.data);
    free(json.data);
}

static void a_phrase_tells_a_terminal_nothing(void **state)
{
    const char *path = path_in(*state, "a.h5");
    static const vg_new_sentence sentence = {70, 700, "caf\u00e9 \033[31m red", 15, "train", "", small_boxes[0], 1};
    const vg_new_image image = small_image(7, 40, 30, NULL, 0, &sentence, 1);
    vg_shard_writer *w = NULL;
    vg_text text = {0};
    MUST(vg_shard_writer_open(path, "test", "", &w));
    MUST(vg_shard_writer_add(w, &image));
    MUST(vg_shard_writer_close(w, 0));
    MUST(vg_shard_inspect(&path, 1, NULL, false, &text));
    assert_non_null(strstr(text.data, "(train): \"caf\u00e9 ?[31m red\""));
    free(text.data);
}

static void a_sample_is_drawn(void **state)
{
    const char *folder = two_shards(*state);
    char png[512];
    vg_image sheet = {0};
    snprintf(png, sizeof png, "%s/sample.png", folder);
    MUST(vg_shard_sample(&folder, 1, "val", 9, 1, png));
    MUST(vg_image_read(png, &sheet));
    assert_true(sheet.width > 600 && sheet.height > 300); /* two tiles side by side */
    vg_image_release(&sheet);
    assert_int_equal(vg_shard_sample(&folder, 1, NULL, 0, 1, png), VG_E_USAGE);
    assert_int_equal(vg_shard_sample(&folder, 1, NULL, 101, 1, png), VG_E_USAGE);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(people_read_counts_and_distributions),
        IN_SCRATCH(programs_read_the_same_as_json),
        cmocka_unit_test(quantiles_are_values_by_rank),
        IN_SCRATCH(an_absent_split_is_named),
        IN_SCRATCH(absent_images_are_counted),
        IN_SCRATCH(a_phrase_tells_a_terminal_nothing),
        IN_SCRATCH(a_sample_is_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
