#include "trainer/pace.h"

#include <stdlib.h>
#include <string.h>

enum { FEWEST_STEPS = 5 };
static const double too_slow = 3, nearly_all = 0.8;

vg_status vg_pace_init(vg_pace *pace, int n_ranks)
{
    const size_t n = (size_t)n_ranks;
    *pace = (vg_pace){.n_ranks = n_ranks, .told = -1};
    pace->now = vg_new0_array(n, sizeof *pace->now);
    pace->sum = vg_new0_array(n, sizeof *pace->sum);
    pace->late = vg_new0_array(n, sizeof *pace->late);
    pace->in_order = vg_new0_array(n, sizeof *pace->in_order);
    pace->hosts = vg_new0_array(n, sizeof *pace->hosts);
    const bool all = pace->now && pace->sum && pace->late && pace->in_order && pace->hosts;
    VG_CHECK(all, VG_E_NOMEM, "no memory for the times of %d ranks", n_ranks);
    return VG_OK;
}

void vg_pace_release(vg_pace *pace)
{
    free(pace->now);
    free(pace->sum);
    free(pace->late);
    free(pace->in_order);
    free(pace->hosts);
    *pace = (vg_pace){0};
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The lower one where there are two. */
static double median(const vg_pace *pace)
{
    memcpy(pace->in_order, pace->now, (size_t)pace->n_ranks * sizeof *pace->now);
    qsort(pace->in_order, (size_t)pace->n_ranks, sizeof *pace->in_order, ascending);
    return pace->in_order[(pace->n_ranks - 1) / 2];
}

static void end_step(vg_pace *pace)
{
    const double usual = median(pace);
    for (int i = 0; i < pace->n_ranks; i++) {
        pace->sum[i] += pace->now[i];
        pace->late[i] += pace->now[i] > too_slow * usual;
    }
    pace->usual_sum += usual;
    pace->steps++;
}

void vg_pace_add(vg_pace *pace, int rank, int64_t busy_us, int micro_batches)
{
    pace->now[rank] = micro_batches ? 1e-3 * (double)busy_us / micro_batches : 0;
    if (rank == pace->n_ranks - 1) end_step(pace);
}

static void begin_anew(vg_pace *pace)
{
    pace->steps = 0;
    pace->usual_sum = 0;
    memset(pace->sum, 0, (size_t)pace->n_ranks * sizeof *pace->sum);
    memset(pace->late, 0, (size_t)pace->n_ranks * sizeof *pace->late);
}

bool vg_pace_slowest(vg_pace *pace, vg_slow_rank *out)
{
    if (pace->steps < FEWEST_STEPS) return false;
    int slowest = 0;
    for (int i = 1; i < pace->n_ranks; i++)
        if (pace->late[i] > pace->late[slowest]) slowest = i;
    const bool slow = pace->late[slowest] >= nearly_all * pace->steps;
    const bool news = slow && slowest != pace->told;
    *out =
        (vg_slow_rank){slowest, pace->hosts[slowest], pace->sum[slowest] / pace->steps, pace->usual_sum / pace->steps};
    pace->told = slow ? slowest : -1;
    begin_anew(pace);
    return news;
}
