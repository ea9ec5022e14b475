/* Training images that another set evaluates on. */
#define _XOPEN_SOURCE 700
#include "data/shard_leakage_impl.h"
#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/data/made_shard.h"

enum { N_REGIONS = 6, N_REFS = 4 };

/* Regions of a set that knows what COCO and Flickr call its photographs, and one of its own for evaluation. */
static const made_image regions[N_REGIONS] = {
    {1, "1.png", 1, "train", NULL, 900, 0}, {2, "2.png", 2, "train", NULL, 901, 77},
    {3, "3.png", 3, "train", NULL, 0, 0},   {4, "4.png", 4, "train", NULL, 902, 0},
    {5, "5.png", 5, "train", "val", 0, 0},  {6, "6.png", 6, "val", NULL, 903, 0},
};

static const made_image refs[N_REFS] = {
    {900, "900.png", 1, "val", NULL, 900, 0},
    {901, "901.png", 2, "testA", "val", 901, 77},
    {902, "902.png", 4, "train", NULL, 902, 0},
    {903, "903.png", 6, "train", NULL, 903, 0},
};

static const char *folder_in(const char *scratch, const char *name)
{
    const char *path = path_in(scratch, name);
    MUST(vg_make_directories(path));
    return path;
}

static vg_split *train_of(const char *const *paths, int n, vg_leaked leaked, const char *against)
{
    vg_split *split = NULL;
    MUST(vg_split_open_as(paths, n, "train",
                          &(vg_split_opening){.leaked = leaked, .against = &against, .n_against = against != NULL},
                          &split));
    return split;
}

static void assert_ids(const vg_split *split, const int64_t *ids, int n)
{
    assert_int_equal(vg_split_image_count(split), n);
    for (int i = 0; i < n; i++) {
        vg_image_info info;
        vg_split_image(split, i, &info);
        assert_int_equal(info.image_id, ids[i]);
        assert_int_equal(info.first_sentence, i);
    }
}

/* Sets are told as "FOLDER (SOURCE)". */
static void assert_set(const char *told, const char *folder, const char *source)
{
    char name[600];
    snprintf(name, sizeof name, "%s (%s)", folder, source);
    assert_string_equal(told, name);
}

static void assert_leak(const vg_split *split, int i, const char *folder, const char *source, const char *evaluated_in,
                        const char *other_source, const char *splits, int64_t n_images)
{
    vg_split_leak leak;
    vg_split_leak_of(split, i, &leak);
    assert_set(leak.set, folder, source);
    assert_set(leak.evaluated_in, evaluated_in, other_source);
    assert_string_equal(leak.splits, splits);
    assert_int_equal(leak.n_images, n_images);
}

static void images_that_another_set_evaluates_on_are_left_out(void **state)
{
    const char *a = folder_in(*state, "a"), *b = folder_in(*state, "b");
    made(a, "a.h5", "one", regions, N_REGIONS);
    made(b, "b.h5", "two", refs, N_REFS);
    vg_split *split = train_of(&a, 1, VG_LEAKED_OUT, b);
    assert_ids(split, (const int64_t[]){3, 4, 5}, 3); /* 5 stands in an evaluation split of its own set */
    assert_int_equal(vg_split_leak_count(split), 1);
    assert_leak(split, 0, a, "one", b, "two", "val, testA", 2); /* each once, though 2 is known by two ids */
    assert_int_equal(vg_split_leaked(split), 2);
    const uint64_t hash = vg_split_hash(split);
    vg_split_close(split);

    split = train_of(&a, 1, VG_LEAKED_KEPT, b); /* told, and trained on */
    assert_ids(split, (const int64_t[]){1, 2, 3, 4, 5}, 5);
    assert_leak(split, 0, a, "one", b, "two", "val, testA", 2);
    assert_true(vg_split_hash(split) != hash);
    vg_split_close(split);

    split = split_of(a, "train");
    assert_ids(split, (const int64_t[]){1, 2, 3, 4, 5}, 5);
    assert_int_equal(vg_split_leak_count(split), 0);
    vg_split_close(split);
}

static void sets_that_train_together_look_at_each_other(void **state)
{
    const char *a = folder_in(*state, "a"), *b = folder_in(*state, "b"), *both[] = {a, b};
    made(a, "a.h5", "one", regions, N_REGIONS);
    made(b, "b.h5", "two", refs, N_REFS);
    vg_split *split = train_of(both, 2, VG_LEAKED_OUT, b);
    assert_ids(split, (const int64_t[]){3, 4, 5, 902}, 4);
    assert_int_equal(vg_split_first_image(split, 1), 3);
    assert_int_equal(vg_split_first_image(split, 2), 4);
    assert_int_equal(vg_split_leak_count(split), 2);
    assert_leak(split, 0, a, "one", b, "two", "val, testA", 2);
    assert_leak(split, 1, b, "two", a, "one", "val", 1);
    vg_split_close(split);
}

static void a_set_is_of_one_origin_in_a_folder_whatever_that_is_called(void **state)
{
    const char *a = folder_in(*state, "a"), *b = folder_in(*state, "b");
    const char *first = made(a, "first.h5", "one", regions, 5), *second = made(a, "second.h5", "one", refs, 2);
    const char *against[] = {path_in(*state, "same"), path_in(*state, "a//"), second};
    assert_int_equal(symlink(a, against[0]), 0);
    for (int i = 0; i < 3; i++) {
        vg_split *split = train_of(&first, 1, VG_LEAKED_OUT, against[i]);
        assert_ids(split, (const int64_t[]){1, 2, 3, 4, 5}, 5);
        vg_split_close(split);
    }
    made(a, "third.h5", "two", refs, 2); /* another set in the same folder */
    vg_split *split = train_of(&first, 1, VG_LEAKED_OUT, a);
    assert_ids(split, (const int64_t[]){3, 4, 5}, 3);
    assert_leak(split, 0, a, "one", a, "two", "val, testA", 2);
    vg_split_close(split);
    made(b, "b.h5", "one", refs, 1); /* the same one in another */
    split = train_of(&first, 1, VG_LEAKED_OUT, b);
    assert_ids(split, (const int64_t[]){2, 3, 4, 5}, 4);
    assert_leak(split, 0, a, "one", b, "one", "val", 1);
    vg_split_close(split);
}

/* There are 64 bits for the names of evaluation splits, which one set alone does not need. */
static void one_set_may_have_any_number_of_splits(void **state)
{
    enum { N = VG_MOST_EVALUATION_SPLITS + 2 };
    const char *a = folder_in(*state, "a"), *b = folder_in(*state, "b");
    made_image images[N];
    char names[N][16];
    vg_split *split = NULL;
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], i ? "val%d" : "train", i);
        images[i] = (made_image){.id = i + 1, .name = "a.png", .picture = i, .split = names[i]};
    }
    made(a, "a.h5", "one", images, N);
    vg_split_close(train_of(&a, 1, VG_LEAKED_OUT, a));
    made(b, "b.h5", "two", refs, 2);
    const vg_split_opening opening = {.leaked = VG_LEAKED_OUT, .against = &b, .n_against = 1};
    assert_int_equal(vg_split_open_as(&a, 1, "train", &opening, &split), VG_E_DATA);
    ASSERT_SAYS("more than 64 evaluation splits; 'val65' is one too many");
}

static void a_split_of_which_nothing_is_left_is_an_error(void **state)
{
    const char *a = folder_in(*state, "a"), *b = folder_in(*state, "b");
    vg_split *split = NULL;
    made(a, "a.h5", "one", regions, 2);
    made(b, "b.h5", "two", refs, 2);
    const vg_split_opening opening = {.leaked = VG_LEAKED_OUT, .against = &b, .n_against = 1};
    assert_int_equal(vg_split_open_as(&a, 1, "train", &opening, &split), VG_E_DATA);
    ASSERT_SAYS("a.h5: every image of split 'train' stands in an evaluation split of another set");
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(images_that_another_set_evaluates_on_are_left_out),
        IN_SCRATCH(sets_that_train_together_look_at_each_other),
        IN_SCRATCH(a_set_is_of_one_origin_in_a_folder_whatever_that_is_called),
        IN_SCRATCH(one_set_may_have_any_number_of_splits),
        IN_SCRATCH(a_split_of_which_nothing_is_left_is_an_error),
        cmocka_unit_test(no_file_or_table_was_left_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
