/* Leakage between small shards: by id, by name, by pixels, within one set and across two. */
#define _XOPEN_SOURCE 700
#include "data/record_list.h"
#include "data/shard_impl.h"
#include "data/shard_leakage.h"
#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/data/made_shard.h"

static vg_status leakage_of(const char *own, const char *against, bool by_id, bool by_name, bool by_pixels,
                            vg_leakage_report *report)
{
    return vg_shard_leakage(&(vg_leakage_spec){.paths = &own,
                                               .n_paths = 1,
                                               .against = &against,
                                               .n_against = against != NULL,
                                               .by_id = by_id,
                                               .by_name = by_name,
                                               .by_pixels = by_pixels,
                                               .max_bits = 8},
                            report);
}

static void an_image_of_two_splits_leaks_its_training_sentences(void **state)
{
    const made_image images[] = {{1, "1.png", 1, "train", NULL, 0, 0},
                                 {2, "2.png", 2, "train", "val", 0, 0},
                                 {3, "3.png", 3, "val", NULL, 0, 0}};
    const char *path = made(*state, "a.h5", "test", images, 3);
    vg_leakage_report report;
    assert_int_equal(leakage_of(path, NULL, true, false, false, &report), VG_E_DATA);
    ASSERT_SAYS("1 of 2 images of split 'train' stand in evaluation splits, the first: image 2 (2.png)");
    assert_int_equal(report.train_images, 2);
    assert_int_equal(report.evaluation_images, 2);
    assert_int_equal(report.leaked_images, 1);
    assert_int_equal(report.leaked_sentences, 1);
    assert_non_null(strstr(report.text.data, "leaked into val: 1 images"));

    char list_path[512];
    vg_record_list list;
    vg_shard *shard = NULL;
    snprintf(list_path, sizeof list_path, "%s/list.jsonl", (const char *)*state);
    MUST(vg_file_write_atomic(list_path, report.list.data, report.list.length));
    MUST(vg_record_list_read(list_path, &list));
    MUST(vg_shard_open(path, &shard));
    assert_int_equal(list.n, 1); /* the sentence of train, not that of val */
    assert_true(vg_record_list_has(&list, shard->tables.sentences[1].record));
    vg_shard_close(shard);
    vg_record_list_release(&list);
    vg_leakage_report_release(&report);
}

static void each_way_finds_its_own(void **state)
{
    const made_image train[] = {{1, "1.png", 1, "train", NULL, 0, 0},
                                {2, "2.png", 2, "train", NULL, 0, 0},
                                {3, "3.png", 3, "train", NULL, 0, 0},
                                {4, "4.png", 4, "train", NULL, 0, 0}};
    const made_image test[] = {{1, "x.png", 11, "test", NULL, 0, 0},
                               {12, "far/2.png", 12, "test", NULL, 0, 0},
                               {13, "y.png", 3, "test", "val", 0, 0}};
    const char *own = made(*state, "a.h5", "one", train, 4), *same = made(*state, "b.h5", "one", test, 3);
    const char *other = made(*state, "c.h5", "two", test, 3);
    vg_leakage_report r;
    assert_int_equal(leakage_of(own, same, true, true, true, &r), VG_E_DATA);
    assert_true(r.leaked_images == 3 && r.by_id == 1 && r.by_name == 1 && r.by_pixels == 1);
    assert_non_null(strstr(r.text.data, "b.h5 (test, val): pixels (0 bits)"));
    vg_leakage_report_release(&r);
    assert_int_equal(leakage_of(own, other, true, true, true, &r), VG_E_DATA); /* ids of two sources are no ids */
    assert_true(r.leaked_images == 2 && r.by_id == 0);
    vg_leakage_report_release(&r);
    assert_int_equal(leakage_of(own, same, false, true, false, &r), VG_E_DATA);
    assert_true(r.leaked_images == 1 && r.by_name == 1);
    vg_leakage_report_release(&r);
    assert_int_equal(leakage_of(other, own, true, false, false, &r),
                     VG_E_DATA); /* the split trained on is in `own` alone */
    ASSERT_SAYS("--train: ");
    ASSERT_SAYS("no split 'train'; there are test, val");
    vg_leakage_report_release(&r);
}

static void ids_elsewhere_join_sets_of_two_sources(void **state)
{
    const made_image train[] = {{1, "1.png", 1, "train", NULL, 900, 0},
                                {2, "2.png", 2, "train", NULL, 0, 77},
                                {3, "3.png", 3, "train", NULL, 0, 0},
                                {4, "4.png", 4, "train", NULL, 77, 900}};
    const made_image test[] = {{11, "11.png", 11, "test", NULL, 900, 0},
                               {12, "12.png", 12, "test", NULL, 0, 77},
                               {13, "13.png", 13, "test", NULL, 0, 0}};
    const char *own = made(*state, "a.h5", "one", train, 4), *other = made(*state, "b.h5", "two", test, 3);
    vg_leakage_report r;
    assert_int_equal(leakage_of(own, other, true, false, false, &r), VG_E_DATA);
    assert_true(r.leaked_images == 2 && r.by_id == 2); /* unknown ids are not equal, nor those of COCO and Flickr */
    assert_non_null(strstr(r.text.data, "is image 11 of"));
    assert_non_null(strstr(r.text.data, "b.h5 (test): Flickr id"));
    vg_leakage_report_release(&r);
}

static void clean_sets_pass(void **state)
{
    const made_image images[] = {{1, "1.png", 1, "train", NULL, 0, 0}, {2, "2.png", 2, "val", NULL, 0, 0}};
    const char *path = made(*state, "a.h5", "test", images, 2);
    vg_leakage_report r;
    MUST(leakage_of(path, NULL, true, true, true, &r));
    assert_int_equal(r.leaked_images, 0);
    vg_leakage_report_release(&r);
    assert_int_equal(leakage_of(path, NULL, false, false, false, &r), VG_E_USAGE);
    const char *only = made(*state, "b.h5", "test", images, 1);
    assert_int_equal(leakage_of(only, NULL, true, true, true, &r), VG_E_DATA);
    ASSERT_SAYS("nothing to compare with");
    assert_int_equal(leakage_of(path, only, true, true, true, &r), VG_E_DATA); /* own has some, what was named none */
    ASSERT_SAYS("--against ");
    ASSERT_SAYS("b.h5: no split but 'train' in it");
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(an_image_of_two_splits_leaks_its_training_sentences),
        IN_SCRATCH(each_way_finds_its_own),
        IN_SCRATCH(ids_elsewhere_join_sets_of_two_sources),
        IN_SCRATCH(clean_sets_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
