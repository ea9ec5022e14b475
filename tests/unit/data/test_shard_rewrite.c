/* Shards from shards: joined, cut, a part left out or moved, images made smaller, and what the new ones say of it. */
#define _XOPEN_SOURCE 700
#include "data/shard_history_impl.h"
#include "data/shard_impl.h"
#include "data/shard_repack_impl.h"
#include "data/shard_tools.h"
#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/data/small_shard.h"

/* Rewrites a small shard into folder `to` and opens the first new one. */
static vg_shard *rewritten(const char *folder, const char *to, vg_shard_rewrite_spec spec,
                           vg_shard_rewrite_report *report)
{
    const char *from = path_in(folder, "a.h5"), *out = path_in(folder, to);
    char first[600];
    vg_shard *shard = NULL;
    small_shard(from);
    spec.paths = &from;
    spec.n_paths = 1;
    spec.out = out;
    spec.name = "new";
    MUST(vg_shard_rewrite(&spec, report));
    snprintf(first, sizeof first, "%s/new-00000.h5", out);
    MUST(vg_shard_open(first, &shard));
    return shard;
}

static void a_condition_keeps_some_sentences(void **state)
{
    vg_shard_rewrite_report report;
    vg_shard *shard = rewritten(*state, "out", (vg_shard_rewrite_spec){.where = "words=2 and boxes=1"}, &report);
    assert_true(report.images == 2 && report.sentences == 2 && report.shards == 1);
    assert_int_equal(shard->tables.sentences[0].sentence_id, 70);
    assert_int_equal(shard->tables.sentences[1].sentence_id, 80);
    assert_string_equal(shard->origin.history, "filter where words=2 and boxes=1");
    assert_string_equal(shard->origin.source, "test");
    vg_shard_close(shard);
}

static void images_without_sentences_go(void **state)
{
    vg_shard_rewrite_report report;
    vg_shard *shard = rewritten(*state, "out", (vg_shard_rewrite_spec){.where = "image=8"}, &report);
    assert_true(shard->tables.n_images == 1 && shard->tables.images[0].image_id == 8);
    vg_shard_close(shard);
    const char *from = path_in(*state, "a.h5"), *out = path_in(*state, "none");
    const vg_shard_rewrite_spec none = {.paths = &from, .n_paths = 1, .out = out, .name = "new", .where = "image=9"};
    assert_int_equal(vg_shard_rewrite(&none, &report), VG_E_USAGE);
    ASSERT_SAYS("nothing is left where image=9");
}

static void listed_records_are_left_out(void **state)
{
    vg_shard_rewrite_report report;
    vg_shard *whole = NULL;
    const char *from = path_in(*state, "a.h5");
    small_shard(from);
    MUST(vg_shard_open(from, &whole));
    vg_record_list list = {.records = &whole->tables.images[1].record, .n = 1};
    vg_shard *shard = rewritten(*state, "out", (vg_shard_rewrite_spec){.without = &list}, &report);
    assert_true(shard->tables.n_images == 1 && shard->tables.n_sentences == 3);
    assert_true(shard->tables.images[0].record == whole->tables.images[0].record);
    assert_string_equal(shard->origin.history, "filter without 1 records");
    assert_int_equal(report.left_out, 1);
    vg_shard_close(shard);
    list.n = 0;
    shard = rewritten(*state, "again", (vg_shard_rewrite_spec){.without = &list}, &report);
    assert_true(shard->tables.n_images == 2 && report.left_out == 0);
    vg_shard_close(shard);
    vg_shard_close(whole);
}

static void a_list_of_which_no_record_is_there_is_refused(void **state)
{
    vg_shard_rewrite_report report;
    vg_shard *whole = NULL;
    vg_split *split = NULL;
    const char *from = path_in(*state, "a.h5"), *repacked = path_in(*state, "out"), *none = path_in(*state, "none");
    char text[64];
    vg_shard_close(rewritten(*state, "out", (vg_shard_rewrite_spec){.side = 40, .quality = 90}, &report));
    MUST(vg_shard_open(from, &whole));
    vg_record_list list = {.records = &whole->tables.images[1].record, .n = 1}; /* 60 x 20 then, 40 x 13 now */
    const vg_shard_rewrite_spec spec = {.paths = &repacked, .n_paths = 1, .out = none, .name = "new", .without = &list};
    assert_int_equal(vg_shard_rewrite(&spec, &report), VG_E_DATA);
    ASSERT_SAYS("none of the 1 listed records is in the shards");
    assert_int_not_equal(access(none, F_OK), 0);
    snprintf(text, sizeof text, "{\"records\":[\"%016llx\"]}\n", (unsigned long long)list.records[0]);
    const vg_split_opening opening = {.without = path_in(*state, "list.jsonl")};
    MUST(vg_file_write_atomic(opening.without, text, strlen(text)));
    assert_int_equal(vg_split_open_as(&repacked, 1, "train", &opening, &split), VG_E_DATA);
    ASSERT_SAYS("list.jsonl: none of the 1 listed records");
    MUST(vg_split_open_as(&from, 1, "train", &opening, &split));
    assert_true(vg_split_left_out(split) == 1 && vg_split_listed(split) == 1);
    vg_split_close(split);
    vg_shard_close(whole);
}

static void sentences_that_two_shards_share_are_counted(void **state)
{
    vg_shard_rewrite_report report;
    const char *from[] = {path_in(*state, "a.h5"), path_in(*state, "out")};
    vg_shard_close(rewritten(*state, "out", (vg_shard_rewrite_spec){.where = "image=7"}, &report));
    assert_true(report.sentences == 3 && report.repeated_sentences == 0);
    const vg_shard_rewrite_spec both = {.paths = from, .n_paths = 2, .out = path_in(*state, "both"), .name = "new"};
    MUST(vg_shard_rewrite(&both, &report));
    assert_true(report.sentences == 7 && report.repeated_sentences == 3);
}

static void larger_images_are_resized_and_their_boxes_with_them(void **state)
{
    vg_shard_rewrite_report report;
    vg_image picture = {0};
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    vg_shard *shard = rewritten(*state, "out", (vg_shard_rewrite_spec){.side = 40, .quality = 90}, &report);
    const vg_shard_image *images = shard->tables.images;
    assert_int_equal(report.repacked_images, 1);
    assert_true(images[0].width == 40 && images[0].height == 30); /* was so: its bytes stay */
    assert_true(images[1].width == 40 && images[1].height == 13); /* was 60 x 20 */
    MUST(vg_shard_read_image(shard, 1, &bytes, &capacity, &n));
    assert_true(bytes[0] == 0xff && bytes[1] == 0xd8);
    MUST(vg_image_decode(bytes, n, false, &picture));
    assert_true(picture.width == 40 && picture.height == 13);
    const float *box = shard->tables.boxes[shard->tables.sentences[3].first_box];
    const float wanted[4] = {5.5F * 40 / 60, 6.25F * 13 / 20, 25.5F * 40 / 60, 16.25F * 13 / 20};
    for (int i = 0; i < 4; i++) assert_float_equal(box[i], wanted[i], 1e-5F);
    MUST(vg_shard_read_image(shard, 0, &bytes, &capacity, &n));
    assert_true(bytes[0] == 0x89 && bytes[1] == 'P');
    assert_string_equal(shard->origin.history, "repack side 40, quality 90");
    vg_image_release(&picture);
    free(bytes);
    vg_shard_close(shard);
}

static void equal_input_makes_equal_files(void **state)
{
    vg_shard_rewrite_report report;
    char *x = NULL, *y = NULL;
    size_t n = 0, m = 0;
    vg_shard_close(rewritten(*state, "one", (vg_shard_rewrite_spec){.side = 20, .quality = 70}, &report));
    vg_shard_close(rewritten(*state, "two", (vg_shard_rewrite_spec){.side = 20, .quality = 70}, &report));
    MUST(vg_file_read(path_in(*state, "one/new-00000.h5"), 1 << 20, &x, &n));
    MUST(vg_file_read(path_in(*state, "two/new-00000.h5"), 1 << 20, &y, &m));
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static void a_box_stays_inside_and_is_not_empty(void **state)
{
    const vg_shard_image old = {.width = 999, .height = 1001};
    const vg_repacked image = {.width = 332, .height = 333, .is_new = true};
    const float whole[4] = {0, 0, 999, 1001}, tiny[4] = {998.5F, 1000.75F, 998.75F, 1001};
    float to[4];
    (void)state;
    vg_repack_box(&image, &old, whole, to);
    assert_true(to[0] == 0 && to[1] == 0 && to[2] == 332 && to[3] == 333);
    vg_repack_box(&image, &old, tiny, to);
    assert_true(to[0] < to[2] && to[2] <= 332 && to[1] < to[3] && to[3] <= 333);
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    MUST(vg_repack_check(0, 0));
    MUST(vg_repack_check(518, 90));
    assert_int_equal(vg_repack_check(16385, 90), VG_E_USAGE);
    assert_int_equal(vg_repack_check(-1, 90), VG_E_USAGE);
    assert_int_equal(vg_repack_check(518, 0), VG_E_USAGE);
    assert_int_equal(vg_repack_check(518, 101), VG_E_USAGE);
}

static void records_of_different_origin_share_no_shard(void **state)
{
    const char *in = path_in(*state, "in"), *again = path_in(*state, "again"), *merged = path_in(*state, "merged");
    vg_shard_rewrite_report report;
    vg_shard_close(rewritten(*state, "in", (vg_shard_rewrite_spec){.where = "split=train"}, &report));
    const char *both[] = {in, path_in(*state, "a.h5"), path_in(*state, "b.h5")};
    small_shard(both[2]);
    const vg_shard_rewrite_spec spec = {.paths = both, .n_paths = 3, .out = merged, .name = "m"};
    MUST(vg_shard_rewrite(&spec, &report));
    assert_true(report.shards == 2 && report.images == 6);
    const vg_shard_rewrite_spec more = {.paths = &merged, .n_paths = 1, .out = again, .name = "m", .where = "words=2"};
    MUST(vg_shard_rewrite(&more, &report));
    vg_shard *shard = NULL;
    MUST(vg_shard_open(path_in(*state, "again/m-00000.h5"), &shard));
    assert_string_equal(shard->origin.history, "filter where split=train\nfilter where words=2");
    vg_shard_close(shard);
    MUST(vg_shard_open(path_in(*state, "again/m-00001.h5"), &shard));
    assert_string_equal(shard->origin.history, "filter where words=2");
    vg_shard_close(shard);
}

/* The first new shard is finished when the second old one turns out to be damaged. */
static void an_error_leaves_no_new_shard(void **state)
{
    const char *from[] = {path_in(*state, "a.h5"), path_in(*state, "b.h5")}, *out = path_in(*state, "out");
    const vg_shard_rewrite_spec spec = {.paths = from, .n_paths = 2, .out = out, .name = "new", .shard_bytes = 1};
    vg_shard_rewrite_report report;
    small_shard(from[0]);
    small_shard(from[1]);
    image_damage(from[1], 1);
    assert_int_equal(vg_shard_rewrite(&spec, &report), VG_E_DATA);
    assert_true(report.images > 1); /* each a shard */
    assert_int_equal(report.shards, 0);
    assert_int_not_equal(access(out, F_OK), 0); /* nor the folder that was made for them */
}

static void a_folder_at_work_is_left_alone(void **state)
{
    const char *from = path_in(*state, "a.h5"), *out = path_in(*state, "out");
    const vg_shard_rewrite_spec spec = {.paths = &from, .n_paths = 1, .out = out, .name = "new"};
    vg_shard_rewrite_report report;
    int lock = -1;
    small_shard(from);
    MUST(vg_make_directories(out));
    MUST(vg_folder_lock(out, &lock));
    assert_int_equal(vg_shard_rewrite(&spec, &report), VG_E_USAGE);
    ASSERT_SAYS("out: another vlgtr is writing into it");
    close(lock);
    MUST(vg_shard_rewrite(&spec, &report));
}

/* Such as a kill leaves them. */
static void marked_shards_are_neither_read_nor_added_to(void **state)
{
    const char *folder = *state, *from = path_in(folder, "a.h5"), *out = path_in(folder, "out");
    const vg_shard_rewrite_spec away = {.paths = &folder, .n_paths = 1, .out = out, .name = "new"};
    const vg_shard_rewrite_spec here = {.paths = &from, .n_paths = 1, .out = folder, .name = "new"};
    vg_shard_rewrite_report report;
    small_shard(from);
    MUST(vg_shard_mark_set(folder, "merge", ""));
    assert_int_equal(vg_shard_rewrite(&away, &report), VG_E_DATA);
    ASSERT_SAYS("not all of its shards are there, says merge.unfinished");
    assert_int_equal(vg_shard_rewrite(&here, &report), VG_E_USAGE);
    ASSERT_SAYS("one with shards");
    MUST(vg_shard_mark_clear(folder, "merge"));
    MUST(vg_shard_rewrite(&away, &report));
}

static uint64_t hash_of(const char *path, const char *name)
{
    vg_split *split = split_of(path, name);
    const uint64_t hash = vg_split_hash(split);
    vg_split_close(split);
    return hash;
}

static void merging_changes_the_files_and_not_the_data(void **state)
{
    const char *in = path_in(*state, "in"), *merged = path_in(*state, "merged"), *cut = path_in(*state, "cut");
    vg_shard_rewrite_report report;
    assert_int_equal(mkdir(in, 0700), 0);
    small_shard(path_in(in, "a.h5"));
    small_shard(path_in(in, "b.h5"));
    MUST(vg_shard_rewrite(&(vg_shard_rewrite_spec){.paths = &in, .n_paths = 1, .out = merged, .name = "m"}, &report));
    assert_int_equal(report.shards, 1);
    assert_int_equal(report.images, 4);
    assert_int_equal(report.sentences, 8);
    assert_true(hash_of(merged, "train") == hash_of(in, "train"));
    MUST(vg_shard_rewrite(
        &(vg_shard_rewrite_spec){.paths = &merged, .n_paths = 1, .out = cut, .name = "c", .shard_bytes = 1}, &report));
    assert_int_equal(report.shards, 4);
    assert_true(hash_of(cut, "train") == hash_of(in, "train"));
    assert_true(hash_of(cut, "val") == hash_of(in, "val"));
    assert_int_equal(
        vg_shard_rewrite(&(vg_shard_rewrite_spec){.paths = &in, .n_paths = 1, .out = in, .name = "m"}, &report),
        VG_E_USAGE);
    ASSERT_SAYS("no folder, or one with shards");
}

static void what_would_spoil_the_new_shards_is_refused(void **state)
{
    const char *from[] = {path_in(*state, "a.h5"), path_in(*state, "a.h5")}, *out = path_in(*state, "out");
    const vg_shard_rewrite_spec good = {.paths = from, .n_paths = 1, .out = out, .name = "new"};
    vg_shard_rewrite_spec bad = good;
    vg_shard_rewrite_report report;
    small_shard(from[0]);
    bad.n_paths = 2;
    assert_int_equal(vg_shard_rewrite(&bad, &report), VG_E_DATA); /* every record would be there twice */
    ASSERT_SAYS("is the same file as");
    bad = good;
    bad.from = "train";
    bad.to = "\xff";
    bad.share = 1;
    assert_int_equal(vg_shard_rewrite(&bad, &report), VG_E_USAGE); /* a split that no reader takes */
    ASSERT_SAYS("needs a name");
    bad.to = "train";
    assert_int_equal(vg_shard_rewrite(&bad, &report), VG_E_USAGE);
    ASSERT_SAYS("from split 'train' to itself");
    bad = good;
    bad.name = "../new";
    assert_int_equal(vg_shard_rewrite(&bad, &report), VG_E_USAGE);
    ASSERT_SAYS("without '/'");
}

/* Half of 200 images go. */
static void a_share_of_a_split_moves_by_image(void **state)
{
    const char *all = path_in(*state, "all.h5"), *out = path_in(*state, "out"), *again = path_in(*state, "again");
    vg_shard_rewrite_spec spec = {
        .paths = &all, .n_paths = 1, .out = out, .name = "s", .from = "train", .to = "held", .share = 0.5, .seed = 3};
    vg_shard_rewrite_report report;
    const unsigned char *bytes = (const unsigned char *)"bytes";
    vg_shard_writer *w = NULL;
    MUST(vg_shard_writer_open(all, "test", "hand", &w));
    for (int64_t i = 0; i < 200; i++) { /* two sentences of train, one of val */
        const vg_new_image image = small_image(i, 40, 30, bytes, 5, small_sentences, 3);
        MUST(vg_shard_writer_add(w, &image));
    }
    MUST(vg_shard_writer_close(w, 0));
    MUST(vg_shard_rewrite(&spec, &report));
    assert_in_range(report.moved_images, 75, 125); /* 100 give or take 3.5 standard deviations */
    assert_int_equal(report.moved_sentences, 2 * report.moved_images);
    vg_split *train = split_of(out, "train"), *held = split_of(out, "held");
    assert_int_equal(vg_split_image_count(train) + vg_split_image_count(held), 200); /* none is torn in two */
    assert_true(hash_of(out, "val") == hash_of(all, "val"));
    spec.out = again;
    MUST(vg_shard_rewrite(&spec, &report));
    assert_true(hash_of(again, "held") == vg_split_hash(held)); /* the same ones again */
    vg_split_close(train);
    vg_split_close(held);
    spec.out = path_in(*state, "third");
    spec.share = 0;
    assert_int_equal(vg_shard_rewrite(&spec, &report), VG_E_USAGE);
    ASSERT_SAYS("nothing went from split 'train' to 'held'");
    spec.from = "trian";
    assert_int_equal(vg_shard_rewrite(&spec, &report), VG_E_DATA);
    ASSERT_SAYS("no split 'trian'; there are train, val; did you mean 'train'?");
}

static void a_history_forgets_its_oldest_lines(void **state)
{
    char history[VG_SHARD_HISTORY_BYTES] = "", line[VG_SHARD_HISTORY_BYTES];
    (void)state;
    vg_shard_history_extend(history, "first");
    vg_shard_history_extend(history, "");
    assert_string_equal(history, "first");
    memset(line, 'x', 600);
    line[600] = '\0';
    vg_shard_history_extend(history, line);
    assert_int_equal(strlen(history), 5 + 1 + 600);
    line[0] = 'y';
    vg_shard_history_extend(history, line); /* 600 + 1 + 600 would be too long */
    assert_string_equal(history, line);
    memset(line, 'z', VG_SHARD_HISTORY_BYTES - 1);
    line[VG_SHARD_HISTORY_BYTES - 1] = '\0';
    vg_shard_history_extend(history, line);
    assert_string_equal(history, line);
    vg_shard_history_extend(history, "last");
    assert_string_equal(history, "last");
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(a_condition_keeps_some_sentences),
        IN_SCRATCH(images_without_sentences_go),
        IN_SCRATCH(listed_records_are_left_out),
        IN_SCRATCH(a_list_of_which_no_record_is_there_is_refused),
        IN_SCRATCH(sentences_that_two_shards_share_are_counted),
        IN_SCRATCH(larger_images_are_resized_and_their_boxes_with_them),
        IN_SCRATCH(equal_input_makes_equal_files),
        cmocka_unit_test(a_box_stays_inside_and_is_not_empty),
        cmocka_unit_test(impossible_sizes_are_refused),
        IN_SCRATCH(records_of_different_origin_share_no_shard),
        IN_SCRATCH(an_error_leaves_no_new_shard),
        IN_SCRATCH(a_folder_at_work_is_left_alone),
        IN_SCRATCH(marked_shards_are_neither_read_nor_added_to),
        IN_SCRATCH(merging_changes_the_files_and_not_the_data),
        IN_SCRATCH(what_would_spoil_the_new_shards_is_refused),
        IN_SCRATCH(a_share_of_a_split_moves_by_image),
        cmocka_unit_test(a_history_forgets_its_oldest_lines),
        cmocka_unit_test(no_file_or_table_was_left_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
