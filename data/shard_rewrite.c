/* Shards into shards: merged, cut to another size, with a part of a split renamed, a part left out, or smaller images.
 */
#define _POSIX_C_SOURCE 200809L
#include "data/progress.h"
#include "data/shard_history_impl.h"
#include "data/shard_repack_impl.h"
#include "data/shard_tools.h"
#include "data/shard_where_impl.h"
#include "data/shard_writer.h"
#include "data/workers.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    USUAL_SHARD_BYTES = 256 << 20,
    WINDOW = 64,              /* images in memory at a time */
    WINDOW_BYTES = 256 << 20, /* of them as they are stored, or one larger image */
};

/* An image of the window. */
typedef struct window_slot {
    size_t row;
    size_t first, end; /* its sentences that stay, in `kept` */
    vg_repacked image;
    vg_status status;
    char *why; /* heap; another thread's error text does not reach the caller */
} window_slot;

typedef struct rewriter {
    const vg_shard_rewrite_spec *spec;
    vg_shard_rewrite_report *report;
    vg_where where;
    char did[VG_SHARD_HISTORY_BYTES]; /* the line of this rewriting */
    vg_shard_writer *writer;          /* NULL between shards */
    vg_shard_origin origin;           /* of what it writes */
    uint64_t written;                 /* image bytes in it */
    const vg_shard *shard;            /* that is read */
    window_slot slots[WINDOW];
    size_t n_slots;
    uint64_t window_bytes;
    size_t *kept; /* sentences of the window that stay */
    size_t n_kept, kept_capacity;
    vg_new_sentence *sentences; /* of the image at hand */
    size_t sentences_capacity;
    float (*boxes)[4]; /* scaled, of the image at hand */
    size_t boxes_capacity;
    uint64_t *records; /* of all sentences that stay, as they were */
    size_t n_records, records_capacity;
    vg_progress progress;
    int lock; /* of the new folder; -1: none */
} rewriter;

/* ---- the new shards ---- */

static bool same_origin(const vg_shard_origin *a, const vg_shard_origin *b)
{
    return strcmp(a->source, b->source) == 0 && strcmp(a->split_by, b->split_by) == 0 &&
           strcmp(a->history, b->history) == 0;
}

static vg_status path_add(const rewriter *r, int64_t number, vg_text *path)
{
    return vg_text_add(path, "%s/%s-%05lld.h5", r->spec->out, r->spec->name, (long long)number);
}

static vg_status shard_begin(rewriter *r, const vg_shard_origin *origin)
{
    vg_text path = {0};
    VG_TRY(path_add(r, r->report->shards, &path));
    const vg_status st = vg_shard_writer_open(path.data, origin->source, origin->split_by, &r->writer);
    free(path.data);
    if (st == VG_OK) vg_shard_writer_history(r->writer, origin->history);
    r->origin = *origin;
    r->written = 0;
    return st;
}

static vg_status shard_end(rewriter *r)
{
    vg_shard_writer *writer = r->writer;
    if (!writer) return VG_OK;
    r->writer = NULL;
    r->report->shards++;
    return vg_shard_writer_close(writer, 0);
}

/* Some of the shards would be read as all of them. */
static void shards_remove(rewriter *r)
{
    vg_text path = {0};
    for (int64_t number = 0; number < r->report->shards; number++) {
        path.length = 0;
        if (path_add(r, number, &path) == VG_OK) (void)unlink(path.data);
    }
    r->report->shards = 0;
    free(path.data);
}

/* A writer for n more bytes of the shard that is read: what a shard says of where it comes from holds for all of it. */
static vg_status writer_for(rewriter *r, size_t n)
{
    const size_t most = r->spec->shard_bytes ? r->spec->shard_bytes : USUAL_SHARD_BYTES;
    vg_shard_origin origin = r->shard->origin;
    vg_shard_history_extend(origin.history, r->did);
    if (r->writer && (r->written + n > most || !same_origin(&origin, &r->origin))) VG_TRY(shard_end(r));
    return r->writer ? VG_OK : shard_begin(r, &origin);
}

/* ---- one image ---- */

static bool is_chosen(const vg_shard_rewrite_spec *spec, int64_t image_id)
{
    uint32_t bits[4];
    vg_rng_block(vg_rng_key_of(spec->seed, vg_rng_purpose("shard split")), (uint64_t)image_id, 0, 0, bits);
    return spec->from && (double)vg_uniform(bits[0]) < spec->share;
}

/* The boxes of the sentences of a slot in pixels of its image as it is now. */
static vg_status boxes_take(rewriter *r, const window_slot *slot)
{
    const vg_shard_tables *t = &r->shard->tables;
    size_t n = 0;
    for (size_t k = slot->first; k < slot->end; k++) n += (size_t)t->sentences[r->kept[k]].n_boxes;
    VG_TRY(vg_grow(&r->boxes, &r->boxes_capacity, n + 1, sizeof *r->boxes));
    n = 0;
    for (size_t k = slot->first; k < slot->end; k++) {
        const vg_shard_sentence *s = &t->sentences[r->kept[k]];
        for (int b = 0; b < s->n_boxes; b++)
            vg_repack_box(&slot->image, &t->images[slot->row], t->boxes[s->first_box + b], r->boxes[n++]);
    }
    return VG_OK;
}

/* The sentences of a slot as they go into the new shard. */
static vg_status sentences_take(rewriter *r, const window_slot *slot)
{
    const vg_shard_tables *t = &r->shard->tables;
    const bool chosen = is_chosen(r->spec, t->images[slot->row].image_id);
    const int64_t moved = r->report->moved_sentences;
    const float(*boxes)[4];
    VG_TRY(boxes_take(r, slot));
    VG_TRY(vg_grow(&r->sentences, &r->sentences_capacity, slot->end - slot->first, sizeof *r->sentences));
    boxes = (const float(*)[4])r->boxes;
    for (size_t k = slot->first; k < slot->end; k++) {
        const vg_shard_sentence *s = &t->sentences[r->kept[k]];
        const char *split = t->splits[s->split];
        const bool moves = chosen && strcmp(split, r->spec->from) == 0;
        r->sentences[k - slot->first] = (vg_new_sentence){.sentence_id = s->sentence_id,
                                                          .ref_id = s->ref_id,
                                                          .text = t->text + s->text_offset,
                                                          .text_bytes = s->text_length,
                                                          .split = moves ? r->spec->to : split,
                                                          .kind = t->kinds[s->kind],
                                                          .boxes = (const float *)boxes,
                                                          .n_boxes = s->n_boxes};
        boxes += s->n_boxes;
        r->report->moved_sentences += moves;
    }
    r->report->moved_images += r->report->moved_sentences > moved;
    return VG_OK;
}

static vg_status slot_write(rewriter *r, const window_slot *slot)
{
    const vg_shard_tables *t = &r->shard->tables;
    const vg_shard_image *image = &t->images[slot->row];
    VG_TRY(sentences_take(r, slot));
    VG_TRY(writer_for(r, slot->image.n));
    const vg_new_image copy = {.image_id = image->image_id,
                               .coco_id = image->coco_id,
                               .flickr_id = image->flickr_id,
                               .width = slot->image.width,
                               .height = slot->image.height,
                               .file_name = t->text + image->name_offset,
                               .bytes = slot->image.n > 0 ? slot->image.bytes : NULL,
                               .n_bytes = slot->image.n,
                               .sentences = r->sentences,
                               .n_sentences = slot->end - slot->first};
    VG_TRY(vg_shard_writer_add(r->writer, &copy));
    r->written += slot->image.n;
    r->report->images++;
    r->report->sentences += (int64_t)(slot->end - slot->first);
    r->report->repacked_images += slot->image.is_new;
    return VG_OK;
}

/* ---- a window of images ---- */

static void slot_read(void *context, size_t i)
{
    rewriter *r = context;
    window_slot *slot = &r->slots[i];
    slot->status = vg_repack_image(r->shard, slot->row, r->spec->side, r->spec->quality, &slot->image);
    if (slot->status != VG_OK) slot->why = vg_copy_string(vg_error_text());
    vg_progress_add(&r->progress, (int64_t)r->shard->tables.images[slot->row].length);
}

static vg_status window_write(rewriter *r)
{
    vg_status st = vg_stop_check();
    if (st == VG_OK) vg_work_on_each(r->n_slots, vg_processors(), slot_read, r);
    for (size_t i = 0; i < r->n_slots; i++) {
        window_slot *slot = &r->slots[i];
        if (st == VG_OK && slot->status != VG_OK)
            st = vg_fail(slot->status, "%s", slot->why ? slot->why : "no memory for what is wrong");
        if (st == VG_OK) st = slot_write(r, slot);
        free(slot->why);
        free(slot->image.bytes);
        *slot = (window_slot){0};
    }
    r->n_slots = r->n_kept = 0;
    r->window_bytes = 0;
    return st;
}

/* A place in the window for an image whose sentences are [first, end), of which some stay. */
static vg_status slot_add(rewriter *r, size_t row, size_t first, size_t end)
{
    const uint64_t bytes = r->shard->tables.images[row].length;
    if (r->n_slots == WINDOW || (r->n_slots > 0 && r->window_bytes + bytes > WINDOW_BYTES)) VG_TRY(window_write(r));
    const size_t begin = r->n_kept;
    for (size_t i = first; i < end; i++) {
        if (r->spec->where && !vg_where_holds(&r->where, r->shard, i)) continue;
        VG_TRY(vg_grow(&r->kept, &r->kept_capacity, r->n_kept + 1, sizeof *r->kept));
        VG_TRY(vg_grow(&r->records, &r->records_capacity, r->n_records + 1, sizeof *r->records));
        r->kept[r->n_kept++] = i;
        r->records[r->n_records++] = r->shard->tables.sentences[i].record;
    }
    if (r->n_kept == begin) return VG_OK;
    window_slot *slot = &r->slots[r->n_slots++];
    slot->row = row;
    slot->first = begin;
    slot->end = r->n_kept;
    r->window_bytes += bytes;
    return VG_OK;
}

static vg_status shard_copy(rewriter *r, const char *path)
{
    vg_shard *shard = NULL;
    VG_TRY(vg_shard_open_as(path, &(vg_shard_opening){.without = r->spec->without}, &shard));
    r->shard = shard;
    r->report->left_out += (int64_t)shard->n_left_out;
    vg_status st = VG_OK;
    const vg_shard_tables *t = &shard->tables;
    for (size_t row = 0, first = 0; row < t->n_images && st == VG_OK; row++) {
        size_t end = first;
        while (end < t->n_sentences && t->sentences[end].image == (int64_t)row) end++;
        st = slot_add(r, row, first, end);
        first = end;
    }
    if (st == VG_OK) st = window_write(r);
    vg_shard_close(shard);
    return st;
}

/* ---- the whole ---- */

static vg_status spec_check(const vg_shard_rewrite_spec *spec)
{
    VG_CHECK(spec->share >= 0 && spec->share <= 1, VG_E_USAGE, "a share of %g of the images; 0 to 1 can be moved",
             spec->share);
    VG_CHECK(!spec->from || (spec->to && vg_shard_name_fits(spec->to, 1)), VG_E_USAGE,
             "a split to move to needs a name of 1 to %d bytes of UTF-8", VG_SHARD_NAME_BYTES - 1);
    VG_CHECK(!spec->from || strcmp(spec->from, spec->to) != 0, VG_E_USAGE,
             "nothing can go from split '%s' to itself; name another with --to", spec->to);
    VG_CHECK(*spec->name && !strchr(spec->name, '/'), VG_E_USAGE,
             "names of shards cannot begin with '%s'; it takes a word without '/'", spec->name);
    VG_TRY(vg_repack_check(spec->side, spec->quality));
    VG_TRY(vg_make_directories(spec->out));
    vg_shard_paths there = {0}; /* old and new shards in one folder would be read as one dataset */
    const vg_status found = vg_shard_paths_find(&spec->out, 1, &there);
    const bool none = there.n == 0;
    vg_shard_paths_release(&there);
    VG_CHECK(none, VG_E_USAGE, "%s: no folder, or one with shards; name an empty one", spec->out);
    return found == VG_E_DATA ? VG_OK : found;
}

static vg_status result_check(const vg_shard_rewrite_spec *spec, const vg_shard_rewrite_report *report)
{
    VG_TRY(vg_record_list_check_met(spec->without, report->left_out));
    VG_CHECK(report->images > 0, VG_E_USAGE, "nothing is left%s%s%s", spec->where ? " where " : "",
             spec->where ? spec->where : "", spec->without ? " without the records of the list" : "");
    VG_CHECK(!spec->from || report->moved_sentences > 0, VG_E_USAGE,
             "nothing went from split '%s' to '%s': a share of %g has none of its images, by this seed", spec->from,
             spec->to, spec->share);
    return VG_OK;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Sentences that several of the shards have, as a set and a part of it: they would be trained on and counted twice. */
static int64_t repeats_count(rewriter *r)
{
    int64_t n = 0;
    if (r->n_records) qsort(r->records, r->n_records, sizeof *r->records, by_value);
    for (size_t i = 1; i < r->n_records; i++) n += r->records[i] == r->records[i - 1];
    return n;
}

static vg_status shards_copy(rewriter *r, const vg_shard_paths *list)
{
    vg_status st = VG_OK;
    vg_progress_begin(&r->progress, "write", VG_PROGRESS_BYTES, vg_shard_paths_bytes(list));
    for (size_t i = 0; i < list->n && st == VG_OK; i++) st = shard_copy(r, list->path[i]);
    vg_progress_end(&r->progress);
    VG_TRY(st);
    VG_TRY(shard_end(r));
    r->report->repeated_sentences = repeats_count(r);
    return result_check(r->spec, r->report);
}

/* All of the new shards or none; what a kill leaves has its mark. */
static vg_status shards_write(rewriter *r, const vg_shard_paths *list)
{
    VG_TRY(vg_shard_mark_set(r->spec->out, r->spec->name, ""));
    vg_status st = shards_copy(r, list);
    vg_shard_writer_abandon(r->writer);
    if (st != VG_OK) shards_remove(r);
    VG_KEEP(st, vg_shard_mark_clear(r->spec->out, r->spec->name));
    return st;
}

/* Before all of them are copied. */
static vg_status check_from(const vg_shard_rewrite_spec *spec)
{
    const vg_status st = spec->from ? vg_split_check_name(spec->paths, spec->n_paths, spec->from) : VG_OK;
    return st == VG_OK ? VG_OK : vg_fail_at(st, "--from");
}

static vg_status rewrite(rewriter *r)
{
    vg_shard_paths list = {0};
    VG_TRY(spec_check(r->spec));
    VG_TRY(vg_folder_lock(r->spec->out, &r->lock));
    if (r->spec->where) VG_TRY(vg_where_read(r->spec->where, &r->where));
    VG_TRY(vg_shard_history_line(r->spec, r->did));
    VG_TRY(check_from(r->spec));
    vg_status st = vg_shard_paths_find(r->spec->paths, r->spec->n_paths, &list);
    if (st == VG_OK) st = shards_write(r, &list);
    vg_shard_paths_release(&list);
    return st;
}

vg_status vg_shard_rewrite(const vg_shard_rewrite_spec *spec, vg_shard_rewrite_report *report)
{
    rewriter *r = vg_new0(sizeof *r);
    VG_CHECK(r, VG_E_NOMEM, "no memory to rewrite shards");
    r->spec = spec;
    r->report = report;
    r->lock = -1;
    *report = (vg_shard_rewrite_report){0};
    const size_t there = vg_path_there(spec->out);
    const vg_status st = rewrite(r);
    if (st != VG_OK) vg_remove_made(spec->out, there);
    if (r->lock >= 0) close(r->lock);
    free(r->kept);
    free(r->sentences);
    free(r->boxes);
    free(r->records);
    free(r);
    return st;
}
