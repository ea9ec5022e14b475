/* Pickles: five protocols of one value, the traps of Python 2, and what must be refused. */
#include "data/pickle.h"

#include "data/utf8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A string literal with its true length, so that NUL bytes count. */
#define PARSE(literal, out) vg_pickle_parse("test.p", literal, sizeof(literal) - 1, out)

static void assert_refused(const char *bytes, size_t n, const char *words)
{
    vg_pickle *p = NULL;
    assert_int_equal(vg_pickle_parse("test.p", bytes, n, &p), VG_E_DATA);
    assert_null(p);
    assert_non_null(strstr(vg_error_text(), "test.p: byte "));
    if (!strstr(vg_error_text(), words)) fail_msg("'%s' does not say '%s'", vg_error_text(), words);
}

#define ASSERT_REFUSED(literal, words) assert_refused(literal, sizeof(literal) - 1, words)

/* The only text of a pickle of one text. */
static void assert_text(const char *bytes, size_t n, const char *expected)
{
    vg_pickle *p = NULL;
    size_t length = 0;
    if (vg_pickle_parse("test.p", bytes, n, &p) != VG_OK) fail_msg("%s", vg_error_text());
    const char *text = vg_pickle_text(vg_pickle_root(p), &length);
    assert_non_null(text);
    assert_string_equal(text, expected);
    assert_int_equal(length, strlen(expected));
    vg_pickle_free(p);
}

#define ASSERT_TEXT(literal, expected) assert_text(literal, sizeof(literal) - 1, expected)

static int64_t int_of(const vg_pickle_value *v)
{
    int64_t value = 0;
    assert_true(vg_pickle_int(v, &value));
    return value;
}

static void check_numbers(const vg_pickle_value *root)
{
    const int64_t ints[] = {0, 1, -1, 255, 256, 65535, 65536, INT32_MIN, 2147483648LL, 1LL << 62, INT64_MIN, INT64_MAX};
    const double floats[] = {0.0, -0.5, 1e300, 229.27};
    bool truth = false;
    double number = 0;
    const vg_pickle_value *v = vg_pickle_find(root, "ints");
    assert_int_equal(vg_pickle_count(v), 12);
    for (size_t i = 0; i < 12; i++) assert_true(int_of(vg_pickle_item(v, i)) == ints[i]);
    for (size_t i = 0; i < 4; i++) {
        assert_true(vg_pickle_number(vg_pickle_item(vg_pickle_find(root, "floats"), i), &number));
        assert_true(number == floats[i]);
    }
    v = vg_pickle_item(vg_pickle_find(root, "bools"), 0);
    assert_true(vg_pickle_bool(v, &truth) && truth);
    assert_false(vg_pickle_int(v, &(int64_t){0})); /* a bool is no int, also in protocol 0 */
    assert_true(vg_pickle_bool(vg_pickle_item(vg_pickle_find(root, "bools"), 1), &truth) && !truth);
    v = vg_pickle_find(root, "many");
    assert_int_equal(vg_pickle_count(v), 1003);
    assert_int_equal(int_of(vg_pickle_item(v, 1002)), 1002);
}

static void check_texts(const vg_pickle_value *root)
{
    const char *texts[] = {"",        "plain",     "quote ' and \"", "tab\tline\nback\\slash",
                           "\\u0041", "caf\u00e9", "\u6f22\u5b57",   "\U0001f600"};
    const vg_pickle_value *v = vg_pickle_find(root, "texts");
    assert_int_equal(vg_pickle_count(v), 8);
    for (size_t i = 0; i < 8; i++) assert_string_equal(vg_pickle_text(vg_pickle_item(v, i), NULL), texts[i]);
}

static void check_containers(const vg_pickle_value *root)
{
    const vg_pickle_value *v = vg_pickle_find(root, "tuples"), *key, *item;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(vg_pickle_kind_of(vg_pickle_item(v, i)), VG_PICKLE_TUPLE);
        assert_int_equal(vg_pickle_count(vg_pickle_item(v, i)), i);
    }
    assert_int_equal(int_of(vg_pickle_item(vg_pickle_item(v, 4), 3)), 4);
    v = vg_pickle_find(root, "shared");
    assert_ptr_equal(vg_pickle_item(v, 0), vg_pickle_item(v, 1));
    assert_string_equal(vg_pickle_text(vg_pickle_find(vg_pickle_item(vg_pickle_item(v, 1), 1), "sent"), NULL),
                        "left man");
    assert_int_equal(vg_pickle_kind_of(vg_pickle_find(root, "none")), VG_PICKLE_NONE);
    assert_null(vg_pickle_find(root, "absent"));
    assert_int_equal(vg_pickle_count(root), 11);
    assert_true(vg_pickle_pair(root, 9, &key, &item) && int_of(key) == 7);
    assert_true(vg_pickle_pair(root, 10, &key, &item));
    assert_int_equal(vg_pickle_kind_of(key), VG_PICKLE_TUPLE);
    assert_false(vg_pickle_pair(root, 11, &key, &item));
}

static void five_protocols_give_one_value(void **state)
{
    (void)state;
    for (char protocol = '0'; protocol <= '4'; protocol++) {
        char path[] = FIXTURES "/pickle/protocol#.p";
        *strchr(path, '#') = protocol;
        vg_pickle *p = NULL;
        if (vg_pickle_read(path, &p) != VG_OK) fail_msg("%s", vg_error_text());
        check_numbers(vg_pickle_root(p));
        check_texts(vg_pickle_root(p));
        check_containers(vg_pickle_root(p));
        vg_pickle_free(p);
    }
}

static void python_2_strings_become_text(void **state)
{
    (void)state;
    ASSERT_TEXT("S'left man'\np0\n.", "left man");
    ASSERT_TEXT("S\"it's\"\n.", "it's");
    ASSERT_TEXT("S'a\\tb\\n\\x41\\101\\\\\\'\\q'\n.", "a\tb\nAA\\'\\q");
}

static void a_nul_inside_a_text_is_kept(void **state)
{
    (void)state;
    vg_pickle *p = NULL;
    size_t n = 0;
    assert_int_equal(PARSE("S'a\\0b'\n.", &p), VG_OK);
    const char *text = vg_pickle_text(vg_pickle_root(p), &n);
    assert_int_equal(n, 3);
    assert_memory_equal(text, "a\0b", 4);
    vg_pickle_free(p);
}

static void byte_strings_are_utf8_or_else_latin1(void **state)
{
    (void)state;
    ASSERT_TEXT("S'caf\\xc3\\xa9'\n.", "caf\u00e9");
    ASSERT_TEXT("S'caf\\xe9'\n.", "caf\u00e9");
    ASSERT_TEXT("U\x04"
                "caf\xe9.",
                "caf\u00e9");
    ASSERT_TEXT("T\x03\0\0\0abc.", "abc");
}

static void raw_unicode_escapes_are_read(void **state)
{
    (void)state;
    ASSERT_TEXT("Vcaf\xe9\n.", "caf\u00e9"); /* latin-1 outside escapes */
    ASSERT_TEXT("V\\u6f22\\U0001f600\n.", "\u6f22\U0001f600");
    ASSERT_TEXT("V\\ud83d\\ude00\n.", "\U0001f600"); /* a narrow build's surrogate pair */
    ASSERT_TEXT("V\\\\u0041\\n\n.", "\\\\u0041\\n"); /* no other escape exists here */
    ASSERT_REFUSED("V\\ud83dx\n.", "no character");
    ASSERT_REFUSED("V\\u12\n.", "broken escape");
    ASSERT_REFUSED("V\\U00110000\n.", "no character");
}

static void bytes_are_no_text(void **state)
{
    (void)state;
    vg_pickle *p = NULL;
    size_t n = 0;
    assert_int_equal(PARSE("\x80\x03"
                           "C\x02\xff\x00q\x00.",
                           &p),
                     VG_OK);
    assert_null(vg_pickle_text(vg_pickle_root(p), NULL));
    assert_memory_equal(vg_pickle_bytes(vg_pickle_root(p), &n), "\xff\x00", 2);
    assert_int_equal(n, 2);
    vg_pickle_free(p);
}

static void whatever_names_or_calls_a_class_is_refused(void **state)
{
    (void)state;
    /* os.system("true"), as published exploits spell it in protocol 0 and 4 */
    ASSERT_REFUSED("cos\nsystem\n(S'true'\ntR.", "opcode GLOBAL: refused");
    ASSERT_REFUSED("\x80\x04\x8c\x05posix\x8c\x06system\x93.", "opcode STACK_GLOBAL: refused");
    const struct {
        char byte;
        const char *name;
    } refused[] = {{'R', "REDUCE"},       {'b', "BUILD"},        {'i', "INST"},    {'o', "OBJ"},
                   {'\x81', "NEWOBJ"},    {'\x92', "NEWOBJ_EX"}, {'P', "PERSID"},  {'Q', "BINPERSID"},
                   {'\x82', "EXT1"},      {'\x83', "EXT2"},      {'\x84', "EXT4"}, {'\x8f', "EMPTY_SET"},
                   {'\x96', "BYTEARRAY8"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const char bytes[] = {'N', refused[i].byte, 'N', 'N', '.'};
        assert_refused(bytes, sizeof bytes, refused[i].name);
        assert_non_null(strstr(vg_error_text(), "byte 1, "));
    }
    ASSERT_REFUSED("\x80\x05N.", "protocol above 4");
    ASSERT_REFUSED("hello", "never put");
    ASSERT_REFUSED("{\"json\": 1}", "0x7b is no opcode");
}

static void every_cut_of_a_good_pickle_is_refused(void **state)
{
    (void)state;
    for (char protocol = '0'; protocol <= '4'; protocol += 2) {
        char path[] = FIXTURES "/pickle/protocol#.p", *bytes = NULL;
        *strchr(path, '#') = protocol;
        size_t n = 0;
        assert_int_equal(vg_file_read(path, 1 << 20, &bytes, &n), VG_OK);
        for (size_t cut = 0; cut < n; cut++) {
            char *exact = malloc(cut + 1); /* so that a sanitizer sees a read beyond the cut */
            memcpy(exact, bytes, cut);
            vg_pickle *p = NULL;
            assert_int_equal(vg_pickle_parse("cut", exact, cut, &p), VG_E_DATA);
            free(exact);
        }
        free(bytes);
    }
}

static void broken_stacks_are_refused(void **state)
{
    (void)state;
    ASSERT_REFUSED(".", "exactly one value");
    ASSERT_REFUSED("NN.", "exactly one value");
    ASSERT_REFUSED("(N.", "exactly one value");
    ASSERT_REFUSED("0.", "the stack is empty");
    ASSERT_REFUSED("a.", "nothing on the stack");
    ASSERT_REFUSED("](Na.", "nothing on the stack"); /* an opcode reaches no deeper than the last mark */
    ASSERT_REFUSED("NNa.", "no list");
    ASSERT_REFUSED("]NNs.", "no dict");
    ASSERT_REFUSED("e.", "no mark");
    ASSERT_REFUSED("}(Nu.", "key without a value");
    ASSERT_REFUSED("}]Ns.", "a list or dict as a key");
    ASSERT_REFUSED("N\x86.", "too few values");
    ASSERT_REFUSED("h\x00.", "never put");
    ASSERT_REFUSED("q\x00.", "the stack is empty");
    ASSERT_REFUSED("Nr\xff\xff\xff\xff.", "larger than the file");
    ASSERT_REFUSED("I12x\n.", "not a decimal");
    ASSERT_REFUSED("I\n.", "not a decimal");
    ASSERT_REFUSED("I9223372036854775808\n.", "beyond 64 bits");
    ASSERT_REFUSED("\x8a\x09\1\1\1\1\1\1\1\1\1.", "beyond 64 bits");
    ASSERT_REFUSED("Fx\n.", "not a float");
    ASSERT_REFUSED("Sx\n.", "not quoted");
    ASSERT_REFUSED("S'\n.", "not quoted");
    ASSERT_REFUSED("S'\\x4'\n.", "broken escape");
    ASSERT_REFUSED("X\xff\xff\xff\xff"
                   "a.",
                   "beyond the end of the file");
    ASSERT_REFUSED("\x8c\x02\xc0\x80.", "not UTF-8");
}

static void memo_and_stack_opcodes_work_together(void **state)
{
    (void)state;
    vg_pickle *p = NULL;
    /* [(1, 1), 2], with DUP, PUT, POP, GET and POP_MARK on the way */
    assert_int_equal(PARSE("]K\x01"
                           "2\x86p5\n0g5\n(NN1a"
                           "K\x02"
                           "a.",
                           &p),
                     VG_OK);
    const vg_pickle_value *list = vg_pickle_root(p);
    assert_int_equal(vg_pickle_count(list), 2);
    assert_int_equal(int_of(vg_pickle_item(vg_pickle_item(list, 0), 1)), 1);
    assert_int_equal(int_of(vg_pickle_item(list, 1)), 2);
    vg_pickle_free(p);
}

static void a_structure_cannot_contain_itself(void **state)
{
    (void)state;
    ASSERT_REFUSED("]q\x00h\x00"
                   "a.",
                   "contains itself");
    ASSERT_REFUSED("]q\x00]q\x01h\x00"
                   "ah\x00h\x01"
                   "a.",
                   "contains itself");
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    char bytes[2 * VG_PICKLE_DEPTH + 8];
    for (int depth = VG_PICKLE_DEPTH; depth <= VG_PICKLE_DEPTH + 1; depth++) {
        size_t n = 0;
        for (int i = 0; i < depth; i++) bytes[n++] = ']';
        for (int i = 1; i < depth; i++) bytes[n++] = 'a';
        bytes[n++] = '.';
        vg_pickle *p = NULL;
        assert_int_equal(vg_pickle_parse("deep", bytes, n, &p), depth <= VG_PICKLE_DEPTH ? VG_OK : VG_E_DATA);
        if (depth <= VG_PICKLE_DEPTH) vg_pickle_free(p);
    }
}

/* Ten references to ten references to ..: small on disk, 10^20 values when a reader walks it. */
static void shared_values_cannot_blow_up(void **state)
{
    (void)state;
    char bytes[1024];
    size_t n = 0;
    bytes[n++] = 'N';
    bytes[n++] = 'q', bytes[n++] = 0, bytes[n++] = '0';
    for (char level = 1; level <= 20; level++) {
        bytes[n++] = '(';
        for (int i = 0; i < 10; i++) bytes[n++] = 'h', bytes[n++] = (char)(level - 1);
        bytes[n++] = 'l', bytes[n++] = 'q', bytes[n++] = level, bytes[n++] = '0';
    }
    bytes[n++] = 'h', bytes[n++] = 20, bytes[n++] = '.';
    assert_refused(bytes, n, "shared ones are counted");
}

static void utf8_is_told_from_lookalikes(void **state)
{
    (void)state;
    unsigned char out[4];
    assert_true(vg_utf8_valid("a\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80", 10));
    assert_false(vg_utf8_valid("\xc3", 1));
    assert_false(vg_utf8_valid("\xc1\x81", 2));         /* overlong */
    assert_false(vg_utf8_valid("\xed\xa0\x80", 3));     /* a surrogate */
    assert_false(vg_utf8_valid("\xf4\x90\x80\x80", 4)); /* beyond U+10FFFF */
    assert_false(vg_utf8_valid("\x80", 1));
    assert_int_equal(vg_utf8_put(0x1f600, out), 4);
    assert_memory_equal(out, "\xf0\x9f\x98\x80", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(five_protocols_give_one_value),
        cmocka_unit_test(python_2_strings_become_text),
        cmocka_unit_test(a_nul_inside_a_text_is_kept),
        cmocka_unit_test(byte_strings_are_utf8_or_else_latin1),
        cmocka_unit_test(raw_unicode_escapes_are_read),
        cmocka_unit_test(bytes_are_no_text),
        cmocka_unit_test(whatever_names_or_calls_a_class_is_refused),
        cmocka_unit_test(every_cut_of_a_good_pickle_is_refused),
        cmocka_unit_test(broken_stacks_are_refused),
        cmocka_unit_test(memo_and_stack_opcodes_work_together),
        cmocka_unit_test(a_structure_cannot_contain_itself),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(shared_values_cannot_blow_up),
        cmocka_unit_test(utf8_is_told_from_lookalikes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
