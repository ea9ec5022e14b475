#include "data/import/json_items_impl.h"

#include "data/import/file_window_impl.h"

#include <string.h>

typedef struct walk {
    vg_file_window window;
    vg_import_log *log;
} walk;

static vg_status walk_fail(const walk *w, const char *why)
{
    return vg_fail(VG_E_DATA, "%s: byte %llu: %s", w->window.path, (unsigned long long)vg_file_window_place(&w->window),
                   why);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The next byte that is no white space, NUL at the end. */
static vg_status peek(walk *w, char *next)
{
    vg_file_window *v = &w->window;
    for (bool more = true; more;) {
        while (v->begin < v->end && is_space(v->bytes[v->begin])) v->begin++;
        if (v->begin < v->end) break;
        VG_TRY(vg_file_window_extend(v, &more));
    }
    *next = '\0';
    if (v->begin < v->end) *next = v->bytes[v->begin];
    return VG_OK;
}

static vg_status take(walk *w, char wanted)
{
    char why[] = "expected ' '", next;
    why[10] = wanted;
    VG_TRY(peek(w, &next));
    if (next != wanted) return walk_fail(w, why);
    w->window.begin++;
    return VG_OK;
}

/* ---- values ---- */

/* How far into a value a look at its bytes has come. */
typedef struct scan {
    int64_t depth;
    bool in_string, escaped, whole;
} scan;

static bool string_goes_on(scan *s, char c)
{
    if (s->escaped)
        s->escaped = false;
    else if (c == '\\')
        s->escaped = true;
    else if (c == '"')
        s->in_string = false;
    return s->in_string;
}

/* How many of the n next bytes belong to the value; s->whole when it ends among them. Only brackets and quotes are
 * looked at: what lies between is the parser's business. */
static size_t scan_bytes(scan *s, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char c = bytes[i];
        const bool closes = c == '}' || c == ']';
        if (s->in_string) {
            s->whole = !string_goes_on(s, c) && s->depth == 0;
        } else if (s->depth == 0 && (closes || c == ',' || c == ':' || is_space(c))) {
            s->whole = true; /* a number or a word ended before this byte */
            return i;
        } else {
            s->in_string = c == '"';
            s->depth += (c == '{' || c == '[') - closes;
            s->whole = closes && s->depth == 0;
        }
        if (s->whole) return i + 1;
    }
    return n;
}

/* One whole value, as a tree; NULL with *why where its brackets match and it is no JSON all the same. */
static vg_status take_value(walk *w, json_t **out, json_error_t *why)
{
    vg_file_window *v = &w->window;
    scan s = {0};
    size_t n = 0;
    char next;
    VG_TRY(peek(w, &next));
    for (bool more = true; more;) {
        n += scan_bytes(&s, v->bytes + v->begin + n, v->end - v->begin - n);
        if (s.whole) break;
        VG_TRY(vg_file_window_extend(v, &more));
    }
    if (n == 0) return walk_fail(w, "expected a value");
    *out = json_loadb(v->bytes + v->begin, n, JSON_DECODE_ANY, why);
    if (!*out && !s.whole) return walk_fail(w, "the file ends within a value");
    v->begin += n;
    return VG_OK;
}

/* Past one value, however large. */
static vg_status skip_value(walk *w)
{
    vg_file_window *v = &w->window;
    scan s = {0};
    char next;
    VG_TRY(peek(w, &next));
    for (bool more = true; more;) {
        v->begin += scan_bytes(&s, v->bytes + v->begin, v->end - v->begin);
        if (s.whole) return VG_OK;
        VG_TRY(vg_file_window_extend(v, &more));
    }
    return walk_fail(w, "the file ends within a value");
}

/* ---- the top level ---- */

/* One item; what is no JSON is set aside like any record that cannot be used (Python writes NaN, for one). */
static vg_status walk_item(walk *w, const vg_json_array *array, size_t index, void *user)
{
    json_t *item = NULL;
    json_error_t why;
    char next;
    VG_TRY(peek(w, &next));
    const uint64_t place = vg_file_window_place(&w->window);
    VG_TRY(take_value(w, &item, &why));
    if (!item)
        return vg_import_reject(w->log, 1, "%s: byte %llu: %s", w->window.path, (unsigned long long)place, why.text);
    const vg_status st = array->item(user, item, index);
    json_decref(item);
    return st;
}

static vg_status walk_array(walk *w, vg_json_array *array, void *user)
{
    char next;
    array->found = true;
    VG_TRY(take(w, '['));
    VG_TRY(peek(w, &next));
    for (size_t i = 0; next != ']'; i++) {
        if (i > 0) VG_TRY(take(w, ','));
        VG_TRY(walk_item(w, array, i, user));
        VG_TRY(vg_file_window_tell(&w->window, w->log));
        VG_TRY(peek(w, &next));
    }
    return take(w, ']');
}

static vg_status walk_member(walk *w, vg_json_array *arrays, size_t n_arrays, void *user)
{
    json_t *key = NULL;
    char next;
    VG_TRY(peek(w, &next));
    if (next != '"') return walk_fail(w, "expected a key in quotes");
    json_error_t why;
    VG_TRY(take_value(w, &key, &why));
    if (!key) return walk_fail(w, why.text);
    vg_json_array *wanted = NULL;
    for (size_t i = 0; i < n_arrays; i++)
        if (strcmp(arrays[i].key, json_string_value(key)) == 0) wanted = &arrays[i];
    json_decref(key);
    VG_TRY(take(w, ':'));
    if (!wanted) return skip_value(w);
    return wanted->found ? walk_fail(w, "this array comes a second time") : walk_array(w, wanted, user);
}

static vg_status walk_object(walk *w, vg_json_array *arrays, size_t n_arrays, void *user)
{
    char next;
    VG_TRY(take(w, '{'));
    VG_TRY(peek(w, &next));
    for (bool first = true; next != '}'; first = false) {
        if (!first) VG_TRY(take(w, ','));
        VG_TRY(walk_member(w, arrays, n_arrays, user));
        VG_TRY(peek(w, &next));
    }
    return take(w, '}');
}

static vg_status walk_file(walk *w, vg_json_array *arrays, size_t n_arrays, void *user)
{
    char next;
    VG_TRY(arrays[0].key ? walk_object(w, arrays, n_arrays, user) : walk_array(w, &arrays[0], user));
    VG_TRY(peek(w, &next));
    if (w->window.begin < w->window.end) return walk_fail(w, "something follows the end of the file's one value");
    for (size_t i = 0; i < n_arrays; i++)
        VG_CHECK(arrays[i].found, VG_E_DATA, "%s: no array \"%s\"", w->window.path, arrays[i].key);
    return VG_OK;
}

vg_status vg_json_items(const char *path, vg_import_log *log, vg_json_array *arrays, size_t n_arrays, void *user)
{
    walk w = {.log = log};
    for (size_t i = 0; i < n_arrays; i++) arrays[i].found = false;
    VG_TRY(vg_file_window_open(&w.window, path));
    const vg_status st = walk_file(&w, arrays, n_arrays, user);
    vg_file_window_close(&w.window);
    return st;
}

bool vg_json_int(const json_t *object, const char *key, int64_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value)) return false;
    *out = json_integer_value(value);
    return true;
}

bool vg_json_maybe_int(const json_t *object, const char *key, int64_t *out)
{
    return !json_object_get(object, key) || vg_json_int(object, key, out);
}

bool vg_json_side(const json_t *object, const char *key, int *out)
{
    int64_t side;
    if (!vg_json_int(object, key, &side) || side < 1 || side > VG_SHARD_MAX_SIDE) return false;
    *out = (int)side;
    return true;
}

bool vg_json_box(const json_t *four, bool is_size, double xyxy[4])
{
    if (json_array_size(four) != 4) return false;
    for (size_t i = 0; i < 4; i++) {
        const json_t *number = json_array_get(four, i);
        if (!json_is_number(number)) return false;
        xyxy[i] = json_number_value(number) + (is_size && i >= 2 ? xyxy[i - 2] : 0);
    }
    return true;
}

bool vg_json_box_in_shares(const json_t *four)
{
    for (size_t i = 0; i < 4; i++) {
        const double number = json_number_value(json_array_get(four, i));
        if (number < 0 || number > 1) return false;
    }
    return json_number_value(json_array_get(four, 3)) > 0; /* zeros are an empty box in either */
}
