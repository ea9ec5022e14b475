/* YAML events to flat assignments. The tree is shallow by design, so the reader is: section, key, value. */
#include "trainer/options_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

enum { MAX_ITEMS = 4096 };

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    const char *name; /* of the file, for messages */
    vg_assignments *all;
} reader;

static int line_of(const reader *r)
{
    return (int)r->event.start_mark.line + 1;
}

static vg_status next(reader *r)
{
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = yaml_parser_parse(&r->parser, &r->event) != 0;
    VG_CHECK(r->has_event, VG_E_CONFIG, "%s:%d: not YAML: %s", r->name, (int)r->parser.problem_mark.line + 1,
             r->parser.problem ? r->parser.problem : "unreadable");
    const bool anchored = (r->event.type == YAML_SCALAR_EVENT && r->event.data.scalar.anchor) ||
                          (r->event.type == YAML_SEQUENCE_START_EVENT && r->event.data.sequence_start.anchor) ||
                          (r->event.type == YAML_MAPPING_START_EVENT && r->event.data.mapping_start.anchor);
    VG_CHECK(r->event.type != YAML_ALIAS_EVENT && !anchored, VG_E_CONFIG,
             "%s:%d: anchors and aliases are not read here; write the value out", r->name, line_of(r));
    return VG_OK;
}

static vg_status want(reader *r, yaml_event_type_t type, const char *what)
{
    VG_CHECK(r->event.type == type, VG_E_CONFIG, "%s:%d: %s is expected here", r->name, line_of(r), what);
    return VG_OK;
}

/* The current scalar as a string without NULs inside. */
static vg_status scalar(reader *r, const char *what, const char **text, size_t *n)
{
    VG_TRY(want(r, YAML_SCALAR_EVENT, what));
    *text = (const char *)r->event.data.scalar.value;
    *n = r->event.data.scalar.length;
    VG_CHECK(strlen(*text) == *n, VG_E_CONFIG, "%s:%d: a NUL byte inside %s", r->name, line_of(r), what);
    return VG_OK;
}

/* prefix.key, where key is the current scalar. */
static vg_status key_under(reader *r, const char *prefix, char key[VG_KEY_BYTES])
{
    const char *text = NULL;
    size_t n = 0;
    VG_TRY(scalar(r, "a key", &text, &n));
    const int length = snprintf(key, VG_KEY_BYTES, "%s%s%s", prefix, *prefix ? "." : "", text);
    VG_CHECK(length > 0 && length < VG_KEY_BYTES, VG_E_CONFIG, "%s:%d: the key is too long", r->name, line_of(r));
    return VG_OK;
}

static vg_status read_item(reader *r, const char *pattern, vg_option_list *value)
{
    const char *text = NULL;
    size_t n = 0;
    VG_TRY(scalar(r, "a plain value", &text, &n));
    VG_CHECK(value->n < MAX_ITEMS, VG_E_CONFIG, "%s:%d: more than %d items", r->name, line_of(r), MAX_ITEMS);
    if (!pattern) return vg_list_add(value, text, n);
    vg_text item = {0};
    vg_status st = vg_text_add(&item, "%s=%s", pattern, text);
    if (st == VG_OK) st = vg_list_add(value, item.data, item.length);
    free(item.data);
    return st;
}

/* The value of `key`: a scalar, a sequence of scalars, or a mapping of scalars. */
static vg_status read_value(reader *r, const char *key)
{
    vg_assignment *a = NULL;
    VG_TRY(vg_assignment_add(r->all, key, line_of(r), &a));
    if (r->event.type == YAML_SEQUENCE_START_EVENT) {
        VG_TRY(next(r));
        while (r->event.type != YAML_SEQUENCE_END_EVENT) {
            VG_TRY(read_item(r, NULL, &a->value));
            VG_TRY(next(r));
        }
        return VG_OK;
    }
    if (r->event.type == YAML_MAPPING_START_EVENT) {
        VG_TRY(next(r));
        while (r->event.type != YAML_MAPPING_END_EVENT) {
            char pattern[VG_KEY_BYTES];
            VG_TRY(key_under(r, "", pattern));
            VG_TRY(next(r));
            VG_TRY(read_item(r, pattern, &a->value));
            VG_TRY(next(r));
        }
        return VG_OK;
    }
    return read_item(r, NULL, &a->value);
}

/* The keys of a section or a stage; the mapping has begun. */
static vg_status read_keys(reader *r, const char *prefix)
{
    VG_TRY(want(r, YAML_MAPPING_START_EVENT, "a mapping"));
    VG_TRY(next(r));
    while (r->event.type != YAML_MAPPING_END_EVENT) {
        char key[VG_KEY_BYTES];
        VG_TRY(key_under(r, prefix, key));
        VG_TRY(next(r));
        VG_TRY(read_value(r, key));
        VG_TRY(next(r));
    }
    return VG_OK;
}

static vg_status read_schedule(reader *r)
{
    VG_TRY(want(r, YAML_SEQUENCE_START_EVENT, "a list of stages"));
    int i = 0;
    VG_TRY(next(r));
    for (; r->event.type != YAML_SEQUENCE_END_EVENT; i++) {
        VG_CHECK(i < VG_MAX_STAGES, VG_E_CONFIG, "%s:%d: more than %d stages", r->name, line_of(r), VG_MAX_STAGES);
        char prefix[32];
        snprintf(prefix, sizeof prefix, "schedule.%d", i);
        VG_TRY(read_keys(r, prefix));
        VG_TRY(next(r));
    }
    return VG_OK;
}

static vg_status read_document(reader *r)
{
    do VG_TRY(next(r));
    while (r->event.type == YAML_STREAM_START_EVENT || r->event.type == YAML_DOCUMENT_START_EVENT);
    if (r->event.type == YAML_STREAM_END_EVENT) return VG_OK; /* an empty file is the defaults */
    VG_TRY(want(r, YAML_MAPPING_START_EVENT, "a mapping of sections"));
    VG_TRY(next(r));
    while (r->event.type != YAML_MAPPING_END_EVENT) {
        char section[VG_KEY_BYTES];
        VG_TRY(key_under(r, "", section));
        VG_TRY(next(r));
        VG_TRY(strcmp(section, "schedule") == 0 ? read_schedule(r) : read_keys(r, section));
        VG_TRY(next(r));
    }
    VG_TRY(next(r));
    VG_TRY(want(r, YAML_DOCUMENT_END_EVENT, "the end of the file"));
    VG_TRY(next(r));
    return want(r, YAML_STREAM_END_EVENT, "the end of the file");
}

vg_status vg_assignments_read_yaml(vg_assignments *all, const char *text, size_t n, const char *name)
{
    reader r = {.name = name, .all = all};
    VG_CHECK(yaml_parser_initialize(&r.parser), VG_E_NOMEM, "%s: no memory for a YAML reader", name);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    const vg_status st = read_document(&r);
    if (r.has_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return st;
}
