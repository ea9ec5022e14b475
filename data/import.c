#include "data/import_impl.h"
#include "data/workers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USUAL_SHARD_BYTES = 256 << 20, MAX_BAD_LINES = 1000 };

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
    for (bool more = true; more;) {
        vg_import_record record;
        VG_TRY(importer->next(state, &record, &more));
        if (more) VG_TRY(vg_shard_maker_add(maker, &record));
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
    maker.log = vg_import_log_new(report, options->strict);
    VG_CHECK(maker.log, VG_E_NOMEM, "no memory for an import");
    const vg_import_source source = {name, root, options->images, options->split_by};
    void *state = NULL;
    vg_status st = set->importer->open(&source, maker.log, &state, &maker.split_by);
    if (st == VG_OK) st = import_records(set->importer, state, &maker);
    if (st == VG_OK) st = check_bad_share(report, options->max_bad);
    if (state) set->importer->close(state);
    vg_shard_maker_release(&maker);
    vg_import_log_free(maker.log);
    return st;
}
