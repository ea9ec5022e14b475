/* Verifying goes on behind a fault, and what it lists can be left out. */
#define _XOPEN_SOURCE 700
#include "data/record_list.h"
#include "data/shard_impl.h"
#include "data/shard_tools.h"
#include "tests/unit/scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/data/small_shard.h"

static vg_shard_verify_report verified(const char *path, bool decode, vg_status wanted)
{
    vg_shard_verify_report report;
    assert_int_equal(vg_shard_verify(&path, 1, decode, &report), wanted);
    return report;
}

/* Writes over a table of a shard. */
static void table_change(const char *path, const char *table, hid_t type, const void *rows)
{
    const hid_t access = vg_h5_access(), file = H5Fopen(path, H5F_ACC_RDWR, access);
    const hid_t set = H5Dopen2(file, table, H5P_DEFAULT);
    assert_true(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows) >= 0);
    H5Dclose(set);
    H5Fclose(file);
    H5Pclose(access);
}

/* What is left of a shard without the records that a report lists. */
static vg_shard *opened_without(const char *path, const vg_shard_verify_report *report)
{
    char name[512];
    vg_record_list list;
    vg_shard *shard = NULL;
    snprintf(name, sizeof name, "%s.jsonl", path);
    MUST(vg_file_write_atomic(name, report->quarantine.data, report->quarantine.length));
    MUST(vg_record_list_read(name, &list));
    MUST(vg_shard_open_as(path, &(vg_shard_opening){.without = &list}, &shard));
    vg_record_list_release(&list);
    return shard;
}

static void a_whole_shard_has_nothing_to_list(void **state)
{
    const char *path = path_in(*state, "a.h5");
    small_shard(path);
    vg_shard_verify_report report = verified(path, true, VG_OK);
    assert_true(report.images == 2 && report.sentences == 4 && report.bad == 0 && report.quarantine.length == 0);
    vg_shard_verify_report_release(&report);
}

static void it_goes_on_behind_a_shard_that_does_not_open(void **state)
{
    const char *folder = *state;
    small_shard(path_in(folder, "a.h5"));
    MUST(vg_file_write_atomic(path_in(folder, "b.h5"), "no shard", 8));
    small_shard(path_in(folder, "c.h5"));
    image_damage(path_in(folder, "c.h5"), 1);
    vg_shard_verify_report report = verified(folder, true, VG_E_DATA);
    ASSERT_SAYS("2 faults in 3 shards with 4 images, the first: ");
    assert_non_null(strstr(report.lines.data, "b.h5: not a readable HDF5 file"));
    assert_non_null(strstr(report.lines.data, "c.h5: image 8 does not match its hash"));
    assert_null(strstr(report.quarantine.data, "b.h5")); /* it has no records to leave out */
    vg_shard_verify_report_release(&report);
}

static void a_bad_image_is_listed_and_can_be_left_out(void **state)
{
    const char *path = path_in(*state, "a.h5");
    small_shard(path);
    image_damage(path, 0);
    vg_shard_verify_report report = verified(path, false, VG_E_DATA);
    vg_shard *shard = opened_without(path, &report);
    assert_true(shard->tables.n_images == 1 && shard->tables.n_sentences == 1);
    assert_true(shard->tables.images[0].image_id == 8 && shard->tables.sentences[0].sentence_id == 80);
    vg_shard_close(shard);
    vg_shard_verify_report_release(&report);
}

/* Boxes that lie: the first sentence has one that is not finite. */
static void every_bad_row_is_listed_and_can_be_left_out(void **state)
{
    const char *path = path_in(*state, "a.h5");
    vg_shard *shard = NULL;
    small_shard(path);
    MUST(vg_shard_open(path, &shard));
    assert_int_equal(shard->tables.n_boxes, 3); /* sentence 80 shares the last one with 71 */
    shard->tables.boxes[0][1] = NAN;
    table_change(path, "boxes", H5T_NATIVE_FLOAT, shard->tables.boxes);
    vg_shard_close(shard);
    vg_shard_verify_report report = verified(path, true, VG_E_DATA);
    assert_int_equal(report.bad, 1);
    assert_non_null(strstr(report.lines.data, "/sentences row 0 (sentence 70): a coordinate of its box is not finite"));
    assert_int_equal(vg_shard_open(path, &shard), VG_E_DATA);
    shard = opened_without(path, &report);
    assert_true(shard->tables.n_images == 2 && shard->tables.n_sentences == 3);
    assert_int_equal(shard->tables.sentences[0].sentence_id, 71);
    vg_shard_close(shard);
    vg_split *split = NULL;
    assert_int_equal(vg_split_open(&path, 1, "train", &split), VG_E_DATA);
    ASSERT_SAYS("`vlgtr shard verify --quarantine` lists what to leave out");
    const vg_split_opening opening = {.without = path_in(*state, "a.h5.jsonl")};
    MUST(vg_split_open_as(&path, 1, "train", &opening, &split));
    assert_true(vg_split_image_count(split) == 2 && vg_split_sentence_count(split) == 2);
    vg_split_close(split);
    vg_shard_verify_report_release(&report);
}

static void sentences_of_a_bad_image_row_go_with_it(void **state)
{
    const char *path = path_in(*state, "a.h5");
    vg_shard *shard = NULL;
    small_shard(path);
    MUST(vg_shard_open(path, &shard));
    const int64_t second_bytes = (int64_t)shard->tables.images[1].length;
    shard->tables.images[0].width = 0;
    shard->tables.images[0].length = INT64_MAX;
    const hid_t type = vg_shard_image_type(true);
    table_change(path, "images", type, shard->tables.images);
    H5Tclose(type);
    vg_shard_close(shard);
    vg_shard_verify_report report = verified(path, true, VG_E_DATA);
    assert_int_equal(report.bad, 1); /* the row; nothing is said of sentences that need its size */
    assert_int_equal(report.image_bytes, second_bytes);
    assert_non_null(strstr(report.lines.data, "/images row 0 (image 7): its size is impossible"));
    shard = opened_without(path, &report);
    assert_true(shard->tables.n_images == 1 && shard->tables.n_sentences == 1);
    assert_int_equal(shard->tables.sentences[0].image, 0);
    vg_shard_close(shard);
    vg_shard_verify_report_release(&report);
}

static void pixels_are_looked_at_when_asked(void **state)
{
    const char *path = path_in(*state, "a.h5");
    vg_shard_writer *w = NULL;
    const vg_new_image image = small_image(7, 40, 30, (const unsigned char *)"no picture", 10, small_sentences, 1);
    MUST(vg_shard_writer_open(path, "test", "", &w));
    MUST(vg_shard_writer_add(w, &image));
    MUST(vg_shard_writer_close(w, 0));
    vg_shard_verify_report report = verified(path, false, VG_OK);
    vg_shard_verify_report_release(&report);
    report = verified(path, true, VG_E_DATA);
    ASSERT_SAYS("image 7: neither a JPEG nor a PNG");
    vg_shard_verify_report_release(&report);
}

static void leaving_out_everything_leaves_nothing(void **state)
{
    const char *path = path_in(*state, "a.h5");
    vg_shard *shard = NULL, *empty = NULL;
    vg_record_list list = {0};
    small_shard(path);
    MUST(vg_shard_open(path, &shard));
    for (int i = 0; i < 2; i++) {
        MUST(vg_grow(&list.records, &list.capacity, list.n + 1, sizeof *list.records));
        list.records[list.n++] = shard->tables.images[i].record;
    }
    if (list.records[0] > list.records[1]) {
        const uint64_t first = list.records[0];
        list.records[0] = list.records[1];
        list.records[1] = first;
    }
    MUST(vg_shard_open_as(path, &(vg_shard_opening){.without = &list}, &empty));
    assert_true(empty->tables.n_images == 0 && empty->tables.n_sentences == 0);
    vg_record_list_release(&list);
    vg_shard_close(shard);
    vg_shard_close(empty);
}

static void a_split_that_is_left_out_whole_is_not_one_that_is_unknown(void **state)
{
    const char *path = path_in(*state, "a.h5");
    const vg_split_opening opening = {.without = path_in(*state, "a.h5.jsonl")};
    vg_split *split = NULL;
    small_shard(path);
    image_damage(path, 0);
    image_damage(path, 1);
    vg_shard_verify_report report = verified(path, false, VG_E_DATA);
    vg_shard_close(opened_without(path, &report));
    assert_int_equal(vg_split_open_as(&path, 1, "train", &opening, &split), VG_E_DATA);
    ASSERT_SAYS("a.h5: the list of records to leave out leaves no phrase of split 'train'");
    assert_int_equal(vg_split_open_as(&path, 1, "trian", &opening, &split), VG_E_DATA);
    ASSERT_SAYS("did you mean 'train'?");
    vg_shard_verify_report_release(&report);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(a_whole_shard_has_nothing_to_list),
        IN_SCRATCH(it_goes_on_behind_a_shard_that_does_not_open),
        IN_SCRATCH(a_bad_image_is_listed_and_can_be_left_out),
        IN_SCRATCH(every_bad_row_is_listed_and_can_be_left_out),
        IN_SCRATCH(sentences_of_a_bad_image_row_go_with_it),
        IN_SCRATCH(pixels_are_looked_at_when_asked),
        IN_SCRATCH(leaving_out_everything_leaves_nothing),
        IN_SCRATCH(a_split_that_is_left_out_whole_is_not_one_that_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
