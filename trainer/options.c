/* The configuration from its sources: the defaults, a preset, the file, the command line; each on top of the last. */
#include "trainer/options_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- assignments ---- */

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

/* ---- keys ---- */

static const vg_option *find(const vg_option *rows, int n, const char *key)
{
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i].key, key) == 0) return &rows[i];
    return NULL;
}

static vg_status unknown_key(const vg_option *rows, int n, const char *key)
{
    const char *words[VG_N_OPTIONS > VG_N_STAGE_OPTIONS ? VG_N_OPTIONS : VG_N_STAGE_OPTIONS];
    for (int i = 0; i < n; i++) words[i] = rows[i].key;
    const char *nearest = vg_nearest_word(key, words, (size_t)n);
    VG_CHECK(!nearest, VG_E_CONFIG, "unknown key '%s'; did you mean '%s'?", key, nearest);
    return vg_fail(VG_E_CONFIG, "unknown key '%s'; `vlgtr train --help` lists them all", key);
}

vg_status vg_options_no_stage(const vg_options *o, const char *name, size_t n)
{
    vg_text stages = {0};
    vg_status st = vg_text_add(&stages, "%s", o->n_stages ? "it has " : "it has none");
    for (int i = 0; i < o->n_stages && st == VG_OK; i++)
        st = vg_text_add(&stages, "%s'%s'", i ? ", " : "", o->schedule[i].name);
    if (st == VG_OK) st = vg_fail(VG_E_CONFIG, "the schedule has no stage '%.*s'; %s", (int)n, name, stages.data);
    free(stages.data);
    return st;
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
        return vg_option_rows_begin(vg_stage_rows, VG_N_STAGE_OPTIONS, *out);
    }
    vg_stage *found = NULL;
    for (int i = 0; i < o->n_stages; i++) {
        if (strlen(o->schedule[i].name) != n || strncmp(o->schedule[i].name, name, n) != 0) continue;
        VG_CHECK(!found, VG_E_CONFIG,
                 "the schedule has more than one stage '%.*s'; name it by its number, the second is %d", (int)n, name,
                 i);
        found = &o->schedule[i];
    }
    if (!found) return vg_options_no_stage(o, name, n);
    *out = found;
    return VG_OK;
}

/* The row a key names, and the struct its field lies in. */
static vg_status find_field(vg_options *o, const char *key, bool may_add, const vg_option **row, void **base)
{
    if (strncmp(key, "schedule.", 9) != 0) {
        *row = find(vg_option_rows, VG_N_OPTIONS, key);
        *base = o;
        return *row ? VG_OK : unknown_key(vg_option_rows, VG_N_OPTIONS, key);
    }
    const char *name = key + 9;
    const size_t n = strcspn(name, ".");
    VG_CHECK(name[n] == '.', VG_E_CONFIG, "'%s' is not a key of a stage", key);
    vg_stage *stage = NULL;
    VG_TRY(find_stage(o, name, n, may_add, &stage));
    *row = find(vg_stage_rows, VG_N_STAGE_OPTIONS, name + n + 1);
    *base = stage;
    return *row ? VG_OK : unknown_key(vg_stage_rows, VG_N_STAGE_OPTIONS, name + n + 1);
}

/* ---- reading ---- */

static vg_status apply_preset(vg_options *o, const char *name)
{
    bool known = false;
    for (int i = 0; i < VG_N_PRESETS; i++) {
        if (strcmp(vg_presets[i].name, name) != 0) continue;
        known = true;
        VG_TRY(vg_option_read(find(vg_option_rows, VG_N_OPTIONS, vg_presets[i].key), o, vg_presets[i].value));
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
        const vg_option *row = NULL;
        void *base = NULL;
        vg_status st = find_field(o, a->key, true, &row, &base);
        if (st == VG_OK) st = vg_option_set(row, base, &a->value);
        if (st != VG_OK) return vg_fail_at(st, "%s:%d", name, a->line);
    }
    return VG_OK;
}

static vg_status apply_set(vg_options *o, const char *set)
{
    const char *equals = strchr(set, '=');
    VG_CHECK(equals && equals > set, VG_E_USAGE, "key=value is expected");
    char key[VG_KEY_BYTES];
    VG_CHECK(equals - set < (ptrdiff_t)sizeof key, VG_E_USAGE, "the key is too long");
    snprintf(key, sizeof key, "%.*s", (int)(equals - set), set);
    const vg_option *row = NULL;
    void *base = NULL;
    VG_TRY(find_field(o, key, false, &row, &base));
    return vg_option_read(row, base, equals + 1);
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
    VG_TRY(vg_option_rows_begin(vg_option_rows, VG_N_OPTIONS, o));
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
    vg_option_rows_release(vg_option_rows, VG_N_OPTIONS, o);
    for (int i = 0; i < o->n_stages; i++) vg_option_rows_release(vg_stage_rows, VG_N_STAGE_OPTIONS, &o->schedule[i]);
    *o = (vg_options){0};
}
