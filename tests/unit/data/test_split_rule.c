/* Splits for sets that have none: by shares of the images, always alike. */
#define _XOPEN_SOURCE 700
#include "data/import/split_rule_impl.h"
#include "tests/unit/data/import_test.h"

#include <math.h>

enum { N = 20000 };

/* How many of N images go to a split. */
static int count(const char *shares, uint64_t seed, const char *split)
{
    const vg_import_source source = {.shares = shares, .seed = seed};
    vg_split_rule *rule = NULL;
    int n = 0;
    MUST(vg_split_rule_new(&source, &rule));
    for (int64_t id = 0; id < N; id++) n += strcmp(vg_split_rule_of(rule, id, "x.jpg"), split) == 0;
    vg_split_rule_free(rule);
    return n;
}

/* Within four standard deviations of a binomial. */
static void assert_share(int n, double share)
{
    const double off = fabs(n - N * share);
    if (off > 4 * sqrt(N * share * (1 - share))) fail_msg("%d of %d images instead of a share of %g", n, N, share);
}

static void shares_are_held(void **state)
{
    (void)state;
    assert_share(count("val=0.05,test=0.2", 1, "val"), 0.05);
    assert_share(count("val=0.05,test=0.2", 1, "test"), 0.2);
    assert_share(count("val=0.05,test=0.2", 1, "train"), 0.75);
    assert_int_equal(count("val=1", 1, "val"), N);
    assert_int_equal(count("val=0", 1, "train"), N);
    assert_int_equal(count(NULL, 1, "train"), N);
}

static void the_seed_decides_which(void **state)
{
    (void)state;
    vg_split_rule *rule[3] = {NULL};
    int alike = 0;
    for (size_t i = 0; i < 3; i++) {
        const vg_import_source source = {.shares = "val=0.5", .seed = i == 2 ? 2 : 1};
        MUST(vg_split_rule_new(&source, &rule[i]));
    }
    for (int64_t id = 0; id < N; id++) {
        const char *split = vg_split_rule_of(rule[0], id, "x.jpg");
        assert_string_equal(split, vg_split_rule_of(rule[1], id, "other.jpg")); /* the id alone counts */
        alike += strcmp(split, vg_split_rule_of(rule[2], id, "x.jpg")) == 0;
    }
    assert_share(alike, 0.5);
    for (size_t i = 0; i < 3; i++) vg_split_rule_free(rule[i]);
}

static void a_split_has_one_share(void **state)
{
    (void)state;
    const vg_import_source source = {.shares = "val=0.1,test=0.1,val=0.2"};
    vg_split_rule *rule = NULL;
    assert_int_equal(vg_split_rule_new(&source, &rule), VG_E_USAGE);
    assert_non_null(strstr(vg_error_text(), "'val=0.1,test=0.1,val=0.2' gives split 'val' two shares"));
    const vg_import_source less = {.shares = "train=0.5,val=0.1"}; /* train would get 0.9 */
    assert_int_equal(vg_split_rule_new(&less, &rule), VG_E_USAGE);
    assert_non_null(strstr(vg_error_text(), "adds up to 0.6, and the rest is train, too"));
    assert_share(count("train=0.9,val=0.1", 1, "val"), 0.1);
    assert_share(count("val=0.56,test=0.34,train=0.1", 1, "train"), 0.1); /* 1 and some rounding */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_held),
        cmocka_unit_test(the_seed_decides_which),
        cmocka_unit_test(a_split_has_one_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
