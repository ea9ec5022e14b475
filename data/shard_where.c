#include "data/shard_where_impl.h"

#include "data/utf8.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what can be asked ---- */

/* A sentence and what stands around it. */
typedef struct subject {
    const vg_shard *shard;
    const vg_shard_tables *tables;
    const vg_shard_sentence *sentence;
    const vg_shard_image *image;
} subject;

static const char *text_split(const subject *s)
{
    return s->tables->splits[s->sentence->split];
}

static const char *text_kind(const subject *s)
{
    return s->tables->kinds[s->sentence->kind];
}

static const char *text_source(const subject *s)
{
    return s->shard->origin.source;
}

static const char *text_name(const subject *s)
{
    return s->tables->text + s->image->name_offset;
}

static const char *text_phrase(const subject *s)
{
    return s->tables->text + s->sentence->text_offset;
}

static int64_t whole_words(const subject *s)
{
    return vg_shard_words(text_phrase(s));
}

static int64_t whole_boxes(const subject *s)
{
    return s->sentence->n_boxes;
}

/* Of the smallest box, as a share of the image; 0 without boxes. */
static double number_area(const subject *s)
{
    double least = s->sentence->n_boxes ? 1 : 0;
    for (int b = 0; b < s->sentence->n_boxes; b++)
        least = fmin(least, vg_shard_box_area(s->tables->boxes[s->sentence->first_box + b], s->image));
    return least;
}

static int64_t whole_width(const subject *s)
{
    return s->image->width;
}

static int64_t whole_height(const subject *s)
{
    return s->image->height;
}

static int64_t whole_bytes(const subject *s)
{
    return (int64_t)s->image->length;
}

static int64_t whole_image(const subject *s)
{
    return s->image->image_id;
}

static const struct {
    const char *name;
    const char *(*text)(const subject *s); /* or */
    double (*number)(const subject *s);    /* or */
    int64_t (*whole)(const subject *s);
} fields[] = {
    {"split", .text = text_split},     {"kind", .text = text_kind},     {"source", .text = text_source},
    {"name", .text = text_name},       {"phrase", .text = text_phrase}, {"words", .whole = whole_words},
    {"boxes", .whole = whole_boxes},   {"area", .number = number_area}, {"width", .whole = whole_width},
    {"height", .whole = whole_height}, {"bytes", .whole = whole_bytes}, {"image", .whole = whole_image},
};

enum { N_FIELDS = sizeof fields / sizeof *fields };

/* ---- reading ---- */

typedef struct reader {
    const char *all, *at;
} reader;

static vg_status reader_fail(const reader *r, const char *why)
{
    if (!*r->at) return vg_fail(VG_E_USAGE, "'%s': %s at its end", r->all, why);
    return vg_fail(VG_E_USAGE, "'%s': %s at '%.32s'", r->all, why, r->at);
}

static void skip_space(reader *r)
{
    while (isspace((unsigned char)*r->at)) r->at++;
}

static size_t word_length(const char *text)
{
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || text[n] == '_') n++;
    return n;
}

static vg_status read_field(reader *r, int *field)
{
    const char *names[N_FIELDS];
    char word[32] = "";
    const size_t n = word_length(r->at);
    if (n == 0 || n >= sizeof word) return reader_fail(r, "a name is missing");
    memcpy(word, r->at, n);
    for (int i = 0; i < N_FIELDS; i++) {
        names[i] = fields[i].name;
        if (strcmp(word, names[i]) != 0) continue;
        *field = i;
        r->at += n;
        return VG_OK;
    }
    const char *near = vg_nearest_word(word, names, N_FIELDS);
    if (near) return vg_fail(VG_E_USAGE, "'%s': nothing is called '%s'; did you mean '%s'?", r->all, word, near);
    return vg_fail(VG_E_USAGE, "'%s': nothing is called '%s'; `vlgtr shard filter --help` has the names", r->all, word);
}

static vg_status read_op(reader *r, vg_where_op *op)
{
    static const struct {
        const char *sign;
        vg_where_op op;
    } signs[] = {{"<=", VG_LE}, {">=", VG_GE}, {"!=", VG_NE}, {"=", VG_EQ}, {"<", VG_LT}, {">", VG_GT}};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        const size_t n = strlen(signs[i].sign);
        if (strncmp(r->at, signs[i].sign, n) != 0) continue;
        *op = signs[i].op;
        r->at += n;
        return VG_OK;
    }
    return reader_fail(r, "one of = != < <= > >= is missing");
}

/* Whether the value ends at `at`; a double quote between such quotes stands there twice. */
static bool value_ends(const char *at, bool quoted)
{
    if (!*at) return true;
    return quoted ? at[0] == '"' && at[1] != '"' : isspace((unsigned char)*at);
}

/* Up to white space, or between double quotes. */
static vg_status read_value(reader *r, char value[VG_WHERE_VALUE_BYTES])
{
    const bool quoted = *r->at == '"';
    const char *at = r->at + quoted;
    size_t n = 0;
    if (!quoted && !*at) return reader_fail(r, "a value is missing");
    if (!quoted && strchr("=!<>'", *at))
        return reader_fail(r, "the signs are = != < <= > >=, and a value that begins so stands in double quotes");
    for (; !value_ends(at, quoted); at++) {
        if (n + 1 == VG_WHERE_VALUE_BYTES) return reader_fail(r, "a value is too long");
        value[n++] = *at;
        at += quoted && *at == '"';
    }
    if (quoted && !*at) return reader_fail(r, "a quote is not closed");
    value[n] = '\0';
    r->at = at + quoted;
    return VG_OK;
}

static vg_status read_number(const reader *r, const char *name, const char *value, vg_where_term *out)
{
    char *end = NULL;
    out->number = strtod(value, &end);
    VG_CHECK(*value && !*end && isfinite(out->number), VG_E_USAGE, "'%s': %s is a number, '%s' is none", r->all, name,
             value);
    errno = 0;
    out->whole = strtoll(value, &end, 10);
    out->is_whole = !*end && errno == 0;
    return VG_OK;
}

static vg_status read_term(reader *r, vg_where *out)
{
    if (out->n == VG_WHERE_MOST_TERMS) return reader_fail(r, "too many terms");
    vg_where_term *term = &out->terms[out->n];
    VG_TRY(read_field(r, &term->field));
    const char *name = fields[term->field].name;
    const bool is_text = fields[term->field].text != NULL;
    skip_space(r);
    const char *sign = r->at;
    VG_TRY(read_op(r, &term->op));
    skip_space(r);
    VG_TRY(read_value(r, term->text));
    VG_CHECK(!is_text || term->op == VG_EQ || term->op == VG_NE, VG_E_USAGE,
             "'%s': %s is text, which is compared by = and !=, not at '%.16s'", r->all, name, sign);
    if (!is_text) VG_TRY(read_number(r, name, term->text, term));
    out->n++;
    return VG_OK;
}

vg_status vg_where_read(const char *text, vg_where *out)
{
    reader r = {text, text};
    *out = (vg_where){0};
    VG_CHECK(vg_utf8_valid(text, strlen(text)), VG_E_USAGE, "a condition that is not UTF-8");
    for (;;) {
        skip_space(&r);
        VG_TRY(read_term(&r, out));
        skip_space(&r);
        if (!*r.at) return VG_OK;
        if (word_length(r.at) != 3 || strncmp(r.at, "and", 3) != 0) return reader_fail(&r, "'and' is missing");
        r.at += 3;
    }
}

/* ---- asking ---- */

static bool holds(vg_where_op op, double order)
{
    switch (op) {
    case VG_EQ: return order == 0;
    case VG_NE: return order != 0;
    case VG_LT: return order < 0;
    case VG_LE: return order <= 0;
    case VG_GT: return order > 0;
    case VG_GE: return order >= 0;
    }
    return false;
}

/* Below 0, 0 or above, as the sentence's is less, equal or more than the term's. */
static double order(const subject *s, const vg_where_term *term)
{
    const int f = term->field;
    if (fields[f].text) return strcmp(fields[f].text(s), term->text);
    if (fields[f].number) return fields[f].number(s) - term->number;
    const int64_t whole = fields[f].whole(s);
    return term->is_whole ? (whole > term->whole) - (whole < term->whole) : (double)whole - term->number;
}

bool vg_where_holds(const vg_where *where, const vg_shard *shard, size_t sentence)
{
    const vg_shard_tables *t = &shard->tables;
    const vg_shard_sentence *row = &t->sentences[sentence];
    const subject s = {shard, t, row, &t->images[row->image]};
    for (int i = 0; i < where->n; i++)
        if (!holds(where->terms[i].op, order(&s, &where->terms[i]))) return false;
    return true;
}
