#include "data/shard_leakage.h"

#include "data/progress.h"
#include "data/shard_leakage_impl.h"
#include "data/workers.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { LEAST_SIDE = 96 }; /* pixels left by decoding at a fraction; the hash wants 32 */

/* ---- what an image is known by ---- */

static uint64_t key_of(const char *space, size_t n_space, const void *value, size_t n_value)
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, space, n_space);
    XXH3_64bits_update(&state, value, n_value);
    const uint64_t key = XXH3_64bits_digest(&state);
    return key ? key : 1;
}

static uint64_t name_key(const char *name)
{
    const char *base = vg_base_name(name);
    return *base ? key_of("name", sizeof "name", base, strlen(base)) : 0;
}

/* 0 where the id is unknown. */
static uint64_t id_key(const char *space, size_t n_space, int64_t id)
{
    return id ? key_of(space, n_space, &id, sizeof id) : 0;
}

void vg_leak_id_keys(const vg_shard *shard, size_t row, uint64_t key[VG_N_ID_KEYS])
{
    const vg_shard_image *image = &shard->tables.images[row];
    const char *source = shard->origin.source;
    key[VG_KEY_IMAGE] = key_of(source, sizeof shard->origin.source, &image->image_id, sizeof image->image_id);
    key[VG_KEY_COCO] = id_key("coco", sizeof "coco", image->coco_id);
    key[VG_KEY_FLICKR] = id_key("flickr", sizeof "flickr", image->flickr_id);
}

static void keys_fill(const vg_leakage_spec *spec, const vg_shard *shard, size_t row, uint64_t key[VG_N_KEYS])
{
    const vg_shard_tables *t = &shard->tables;
    if (spec->by_id) vg_leak_id_keys(shard, row, key);
    if (spec->by_name) key[VG_KEY_NAME] = name_key(t->text + t->images[row].name_offset);
}

/* ---- evaluation splits ---- */

vg_status vg_leak_split_bit(vg_leak_splits *splits, const char *name, uint64_t *bit)
{
    int i = 0;
    while (i < splits->n && strcmp(splits->name[i], name) != 0) i++;
    VG_CHECK(i < VG_MOST_EVALUATION_SPLITS, VG_E_DATA, "more than %d evaluation splits; '%s' is one too many",
             VG_MOST_EVALUATION_SPLITS, name);
    if (i == splits->n) memcpy(splits->name[splits->n++], name, VG_SHARD_NAME_BYTES);
    *bit = (uint64_t)1 << i;
    return VG_OK;
}

vg_status vg_leak_split_names(const vg_leak_splits *splits, uint64_t bits, vg_text *out)
{
    const char *comma = "";
    for (int i = 0; i < splits->n; i++) {
        if (!(bits >> i & 1)) continue;
        VG_TRY(vg_text_add(out, "%s%s", comma, splits->name[i]));
        comma = ", ";
    }
    return VG_OK;
}

/* ---- gathering ---- */

/* One item for each image that is trained on or evaluated on. */
static vg_status items_add(vg_leak_search *s, const vg_shard *shard, size_t number)
{
    const vg_shard_tables *t = &shard->tables;
    for (size_t first = 0, end; first < t->n_sentences; first = end) {
        const size_t row = (size_t)t->sentences[first].image;
        vg_leak_item item = {.shard = (uint32_t)number, .row = (uint32_t)row, .image_id = t->images[row].image_id};
        for (end = first; end < t->n_sentences && t->sentences[end].image == (int64_t)row; end++) {
            const char *split = t->splits[t->sentences[end].split];
            uint64_t bit = 0;
            if (strcmp(split, s->train) == 0)
                item.is_train = item.is_train || number < s->n_own;
            else
                VG_TRY(vg_leak_split_bit(&s->splits, split, &bit));
            item.splits |= bit;
        }
        if (!item.is_train && !item.splits) continue;
        keys_fill(s->spec, shard, row, item.key);
        VG_TRY(vg_grow(&s->items, &s->capacity, s->n_items + 1, sizeof *s->items));
        s->items[s->n_items++] = item;
    }
    return VG_OK;
}

typedef struct look_job {
    const vg_shard *shard;
    vg_leak_item *items;
    struct look_result {
        vg_status status;
        bool flat;
        char why[400]; /* another thread's error text does not reach the caller */
    } * results;
    vg_progress *progress;
} look_job;

static vg_status look(const vg_shard *shard, size_t row, vg_looks *out)
{
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    const vg_decode how = {.least_pixels = LEAST_SIDE, .partial_ok = true};
    vg_decoded decoded = {0};
    vg_resize_scratch scratch = {0};
    vg_status st = vg_shard_read_image(shard, row, &bytes, &capacity, &n);
    if (st == VG_OK) st = vg_image_decode_part(bytes, n, &how, &decoded);
    if (st == VG_OK) st = vg_perceptual_hash(&decoded.image, out, &scratch);
    free(bytes);
    free(scratch.data);
    vg_image_release(&decoded.image);
    return st;
}

static void look_at_one(void *context, size_t i)
{
    const look_job *j = context;
    vg_leak_item *item = &j->items[i];
    vg_looks looks = {0};
    if (j->shard->tables.images[item->row].length == 0) return;
    j->results[i].status = look(j->shard, item->row, &looks);
    if (j->results[i].status != VG_OK) snprintf(j->results[i].why, sizeof j->results[i].why, "%s", vg_error_text());
    j->results[i].flat = looks.flat;
    item->has_looks = j->results[i].status == VG_OK && !looks.flat;
    item->looks = looks.bits;
    vg_progress_add(j->progress, (int64_t)j->shard->tables.images[item->row].length);
}

/* Looks at the images of items [first, n_items), those of one shard. */
static vg_status looks_fill(vg_leak_search *s, const vg_shard *shard, size_t first, vg_progress *progress)
{
    const size_t n = s->n_items - first;
    look_job job = {.shard = shard, .items = s->items + first, .progress = progress};
    job.results = vg_new0_array(n, sizeof *job.results);
    VG_CHECK(job.results, VG_E_NOMEM, "no memory to look at %zu images", n);
    vg_work_on_each(n, vg_processors(), look_at_one, &job);
    vg_status st = VG_OK;
    for (size_t i = 0; i < n && st == VG_OK; i++) {
        const struct look_result *r = &job.results[i];
        s->report->absent += shard->tables.images[job.items[i].row].length == 0;
        s->report->flat += r->flat;
        s->report->unreadable += r->status == VG_E_DATA;
        if (r->status != VG_OK && r->status != VG_E_DATA) st = vg_fail(r->status, "%s", r->why);
    }
    free(job.results);
    return st;
}

static vg_status shard_gather(vg_leak_search *s, size_t number, vg_progress *progress)
{
    vg_shard *shard = NULL;
    const size_t first = s->n_items;
    VG_TRY(vg_shard_open(s->list.path[number], &shard));
    vg_status st = items_add(s, shard, number);
    if (st == VG_OK && s->spec->by_pixels) st = looks_fill(s, shard, first, progress);
    vg_shard_close(shard);
    return st;
}

/* ---- the whole ---- */

static vg_status spec_check(const vg_leakage_spec *spec)
{
    VG_CHECK(spec->by_id || spec->by_name || spec->by_pixels, VG_E_USAGE,
             "nothing to compare images by: id, name or pixels");
    VG_CHECK(spec->max_bits >= 0 && spec->max_bits <= VG_HAMMING_MOST, VG_E_USAGE,
             "a distance of %d bits; 0 to %d can be searched", spec->max_bits, VG_HAMMING_MOST);
    return VG_OK;
}

static bool is_found_under(const char *path, const char *named)
{
    const size_t n = strlen(named);
    return strncmp(path, named, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* Whatever is named to compare with has an image to compare with, or its name was a mistake. */
static vg_status check_against(const vg_leak_search *s)
{
    for (int k = 0; k < s->spec->n_against; k++) {
        const char *named = s->spec->against[k];
        bool any = false;
        for (size_t i = 0; i < s->n_items && !any; i++) {
            const vg_leak_item *item = &s->items[i];
            any = item->splits && item->shard >= s->n_own && is_found_under(s->list.path[item->shard], named);
        }
        VG_CHECK(any, VG_E_DATA, "--against %s: no split but '%s' in it, so nothing to compare with", named, s->train);
    }
    return VG_OK;
}

static vg_status gather(vg_leak_search *s)
{
    vg_progress progress;
    vg_status st = vg_shard_paths_find(s->spec->paths, s->spec->n_paths, &s->list);
    s->n_own = s->list.n;
    if (st == VG_OK && s->spec->n_against) st = vg_shard_paths_find(s->spec->against, s->spec->n_against, &s->list);
    vg_progress_begin(&progress, "leakage", VG_PROGRESS_BYTES, vg_shard_paths_bytes(&s->list));
    for (size_t i = 0; i < s->list.n && st == VG_OK; i++) st = shard_gather(s, i, &progress);
    vg_progress_end(&progress);
    VG_TRY(st);
    for (size_t i = 0; i < s->n_items; i++) {
        s->report->train_images += s->items[i].is_train;
        s->report->evaluation_images += s->items[i].splits != 0;
    }
    if (s->report->train_images == 0) st = vg_split_check_name(s->spec->paths, s->spec->n_paths, s->train);
    if (st != VG_OK) return vg_fail_at(st, "--train");
    VG_CHECK(s->report->evaluation_images > 0, VG_E_DATA, "%s: no split but '%s' in it, so nothing to compare with",
             s->spec->paths[0], s->train);
    return check_against(s);
}

vg_status vg_shard_leakage(const vg_leakage_spec *spec, vg_leakage_report *report)
{
    *report = (vg_leakage_report){0};
    vg_leak_search s = {.spec = spec, .report = report, .train = spec->train ? spec->train : "train"};
    vg_status st = spec_check(spec);
    if (st == VG_OK) st = gather(&s);
    if (st == VG_OK) st = vg_leak_match(&s);
    if (st == VG_OK) st = vg_leak_tell(&s);
    vg_shard_paths_release(&s.list);
    free(s.items);
    return st;
}

void vg_leakage_report_release(vg_leakage_report *report)
{
    free(report->text.data);
    free(report->list.data);
    *report = (vg_leakage_report){0};
}
