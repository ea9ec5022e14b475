/* Reading the tree that a pickle became. */
#include "data/pickle_impl.h"

#include <string.h>

const vg_pickle_value *vg_pickle_root(const vg_pickle *pickle)
{
    return pickle->root;
}

vg_pickle_kind vg_pickle_kind_of(const vg_pickle_value *v)
{
    return v ? (vg_pickle_kind)v->kind : VG_PICKLE_NONE;
}

static bool is_sequence(const vg_pickle_value *v)
{
    return v && (v->kind == VG_PICKLE_LIST || v->kind == VG_PICKLE_TUPLE);
}

size_t vg_pickle_count(const vg_pickle_value *v)
{
    if (is_sequence(v)) return v->list.n;
    return v && v->kind == VG_PICKLE_DICT ? v->list.n / 2 : 0;
}

const vg_pickle_value *vg_pickle_item(const vg_pickle_value *v, size_t i)
{
    return is_sequence(v) && i < v->list.n ? v->list.item[i] : NULL;
}

bool vg_pickle_pair(const vg_pickle_value *v, size_t i, const vg_pickle_value **key, const vg_pickle_value **item)
{
    if (!v || v->kind != VG_PICKLE_DICT || i >= v->list.n / 2) return false;
    *key = v->list.item[2 * i];
    *item = v->list.item[2 * i + 1];
    return true;
}

const vg_pickle_value *vg_pickle_find(const vg_pickle_value *v, const char *key)
{
    if (!v || v->kind != VG_PICKLE_DICT) return NULL;
    const size_t n = strlen(key);
    for (size_t i = v->list.n / 2; i-- > 0;) {
        const vg_pickle_value *k = v->list.item[2 * i];
        if (k->kind == VG_PICKLE_TEXT && k->bytes.n == n && memcmp(k->bytes.data, key, n) == 0)
            return v->list.item[2 * i + 1];
    }
    return NULL;
}

bool vg_pickle_bool(const vg_pickle_value *v, bool *out)
{
    if (vg_pickle_kind_of(v) != VG_PICKLE_BOOL) return false;
    *out = v->truth;
    return true;
}

bool vg_pickle_int(const vg_pickle_value *v, int64_t *out)
{
    if (vg_pickle_kind_of(v) != VG_PICKLE_INT) return false;
    *out = v->integer;
    return true;
}

bool vg_pickle_number(const vg_pickle_value *v, double *out)
{
    const vg_pickle_kind kind = vg_pickle_kind_of(v);
    if (kind != VG_PICKLE_INT && kind != VG_PICKLE_FLOAT) return false;
    *out = kind == VG_PICKLE_INT ? (double)v->integer : v->number;
    return true;
}

const char *vg_pickle_text(const vg_pickle_value *v, size_t *n)
{
    if (vg_pickle_kind_of(v) != VG_PICKLE_TEXT) return NULL;
    if (n) *n = v->bytes.n;
    return (const char *)v->bytes.data;
}

const unsigned char *vg_pickle_bytes(const vg_pickle_value *v, size_t *n)
{
    if (vg_pickle_kind_of(v) != VG_PICKLE_BYTES) return NULL;
    if (n) *n = v->bytes.n;
    return v->bytes.data;
}
