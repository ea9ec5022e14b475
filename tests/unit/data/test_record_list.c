/* Lists of records to leave out: what is written is read, what is no list is refused by its line. */
#define _XOPEN_SOURCE 700
#include "data/record_list.h"

#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/data/small_shard.h"

static const char *file_of(const char *folder, const char *text)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/list.jsonl", folder);
    MUST(vg_file_write_atomic(path, text, strlen(text)));
    return path;
}

static void what_is_written_is_read(void **state)
{
    vg_record_line line = {.image_id = 9, .file_name = "\"9\".jpg", .shard = "a.h5", .reason = "broken"};
    vg_record_list list;
    vg_text text = {0};
    MUST(vg_record_line_add(&line, UINT64_MAX));
    MUST(vg_record_line_add(&line, 7));
    MUST(vg_record_line_text(&line, &text));
    MUST(vg_record_line_text(&line, &text));
    assert_non_null(strstr(text.data, "{\"records\":[\"ffffffffffffffff\",\"0000000000000007\"],\"image_id\":9,"));
    MUST(vg_record_list_read(file_of(*state, text.data), &list));
    assert_int_equal(list.n, 4);
    assert_true(vg_record_list_has(&list, 7) && vg_record_list_has(&list, UINT64_MAX));
    assert_false(vg_record_list_has(&list, 8) || vg_record_list_has(NULL, 7));
    vg_record_list_release(&list);
    vg_record_line_release(&line);
    free(text.data);
}

static void empty_files_and_lines_leave_nothing_out(void **state)
{
    vg_record_list list;
    MUST(vg_record_list_read(file_of(*state, ""), &list));
    assert_int_equal(list.n, 0);
    assert_false(vg_record_list_has(&list, 0));
    MUST(vg_record_list_read(file_of(*state, "\n{\"records\":[]}\n\n{\"records\":[\"00000000000000aa\"]}"), &list));
    assert_int_equal(list.n, 1);
    vg_record_list_release(&list);
}

static void what_is_no_list_is_refused_by_its_line(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"records\":[]}\n{\n", "list.jsonl:2: "},
        {"[]\n", "list.jsonl:1: no list \"records\""},
        {"{\"records\":7}", "list.jsonl:1: no list \"records\""},
        {"\n{\"records\":[\"00000000000000aa\",\"aa\"]}", "list.jsonl:2: records[1] is not a hash of 16 digits"},
        {"{\"records\":[\"00000000000000AA\"]}", "records[0] is not a hash"},
        {"{\"records\":[12]}", "records[0] is not a hash"},
        {"{\"records\":[],\"records\":[]}", "list.jsonl:1: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vg_record_list list;
        assert_int_equal(vg_record_list_read(file_of(*state, cases[i].text), &list), VG_E_DATA);
        ASSERT_SAYS(cases[i].says);
        vg_record_list_release(&list);
    }
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(what_is_written_is_read),
        IN_SCRATCH(empty_files_and_lines_leave_nothing_out),
        IN_SCRATCH(what_is_no_list_is_refused_by_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
