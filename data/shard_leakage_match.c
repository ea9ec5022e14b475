/* From what images are known by to those that are the same. */
#include "data/shard_leakage_impl.h"

#include <stdlib.h>

typedef struct keyed {
    uint64_t key;
    int64_t item;
} keyed;

static int by_key(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

/* The item of the first of n sorted entries with this key, VG_LEAK_NONE when there is none. */
static int64_t keyed_find(const keyed *entries, size_t n, uint64_t key)
{
    const size_t i = vg_first_from(entries, n, sizeof *entries, key);
    return i < n && entries[i].key == key ? entries[i].item : VG_LEAK_NONE;
}

static vg_status match_key(vg_leak_search *s, int which)
{
    keyed *entries = vg_new0_array(s->n_items, sizeof *entries);
    size_t n = 0;
    VG_CHECK(entries, VG_E_NOMEM, "no memory for the ids of %zu images", s->n_items);
    for (size_t i = 0; i < s->n_items; i++)
        if (s->items[i].splits && s->items[i].key[which]) entries[n++] = (keyed){s->items[i].key[which], (int64_t)i};
    qsort(entries, n, sizeof *entries, by_key);
    for (size_t i = 0; i < s->n_items; i++) {
        vg_leak_item *item = &s->items[i];
        item->like[which] =
            item->is_train && item->key[which] ? keyed_find(entries, n, item->key[which]) : VG_LEAK_NONE;
    }
    free(entries);
    return VG_OK;
}

static vg_status match_looks(vg_leak_search *s)
{
    uint64_t *codes = vg_new0_array(s->n_items, sizeof *codes);
    int64_t *places = vg_new0_array(s->n_items, sizeof *places);
    vg_hamming_index *index = NULL;
    size_t n = 0, which = 0;
    vg_status st = codes && places ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for the hashes of %zu images", s->n_items);
    for (size_t i = 0; i < s->n_items && st == VG_OK; i++) {
        if (!s->items[i].splits || !s->items[i].has_looks) continue;
        codes[n] = s->items[i].looks;
        places[n++] = (int64_t)i;
    }
    if (st == VG_OK) st = vg_hamming_index_new(codes, n, &index);
    for (size_t i = 0; i < s->n_items && st == VG_OK; i++) {
        vg_leak_item *item = &s->items[i];
        item->like_looks = VG_LEAK_NONE;
        if (!item->is_train || !item->has_looks) continue;
        item->distance = vg_hamming_index_nearest(index, item->looks, s->spec->max_bits, &which);
        if (item->distance >= 0) item->like_looks = places[which];
    }
    vg_hamming_index_free(index);
    free(codes);
    free(places);
    return st;
}

vg_status vg_leak_match(vg_leak_search *s)
{
    for (int which = 0; which < VG_N_KEYS; which++) VG_TRY(match_key(s, which));
    return match_looks(s);
}

bool vg_leak_is_found(const vg_leak_item *item)
{
    bool found = item->like_looks != VG_LEAK_NONE;
    for (int which = 0; which < VG_N_KEYS; which++) found = found || item->like[which] != VG_LEAK_NONE;
    return found;
}
