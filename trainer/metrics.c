#include "trainer/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

struct vg_metrics {
    FILE *records, *log;
    bool terminal, bar_shown;
};

/* ---- opening ---- */

static int64_t step_of(const char *line, size_t n)
{
    json_t *record = json_loadb(line, n, 0, NULL);
    const json_int_t step = json_integer_value(json_object_get(record, "step"));
    const bool whole = record != NULL;
    json_decref(record);
    return whole ? (int64_t)step : INT64_MAX; /* a line that was cut off is dropped too */
}

/* Keeps the lines up to and including `step`. */
static vg_status drop_later(const char *path, int64_t step)
{
    enum { MAX_BYTES = 1 << 30 };
    char *data = NULL;
    size_t n = 0;
    if (access(path, F_OK) != 0) return VG_OK;
    VG_TRY(vg_file_read(path, MAX_BYTES, &data, &n));
    vg_text kept = {0};
    vg_status st = vg_text_add(&kept, "%s", "");
    for (char *line = data; st == VG_OK && line < data + n;) {
        char *end = memchr(line, '\n', (size_t)(data + n - line));
        const size_t length = end ? (size_t)(end - line) + 1 : (size_t)(data + n - line);
        if (end && step_of(line, length) <= step) st = vg_text_add_bytes(&kept, line, length);
        line += length;
    }
    if (st == VG_OK) st = vg_file_write_atomic(path, kept.data, kept.length);
    free(kept.data);
    free(data);
    return st;
}

static vg_status open_append(const char *path, FILE **out)
{
    *out = fopen(path, "a");
    VG_CHECK(*out, VG_E_STORAGE, "%s: %s; check run.folder", path, strerror(errno));
    return VG_OK;
}

static vg_status open_files(vg_metrics *m, const char *folder, int64_t step)
{
    char path[4096];
    VG_TRY(vg_make_directories(folder));
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    VG_TRY(drop_later(path, step));
    VG_TRY(open_append(path, &m->records));
    snprintf(path, sizeof path, "%s/log.txt", folder);
    return open_append(path, &m->log);
}

vg_status vg_metrics_open(const char *folder, int64_t step, vg_metrics **out)
{
    vg_metrics *m = vg_new0(sizeof *m);
    VG_CHECK(m, VG_E_NOMEM, "no memory for metrics");
    m->terminal = isatty(STDERR_FILENO) == 1;
    const vg_status st = open_files(m, folder, step);
    if (st != VG_OK) {
        vg_metrics_close(m);
        return st;
    }
    *out = m;
    return VG_OK;
}

static void clear_bar(vg_metrics *m)
{
    if (m->bar_shown) fputs("\r\033[K", stderr);
    m->bar_shown = false;
}

void vg_metrics_close(vg_metrics *m)
{
    if (!m) return;
    clear_bar(m);
    if (m->records) fclose(m->records);
    if (m->log) fclose(m->log);
    free(m);
}

/* ---- people ---- */

static void duration_text(double seconds, char text[32])
{
    const long s = seconds > 0 && seconds < 1e9 ? lround(seconds) : 0;
    if (s >= 3600)
        snprintf(text, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, 32, "%ld:%02ld", s / 60, s % 60);
}

void vg_metrics_say(vg_metrics *m, const char *format, ...)
{
    if (!m) return;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    clear_bar(m);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    vfprintf(m->log, format, again);
    fputc('\n', m->log);
    fflush(m->log);
    va_end(again);
    va_end(args);
}

void vg_metrics_note(vg_metrics *m, const char *sentence)
{
    if (!m) return;
    clear_bar(m);
    fprintf(m->log, "%s\n", sentence);
    fflush(m->log);
}

void vg_metrics_progress(vg_metrics *m, const vg_step_record *r)
{
    enum { WIDTH = 24 };
    if (!m || !m->terminal) return;
    const int full = r->steps ? (int)(WIDTH * r->step / r->steps) : 0;
    char bar[WIDTH + 1], eta[32];
    for (int i = 0; i < WIDTH; i++) bar[i] = i < full ? '#' : '.';
    bar[WIDTH] = '\0';
    duration_text(r->eta_s, eta);
    fprintf(stderr, "\r\033[K[%s] %s %lld/%lld  loss %.3f  left %s", bar, r->stage, (long long)r->step,
            (long long)r->steps, r->loss, eta);
    m->bar_shown = true;
}

static void say_step(vg_metrics *m, const vg_step_record *r)
{
    char eta[32];
    duration_text(r->eta_s, eta);
    vg_metrics_say(
        m,
        "step %lld/%lld  %s  loss %.4f  giou %.3f  norm %.3g  lr %.2e  %.0f phrases/s  %.0f GF/s  wait %.1f ms"
        "  left %s",
        (long long)r->step, (long long)r->steps, r->stage, r->loss, r->giou, r->grad_norm, r->lr, r->phrases_per_s,
        r->gflops_per_s, r->wait_ms, eta);
}

/* ---- programs ---- */

static void write_record(vg_metrics *m, json_t *record)
{
    json_dumpf(record, m->records, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    fputc('\n', m->records);
    fflush(m->records);
    json_decref(record);
}

/* JSON has no word for what is not finite. */
static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

void vg_metrics_step(vg_metrics *m, const vg_step_record *r)
{
    if (!m) return;
    json_t *ranks = json_array();
    for (int i = 0; i < r->n_ranks; i++) json_array_append_new(ranks, json_integer(r->rank_phrases[i]));
    write_record(m, json_pack("{s:I, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:I}",
                              "step", (json_int_t)r->step, "stage", r->stage, "loss", number(r->loss), "loss_class",
                              number(r->loss_class), "loss_l1", number(r->loss_l1), "loss_giou", number(r->loss_giou),
                              "loss_align", number(r->loss_align), "giou", number(r->giou), "grad_norm",
                              number(r->grad_norm), "lr", number(r->lr), "phrases", (json_int_t)r->phrases,
                              "rank_phrases", ranks, "phrases_per_s", number(r->phrases_per_s), "gflops_per_s",
                              number(r->gflops_per_s), "step_ms", number(r->step_ms), "wait_ms", number(r->wait_ms),
                              "skipped", (json_int_t)r->skipped));
    say_step(m, r);
}

void vg_metrics_number(vg_metrics *m, int64_t step, const char *key, double value)
{
    if (m) write_record(m, json_pack("{s:I, s:o}", "step", (json_int_t)step, key, number(value)));
}

void vg_metrics_text(vg_metrics *m, int64_t step, const char *key, const char *value)
{
    if (m) write_record(m, json_pack("{s:I, s:s}", "step", (json_int_t)step, key, value));
}
