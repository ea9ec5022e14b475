/* Conditions on sentences: what they mean, and how mistakes in them are named. */
#define _XOPEN_SOURCE 700
#include "data/shard_where_impl.h"
#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/data/small_shard.h"

/* Which of the four sentences of the small shard it holds for, as bits. */
static unsigned holds_for(const char *folder, const char *condition)
{
    char path[512];
    vg_shard *shard = NULL;
    vg_where where;
    unsigned bits = 0;
    snprintf(path, sizeof path, "%s/a.h5", folder);
    small_shard(path);
    MUST(vg_shard_open(path, &shard));
    MUST(vg_where_read(condition, &where));
    for (size_t i = 0; i < 4; i++) bits |= (unsigned)vg_where_holds(&where, shard, i) << i;
    vg_shard_close(shard);
    return bits;
}

/* Sentences: "left man", "café people" (two boxes), "nothing" (val, no box) of image 7, "left man" of image 8. */
static void each_name_means_what_it_says(void **state)
{
    static const struct {
        const char *condition;
        unsigned bits;
    } cases[] = {
        {"split=train", 0xb},
        {"split != train", 0x4},
        {"kind=position", 0x1},
        {"kind=\"\"", 0xc},
        {"source=test", 0xf},
        {"source=other", 0x0},
        {"name=a.jpg", 0xf},
        {"phrase=\"left man\"", 0x9},
        {"phrase!=\"=left man\"", 0xf},
        {"phrase!=it's", 0xf},
        {"phrase=\"left man\" and kind=\"position\"", 0x1},
        {"words<2", 0x4},
        {"words>=2", 0xb},
        {"boxes=0", 0x4},
        {"boxes>1", 0x2},
        {"area<0.1", 0x5},  /* 0.083, and none */
        {"area>0.16", 0xa}, /* the smallest box of each: 0.167 */
        {"area>0.17", 0x0},
        {"width<=40", 0x7},
        {"height=20", 0x8},
        {"bytes>1e2", 0xf},
        {"image=8", 0x8},
        {"  split=train and words = 2   and image<8 ", 0x3},
        {"image=7 and image=8", 0x0},
        {"words=0x2", 0xb},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const unsigned got = holds_for(*state, cases[i].condition);
        if (got != cases[i].bits) fail_msg("%s: %x, not %x", cases[i].condition, got, cases[i].bits);
    }
}

/* Ids that are made of file names have 63 bits. */
static void large_ids_are_told_apart(void **state)
{
    char path[512];
    unsigned char *png = NULL;
    size_t n = 0;
    vg_shard_writer *w = NULL;
    vg_shard *shard = NULL;
    vg_where own, before, more;
    small_picture(40, 30, 7, &png, &n);
    const vg_new_image image = small_image(9007199254740993, 40, 30, png, n, small_sentences, 1);
    snprintf(path, sizeof path, "%s/a.h5", (const char *)*state);
    MUST(vg_shard_writer_open(path, "test", "hand", &w));
    MUST(vg_shard_writer_add(w, &image));
    MUST(vg_shard_writer_close(w, 0));
    free(png);
    MUST(vg_shard_open(path, &shard));
    MUST(vg_where_read("image=9007199254740993", &own));
    MUST(vg_where_read("image=9007199254740992", &before));
    MUST(vg_where_read("image>9007199254740992", &more));
    assert_true(vg_where_holds(&own, shard, 0));
    assert_false(vg_where_holds(&before, shard, 0));
    assert_true(vg_where_holds(&more, shard, 0));
    vg_shard_close(shard);
}

static void a_double_quote_is_written_twice_between_quotes(void **state)
{
    static const struct {
        const char *condition, *value;
    } cases[] = {
        {"phrase=\"the \"\"stop\"\" sign\"", "the \"stop\" sign"},
        {"phrase=\"\"\"\"", "\""},
        {"phrase=\"\"\"a\"", "\"a"},
        {"phrase=\"a\"\"\"", "a\""},
        {"phrase=\"\"", ""},
        {"phrase=5\"tall", "5\"tall"},
        {"phrase=a\"\"", "a\"\""},
        {"phrase=\"a\\b\"", "a\\b"},
    };
    vg_where where;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        MUST(vg_where_read(cases[i].condition, &where));
        assert_string_equal(where.terms[0].text, cases[i].value);
    }
}

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *condition, *says;
    } cases[] = {
        {"", "a name is missing at its end"},
        {"=3", "a name is missing at '=3'"},
        {"words", "one of = != < <= > >= is missing at its end"},
        {"words 3", "is missing at '3'"},
        {"words<", "a value is missing at its end"},
        {"words<many", "words is a number, 'many' is none"},
        {"words<nan", "words is a number"},
        {"words<1e999", "words is a number"},
        {"split==train", "'split==train': the signs are = != < <= > >=, and a value that begins so stands in double "
                         "quotes at '=train'"},
        {"words==3", "the signs are"},
        {"kind!==a", "at '=a'"},
        {"split=!train", "at '!train'"},
        {"words=>3", "at '>3'"},
        {"phrase='left man'", "double quotes at ''left man''"},
        {"split<train", "split is text, which is compared by = and !="},
        {"wodrs=3", "did you mean 'words'?"},
        {"box_share<1", "nothing is called 'box_share'; `vlgtr shard filter --help` has the names"},
        {"words=3 or words=4", "'and' is missing at 'or words=4'"},
        {"words=3 and", "a name is missing"},
        {"words=3 andwords=3", "'and' is missing"},
        {"kind=\"far", "a quote is not closed"},
        {"kind=\"far\"\"", "a quote is not closed"},
        {"kind=\"a\"b\"", "'and' is missing at 'b\"'"},
        {"split=\xff", "not UTF-8"},
    };
    vg_where where;
    char many[512] = "words=1", longest[400];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(vg_where_read(cases[i].condition, &where), VG_E_USAGE);
        ASSERT_SAYS(cases[i].says);
    }
    for (int i = 1; i < VG_WHERE_MOST_TERMS; i++) strcat(many, " and words=1");
    MUST(vg_where_read(many, &where));
    assert_int_equal(vg_where_read(strcat(many, " and words=1"), &where), VG_E_USAGE);
    ASSERT_SAYS("too many terms");
    memset(longest, 'x', sizeof longest - 1);
    memcpy(longest, "kind=", 5);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(vg_where_read(longest, &where), VG_E_USAGE);
    ASSERT_SAYS("a value is too long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_name_means_what_it_says, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(large_ids_are_told_apart, scratch_make, scratch_remove),
        cmocka_unit_test(a_double_quote_is_written_twice_between_quotes),
        cmocka_unit_test(mistakes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
