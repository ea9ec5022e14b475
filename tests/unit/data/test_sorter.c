/* Sorting outside memory gives what sorting inside it gives. */
#define _XOPEN_SOURCE 700
#include "data/import/sorter_impl.h"
#include "tests/unit/data/import_test.h"

#include <sys/stat.h>
#include <unistd.h>

enum { N = 20000 };

/* A record whose key is its number, with a tail as long as the number says. */
static size_t record_make(int64_t key, unsigned char out[64])
{
    const size_t tail = (size_t)(key & 31);
    vg_sortable_put(key, out);
    memset(out + 8, 'x', tail);
    return 8 + tail;
}

static void check_order(const char *folder, size_t budget_bytes)
{
    vg_sorter *sorter = NULL;
    unsigned char record[64];
    const unsigned char *bytes;
    size_t n;
    MUST(vg_sorter_new(folder, budget_bytes, &sorter));
    for (int64_t i = 0; i < N; i++) { /* 7919 and N share no factor: every key once */
        const int64_t key = i * 7919 % N - N / 2;
        MUST(vg_sorter_add(sorter, record, record_make(key, record)));
    }
    MUST(vg_sorter_sort(sorter));
    for (int64_t key = -N / 2; key < N / 2; key++) {
        const size_t wanted = record_make(key, record);
        MUST(vg_sorter_next(sorter, &bytes, &n));
        assert_non_null(bytes);
        assert_int_equal(n, wanted);
        assert_memory_equal(bytes, record, n);
    }
    MUST(vg_sorter_next(sorter, &bytes, &n));
    assert_null(bytes);
    vg_sorter_free(sorter);
}

static void runs_change_nothing(void **state)
{
    check_order(*state, 1 << 22); /* none */
    check_order(*state, 1 << 18);
    check_order(*state, 1 << 12);       /* many */
    assert_int_equal(rmdir(*state), 0); /* nothing is left behind */
    assert_int_equal(mkdir(*state, 0700), 0);
}

static void a_prefix_comes_first_and_nothing_is_nothing(void **state)
{
    vg_sorter *sorter = NULL;
    const unsigned char *bytes;
    size_t n;
    MUST(vg_sorter_new(*state, 1 << 12, &sorter));
    MUST(vg_sorter_add(sorter, "ab", 2));
    MUST(vg_sorter_add(sorter, "a", 1));
    MUST(vg_sorter_add(sorter, "", 0));
    MUST(vg_sorter_sort(sorter));
    for (size_t i = 0; i < 3; i++) {
        MUST(vg_sorter_next(sorter, &bytes, &n));
        assert_int_equal(n, i);
    }
    vg_sorter_free(sorter);
    MUST(vg_sorter_new(*state, 1 << 12, &sorter));
    MUST(vg_sorter_sort(sorter));
    MUST(vg_sorter_next(sorter, &bytes, &n));
    assert_null(bytes);
    vg_sorter_free(sorter);
}

static void a_folder_that_cannot_be_written_says_so(void **state)
{
    (void)state;
    vg_sorter *sorter = NULL;
    vg_status st = VG_OK;
    unsigned char record[64] = {0};
    MUST(vg_sorter_new("/proc/nowhere", 1 << 12, &sorter));
    for (int i = 0; i < 1000 && st == VG_OK; i++) st = vg_sorter_add(sorter, record, sizeof record);
    assert_int_equal(st, VG_E_STORAGE);
    ASSERT_SAYS("/proc/nowhere: cannot make a file to sort in");
    vg_sorter_free(sorter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(runs_change_nothing),
        IN_SCRATCH(a_prefix_comes_first_and_nothing_is_nothing),
        cmocka_unit_test(a_folder_that_cannot_be_written_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
