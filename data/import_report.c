#include "data/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOLD = 20 }; /* lines on what was set aside; a dry run tells all as they come */

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

/* A ref in a split. */
typedef struct split_ref {
    int64_t split, ref;
} split_ref;

static int by_split_and_ref(const void *a, const void *b)
{
    const split_ref *x = a, *y = b;
    if (x->split != y->split) return x->split < y->split ? -1 : 1;
    return (x->ref > y->ref) - (x->ref < y->ref);
}

/* Counts images and refs of the splits, each once, however the sentences are mixed. */
static void refs_count(vg_import_report *report, split_ref *refs, size_t n)
{
    qsort(refs, n, sizeof *refs, by_split_and_ref);
    for (size_t i = 0; i < n; i++) {
        const bool new_split = i == 0 || refs[i].split != refs[i - 1].split;
        const bool new_ref = new_split || refs[i].ref != refs[i - 1].ref;
        report->splits[refs[i].split].images += new_split;
        report->splits[refs[i].split].refs += new_ref;
        report->refs += new_ref;
    }
}

static vg_status sentences_count(vg_import_report *report, const vg_new_image *image, split_ref *refs)
{
    for (size_t i = 0; i < image->n_sentences; i++) {
        const vg_new_sentence *s = &image->sentences[i];
        vg_import_split *split = NULL;
        VG_TRY(split_of(report, s->split, &split));
        split->sentences++;
        split->boxes += s->n_boxes;
        report->boxes += s->n_boxes;
        refs[i] = (split_ref){split - report->splits, s->ref_id};
    }
    return VG_OK;
}

vg_status vg_import_count(vg_import_report *report, const vg_new_image *image)
{
    split_ref *refs = vg_new0_array(image->n_sentences, sizeof *refs);
    VG_CHECK(refs, VG_E_NOMEM, "no memory to count %zu sentences", image->n_sentences);
    const vg_status st = sentences_count(report, image, refs);
    if (st == VG_OK && image->n_sentences > 0) refs_count(report, refs, image->n_sentences);
    free(refs);
    VG_TRY(st);
    report->images++;
    report->absent_images += image->n_bytes == 0;
    report->coco_images += image->coco_id != 0;
    report->sentences += (int64_t)image->n_sentences;
    report->image_bytes += (int64_t)image->n_bytes;
    return VG_OK;
}

/* ---- beside what is published ---- */

typedef struct published {
    const char *set, *split_by;
    vg_import_split counts; /* name "" for all splits; 0 where a figure is not known */
} published;

#define VG_PUBLISHED(set, split_by, split, images, refs, sentences, boxes) \
    {set, split_by, {split, images, refs, sentences, boxes}},
static const published published_rows[] = {
#include "data/published_counts.def"
};
#undef VG_PUBLISHED

static vg_status compare_one(vg_text *out, bool *differs, const char *what, int64_t wanted, int64_t got)
{
    if (wanted == 0 || wanted == got) return VG_OK;
    VG_TRY(vg_text_add(out, "%s%lld %s, got %lld", *differs ? ", " : "expected ", (long long)wanted, what,
                       (long long)got));
    *differs = true;
    return VG_OK;
}

static vg_status compare(vg_text *out, const published *row, const vg_import_split *got)
{
    const vg_import_split *wanted = &row->counts;
    bool differs = false;
    VG_TRY(vg_text_add(out, "%s of %s%s%s%s: ", *wanted->name ? wanted->name : "all", row->set,
                       *row->split_by ? " (" : "", row->split_by, *row->split_by ? ")" : ""));
    VG_TRY(compare_one(out, &differs, "images", wanted->images, got->images));
    VG_TRY(compare_one(out, &differs, "refs", wanted->refs, got->refs));
    VG_TRY(compare_one(out, &differs, "sentences", wanted->sentences, got->sentences));
    VG_TRY(compare_one(out, &differs, "boxes", wanted->boxes, got->boxes));
    return vg_text_add(out, differs ? "\n" : "as published\n");
}

static vg_status published_add(const vg_import_report *r, vg_text *out)
{
    const vg_import_split all = {.images = r->images, .refs = r->refs, .sentences = r->sentences, .boxes = r->boxes};
    for (size_t i = 0; i < sizeof published_rows / sizeof *published_rows; i++) {
        const published *row = &published_rows[i];
        const vg_import_split *got = *row->counts.name ? NULL : &all;
        if (strcmp(row->set, r->set) != 0 || strcmp(row->split_by, r->split_by) != 0) continue;
        for (int k = 0; k < r->n_splits; k++)
            if (strcmp(r->splits[k].name, row->counts.name) == 0) got = &r->splits[k];
        if (got) VG_TRY(compare(out, row, got));
    }
    return VG_OK;
}

/* ---- for people ---- */

static vg_status row_add(vg_text *out, const char *name, const vg_import_split *s)
{
    return vg_text_add(out, "%-12s %10lld %10lld %10lld %10lld\n", name, (long long)s->images, (long long)s->refs,
                       (long long)s->sentences, (long long)s->boxes);
}

/* What is no fault, but good to know of what was taken. */
static vg_status taken_otherwise_add(const vg_import_report *r, vg_text *out)
{
    if (r->absent_images)
        VG_TRY(vg_text_add(out, "%lld images are absent: to be looked at, not to be trained on\n",
                           (long long)r->absent_images));
    if (r->coco_images)
        VG_TRY(vg_text_add(out,
                           "%lld images are COCO's; `vlgtr shard leakage` finds those that stand in evaluation splits "
                           "of other sets\n",
                           (long long)r->coco_images));
    if (r->turned_images)
        VG_TRY(vg_text_add(out,
                           "%lld images are turned by their EXIF orientation where viewers show them, and not here: "
                           "boxes are in pixels as they are stored\n",
                           (long long)r->turned_images));
    if (r->clamped_boxes)
        VG_TRY(vg_text_add(out, "%lld boxes left their image and were clamped to it\n", (long long)r->clamped_boxes));
    if (r->short_phrases)
        VG_TRY(vg_text_add(out, "%lld phrases are too short and were left out\n", (long long)r->short_phrases));
    if (r->unmet_lines)
        VG_TRY(vg_text_add(out,
                           "%lld lines of --splits name no image that the set has phrases of, the first is line %lld\n",
                           (long long)r->unmet_lines, (long long)r->first_unmet));
    return VG_OK;
}

static vg_status set_aside_add(const vg_import_report *r, vg_text *out)
{
    const char *end = r->bad.data;
    VG_TRY(vg_text_add(out, "%lld images and %lld sentences set aside\n", (long long)r->bad_images,
                       (long long)r->bad_sentences));
    if (r->bad.length == 0) return VG_OK;
    for (int i = 0; i < MOST_TOLD && *end; i++) end += strcspn(end, "\n") + 1;
    VG_TRY(vg_text_add_bytes(out, r->bad.data, (size_t)(end - r->bad.data)));
    return r->bad_lines > MOST_TOLD
               ? vg_text_add(out, "and %lld more; --dry-run tells of each\n", (long long)r->bad_lines - MOST_TOLD)
               : VG_OK;
}

vg_status vg_import_report_text(const vg_import_report *r, vg_text *out)
{
    const vg_import_split all = {.images = r->images, .refs = r->refs, .sentences = r->sentences, .boxes = r->boxes};
    VG_TRY(vg_text_add(out, "%-12s %10s %10s %10s %10s\n", "split", "images", "refs", "sentences", "boxes"));
    for (int i = 0; i < r->n_splits; i++) VG_TRY(row_add(out, r->splits[i].name, &r->splits[i]));
    VG_TRY(row_add(out, "all", &all));
    VG_TRY(vg_text_add(out, "%lld distinct phrases; %d shards, %.1f MiB of images", (long long)r->phrases, r->shards,
                       (double)r->image_bytes / (1 << 20)));
    if (r->shards_kept) VG_TRY(vg_text_add(out, "; %d of them were finished before and kept", r->shards_kept));
    if (r->seconds > 0)
        VG_TRY(vg_text_add(out, "; %.1f s: %.0f images/s, %.0f boxes/s", r->seconds, (double)r->images / r->seconds,
                           (double)r->boxes / r->seconds));
    VG_TRY(vg_text_add(out, "\n"));
    VG_TRY(published_add(r, out));
    VG_TRY(taken_otherwise_add(r, out));
    return set_aside_add(r, out);
}
