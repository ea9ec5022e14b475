#include "data/import_impl.h"
#include "data/progress.h"
#include "data/workers.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USUAL_SHARD_BYTES = 256 << 20, MAX_BAD_LINES = 1000 };

#define MAX_COORDINATE 1e9 /* pixels; beyond any image, and exact enough as a float to be compared */

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
    bool tell_progress;
    vg_progress progress; /* its `what` is NULL before the first */
};

vg_import_log *vg_import_log_new(vg_import_report *report, bool strict, bool tell_progress)
{
    vg_import_log *log = vg_new0(sizeof *log);
    if (log) *log = (vg_import_log){.report = report, .strict = strict, .tell_progress = tell_progress};
    return log;
}

void vg_import_log_free(vg_import_log *log)
{
    if (log && log->progress.what) vg_progress_end(&log->progress);
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

vg_status vg_import_progress(vg_import_log *log, const char *what, int64_t done, int64_t all, const char *unit)
{
    if (!log->tell_progress) return vg_stop_check();
    vg_progress *p = &log->progress;
    if (what != p->what) {
        if (p->what) vg_progress_end(p);
        vg_progress_begin(p, what, unit, all);
    }
    p->total = all;
    vg_progress_add(p, done - atomic_load(&p->done));
    return vg_stop_check();
}

/* ---- boxes ---- */

const char *vg_import_box_fault(const double xyxy[4], int width, int height, double slack, float out[4])
{
    const double right = width > 0 ? width : HUGE_VAL, bottom = height > 0 ? height : HUGE_VAL;
    for (int i = 0; i < 4; i++)
        if (!isfinite(xyxy[i]) || fabs(xyxy[i]) > MAX_COORDINATE) return "has a box that is not finite";
    if (xyxy[0] < -slack || xyxy[1] < -slack || xyxy[2] > right + slack || xyxy[3] > bottom + slack)
        return "has a box that leaves its image";
    out[0] = (float)fmax(xyxy[0], 0);
    out[1] = (float)fmax(xyxy[1], 0);
    out[2] = (float)fmin(xyxy[2], right);
    out[3] = (float)fmin(xyxy[3], bottom);
    return out[0] < out[2] && out[1] < out[3] ? NULL : "has an empty box";
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
    report->absent_images += image->n_bytes == 0;
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
    if (r->absent_images)
        VG_TRY(vg_text_add(out, "\n%lld images are absent: to be looked at, not to be trained on",
                           (long long)r->absent_images));
    VG_TRY(vg_text_add(out, "\n%lld images and %lld sentences set aside\n", (long long)r->bad_images,
                       (long long)r->bad_sentences));
    return r->bad.length ? vg_text_add_bytes(out, r->bad.data, r->bad.length) : VG_OK;
}

/* ---- the import ---- */

static vg_status check_bad_share(const vg_import_report *r, double max_bad)
{
    const double all = (double)(r->sentences + r->bad_sentences);
    const char *bad = r->bad.data ? r->bad.data : "";
    const int first = (int)strcspn(bad, "\n");
    VG_CHECK(r->sentences > 0, VG_E_DATA, "nothing was imported: %lld images and %lld sentences were set aside%s%.*s",
             (long long)r->bad_images, (long long)r->bad_sentences, first ? ", the first: " : "", first, bad);
    VG_CHECK((double)r->bad_sentences <= max_bad * all, VG_E_DATA,
             "%lld of %.0f sentences were set aside, more than --max-bad %g allows, the first: %.*s",
             (long long)r->bad_sentences, all, max_bad, first, bad);
    return VG_OK;
}

static vg_status import_records(const vg_importer *importer, void *state, vg_shard_maker *maker)
{
    int64_t n = 0;
    for (bool more = true; more; n++) {
        vg_import_record record;
        VG_TRY(importer->next(state, &record, &more));
        if (more) VG_TRY(vg_shard_maker_add(maker, &record));
        const double share = importer->share(state);
        const int64_t all = share > 0 ? (int64_t)((double)n / share) : 0;
        VG_TRY(vg_import_progress(maker->log, "images into shards", n, all, "images"));
    }
    return vg_shard_maker_finish(maker);
}

vg_status vg_import(const char *name, const char *root, const char *out, const vg_import_options *options,
                    vg_import_report *report)
{
    *report = (vg_import_report){0};
    const vg_import_set *set = vg_import_set_find(name);
    if (!set) return fail_unknown_set(name);
    VG_TRY(vg_make_directories(out));
    vg_shard_maker maker = {.set = name, .out = out, .report = report};
    maker.shard_bytes = options->shard_bytes ? options->shard_bytes : USUAL_SHARD_BYTES;
    maker.n_threads = options->threads ? options->threads : vg_processors();
    maker.allow_absent = options->allow_absent;
    maker.log = vg_import_log_new(report, options->strict, options->tell_progress);
    VG_CHECK(maker.log, VG_E_NOMEM, "no memory for an import");
    const vg_import_source source = {.set = name,
                                     .root = root,
                                     .images = options->images,
                                     .split_by = options->split_by,
                                     .splits = options->splits,
                                     .shares = options->shares,
                                     .seed = options->seed,
                                     .scratch = out};
    void *state = NULL;
    vg_status st = set->importer->open(&source, maker.log, &state, &maker.split_by);
    if (st == VG_OK) st = import_records(set->importer, state, &maker);
    if (st == VG_OK) st = check_bad_share(report, options->max_bad);
    if (state) set->importer->close(state);
    vg_shard_maker_release(&maker);
    vg_import_log_free(maker.log);
    return st;
}
