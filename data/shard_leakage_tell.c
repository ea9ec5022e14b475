/* What was found, for people and as a list of records. */
#include "data/record_list.h"
#include "data/shard_leakage_impl.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_TOLD = 20 }; /* leaked images in the text; the list has all */

static const char *const key_names[VG_N_KEYS] = {
    [VG_KEY_IMAGE] = "id", [VG_KEY_COCO] = "COCO id", [VG_KEY_FLICKR] = "Flickr id", [VG_KEY_NAME] = "name"};

/* The evaluation item that is shown: that of the first key, else of the looks. */
static const vg_leak_item *shown(const vg_leak_search *s, const vg_leak_item *item)
{
    for (int which = 0; which < VG_N_KEYS; which++)
        if (item->like[which] != VG_LEAK_NONE) return &s->items[item->like[which]];
    return &s->items[item->like_looks];
}

static uint64_t splits_of(const vg_leak_search *s, const vg_leak_item *item)
{
    uint64_t splits = item->like_looks == VG_LEAK_NONE ? 0 : s->items[item->like_looks].splits;
    for (int which = 0; which < VG_N_KEYS; which++)
        if (item->like[which] != VG_LEAK_NONE) splits |= s->items[item->like[which]].splits;
    return splits;
}

/* "id, pixels (3 bits)" */
static vg_status reason_add(const vg_leak_item *item, vg_text *out)
{
    const char *comma = "";
    for (int which = 0; which < VG_N_KEYS; which++) {
        if (item->like[which] == VG_LEAK_NONE) continue;
        VG_TRY(vg_text_add(out, "%s%s", comma, key_names[which]));
        comma = ", ";
    }
    return item->like_looks == VG_LEAK_NONE ? VG_OK : vg_text_add(out, "%spixels (%d bits)", comma, item->distance);
}

/* "is image 25 of b.h5 (val): id, pixels (3 bits)" */
static vg_status likeness_add(const vg_leak_search *s, const vg_leak_item *item, vg_text *out)
{
    const vg_leak_item *like = shown(s, item);
    VG_TRY(vg_text_add(out, "is image %lld of %s (", (long long)like->image_id, s->list.path[like->shard]));
    VG_TRY(vg_leak_split_names(&s->splits, splits_of(s, item), out));
    VG_TRY(vg_text_add(out, "): "));
    return reason_add(item, out);
}

static void count(vg_leak_search *s, const vg_leak_item *item, int64_t n_sentences)
{
    vg_leakage_report *r = s->report;
    r->leaked_images++;
    r->leaked_sentences += n_sentences;
    r->by_id += item->like[VG_KEY_IMAGE] != VG_LEAK_NONE || item->like[VG_KEY_COCO] != VG_LEAK_NONE ||
                item->like[VG_KEY_FLICKR] != VG_LEAK_NONE;
    r->by_name += item->like[VG_KEY_NAME] != VG_LEAK_NONE;
    r->by_pixels += item->like_looks != VG_LEAK_NONE;
}

/* A line of the list: the training sentences of the image, and why. Sentences stand in the order of images, as items
 * do; *at is where to look for those of the image, and then where those of the next ones begin. */
static vg_status leak_add(vg_leak_search *s, const vg_shard *shard, const vg_leak_item *item, size_t *at)
{
    const vg_shard_tables *t = &shard->tables;
    vg_record_line line = {
        .image_id = item->image_id, .file_name = t->text + t->images[item->row].name_offset, .shard = shard->path};
    vg_text why = {0};
    vg_status st = VG_OK;
    while (*at < t->n_sentences && t->sentences[*at].image < (int64_t)item->row) ++*at;
    for (; *at < t->n_sentences && t->sentences[*at].image == (int64_t)item->row && st == VG_OK; ++*at)
        if (strcmp(t->splits[t->sentences[*at].split], s->train) == 0)
            st = vg_record_line_add(&line, t->sentences[*at].record);
    count(s, item, (int64_t)line.n_records);
    if (st == VG_OK) st = likeness_add(s, item, &why);
    line.reason = why.data;
    if (st == VG_OK) st = vg_record_line_text(&line, &s->report->list);
    if (st == VG_OK && s->report->leaked_images <= MOST_TOLD)
        st = vg_text_add(&s->report->text, "image %lld (%s) of %s %s\n", (long long)item->image_id, line.file_name,
                         shard->path, why.data);
    vg_record_line_release(&line);
    free(why.data);
    return st;
}

/* The leaked items of one shard, which begin at *at. */
static vg_status shard_tell(vg_leak_search *s, size_t *at)
{
    const uint32_t number = s->items[*at].shard;
    vg_shard *shard = NULL;
    size_t sentence = 0;
    vg_status st = VG_OK;
    for (; *at < s->n_items && s->items[*at].shard == number && st == VG_OK; ++*at) {
        const vg_leak_item *item = &s->items[*at];
        if (!item->is_train || !vg_leak_is_found(item)) continue;
        if (!shard) st = vg_shard_open(s->list.path[number], &shard);
        if (st == VG_OK) st = leak_add(s, shard, item, &sentence);
    }
    vg_shard_close(shard);
    return st;
}

static vg_status summary_tell(const vg_leak_search *s, vg_text *out)
{
    const vg_leakage_report *r = s->report;
    if (r->leaked_images > MOST_TOLD)
        VG_TRY(vg_text_add(out, "and %lld more\n", (long long)r->leaked_images - MOST_TOLD));
    VG_TRY(vg_text_add(out, "%s: %lld images; evaluation: %lld images of ", s->train, (long long)r->train_images,
                       (long long)r->evaluation_images));
    VG_TRY(vg_leak_split_names(&s->splits, UINT64_MAX, out));
    for (int i = 0; i < s->splits.n; i++) {
        int64_t n = 0;
        for (size_t k = 0; k < s->n_items; k++)
            n += s->items[k].is_train && vg_leak_is_found(&s->items[k]) && splits_of(s, &s->items[k]) >> i & 1;
        if (n) VG_TRY(vg_text_add(out, "\nleaked into %s: %lld images", s->splits.name[i], (long long)n));
    }
    if (s->spec->by_pixels)
        VG_TRY(vg_text_add(out,
                           "\nnot compared by pixels: %lld images absent, %lld without contrast, %lld that do not "
                           "decode",
                           (long long)r->absent, (long long)r->flat, (long long)r->unreadable));
    return vg_text_add(out, "\nleaked: %lld images with %lld sentences (id %lld, name %lld, pixels %lld)\n",
                       (long long)r->leaked_images, (long long)r->leaked_sentences, (long long)r->by_id,
                       (long long)r->by_name, (long long)r->by_pixels);
}

vg_status vg_leak_tell(vg_leak_search *s)
{
    vg_text *text = &s->report->text;
    for (size_t at = 0; at < s->n_items;) VG_TRY(shard_tell(s, &at));
    const int first = text->data ? (int)strcspn(text->data, "\n") : 0;
    VG_TRY(summary_tell(s, text));
    VG_CHECK(s->report->leaked_images == 0, VG_E_DATA,
             "%lld of %lld images of split '%s' stand in evaluation splits, the first: %.*s",
             (long long)s->report->leaked_images, (long long)s->report->train_images, s->train, first, text->data);
    return VG_OK;
}
