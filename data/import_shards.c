#define _POSIX_C_SOURCE 200809L
#include "data/import_impl.h"
#include "data/shard_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    WINDOW_BYTES = 64 << 20, /* of encoded images in memory at a time, or one larger image */
    WINDOW = 64,             /* images in memory at a time */
    MAX_SENTENCES = 1 << 17, /* of a shard: what bounds the memory where the images are small or absent */
};

/* ---- records ---- */

static void kept_release(vg_kept_record *kept)
{
    free(kept->sentences);
    free(kept->block);
}

static void records_clear(vg_shard_maker *m)
{
    for (size_t i = 0; i < m->n; i++) kept_release(&m->records[i]);
    m->n = m->n_sentences = 0;
    m->size = 0;
}

void vg_shard_maker_release(vg_shard_maker *m)
{
    records_clear(m);
    free(m->records);
    m->records = NULL;
    vg_sorter_free(m->phrases);
    m->phrases = NULL;
}

/* Copies n bytes and a NUL to *at, which moves behind them. */
static const char *block_copy(char **at, const char *text, size_t n)
{
    char *copy = *at;
    memcpy(copy, text, n);
    copy[n] = '\0';
    *at += n + 1;
    return copy;
}

static size_t block_bytes(const vg_import_record *r)
{
    size_t bytes = strlen(r->file_name) + strlen(r->path) + 2;
    for (size_t i = 0; i < r->n_sentences; i++) {
        const vg_new_sentence *s = &r->sentences[i];
        bytes += (size_t)s->n_boxes * 4 * sizeof(float) + s->text_bytes + strlen(s->split) + strlen(s->kind) + 3;
    }
    return bytes;
}

static void kept_copy(vg_kept_record *kept, const vg_import_record *from)
{
    float *boxes = kept->boxes = (float *)(void *)kept->block; /* first, where the block is aligned */
    for (size_t i = 0; i < from->n_sentences; i++) {
        const size_t n = 4 * (size_t)from->sentences[i].n_boxes;
        if (n) memcpy(boxes, from->sentences[i].boxes, n * sizeof *boxes);
        kept->sentences[i] = from->sentences[i];
        kept->sentences[i].boxes = boxes;
        boxes += n;
    }
    char *at = (char *)boxes;
    for (size_t i = 0; i < from->n_sentences; i++) {
        vg_new_sentence *s = &kept->sentences[i];
        s->text = block_copy(&at, s->text, s->text_bytes);
        s->split = block_copy(&at, s->split, strlen(s->split));
        s->kind = block_copy(&at, s->kind, strlen(s->kind));
    }
    kept->record.file_name = block_copy(&at, from->file_name, strlen(from->file_name));
    kept->record.path = block_copy(&at, from->path, strlen(from->path));
    kept->record.sentences = kept->sentences;
}

/* The box around all boxes of a sentence takes their place. */
static void boxes_merge(vg_new_sentence *s, float *boxes)
{
    for (int i = 1; i < s->n_boxes; i++) {
        const float *box = boxes + 4 * (size_t)i;
        for (int k = 0; k < 2; k++) {
            if (box[k] < boxes[k]) boxes[k] = box[k];
            if (box[2 + k] > boxes[2 + k]) boxes[2 + k] = box[2 + k];
        }
    }
    if (s->n_boxes > 1) s->n_boxes = 1;
}

static vg_status kept_fill(const vg_shard_maker *m, vg_kept_record *kept, const vg_import_record *from)
{
    struct stat info;
    *kept = (vg_kept_record){.record = *from};
    kept->sentences = vg_new0_array(from->n_sentences, sizeof *kept->sentences);
    kept->block = vg_new0(block_bytes(from));
    if (!kept->sentences || !kept->block) {
        kept_release(kept);
        return vg_fail(VG_E_NOMEM, "no memory for the sentences of image %lld", (long long)from->image_id);
    }
    kept_copy(kept, from);
    for (size_t i = 0; i < from->n_sentences && m->merge_boxes; i++)
        boxes_merge(&kept->sentences[i], kept->boxes + (kept->sentences[i].boxes - kept->boxes));
    const bool is_there = stat(from->path, &info) == 0;
    kept->size = is_there && info.st_size > 0 ? (uint64_t)info.st_size : 0;
    kept->absent = m->options->allow_absent && !is_there && vg_file_absent(errno);
    return VG_OK;
}

/* ---- the hash of what goes into a shard ---- */

static void hash_string(XXH3_state_t *state, const char *text, size_t n)
{
    const uint64_t length = n;
    XXH3_64bits_update(state, &length, sizeof length);
    XXH3_64bits_update(state, text, n);
}

static void hash_record(XXH3_state_t *state, const vg_import_record *r, const vg_found_image *image)
{
    const uint64_t head[] = {(uint64_t)r->image_id,
                             (uint64_t)r->coco_id,
                             (uint64_t)r->flickr_id,
                             (uint64_t)r->width,
                             (uint64_t)r->height,
                             r->n_sentences,
                             image->bytes ? XXH3_64bits(image->bytes, image->n_bytes) : 0};
    XXH3_64bits_update(state, head, sizeof head);
    hash_string(state, r->file_name, strlen(r->file_name));
    for (size_t i = 0; i < r->n_sentences; i++) {
        const vg_new_sentence *s = &r->sentences[i];
        const uint64_t ids[] = {(uint64_t)s->sentence_id, (uint64_t)s->ref_id, (uint64_t)s->n_boxes};
        XXH3_64bits_update(state, ids, sizeof ids);
        hash_string(state, s->text, s->text_bytes);
        hash_string(state, s->split, strlen(s->split));
        hash_string(state, s->kind, strlen(s->kind));
        if (s->n_boxes) XXH3_64bits_update(state, s->boxes, (size_t)s->n_boxes * 4 * sizeof(float));
    }
}

static void hash_begin(XXH3_state_t *state)
{
    const uint64_t version = VG_SHARD_VERSION;
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, &version, sizeof version);
}

/* ---- from records to a shard ---- */

static vg_status image_count(vg_shard_maker *m, const vg_new_image *image)
{
    for (size_t i = 0; i < image->n_sentences; i++) {
        unsigned char key[8];
        const uint64_t hash = XXH3_64bits(image->sentences[i].text, image->sentences[i].text_bytes);
        memcpy(key, &hash, sizeof key);
        VG_TRY(vg_sorter_add(m->phrases, key, sizeof key));
    }
    return vg_import_count(m->report, image);
}

static vg_status phrases_count(vg_shard_maker *m)
{
    const unsigned char *key;
    unsigned char last[8] = {0};
    size_t n;
    VG_TRY(vg_sorter_sort(m->phrases));
    for (;;) {
        VG_TRY(vg_sorter_next(m->phrases, &key, &n));
        if (!key) return VG_OK;
        m->report->phrases += m->report->phrases == 0 || memcmp(last, key, sizeof last) != 0;
        memcpy(last, key, sizeof last);
    }
}

/* Tells of an image that goes into the shard at hand. */
static vg_status image_tell(const vg_shard_maker *m, const vg_import_record *r, const vg_new_image *image)
{
    vg_text line = {0};
    int64_t n_boxes = 0;
    if (!m->options->tell) return VG_OK;
    for (size_t i = 0; i < image->n_sentences; i++) n_boxes += image->sentences[i].n_boxes;
    VG_TRY(vg_text_add(&line, "%s-%05d.h5: image %lld, %s, %d x %d%s: %zu sentences, %lld boxes", m->set,
                       m->report->shards, (long long)r->image_id, r->path, image->width, image->height,
                       image->bytes ? "" : ", absent", image->n_sentences, (long long)n_boxes));
    m->options->tell(m->options->user, line.data);
    free(line.data);
    return VG_OK;
}

/* Holds the boxes against a picture whose size was not known before; sentences with one outside are set aside. */
static vg_status boxes_fit(vg_shard_maker *m, vg_kept_record *kept, const vg_found_image *found)
{
    vg_import_record *r = &kept->record;
    size_t n = 0;
    for (size_t i = 0; i < r->n_sentences; i++) {
        const vg_new_sentence *s = &kept->sentences[i];
        float *boxes = kept->boxes + (s->boxes - kept->boxes);
        const char *fault = NULL;
        for (int b = 0; b < s->n_boxes && !fault; b++) {
            float *box = boxes + 4 * (size_t)b;
            const double xyxy[4] = {box[0], box[1], box[2], box[3]};
            fault = vg_import_box_fault(xyxy, found->width, found->height, r->slack, box);
        }
        if (fault)
            VG_TRY(vg_import_reject(m->log, 1, "image %lld (%s): sentence %lld %s (%d x %d pixels)",
                                    (long long)r->image_id, r->file_name, (long long)s->sentence_id, fault,
                                    found->width, found->height));
        else
            kept->sentences[n++] = *s;
    }
    r->n_sentences = n;
    return VG_OK;
}

static vg_status image_reject(vg_shard_maker *m, const vg_import_record *r, const char *why)
{
    m->report->bad_images++;
    return vg_import_reject(m->log, r->n_sentences, "image %lld: %s", (long long)r->image_id, why);
}

/* A bad image, or one whose sentences a reader would refuse, is set aside; any other failure ends the import. */
static vg_status image_put(vg_shard_maker *m, vg_shard_writer *writer, vg_kept_record *kept,
                           const vg_found_image *found)
{
    const vg_import_record *r = &kept->record;
    if (found->status == VG_E_DATA) return image_reject(m, r, found->why);
    if (found->status != VG_OK) return vg_fail(found->status, "%s", found->why);
    if (r->width == 0 || r->height == 0) VG_TRY(boxes_fit(m, kept, found));
    if (r->n_sentences == 0) return VG_OK;
    const vg_new_image image = {.image_id = r->image_id,
                                .coco_id = r->coco_id,
                                .flickr_id = r->flickr_id,
                                .width = found->width,
                                .height = found->height,
                                .file_name = r->file_name,
                                .bytes = found->bytes,
                                .n_bytes = found->n_bytes,
                                .sentences = r->sentences,
                                .n_sentences = r->n_sentences};
    const vg_status st = vg_shard_writer_add(writer, &image);
    if (st == VG_OK) VG_TRY(image_tell(m, r, &image));
    if (st == VG_OK) return image_count(m, &image);
    if (st != VG_E_DATA) return st;
    m->report->bad_images++;
    return vg_import_reject(m->log, r->n_sentences, "%s", vg_error_text()); /* which begins with the image */
}

/* How many images from `first` on are in memory together. */
static size_t window_at(const vg_shard_maker *m, size_t first)
{
    size_t n = 0;
    uint64_t bytes = 0;
    while (n < WINDOW && first + n < m->n && (n == 0 || bytes + m->records[first + n].size <= WINDOW_BYTES))
        bytes += m->records[first + n++].size;
    return n;
}

/* Goes through the images of the records in order, a window at a time: *inputs is their hash; with a writer they are
 * decoded and put into it. */
static vg_status images_walk(vg_shard_maker *m, vg_shard_writer *writer, uint64_t *inputs)
{
    XXH3_state_t state;
    vg_found_image *found = vg_new0_array(WINDOW, sizeof *found);
    VG_CHECK(found, VG_E_NOMEM, "no memory for a window of images");
    vg_status st = VG_OK;
    m->n_turned = 0;
    hash_begin(&state);
    for (size_t first = 0, n; first < m->n && st == VG_OK; first += n) {
        n = window_at(m, first);
        if ((st = vg_stop_check()) != VG_OK) break;
        vg_import_images(m->records + first, n, writer != NULL, m->n_threads, found);
        for (size_t i = 0; i < n; i++) {
            vg_kept_record *kept = &m->records[first + i];
            hash_record(&state, &kept->record, &found[i]);
            m->n_turned += found[i].status == VG_OK && found[i].turned;
            if (writer && st == VG_OK) st = image_put(m, writer, kept, &found[i]);
            free(found[i].bytes);
        }
    }
    free(found);
    *inputs = XXH3_64bits_digest(&state);
    return st;
}

static vg_status shard_write(vg_shard_maker *m, const char *path)
{
    vg_shard_writer *writer = NULL;
    uint64_t inputs = 0;
    VG_TRY(vg_shard_writer_open(m->options->dry_run ? NULL : path, m->set, m->report->split_by, &writer));
    const vg_status st = images_walk(m, writer, &inputs);
    if (st == VG_OK) return vg_shard_writer_close(writer, inputs);
    vg_shard_writer_abandon(writer);
    return st;
}

/* The sentences of image `row` of a finished shard, from *first on, which moves behind them; the caller frees them. */
static vg_status sentences_read(const vg_shard_tables *t, size_t row, size_t *first, vg_new_sentence **out, size_t *n)
{
    const size_t begin = *first;
    while (*first < t->n_sentences && t->sentences[*first].image == (int64_t)row) ++*first;
    *n = *first - begin;
    *out = vg_new0_array(*n, sizeof **out);
    VG_CHECK(*out, VG_E_NOMEM, "no memory for %zu sentences", *n);
    for (size_t i = 0; i < *n; i++) {
        const vg_shard_sentence *s = &t->sentences[begin + i];
        (*out)[i] = (vg_new_sentence){.sentence_id = s->sentence_id,
                                      .ref_id = s->ref_id,
                                      .text = t->text + s->text_offset,
                                      .text_bytes = s->text_length,
                                      .split = t->splits[s->split],
                                      .kind = t->kinds[s->kind],
                                      .boxes = t->boxes[s->first_box],
                                      .n_boxes = s->n_boxes};
    }
    return VG_OK;
}

/* Counts image `row` of a finished shard, which was made of `r`; sentences that it lacks were set aside then. */
static vg_status row_count(vg_shard_maker *m, const vg_shard *shard, size_t row, size_t *first,
                           const vg_import_record *r)
{
    const vg_shard_image *image = &shard->tables.images[row];
    vg_new_image counted = {.coco_id = image->coco_id, .n_bytes = (size_t)image->length};
    vg_new_sentence *sentences = NULL;
    VG_TRY(sentences_read(&shard->tables, row, first, &sentences, &counted.n_sentences));
    counted.sentences = sentences;
    vg_status st = image_count(m, &counted);
    if (st == VG_OK && counted.n_sentences < r->n_sentences)
        st = vg_import_reject(m->log, r->n_sentences - counted.n_sentences,
                              "image %lld: %s was written without %zu of its sentences", (long long)r->image_id,
                              shard->path, r->n_sentences - counted.n_sentences);
    free(sentences);
    return st;
}

/* Counts what a finished shard holds of the records; what it lacks was set aside when it was written. */
static vg_status shard_count(vg_shard_maker *m, const vg_shard *shard)
{
    size_t row = 0, first = 0;
    for (size_t i = 0; i < m->n; i++) {
        const vg_import_record *r = &m->records[i].record;
        if (row < shard->tables.n_images && shard->tables.images[row].image_id == r->image_id) {
            VG_TRY(row_count(m, shard, row++, &first, r));
            continue;
        }
        vg_text why = {0};
        vg_status st = vg_text_add(&why, "%s: set aside when %s was written", r->path, shard->path);
        if (st == VG_OK) st = image_reject(m, r, why.data);
        free(why.data);
        VG_TRY(st);
    }
    return VG_OK;
}

/* *kept when `path` is a finished shard that was made of these very records. */
static vg_status shard_keep(vg_shard_maker *m, const char *path, bool *kept)
{
    struct stat info;
    vg_shard *shard = NULL;
    uint64_t inputs = 0;
    *kept = false;
    if (stat(path, &info) != 0 || vg_shard_open(path, &shard) != VG_OK) return VG_OK;
    vg_status st = images_walk(m, NULL, &inputs);
    *kept = st == VG_OK && strcmp(shard->origin.source, m->set) == 0 &&
            strcmp(shard->origin.split_by, m->report->split_by) == 0 && shard->origin.inputs == inputs;
    if (*kept) st = shard_count(m, shard);
    vg_shard_close(shard);
    return st;
}

static vg_status shard_path(const vg_shard_maker *m, vg_text *path)
{
    return vg_text_add(path, "%s/%s-%05d.h5", m->out, m->set, m->report->shards);
}

/* The records become a shard, or are found to be one already. */
static vg_status shard_make(vg_shard_maker *m)
{
    if (m->n == 0) return VG_OK;
    vg_text path = {0};
    bool kept = false;
    const int64_t images = m->report->images;
    vg_status st = shard_path(m, &path);
    if (st == VG_OK && !m->options->dry_run) st = vg_shard_mark_set(m->out, m->set, m->cut);
    if (st == VG_OK && !m->options->dry_run) st = shard_keep(m, path.data, &kept);
    if (st == VG_OK && !kept) st = shard_write(m, path.data);
    free(path.data);
    records_clear(m);
    VG_TRY(st);
    m->report->shards += m->report->images > images; /* a shard without images is not written */
    m->report->shards_kept += kept;
    m->report->turned_images += m->n_turned;
    return VG_OK;
}

/* Whether the shard at hand has no room for one more. */
static bool is_full(const vg_shard_maker *m, const vg_kept_record *next)
{
    return m->n > 0 &&
           (m->size + next->size > m->shard_bytes || m->n_sentences + next->record.n_sentences > MAX_SENTENCES);
}

vg_status vg_shard_maker_add(vg_shard_maker *m, const vg_import_record *record)
{
    vg_kept_record kept;
    VG_TRY(vg_grow(&m->records, &m->capacity, m->n + 1, sizeof *m->records));
    VG_TRY(kept_fill(m, &kept, record));
    const vg_status st = is_full(m, &kept) ? shard_make(m) : VG_OK;
    if (st != VG_OK) {
        kept_release(&kept);
        return st;
    }
    m->size += kept.size;
    m->n_sentences += record->n_sentences;
    m->records[m->n++] = kept;
    return VG_OK;
}

vg_status vg_shard_maker_finish(vg_shard_maker *m)
{
    VG_TRY(shard_make(m));
    return phrases_count(m);
}

vg_status vg_shard_maker_seal(vg_shard_maker *m)
{
    vg_text path = {0};
    struct stat info;
    if (m->options->dry_run) return VG_OK;
    vg_status st = shard_path(m, &path);
    if (st == VG_OK && stat(path.data, &info) == 0) /* readers of the folder would take it along */
        st = vg_fail(VG_E_DATA, "%s is left of an earlier import; remove it and those after it", path.data);
    else if (st == VG_OK && !vg_file_absent(errno))
        st = vg_fail(vg_file_fault(errno), "%s: %s", path.data, strerror(errno));
    free(path.data);
    return st == VG_OK ? vg_shard_mark_clear(m->out, m->set) : st;
}
