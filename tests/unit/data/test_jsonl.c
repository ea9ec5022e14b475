/* Importing data of one's own: what the lines may say, and what becomes of those that cannot be used. */
#define _XOPEN_SOURCE 700
#include "data/shard_impl.h"
#include "tests/unit/data/import_test.h"

#define LINES FIXTURES "/import/jsonl"

static void lines_become_sentences(void **state)
{
    const vg_import_options options = {.strict = true, .images = PICTURES};
    vg_import_report report;
    vg_split *split = NULL;
    report = import_into("jsonl", LINES "/clean.jsonl", *state, &options);
    assert_split(&report, "train", 1, 2, 2);
    assert_split(&report, "val", 1, 3, 3);
    vg_import_report_release(&report);
    vg_sentence s = sentence_of(*state, "train", 11, &split); /* its box left the picture by 0.011 pixels */
    const float whole[4] = {0, 0, 32, 24};
    assert_memory_equal(s.boxes, whole, sizeof whole);
    vg_split_close(split);
    s = sentence_of(*state, "train", 10, &split);
    assert_string_equal(s.kind, "position");
    vg_split_close(split);
    s = sentence_of(*state, "val", 20, &split);
    const float grey[4] = {5.5F, 6.25F, 25.5F, 16.25F};
    assert_memory_equal(s.boxes, grey, sizeof grey);
    assert_string_equal(s.text, "grey one");
    assert_int_equal(s.ref_id, 5);
    vg_split_close(split);
    s = sentence_of(*state, "val", 21, &split);
    assert_int_equal(s.n_boxes, 2);
    assert_string_equal(s.text, "both caf\u00e9s");
    vg_split_close(split);
    assert_int_equal(sentence_of(*state, "val", 22, &split).n_boxes, 0);
    vg_split_close(split);
}

static void a_byte_order_mark_spoils_no_line(void **state)
{
    const vg_import_options options = {.strict = true, .images = PICTURES};
    const char *path = path_in(*state, "marked.jsonl");
    char *lines = NULL;
    vg_text text = {0};
    MUST(vg_file_read(LINES "/clean.jsonl", 1 << 20, &lines, NULL));
    MUST(vg_text_add(&text, "\xef\xbb\xbf%s", lines));
    MUST(vg_file_write_atomic(path, text.data, text.length));
    vg_import_report report = import_into("jsonl", path, *state, &options);
    assert_split(&report, "train", 1, 2, 2);
    vg_import_report_release(&report);
    free(text.data);
    free(lines);
}

static void ids_of_other_sets_are_kept(void **state)
{
    const vg_import_options options = {.images = PICTURES};
    vg_import_report report;
    vg_shard *shard = NULL;
    char path[512];
    MUST(vg_import("jsonl", LINES "/clean.jsonl", *state, &options, &report));
    vg_import_report_release(&report);
    snprintf(path, sizeof path, "%s/jsonl-00000.h5", (const char *)*state);
    MUST(vg_shard_open(path, &shard));
    assert_int_equal(shard->tables.n_images, 2);
    assert_int_equal(shard->tables.images[0].image_id, 2); /* by rising id */
    assert_int_equal(shard->tables.images[0].coco_id, 77);
    assert_int_equal(shard->tables.images[1].coco_id, 0);
    vg_shard_close(shard);
}

static void each_broken_line_is_set_aside(void **state)
{
    const vg_import_options options = {.images = PICTURES, .max_bad = 1};
    vg_import_report report;
    MUST(vg_import("jsonl", LINES "/broken.jsonl", *state, &options, &report));
    static const char *const lines[] = {
        "broken.jsonl line 2: invalid token near 'NaN'",
        "broken.jsonl line 3: not a JSON object",
        "broken.jsonl line 4: no \"image\", the name of its file",
        "broken.jsonl line 5: no box, boxes, bbox or bboxes",
        "broken.jsonl line 6: more than one of box, boxes, bbox and bboxes",
        "broken.jsonl line 7: a box is not four numbers",
        "broken.jsonl line 8: its boxes are no list",
        "broken.jsonl line 9: no \"phrase\", a string",
        "broken.jsonl line 10: its text is empty",
        "(one.jpg): sentence 911 has a box that leaves its image",
        "broken.jsonl line 12: has a box that leaves its image",
        "broken.jsonl line 13: has an empty box",
        "broken.jsonl line 14: has a box that is not finite",
        "broken.jsonl line 15: width or height is not a whole number of pixels",
        "broken.jsonl line 16: phrases is no list",
        "broken.jsonl line 18: its id 500 was given before",
        "described a second time, and differently: two.jpg",
        "three.jpg: broken JPEG",
        "four.png: the picture is 20 x 20 pixels and its record says 21 x 20",
        "five.jpg: No such file or directory",
        "its file name '../one.jpg' leads out of the folder",
        "broken.jsonl line 24: of width and height only one is there",
        "broken.jsonl line 25: its split is no string",
        "broken.jsonl line 26: id or ref_id is no whole number",
        "broken.jsonl line 27: id or ref_id is no whole number",
        "broken.jsonl line 28: its kind is no string",
        "broken.jsonl line 29: image_id, coco_id or flickr_id is no whole number",
        "broken.jsonl line 30: ",
    };
    assert_set_aside(&report, lines, sizeof lines / sizeof *lines);
    assert_split(&report, "train", 2, 3, 3);
    assert_int_equal(report.bad_sentences, 27);
    vg_import_report_release(&report);
    const vg_import_options strict = {.images = PICTURES, .max_bad = 1, .strict = true};
    assert_int_equal(vg_import("jsonl", LINES "/broken.jsonl", *state, &strict, &report), VG_E_DATA);
    ASSERT_SAYS("broken.jsonl line 2: ");
    vg_import_report_release(&report);
}

static void a_finished_shard_is_counted_as_it_was_written(void **state)
{
    const vg_import_options options = {.images = PICTURES, .max_bad = 1};
    vg_import_report first, second;
    MUST(vg_import("jsonl", LINES "/broken.jsonl", *state, &options, &first));
    MUST(vg_import("jsonl", LINES "/broken.jsonl", *state, &options, &second));
    assert_int_equal(second.shards_kept, 1);
    assert_int_equal(second.sentences, first.sentences);
    assert_int_equal(second.bad_sentences, first.bad_sentences);
    vg_import_report_release(&first);
    vg_import_report_release(&second);
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    MUST(vg_file_write_atomic(path, text, strlen(text)));
}

static void a_file_that_is_no_text_is_told_by_its_kind(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {{"\x1f\x8b\x08{", "a.jsonl: it is compressed by gzip; unpack it first"},
                 {"PK\x03\x04{", "a.jsonl: it is a zip archive"},
                 {"\xff\xfe{", "a.jsonl: it is UTF-16; `iconv"},
                 {"\xfe\xff", "a.jsonl: it is UTF-16; `iconv"}};
    const vg_import_options options = {.images = PICTURES, .max_bad = 1};
    vg_import_report report;
    const char *path = path_in(*state, "a.jsonl"), *out = path_in(*state, "out");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file(*state, "a.jsonl", cases[i].text);
        assert_int_equal(vg_import("jsonl", path, out, &options, &report), VG_E_DATA);
        ASSERT_SAYS(cases[i].says);
        vg_import_report_release(&report);
    }
}

static void usual_mistakes_are_told_with_the_way_out(void **state)
{
    const vg_import_options options = {.images = PICTURES, .max_bad = 1};
    const char *path = path_in(*state, "a.jsonl");
    write_file(*state, "a.jsonl",
               "{\"image\": \"one.jpg\", \"phrase\": \"a corner and a size\", \"box\": [10, 12, 9, 8]}\n"
               "{\"image\": \"one.jpg\", \"phrase\": \"of another size\", \"box\": [1, 2, 300, 4]}\n"
               "{\"image\": \"one.jpg\", \"phrases\": [\"strings\"], \"box\": [1, 2, 3, 4]}\n"
               "{\"image\": \"/data/one.jpg\", \"phrase\": \"a whole path\", \"box\": [1, 2, 3, 4]}\n"
               "{\"image\": \"one.jpg\", \"phrase\": \"good\", \"box\": [1, 2, 3, 4]}\n");
    static const char *const lines[] = {
        "a.jsonl line 1: a box is empty: [x1, y1, x2, y2] is wanted; [x, y, width, height] stands in bbox",
        "(one.jpg): sentence 1 has a box that leaves its image (32 x 24 pixels)",
        "a.jsonl line 3: phrases holds something else than objects with phrase and box",
        "its file name '/data/one.jpg' leads out of the folder; wanted is one below it, or below that of --images",
    };
    vg_import_report report = import_into("jsonl", path, *state, &options);
    assert_set_aside(&report, lines, sizeof lines / sizeof *lines);
    vg_import_report_release(&report);
}

static void boxes_in_shares_of_the_picture_are_set_aside(void **state)
{
    const vg_import_options options = {.images = PICTURES, .max_bad = 1};
    const char *path = path_in(*state, "a.jsonl");
    write_file(*state, "a.jsonl",
               "{\"image\": \"one.jpg\", \"phrase\": \"a\", \"box\": [0.1, 0.25, 0.5, 1]}\n"
               "{\"image\": \"one.jpg\", \"phrase\": \"a\", \"bbox\": [0.5, 0.5, 0.75, 0.75]}\n" /* a centre */
               "{\"image\": \"one.jpg\", \"phrase\": \"a\", \"boxes\": [[1, 2, 3, 4], [0, 0, 1, 1]]}\n"
               "{\"image\": \"one.jpg\", \"phrase\": \"a\", \"box\": [0, 0, 0, 0]}\n"
               "{\"image\": \"one.jpg\", \"phrase\": \"a\", \"box\": [0.1, 0.25, 0.5, 1.5]}\n");
    static const char *const lines[] = {
        "a.jsonl line 1: a box is in shares of the picture; wanted are pixels, [x1, y1, x2, y2] in box, [x, y, width, "
        "height] in bbox",
        "a.jsonl line 2: a box is in shares",
        "a.jsonl line 3: a box is in shares",
        "a.jsonl line 4: a box is empty",
    };
    vg_import_report report = import_into("jsonl", path, *state, &options);
    assert_set_aside(&report, lines, sizeof lines / sizeof *lines);
    assert_split(&report, "train", 1, 1, 1);
    vg_import_report_release(&report);
}

static void a_file_that_is_not_an_object_a_line_is_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"\n [\n  {\n    \"image\": \"one.jpg\"\n  }\n]\n",
         "a.jsonl: line 2 begins a JSON array; an object a line is wanted, which `jq -c '.[]'` makes of it"},
        {"[{\"image\": \"one.jpg\"}]", "line 1 begins a JSON array"},
        {"{ \r\n  \"image\": \"one.jpg\"\r\n}",
         "a.jsonl: line 1 begins a JSON object of several lines; an object a line is wanted, which `jq -c .` makes"},
        {" \n\n \t", "a.jsonl: nothing was imported: it holds no phrases"},
        {"{\"image\": \"one.jpg\", \"phrase\": \"caf\xe9\", \"box\": [1, 2, 3, 4]}\n",
         "a.jsonl line 1: not UTF-8: unable to decode byte 0xe9"},
    };
    const vg_import_options options = {.images = PICTURES};
    const char *path = path_in(*state, "a.jsonl");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vg_import_report report;
        write_file(*state, "a.jsonl", cases[i].text);
        assert_int_equal(vg_import("jsonl", path, path_in(*state, "out"), &options, &report), VG_E_DATA);
        ASSERT_SAYS(cases[i].says);
        vg_import_report_release(&report);
    }
}

/* ---- splits ---- */

static void files_of_a_folder_are_splits(void **state)
{
    char out[512];
    vg_import_report report;
    const vg_import_options options = {.strict = true, .images = PICTURES};
    write_file(*state, "val.jsonl", "{\"image\": \"one.jpg\", \"phrase\": \"a\", \"box\": [1, 2, 3, 4]}\n");
    write_file(*state, "train.jsonl", "{\"image\": \"two.jpg\", \"phrase\": \"a\", \"box\": [1, 2, 3, 4]}");
    write_file(*state, "notes.txt", "nothing");
    snprintf(out, sizeof out, "%s/out", (const char *)*state);
    MUST(vg_import("jsonl", *state, out, &options, &report));
    assert_split(&report, "train", 1, 1, 1);
    assert_split(&report, "val", 1, 1, 1);
    vg_import_report_release(&report);
}

static void a_list_or_shares_make_splits(void **state)
{
    char out[512], list[512];
    vg_import_report report;
    write_file(*state, "a.jsonl",
               "{\"image\": \"one.jpg\", \"phrase\": \"a\", \"box\": [1, 2, 3, 4]}\n"
               "{\"image\": \"two.jpg\", \"image_id\": 5, \"phrase\": \"a\", \"box\": [1, 2, 3, 4]}\n"
               "{\"image\": \"four.png\", \"phrase\": \"a\", \"box\": [1, 2, 3, 4]}\n");
    snprintf(out, sizeof out, "%s/out", (const char *)*state);
    snprintf(list, sizeof list, "%s/list.txt", (const char *)*state);
    write_file(*state, "list.txt", "one.jpg\tval\n5 -\n\n");
    vg_import_options options = {.strict = true, .images = PICTURES, .splits = list, .shares = "held=1"};
    MUST(vg_import("jsonl", *state, out, &options, &report));
    assert_split(&report, "val", 1, 1, 1);
    assert_split(&report, "held", 1, 1, 1);
    assert_int_equal(report.images, 2); /* one was left out */
    assert_int_equal(report.unmet_lines, 0);
    vg_import_report_release(&report);
    vg_text text = {0};
    write_file(*state, "list.txt", "one.jpg val\n5 -\ntwo.jpg -\nthree.jpg val\n17 held\n");
    MUST(vg_import("jsonl", *state, out, &options, &report));
    MUST(vg_import_report_text(&report, &text));
    assert_non_null(
        strstr(text.data, "\n2 lines of --splits name no image that the set has phrases of, the first is line 4\n"));
    free(text.data);
    vg_import_report_release(&report);
    write_file(*state, "list.txt", "one.jpeg val\n17 held\n");
    assert_int_equal(vg_import("jsonl", *state, out, &options, &report), VG_E_DATA);
    ASSERT_SAYS("--splits: none of the 2 lines names an image");
    vg_import_report_release(&report);
    write_file(*state, "list.txt", "one.jpg val\none.jpg test\n");
    assert_int_equal(vg_import("jsonl", *state, out, &options, &report), VG_E_DATA);
    ASSERT_SAYS("an image stands in both ");
    write_file(*state, "list.txt", "one.jpg\n");
    assert_int_equal(vg_import("jsonl", *state, out, &options, &report), VG_E_DATA);
    ASSERT_SAYS("line 1 is not an image id");
    static const char *const wrong[] = {"val", "val=", "val=2", "=0.5", "val=0.5,,", "val=0.6,test=0.6", "val=0.5x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options = (vg_import_options){.shares = wrong[i]};
        assert_int_equal(vg_import("jsonl", *state, out, &options, &report), VG_E_USAGE);
        ASSERT_SAYS("--shares");
    }
}

/* Else a picture would be two, of which shares may put one into train and the other into val. */
static void a_picture_is_one_however_its_name_is_spelled(void **state)
{
    char out[512], list[512];
    vg_import_report report;
    write_file(*state, "a.jsonl",
               "{\"image\": \"./one.jpg\", \"phrase\": \"a\", \"box\": [1, 2, 3, 4]}\n"
               "{\"image\": \"one.jpg\", \"phrase\": \"b\", \"box\": [1, 2, 3, 4]}\n"
               "{\"image\": \".//././one.jpg\", \"phrase\": \"c\", \"box\": [1, 2, 3, 4]}\n"
               "{\"image\": \"two.jpg\", \"phrase\": \"a\", \"box\": [1, 2, 3, 4]}\n");
    snprintf(out, sizeof out, "%s/out", (const char *)*state);
    snprintf(list, sizeof list, "%s/list.txt", (const char *)*state);
    write_file(*state, "list.txt", "./two.jpg val\n");
    const vg_import_options options = {.strict = true, .images = PICTURES, .splits = list};
    MUST(vg_import("jsonl", *state, out, &options, &report));
    assert_split(&report, "train", 1, 3, 3);
    assert_split(&report, "val", 1, 1, 1);
    assert_int_equal(report.unmet_lines, 0);
    vg_import_report_release(&report);
}

/* Whether a shard is made or was there. */
static void pictures_that_viewers_turn_are_counted(void **state)
{
    char out[512];
    vg_import_report report;
    vg_text text = {0};
    const vg_import_options options = {.strict = true, .images = FIXTURES "/images"};
    write_file(*state, "a.jsonl",
               "{\"image\": \"rgb.jpg\", \"phrase\": \"a\", \"box\": [1, 2, 3, 4]}\n"
               "{\"image\": \"turned.jpg\", \"phrase\": \"b\", \"box\": [1, 2, 3, 4]}\n");
    snprintf(out, sizeof out, "%s/out", (const char *)*state);
    for (int kept = 0; kept < 2; kept++) {
        MUST(vg_import("jsonl", *state, out, &options, &report));
        assert_true(report.turned_images == 1 && report.shards_kept == kept);
        MUST(vg_import_report_text(&report, &text));
        assert_non_null(strstr(text.data, "\n1 images are turned by their EXIF orientation where viewers show them"));
        vg_import_report_release(&report);
    }
    free(text.data);
    write_file(*state, "a.jsonl",
               "{\"image\": \"turned.jpg\", \"phrase\": \"b\", \"box\": [1, 2, 3, 4], "
               "\"width\": 12, \"height\": 16}\n");
    assert_int_equal(vg_import("jsonl", *state, out, &options, &report), VG_E_DATA);
    ASSERT_SAYS(
        "is 16 x 12 pixels and its record says 12 x 16, as viewers show it where its EXIF orientation turns it");
    vg_import_report_release(&report);
}

static void white_space_in_a_phrase_is_one_space(void **state)
{
    const vg_import_options options = {.strict = true, .images = PICTURES};
    vg_split *split = NULL;
    write_file(*state, "a.jsonl",
               "{\"image\": \"one.jpg\", \"phrases\": ["
               "{\"phrase\": \"  a sign\\tthat says  walk\\n\", \"box\": [1, 2, 3, 4], \"id\": 1},"
               "{\"phrase\": \"caf\u00e9\u00a0bar\", \"box\": [1, 2, 3, 4], \"id\": 2}], \"split\": \"val\"}\n");
    vg_import_report report = import_into("jsonl", *state, *state, &options);
    vg_import_report_release(&report);
    assert_string_equal(sentence_of(*state, "val", 1, &split).text, "a sign that says walk");
    vg_split_close(split);
    assert_string_equal(sentence_of(*state, "val", 2, &split).text, "caf\u00e9\u00a0bar"); /* other spaces stay */
    vg_split_close(split);
}

/* ---- without images ---- */

static void images_may_be_absent_where_that_is_allowed(void **state)
{
    const char *folder = *state;
    const vg_import_options options = {.images = *state, .allow_absent = true, .max_bad = 1};
    vg_import_report report;
    vg_split *split = NULL;
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    MUST(vg_import("jsonl", LINES "/clean.jsonl", *state, &options, &report));
    assert_split(&report, "val", 1, 3, 3);
    assert_int_equal(report.absent_images, 1);
    assert_int_equal(report.bad_images, 1); /* one.jpg has no size in the lines */
    assert_non_null(strstr(report.bad.data, "one.jpg: absent, and the annotations do not say its size"));
    vg_import_report_release(&report);
    MUST(vg_split_open(&folder, 1, "val", &split));
    assert_int_equal(vg_split_check_images(split), VG_E_DATA);
    ASSERT_SAYS("image 2 and 0 more of split 'val' are absent; import the set again with its images");
    assert_int_equal(vg_split_read_image(split, 0, &bytes, &capacity, &n), VG_E_DATA);
    ASSERT_SAYS("image 2 is absent");
    vg_split_close(split);
    const vg_import_options with = {.images = PICTURES, .strict = true};
    MUST(vg_import("jsonl", LINES "/clean.jsonl", *state, &with, &report)); /* now they are there */
    assert_int_equal(report.shards_kept, 0);
    vg_import_report_release(&report);
    MUST(vg_split_open(&folder, 1, "val", &split));
    MUST(vg_split_check_images(split));
    vg_split_close(split);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(lines_become_sentences),
        IN_SCRATCH(a_byte_order_mark_spoils_no_line),
        IN_SCRATCH(ids_of_other_sets_are_kept),
        IN_SCRATCH(each_broken_line_is_set_aside),
        IN_SCRATCH(usual_mistakes_are_told_with_the_way_out),
        IN_SCRATCH(boxes_in_shares_of_the_picture_are_set_aside),
        IN_SCRATCH(a_file_that_is_no_text_is_told_by_its_kind),
        IN_SCRATCH(a_file_that_is_not_an_object_a_line_is_refused),
        IN_SCRATCH(a_finished_shard_is_counted_as_it_was_written),
        IN_SCRATCH(files_of_a_folder_are_splits),
        IN_SCRATCH(a_list_or_shares_make_splits),
        IN_SCRATCH(a_picture_is_one_however_its_name_is_spelled),
        IN_SCRATCH(pictures_that_viewers_turn_are_counted),
        IN_SCRATCH(white_space_in_a_phrase_is_one_space),
        IN_SCRATCH(images_may_be_absent_where_that_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
