/* SIGKILL at every system call of a save, by any of its threads: a checkpoint that verifies is always found, whole, and
 * the next save clears away what was left. */
#define _GNU_SOURCE
#include "tests/unit/checkpoints/checkpoint_fixture.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, BEFORE = 10, KILLED = 20, AFTER = 30 };

static vg_comm *comm;
static char folder[] = "/tmp/vlgtr-kill-XXXXXX";

static void fail(const char *what, int calls)
{
    fprintf(stderr, "killed at system call %d of the save: %s\n", calls, what);
    exit(1);
}

/* A save that leaves its own checkpoint alone there. */
static vg_status save(int step)
{
    vg_params *params = fixture_space(false, true);
    fixture_fill(params, step, 1, 0);
    const vg_checkpoint_state s = fixture_state(step, 1);
    const vg_status st = fixture_save(comm, folder, params, &s, 1, NULL);
    vg_params_free(params);
    return st;
}

static void empty_folder(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0) exit(1);
}

static pid_t start_save(void)
{
    const pid_t child = fork();
    if (child != 0) return child;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(SKIPPED);
    raise(SIGSTOP);
    _exit(save(KILLED) != VG_OK);
}

static bool enters_a_call(pid_t thread)
{
    struct __ptrace_syscall_info info = {0};
    ptrace(PTRACE_GET_SYSCALL_INFO, thread, (void *)sizeof info, &info);
    return info.op == PTRACE_SYSCALL_INFO_ENTRY;
}

/* Lets the child go on to its `last`-th system call and kills it there; false when it was through before. */
static bool kill_at(pid_t child, int last)
{
    int status = 0, calls = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) exit(WEXITSTATUS(status));
    ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL));
    ptrace(PTRACE_SYSCALL, child, NULL, NULL);
    for (pid_t thread; (thread = waitpid(-1, &status, __WALL)) > 0;) {
        if (thread == child && (WIFEXITED(status) || WIFSIGNALED(status))) {
            if (WIFEXITED(status) && WEXITSTATUS(status) != 0) fail("a save that nobody killed failed", calls);
            return WIFSIGNALED(status);
        }
        if (!WIFSTOPPED(status)) continue;
        calls += WSTOPSIG(status) == (SIGTRAP | 0x80) && enters_a_call(thread);
        if (calls == last) kill(child, SIGKILL);
        ptrace(PTRACE_SYSCALL, thread, NULL, NULL);
    }
    return false;
}

/* The step of the checkpoint that a run would go on from, every value of it compared. */
static int chosen_step(int calls)
{
    char *path = NULL;
    if (vg_checkpoint_choose(comm, folder, &path) != VG_OK || !path) fail("no checkpoint verifies", calls);
    const int step = atoi(strstr(path, "step-") + 5);
    vg_params *params = fixture_space(false, true);
    if (vg_checkpoint_load_weights(path, params) != VG_OK || vg_checkpoint_load_moments(path, params) != VG_OK)
        fail("the checkpoint cannot be loaded", calls);
    if (fixture_differs(params, step, true)) fail("the checkpoint has other values", calls);
    vg_params_free(params);
    free(path);
    return step;
}

int main(void)
{
    int calls = 0, found[AFTER] = {0};
    if (vg_comm_open(&comm) != VG_OK || !mkdtemp(folder)) return 1;
    for (bool killed = true; killed;) {
        empty_folder();
        if (save(BEFORE) != VG_OK) return 1;
        killed = kill_at(start_save(), ++calls);
        const int step = chosen_step(calls);
        if (step != BEFORE && step != KILLED) fail("a step that nobody saved", calls);
        found[step]++;
        if (save(AFTER) != VG_OK || chosen_step(calls) != AFTER) fail("the next save failed", calls);
    }
    empty_folder();
    printf("killed at each of %d system calls of a save: step %d was found %d times, %d %d times\n", calls - 1, BEFORE,
           found[BEFORE], KILLED, found[KILLED]);
    vg_comm_close(comm);
    return found[BEFORE] > 0 && found[KILLED] > 0 ? 0 : 1;
}
