#include "data/split_leaks_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- sets ---- */

/* The folder, and which of the sets in it. */
static vg_status set_name(const vg_shard *shard, vg_text *out)
{
    const vg_shard_origin *o = &shard->origin;
    VG_TRY(vg_folder_of(shard->path, out));
    return vg_text_add(out, " (%s%s%s)", o->source, *o->split_by ? " by " : "", o->split_by);
}

static bool is_of(const vg_leak_set *set, const struct stat *folder, const vg_shard_origin *o)
{
    return set->device == folder->st_dev && set->inode == folder->st_ino && strcmp(set->source, o->source) == 0 &&
           strcmp(set->split_by, o->split_by) == 0;
}

static vg_status set_add(vg_leaks *l, const vg_shard *shard, const struct stat *folder)
{
    VG_TRY(vg_grow(&l->sets, &l->sets_capacity, l->n_sets + 1, sizeof *l->sets));
    vg_leak_set *set = &l->sets[l->n_sets++];
    *set = (vg_leak_set){.device = folder->st_dev, .inode = folder->st_ino};
    memcpy(set->source, shard->origin.source, sizeof set->source);
    memcpy(set->split_by, shard->origin.split_by, sizeof set->split_by);
    return set_name(shard, &set->name);
}

vg_status vg_leaks_set(vg_leaks *l, const vg_shard *shard, size_t *set)
{
    vg_text folder = {0};
    struct stat info;
    VG_TRY(vg_folder_of(shard->path, &folder));
    const vg_status st =
        stat(folder.data, &info) == 0 ? VG_OK : vg_fail(vg_file_fault(errno), "%s: %s", folder.data, strerror(errno));
    free(folder.data);
    VG_TRY(st);
    for (*set = 0; *set < l->n_sets; ++*set)
        if (is_of(&l->sets[*set], &info, &shard->origin)) return VG_OK;
    return set_add(l, shard, &info);
}

/* ---- what is evaluated ---- */

static vg_status keys_add(vg_leaks *l, const vg_shard *shard, size_t set, size_t row, uint64_t splits)
{
    uint64_t keys[VG_N_ID_KEYS];
    vg_leak_id_keys(shard, row, keys);
    VG_TRY(vg_grow(&l->keys, &l->keys_capacity, l->n_keys + VG_N_ID_KEYS, sizeof *l->keys));
    for (int i = 0; i < VG_N_ID_KEYS; i++)
        if (keys[i]) l->keys[l->n_keys++] = (vg_leak_key){keys[i], splits, set};
    return VG_OK;
}

static vg_status shard_add(vg_leaks *l, const vg_shard *shard)
{
    const vg_shard_tables *t = &shard->tables;
    size_t set = 0;
    VG_TRY(vg_leaks_set(l, shard, &set));
    for (size_t first = 0, end; first < t->n_sentences; first = end) {
        const int64_t row = t->sentences[first].image;
        uint64_t splits = 0;
        for (end = first; end < t->n_sentences && t->sentences[end].image == row; end++) {
            const char *split = t->splits[t->sentences[end].split];
            uint64_t bit = 0;
            if (strcmp(split, l->train) != 0) VG_TRY(vg_leak_split_bit(&l->splits, split, &bit));
            splits |= bit;
        }
        if (splits) VG_TRY(keys_add(l, shard, set, (size_t)row, splits));
    }
    return VG_OK;
}

static int by_key(const void *a, const void *b)
{
    const vg_leak_key *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return (x->set > y->set) - (x->set < y->set);
}

static bool is_among(vg_shard *const *shards, size_t n, const char *path)
{
    struct stat named, opened;
    if (stat(path, &named) != 0) return false;
    for (size_t i = 0; i < n; i++)
        if (fstat(shards[i]->fd, &opened) == 0 && opened.st_dev == named.st_dev && opened.st_ino == named.st_ino)
            return true;
    return false;
}

static vg_status other_shard_add(vg_leaks *l, const char *path, const vg_record_list *without)
{
    vg_shard *shard = NULL;
    VG_TRY(vg_shard_open_as(path, &(vg_shard_opening){.without = without}, &shard));
    const vg_status st = shard_add(l, shard);
    vg_shard_close(shard);
    return st;
}

vg_status vg_leaks_gather(vg_leaks *l, vg_shard *const *shards, size_t n_shards, const vg_shard_paths *others,
                          const vg_record_list *without)
{
    size_t set = 0;
    bool alone = true;
    for (size_t i = 0; i < n_shards; i++) VG_TRY(vg_leaks_set(l, shards[i], &set));
    for (size_t i = 0; i < others->n && alone; i++) alone = is_among(shards, n_shards, others->path[i]);
    if (alone && l->n_sets == 1) return VG_OK; /* there is no other set, and no bound on the splits of this one */
    for (size_t i = 0; i < n_shards; i++) VG_TRY(shard_add(l, shards[i]));
    for (size_t i = 0; i < others->n; i++)
        if (!is_among(shards, n_shards, others->path[i])) VG_TRY(other_shard_add(l, others->path[i], without));
    if (l->n_keys) qsort(l->keys, l->n_keys, sizeof *l->keys, by_key);
    return VG_OK;
}

/* ---- what trains ---- */

static vg_status pair_count(vg_leaks *l, size_t set, const vg_leak_key *key)
{
    size_t i = 0;
    while (i < l->n_pairs && (l->pairs[i].set != set || l->pairs[i].other != key->set)) i++;
    if (i == l->n_pairs) {
        VG_TRY(vg_grow(&l->pairs, &l->pairs_capacity, l->n_pairs + 1, sizeof *l->pairs));
        l->pairs[l->n_pairs++] = (vg_leak_pair){.set = set, .other = key->set};
    }
    vg_leak_pair *pair = &l->pairs[i];
    pair->splits |= key->splits;
    pair->n_images += pair->last != l->n_sought;
    pair->last = l->n_sought;
    return VG_OK;
}

vg_status vg_leaks_find(vg_leaks *l, const vg_shard *shard, size_t set, size_t row, bool *found)
{
    uint64_t keys[VG_N_ID_KEYS];
    vg_leak_id_keys(shard, row, keys);
    l->n_sought++;
    *found = false;
    for (int i = 0; i < VG_N_ID_KEYS; i++) {
        size_t k = vg_first_from(l->keys, l->n_keys, sizeof *l->keys, keys[i]);
        for (; keys[i] && k < l->n_keys && l->keys[k].key == keys[i]; k++) {
            if (l->keys[k].set == set) continue;
            VG_TRY(pair_count(l, set, &l->keys[k]));
            *found = true;
        }
    }
    l->n_found += *found;
    return VG_OK;
}

vg_status vg_leaks_name(vg_leaks *l)
{
    for (size_t i = 0; i < l->n_pairs; i++)
        VG_TRY(vg_leak_split_names(&l->splits, l->pairs[i].splits, &l->pairs[i].names));
    return VG_OK;
}

void vg_leaks_release(vg_leaks *l)
{
    for (size_t i = 0; i < l->n_sets; i++) free(l->sets[i].name.data);
    for (size_t i = 0; i < l->n_pairs; i++) free(l->pairs[i].names.data);
    free(l->sets);
    free(l->keys);
    free(l->pairs);
    *l = (vg_leaks){0};
}
