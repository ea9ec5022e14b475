/* Importing Visual Genome: both versions, both folders of images, equal phrases brought together, its rules for text
 * and boxes, and real regions where they are there (VLGTR_DATA). */
#define _XOPEN_SOURCE 700
#include "data/shard_impl.h"
#include "tests/unit/data/import_test.h"

#define GENOME FIXTURES "/import/vg"

static void pictures_make(const char *folder)
{
    picture_put("one.jpg", folder, "VG_100K", "1.jpg");
    picture_put("two.jpg", folder, "VG_100K_2", "2.jpg");
}

static void equal_phrases_of_an_image_mean_all_their_boxes(void **state)
{
    const vg_import_options options = {.strict = true, .images = *state};
    vg_split *split = NULL;
    pictures_make(*state);
    vg_import_report report = import_into("vg", GENOME, *state, &options);
    assert_split(&report, "train", 2, 4, 4);
    assert_int_equal(report.boxes, 5); /* one of the six regions says what another says */
    vg_import_report_release(&report);
    vg_sentence s = sentence_of(*state, "train", 10, &split);
    const float two[8] = {2, 3, 12, 15, 20, 3, 30, 15};
    assert_int_equal(s.n_boxes, 2);
    assert_memory_equal(s.boxes, two, sizeof two);
    vg_split_close(split);
    s = sentence_of(*state, "train", 11, &split);
    const float whole[4] = {0, 0, 32, 24};
    assert_memory_equal(s.boxes, whole, sizeof whole);
    vg_split_close(split);
}

static void merged_boxes_are_the_one_around_them(void **state)
{
    const vg_import_options options = {.strict = true, .images = *state, .boxes = VG_BOXES_MERGED};
    vg_split *split = NULL;
    pictures_make(*state);
    vg_import_report report = import_into("vg", GENOME, *state, &options);
    assert_int_equal(report.boxes, 4);
    vg_import_report_release(&report);
    const vg_sentence s = sentence_of(*state, "train", 10, &split);
    const float around[4] = {2, 3, 30, 15};
    assert_int_equal(s.n_boxes, 1);
    assert_memory_equal(s.boxes, around, sizeof around);
    vg_split_close(split);
}

static void its_rules_clamp_and_leave_out_and_are_no_fault(void **state)
{
    const vg_import_options options = {.strict = true, .images = *state};
    vg_split *split = NULL;
    vg_text text = {0};
    pictures_make(*state);
    for (int again = 0; again < 2; again++) { /* of a finished shard the report says the same */
        vg_import_report report = import_into("vg", GENOME "-rules", *state, &options);
        assert_int_equal(report.shards_kept, again);
        assert_split(&report, "train", 1, 3, 3);
        assert_int_equal(report.boxes, 3); /* two regions of one phrase are alike within the image */
        text.length = 0;
        MUST(vg_import_report_text(&report, &text));
        assert_non_null(strstr(text.data, "\n4 boxes left their image and were clamped to it\n"));
        assert_non_null(strstr(text.data, "\n4 phrases are too short and were left out\n"));
        assert_non_null(strstr(text.data, "\n1 images are COCO's; `vlgtr shard leakage` finds those"));
        assert_non_null(strstr(text.data, "\n0 images and 0 sentences set aside\n"));
        vg_import_report_release(&report);
    }
    free(text.data);
    vg_sentence s = sentence_of(*state, "train", 1, &split);
    const float edge[4] = {1, 1, 32, 6}, corner[4] = {0, 0, 5, 4}, pixel[4] = {31, 23, 32, 24};
    assert_string_equal(s.text, "past the edge");
    assert_memory_equal(s.boxes, edge, sizeof edge);
    vg_split_close(split);
    s = sentence_of(*state, "train", 2, &split);
    assert_memory_equal(s.boxes, corner, sizeof corner);
    vg_split_close(split);
    s = sentence_of(*state, "train", 7, &split);
    assert_string_equal(s.text, "\u00e9t\u00e9"); /* three characters of five bytes */
    assert_memory_equal(s.boxes, pixel, sizeof pixel);
    vg_split_close(split);
}

static void line_count(void *user, const char *line)
{
    *(int *)user += strstr(line, ": left out, a phrase of fewer than 3 characters") != NULL;
}

static void each_phrase_left_out_is_told(void **state)
{
    int n = 0;
    const vg_import_options options = {.images = *state, .dry_run = true, .tell = line_count, .user = &n};
    pictures_make(*state);
    vg_import_report report = import_into("vg", GENOME "-rules", *state, &options);
    assert_int_equal(n, 4);
    vg_import_report_release(&report);
}

static void the_older_version_and_the_ids_of_other_sets_are_read(void **state)
{
    const vg_import_options options = {.strict = true, .images = *state};
    vg_shard *shard = NULL;
    char path[512];
    pictures_make(*state);
    vg_import_report report = import_into("vg", GENOME "-old", *state, &options);
    assert_split(&report, "train", 1, 1, 1);
    vg_import_report_release(&report);
    report = import_into("vg", GENOME, *state, &options);
    vg_import_report_release(&report);
    snprintf(path, sizeof path, "%s/out/vg-00000.h5", (const char *)*state);
    MUST(vg_shard_open(path, &shard));
    assert_int_equal(shard->tables.images[0].image_id, 1);
    assert_int_equal(shard->tables.images[0].coco_id, 900);
    assert_int_equal(shard->tables.images[0].flickr_id, 77);
    assert_int_equal(shard->tables.images[1].coco_id, 0);
    vg_shard_close(shard);
}

static void each_broken_region_is_set_aside(void **state)
{
    const vg_import_options options = {.images = *state, .max_bad = 1};
    pictures_make(*state);
    vg_import_report report = import_into("vg", GENOME "-broken", *state, &options);
    static const char *const lines[] = {
        "image_data.json: item 2 has no image_id, width and height",
        "image 2: described a second time, and differently: 2.jpg",
        "image 77: not in image_data.json, but there are 2 phrases of it",
        "region 15: has an empty box",
        "region 22: has a box with nothing in its image",
        "region 23: has a box of which too little is in its image",
        "region 10: its id 10 was given before",
        "image 1: regions[4]: no region_id, phrase, x, y, width and height",
        "image 1: regions[5]: no region_id, phrase, x, y, width and height",
        "region_descriptions.json: item 4 has no id and regions",
        "region_descriptions.json: item 5 has no id and regions",
        "invalid token near 'NaN'",
        "6.jpg: No such file or directory",
    };
    assert_set_aside(&report, lines, sizeof lines / sizeof *lines);
    assert_split(&report, "train", 2, 5, 5);
    assert_int_equal(report.clamped_boxes, 1);
    assert_int_equal(report.short_phrases, 1);
    vg_import_report_release(&report);
}

static void a_set_of_broken_items_names_the_first(void **state)
{
    const vg_import_options options = {0};
    vg_import_report report;
    MUST(vg_file_write_atomic(path_in(*state, "image_data.json"), "[]", 2));
    MUST(vg_file_write_atomic(path_in(*state, "region_descriptions.json"), "[1]", 3));
    assert_int_equal(vg_import("vg", *state, path_in(*state, "out"), &options, &report), VG_E_DATA);
    ASSERT_SAYS("the first: ");
    ASSERT_SAYS("region_descriptions.json: item 0 has no id and regions");
    vg_import_report_release(&report);
}

/* How many of a thousand images are val, which are chosen by their ids alone. */
static int64_t val_of_thousand(const char *folder, const vg_import_options *options)
{
    vg_import_report report = import_into("vg", folder, folder, options);
    int64_t n = 0;
    for (int i = 0; i < report.n_splits; i++)
        n += strcmp(report.splits[i].name, "val") == 0 ? report.splits[i].images : 0;
    assert_int_equal(report.images, 1000);
    vg_import_report_release(&report);
    return n;
}

static void one_image_in_a_hundred_is_val(void **state)
{
    const char *list = path_in(*state, "list.txt");
    vg_text images = {0}, regions = {0};
    for (int id = 1; id <= 1000; id++) {
        const char *before = id > 1 ? ", " : "[", *after = id == 1000 ? "]" : "";
        MUST(vg_text_add(&images, "%s{\"image_id\": %d, \"width\": 40, \"height\": 30}%s", before, id, after));
        MUST(vg_text_add(&regions,
                         "%s{\"id\": %d, \"regions\": [{\"region_id\": %d, \"image_id\": %d, \"phrase\": \"a dog\", "
                         "\"x\": 1, \"y\": 2, \"width\": 3, \"height\": 4}]}%s",
                         before, id, id, id, after));
    }
    MUST(vg_file_write_atomic(path_in(*state, "image_data.json"), images.data, images.length));
    MUST(vg_file_write_atomic(path_in(*state, "region_descriptions.json"), regions.data, regions.length));
    MUST(vg_file_write_atomic(list, "7 val\n", 6));
    free(images.data);
    free(regions.data);
    const int64_t n = val_of_thousand(*state, &(vg_import_options){.allow_absent = true, .seed = 1});
    if (n < 1 || n > 19) fail_msg("%lld of 1000", (long long)n); /* three standard deviations */
    assert_int_equal(val_of_thousand(*state, &(vg_import_options){.allow_absent = true, .shares = "val=0"}), 0);
    assert_int_equal(val_of_thousand(*state, &(vg_import_options){.allow_absent = true, .splits = list}), 1);
}

static void a_folder_without_regions_says_what_to_name(void **state)
{
    const vg_import_options options = {0};
    vg_import_report report;
    assert_int_equal(vg_import("vg", *state, *state, &options, &report), VG_E_DATA);
    ASSERT_SAYS("no region_descriptions.json in it; name the folder");
    assert_string_equal(vg_import_set_probe(GENOME)->name, "vg");
}

static void a_dry_run_writes_nothing_and_counts_the_same(void **state)
{
    const vg_import_options wet = {.images = *state, .max_bad = 1},
                            dry = {.images = *state, .max_bad = 1, .dry_run = true};
    vg_import_report report[2];
    char out[512];
    struct stat info;
    pictures_make(*state);
    snprintf(out, sizeof out, "%s/nowhere", (const char *)*state);
    MUST(vg_import("vg", GENOME "-broken", out, &dry, &report[0]));
    assert_int_not_equal(stat(out, &info), 0);
    MUST(vg_import("vg", GENOME "-broken", out, &wet, &report[1]));
    assert_int_equal(report[0].sentences, report[1].sentences);
    assert_int_equal(report[0].phrases, 5);
    assert_int_equal(report[1].phrases, 5);
    assert_string_equal(report[0].bad.data, report[1].bad.data);
    for (int i = 0; i < 2; i++) vg_import_report_release(&report[i]);
}

/* All regions of four images of the real set, in both versions, and a set of another content in its layout. */
static void real_regions_have_their_counts(void **state)
{
    const char *data = getenv("VLGTR_DATA");
    const vg_import_options absent = {.strict = true, .allow_absent = true}, whole = {.strict = true};
    char root[512];
    if (!data) skip();
    snprintf(root, sizeof root, "%s/visual-genome-annotations/v1.0.0", data);
    vg_import_report report = import_into("vg", root, *state, &absent);
    assert_int_equal(report.boxes, 1038);
    vg_import_report_release(&report);
    snprintf(root, sizeof root, "%s/visual-genome-annotations/v1.2.0", data);
    report = import_into("vg", root, *state, &absent);
    assert_int_equal(report.boxes, 1030);
    assert_int_equal(report.absent_images, 4);
    vg_import_report_release(&report);
    snprintf(root, sizeof root, "%s/visual-genome-layout", data);
    report = import_into("vg", root, *state, &whole);
    assert_split(&report, "train", 68, 352, 352); /* 70 and 362 in all */
    assert_split(&report, "val", 2, 10, 10);
    vg_import_report_release(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(equal_phrases_of_an_image_mean_all_their_boxes),
        IN_SCRATCH(merged_boxes_are_the_one_around_them),
        IN_SCRATCH(its_rules_clamp_and_leave_out_and_are_no_fault),
        IN_SCRATCH(each_phrase_left_out_is_told),
        IN_SCRATCH(the_older_version_and_the_ids_of_other_sets_are_read),
        IN_SCRATCH(each_broken_region_is_set_aside),
        IN_SCRATCH(a_set_of_broken_items_names_the_first),
        IN_SCRATCH(one_image_in_a_hundred_is_val),
        IN_SCRATCH(a_folder_without_regions_says_what_to_name),
        IN_SCRATCH(a_dry_run_writes_nothing_and_counts_the_same),
        IN_SCRATCH(real_regions_have_their_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
