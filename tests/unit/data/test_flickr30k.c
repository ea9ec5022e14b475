/* Importing Flickr30k Entities: marked phrases of captions with the boxes of their entities. */
#define _XOPEN_SOURCE 700
#include "data/shard_impl.h"
#include "tests/unit/data/import_test.h"

#define FLICKR FIXTURES "/import/flickr30k"

static void pictures_make(const char *folder)
{
    picture_put("one.jpg", folder, "flickr30k-images", "1.jpg");
    picture_put("two.jpg", folder, "flickr30k-images", "2.jpg");
}

static void marked_phrases_can_have_all_boxes_of_their_entity(void **state)
{
    const vg_import_options options = {.strict = true, .images = *state, .boxes = VG_BOXES_ALL};
    vg_split *split = NULL;
    vg_shard *shard = NULL;
    char path[512];
    pictures_make(*state);
    vg_import_report report = import_into("flickr30k", FLICKR, *state, &options);
    assert_split(&report, "train", 1, 2, 5); /* neither the invisible phrase nor the scene */
    assert_split(&report, "test", 1, 1, 1);
    vg_import_report_release(&report);
    vg_sentence s = sentence_of(*state, "train", 1000, &split);
    const float owners[8] = {2, 3, 12, 15, 0, 0, 31, 23};
    assert_string_equal(s.text, "Two caf\u00e9 owners");
    assert_string_equal(s.kind, "people");
    assert_int_equal(s.ref_id, 5);
    assert_int_equal(s.n_boxes, 2);
    assert_memory_equal(s.boxes, owners, sizeof owners);
    const int64_t together[] = {1000, 1005, 1001, 1004, 1006}; /* entity 5, then 6, each as the captions have it */
    for (int64_t i = 0; i < 5; i++) {
        vg_split_sentence(split, i, &s);
        assert_int_equal(s.sentence_id, together[i]);
    }
    vg_split_close(split);
    s = sentence_of(*state, "train", 1001, &split);
    assert_string_equal(s.kind, "animals/other");
    vg_split_close(split);
    snprintf(path, sizeof path, "%s/out/flickr30k-00000.h5", (const char *)*state);
    MUST(vg_shard_open(path, &shard));
    assert_int_equal(shard->tables.images[0].flickr_id, 1);
    vg_shard_close(shard);
}

static void marked_phrases_get_the_box_around_those_of_their_entity(void **state)
{
    const vg_import_options options = {.strict = true, .images = *state},
                            all = {.strict = true, .images = *state, .boxes = VG_BOXES_ALL};
    vg_split *split = NULL;
    pictures_make(*state);
    vg_import_report report = import_into("flickr30k", FLICKR, *state, &all);
    vg_import_report_release(&report);
    report = import_into("flickr30k", FLICKR, *state, &options);
    assert_int_equal(report.shards_kept, 0); /* one with other boxes is not taken for it */
    vg_import_report_release(&report);
    const vg_sentence s = sentence_of(*state, "train", 1000, &split);
    const float around[4] = {0, 0, 31, 23};
    assert_int_equal(s.n_boxes, 1);
    assert_memory_equal(s.boxes, around, sizeof around);
    vg_split_close(split);
}

static void each_broken_record_is_set_aside(void **state)
{
    const vg_import_options options = {.images = *state, .max_bad = 1};
    pictures_make(*state);
    vg_import_report report = import_into("flickr30k", FLICKR "-broken", *state, &options);
    static const char *const lines[] = {
        "3.xml: line 1: a box is not four numbers, or a name or size is none",
        "image 4 caption 1 entity 7: has a box that leaves its image",
        "image 4 caption 1: '[/EN#7other no mark .' is no marked phrase",
        "image 5 caption 1 entity 7: its text is empty",
        "5.jpg: No such file or directory",
        "6.xml: no width and height of the image",
        "7.xml: line 1: a box is not four numbers, or a name or size is none",
        "8.xml: line 1: no element found",
        "9.xml: No such file or directory",
    };
    assert_set_aside(&report, lines, sizeof lines / sizeof *lines);
    assert_split(&report, "train", 1, 2, 5);
    vg_import_report_release(&report);
}

static void images_of_no_list_go_by_shares(void **state)
{
    const vg_import_options options = {.images = *state, .max_bad = 1, .shares = "rest=1", .allow_absent = true};
    vg_import_report report = import_into("flickr30k", FLICKR "-broken", *state, &options);
    assert_split(&report, "rest", 1, 1, 1);
    assert_int_equal(report.absent_images, 3);
    vg_import_report_release(&report);
}

static void a_folder_of_something_else_says_what_to_name(void **state)
{
    const vg_import_options options = {0};
    vg_import_report report;
    assert_int_equal(vg_import("flickr30k", *state, *state, &options, &report), VG_E_DATA);
    ASSERT_SAYS("Sentences: No such file or directory; name the folder with Sentences and Annotations");
    assert_string_equal(vg_import_set_probe(FLICKR)->name, "flickr30k");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(marked_phrases_can_have_all_boxes_of_their_entity),
        IN_SCRATCH(marked_phrases_get_the_box_around_those_of_their_entity),
        IN_SCRATCH(each_broken_record_is_set_aside),
        IN_SCRATCH(images_of_no_list_go_by_shares),
        IN_SCRATCH(a_folder_of_something_else_says_what_to_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
