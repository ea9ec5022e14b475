#include "trainer/report_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

enum { MAX_TEXT = 1 << 28 };

static vg_status add_heading(vg_text *page, const char *text)
{
    VG_TRY(vg_text_add(page, "<h2>"));
    VG_TRY(vg_markup_add(page, text));
    return vg_text_add(page, "</h2>\n");
}

static vg_status add_top(vg_text *page, const char *run)
{
    VG_TRY(vg_text_add(page, "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>"));
    VG_TRY(vg_markup_add(page, run));
    VG_TRY(vg_text_add(
        page, "</title><style>\n"
              "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1180px;padding:0 1em;color:#222}\n"
              "svg{width:560px;max-width:100%%;margin:0 8px 8px 0}\n" VG_CHART_STYLE "\n"
              "table{border-collapse:collapse}td,th{padding:2px 14px 2px 0;text-align:right}\n"
              "td:first-child,th:first-child{text-align:left}img{max-width:100%%}\n"
              "pre{background:#f6f6f6;padding:1em;overflow:auto;max-height:40em}\n"
              "</style></head><body>\n<h1>"));
    VG_TRY(vg_markup_add(page, run));
    return vg_text_add(page, "</h1>\n");
}

/* ---- numbers ---- */

/* The newest of every number that the run told. */
static vg_status add_summary(vg_text *page, const vg_run_records *records)
{
    const vg_curve *loss = &records->curves[VG_METRIC_loss];
    VG_TRY(vg_text_add(page, "<table>\n"));
    if (loss->n)
        VG_TRY(vg_text_add(page, "<tr><td>step</td><td>%.0f</td><td>optimizer steps done</td></tr>\n",
                           loss->steps[loss->n - 1]));
    for (int i = 0; i < VG_METRICS; i++) {
        const vg_curve *c = &records->curves[i];
        if (c->n)
            VG_TRY(vg_text_add(page, "<tr><td>%s</td><td>%.5g</td><td>%s</td></tr>\n", c->key, c->values[c->n - 1],
                               vg_metric_help((vg_metric)i)));
    }
    VG_TRY(vg_text_add(page, "</table>\n"));
    return records->unread ? vg_text_add(page, "<p>Lines of metrics.jsonl that could not be read: %lld.</p>\n",
                                         (long long)records->unread)
                           : VG_OK;
}

static vg_status add_charts(vg_text *page, const vg_run_records *records)
{
    static const struct {
        const char *title;
        int n;
        vg_metric metrics[VG_CHART_CURVES];
        bool log;
    } charts[] = {
        {"loss and its parts",
         5,
         {VG_METRIC_loss, VG_METRIC_loss_class, VG_METRIC_loss_l1, VG_METRIC_loss_giou, VG_METRIC_loss_align},
         false},
        {"accuracy at IoU 0.5", 1, {VG_METRIC_acc50}, false},
        {"mean GIoU of matched pairs", 1, {VG_METRIC_giou}, false},
        {"gradient norm before clipping", 1, {VG_METRIC_grad_norm}, true},
        {"learning rate", 1, {VG_METRIC_lr}, false},
        {"milliseconds: step, and of it waiting for data", 2, {VG_METRIC_step_ms, VG_METRIC_wait_ms}, false},
        {"phrases a second", 1, {VG_METRIC_phrases_per_s}, false},
        {"milliseconds that checkpoints made steps wait", 1, {VG_METRIC_save_stall_ms}, false},
    };
    VG_TRY(add_heading(page, "Curves"));
    for (size_t i = 0; i < sizeof charts / sizeof *charts; i++) {
        vg_chart chart = {.title = charts[i].title, .n = charts[i].n, .log_values = charts[i].log};
        for (int k = 0; k < chart.n; k++) chart.curves[k] = &records->curves[charts[i].metrics[k]];
        VG_TRY(vg_chart_add(page, &chart));
    }
    return VG_OK;
}

/* ---- answers ---- */

/* Hits among the answers of one kind; the first counts all. */
typedef struct tally {
    char kind[64];
    int64_t n, hits[3]; /* IoU 0.25, 0.5, 0.75 */
    int64_t unread;     /* the first counts them */
    double iou;
} tally;

enum { MAX_KINDS = 64 };

static void count(tally *t, double iou)
{
    t->n++;
    t->iou += iou;
    t->hits[0] += iou >= 0.25;
    t->hits[1] += iou >= 0.5;
    t->hits[2] += iou >= 0.75;
}

static tally *tally_of(tally *tallies, int *n, const char *kind)
{
    for (int i = 1; i < *n; i++)
        if (strncmp(tallies[i].kind, kind, sizeof tallies[i].kind - 1) == 0) return &tallies[i];
    if (*n == MAX_KINDS) return NULL;
    snprintf(tallies[*n].kind, sizeof tallies[*n].kind, "%s", kind);
    return &tallies[(*n)++];
}

static vg_status count_line(const char *path, int64_t number, const char *line, tally *tallies, int *n)
{
    json_t *answer = json_loads(line, 0, NULL);
    const json_t *iou = json_object_get(answer, "iou");
    const char *kind = json_string_value(json_object_get(answer, "kind"));
    const bool whole = json_is_number(iou);
    if (whole) count(&tallies[0], json_number_value(iou));
    tallies[0].unread += json_is_true(json_object_get(answer, "unread"));
    tally *own = whole && kind && *kind ? tally_of(tallies, n, kind) : NULL;
    if (own) count(own, json_number_value(iou));
    json_decref(answer);
    VG_CHECK(whole, VG_E_DATA, "%s:%lld: not an answer of `vlgtr eval --out`", path, (long long)number);
    return VG_OK;
}

static vg_status count_answers(const char *path, char *data, tally *tallies, int *n)
{
    char *rest = NULL;
    int64_t number = 0;
    *n = 1;
    snprintf(tallies[0].kind, sizeof tallies[0].kind, "all");
    for (char *line = strtok_r(data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        VG_TRY(count_line(path, ++number, line, tallies, n));
    return VG_OK;
}

static vg_status add_tallies(vg_text *page, const tally *tallies, int n)
{
    VG_TRY(vg_text_add(page, "<table><tr><th>phrases</th><th>number</th><th>IoU 0.25</th><th>IoU 0.5</th><th>IoU "
                             "0.75</th><th>mean IoU</th></tr>\n"));
    for (int i = 0; i < n; i++) {
        const tally *t = &tallies[i];
        const double trials = t->n ? (double)t->n : 1;
        VG_TRY(vg_text_add(page, "<tr><td>"));
        VG_TRY(vg_markup_add(page, t->kind));
        VG_TRY(vg_text_add(page, "</td><td>%lld</td><td>%.4f</td><td>%.4f</td><td>%.4f</td><td>%.4f</td></tr>\n",
                           (long long)t->n, (double)t->hits[0] / trials, (double)t->hits[1] / trials,
                           (double)t->hits[2] / trials, t->iou / trials));
    }
    VG_TRY(vg_text_add(page, "</table>\n"));
    if (!tallies[0].unread) return VG_OK;
    return vg_text_add(page, "<p>%lld of the phrases have no answer since their images cannot be read: misses.</p>\n",
                       (long long)tallies[0].unread);
}

static vg_status add_answers(vg_text *page, const char *path)
{
    tally tallies[MAX_KINDS] = {0};
    char *data = NULL;
    int n = 0;
    VG_TRY(vg_file_read(path, MAX_TEXT, &data, NULL));
    vg_status st = count_answers(path, data, tallies, &n);
    free(data);
    if (st == VG_OK) st = add_heading(page, path);
    return st == VG_OK ? add_tallies(page, tallies, n) : st;
}

/* ---- pictures ---- */

static vg_status add_base64(vg_text *page, const unsigned char *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const uint32_t bits =
            (uint32_t)data[i] << 16 | (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) | (left > 2 ? data[i + 2] : 0U);
        const char four[4] = {digits[bits >> 18], digits[bits >> 12 & 63], left > 1 ? digits[bits >> 6 & 63] : '=',
                              left > 2 ? digits[bits & 63] : '='};
        VG_TRY(vg_text_add_bytes(page, four, sizeof four));
    }
    return VG_OK;
}

static vg_status add_gallery(vg_text *page, const char *path)
{
    static const char signature[] = "\x89PNG\r\n\x1a\n";
    char *data = NULL;
    size_t n = 0;
    VG_TRY(vg_file_read(path, MAX_TEXT, &data, &n));
    const bool png = n > 8 && memcmp(data, signature, 8) == 0;
    vg_status st = png ? add_heading(page, path) : vg_fail(VG_E_DATA, "%s: not a PNG of `vlgtr eval --gallery`", path);
    if (st == VG_OK)
        st = vg_text_add(page, "<p>White: the box that was meant; green: a hit; red: a miss.</p><img alt='gallery' "
                               "src='data:image/png;base64,");
    if (st == VG_OK) st = add_base64(page, (const unsigned char *)data, n);
    free(data);
    return st == VG_OK ? vg_text_add(page, "'>\n") : st;
}

/* ---- what was said ---- */

/* Lines of the log that a reader asks for first: beginnings, ends, and what went wrong. */
static bool is_event(const char *line)
{
    static const char *const words[] = {"warning", "WARNING", "resumed from", "stopped at",
                                        "skipped", "fault '", "rank ",        "stage '"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(line, words[i])) return true;
    return false;
}

static vg_status add_events(vg_text *page, const char *run)
{
    char path[4096], *data = NULL, *rest = NULL;
    snprintf(path, sizeof path, "%s/log.txt", run);
    VG_TRY(vg_file_read(path, MAX_TEXT, &data, NULL));
    vg_status st = add_heading(page, "Events");
    if (st == VG_OK) st = vg_text_add(page, "<pre>");
    for (char *line = strtok_r(data, "\n", &rest); line && st == VG_OK; line = strtok_r(NULL, "\n", &rest)) {
        if (*line == ' ' || !is_event(line)) continue;
        st = vg_markup_add(page, line);
        if (st == VG_OK) st = vg_text_add(page, "\n");
    }
    free(data);
    return st == VG_OK ? vg_text_add(page, "</pre>\n") : st;
}

static vg_status add_configuration(vg_text *page, const char *run)
{
    char path[4096], *data = NULL;
    snprintf(path, sizeof path, "%s/config.yaml", run);
    VG_TRY(vg_file_read(path, MAX_TEXT, &data, NULL));
    vg_status st = add_heading(page, "Configuration");
    if (st == VG_OK) st = vg_text_add(page, "<pre>");
    if (st == VG_OK) st = vg_markup_add(page, data);
    free(data);
    return st == VG_OK ? vg_text_add(page, "</pre>\n") : st;
}

/* ---- the page ---- */

static vg_status add_page(vg_text *page, const vg_report_spec *spec, const vg_run_records *records)
{
    VG_TRY(add_top(page, spec->run));
    VG_TRY(add_summary(page, records));
    VG_TRY(add_charts(page, records));
    for (int i = 0; i < spec->n_answers; i++) VG_TRY(add_answers(page, spec->answers[i]));
    for (int i = 0; i < spec->n_galleries; i++) VG_TRY(add_gallery(page, spec->galleries[i]));
    VG_TRY(add_events(page, spec->run));
    VG_TRY(add_configuration(page, spec->run));
    return vg_text_add(page, "</body></html>\n");
}

vg_status vg_report_write(const vg_report_spec *spec, const char *path)
{
    vg_run_records records = {0};
    vg_text page = {0};
    VG_TRY(vg_run_records_read(spec->run, &records));
    vg_status st = add_page(&page, spec, &records);
    if (st == VG_OK) st = vg_file_write_atomic(path, page.data, page.length);
    vg_run_records_release(&records);
    free(page.data);
    return st;
}
