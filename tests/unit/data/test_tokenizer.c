/* The tokenizer against recorded vectors, and the ways its files can be wrong. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "data/tokenizer_impl.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

enum { MOST_IDS = 4096 };

static vg_tokenizer *open_fixture(void)
{
    vg_tokenizer *t = NULL;
    if (vg_tokenizer_open(FIXTURES "/tokenizer", &t) != VG_OK) fail_msg("%s", vg_error_text());
    return t;
}

/* Compares ids[n] with the array expected; says which text differs. */
static void assert_ids(const char *text, const int32_t *ids, int n, const json_t *expected)
{
    bool same = json_array_size(expected) == (size_t)n;
    for (int i = 0; same && i < n; i++) same = json_integer_value(json_array_get(expected, (size_t)i)) == ids[i];
    if (same) return;
    for (int i = 0; i < n; i++) print_message("%d ", (int)ids[i]);
    char *want = json_dumps(expected, 0);
    print_message("(%d) instead of %s\n", n, want);
    free(want);
    fail_msg("other ids for '%s'", text);
}

/* Lines {"text": .., <key>: [ids]}; text as it is, or behind a space where the line says so. Returns the count. */
static int compare_with_vectors(const vg_tokenizer *t, const char *path, const char *key)
{
    static int32_t ids[MOST_IDS];
    char *lines = NULL;
    int count = 0, n = 0;
    assert_int_equal(vg_file_read(path, 1 << 26, &lines, NULL), VG_OK);
    for (char *save, *line = strtok_r(lines, "\n", &save); line; line = strtok_r(NULL, "\n", &save), count++) {
        json_t *vector = json_loads(line, JSON_ALLOW_NUL, NULL);
        const json_t *text = json_object_get(vector, "text");
        vg_text phrase = {0};
        assert_non_null(text);
        vg_text_add(&phrase, "%s", json_is_true(json_object_get(vector, "add_prefix_space")) ? " " : "");
        vg_text_add_bytes(&phrase, json_string_value(text), json_string_length(text));
        assert_int_equal(vg_tokenizer_encode_untrimmed(t, phrase.data, phrase.length, MOST_IDS, ids, &n), VG_OK);
        assert_ids(phrase.data, ids, n, json_object_get(vector, key));
        free(phrase.data);
        json_decref(vector);
    }
    free(lines);
    return count;
}

static void roberta_ids_equal_the_published_vectors(void **state)
{
    (void)state;
    const char *shared = getenv("VLGTR_DATA");
    if (!shared) skip();
    vg_text folder = {0}, plain = {0}, prefixed = {0};
    vg_text_add(&folder, "%s/tokenizer/roberta-base", shared);
    vg_text_add(&plain, "%s/test-vectors.jsonl", folder.data);
    vg_text_add(&prefixed, "%s/test-vectors-prefix-space.jsonl", folder.data);
    vg_tokenizer *t = NULL;
    assert_int_equal(vg_tokenizer_open(folder.data, &t), VG_OK);
    assert_int_equal(vg_tokenizer_size(t), 50265);
    assert_int_equal(vg_tokenizer_special_ids(t).mask, 50264);
    assert_int_equal(compare_with_vectors(t, plain.data, "roberta_ids"), 2023);
    assert_int_equal(compare_with_vectors(t, prefixed.data, "roberta_ids"), 4);
    vg_tokenizer_close(t);
    free(folder.data);
    free(plain.data);
    free(prefixed.data);
}

static void fixture_ids_equal_the_recorded_vectors(void **state)
{
    (void)state;
    vg_tokenizer *t = open_fixture();
    assert_int_equal(compare_with_vectors(t, FIXTURES "/tokenizer/vectors.jsonl", "ids"), 47);
    vg_tokenizer_close(t);
}

/* Encodes text of n bytes and returns how many ids there are. */
static int encode(const vg_tokenizer *t, const char *text, size_t n, int max_tokens, int32_t *ids)
{
    int count = 0;
    assert_int_equal(vg_tokenizer_encode(t, text, n, max_tokens, ids, &count), VG_OK);
    return count;
}

static void white_space_at_both_ends_is_trimmed(void **state)
{
    (void)state;
    vg_tokenizer *t = open_fixture();
    int32_t plain[64], spaced[64];
    const char *text = " \t\u3000\u00a0the red circle \u2003\r\n";
    const int n = encode(t, "the red circle", 14, 64, plain);
    assert_int_equal(encode(t, text, strlen(text), 64, spaced), n);
    assert_memory_equal(plain, spaced, (size_t)n * sizeof *plain);
    assert_int_equal(encode(t, " \n ", 3, 64, spaced), 2);
    assert_int_equal(encode(t, "\u180ered", 6, 64, spaced), 2 + 3 + 1); /* not white space: three bytes and a word */
    vg_tokenizer_close(t);
}

static void truncation_keeps_the_first_pieces_and_both_ends(void **state)
{
    (void)state;
    vg_tokenizer *t = open_fixture();
    int32_t whole[64], cut[64];
    const char *text = "the red circle left of the blue square";
    const int n = encode(t, text, strlen(text), 64, whole);
    for (int most = 2; most <= n; most++) {
        memset(cut, 0x55, sizeof cut);
        assert_int_equal(encode(t, text, strlen(text), most, cut), most);
        assert_memory_equal(whole, cut, (size_t)(most - 1) * sizeof *cut);
        assert_int_equal(cut[most - 1], vg_tokenizer_special_ids(t).eos);
        assert_int_equal(cut[most], 0x55555555); /* nothing is written behind */
    }
    vg_tokenizer_close(t);
}

static void bytes_that_are_not_utf8_are_encoded_one_by_one(void **state)
{
    (void)state;
    vg_tokenizer *t = open_fixture();
    int32_t ids[64], alone[64];
    const char *broken[] = {"\xff", "\x80", "\xe2\x82", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x9f"};
    const int red = encode(t, "red", 3, 64, alone) - 2;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        vg_text text = {0};
        vg_text_add(&text, "red%sred", broken[i]);
        const int n = encode(t, text.data, text.length, 64, ids);
        assert_int_equal(n, 2 + 2 * red + (int)strlen(broken[i]));
        assert_memory_equal(ids, alone, (size_t)(1 + red) * sizeof *ids);
        assert_memory_equal(ids + n - 1 - red, alone + 1, (size_t)(red + 1) * sizeof *ids);
        free(text.data);
    }
    vg_tokenizer_close(t);
}

static void text_that_looks_like_a_special_token_is_plain(void **state)
{
    (void)state;
    vg_tokenizer *t = open_fixture();
    const vg_special_ids special = vg_tokenizer_special_ids(t);
    int32_t ids[64];
    const int n = encode(t, "</s><mask><pad>", 15, 64, ids);
    for (int i = 1; i < n - 1; i++)
        assert_true(ids[i] != special.eos && ids[i] != special.mask && ids[i] != special.pad);
    vg_tokenizer_close(t);
}

static void a_long_text_is_read_up_to_its_bound(void **state)
{
    (void)state;
    vg_tokenizer *t = open_fixture();
    static int32_t ids[MOST_IDS], more[MOST_IDS];
    static char text[VG_TEXT_BYTES_MAX + 100];
    memset(text, 'e', sizeof text);
    const int n = encode(t, text, VG_TEXT_BYTES_MAX, MOST_IDS, ids);
    assert_int_equal(encode(t, text, sizeof text, MOST_IDS, more), n);
    assert_memory_equal(ids, more, (size_t)n * sizeof *ids);
    vg_tokenizer_close(t);
}

/* ---- files ---- */

#define SPECIALS "\"<s>\":0,\"<pad>\":1,\"</s>\":2,\"<unk>\":3"

typedef struct broken_files {
    const char *vocab, *merges, *message;
} broken_files;

static const broken_files broken[] = {
    {"{" SPECIALS, "", "vocab.json: line 1: "},
    {"[1]", "", "not an object"},
    {"{\"<s>\":0,\"<pad>\":1,\"</s>\":2}", "", "piece <unk> is missing"},
    {"{" SPECIALS ",\"a\":4,\"a\":5}", "", "duplicate"},
    {"{" SPECIALS ",\"a\":3}", "", "id 3 is used twice"},
    {"{" SPECIALS ",\"a\":-1}", "", "id -1 of piece 'a'"},
    {"{" SPECIALS ",\"a\":1048576}", "", "id 1048576 of piece 'a'"},
    {"{" SPECIALS ",\"a\":\"4\"}", "", "is not a number"},
    {"{" SPECIALS ",\"a b\":4}", "", "byte alphabet"},
    {"{" SPECIALS ",\"\u0144\":4}", "", "byte alphabet"},
    {"{" SPECIALS ",\"\u4e00\":4}", "", "byte alphabet"},
    {"{" SPECIALS ",\"a\":4,\"b\":5,\"ab\":6}", "#version: 0.2\na b\nab\n", "merges.txt: line 3: 'ab' is not two"},
    {"{" SPECIALS ",\"a\":4,\"b\":5,\"ab\":6}", "a b\na b b\n", "line 2: 'a b b' is not two"},
    {"{" SPECIALS ",\"a\":4,\"b\":5,\"ab\":6}", "a \n", "line 1"},
    {"{" SPECIALS ",\"a\":4,\"b\":5,\"ab\":6}", "a b\na b\n", "line 2: the merge that makes 'ab' is there twice"},
    {"{" SPECIALS ",\"a\":4,\"b\":5}", "a b\n", "line 1: the merge that makes 'ab' names a piece"},
    {"{" SPECIALS ",\"a\":4,\"b\":5,\"ab\":6}", "a c\n", "names a piece"},
};

/* Writes both files into a new folder (a NULL file is left out) and opens it. */
static vg_status open_files(const char *vocab, const char *merges, vg_tokenizer **t)
{
    char folder[] = "/tmp/vlgtr-tokenizer-XXXXXX", vocab_path[64], merges_path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(vocab_path, sizeof vocab_path, "%s/vocab.json", folder);
    snprintf(merges_path, sizeof merges_path, "%s/merges.txt", folder);
    if (vocab) assert_int_equal(vg_file_write_atomic(vocab_path, vocab, strlen(vocab)), VG_OK);
    if (merges) assert_int_equal(vg_file_write_atomic(merges_path, merges, strlen(merges)), VG_OK);
    const vg_status st = vg_tokenizer_open(folder, t);
    unlink(vocab_path);
    unlink(merges_path);
    rmdir(folder);
    return st;
}

static void broken_files_are_refused_with_their_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        vg_tokenizer *t = NULL;
        assert_int_equal(open_files(broken[i].vocab, broken[i].merges, &t), VG_E_DATA);
        assert_null(t);
        if (!strstr(vg_error_text(), broken[i].message))
            fail_msg("'%s' does not hold '%s'", vg_error_text(), broken[i].message);
    }
    vg_tokenizer *t = NULL;
    assert_int_equal(open_files(NULL, "", &t), VG_E_DATA);
    assert_non_null(strstr(vg_error_text(), "vocab.json"));
    assert_int_equal(open_files("{" SPECIALS "}", NULL, &t), VG_E_DATA);
    assert_non_null(strstr(vg_error_text(), "merges.txt"));
}

static void a_byte_without_a_piece_is_unknown(void **state)
{
    (void)state;
    vg_tokenizer *t = NULL;
    int32_t ids[8];
    assert_int_equal(open_files("{" SPECIALS ",\"a\":4,\"b\":5,\"ab\":6}", "#version: 0.2\r\na b\r\n\r\n", &t), VG_OK);
    const int32_t expected[] = {0, 6, 3, 4, 2};
    assert_int_equal(encode(t, "abza", 4, 8, ids), 5);
    assert_memory_equal(ids, expected, sizeof expected);
    assert_int_equal(vg_tokenizer_size(t), 7);
    assert_int_equal(vg_tokenizer_special_ids(t).mask, -1);
    vg_tokenizer_close(t);
}

/* In the order of the rules, all pairs of one rank are merged before any pair that this makes. */
static void a_merge_is_finished_before_a_better_one_that_it_makes(void **state)
{
    (void)state;
    vg_tokenizer *t = NULL;
    int32_t ids[8];
    assert_int_equal(open_files("{" SPECIALS ",\"a\":4,\"b\":5,\"ab\":6,\"aba\":7}", "ab a\na b\n", &t), VG_OK);
    const int32_t expected[] = {0, 6, 6, 2};
    assert_int_equal(encode(t, "abab", 4, 8, ids), 4);
    assert_memory_equal(ids, expected, sizeof expected);
    vg_tokenizer_close(t);
}

static void the_hash_tells_files_apart(void **state)
{
    (void)state;
    vg_tokenizer *a = NULL, *b = NULL, *c = NULL;
    assert_int_equal(open_files("{" SPECIALS ",\"a\":4,\"b\":5,\"ab\":6}", "a b\n", &a), VG_OK);
    assert_int_equal(open_files("{" SPECIALS ",\"a\":4,\"b\":5,\"ab\":6}", "", &b), VG_OK);
    assert_int_equal(open_files("{" SPECIALS ",\"a\":5,\"b\":4,\"ab\":6}", "a b\n", &c), VG_OK);
    assert_int_not_equal(vg_tokenizer_hash(a), vg_tokenizer_hash(b));
    assert_int_not_equal(vg_tokenizer_hash(a), vg_tokenizer_hash(c));
    vg_tokenizer_close(a);
    vg_tokenizer_close(b);
    vg_tokenizer_close(c);
}

/* ---- threads ---- */

/* Returns NULL when every call gives the same ids. */
static void *encode_often(void *shared)
{
    int32_t first[64], again[64];
    int n = 0, m = 0;
    const char *text = "the red circle left of the blue square, it's 12 caf\u00e9";
    if (vg_tokenizer_encode(shared, text, strlen(text), 64, first, &n) != VG_OK) return shared;
    for (int i = 0; i < 300; i++) {
        if (vg_tokenizer_encode(shared, text, strlen(text), 64, again, &m) != VG_OK) return shared;
        if (n != m || memcmp(first, again, (size_t)n * sizeof *first) != 0) return shared;
    }
    return NULL;
}

static void threads_share_a_tokenizer(void **state)
{
    (void)state;
    vg_tokenizer *t = open_fixture();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, encode_often, t), 0);
    for (int i = 0; i < 4; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    vg_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roberta_ids_equal_the_published_vectors),
        cmocka_unit_test(fixture_ids_equal_the_recorded_vectors),
        cmocka_unit_test(white_space_at_both_ends_is_trimmed),
        cmocka_unit_test(truncation_keeps_the_first_pieces_and_both_ends),
        cmocka_unit_test(bytes_that_are_not_utf8_are_encoded_one_by_one),
        cmocka_unit_test(text_that_looks_like_a_special_token_is_plain),
        cmocka_unit_test(a_long_text_is_read_up_to_its_bound),
        cmocka_unit_test(broken_files_are_refused_with_their_place),
        cmocka_unit_test(a_byte_without_a_piece_is_unknown),
        cmocka_unit_test(a_merge_is_finished_before_a_better_one_that_it_makes),
        cmocka_unit_test(the_hash_tells_files_apart),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
