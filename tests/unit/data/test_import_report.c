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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts_are_held_against_those_published)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
