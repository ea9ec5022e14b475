/* The ground floor: status, random numbers, text, files, memory. */
#define _XOPEN_SOURCE 700
#include "kernels/base/base.h"
#include "tests/unit/scratch.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void philox_gives_the_published_vectors(void **state)
{
    (void)state; /* known-answer vectors of the Random123 distribution, philox 4x32 10 */
    const uint32_t zero[4] = {0}, ones[4] = {~0u, ~0u, ~0u, ~0u};
    const uint32_t expected_zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    const uint32_t expected_ones[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    uint32_t out[4];
    vg_philox(zero, (vg_rng_key){{0, 0}}, out);
    assert_memory_equal(out, expected_zero, sizeof out);
    vg_philox(ones, (vg_rng_key){{~0u, ~0u}}, out);
    assert_memory_equal(out, expected_ones, sizeof out);
}

static void an_error_keeps_its_sentence_and_gains_its_place(void **state)
{
    (void)state;
    assert_int_equal(vg_fail(VG_E_DATA, "byte %d is odd", 7), VG_E_DATA);
    assert_int_equal(vg_fail_at(VG_E_DATA, "%s", "a.h5"), VG_E_DATA);
    assert_string_equal(vg_error_text(), "a.h5: byte 7 is odd");
    assert_int_equal(vg_exit_code(VG_E_DATA), 65);
}

static void what_fails_while_cleaning_up_does_not_hide_why(void **state)
{
    (void)state;
    vg_status st = vg_fail(VG_E_NUMERICS, "a loss is not finite");
    VG_KEEP(st, vg_fail(VG_E_STORAGE, "the disk is full"));
    assert_int_equal(st, VG_E_NUMERICS);
    assert_string_equal(vg_error_text(), "a loss is not finite");
    st = VG_OK;
    VG_KEEP(st, vg_fail(VG_E_STORAGE, "the disk is full"));
    assert_int_equal(st, VG_E_STORAGE);
    assert_string_equal(vg_error_text(), "the disk is full");
}

static void a_mistyped_word_finds_its_neighbour(void **state)
{
    (void)state;
    const char *words[] = {"micro_batch", "global_batch", "--seed", "--help"};
    assert_string_equal(vg_nearest_word("micro_bacth", words, 4), "micro_batch");
    assert_string_equal(vg_nearest_word("Micro_batches", words, 4), "micro_batch");
    assert_string_equal(vg_nearest_word("--hlep", words, 4), "--help");
    assert_null(vg_nearest_word("--hlep", words, 3));
    assert_null(vg_nearest_word("zzzzzz", words, 4));
    assert_int_equal(vg_edit_distance("clip_nrom", "clip_norm"), 1);
    assert_int_equal(vg_edit_distance("ab", ""), 2);
}

static void words_are_parted_by_one_space(void **state)
{
    (void)state;
    static const char *const texts[][2] = {{" a\tred \n cup ", "a red cup"}, {"cup", "cup"}, {" \n", ""}, {"", ""}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        vg_text text = {0};
        assert_int_equal(vg_text_add_words(&text, texts[i][0], strlen(texts[i][0])), VG_OK);
        assert_string_equal(text.length ? text.data : "", texts[i][1]);
        free(text.data);
    }
}

static void nothing_takes_the_place_of_a_pipe(void **state)
{
    const char *path = path_in(*state, "pipe");
    char got[8] = "";
    struct stat info;
    assert_int_equal(mkfifo(path, 0600), 0);
    const int reader = open(path, O_RDONLY | O_NONBLOCK);
    assert_int_equal(vg_file_write_atomic(path, "hello", 5), VG_OK);
    assert_int_equal(read(reader, got, sizeof got), 5);
    assert_string_equal(got, "hello");
    assert_true(stat(path, &info) == 0 && S_ISFIFO(info.st_mode));
    close(reader);
}

static void an_atomic_write_reads_back(void **state)
{
    const char *path = path_in(*state, "a/b/file");
    assert_int_equal(vg_make_directories(path_in(*state, "a/b")), VG_OK);
    assert_int_equal(vg_file_write_atomic(path, "hello", 5), VG_OK);
    char *data = NULL;
    size_t size = 0;
    assert_int_equal(vg_file_read(path, 100, &data, &size), VG_OK);
    assert_int_equal(size, 5);
    assert_string_equal(data, "hello");
    assert_int_equal(vg_file_read(path, 4, &data, &size), VG_E_DATA);
    assert_non_null(strstr(vg_error_text(), path));
    assert_int_equal(vg_make_directories(path), VG_E_STORAGE); /* a file has the name */
    assert_non_null(strstr(vg_error_text(), path));
    assert_int_equal(vg_make_directories(""), VG_E_STORAGE);
    free(data);
}

static void the_first_row_from_a_key_on_is_found(void **state)
{
    const struct {
        uint64_t key;
        char rest;
    } rows[] = {{2, 'a'}, {5, 'b'}, {5, 'c'}, {UINT64_MAX, 'd'}};
    static const size_t wanted[][2] = {{0, 0}, {2, 0}, {3, 1}, {5, 1}, {6, 3}};
    (void)state;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        assert_int_equal(vg_first_from(rows, 4, sizeof *rows, wanted[i][0]), wanted[i][1]);
    assert_int_equal(vg_first_from(rows, 4, sizeof *rows, UINT64_MAX), 3);
    assert_int_equal(vg_first_from(rows, 3, sizeof *rows, UINT64_MAX), 3);
    assert_int_equal(vg_first_from(NULL, 0, sizeof *rows, 7), 0);
}

static void a_size_has_the_unit_that_shows_it(void **state)
{
    static const struct {
        double bytes;
        const char *text;
    } cases[] = {{0, "0 bytes"},     {999, "999 bytes"}, {999.6, "1.0 kB"}, {23040, "23.0 kB"},
                 {999960, "1.0 MB"}, {13e6, "13.0 MB"},  {1e9, "1.000 GB"}, {1.8e16, "18000000.000 GB"}};
    char text[VG_SIZE_TEXT_BYTES];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(vg_size_text(cases[i].bytes, text), cases[i].text);
}

static void a_path_has_a_folder_and_a_name(void **state)
{
    static const char *const cases[][3] = {{"a/b.h5", "a", "b.h5"},
                                           {"b.h5", ".", "b.h5"},
                                           {"/b.h5", "/", "b.h5"},
                                           {"/a//b", "/a", "b"},
                                           {"a/b/c", "a/b", "c"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vg_text folder = {0};
        assert_int_equal(vg_folder_of(cases[i][0], &folder), VG_OK);
        assert_string_equal(folder.data, cases[i][1]);
        assert_string_equal(vg_base_name(cases[i][0]), cases[i][2]);
        free(folder.data);
    }
}

static void folders_that_were_made_for_nothing_go(void **state)
{
    const char *base = *state, *path = path_in(base, "a/b//c/");
    struct stat info;
    assert_int_equal(vg_path_there(path), strlen(base));
    assert_int_equal(vg_make_directories(path), VG_OK);
    assert_int_equal(vg_path_there(path), strlen(path));
    vg_remove_made(path, strlen(base));
    assert_int_not_equal(stat(path_in(base, "a"), &info), 0);
    assert_int_equal(stat(base, &info), 0);
    assert_int_equal(vg_make_directories(path), VG_OK);
    assert_int_equal(vg_file_write_atomic(path_in(base, "a/file"), "hello", 5), VG_OK);
    vg_remove_made(path, strlen(base)); /* what holds something stays */
    assert_int_not_equal(stat(path_in(base, "a/b"), &info), 0);
    assert_int_equal(stat(path_in(base, "a/file"), &info), 0);
    assert_int_equal(vg_path_there("no such folder/at all"), 0);
}

static void an_arena_is_zeroed_and_aligned(void **state)
{
    (void)state;
    vg_arena arena = {0};
    assert_int_equal(vg_arena_init(&arena, 3 << 20), VG_OK);
    assert_int_equal((size_t)arena.base % (2 << 20), 0);
    assert_int_equal(arena.base[(3 << 20) - 1], 0);
    vg_arena_release(&arena);
    assert_null(arena.base);
    assert_int_equal(vg_arena_init(&arena, 1), VG_OK);
    assert_int_equal((size_t)arena.base % (2 << 20), 0);
    assert_int_equal(arena.size_bytes, sysconf(_SC_PAGESIZE)); /* a small one takes little */
    vg_arena_release(&arena);
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(vg_bf16_from(1.0F), 0x3f80);
    assert_int_equal(vg_bf16_from(1.0F + 0x1p-8F), 0x3f80); /* a tie goes to the even neighbour */
    assert_int_equal(vg_bf16_from(1.0F + 0x3p-8F), 0x3f82);
    assert_true(vg_bf16_to_float(0x3f82) == 1.015625F);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_row_from_a_key_on_is_found),
        cmocka_unit_test(a_size_has_the_unit_that_shows_it),
        cmocka_unit_test(a_path_has_a_folder_and_a_name),
        cmocka_unit_test(philox_gives_the_published_vectors),
        cmocka_unit_test(an_error_keeps_its_sentence_and_gains_its_place),
        cmocka_unit_test(what_fails_while_cleaning_up_does_not_hide_why),
        cmocka_unit_test(a_mistyped_word_finds_its_neighbour),
        cmocka_unit_test(words_are_parted_by_one_space),
        cmocka_unit_test_setup_teardown(an_atomic_write_reads_back, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(folders_that_were_made_for_nothing_go, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(nothing_takes_the_place_of_a_pipe, scratch_make, scratch_remove),
        cmocka_unit_test(an_arena_is_zeroed_and_aligned),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
