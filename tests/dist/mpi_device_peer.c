/* Ranks on devices, one of which goes wrong: what the others say, and how they leave.
 *
 * usage: mpi_device_peer steps|mismatch DEADLINE_S [RANK:STEP:kill|RANK:STEP:stop] */
#include "device_group_test.h"
#include "dist/device_group_impl.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* Ends the rank before that step, or lets it stand still there. */
static void meet_fault(const ranks *r, const char *fault, int step)
{
    int rank, at;
    char what[8];
    if (!fault || sscanf(fault, "%d:%d:%7s", &rank, &at, what) != 3) return;
    if (rank != vg_comm_rank(r->comm) || at != step) return;
    while (strcmp(what, "stop") == 0) pause();
    raise(SIGKILL);
}

static vg_status run_steps(ranks *r, vg_device_reducer *reducer, const char *fault)
{
    enum { STEPS = 100 };
    for (int step = 0; step < STEPS; step++) {
        int first, count;
        float *total;
        meet_fault(r, fault, step);
        vg_device_reducer_leaves(reducer, &first, &count);
        for (int i = 0; i < count; i++) VG_TRY(vg_device_reducer_push(reducer, true));
        VG_TRY(vg_device_reducer_finish(reducer, &total));
        VG_TRY(vg_device_group_wait(r->group));
    }
    return VG_OK;
}

static vg_status steps(ranks *r, const char *fault)
{
    const int64_t ends[] = {1024, 8192};
    const vg_sum_plan plan = {.n = 8192, .n_leaves = 8, .n_buckets = 2, .bucket_ends = ends};
    size_t bytes;
    vg_arena memory;
    vg_device_reducer *reducer;
    VG_TRY(vg_device_reducer_bytes(r->group, &plan, &bytes));
    VG_TRY(r->backend->device->allocate(&r->compute, bytes, &memory));
    VG_TRY(vg_device_reducer_new(r->group, &plan, memory.base, &reducer));
    return run_steps(r, reducer, fault);
}

/* Rank 1 adds up less than the others. */
static vg_status mismatch(ranks *r)
{
    const int64_t n = vg_comm_rank(r->comm) == 1 ? 512 : 1024;
    vg_arena memory;
    VG_TRY(r->backend->device->allocate(&r->compute, 1024 * sizeof(float), &memory));
    VG_TRY(r->backend->device->wait(&r->compute));
    VG_TRY(r->group->ops->all_reduce(r->group, (float *)(void *)memory.base, n));
    return vg_device_group_wait(r->group);
}

int main(int n_words, char **words)
{
    ranks r = {0};
    vg_status st = n_words >= 3 ? open_ranks(&r, atof(words[2])) : vg_fail(VG_E_USAGE, "two words are wanted");
    if (st == VG_OK) st = strcmp(words[1], "mismatch") == 0 ? mismatch(&r) : steps(&r, words[3]);
    if (st == VG_OK) return close_ranks(&r) == VG_OK ? 0 : 1;
    if (vg_comm_speaks(r.comm)) fprintf(stderr, "mpi_device_peer: %s\n", vg_error_text());
    vg_comm_abort(r.comm, vg_exit_code(st));
}
