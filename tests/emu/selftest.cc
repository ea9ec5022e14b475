/* The checker's own test: each kernel of selftest.cu is reported for what is wrong with it, and the right ones are not.
 */
#include "emu/selftest.h"

#include "emu/exec.h"
#include "emu/heap.h"
#include "emu/report.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

namespace
{
struct expectation {
    const char *kernel;
    const char *kind; /* of the reports; NULL: nothing is wrong */
};

const expectation expectations[] = {
    {"right_sums", nullptr},
    {"right_small_types", nullptr},
    {"right_half_warps", nullptr},
    {"right_pipeline", nullptr},
    {"copy_in_order", nullptr},
    {"copy_in_columns", nullptr},
    {"barrier_missing", "race"},
    {"barrier_missing_behind_read", "race"},
    {"warp_barrier_missing", "race"},
    {"warp_barrier_of_half", "race"},
    {"blocks_write_same_place", "race"},
    {"atomic_lost", "race"},
    {"atomic_read_plainly", "race"},
    {"copy_not_shown_to_others", "race"},
    {"shared_without_value", "uninitialised"},
    {"global_without_value", "uninitialised"},
    {"copy_not_waited_for", "uninitialised"},
    {"copy_in_place_of_a_result", "copy under way"},
    {"shared_index_off_by_one", "out of bounds"},
    {"guard_missing", "out of bounds"},
    {"dynamic_shared_too_small", "out of bounds"},
    {"vector_misaligned", "misaligned"},
    {"host_memory", "host pointer"},
    {"local_of_another_thread", "foreign local"},
    {"copy_to_global", "not shared"},
    {"barrier_in_branches", "divergent barrier"},
    {"end_before_barrier", "exit before barrier"},
    {"barrier_in_part_of_block", "exit before barrier"},
    {"lane_has_ended", "warp mask"},
    {"lane_not_in_mask", "warp mask"},
    {"lane_read_outside_mask", "warp mask"},
    {"lanes_in_two_collectives", "warp mask"},
    {"warp_waits_for_barrier", "deadlock"},
};

template <class T> T *device_numbers(const T *values)
{
    T *const p = (T *)emu::heap_alloc(SELFTEST_NUMBERS * sizeof(T));
    if (!values) return p;
    const emu::heap_open open;
    memcpy(p, values, SELFTEST_NUMBERS * sizeof(T));
    emu::heap_wrote(p, SELFTEST_NUMBERS * sizeof(T));
    return p;
}

bool as_expected(const expectation &e)
{
    float ones[SELFTEST_NUMBERS], host = 1;
    int zeros[SELFTEST_NUMBERS] = {};
    for (float &one : ones) one = 1;
    const selftest_args args = {device_numbers(ones), device_numbers<float>(nullptr), device_numbers(zeros), &host};
    {
        const emu::heap_open open;
        const size_t shared_bytes = SELFTEST_THREADS * sizeof(float) / 2;
        emu::run({emu::kernel_find(e.kernel), SELFTEST_BLOCKS, SELFTEST_THREADS, shared_bytes, &args});
    }
    emu::heap_free((void *)args.x);
    emu::heap_free(args.y);
    emu::heap_free(args.count);
    const int n = emu::reports(e.kind); /* a race may show as a missing value, too */
    emu::reports_forget();
    if ((n > 0) == (e.kind != nullptr)) return true;
    printf("%s: %d reports of %s\n", e.kernel, n, e.kind ? e.kind : "something wrong");
    return false;
}

/* The line that the counters wrote about this kernel says so. */
bool counted(FILE *lines, const char *kernel, const char *expected)
{
    char line[1024];
    rewind(lines);
    while (fgets(line, sizeof line, lines))
        if (strstr(line, kernel)) break;
    if (strstr(line, kernel) && strstr(line, expected)) return true;
    printf("%s moves %s and not %s\n", kernel, line, expected);
    return false;
}

/* Host code that reads device memory ends by a signal. */
bool host_is_kept_out()
{
    const volatile float *const x = device_numbers<float>(nullptr);
    const pid_t child = fork();
    if (child == 0) _exit(x[0] > 0);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) return true;
    printf("the host read device memory\n");
    return false;
}
} // namespace

int main()
{
    FILE *const lines = tmpfile();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fileno(lines));
    setenv("VG_EMU_COUNTERS", path, 1);

    int n_wrong = !host_is_kept_out();
    for (const expectation &e : expectations) n_wrong += !as_expected(e);
    n_wrong += !counted(lines, "copy_in_order", "\"read\": {\"bytes\": 512, \"sectors\": 16, \"least\": 16,");
    n_wrong += !counted(lines, "copy_in_columns", "\"read\": {\"bytes\": 128, \"sectors\": 16, \"least\": 4,");
    printf("%zu kernels, %d not reported as they should be\n", sizeof expectations / sizeof *expectations, n_wrong);
    return n_wrong > 0;
}
