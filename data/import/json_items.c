#include "data/import/json_items_impl.h"

#include <string.h>

typedef struct walk {
    const char *name, *start, *at, *end;
} walk;

static vg_status walk_fail(const walk *w, const char *why)
{
    return vg_fail(VG_E_DATA, "%s: byte %zu: %s", w->name, (size_t)(w->at - w->start), why);
}

/* The next byte that is no white space, NUL at the end. */
static char peek(walk *w)
{
    while (w->at < w->end && (*w->at == ' ' || *w->at == '\t' || *w->at == '\n' || *w->at == '\r')) w->at++;
    return w->at < w->end ? *w->at : '\0';
}

static vg_status take(walk *w, char wanted)
{
    char why[] = "expected ' '";
    why[10] = wanted;
    if (peek(w) != wanted) return walk_fail(w, why);
    w->at++;
    return VG_OK;
}

/* One whole value, as a tree. */
static vg_status take_value(walk *w, json_t **out)
{
    json_error_t error;
    (void)peek(w);
    *out = json_loadb(w->at, (size_t)(w->end - w->at), JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY, &error);
    if (!*out) return walk_fail(w, error.text);
    w->at += error.position; /* of a success: the bytes it took */
    return VG_OK;
}

static vg_status walk_array(walk *w, vg_json_array *array, void *user)
{
    VG_CHECK(!array->found, VG_E_DATA, "%s: byte %zu: a second \"%s\"", w->name, (size_t)(w->at - w->start),
             array->key);
    array->found = true;
    VG_TRY(take(w, '['));
    for (size_t i = 0; peek(w) != ']'; i++) {
        json_t *item = NULL;
        if (i > 0) VG_TRY(take(w, ','));
        VG_TRY(take_value(w, &item));
        const vg_status st = array->item(user, item, i);
        json_decref(item);
        VG_TRY(st);
    }
    return take(w, ']');
}

static vg_status walk_member(walk *w, vg_json_array *arrays, size_t n_arrays, void *user)
{
    json_t *key = NULL, *skipped = NULL;
    if (peek(w) != '"') return walk_fail(w, "expected a key in quotes");
    VG_TRY(take_value(w, &key));
    vg_json_array *wanted = NULL;
    for (size_t i = 0; i < n_arrays; i++)
        if (strcmp(arrays[i].key, json_string_value(key)) == 0) wanted = &arrays[i];
    json_decref(key);
    VG_TRY(take(w, ':'));
    if (wanted) return walk_array(w, wanted, user);
    VG_TRY(take_value(w, &skipped));
    json_decref(skipped);
    return VG_OK;
}

vg_status vg_json_items(const char *name, const char *bytes, size_t n, vg_json_array *arrays, size_t n_arrays,
                        void *user)
{
    walk w = {.name = name, .start = bytes, .at = bytes, .end = bytes + n};
    for (size_t i = 0; i < n_arrays; i++) arrays[i].found = false;
    VG_TRY(take(&w, '{'));
    for (bool first = true; peek(&w) != '}'; first = false) {
        if (!first) VG_TRY(take(&w, ','));
        VG_TRY(walk_member(&w, arrays, n_arrays, user));
    }
    VG_TRY(take(&w, '}'));
    if (peek(&w) != '\0' || w.at < w.end) return walk_fail(&w, "something follows the end of the object");
    for (size_t i = 0; i < n_arrays; i++)
        VG_CHECK(arrays[i].found, VG_E_DATA, "%s: no array \"%s\"", name, arrays[i].key);
    return VG_OK;
}
