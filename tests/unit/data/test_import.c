/* Importing the RefCOCO layout: what goes in, what is set aside and why, and the real data sets where they are there
 * (VLGTR_DATA). */
#define _XOPEN_SOURCE 700
#include "data/import.h"

#include "data/import/json_items_impl.h"
#include "data/shard.h"
#include "data/shard_tools.h"
#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/data/must.h"

static const char *const fixture = FIXTURES "/import";

static const vg_import_split *split_in(const vg_import_report *report, const char *name)
{
    for (int i = 0; i < report->n_splits; i++)
        if (strcmp(report->splits[i].name, name) == 0) return &report->splits[i];
    fail_msg("no split '%s' was counted", name);
    return NULL;
}

static void assert_counts(const vg_import_report *report, const char *split, int images, int refs, int sentences)
{
    const vg_import_split *s = split_in(report, split);
    if (s->images != images || s->refs != refs || s->sentences != sentences)
        fail_msg("%s: %lld images, %lld refs, %lld sentences instead of %d, %d, %d", split, (long long)s->images,
                 (long long)s->refs, (long long)s->sentences, images, refs, sentences);
}

/* The sentence with this id in a split, through the shards. */
static bool find_sentence(const char *folder, const char *split_name, int64_t id, vg_sentence *out, vg_split **split)
{
    MUST(vg_split_open(&folder, 1, split_name, split));
    for (int64_t i = 0; i < vg_split_sentence_count(*split); i++) {
        vg_split_sentence(*split, i, out);
        if (out->sentence_id == id) return true;
    }
    vg_split_close(*split);
    return false;
}

/* ---- the fixture ---- */

static void a_clean_set_is_imported_whole(void **state)
{
    const vg_import_options options = {.strict = true, .split_by = "unc"};
    vg_import_report report;
    MUST(vg_import("refcoco", fixture, *state, &options, &report));
    assert_counts(&report, "train", 1, 1, 3);
    assert_counts(&report, "val", 1, 1, 1);
    assert_counts(&report, "testA", 1, 2, 3);
    assert_counts(&report, "testB", 1, 3, 3);
    assert_int_equal(report.images, 2);
    assert_int_equal(report.sentences, 10);
    assert_int_equal(report.shards, 1);
    assert_int_equal(report.bad_sentences, 0);
    vg_shard_verify_report verified;
    MUST(vg_shard_verify((const char *const *)state, 1, true, &verified));
    vg_import_report_release(&report);
}

static void sentences_get_box_kind_and_trimmed_text(void **state)
{
    const vg_import_options options = {.split_by = "unc"};
    vg_import_report report;
    vg_sentence s;
    vg_split *split = NULL;
    MUST(vg_import("refcoco", fixture, *state, &options, &report));
    vg_import_report_release(&report);
    assert_true(find_sentence(*state, "testA", 300, &s, &split));
    assert_string_equal(s.text, "grey one");
    assert_int_equal(s.ref_id, 3);
    assert_string_equal(s.kind, "");
    const float grey[4] = {5.5F, 6.25F, 25.5F, 16.25F};
    assert_memory_equal(s.boxes, grey, sizeof grey);
    vg_split_close(split);
    assert_true(find_sentence(*state, "testA", 301, &s, &split));
    assert_string_equal(s.text, "caf\u00e9 in the middle");
    vg_split_close(split);
    assert_true(find_sentence(*state, "val", 200, &s, &split)); /* its box left the image by 0.011 pixels */
    const float whole[4] = {0, 0, 32, 24};
    assert_memory_equal(s.boxes, whole, sizeof whole);
    assert_string_equal(s.kind, "position");
    vg_split_close(split);
    assert_true(find_sentence(*state, "testB", 400, &s, &split));
    assert_int_equal(s.n_boxes, 2);
    assert_true(s.boxes[4] == 0.0F && s.boxes[7] == 8.0F);
    assert_string_equal(s.kind, "plural");
    vg_split_close(split);
    assert_true(find_sentence(*state, "testB", 500, &s, &split));
    assert_int_equal(s.n_boxes, 0);
    vg_split_close(split);
}

static void the_split_by_is_the_usual_one_or_must_be_named(void **state)
{
    const vg_import_options options = {0}, other = {.split_by = "google"};
    vg_import_report report;
    MUST(vg_import("refcoco", fixture, *state, &options, &report)); /* unc is refcoco's usual one */
    assert_int_equal(report.sentences, 10);
    vg_import_report_release(&report);
    char set_folder[512];
    snprintf(set_folder, sizeof set_folder, "%s/refcoco", fixture);
    assert_int_equal(vg_import("refcocog", set_folder, *state, &options, &report), VG_E_DATA); /* usual: umd */
    ASSERT_SAYS("say it with --split-by");
    vg_import_report_release(&report);
    assert_int_equal(vg_import("refcoco", fixture, *state, &other, &report), VG_E_DATA);
    ASSERT_SAYS("refs(google).p: No such file");
    vg_import_report_release(&report);
    MUST(vg_file_write_atomic(path_in(*state, "instances.json"), "{}", 2));
    assert_int_equal(vg_import("refer", *state, path_in(*state, "out"), &options, &report), VG_E_DATA);
    ASSERT_SAYS(": no refs(..).p, the phrases, beside instances.json");
    vg_import_report_release(&report);
    const vg_import_options shares = {.shares = "val=0.1"}, splits = {.splits = "list"}; /* every ref has a split */
    assert_int_equal(vg_import("refcoco", fixture, *state, &shares, &report), VG_E_USAGE);
    assert_int_equal(vg_import("refcoco", fixture, *state, &splits, &report), VG_E_USAGE);
    ASSERT_SAYS("refcoco has splits of its own");
}

static void an_import_that_fails_at_once_leaves_no_folder(void **state)
{
    const vg_import_options options = {.split_by = "google"};
    const char *out = path_in(*state, "new/shards");
    vg_import_report report;
    assert_int_equal(vg_import("refcoco", fixture, out, &options, &report), VG_E_DATA);
    ASSERT_SAYS("refs(google).p: No such file");
    assert_int_not_equal(access(path_in(*state, "new"), F_OK), 0);
    vg_import_report_release(&report);
}

static void an_import_without_a_good_picture_leaves_no_folder(void **state)
{
    const vg_import_options options = {.images = *state};
    vg_import_report report;
    assert_int_equal(vg_import("refcoco", fixture, path_in(*state, "new/shards"), &options, &report), VG_E_DATA);
    ASSERT_SAYS("nothing was imported: 2 images and 10 sentences were set aside, the first: ");
    assert_int_not_equal(access(path_in(*state, "new"), F_OK), 0);
    vg_import_report_release(&report);
}

static void each_broken_record_is_set_aside_by_id(void **state)
{
    const vg_import_options options = {.split_by = "broken", .max_bad = 0.9};
    vg_import_report report;
    MUST(vg_import("refcoco", fixture, *state, &options, &report));
    const char *lines[] = {
        "ref 106: annotation 777 is not in instances.json",
        "ref 107: annotation 20 belongs to image 2 and not to 1",
        "ref 108 sentence 10800: has a box that leaves its image",
        "ref 109 sentence 10900: has an empty box",
        "ref 110: annotation 10 belongs to image 1 and not to 77",
        "image 3: ",
        "three.jpg: broken JPEG",
        "four.png: the picture is 20 x 20 pixels and its record says 21 x 20",
        "five.jpg: No such file or directory",
        "ref 114 sentence 11400: its text is empty",
        "ref 115: annotation 99 has no image_id and bbox of four numbers",
        "ref 119: annotation 10 belongs to image 1 and not to 7",
        "image 6: its file name '../two.jpg' leads out of the folder",
        "ref 117: an annotation id is no integer",
        "ref 1 sentence 100: its id 100 was given before",
        "refs[19]: no ref_id, image_id, split and sentences",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(report.bad.data, lines[i])) fail_msg("'%s' is not in\n%s", lines[i], report.bad.data);
    assert_int_equal(report.bad_images, 3);
    assert_int_equal(report.bad_sentences, 16);
    assert_int_equal(report.sentences, 11); /* those of the clean set and the sister of the empty one */
    vg_text text = {0};
    MUST(vg_import_report_text(&report, &text));
    assert_non_null(strstr(text.data, "3 images and 16 sentences set aside\n"));
    assert_non_null(strstr(text.data, "train                 1          2          4          4\n"));
    free(text.data);
    vg_import_report_release(&report);
}

static void too_many_bad_records_fail_the_import(void **state)
{
    const vg_import_options options = {.split_by = "broken", .max_bad = 0.5};
    vg_import_report report;
    assert_int_equal(vg_import("refcoco", fixture, *state, &options, &report), VG_E_DATA);
    ASSERT_SAYS("16 of 27 sentences were set aside, more than --max-bad 0.5 allows, the first: ");
    assert_int_equal(report.sentences, 11);
    vg_import_report_release(&report);
}

static void strict_makes_the_first_bad_record_an_error(void **state)
{
    const vg_import_options options = {.split_by = "broken", .max_bad = 1, .strict = true};
    vg_import_report report;
    assert_int_equal(vg_import("refcoco", fixture, *state, &options, &report), VG_E_DATA);
    ASSERT_SAYS("ref 106: annotation 777 is not in instances.json (--strict)");
    vg_import_report_release(&report);
}

static void without_images_nothing_is_imported(void **state)
{
    const vg_import_options options = {.split_by = "unc", .images = *state, .max_bad = 1};
    vg_import_report report;
    assert_int_equal(vg_import("refcoco", fixture, *state, &options, &report), VG_E_DATA);
    ASSERT_SAYS("nothing was imported: 2 images and 10 sentences were set aside, the first: image 1: ");
    ASSERT_SAYS("one.jpg: No such file");
    ASSERT_SAYS("--images names the folder");
    assert_int_equal(report.shards, 0);
    vg_import_report_release(&report);
}

static void an_unknown_set_names_its_neighbour(void **state)
{
    const vg_import_options options = {0};
    vg_import_report report;
    assert_int_equal(vg_import("refcocos", fixture, *state, &options, &report), VG_E_USAGE);
    ASSERT_SAYS("did you mean 'refcoco'?; there are refcoco, refcoco+, refcocog, synth");
    ASSERT_SAYS(" looks like refcoco");
    assert_int_equal(vg_import("refcoco", *state, *state, &options, &report), VG_E_DATA);
    ASSERT_SAYS("neither instances.json nor refcoco/instances.json is there; name the folder with instances.json and "
                "refs(..).p in it");
    assert_string_equal(vg_import_set_probe(fixture)->name, "refcoco");
    assert_null(vg_import_set_probe(*state));
}

/* ---- shard by shard ---- */

/* One image a shard, so that there are two. */
static vg_import_report import_small(const char *out, vg_status wanted)
{
    const vg_import_options options = {.split_by = "unc", .shard_bytes = 1, .max_bad = 0};
    vg_import_report report;
    const vg_status st = vg_import("refcoco", fixture, out, &options, &report);
    if (st != wanted) fail_msg("%d: %s", st, vg_error_text());
    return report;
}

static long inode_of(const char *folder, const char *name)
{
    char path[512];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(stat(path, &info), 0);
    return (long)info.st_ino;
}

static void an_import_goes_on_where_it_was_cut(void **state)
{
    const char *folder = *state;
    vg_import_report report = import_small(folder, VG_OK);
    assert_int_equal(report.shards, 2);
    assert_int_equal(report.shards_kept, 0);
    vg_import_report_release(&report);
    const long inode = inode_of(folder, "refcoco-00000.h5");
    char path[512];
    snprintf(path, sizeof path, "%s/refcoco-00001.h5", folder);
    assert_int_equal(truncate(path, 1000), 0); /* not finished, or damaged since */
    report = import_small(folder, VG_OK);
    assert_int_equal(report.shards, 2);
    assert_int_equal(report.shards_kept, 1);
    assert_int_equal(report.sentences, 10); /* kept ones are counted */
    assert_counts(&report, "train", 1, 1, 3);
    assert_counts(&report, "testB", 1, 3, 3);
    vg_import_report_release(&report);
    assert_int_equal(inode_of(folder, "refcoco-00000.h5"), inode); /* not made anew */
    vg_shard_verify_report verified;
    MUST(vg_shard_verify(&folder, 1, true, &verified));
}

/* The first image is good and becomes a shard before the import fails at the second. */
static void a_folder_is_refused_until_its_import_is_whole(void **state)
{
    const char *folder = *state, *shard = path_in(folder, "refcoco-00000.h5");
    const vg_import_options options = {.split_by = "broken", .shard_bytes = 1, .max_bad = 0.5};
    vg_split *split = NULL;
    vg_import_report report;
    assert_int_equal(vg_import("refcoco", fixture, folder, &options, &report), VG_E_DATA);
    assert_true(report.shards > 0);
    vg_import_report_release(&report);
    assert_int_equal(vg_split_open(&folder, 1, "train", &split), VG_E_DATA);
    ASSERT_SAYS(": not all of its shards are there, says refcoco.unfinished in it; ");
    MUST(vg_split_open(&shard, 1, "train", &split)); /* asked for by name */
    vg_split_close(split);
    report = import_small(folder, VG_OK);
    vg_import_report_release(&report);
    MUST(vg_split_open(&folder, 1, "train", &split));
    vg_split_close(split);
}

/* Else the first shards were made anew before that shows. */
static void an_unfinished_import_goes_on_with_shards_of_the_same_size(void **state)
{
    const char *folder = *state;
    vg_import_options options = {.split_by = "broken", .shard_bytes = 1 << 20, .max_bad = 0};
    vg_import_report report;
    assert_int_equal(vg_import("refcoco", fixture, folder, &options, &report), VG_E_DATA);
    vg_import_report_release(&report);
    const long inode = inode_of(folder, "refcoco-00000.h5");
    options.shard_bytes = 3 << 20;
    options.max_bad = 1;
    assert_int_equal(vg_import("refcoco", fixture, folder, &options, &report), VG_E_USAGE);
    ASSERT_SAYS(
        ": an import with --shard-mb 1 is unfinished there, and this one has --shard-mb 3: go on with --shard-mb 1, "
        "or remove refcoco-*.h5 and refcoco.unfinished there");
    assert_int_equal(inode_of(folder, "refcoco-00000.h5"), inode);
    options.shard_bytes = 1 << 20;
    MUST(vg_import("refcoco", fixture, folder, &options, &report));
    assert_int_equal(report.shards_kept, 1);
    vg_import_report_release(&report);
    options.shard_bytes = 3 << 20; /* a finished one may be made anew */
    MUST(vg_import("refcoco", fixture, folder, &options, &report));
    vg_import_report_release(&report);
}

static void a_folder_at_work_is_left_alone(void **state)
{
    const char *folder = path_in(*state, "out");
    int lock = -1;
    vg_import_report report;
    MUST(vg_make_directories(folder));
    MUST(vg_folder_lock(folder, &lock));
    report = import_small(folder, VG_E_USAGE);
    ASSERT_SAYS("out: another vlgtr is writing into it");
    vg_import_report_release(&report);
    close(lock);
    report = import_small(folder, VG_OK);
    vg_import_report_release(&report);
}

static void a_shard_of_other_input_is_written_again(void **state)
{
    vg_import_report report = import_small(*state, VG_OK);
    vg_import_report_release(&report);
    const vg_import_options options = {.split_by = "broken", .shard_bytes = 1, .max_bad = 1};
    MUST(vg_import("refcoco", fixture, *state, &options, &report));
    assert_int_equal(report.shards_kept, 0);
    vg_import_report_release(&report);
    MUST(vg_import("refcoco", fixture, *state, &options, &report));
    assert_int_equal(report.shards_kept, report.shards);
    assert_int_equal(report.bad_images, 3); /* told again, though nothing was decoded this time */
    assert_int_equal(report.bad_sentences, 16);
    vg_import_report_release(&report);
}

static void shards_of_a_larger_import_are_not_left_behind_silently(void **state)
{
    const char *folder = *state;
    vg_import_report report = import_small(folder, VG_OK);
    vg_import_report_release(&report);
    const vg_import_options options = {.split_by = "unc"};
    assert_int_equal(vg_import("refcoco", fixture, folder, &options, &report), VG_E_DATA);
    ASSERT_SAYS("refcoco-00001.h5 is left of an earlier import; remove it");
    vg_import_report_release(&report);
}

/* A mistake in the words of an import is no reason to call what is there a remainder. */
static void an_import_of_nothing_says_so_beside_the_shards_of_another(void **state)
{
    const vg_import_options elsewhere = {.split_by = "unc", .images = *state, .max_bad = 1};
    const vg_import_options nowhere = {.split_by = "unc", .images = path_in(*state, "absent")};
    vg_import_report report = import_small(*state, VG_OK);
    vg_import_report_release(&report);
    assert_int_equal(vg_import("refcoco", fixture, *state, &elsewhere, &report), VG_E_DATA);
    ASSERT_SAYS("nothing was imported");
    vg_import_report_release(&report);
    assert_int_equal(vg_import("refcoco", fixture, *state, &nowhere, &report), VG_E_DATA);
    ASSERT_SAYS("--images ");
    ASSERT_SAYS("absent: No such file");
    vg_import_report_release(&report);
}

static void threads_change_nothing(void **state)
{
    const char *folder = *state;
    char *bytes[2], path[600];
    size_t n[2];
    for (int i = 0; i < 2; i++) {
        const vg_import_options options = {.split_by = "broken", .max_bad = 1, .threads = i ? 7 : 1};
        vg_import_report report;
        snprintf(path, sizeof path, "%s/%d", folder, i);
        MUST(vg_import("refcoco", fixture, path, &options, &report));
        vg_import_report_release(&report);
        snprintf(path, sizeof path, "%s/%d/refcoco-00000.h5", folder, i);
        MUST(vg_file_read(path, 1 << 20, &bytes[i], &n[i]));
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    free(bytes[0]);
    free(bytes[1]);
}

/* ---- JSON, item by item ---- */

static vg_status sum_item(void *user, const json_t *item, size_t index)
{
    VG_CHECK(json_is_integer(item), VG_E_DATA, "item %zu is no integer", index);
    *(json_int_t *)user += json_integer_value(item);
    return VG_OK;
}

static vg_status walk(const char *folder, const char *text, json_int_t *sum)
{
    vg_json_array arrays[] = {{"a", sum_item, false}, {"b", sum_item, false}};
    vg_import_report report = {0};
    const vg_import_options options = {.strict = true};
    vg_import_log *log = vg_import_log_new(&report, &options);
    char path[512];
    snprintf(path, sizeof path, "%s/t.json", folder);
    MUST(vg_file_write_atomic(path, text, strlen(text)));
    *sum = 0;
    const vg_status st = vg_json_items(path, log, arrays, 2, sum);
    vg_import_log_free(log);
    vg_import_report_release(&report);
    return st;
}

static void json_arrays_are_walked_and_the_rest_is_skipped(void **state)
{
    json_int_t sum;
    MUST(walk(*state, " {\"x\": {\"a\": [7, [1]]}, \"a\" : [1, 2 ,3], \"y\":null,\"b\":[ ] } \n", &sum));
    assert_int_equal(sum, 6);
    MUST(walk(*state, "\xef\xbb\xbf{\"a\": [4], \"b\": []}", &sum)); /* with a byte order mark */
    assert_int_equal(sum, 4);
    const char *broken[] = {
        "",
        "[]",
        "{",
        "{}",
        "{\"a\": []}",
        "{\"a\": [1,], \"b\": []}",
        "{\"a\": [1 2], \"b\": []}",
        "{\"a\": [1, \"b\": []}",
        "{\"a\": 3, \"b\": []}",
        "{\"a\": [1], \"b\": [], }",
        "{\"a\": [1] \"b\": []}",
        "{\"a\": [1], \"b\": []} x",
        "{\"a\": [1], \"a\": [2], \"b\": []}",
        "{a: [1], \"b\": []}",
        "{\"a\": [1e999], \"b\": []}",
        "{\"a\": [1], \"b\": [], \"c\": [1",
        "{\"a\": [\"1",
        "{\"a\": [1], \"b\": [], \"c\"",
        "{\"a\": [\"1\"], \"b\": []}",
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        if (walk(*state, broken[i], &sum) != VG_E_DATA) fail_msg("accepted: %s", broken[i]);
    assert_int_equal(walk(*state, "{\"a\": [1, ?]}", &sum), VG_E_DATA);
    ASSERT_SAYS("t.json: byte 10: ");
}

/* The file is read a MiB at a time; strings full of what would matter outside them lie on every edge. */
static void json_values_may_be_larger_than_what_is_read_at_once(void **state)
{
    enum { STRINGS = 300000 };
    json_int_t sum;
    vg_text text = {0};
    MUST(vg_text_add(&text, "{\"skipped\": ["));
    for (int i = 0; i < STRINGS; i++) MUST(vg_text_add(&text, "%s\"]%d\\\\\\\"}\"", i ? "," : "", i));
    MUST(vg_text_add(&text, "], \"a\": ["));
    for (int i = 0; i < STRINGS; i++) MUST(vg_text_add(&text, "%s%d", i ? " , " : "", i));
    MUST(vg_text_add(&text, "], \"b\": []}"));
    MUST(walk(*state, text.data, &sum));
    assert_int_equal(sum, (json_int_t)STRINGS * (STRINGS - 1) / 2);
    text.data[text.length - 1] = ' '; /* without its last brace */
    assert_int_equal(walk(*state, text.data, &sum), VG_E_DATA);
    free(text.data);
}

static void json_items_of_more_than_64_MiB_are_refused(void **state)
{
    enum { BYTES = 66 << 20 };
    json_int_t sum;
    char *text = malloc(BYTES + 1);
    assert_non_null(text);
    memset(text, 'x', BYTES);
    memcpy(text, "{\"a\": [\"", 8);
    text[BYTES] = '\0';
    assert_int_equal(walk(*state, text, &sum), VG_E_DATA);
    ASSERT_SAYS("byte 7: one item of more than 64 MiB");
    free(text);
}

/* ---- real data ---- */

static const char *shared_data(void)
{
    const char *folder = getenv("VLGTR_DATA");
    if (!folder) skip();
    return folder;
}

/* The 8 photographs and 52 human phrases of a small part of RefCOCO, RefCOCO+ and RefCOCOg. */
static void real_refer_sets_have_their_counts(void **state)
{
    const vg_import_options options = {.strict = true};
    char root[512];
    vg_import_report report;
    snprintf(root, sizeof root, "%s/refer-mini", shared_data());
    MUST(vg_import("refcoco", root, *state, &options, &report));
    assert_counts(&report, "testB", 3, 6, 20);
    assert_counts(&report, "train", 2, 3, 6);
    vg_import_report_release(&report);
    MUST(vg_import("refcoco+", root, *state, &options, &report));
    assert_counts(&report, "testB", 3, 6, 18);
    vg_import_report_release(&report);
    MUST(vg_import("refcocog", root, *state, &options, &report));
    assert_counts(&report, "val", 2, 3, 6);
    assert_counts(&report, "test", 1, 1, 2);
    vg_import_report_release(&report);
    const char *folder = *state;
    vg_split *split = NULL;
    MUST(vg_split_open(&folder, 1, "testB", &split)); /* all three sets lie in one folder */
    assert_int_equal(vg_split_sentence_count(split), 38);
    vg_split_close(split);
}

/* A set of another name: root is its own folder, and refs(kuo).p the only one there. Some pictures are grey. */
static void a_real_set_of_another_name_is_imported(void **state)
{
    const vg_import_options options = {.strict = true};
    char root[512];
    vg_import_report report;
    snprintf(root, sizeof root, "%s/refcocos-mini/refcocos", shared_data());
    MUST(vg_import("refcoco", root, *state, &options, &report));
    assert_counts(&report, "test", 24, 26, 26);
    vg_import_report_release(&report);
}

static void real_photographs_have_their_counts(void **state)
{
    const vg_import_options options = {.strict = true, .shard_bytes = 6 << 20};
    char root[512];
    vg_import_report report;
    snprintf(root, sizeof root, "%s/coco-template/cocotemplate", shared_data());
    MUST(vg_import("refcoco", root, *state, &options, &report));
    assert_int_equal(report.images, 156);
    assert_int_equal(report.sentences, 1073);
    assert_int_equal(split_in(&report, "train")->refs, 346);
    assert_int_equal(split_in(&report, "val")->refs, 52);
    assert_int_equal(report.shards, 5);
    vg_import_report_release(&report);
}

/* Counts without images: the records themselves. */
static vg_import_report count_records(const char *set, const char *root)
{
    const vg_import_set *row = vg_import_set_find(set);
    const vg_import_source source = {.set = set, .root = root};
    vg_import_report report = {0};
    const vg_import_options options = {.strict = true};
    vg_import_log *log = vg_import_log_new(&report, &options);
    void *reader = NULL;
    char split_by[VG_IMPORT_NAME_BYTES] = "";
    MUST(row->importer->open(&source, log, &reader, split_by));
    for (bool more = true; more;) {
        vg_import_record record;
        MUST(row->importer->next(reader, &record, &more));
        if (!more) break;
        const vg_new_image image = {.sentences = record.sentences, .n_sentences = record.n_sentences};
        MUST(vg_import_count(&report, &image));
    }
    row->importer->close(reader);
    vg_import_log_free(log);
    return report;
}

/* All published evaluation refs outside a few held-out images. */
static void real_annotations_have_their_counts(void **state)
{
    (void)state;
    char root[512];
    snprintf(root, sizeof root, "%s/refer-annotations", shared_data());
    const struct {
        const char *set;
        int images, sentences;
        struct {
            const char *split;
            int refs;
        } splits[4];
    } expected[] = {
        {"refcoco", 2882, 18497, {{"val", 3066}, {"testA", 1620}, {"testB", 1470}, {"train", 753}}},
        {"refcoco+", 2438, 17326, {{"val", 3062}, {"testA", 1620}, {"testB", 1464}}},
        {"refcocog", 3176, 11852, {{"val", 2089}, {"test", 4119}}},
    };
    for (size_t i = 0; i < 3; i++) {
        vg_import_report report = count_records(expected[i].set, root);
        assert_int_equal(report.images, expected[i].images);
        assert_int_equal(report.sentences, expected[i].sentences);
        for (size_t k = 0; k < 4 && expected[i].splits[k].split; k++)
            assert_int_equal(split_in(&report, expected[i].splits[k].split)->refs, expected[i].splits[k].refs);
        vg_import_report_release(&report);
    }
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(a_clean_set_is_imported_whole),
        IN_SCRATCH(sentences_get_box_kind_and_trimmed_text),
        IN_SCRATCH(the_split_by_is_the_usual_one_or_must_be_named),
        IN_SCRATCH(an_import_that_fails_at_once_leaves_no_folder),
        IN_SCRATCH(an_import_without_a_good_picture_leaves_no_folder),
        IN_SCRATCH(each_broken_record_is_set_aside_by_id),
        IN_SCRATCH(too_many_bad_records_fail_the_import),
        IN_SCRATCH(strict_makes_the_first_bad_record_an_error),
        IN_SCRATCH(without_images_nothing_is_imported),
        IN_SCRATCH(an_unknown_set_names_its_neighbour),
        IN_SCRATCH(an_import_goes_on_where_it_was_cut),
        IN_SCRATCH(an_unfinished_import_goes_on_with_shards_of_the_same_size),
        IN_SCRATCH(a_folder_at_work_is_left_alone),
        IN_SCRATCH(a_folder_is_refused_until_its_import_is_whole),
        IN_SCRATCH(a_shard_of_other_input_is_written_again),
        IN_SCRATCH(shards_of_a_larger_import_are_not_left_behind_silently),
        IN_SCRATCH(an_import_of_nothing_says_so_beside_the_shards_of_another),
        IN_SCRATCH(threads_change_nothing),
        IN_SCRATCH(json_values_may_be_larger_than_what_is_read_at_once),
        IN_SCRATCH(json_items_of_more_than_64_MiB_are_refused),
        IN_SCRATCH(json_arrays_are_walked_and_the_rest_is_skipped),
        IN_SCRATCH(real_refer_sets_have_their_counts),
        IN_SCRATCH(a_real_set_of_another_name_is_imported),
        IN_SCRATCH(real_photographs_have_their_counts),
        IN_SCRATCH(real_annotations_have_their_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
