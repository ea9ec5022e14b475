#include "data/import/entity_boxes_impl.h"

#include "data/shard_writer.h"
#include "data/steady_read_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <expat.h>

enum { MAX_FILE_BYTES = 1 << 24, MAX_NAMES = 32, TEXT_BYTES = 32 };

#define MAX_NUMBER 1e15 /* a double that is exact as a whole number */

static const char *const box_words[] = {"xmin", "ymin", "xmax", "ymax"};

typedef struct reading {
    XML_Parser parser;
    vg_entity_boxes *out;
    vg_status status;
    char text[TEXT_BYTES]; /* between the tags that were met last */
    size_t n_text;
    /* The object at hand. */
    int64_t names[MAX_NAMES];
    size_t n_names, n_numbers;
    double box[4];
    bool is_bad; /* a number that is none */
} reading;

static double number_of(reading *r)
{
    char *end = NULL;
    r->text[r->n_text] = '\0';
    const double value = strtod(r->text, &end);
    if (end == r->text || *end || !isfinite(value) || fabs(value) > MAX_NUMBER) r->is_bad = true;
    return r->is_bad ? 0 : value;
}

static void box_put(reading *r)
{
    if (r->n_numbers != 4) r->is_bad = true;
    for (size_t i = 0; i < r->n_names && !r->is_bad && r->status == VG_OK; i++) {
        r->status = vg_grow(&r->out->row, &r->out->capacity, r->out->n + 1, sizeof *r->out->row);
        if (r->status != VG_OK) return;
        vg_entity_box *row = &r->out->row[r->out->n++];
        row->entity = r->names[i];
        for (int k = 0; k < 4; k++) row->xyxy[k] = r->box[k] - 1;
    }
    r->n_numbers = 0;
}

static void on_start(void *user, const char *name, const char **attributes)
{
    (void)attributes;
    reading *r = user;
    r->n_text = 0;
    if (strcmp(name, "object") == 0) r->n_names = r->n_numbers = 0;
}

static void on_text(void *user, const char *text, int n)
{
    reading *r = user;
    for (int i = 0; i < n; i++) {
        if (r->n_text + 1 == TEXT_BYTES) return; /* no number is that long */
        r->text[r->n_text++] = text[i];
    }
}

static void on_end(void *user, const char *name)
{
    reading *r = user;
    if (strcmp(name, "width") == 0) r->out->width = (int)fmin(number_of(r), VG_SHARD_MAX_SIDE + 1);
    if (strcmp(name, "height") == 0) r->out->height = (int)fmin(number_of(r), VG_SHARD_MAX_SIDE + 1);
    if (strcmp(name, "name") == 0 && r->n_names < MAX_NAMES) r->names[r->n_names++] = (int64_t)number_of(r);
    for (size_t i = 0; i < 4; i++)
        if (strcmp(name, box_words[i]) == 0) {
            r->box[i] = number_of(r);
            r->n_numbers++;
        }
    if (strcmp(name, "bndbox") == 0) box_put(r);
    r->n_text = 0;
    if (r->is_bad || r->status != VG_OK) XML_StopParser(r->parser, XML_FALSE);
}

static vg_status parse(const char *path, const char *bytes, size_t n, reading *r)
{
    XML_SetUserData(r->parser, r);
    XML_SetElementHandler(r->parser, on_start, on_end);
    XML_SetCharacterDataHandler(r->parser, on_text);
    const enum XML_Status parsed = XML_Parse(r->parser, bytes, (int)n, XML_TRUE);
    VG_TRY(r->status);
    const unsigned long line = XML_GetCurrentLineNumber(r->parser);
    VG_CHECK(!r->is_bad, VG_E_DATA, "%s: line %lu: a box is not four numbers, or a name or size is none", path, line);
    VG_CHECK(parsed == XML_STATUS_OK, VG_E_DATA, "%s: line %lu: %s", path, line,
             XML_ErrorString(XML_GetErrorCode(r->parser)));
    const vg_entity_boxes *b = r->out;
    VG_CHECK(b->width > 0 && b->width <= VG_SHARD_MAX_SIDE && b->height > 0 && b->height <= VG_SHARD_MAX_SIDE,
             VG_E_DATA, "%s: no width and height of the image", path);
    return VG_OK;
}

vg_status vg_entity_boxes_read(const char *path, vg_entity_boxes *out)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    out->width = out->height = 0;
    out->n = 0;
    VG_TRY(vg_steady_read_file(path, MAX_FILE_BYTES, &bytes, &n));
    reading r = {.parser = XML_ParserCreate(NULL), .out = out};
    const vg_status st =
        r.parser ? parse(path, (const char *)bytes, n, &r) : vg_fail(VG_E_NOMEM, "%s: no memory to read it", path);
    if (r.parser) XML_ParserFree(r.parser);
    free(bytes);
    return st;
}

void vg_entity_boxes_release(vg_entity_boxes *boxes)
{
    free(boxes->row);
    *boxes = (vg_entity_boxes){0};
}
