#include "trainer/trace.h"

#include <stdlib.h>
#include <string.h>

enum { SPANS_OF_A_STEP = 24 };

static const char *const lanes[VG_LANES] = {
#define NAME(name) #name,
    VG_PHASES_OF(NAME)
#undef NAME
        "saving behind the steps",
    "backward of the last micro-batch", "gradient buckets on their way"};

vg_status vg_trace_open(vg_trace *t, vg_comm *comm, int64_t steps)
{
    *t = (vg_trace){.steps = steps, .capacity = (size_t)steps * SPANS_OF_A_STEP};
    if (!steps) return VG_OK;
    t->spans = vg_new0_array(t->capacity, sizeof *t->spans);
    VG_TRY(vg_comm_agree(
        comm, t->spans ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for a trace of %lld steps", (long long)steps)));
    VG_TRY(vg_comm_barrier(comm));
    t->start_s = vg_now_s();
    return VG_OK;
}

void vg_trace_release(vg_trace *t)
{
    free(t->spans);
    *t = (vg_trace){0};
}

void vg_trace_add(vg_trace *t, int lane, const char *name, double start_s, double end_s)
{
    if (!t->spans || vg_grow(&t->spans, &t->capacity, t->n + 1, sizeof *t->spans) != VG_OK) return;
    t->spans[t->n++] = (vg_trace_span){lane, name, start_s, end_s};
}

void vg_trace_phase(vg_trace *t, vg_phase phase, const char *name)
{
    if (!t->spans) return;
    const double now_s = vg_now_s();
    if (t->now.name) vg_trace_add(t, t->now.lane, t->now.name, t->now.start_s, now_s);
    t->now = (vg_trace_span){.lane = phase, .name = name, .start_s = now_s};
}

bool vg_trace_full(const vg_trace *t, int64_t steps_done)
{
    return t->steps && steps_done >= t->steps;
}

/* ---- writing ---- */

static vg_status add_lanes(vg_text *out, const vg_comm *comm)
{
    const int rank = vg_comm_rank(comm);
    VG_TRY(vg_text_add(out,
                       "{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":\"rank %d on %s\"}},\n",
                       rank, rank, vg_comm_host(comm)));
    for (int i = 0; i < VG_LANES; i++)
        VG_TRY(vg_text_add(
            out, "{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}},\n", rank, i,
            lanes[i]));
    return VG_OK;
}

/* Microseconds since the clocks began. */
static vg_status add_spans(vg_text *out, const vg_trace *t, int rank)
{
    for (size_t i = 0; i < t->n; i++) {
        const vg_trace_span *s = &t->spans[i];
        VG_TRY(vg_text_add(
            out, "{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"name\":\"%s\",\"cat\":\"%s\",\"ts\":%.1f,\"dur\":%.1f},\n",
            rank, s->lane, s->name, lanes[s->lane], 1e6 * (s->start_s - t->start_s), 1e6 * (s->end_s - s->start_s)));
    }
    return VG_OK;
}

static vg_status write_file(const char *path, const char *rows, size_t n)
{
    vg_text file = {0};
    vg_status st = vg_text_add(&file, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    if (st == VG_OK) st = vg_text_add_bytes(&file, rows, n - strlen(",\n"));
    if (st == VG_OK) st = vg_text_add(&file, "\n]}\n");
    if (st == VG_OK) st = vg_file_write_atomic(path, file.data, file.length);
    free(file.data);
    return st;
}

vg_status vg_trace_write(vg_trace *t, vg_comm *comm, const char *path)
{
    vg_text mine = {0};
    char *all = NULL;
    size_t bytes = 0;
    vg_status st = add_lanes(&mine, comm);
    if (st == VG_OK) st = add_spans(&mine, t, vg_comm_rank(comm));
    st = vg_comm_agree(comm, st);
    if (st == VG_OK) st = vg_comm_gather_text(comm, mine.data, mine.length, &all, &bytes);
    if (st == VG_OK && vg_comm_rank(comm) == 0) st = write_file(path, all, bytes);
    free(mine.data);
    free(all);
    vg_trace_release(t);
    return vg_comm_agree(comm, st);
}
