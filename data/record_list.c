#include "data/record_list.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

enum { MAX_LIST_BYTES = 1 << 30, HASH_DIGITS = 16 };

/* ---- reading ---- */

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Sixteen hexadecimal digits and nothing else. */
static bool hash_read(const char *text, uint64_t *out)
{
    if (!text || strlen(text) != HASH_DIGITS || strspn(text, "0123456789abcdef") != HASH_DIGITS) return false;
    *out = strtoull(text, NULL, 16);
    return true;
}

static vg_status line_read(const char *path, long number, const char *text, size_t n, vg_record_list *out)
{
    json_error_t error;
    json_t *line = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    VG_CHECK(line, VG_E_DATA, "%s:%ld: %s", path, number, error.text);
    const json_t *records = json_object_get(line, "records");
    vg_status st = json_is_array(records) ? VG_OK : vg_fail(VG_E_DATA, "%s:%ld: no list \"records\"", path, number);
    for (size_t i = 0; st == VG_OK && i < json_array_size(records); i++) {
        uint64_t record = 0;
        if (!hash_read(json_string_value(json_array_get(records, i)), &record))
            st = vg_fail(VG_E_DATA, "%s:%ld: records[%zu] is not a hash of %d digits 0-9a-f", path, number, i,
                         HASH_DIGITS);
        if (st == VG_OK) st = vg_grow(&out->records, &out->capacity, out->n + 1, sizeof *out->records);
        if (st == VG_OK) out->records[out->n++] = record;
    }
    json_decref(line);
    return st;
}

vg_status vg_record_list_read(const char *path, vg_record_list *out)
{
    char *text = NULL;
    size_t size = 0;
    *out = (vg_record_list){0};
    VG_TRY(vg_file_read(path, MAX_LIST_BYTES, &text, &size));
    vg_status st = VG_OK;
    long number = 0;
    for (const char *at = text, *end = text + size; at < end && st == VG_OK;) {
        const char *feed = memchr(at, '\n', (size_t)(end - at)), *stop = feed ? feed : end;
        number++;
        if (stop > at) st = line_read(path, number, at, (size_t)(stop - at), out);
        at = stop + 1;
    }
    free(text);
    if (out->n) qsort(out->records, out->n, sizeof *out->records, by_value);
    return st;
}

void vg_record_list_release(vg_record_list *list)
{
    free(list->records);
    *list = (vg_record_list){0};
}

bool vg_record_list_has(const vg_record_list *list, uint64_t record)
{
    return list && list->n && bsearch(&record, list->records, list->n, sizeof record, by_value);
}

vg_status vg_record_list_check_met(const vg_record_list *list, int64_t n_met)
{
    VG_CHECK(
        !list || list->n == 0 || n_met > 0, VG_E_DATA,
        "none of the %zu listed records is in the shards: the list is of others, or of these before `repack`, which "
        "makes new records; leave out first, or make the list again",
        list->n);
    return VG_OK;
}

/* ---- writing ---- */

vg_status vg_record_line_add(vg_record_line *line, uint64_t record)
{
    VG_TRY(vg_grow(&line->records, &line->capacity, line->n_records + 1, sizeof *line->records));
    line->records[line->n_records++] = record;
    return VG_OK;
}

vg_status vg_record_line_text(const vg_record_line *line, vg_text *out)
{
    json_t *records = json_array();
    for (size_t i = 0; i < line->n_records; i++)
        json_array_append_new(records, json_sprintf("%016llx", (unsigned long long)line->records[i]));
    json_t *object = json_pack("{s:o, s:I, s:s, s:s, s:s}", "records", records, "image_id", (json_int_t)line->image_id,
                               "file_name", line->file_name, "shard", line->shard, "reason", line->reason);
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    VG_CHECK(text, VG_E_NOMEM, "no memory for a line of a list of records");
    const vg_status st = vg_text_add(out, "%s\n", text);
    free(text);
    return st;
}

void vg_record_line_release(vg_record_line *line)
{
    free(line->records);
    *line = (vg_record_line){0};
}
