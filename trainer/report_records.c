/* What a run told, read back for its report. */
#include "trainer/report_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

static vg_status add_point(vg_curve *c, double step, double value)
{
    size_t capacity = c->capacity;
    VG_TRY(vg_grow(&c->steps, &capacity, c->n + 1, sizeof *c->steps));
    VG_TRY(vg_grow(&c->values, &c->capacity, c->n + 1, sizeof *c->values));
    c->steps[c->n] = step;
    c->values[c->n++] = value;
    return VG_OK;
}

static vg_status add_record(vg_run_records *r, const json_t *record)
{
    const double step = json_number_value(json_object_get(record, "step"));
    for (int i = 0; i < VG_METRICS; i++) {
        const json_t *value = json_object_get(record, r->curves[i].key);
        if (json_is_number(value)) VG_TRY(add_point(&r->curves[i], step, json_number_value(value)));
    }
    return VG_OK;
}

static vg_status read_lines(vg_run_records *r, char *data)
{
    char *rest = NULL;
    for (char *line = strtok_r(data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *record = json_loads(line, 0, NULL);
        const bool whole = json_is_object(record) && json_is_integer(json_object_get(record, "step"));
        const vg_status st = whole ? add_record(r, record) : VG_OK;
        r->unread += !whole;
        json_decref(record);
        VG_TRY(st);
    }
    return VG_OK;
}

vg_status vg_run_records_read(const char *run, vg_run_records *out)
{
    enum { MAX_BYTES = 1 << 30 };
    char path[4096], *data = NULL;
    vg_run_records r = {0};
    for (int i = 0; i < VG_METRICS; i++) r.curves[i].key = vg_metric_key((vg_metric)i);
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    vg_status st = vg_file_read(path, MAX_BYTES, &data, NULL);
    if (st == VG_OK) st = read_lines(&r, data);
    free(data);
    if (st == VG_OK)
        *out = r;
    else
        vg_run_records_release(&r);
    return st;
}

void vg_run_records_release(vg_run_records *r)
{
    for (int i = 0; i < VG_METRICS; i++) {
        free(r->curves[i].steps);
        free(r->curves[i].values);
    }
    *r = (vg_run_records){0};
}
