/* The configuration as YAML, what of it shapes bits, and its rows for people. */
#include "trainer/options_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

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
static vg_status print_list(const vg_option_list *list, vg_option_type type, vg_text *out)
{
    VG_TRY(vg_text_add(out, type == VG_OPTION_list ? "[" : "{"));
    for (int i = 0; i < list->n; i++) {
        const char *item = list->items[i];
        if (i) VG_TRY(vg_text_add(out, ", "));
        if (type == VG_OPTION_list) {
            VG_TRY(print_quoted(item, out));
            continue;
        }
        const char *equals = type == VG_OPTION_scales ? strrchr(item, '=') : strchr(item, '=');
        char key[VG_KEY_BYTES];
        snprintf(key, sizeof key, "%.*s", (int)(equals - item), item);
        VG_TRY(print_quoted(key, out));
        VG_TRY(vg_text_add(out, ": "));
        VG_TRY(type == VG_OPTION_scales ? vg_text_add(out, "%s", equals + 1) : print_quoted(equals + 1, out));
    }
    return vg_text_add(out, type == VG_OPTION_list ? "]" : "}");
}

/* As few digits as read back to the same number. */
static vg_status print_number(double x, vg_text *out)
{
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    return vg_text_add(out, "%s", text);
}

static vg_status print_value(const vg_option *o, const void *base, vg_text *out)
{
    const void *field = (const char *)base + o->offset;
    switch (o->type) {
    case VG_OPTION_integer: return vg_text_add(out, "%" PRId64, *(const vg_option_integer *)field);
    case VG_OPTION_number: return print_number(*(const vg_option_number *)field, out);
    case VG_OPTION_flag: return vg_text_add(out, *(const vg_option_flag *)field ? "true" : "false");
    case VG_OPTION_text: return print_quoted(*(char *const *)field, out);
    default: return print_list(field, o->type, out);
    }
}

vg_status vg_options_print(const vg_options *o, vg_text *out)
{
    const char *section = "";
    for (int i = 0; i < VG_N_OPTIONS; i++) {
        const int length = (int)strcspn(vg_option_rows[i].key, ".");
        if (strncmp(section, vg_option_rows[i].key, (size_t)length + 1) != 0)
            VG_TRY(vg_text_add(out, "%.*s:\n", length, vg_option_rows[i].key));
        section = vg_option_rows[i].key;
        VG_TRY(vg_text_add(out, "  %s: ", vg_option_rows[i].key + length + 1));
        VG_TRY(print_value(&vg_option_rows[i], o, out));
        VG_TRY(vg_text_add(out, "\n"));
    }
    if (o->n_stages) VG_TRY(vg_text_add(out, "schedule:\n"));
    for (int s = 0; s < o->n_stages; s++)
        for (int i = 0; i < VG_N_STAGE_OPTIONS; i++) {
            VG_TRY(vg_text_add(out, i ? "    %s: " : "  - %s: ", vg_stage_rows[i].key));
            VG_TRY(print_value(&vg_stage_rows[i], &o->schedule[s], out));
            VG_TRY(vg_text_add(out, "\n"));
        }
    return VG_OK;
}

/* What of an option shapes bits: its value, of sets their names, else nothing. */
static vg_status print_bits(const vg_option *row, const void *base, vg_text *out)
{
    if (row->reach == VG_REACH_BITS) return print_value(row, base, out);
    if (row->type != VG_OPTION_names) return VG_OK;
    const vg_option_list *list = (const void *)((const char *)base + row->offset);
    for (int i = 0; i < list->n; i++)
        VG_TRY(vg_text_add(out, "%s%.*s", i ? ", " : "", (int)strcspn(list->items[i], "="), list->items[i]));
    return VG_OK;
}

/* A line for each option, as many lines for as many stages. */
static vg_status print_all_bits(const vg_options *o, vg_text *out)
{
    VG_TRY(vg_text_add(out, "schedule: %d stages\n", o->n_stages));
    for (int i = 0; i < VG_N_OPTIONS; i++) {
        VG_TRY(vg_text_add(out, "%s: ", vg_option_rows[i].key));
        VG_TRY(print_bits(&vg_option_rows[i], o, out));
        VG_TRY(vg_text_add(out, "\n"));
    }
    for (int s = 0; s < o->n_stages; s++)
        for (int i = 0; i < VG_N_STAGE_OPTIONS; i++) {
            VG_TRY(vg_text_add(out, "schedule.%d.%s: ", s, vg_stage_rows[i].key));
            VG_TRY(print_bits(&vg_stage_rows[i], &o->schedule[s], out));
            VG_TRY(vg_text_add(out, "\n"));
        }
    return VG_OK;
}

vg_status vg_options_hash(const vg_options *o, uint64_t *hash)
{
    vg_text text = {0};
    const vg_status st = print_all_bits(o, &text);
    if (st == VG_OK) *hash = XXH3_64bits(text.data, text.length);
    free(text.data);
    return st;
}

vg_status vg_options_difference(const vg_options *then, const vg_options *now, vg_text *out)
{
    vg_text a = {0}, b = {0};
    vg_status st = print_all_bits(then, &a);
    if (st == VG_OK) st = print_all_bits(now, &b);
    const char *x = a.data, *y = b.data;
    while (st == VG_OK && *x) {
        const int n = (int)strcspn(x, "\n"), m = (int)strcspn(y, "\n"), key = (int)strcspn(x, ":"), from = key + 2;
        if (n != m || memcmp(x, y, (size_t)n) != 0) {
            st = vg_text_add(out, "%.*s was %.*s and is %.*s", key, x, n - from, x + from, m - from, y + from);
            break;
        }
        x += n + 1;
        y += m + 1;
    }
    free(a.data);
    free(b.data);
    return st;
}

static vg_status help_rows(const vg_option *rows, int n, const char *indent, vg_text *out)
{
    for (int i = 0; i < n; i++) {
        const vg_option *o = &rows[i];
        VG_TRY(vg_text_add(out, "%s%-26s %s", indent, o->key, o->help));
        if (*o->choices)
            VG_TRY(vg_text_add(out, " (%s; default %s)\n", o->choices, o->initial));
        else if (o->type == VG_OPTION_integer || o->type == VG_OPTION_number)
            VG_TRY(vg_text_add(out, " (%g to %g; default %s)\n", o->min, o->max, o->initial));
        else
            VG_TRY(vg_text_add(out, *o->initial ? " (default %s)\n" : "\n", o->initial));
    }
    return VG_OK;
}

vg_status vg_options_help(vg_text *out)
{
    VG_TRY(help_rows(vg_option_rows, VG_N_OPTIONS, "  ", out));
    VG_TRY(vg_text_add(out, "  schedule                   a list of stages, each with\n"));
    VG_TRY(help_rows(vg_stage_rows, VG_N_STAGE_OPTIONS, "    ", out));
    VG_TRY(vg_text_add(out, "Presets (model.preset):\n"));
    const char *last = "";
    for (int i = 0; i < VG_N_PRESETS; i++) {
        if (strcmp(last, vg_presets[i].name) != 0)
            VG_TRY(vg_text_add(out, "%s  %-7s", *last ? "\n" : "", vg_presets[i].name));
        last = vg_presets[i].name;
        VG_TRY(vg_text_add(out, " %s=%s", vg_presets[i].key, vg_presets[i].value));
    }
    return vg_text_add(out, "\n");
}
