/* Stores of features: what was put comes back or is named as damaged, and nothing of another key is taken. */
#define _GNU_SOURCE /* syscall, pread64 */
#include "data/feature_store.h"
#include "kernels/base/bf16.h"
#include "tests/unit/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* What HDF5 loses over a damaged object header is not ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}

/* Reads of this program and of HDF5, of which so many fail before they go well again. */
static int n_failing;

static ssize_t read_or_fail(int fd, void *to, size_t n, off_t at)
{
    if (n_failing == 0) return syscall(SYS_pread64, fd, to, n, at);
    n_failing--;
    errno = EIO;
    return -1;
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    return read_or_fail(fd, to, n, at);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
    return read_or_fail(fd, to, n, at);
}

/* Whether the file system gives no second names, and how many new names it gives before it becomes read-only. */
static bool no_links;
static int n_renames = INT_MAX;

int link(const char *from, const char *to)
{
    if (!no_links) return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
    errno = EPERM;
    return -1;
}

int rename(const char *from, const char *to)
{
    if (n_renames-- > 0) return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    errno = EROFS;
    return -1;
}

enum { ROWS = 7, FLOATS = 20000 }; /* more than the piece that is rounded at once */

static const vg_feature_key key = {"weights: 1\npicture: 224 x 224\n", ROWS, FLOATS, false};
static float row[FLOATS], got[FLOATS];

static const char *store_path(void **state)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/store.h5", (const char *)*state);
    return path;
}

static void fill(int64_t index)
{
    for (int i = 0; i < FLOATS; i++) row[i] = (float)index * 1.001F + (float)i / 7;
}

/* All rows but `absent`. */
static void put_rows(vg_feature_store *store, int64_t absent)
{
    for (int64_t i = 0; i < ROWS; i++) {
        fill(i);
        if (i != absent) assert_int_equal(vg_feature_store_put(store, i, row), VG_OK);
    }
}

static void make(const char *path, const vg_feature_key *k, int64_t absent)
{
    vg_feature_store *store = NULL;
    assert_int_equal(vg_feature_store_begin(path, k, &store), VG_OK);
    put_rows(store, absent);
    assert_int_equal(vg_feature_store_commit(path, k, store), VG_OK);
    assert_int_equal(vg_feature_store_close(store), VG_OK);
}

static vg_feature_store *open_store(const char *path, const vg_feature_key *k)
{
    char why[512];
    vg_feature_store *store = NULL;
    assert_int_equal(vg_feature_store_open(path, k, &store, why, sizeof why), VG_OK);
    if (!store) fail_msg("%s", why);
    return store;
}

/* Why a store is not taken. */
static const char *refusal(const char *path, const vg_feature_key *k)
{
    static char why[512];
    vg_feature_store *store = NULL;
    assert_int_equal(vg_feature_store_open(path, k, &store, why, sizeof why), VG_OK);
    assert_null(store);
    return why;
}

static void rows_come_back_and_an_absent_one_stays_absent(void **state)
{
    make(store_path(state), &key, 3);
    vg_feature_store *store = open_store(store_path(state), &key);
    for (int64_t i = 0; i < ROWS; i++) {
        assert_int_equal(vg_feature_store_has(store, i), i != 3);
        if (i == 3) continue;
        fill(i);
        assert_int_equal(vg_feature_store_read(store, i, got), VG_OK);
        assert_memory_equal(got, row, sizeof row);
    }
    assert_int_equal(vg_feature_store_close(store), VG_OK);
}

static void a_bf16_row_is_the_rounded_one_in_half_the_room(void **state)
{
    vg_feature_key half = key;
    half.bf16 = true;
    make(store_path(state), &half, -1);
    vg_feature_store *store = open_store(store_path(state), &half);
    fill(5);
    assert_int_equal(vg_feature_store_read(store, 5, got), VG_OK);
    for (int i = 0; i < FLOATS; i++) assert_true(got[i] == vg_bf16_to_float(vg_bf16_from(row[i])));
    vg_feature_store_close(store);
    assert_true(vg_feature_store_bytes(&half) < 0.51 * (double)vg_feature_store_bytes(&key));
    assert_non_null(strstr(refusal(store_path(state), &key), "/rows has another size or form"));
}

static void an_absent_store_is_no_news(void **state)
{
    assert_string_equal(refusal(store_path(state), &key), "");
}

static void the_line_in_which_keys_differ_is_named(void **state)
{
    make(store_path(state), &key, -1);
    vg_feature_key other = key;
    other.text = "weights: 1\npicture: 518 x 518\n";
    assert_non_null(
        strstr(refusal(store_path(state), &other), "has 'picture: 224 x 224', wanted is 'picture: 518 x 518'"));
    other.text = "weights: 1\n";
    assert_non_null(strstr(refusal(store_path(state), &other), "wanted is ''"));
    other = key;
    other.n_rows = ROWS + 1;
    assert_non_null(strstr(refusal(store_path(state), &other), "another size"));
}

static void change(const char *path, off_t at, unsigned char bits)
{
    unsigned char byte = 0;
    const int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= bits;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static off_t size_of(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_size;
}

/* Every byte of the file counts, but for gaps: a flip is refused, or named when its row is read, or changes nothing. */
static void no_flipped_bit_goes_unseen(void **state)
{
    const char *path = store_path(state);
    char why[512];
    make(path, &key, -1);
    int seen = 0;
    for (off_t at = 0, n = size_of(path); at < n; at += at < 2048 ? 1 : 9973) {
        vg_feature_store *store = NULL;
        bool same = true;
        change(path, at, 4);
        assert_int_equal(vg_feature_store_open(path, &key, &store, why, sizeof why), VG_OK);
        for (int64_t i = 0; store && i < ROWS; i++) {
            fill(i);
            const bool read = vg_feature_store_has(store, i) && vg_feature_store_read(store, i, got) == VG_OK;
            assert_true(!read || memcmp(got, row, sizeof row) == 0);
            same &= read;
        }
        seen += !store || !same;
        vg_feature_store_close(store);
        change(path, at, 4);
    }
    assert_true(seen > 200);
}

static void a_store_cut_short_is_refused(void **state)
{
    const char *path = store_path(state);
    make(path, &key, -1);
    const off_t n = size_of(path);
    for (int i = 9; i >= 0; i--) {
        assert_int_equal(truncate(path, n * i / 10), 0);
        assert_true(*refusal(path, &key));
    }
}

static int size_of_folder(const char *folder)
{
    int n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));) n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void a_build_goes_on_with_the_rows_that_are_there(void **state)
{
    const char *path = store_path(state);
    vg_feature_store *store = NULL, *peer = NULL;
    assert_int_equal(vg_feature_store_begin(path, &key, &store), VG_OK);
    assert_int_equal(vg_feature_store_join(path, &key, &peer), VG_OK);
    fill(1);
    assert_int_equal(vg_feature_store_put(peer, 1, row), VG_OK);
    vg_feature_store_close(peer);
    vg_feature_store_close(store);
    assert_string_equal(refusal(path, &key), ""); /* not finished: it has another name */
    assert_int_equal(vg_feature_store_begin(path, &key, &store), VG_OK);
    assert_true(vg_feature_store_has(store, 1));
    assert_false(vg_feature_store_has(store, 2));
    assert_int_equal(vg_feature_store_read(store, 1, got), VG_OK);
    assert_memory_equal(got, row, sizeof row);
    vg_feature_store_close(store);
}

/* Leaves a whole build under the name that a process, here and now another one, gives it while it finishes it. */
static void leave_unfinished(const char *path, const char *host, long pid)
{
    char partial[400], own[500];
    vg_feature_store *store = NULL;
    assert_int_equal(vg_feature_store_begin(path, &key, &store), VG_OK);
    put_rows(store, -1);
    vg_feature_store_close(store);
    snprintf(partial, sizeof partial, "%s.partial", path);
    snprintf(own, sizeof own, "%s.%s.%ld", partial, host, pid);
    assert_int_equal(rename(partial, own), 0);
}

/* Whether a build that begins now has rows already. */
static bool goes_on(const char *path)
{
    vg_feature_store *store = NULL;
    assert_int_equal(vg_feature_store_begin(path, &key, &store), VG_OK);
    const bool has = vg_feature_store_has(store, 1);
    vg_feature_store_close(store);
    return has;
}

static long ended_process(void)
{
    const pid_t pid = fork();
    if (pid == 0) _exit(0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    return (long)pid;
}

static void a_build_goes_on_where_a_killed_process_was_finishing_it(void **state)
{
    const char *path = store_path(state);
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    leave_unfinished(path, host, ended_process());
    assert_true(goes_on(path));
    assert_int_equal(size_of_folder(*state), 1);
    leave_unfinished(path, host, (long)getpid()); /* of an earlier process with this one's number */
    assert_true(goes_on(path));
    leave_unfinished(path, host, ended_process());
    make(path, &key, -1);
    assert_int_equal(size_of_folder(*state), 1);
}

static void what_a_living_process_finishes_is_its_own_but_not_for_ever(void **state)
{
    const char *path = store_path(state);
    char host[64] = "", other[100], own[500];
    gethostname(host, sizeof host - 1);
    leave_unfinished(path, host, (long)getppid());
    assert_false(goes_on(path));
    assert_int_equal(size_of_folder(*state), 2);
    snprintf(other, sizeof other, "%s.%ld", host, ended_process()); /* a host whose name begins with this one's */
    leave_unfinished(path, other, 1);
    assert_false(goes_on(path));
    snprintf(own, sizeof own, "%s.partial.%s.1", path, other);
    assert_int_equal(unlink(own), 0);
    leave_unfinished(path, "elsewhere", 1); /* nobody knows */
    assert_false(goes_on(path));
    snprintf(own, sizeof own, "%s.partial.elsewhere.1", path);
    const struct timespec long_ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, own, long_ago, 0), 0);
    assert_int_equal(size_of_folder(*state), 3);
    assert_false(goes_on(path)); /* with the one that was begun since */
    assert_int_equal(size_of_folder(*state), 2);
}

static void why_a_store_could_not_be_finished_is_said_whatever_follows(void **state)
{
    const char *path = store_path(state);
    vg_feature_store *store = NULL;
    assert_int_equal(vg_feature_store_begin(path, &key, &store), VG_OK);
    put_rows(store, -1);
    assert_int_equal(mkdir(path, 0700), 0);
    no_links = true;
    n_renames = 2; /* to the name of its own, and to that of the store, where a folder is */
    assert_int_equal(vg_feature_store_commit(path, &key, store), VG_E_STORAGE);
    assert_non_null(strstr(vg_error_text(), strerror(EISDIR)));
    no_links = false;
    n_renames = INT_MAX;
    vg_feature_store_close(store);
}

static void a_build_of_another_key_begins_anew(void **state)
{
    const char *path = store_path(state);
    vg_feature_key other = key;
    vg_feature_store *store = NULL;
    other.text = "weights: 2\n";
    assert_int_equal(vg_feature_store_begin(path, &other, &store), VG_OK);
    put_rows(store, -1);
    vg_feature_store_close(store);
    assert_int_equal(vg_feature_store_begin(path, &key, &store), VG_OK);
    for (int64_t i = 0; i < ROWS; i++) assert_false(vg_feature_store_has(store, i));
    vg_feature_store_close(store);
}

static void runs_that_build_the_same_store_finish_it_once(void **state)
{
    const char *path = store_path(state);
    vg_feature_store *one = NULL, *two = NULL;
    assert_int_equal(vg_feature_store_begin(path, &key, &one), VG_OK);
    assert_int_equal(vg_feature_store_begin(path, &key, &two), VG_OK); /* goes on with the same file */
    put_rows(one, 3);
    fill(3);
    assert_int_equal(vg_feature_store_put(two, 3, row), VG_OK);
    assert_int_equal(vg_feature_store_commit(path, &key, one), VG_OK);
    put_rows(two, -1); /* the same bytes, into what is finished */
    assert_int_equal(vg_feature_store_commit(path, &key, two), VG_E_STORAGE);
    assert_non_null(strstr(vg_error_text(), "another run has finished it"));
    assert_int_equal(vg_feature_store_close(one), VG_OK);
    assert_int_equal(vg_feature_store_close(two), VG_OK);
    vg_feature_store *store = open_store(path, &key);
    for (int64_t i = 0; i < ROWS; i++) assert_int_equal(vg_feature_store_read(store, i, got), VG_OK);
    vg_feature_store_close(store);
    assert_int_equal(size_of_folder(*state), 1); /* nothing is left of the building */
}

static void what_another_run_has_begun_anew_is_not_taken_for_ones_own(void **state)
{
    const char *path = store_path(state);
    vg_feature_key other = key;
    vg_feature_store *one = NULL, *two = NULL;
    other.text = "weights: 2\n";
    assert_int_equal(vg_feature_store_begin(path, &key, &one), VG_OK);
    assert_int_equal(vg_feature_store_begin(path, &other, &two), VG_OK);
    put_rows(one, -1);
    put_rows(two, 2);
    assert_int_equal(vg_feature_store_commit(path, &key, one), VG_E_STORAGE);
    assert_int_equal(vg_feature_store_commit(path, &other, two), VG_OK);
    vg_feature_store_close(one);
    vg_feature_store_close(two);
    vg_feature_store *store = open_store(path, &other);
    assert_false(vg_feature_store_has(store, 2));
    vg_feature_store_close(store);
}

/* What was built stays: neither is a finished store called damaged nor one under way begun anew. */
static void an_io_error_costs_no_row(void **state)
{
    const char *path = store_path(state);
    char why[512];
    vg_feature_store *store = NULL;
    assert_int_equal(vg_feature_store_begin(path, &key, &store), VG_OK);
    put_rows(store, -1);
    assert_int_equal(vg_feature_store_close(store), VG_OK);
    store = NULL;
    n_failing = 1000;
    assert_int_equal(vg_feature_store_begin(path, &key, &store), VG_E_STORAGE);
    n_failing = 2;
    assert_int_equal(vg_feature_store_begin(path, &key, &store), VG_OK);
    for (int64_t i = 0; i < ROWS; i++) assert_true(vg_feature_store_has(store, i));
    assert_int_equal(vg_feature_store_commit(path, &key, store), VG_OK);
    assert_int_equal(vg_feature_store_close(store), VG_OK);
    n_failing = 1000;
    assert_int_equal(vg_feature_store_open(path, &key, &store, why, sizeof why), VG_E_STORAGE);
    n_failing = 0;
    assert_int_equal(vg_feature_store_close(open_store(path, &key)), VG_OK);
}

static void equal_rows_make_equal_files(void **state)
{
    char other[300], command[700];
    make(store_path(state), &key, -1);
    snprintf(other, sizeof other, "%s/other.h5", (const char *)*state);
    make(other, &key, -1);
    snprintf(command, sizeof command, "cmp %s %s", store_path(state), other);
    assert_int_equal(system(command), 0);
}

static void a_folder_that_is_not_there_is_the_storage_s_fault(void **state)
{
    char path[300];
    vg_feature_store *store = NULL;
    snprintf(path, sizeof path, "%s/absent/store.h5", (const char *)*state);
    assert_int_equal(vg_feature_store_begin(path, &key, &store), VG_E_STORAGE);
    assert_null(store);
    assert_non_null(strstr(vg_error_text(), path));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(rows_come_back_and_an_absent_one_stays_absent),
        CASE(a_bf16_row_is_the_rounded_one_in_half_the_room),
        CASE(an_absent_store_is_no_news),
        CASE(the_line_in_which_keys_differ_is_named),
        CASE(no_flipped_bit_goes_unseen),
        CASE(a_store_cut_short_is_refused),
        CASE(a_build_goes_on_with_the_rows_that_are_there),
        CASE(a_build_goes_on_where_a_killed_process_was_finishing_it),
        CASE(what_a_living_process_finishes_is_its_own_but_not_for_ever),
        CASE(why_a_store_could_not_be_finished_is_said_whatever_follows),
        CASE(a_build_of_another_key_begins_anew),
        CASE(runs_that_build_the_same_store_finish_it_once),
        CASE(what_another_run_has_begun_anew_is_not_taken_for_ones_own),
        CASE(an_io_error_costs_no_row),
        CASE(equal_rows_make_equal_files),
        CASE(a_folder_that_is_not_there_is_the_storage_s_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
