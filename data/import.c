#define _POSIX_C_SOURCE 200809L
#include "data/import.h"

#include "data/draw.h"
#include "data/shard_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { USUAL_SHARD_BYTES = 256 << 20, MAX_IMAGE_BYTES = VG_SHARD_MAX_IMAGE, MAX_BAD_LINES = 1000 };

/* ---- the table of sets ---- */

#define VG_IMPORTER(name, importer, split_by, help) extern const vg_importer importer;
#include "data/importers.def"
#undef VG_IMPORTER

#define VG_IMPORTER(name, importer, split_by, help) {name, &importer, split_by, help},
static const vg_import_set sets[] = {
#include "data/importers.def"
};
#undef VG_IMPORTER

enum { N_SETS = sizeof sets / sizeof *sets };

const vg_import_set *vg_import_sets(size_t *n)
{
    *n = N_SETS;
    return sets;
}

const vg_import_set *vg_import_set_find(const char *name)
{
    for (size_t i = 0; i < N_SETS; i++)
        if (strcmp(sets[i].name, name) == 0) return &sets[i];
    return NULL;
}

const vg_import_set *vg_import_set_probe(const char *root)
{
    for (size_t i = 0; i < N_SETS; i++)
        if (sets[i].importer->probe(sets[i].name, root)) return &sets[i];
    return NULL;
}

static vg_status fail_unknown_set(const char *name)
{
    const char *names[N_SETS];
    vg_text known = {0};
    vg_status st = VG_OK;
    for (size_t i = 0; i < N_SETS && st == VG_OK; i++) {
        names[i] = sets[i].name;
        st = vg_text_add(&known, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = vg_nearest_word(name, names, N_SETS);
    if (st == VG_OK)
        st = vg_fail(VG_E_USAGE, "no dataset is called '%s'%s%s%s; there are %s", name, near ? ", did you mean '" : "",
                     near ? near : "", near ? "'?" : "", known.data);
    free(known.data);
    return st;
}

/* ---- what is set aside ---- */

struct vg_import_log {
    vg_import_report *report;
    bool strict;
    int64_t n_lines;
};

vg_import_log *vg_import_log_new(vg_import_report *report, bool strict)
{
    vg_import_log *log = vg_new0(sizeof *log);
    if (log) *log = (vg_import_log){.report = report, .strict = strict};
    return log;
}

void vg_import_log_free(vg_import_log *log)
{
    free(log);
}

vg_status vg_import_reject(vg_import_log *log, size_t n_sentences, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    log->report->bad_sentences += (int64_t)n_sentences;
    VG_CHECK(!log->strict, VG_E_DATA, "%s (--strict)", line);
    if (log->n_lines == MAX_BAD_LINES) VG_TRY(vg_text_add(&log->report->bad, "and more, not listed\n"));
    return log->n_lines++ < MAX_BAD_LINES ? vg_text_add(&log->report->bad, "%s\n", line) : VG_OK;
}

/* ---- the report ---- */

void vg_import_report_release(vg_import_report *report)
{
    free(report->bad.data);
    *report = (vg_import_report){0};
}

static vg_status split_of(vg_import_report *report, const char *name, vg_import_split **out)
{
    for (int i = 0; i < report->n_splits; i++) {
        if (strcmp(report->splits[i].name, name) != 0) continue;
        *out = &report->splits[i];
        return VG_OK;
    }
    VG_CHECK(report->n_splits < VG_IMPORT_MAX_SPLITS, VG_E_DATA, "more than %d splits; '%s' is one too many",
             VG_IMPORT_MAX_SPLITS, name);
    *out = &report->splits[report->n_splits++];
    snprintf((*out)->name, sizeof(*out)->name, "%s", name);
    return VG_OK;
}

/* The sentences of a ref stand together; those of a ref in two splits alternate between them. */
vg_status vg_import_count(vg_import_report *report, const vg_new_image *image)
{
    bool seen[VG_IMPORT_MAX_SPLITS] = {false};
    int64_t last_ref[VG_IMPORT_MAX_SPLITS];
    for (size_t i = 0; i < image->n_sentences; i++) {
        const vg_new_sentence *s = &image->sentences[i];
        vg_import_split *split = NULL;
        VG_TRY(split_of(report, s->split, &split));
        const size_t at = (size_t)(split - report->splits);
        const bool new_ref = !seen[at] || last_ref[at] != s->ref_id;
        split->images += !seen[at];
        split->refs += new_ref;
        split->sentences++;
        report->refs += new_ref;
        seen[at] = true;
        last_ref[at] = s->ref_id;
    }
    report->images++;
    report->sentences += (int64_t)image->n_sentences;
    report->image_bytes += (int64_t)image->n_bytes;
    return VG_OK;
}

vg_status vg_import_report_text(const vg_import_report *r, vg_text *out)
{
    VG_TRY(vg_text_add(out, "%-12s %10s %10s %10s\n", "split", "images", "refs", "sentences"));
    for (int i = 0; i < r->n_splits; i++) {
        const vg_import_split *s = &r->splits[i];
        VG_TRY(vg_text_add(out, "%-12s %10lld %10lld %10lld\n", s->name, (long long)s->images, (long long)s->refs,
                           (long long)s->sentences));
    }
    VG_TRY(vg_text_add(out, "%-12s %10lld %10lld %10lld\n", "all", (long long)r->images, (long long)r->refs,
                       (long long)r->sentences));
    VG_TRY(vg_text_add(out, "%d shards, %.1f MiB of images", r->shards, (double)r->image_bytes / (1 << 20)));
    if (r->shards_kept) VG_TRY(vg_text_add(out, "; %d of them were finished before and kept", r->shards_kept));
    VG_TRY(vg_text_add(out, "\n%lld images and %lld sentences set aside\n", (long long)r->bad_images,
                       (long long)r->bad_sentences));
    return r->bad.length ? vg_text_add_bytes(out, r->bad.data, r->bad.length) : VG_OK;
}

/* ---- one shard's worth of records ---- */

/* A record that outlives its importer's next call: texts and boxes are copied into one block. */
typedef struct kept_record {
    vg_import_record record;
    vg_new_sentence *sentences;
    char *block;
    uint64_t size; /* of the file; 0 when it is not there */
} kept_record;

typedef struct batch {
    kept_record *records;
    size_t n, capacity;
    uint64_t size;
} batch;

typedef struct import {
    const vg_import_set *set;
    const char *out, *split_by;
    vg_import_log *log;
    vg_import_report *report;
    uint64_t shard_bytes;
    batch batch;
    unsigned char *bytes; /* of the image at hand */
    size_t n_bytes;
} import;

static void kept_release(kept_record *kept)
{
    free(kept->sentences);
    free(kept->block);
}

static void batch_clear(batch *b)
{
    for (size_t i = 0; i < b->n; i++) kept_release(&b->records[i]);
    b->n = 0;
    b->size = 0;
}

/* Copies n bytes and a NUL behind *at, which moves on. */
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

static vg_status kept_fill(kept_record *kept, const vg_import_record *from)
{
    *kept = (kept_record){.record = *from};
    kept->sentences = vg_new0_array(from->n_sentences, sizeof *kept->sentences);
    kept->block = vg_new0(block_bytes(from));
    VG_CHECK(kept->sentences && kept->block, VG_E_NOMEM, "no memory for the sentences of image %lld",
             (long long)from->image_id);
    memcpy(kept->sentences, from->sentences, from->n_sentences * sizeof *kept->sentences);
    float *boxes = (float *)(void *)kept->block; /* first, where the block is aligned */
    for (size_t i = 0; i < from->n_sentences; i++) {
        const size_t n = 4 * (size_t)kept->sentences[i].n_boxes;
        if (n) memcpy(boxes, kept->sentences[i].boxes, n * sizeof *boxes);
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
    struct stat info;
    kept->size = stat(from->path, &info) == 0 && info.st_size > 0 ? (uint64_t)info.st_size : 0;
    return VG_OK;
}

/* ---- images ---- */

static vg_status image_read(import *im, const kept_record *kept)
{
    free(im->bytes);
    im->bytes = NULL;
    im->n_bytes = 0;
    char *bytes = NULL;
    VG_TRY(vg_file_read(kept->record.path, MAX_IMAGE_BYTES, &bytes, &im->n_bytes));
    im->bytes = (unsigned char *)bytes;
    return VG_OK;
}

/* Reads and decodes the image at hand and compares its size with the annotations. */
static vg_status image_check(import *im, const kept_record *kept, vg_new_image *out)
{
    const vg_import_record *r = &kept->record;
    vg_image picture = {0};
    VG_TRY(image_read(im, kept));
    const vg_status st = vg_image_decode(im->bytes, im->n_bytes, false, &picture);
    if (st != VG_OK) return vg_fail_at(st, "%s", r->path);
    *out = (vg_new_image){.image_id = r->image_id,
                          .width = picture.width,
                          .height = picture.height,
                          .file_name = r->file_name,
                          .bytes = im->bytes,
                          .n_bytes = im->n_bytes,
                          .sentences = r->sentences,
                          .n_sentences = r->n_sentences};
    vg_image_release(&picture);
    VG_CHECK((r->width == 0 || r->width == out->width) && (r->height == 0 || r->height == out->height), VG_E_DATA,
             "%s: %d x %d pixels, but the annotations say %d x %d", r->path, out->width, out->height, r->width,
             r->height);
    return VG_OK;
}

static vg_status image_reject(import *im, const kept_record *kept)
{
    im->report->bad_images++;
    char why[400];
    snprintf(why, sizeof why, "%s", vg_error_text());
    return vg_import_reject(im->log, kept->record.n_sentences, "image %lld: %s", (long long)kept->record.image_id, why);
}

/* ---- shards ---- */

static void hash_string(XXH3_state_t *state, const char *text, size_t n)
{
    const uint64_t length = n;
    XXH3_64bits_update(state, &length, sizeof length);
    XXH3_64bits_update(state, text, n);
}

static void hash_record(XXH3_state_t *state, const vg_import_record *r, const unsigned char *bytes, size_t n)
{
    const uint64_t head[] = {(uint64_t)r->image_id, (uint64_t)r->width, (uint64_t)r->height, r->n_sentences,
                             bytes ? XXH3_64bits(bytes, n) : 0};
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

/* The hash of what would go into the shard: reads every image, decodes none. */
static uint64_t batch_hash(import *im)
{
    XXH3_state_t state;
    hash_begin(&state);
    for (size_t i = 0; i < im->batch.n; i++) {
        const bool there = image_read(im, &im->batch.records[i]) == VG_OK;
        hash_record(&state, &im->batch.records[i].record, there ? im->bytes : NULL, im->n_bytes);
    }
    return XXH3_64bits_digest(&state);
}

/* Counts what a finished shard holds of the batch; what it lacks was set aside when it was written. */
static vg_status shard_count(import *im, const char *path, const vg_shard *shard)
{
    size_t row = 0;
    for (size_t i = 0; i < im->batch.n; i++) {
        const vg_import_record *r = &im->batch.records[i].record;
        const vg_shard_image *image = &shard->tables.images[row];
        if (row < shard->tables.n_images && image->image_id == r->image_id) {
            const vg_new_image counted = {
                .n_bytes = (size_t)image->length, .sentences = r->sentences, .n_sentences = r->n_sentences};
            VG_TRY(vg_import_count(im->report, &counted));
            row++;
        } else {
            vg_fail(VG_E_DATA, "%s was written without it", path);
            VG_TRY(image_reject(im, &im->batch.records[i]));
        }
    }
    return VG_OK;
}

/* True when `path` is finished and was made of this very batch. */
static vg_status shard_keep(import *im, const char *path, bool *kept)
{
    struct stat info;
    vg_shard *shard = NULL;
    *kept = false;
    if (stat(path, &info) != 0 || vg_shard_open(path, &shard) != VG_OK) return VG_OK;
    *kept = strcmp(shard->origin.source, im->set->name) == 0 && strcmp(shard->origin.split_by, im->split_by) == 0 &&
            shard->origin.inputs == batch_hash(im);
    const vg_status st = *kept ? shard_count(im, path, shard) : VG_OK;
    vg_shard_close(shard);
    return st;
}

static vg_status shard_fill(import *im, vg_shard_writer *writer, uint64_t *inputs)
{
    XXH3_state_t state;
    hash_begin(&state);
    for (size_t i = 0; i < im->batch.n; i++) {
        const kept_record *kept = &im->batch.records[i];
        vg_new_image image;
        vg_status st = image_check(im, kept, &image);
        hash_record(&state, &kept->record, im->bytes, im->n_bytes);
        if (st == VG_OK) st = vg_shard_writer_add(writer, &image);
        if (st != VG_OK && st != VG_E_DATA) return st;
        VG_TRY(st == VG_OK ? vg_import_count(im->report, &image) : image_reject(im, kept));
    }
    *inputs = XXH3_64bits_digest(&state);
    return VG_OK;
}

static vg_status shard_make(import *im, const char *path)
{
    vg_shard_writer *writer = NULL;
    uint64_t inputs = 0;
    VG_TRY(vg_shard_writer_open(path, im->set->name, im->split_by, &writer));
    const vg_status st = shard_fill(im, writer, &inputs);
    if (st == VG_OK) return vg_shard_writer_close(writer, inputs);
    vg_shard_writer_abandon(writer);
    return st;
}

static vg_status shard_path(const import *im, int index, vg_text *path)
{
    return vg_text_add(path, "%s/%s-%05d.h5", im->out, im->set->name, index);
}

/* The batch becomes a shard, or is found to be one already. */
static vg_status batch_flush(import *im)
{
    if (im->batch.n == 0) return VG_OK;
    vg_text path = {0};
    bool kept = false;
    const int64_t images = im->report->images;
    vg_status st = shard_path(im, im->report->shards, &path);
    if (st == VG_OK) st = shard_keep(im, path.data, &kept);
    if (st == VG_OK && !kept) st = shard_make(im, path.data);
    free(path.data);
    batch_clear(&im->batch);
    VG_TRY(st);
    im->report->shards += im->report->images > images; /* a shard without images is not written */
    im->report->shards_kept += kept;
    return VG_OK;
}

static vg_status batch_add(import *im, const vg_import_record *record)
{
    batch *b = &im->batch;
    VG_TRY(vg_grow(&b->records, &b->capacity, b->n + 1, sizeof *b->records));
    kept_record kept;
    const vg_status st = kept_fill(&kept, record);
    if (st != VG_OK) {
        kept_release(&kept);
        return st;
    }
    if (b->n > 0 && b->size + kept.size > im->shard_bytes) {
        const vg_status flushed = batch_flush(im);
        if (flushed != VG_OK) {
            kept_release(&kept);
            return flushed;
        }
    }
    b->size += kept.size;
    b->records[b->n++] = kept;
    return VG_OK;
}

/* ---- the import ---- */

/* Nothing of an earlier, larger import may lie behind the last shard: readers of the folder would take it along. */
static vg_status check_nothing_behind(const import *im)
{
    vg_text path = {0};
    struct stat info;
    vg_status st = shard_path(im, im->report->shards, &path);
    if (st == VG_OK && stat(path.data, &info) == 0)
        st = vg_fail(VG_E_DATA, "%s is left of an earlier import; remove it and those after it", path.data);
    free(path.data);
    return st;
}

static vg_status check_bad_share(const import *im, double max_bad)
{
    const vg_import_report *r = im->report;
    const double all = (double)(r->sentences + r->bad_sentences);
    VG_CHECK(r->sentences > 0, VG_E_DATA, "nothing was imported: %lld images and %lld sentences were set aside%s%.*s",
             (long long)r->bad_images, (long long)r->bad_sentences, r->bad.length ? ", the first: " : "",
             (int)strcspn(r->bad.data ? r->bad.data : "", "\n"), r->bad.data ? r->bad.data : "");
    VG_CHECK((double)r->bad_sentences <= max_bad * all, VG_E_DATA,
             "%lld of %.0f sentences were set aside, more than --max-bad %g allows, the first: %.*s",
             (long long)r->bad_sentences, all, max_bad, (int)strcspn(r->bad.data, "\n"), r->bad.data);
    return VG_OK;
}

static vg_status import_records(import *im, void *state)
{
    bool more = true;
    while (more) {
        vg_import_record record;
        VG_TRY(im->set->importer->next(state, &record, &more));
        if (more) VG_TRY(batch_add(im, &record));
    }
    VG_TRY(batch_flush(im));
    return check_nothing_behind(im);
}

vg_status vg_import(const char *name, const char *root, const char *out, const vg_import_options *options,
                    vg_import_report *report)
{
    *report = (vg_import_report){0};
import im = {.set = vg_import_set_find(name), .out = out, .report = report };
    if (!im.set) return fail_unknown_set(name);
    VG_TRY(vg_make_directories(out));
    im.shard_bytes = options->shard_bytes ? options->shard_bytes : USUAL_SHARD_BYTES;
    im.log = vg_import_log_new(report, options->strict);
    VG_CHECK(im.log, VG_E_NOMEM, "no memory for an import");
    const vg_import_source source = {name, root, options->images, options->split_by};
    void *state = NULL;
    vg_status st = im.set->importer->open(&source, im.log, &state, &im.split_by);
    if (st == VG_OK) st = import_records(&im, state);
    if (st == VG_OK) st = check_bad_share(&im, options->max_bad);
    if (state) im.set->importer->close(state);
    batch_clear(&im.batch);
    free(im.batch.records);
    free(im.bytes);
    vg_import_log_free(im.log);
    return st;
}
