/* Importing detection annotations: categories are phrases that mean every object of theirs. */
#define _XOPEN_SOURCE 700
#include "data/shard_impl.h"
#include "tests/unit/data/import_test.h"

#define COCO FIXTURES "/import/coco"

static void a_category_means_all_its_objects(void **state)
{
    const vg_import_options options = {.strict = true, .images = PICTURES};
    vg_split *split = NULL;
    vg_shard *shard = NULL;
    char path[512];
    vg_import_report report = import_into("coco-detection", COCO, *state, &options);
    assert_split(&report, "train", 2, 2, 2); /* the crowd is left out */
    assert_int_equal(report.boxes, 3);
    assert_string_equal(report.split_by, "2017");
    vg_text text = {0};
    MUST(vg_import_report_text(&report, &text));
    assert_non_null(
        strstr(text.data, "train of coco-detection (2017): expected 117266 images, got 2, 849949 boxes, got 3\n"));
    free(text.data);
    vg_import_report_release(&report);
    const vg_sentence s = sentence_of(*state, "train", 50, &split);
    assert_string_equal(s.text, "dog");
    assert_string_equal(s.kind, "category");
    assert_int_equal(s.n_boxes, 2);
    vg_split_close(split);
    snprintf(path, sizeof path, "%s/out/coco-detection-00000.h5", (const char *)*state);
    MUST(vg_shard_open(path, &shard));
    assert_int_equal(shard->tables.images[0].coco_id, 1);
    assert_int_equal(shard->tables.images[0].flickr_id, 4622125393);
    assert_int_equal(shard->tables.images[1].flickr_id, 0);
    vg_shard_close(shard);
}

static void the_file_is_one_of_several_or_named(void **state)
{
    const vg_import_options options = {.split_by = "val2017"}, named = {.images = PICTURES, .shares = "mine=1"};
    vg_import_report report;
    assert_int_equal(vg_import("coco-detection", COCO, *state, &options, &report), VG_E_DATA);
    ASSERT_SAYS("no instances_val2017.json in it or in its folder annotations");
    report = import_into("coco-detection", COCO "/annotations/instances_train2017.json", *state, &named);
    assert_split(&report, "train", 2, 2, 2); /* its name says so, and shares are for those that do not */
    vg_import_report_release(&report);
}

static void each_broken_annotation_is_set_aside(void **state)
{
    const vg_import_options options = {.images = PICTURES, .max_bad = 1, .shares = "mine=1"};
    vg_import_report report = import_into("coco-detection", COCO "-broken/instances.json", *state, &options);
    static const char *const lines[] = {
        "instances.json: images[3]: no id, file_name, width and height",
        "annotation 60: category 4 is not in categories",
        "image 77: not in images, but there are 1 phrases of it",
        "annotation 62: has a box that leaves its image",
        "annotation 63: has an empty box",
        "annotations[8]: no id, image_id, category_id and bbox of four numbers",
        "annotation 50: its id 50 was given before",
        "annotations[10]: no id, image_id, category_id and bbox of four numbers",
        "invalid token near 'Infinity'",
        "five.jpg: No such file or directory",
        "image 7: its file name '/etc/x.jpg' leads out of the folder",
    };
    assert_set_aside(&report, lines, sizeof lines / sizeof *lines);
    assert_split(&report, "mine", 2, 2, 2);
    vg_import_report_release(&report);
}

static void boxes_in_shares_of_the_picture_are_set_aside(void **state)
{
    const vg_import_options options = {.images = PICTURES, .max_bad = 1};
    static const char text[] = "{\"images\": [{\"id\": 1, \"file_name\": \"one.jpg\", \"width\": 32, \"height\": 24}],"
                               " \"categories\": [{\"id\": 1, \"name\": \"dog\"}], \"annotations\": ["
                               "{\"id\": 5, \"image_id\": 1, \"category_id\": 1, \"bbox\": [0.1, 0.25, 0.5, 0.75]},"
                               "{\"id\": 6, \"image_id\": 1, \"category_id\": 1, \"bbox\": [1, 2, 3, 4]}]}";
    static const char *const lines[] = {
        "annotation 5: its bbox is in shares of the picture; wanted are pixels, [x, y, width, height]"};
    MUST(vg_file_write_atomic(path_in(*state, "instances.json"), text, sizeof text - 1));
    vg_import_report report = import_into("coco-detection", *state, *state, &options);
    assert_set_aside(&report, lines, 1);
    assert_int_equal(report.boxes, 1);
    vg_import_report_release(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(a_category_means_all_its_objects),
        IN_SCRATCH(the_file_is_one_of_several_or_named),
        IN_SCRATCH(each_broken_annotation_is_set_aside),
        IN_SCRATCH(boxes_in_shares_of_the_picture_are_set_aside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
