/* The rows of options.def as data, and what goes from words into the field that a row makes. */
#include "trainer/options_impl.h"

#include "data/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const vg_option vg_option_rows[VG_N_OPTIONS] = {
#define VG_OPTION(section, name, type, initial, min, max, choices, reach, help) \
    {#section "." #name,                                                        \
     VG_OPTION_##type,                                                          \
     offsetof(vg_options, section##_##name),                                    \
     initial,                                                                   \
     min,                                                                       \
     max,                                                                       \
     choices,                                                                   \
     VG_REACH_##reach,                                                          \
     help},
#include "trainer/options.def"
#undef VG_OPTION
};

const vg_option vg_stage_rows[VG_N_STAGE_OPTIONS] = {
#define VG_OPTION(...)
#define VG_STAGE_OPTION(name, type, initial, min, max, choices, reach, help) \
    {#name, VG_OPTION_##type, offsetof(vg_stage, name), initial, min, max, choices, VG_REACH_##reach, help},
#include "trainer/options.def"
#undef VG_STAGE_OPTION
#undef VG_OPTION
};

const vg_preset vg_presets[VG_N_PRESETS] = {
#define VG_PRESET(preset, key, value) {preset, key, value},
#include "trainer/presets.def"
#undef VG_PRESET
};

/* ---- lists ---- */

vg_status vg_list_add(vg_option_list *list, const char *text, size_t n)
{
    size_t capacity = (size_t)list->n;
    VG_TRY(vg_grow(&list->items, &capacity, (size_t)list->n + 1, sizeof *list->items));
    char *copy = vg_new0(n + 1);
    VG_CHECK(copy, VG_E_NOMEM, "no memory for the configuration");
    memcpy(copy, text, n);
    list->items[list->n++] = copy;
    return VG_OK;
}

void vg_list_release(vg_option_list *list)
{
    for (int i = 0; i < list->n; i++) free(list->items[i]);
    free(list->items);
    *list = (vg_option_list){0};
}

/* ---- one value ---- */

static bool is_choice(const char *choices, const char *word)
{
    const size_t n = strlen(word);
    for (const char *c = choices; *c;) {
        const size_t length = strcspn(c, "|");
        if (length == n && strncmp(c, word, n) == 0) return true;
        c += length + (c[length] == '|');
    }
    return false;
}

static vg_status read_number(const vg_option *o, const char *text, double *out)
{
    char *end = NULL;
    errno = 0;
    const double x = strtod(text, &end);
    VG_CHECK(*text && !*end && isfinite(x), VG_E_CONFIG, "%s: '%s' is not a number", o->key, text);
    VG_CHECK(x >= o->min && x <= o->max, VG_E_CONFIG, "%s: %s is out of range; it is %g to %g", o->key, text, o->min,
             o->max);
    VG_CHECK(o->type != VG_OPTION_integer || x == floor(x), VG_E_CONFIG, "%s: %s is not a whole number", o->key, text);
    *out = x;
    return VG_OK;
}

static bool is_many(const vg_option *o)
{
    return o->type == VG_OPTION_list || o->type == VG_OPTION_scales || o->type == VG_OPTION_names;
}

/* The word or pattern that a value goes with, of n bytes. */
static vg_status check_word(const vg_option *o, const char *item, ptrdiff_t n)
{
    VG_CHECK(n < VG_KEY_BYTES, VG_E_CONFIG, "%s: '%.32s...' is too long, %d bytes are the most", o->key, item,
             VG_KEY_BYTES - 1);
    return VG_OK;
}

static vg_status check_name(const vg_option *o, const char *item)
{
    const char *equals = strchr(item, '=');
    VG_CHECK(equals && equals > item && equals[1], VG_E_CONFIG, "%s: '%s' is not a name with a value", o->key, item);
    return check_word(o, item, equals - item);
}

/* "pattern=scale" with a scale in range. */
static vg_status check_scale(const vg_option *o, const char *item)
{
    const char *equals = strrchr(item, '=');
    VG_CHECK(equals && equals > item, VG_E_CONFIG, "%s: '%s' is not a pattern with a scale", o->key, item);
    double scale = 0;
    VG_TRY(check_word(o, item, equals - item));
    return read_number(o, equals + 1, &scale);
}

static vg_status set_text(const vg_option *o, char **field, const char *text)
{
    VG_CHECK(!*o->choices || is_choice(o->choices, text), VG_E_CONFIG, "%s: '%s' is not one of %s", o->key, text,
             o->choices);
    char *copy = vg_copy_string(text);
    VG_CHECK(copy, VG_E_NOMEM, "no memory for the configuration");
    free(*field);
    *field = copy;
    return VG_OK;
}

static vg_status set_list(const vg_option *o, vg_option_list *field, const vg_option_list *value)
{
    vg_list_release(field);
    for (int i = 0; i < value->n; i++) {
        if (o->type == VG_OPTION_scales) VG_TRY(check_scale(o, value->items[i]));
        if (o->type == VG_OPTION_names) VG_TRY(check_name(o, value->items[i]));
        VG_TRY(vg_list_add(field, value->items[i], strlen(value->items[i])));
    }
    return VG_OK;
}

vg_status vg_option_set(const vg_option *o, void *base, const vg_option_list *value)
{
    void *field = (char *)base + o->offset;
    for (int i = 0; i < value->n; i++) /* as config.yaml and the manifests of checkpoints are */
        VG_CHECK(vg_utf8_valid(value->items[i], strlen(value->items[i])), VG_E_CONFIG, "%s: the value is not UTF-8",
                 o->key);
    if (is_many(o)) return set_list(o, field, value);
    VG_CHECK(value->n == 1, VG_E_CONFIG, "%s: one value is expected, %d are given", o->key, value->n);
    const char *text = value->items[0];
    double x = 0;
    switch (o->type) {
    case VG_OPTION_integer:
        VG_TRY(read_number(o, text, &x));
        *(vg_option_integer *)field = (vg_option_integer)x;
        return VG_OK;
    case VG_OPTION_number: VG_TRY(read_number(o, text, &x)); return *(vg_option_number *)field = x, VG_OK;
    case VG_OPTION_flag:
        VG_CHECK(is_choice("true|false", text), VG_E_CONFIG, "%s: '%s' is neither true nor false", o->key, text);
        *(vg_option_flag *)field = strcmp(text, "true") == 0;
        return VG_OK;
    default: return set_text(o, field, text);
    }
}

/* Items parted by commas, as the command line and the defaults give them. */
static vg_status split_items(const char *text, vg_option_list *out)
{
    for (const char *c = text; *c;) {
        const size_t n = strcspn(c, ",");
        VG_TRY(vg_list_add(out, c, n));
        c += n + (c[n] == ',');
    }
    return VG_OK;
}

vg_status vg_option_read(const vg_option *o, void *base, const char *text)
{
    vg_option_list value = {0};
    const bool many = is_many(o);
    vg_status st = many ? split_items(text, &value) : vg_list_add(&value, text, strlen(text));
    if (st == VG_OK) st = vg_option_set(o, base, &value);
    vg_list_release(&value);
    return st;
}

vg_status vg_option_rows_begin(const vg_option *rows, int n, void *base)
{
    for (int i = 0; i < n; i++) VG_TRY(vg_option_read(&rows[i], base, rows[i].initial));
    return VG_OK;
}

void vg_option_rows_release(const vg_option *rows, int n, void *base)
{
    for (int i = 0; i < n; i++) {
        void *field = (char *)base + rows[i].offset;
        if (rows[i].type == VG_OPTION_text) free(*(char **)field);
        if (is_many(&rows[i])) vg_list_release(field);
    }
}
