#include "trainer/metrics.h"

#include "trainer/event_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

static const struct {
    const char *key, *prometheus;
    double factor;
    const char *help;
} rows[VG_METRICS] = {
#define VG_METRIC(key, prometheus, factor, help) {#key, prometheus, factor, help},
#include "trainer/metrics.def"
#undef VG_METRIC
};

const char *vg_metric_key(vg_metric metric)
{
    return rows[metric].key;
}

const char *vg_metric_help(vg_metric metric)
{
    return rows[metric].help;
}

struct vg_metrics {
    int records, log; /* open for appending; -1: not yet */
    vg_event_file *events;
    char *prometheus, *run;    /* path of metrics.prom; name of the run there */
    double values[VG_METRICS]; /* as told last; NaN: not yet */
    int64_t step, steps;
    bool terminal, bar_shown;
    bool unseen; /* metrics.prom could not be written the last time */
    bool torn;   /* of the log or the records something is missing */
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
    if (!vg_file_there(path)) return VG_OK;
    vg_text kept = {0};
    vg_status st = vg_file_read(path, MAX_BYTES, &data, &n);
    if (st == VG_E_DATA) st = VG_E_STORAGE; /* what we wrote ourselves */
    if (st == VG_OK) st = vg_text_add(&kept, "%s", "");
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

static vg_status open_append(const char *path, int *out)
{
    *out = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    VG_CHECK(*out >= 0, VG_E_STORAGE, "%s: %s; check run.folder", path, strerror(errno));
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
    VG_TRY(open_append(path, &m->log));
    snprintf(path, sizeof path, "%s/tensorboard", folder);
    VG_TRY(vg_event_file_open(path, step, &m->events));
    snprintf(path, sizeof path, "%s/metrics.prom", folder);
    m->prometheus = vg_copy_string(path);
    m->run = vg_copy_string(folder);
    VG_CHECK(m->prometheus && m->run, VG_E_NOMEM, "%s: no memory for metrics", folder);
    return VG_OK;
}

vg_status vg_metrics_open(const char *folder, int64_t step, vg_metrics **out)
{
    vg_metrics *m = vg_new0(sizeof *m);
    VG_CHECK(m, VG_E_NOMEM, "no memory for metrics");
    m->records = m->log = -1;
    m->terminal = isatty(STDERR_FILENO) == 1;
    for (int i = 0; i < VG_METRICS; i++) m->values[i] = NAN;
    const vg_status st = open_files(m, folder, step);
    if (st != VG_OK) {
        vg_metrics_close(m);
        return st;
    }
    *out = m;
    return VG_OK;
}

/* A whole line or nothing of it, whenever somebody reads and wherever the disk is full; errno says why nothing. No
 * sentence: it would stand where the one that ends the run does. */
static bool write_line(int file, const char *line, size_t n)
{
    const off_t end = lseek(file, 0, SEEK_END);
    if (vg_write_most(file, line, n) == n) return true;
    const int why = errno;
    (void)!ftruncate(file, end);
    errno = why;
    return false;
}

/* A gap is told once. */
static void add_line(vg_metrics *m, int file, const char *name, const char *text)
{
    vg_text line = {0};
    const bool written = vg_text_add(&line, "%s\n", text) == VG_OK && write_line(file, line.data, line.length);
    if (!written && !m->torn)
        vg_log_root("warning: %s/%s: %s; lines may be missing there", m->run, name, strerror(errno));
    m->torn |= !written;
    free(line.data);
}

static void clear_bar(vg_metrics *m)
{
    if (m->bar_shown) fputs("\r\033[K", stderr);
    m->bar_shown = false;
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
    vg_text text = {0};
    va_list args;
    va_start(args, format);
    const vg_status st = vg_text_add_list(&text, format, args);
    va_end(args);
    if (st == VG_OK) {
        clear_bar(m);
        fprintf(stderr, "%s\n", text.data);
        add_line(m, m->log, "log.txt", text.data);
    }
    free(text.data);
}

void vg_metrics_note(vg_metrics *m, const char *sentence)
{
    if (!m) return;
    clear_bar(m);
    add_line(m, m->log, "log.txt", sentence);
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
    char *text = json_dumps(record, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    if (text) add_line(m, m->records, "metrics.jsonl", text);
    free(text);
    json_decref(record);
}

/* JSON has no word for what is not finite. */
static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

/* Into the record, and for those who watch. */
static void put_number(vg_metrics *m, json_t *record, int64_t step, vg_metric metric, double value)
{
    json_object_set_new(record, rows[metric].key, number(value));
    m->values[metric] = value;
    vg_event_file_scalar(m->events, step, rows[metric].key, value);
}

static json_t *start_record(int64_t step)
{
    return json_pack("{s:I}", "step", (json_int_t)step);
}

/* A label's value between its quotes. */
static vg_status add_label(vg_text *out, const char *text)
{
    for (; *text; text++)
        VG_TRY(vg_text_add(out, *text == '\n' ? "\\n" : *text == '"' || *text == '\\' ? "\\%c" : "%c", *text));
    return VG_OK;
}

static vg_status add_gauge(vg_text *out, const char *run, const char *name, const char *help, double value)
{
    VG_TRY(vg_text_add(out, "# HELP vlgtr_%s %s\n# TYPE vlgtr_%s gauge\nvlgtr_%s{run=\"", name, help, name, name));
    VG_TRY(add_label(out, run));
    return vg_text_add(out, "\"} %.10g\n", value);
}

/* The newest of every number, for node_exporter's collector of text files, which reads at any moment. */
static vg_status write_prometheus(const vg_metrics *m)
{
    vg_text text = {0};
    vg_status st = add_gauge(&text, m->run, "step", "optimizer steps done", (double)m->step);
    if (st == VG_OK) st = add_gauge(&text, m->run, "schedule_steps", "steps of the whole schedule", (double)m->steps);
    for (int i = 0; i < VG_METRICS && st == VG_OK; i++)
        if (!isnan(m->values[i]))
            st = add_gauge(&text, m->run, rows[i].prometheus, rows[i].help, m->values[i] * rows[i].factor);
    if (st == VG_OK) st = vg_file_write_atomic(m->prometheus, text.data, text.length);
    free(text.data);
    return st;
}

static void show(vg_metrics *m)
{
    vg_event_file_flush(m->events);
    const bool written = write_prometheus(m) == VG_OK;
    if (!written && !m->unseen) vg_log_root("warning: %s; whoever watches sees older numbers", vg_error_text());
    m->unseen = !written;
}

void vg_metrics_step(vg_metrics *m, const vg_step_record *r)
{
    if (!m) return;
    json_t *record = start_record(r->step), *ranks = json_array();
    const struct {
        vg_metric metric;
        double value;
    } numbers[] = {{VG_METRIC_loss, r->loss},
                   {VG_METRIC_loss_class, r->loss_class},
                   {VG_METRIC_loss_l1, r->loss_l1},
                   {VG_METRIC_loss_giou, r->loss_giou},
                   {VG_METRIC_loss_align, r->loss_align},
                   {VG_METRIC_giou, r->giou},
                   {VG_METRIC_grad_norm, r->grad_norm},
                   {VG_METRIC_lr, r->lr},
                   {VG_METRIC_phrases_per_s, r->phrases_per_s},
                   {VG_METRIC_step_ms, r->step_ms},
                   {VG_METRIC_gflops_per_s, r->gflops_per_s},
                   {VG_METRIC_wait_ms, r->wait_ms},
                   {VG_METRIC_eta_s, r->eta_s},
                   {VG_METRIC_skipped, (double)r->skipped},
                   {VG_METRIC_bad_samples, (double)r->bad_samples}};
    json_object_set_new(record, "stage", json_string(r->stage));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        put_number(m, record, r->step, numbers[i].metric, numbers[i].value);
    for (int i = 0; i < r->n_ranks; i++) json_array_append_new(ranks, json_integer(r->rank_phrases[i]));
    json_object_set_new(record, "phrases", json_integer((json_int_t)r->phrases));
    json_object_set_new(record, "rank_phrases", ranks);
    write_record(m, record);
    m->step = r->step;
    m->steps = r->steps;
    show(m);
    say_step(m, r);
}

void vg_metrics_number(vg_metrics *m, int64_t step, vg_metric metric, double value)
{
    if (!m) return;
    json_t *record = start_record(step);
    put_number(m, record, step, metric, value);
    write_record(m, record);
}

void vg_metrics_text(vg_metrics *m, int64_t step, const char *key, const char *value)
{
    if (m) write_record(m, json_pack("{s:I, s:s}", "step", (json_int_t)step, key, value));
}

/* ---- the end ---- */

void vg_metrics_disown(vg_metrics *m)
{
    if (m) m->steps = 0;
}

void vg_metrics_close(vg_metrics *m)
{
    if (!m) return;
    clear_bar(m);
    if (m->steps) show(m); /* what came after the last step */
    if (m->records >= 0) close(m->records);
    if (m->log >= 0) close(m->log);
    vg_event_file_close(m->events);
    free(m->prometheus);
    free(m->run);
    free(m);
}
