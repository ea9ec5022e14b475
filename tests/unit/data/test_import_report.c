/* What a report says: counts, and where they differ from what is published. */
#define _XOPEN_SOURCE 700
#include "tests/unit/data/import_test.h"

static void counts_are_held_against_those_published(void **state)
{
    (void)state;
    vg_import_report report = {.set = "refcoco",
                               .split_by = "unc",
                               .splits = {{.name = "val", .images = 1500, .refs = 3811, .sentences = 10834, .boxes = 9},
                                          {.name = "testA", .images = 750, .refs = 1975, .sentences = 5656},
                                          {.name = "mine", .images = 1, .refs = 1, .sentences = 1}},
                               .n_splits = 3};
    vg_text text = {0};
    MUST(vg_import_report_text(&report, &text));
    assert_non_null(strstr(text.data, "\nval of refcoco (unc): as published\n"));
    assert_non_null(strstr(text.data, "\ntestA of refcoco (unc): expected 5657 sentences, got 5656\n"));
    assert_null(strstr(text.data, "mine of refcoco"));
    assert_null(strstr(text.data, "train of refcoco")); /* it was not there to import */
    text.length = 0;
    snprintf(report.split_by, sizeof report.split_by, "google");
    MUST(vg_import_report_text(&report, &text));
    assert_non_null(
        strstr(text.data, "\nval of refcoco (google): expected 4559 images, got 1500, 5000 refs, got 3811\n"));
    text.length = 0;
    snprintf(report.split_by, sizeof report.split_by, "licheng");
    MUST(vg_import_report_text(&report, &text));
    assert_null(strstr(text.data, " of refcoco")); /* nothing is published of these splits */
    free(text.data);
}

static void the_first_of_what_was_set_aside_are_told_and_how_many_more(void **state)
{
    (void)state;
    vg_import_report report = {0};
    const vg_import_options options = {0};
    vg_import_log *log = vg_import_log_new(&report, &options);
    vg_text text = {0};
    for (int i = 1; i <= 20; i++) MUST(vg_import_reject(log, 1, "thing %d: no such file", i));
    MUST(vg_import_report_text(&report, &text));
    assert_non_null(strstr(text.data, "\n0 images and 20 sentences set aside\nthing 1: no such file\nthing 2: "));
    assert_string_equal(text.data + text.length - strlen("thing 20: no such file\n"), "thing 20: no such file\n");
    text.length = 0;
    for (int i = 21; i <= 1500; i++) MUST(vg_import_reject(log, 1, "thing %d: no such file", i));
    MUST(vg_import_report_text(&report, &text));
    assert_non_null(strstr(text.data, "\nthing 20: no such file\nand 1480 more; --dry-run tells of each\n"));
    assert_null(strstr(text.data, "thing 21: "));
    free(text.data);
    vg_import_log_free(log);
    vg_import_report_release(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_held_against_those_published),
        cmocka_unit_test(the_first_of_what_was_set_aside_are_told_and_how_many_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
