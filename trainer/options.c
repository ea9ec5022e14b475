#include "trainer/options_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

typedef enum option_type {
    OPTION_integer,
    OPTION_number,
    OPTION_flag,
    OPTION_text,
    OPTION_list,
    OPTION_scales,
    OPTION_names
} option_type;
typedef enum option_reach { FREE, BITS } option_reach;

/* A row of options.def as data. */
typedef struct option {
    const char *key;
    option_type type;
    size_t offset; /* of the field in vg_options or vg_stage */
    const char *initial;
    double min, max;
    const char *choices;
    option_reach reach;
    const char *help;
} option;

static const option options[] = {
#define VG_OPTION(section, name, type, initial, min, max, choices, reach, help) \
    {#section "." #name,                                                        \
     OPTION_##type,                                                             \
     offsetof(vg_options, section##_##name),                                    \
     initial,                                                                   \
     min,                                                                       \
     max,                                                                       \
     choices,                                                                   \
     reach,                                                                     \
     help},
#include "trainer/options.def"
#undef VG_OPTION
};

static const option stage_options[] = {
#define VG_OPTION(...)
#define VG_STAGE_OPTION(name, type, initial, min, max, choices, reach, help) \
    {#name, OPTION_##type, offsetof(vg_stage, name), initial, min, max, choices, reach, help},
#include "trainer/options.def"
#undef VG_STAGE_OPTION
#undef VG_OPTION
};

static const struct preset_value {
    const char *preset, *key, *value;
} presets[] = {
#define VG_PRESET(preset, key, value) {preset, key, value},
#include "trainer/presets.def"
#undef VG_PRESET
};

enum {
    N_OPTIONS = sizeof options / sizeof *options,
    N_STAGE_OPTIONS = sizeof stage_options / sizeof *stage_options,
    N_PRESETS = sizeof presets / sizeof *presets
};

/* ---- lists and assignments ---- */

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

vg_status vg_assignment_add(vg_assignments *all, const char *key, int line, vg_assignment **out)
{
    VG_TRY(vg_grow(&all->items, &all->capacity, (size_t)all->n + 1, sizeof *all->items));
    vg_assignment *a = &all->items[all->n];
    *a = (vg_assignment){.key = vg_copy_string(key), .line = line};
    VG_CHECK(a->key, VG_E_NOMEM, "no memory for the configuration");
    all->n++;
    *out = a;
    return VG_OK;
}

void vg_assignments_release(vg_assignments *all)
{
    for (int i = 0; i < all->n; i++) {
        free(all->items[i].key);
        vg_list_release(&all->items[i].value);
    }
    free(all->items);
    *all = (vg_assignments){0};
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

static vg_status read_number(const option *o, const char *text, double *out)
{
    char *end = NULL;
    errno = 0;
    const double x = strtod(text, &end);
    VG_CHECK(*text && !*end && isfinite(x), VG_E_CONFIG, "%s: '%s' is not a number", o->key, text);
    VG_CHECK(x >= o->min && x <= o->max, VG_E_CONFIG, "%s: %s is out of range; it is %g to %g", o->key, text, o->min,
             o->max);
    VG_CHECK(o->type != OPTION_integer || x == floor(x), VG_E_CONFIG, "%s: %s is not a whole number", o->key, text);
    *out = x;
    return VG_OK;
}

static bool is_many(const option *o)
{
    return o->type == OPTION_list || o->type == OPTION_scales || o->type == OPTION_names;
}

static vg_status check_name(const option *o, const char *item)
{
    const char *equals = strchr(item, '=');
    VG_CHECK(equals && equals > item && equals[1], VG_E_CONFIG, "%s: '%s' is not a name with a value", o->key, item);
    return VG_OK;
}

/* "pattern=scale" with a scale in range. */
static vg_status check_scale(const option *o, const char *item)
{
    const char *equals = strrchr(item, '=');
    VG_CHECK(equals && equals > item, VG_E_CONFIG, "%s: '%s' is not a pattern with a scale", o->key, item);
    double scale = 0;
    return read_number(o, equals + 1, &scale);
}

static vg_status set_text(const option *o, char **field, const char *text)
{
    VG_CHECK(!*o->choices || is_choice(o->choices, text), VG_E_CONFIG, "%s: '%s' is not one of %s", o->key, text,
             o->choices);
    char *copy = vg_copy_string(text);
    VG_CHECK(copy, VG_E_NOMEM, "no memory for the configuration");
    free(*field);
    *field = copy;
    return VG_OK;
}

static vg_status set_list(const option *o, vg_option_list *field, const vg_option_list *value)
{
    vg_list_release(field);
    for (int i = 0; i < value->n; i++) {
        if (o->type == OPTION_scales) VG_TRY(check_scale(o, value->items[i]));
        if (o->type == OPTION_names) VG_TRY(check_name(o, value->items[i]));
        VG_TRY(vg_list_add(field, value->items[i], strlen(value->items[i])));
    }
    return VG_OK;
}

static vg_status set_field(const option *o, void *base, const vg_option_list *value)
{
    void *field = (char *)base + o->offset;
    if (is_many(o)) return set_list(o, field, value);
    VG_CHECK(value->n == 1, VG_E_CONFIG, "%s: one value is expected, %d are given", o->key, value->n);
    const char *text = value->items[0];
    double x = 0;
    switch (o->type) {
    case OPTION_integer:
        VG_TRY(read_number(o, text, &x));
        *(vg_option_integer *)field = (vg_option_integer)x;
        return VG_OK;
    case OPTION_number: VG_TRY(read_number(o, text, &x)); return *(vg_option_number *)field = x, VG_OK;
    case OPTION_flag:
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

static vg_status set_from_text(const option *o, void *base, const char *text)
{
    vg_option_list value = {0};
    const bool many = is_many(o);
    vg_status st = many ? split_items(text, &value) : vg_list_add(&value, text, strlen(text));
    if (st == VG_OK) st = set_field(o, base, &value);
    vg_list_release(&value);
    return st;
}

static vg_status set_initial(const option *rows, int n, void *base)
{
    for (int i = 0; i < n; i++) VG_TRY(set_from_text(&rows[i], base, rows[i].initial));
    return VG_OK;
}

static void release_fields(const option *rows, int n, void *base)
{
    for (int i = 0; i < n; i++) {
        void *field = (char *)base + rows[i].offset;
        if (rows[i].type == OPTION_text) free(*(char **)field);
        if (is_many(&rows[i])) vg_list_release(field);
    }
}

/* ---- keys ---- */

static const option *find(const option *rows, int n, const char *key)
{
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i].key, key) == 0) return &rows[i];
    return NULL;
}

static vg_status unknown_key(const option *rows, int n, const char *key)
{
    const char *words[N_OPTIONS > N_STAGE_OPTIONS ? N_OPTIONS : N_STAGE_OPTIONS];
    for (int i = 0; i < n; i++) words[i] = rows[i].key;
    const char *nearest = vg_nearest_word(key, words, (size_t)n);
    VG_CHECK(!nearest, VG_E_CONFIG, "unknown key '%s'; did you mean '%s'?", key, nearest);
    return vg_fail(VG_E_CONFIG, "unknown key '%s'; `vlgtr train --help` lists them all", key);
}

/* The stage that `schedule.<index or name>.` names; the next index makes a new one while a file is read. */
static vg_status find_stage(vg_options *o, const char *name, size_t n, bool may_add, vg_stage **out)
{
    char *end = NULL;
    const long index = strtol(name, &end, 10);
    if (end == name + n && index >= 0 && index < o->n_stages) {
        *out = &o->schedule[index];
        return VG_OK;
    }
    if (may_add && end == name + n && index == o->n_stages && index < VG_MAX_STAGES) {
        *out = &o->schedule[o->n_stages++];
        return set_initial(stage_options, N_STAGE_OPTIONS, *out);
    }
    for (int i = 0; i < o->n_stages; i++)
        if (strlen(o->schedule[i].name) == n && strncmp(o->schedule[i].name, name, n) == 0) {
            *out = &o->schedule[i];
            return VG_OK;
        }
    return vg_fail(VG_E_CONFIG, "the schedule has no stage '%.*s'; it has %d", (int)n, name, o->n_stages);
}

/* The row a key names, and the struct its field lies in. */
static vg_status find_field(vg_options *o, const char *key, bool may_add, const option **row, void **base)
{
    if (strncmp(key, "schedule.", 9) != 0) {
        *row = find(options, N_OPTIONS, key);
        *base = o;
        return *row ? VG_OK : unknown_key(options, N_OPTIONS, key);
    }
    const char *name = key + 9;
    const size_t n = strcspn(name, ".");
    VG_CHECK(name[n] == '.', VG_E_CONFIG, "'%s' is not a key of a stage", key);
    vg_stage *stage = NULL;
    VG_TRY(find_stage(o, name, n, may_add, &stage));
    *row = find(stage_options, N_STAGE_OPTIONS, name + n + 1);
    *base = stage;
    return *row ? VG_OK : unknown_key(stage_options, N_STAGE_OPTIONS, name + n + 1);
}

/* ---- reading ---- */

static vg_status apply_preset(vg_options *o, const char *name)
{
    bool known = false;
    for (int i = 0; i < N_PRESETS; i++) {
        if (strcmp(presets[i].preset, name) != 0) continue;
        known = true;
        VG_TRY(set_from_text(find(options, N_OPTIONS, presets[i].key), o, presets[i].value));
    }
    VG_CHECK(known, VG_E_CONFIG, "model.preset: there is no preset '%s'; there are seed, strong and tiny", name);
    return VG_OK;
}

static vg_status apply_assignments(vg_options *o, const vg_assignments *all, const char *name)
{
    for (int i = 0; i < all->n; i++) {
        const vg_assignment *a = &all->items[i];
        for (int j = 0; j < i; j++)
            VG_CHECK(strcmp(all->items[j].key, a->key) != 0, VG_E_CONFIG, "%s:%d: '%s' was given before, on line %d",
                     name, a->line, a->key, all->items[j].line);
        const option *row = NULL;
        void *base = NULL;
        vg_status st = find_field(o, a->key, true, &row, &base);
        if (st == VG_OK) st = set_field(row, base, &a->value);
        if (st != VG_OK) return vg_fail_at(st, "%s:%d", name, a->line);
    }
    return VG_OK;
}

static vg_status apply_set(vg_options *o, const char *set)
{
    const char *equals = strchr(set, '=');
    VG_CHECK(equals && equals > set, VG_E_USAGE, "--set %s: key=value is expected", set);
    char key[256];
    VG_CHECK(equals - set < (ptrdiff_t)sizeof key, VG_E_USAGE, "--set: the key is too long");
    snprintf(key, sizeof key, "%.*s", (int)(equals - set), set);
    const option *row = NULL;
    void *base = NULL;
    VG_TRY(find_field(o, key, false, &row, &base));
    return set_from_text(row, base, equals + 1);
}

/* The preset is known before anything else is set: the command line's, else the file's, else the default. */
static const char *chosen_preset(const vg_assignments *all, const char *const *sets, int n_sets)
{
    static const char key[] = "model.preset=";
    const char *preset = NULL;
    for (int i = 0; i < all->n; i++)
        if (strcmp(all->items[i].key, "model.preset") == 0 && all->items[i].value.n == 1)
            preset = all->items[i].value.items[0];
    for (int i = 0; i < n_sets; i++)
        if (strncmp(sets[i], key, sizeof key - 1) == 0) preset = sets[i] + sizeof key - 1;
    return preset;
}

static vg_status fill(vg_options *o, const vg_assignments *all, const char *name, const char *const *sets, int n_sets)
{
    VG_TRY(set_initial(options, N_OPTIONS, o));
    const char *preset = chosen_preset(all, sets, n_sets);
    if (preset) {
        const vg_status st = apply_preset(o, preset);
        if (st != VG_OK) return vg_fail_at(st, "%s", name);
    }
    VG_TRY(apply_assignments(o, all, name));
    for (int i = 0; i < n_sets; i++) {
        const vg_status st = apply_set(o, sets[i]);
        if (st != VG_OK) return vg_fail_at(st, "--set %s", sets[i]);
    }
    const vg_status st = vg_options_check(o);
    return st == VG_OK ? VG_OK : vg_fail_at(st, "%s", name);
}

vg_status vg_options_parse(vg_options *o, const char *text, size_t n, const char *name, const char *const *sets,
                           int n_sets)
{
    vg_options fresh = {0};
    vg_assignments all = {0};
    vg_status st = vg_assignments_read_yaml(&all, text, n, name);
    if (st == VG_OK) st = fill(&fresh, &all, name, sets, n_sets);
    vg_assignments_release(&all);
    if (st == VG_OK)
        *o = fresh;
    else
        vg_options_release(&fresh);
    return st;
}

vg_status vg_options_read(vg_options *o, const char *path, const char *const *sets, int n_sets)
{
    enum { MAX_BYTES = 1 << 20 };
    if (!path) return vg_options_parse(o, "", 0, "configuration", sets, n_sets);
    char *text = NULL;
    size_t n = 0;
    vg_status st = vg_file_read(path, MAX_BYTES, &text, &n);
    VG_CHECK(st != VG_E_DATA, VG_E_CONFIG, "%s", vg_error_text());
    VG_TRY(st);
    st = vg_options_parse(o, text, n, path, sets, n_sets);
    free(text);
    return st;
}

void vg_options_release(vg_options *o)
{
    release_fields(options, N_OPTIONS, o);
    for (int i = 0; i < o->n_stages; i++) release_fields(stage_options, N_STAGE_OPTIONS, &o->schedule[i]);
    *o = (vg_options){0};
}

/* ---- writing ---- */

/* A double-quoted YAML scalar. */
static vg_status print_quoted(const char *s, vg_text *out)
{
    VG_TRY(vg_text_add(out, "\""));
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            VG_TRY(vg_text_add(out, "\\%c", c));
        else if (c < 0x20 || c == 0x7f)
            VG_TRY(vg_text_add(out, "\\x%02x", c));
        else
            VG_TRY(vg_text_add(out, "%c", c));
    }
    return vg_text_add(out, "\"");
}

/* A list, or a mapping whose keys end at the last = (scales) or the first (names). */
static vg_status print_list(const vg_option_list *list, option_type type, vg_text *out)
{
    VG_TRY(vg_text_add(out, type == OPTION_list ? "[" : "{"));
    for (int i = 0; i < list->n; i++) {
        const char *item = list->items[i];
        if (i) VG_TRY(vg_text_add(out, ", "));
        if (type == OPTION_list) {
            VG_TRY(print_quoted(item, out));
            continue;
        }
        const char *equals = type == OPTION_scales ? strrchr(item, '=') : strchr(item, '=');
        char key[512];
        snprintf(key, sizeof key, "%.*s", (int)(equals - item), item);
        VG_TRY(print_quoted(key, out));
        VG_TRY(vg_text_add(out, ": "));
        VG_TRY(type == OPTION_scales ? vg_text_add(out, "%s", equals + 1) : print_quoted(equals + 1, out));
    }
    return vg_text_add(out, type == OPTION_list ? "]" : "}");
}

static vg_status print_value(const option *o, const void *base, vg_text *out)
{
    const void *field = (const char *)base + o->offset;
    switch (o->type) {
    case OPTION_integer: return vg_text_add(out, "%" PRId64, *(const vg_option_integer *)field);
    case OPTION_number: return vg_text_add(out, "%.17g", *(const vg_option_number *)field);
    case OPTION_flag: return vg_text_add(out, *(const vg_option_flag *)field ? "true" : "false");
    case OPTION_text: return print_quoted(*(char *const *)field, out);
    default: return print_list(field, o->type, out);
    }
}

static vg_status print_options(const vg_options *o, bool bits_only, vg_text *out)
{
    const char *section = "";
    for (int i = 0; i < N_OPTIONS; i++) {
        const int length = (int)strcspn(options[i].key, ".");
        if (bits_only && options[i].reach != BITS) continue;
        if (strncmp(section, options[i].key, (size_t)length + 1) != 0)
            VG_TRY(vg_text_add(out, "%.*s:\n", length, options[i].key));
        section = options[i].key;
        VG_TRY(vg_text_add(out, "  %s: ", options[i].key + length + 1));
        VG_TRY(print_value(&options[i], o, out));
        VG_TRY(vg_text_add(out, "\n"));
    }
    if (o->n_stages) VG_TRY(vg_text_add(out, "schedule:\n"));
    for (int s = 0; s < o->n_stages; s++)
        for (int i = 0; i < N_STAGE_OPTIONS; i++) {
            VG_TRY(vg_text_add(out, i ? "    %s: " : "  - %s: ", stage_options[i].key));
            VG_TRY(print_value(&stage_options[i], &o->schedule[s], out));
            VG_TRY(vg_text_add(out, "\n"));
        }
    return VG_OK;
}

vg_status vg_options_print(const vg_options *o, vg_text *out)
{
    return print_options(o, false, out);
}

vg_status vg_options_hash(const vg_options *o, uint64_t *hash)
{
    vg_text text = {0};
    const vg_status st = print_options(o, true, &text);
    if (st == VG_OK) *hash = XXH3_64bits(text.data, text.length);
    free(text.data);
    return st;
}

static vg_status help_rows(const option *rows, int n, const char *indent, vg_text *out)
{
    for (int i = 0; i < n; i++) {
        const option *o = &rows[i];
        VG_TRY(vg_text_add(out, "%s%-26s %s", indent, o->key, o->help));
        if (*o->choices)
            VG_TRY(vg_text_add(out, " (%s; default %s)\n", o->choices, o->initial));
        else if (o->type == OPTION_integer || o->type == OPTION_number)
            VG_TRY(vg_text_add(out, " (%g to %g; default %s)\n", o->min, o->max, o->initial));
        else
            VG_TRY(vg_text_add(out, *o->initial ? " (default %s)\n" : "\n", o->initial));
    }
    return VG_OK;
}

vg_status vg_options_help(vg_text *out)
{
    VG_TRY(help_rows(options, N_OPTIONS, "  ", out));
    VG_TRY(vg_text_add(out, "  schedule                   a list of stages, each with\n"));
    VG_TRY(help_rows(stage_options, N_STAGE_OPTIONS, "    ", out));
    VG_TRY(vg_text_add(out, "Presets (model.preset):\n"));
    const char *last = "";
    for (int i = 0; i < N_PRESETS; i++) {
        if (strcmp(last, presets[i].preset) != 0)
            VG_TRY(vg_text_add(out, "%s  %-7s", *last ? "\n" : "", presets[i].preset));
        last = presets[i].preset;
        VG_TRY(vg_text_add(out, " %s=%s", presets[i].key, presets[i].value));
    }
    return vg_text_add(out, "\n");
}
