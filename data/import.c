#include "data/import_impl.h"
#include "data/progress.h"
#include "data/shard_impl.h"
#include "data/workers.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { USUAL_SHARD_BYTES = 256 << 20, MAX_BAD_LINES = 1000, PHRASES_BUDGET_BYTES = 8 << 20 };

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

const vg_import_set *vg_import_set_find(const char *name)
{
    for (size_t i = 0; i < N_SETS; i++)
        if (strcmp(sets[i].name, name) == 0) return &sets[i];
    return NULL;
}

vg_status vg_import_sets_tell(vg_text *out)
{
    for (size_t i = 0; i < N_SETS; i++) VG_TRY(vg_text_add(out, "  %-15s %s\n", sets[i].name, sets[i].help));
    return VG_OK;
}

const vg_import_set *vg_import_set_probe(const char *root)
{
    for (size_t i = 0; i < N_SETS; i++)
        if (sets[i].importer->probe(sets[i].name, root)) return &sets[i];
    return NULL;
}

static vg_status fail_unknown_set(const char *name, const char *root)
{
    const char *names[N_SETS];
    vg_text known = {0};
    vg_status st = VG_OK;
    for (size_t i = 0; i < N_SETS && st == VG_OK; i++) {
        names[i] = sets[i].name;
        st = vg_text_add(&known, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = vg_nearest_word(name, names, N_SETS);
    const vg_import_set *there = vg_import_set_probe(root);
    if (st == VG_OK)
        st = vg_fail(VG_E_USAGE, "no dataset is called '%s'%s%s%s; there are %s%s%s%s%s", name,
                     near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "", known.data, there ? "; " : "",
                     there ? root : "", there ? " looks like " : "", there ? there->name : "");
    free(known.data);
    return st;
}

/* ---- what is set aside ---- */

struct vg_import_log {
    vg_import_report *report;
    const vg_import_options *options;
    vg_progress progress; /* its `what` is NULL before the first */
};

vg_import_log *vg_import_log_new(vg_import_report *report, const vg_import_options *options)
{
    vg_import_log *log = vg_new0(sizeof *log);
    if (log) *log = (vg_import_log){.report = report, .options = options};
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
    VG_CHECK(!log->options->strict, VG_E_DATA, "%s (--strict)", line);
    if (log->options->tell) log->options->tell(log->options->user, line);
    return log->report->bad_lines++ < MAX_BAD_LINES ? vg_text_add(&log->report->bad, "%s\n", line) : VG_OK;
}

void vg_import_leave_short(vg_import_log *log, const char *place, size_t min_characters)
{
    char line[512];
    log->report->short_phrases++;
    if (!log->options->tell) return;
    snprintf(line, sizeof line, "%s: left out, a phrase of fewer than %zu characters", place, min_characters);
    log->options->tell(log->options->user, line);
}

void vg_import_count_clamped(vg_import_log *log, size_t n_boxes)
{
    log->report->clamped_boxes += (int64_t)n_boxes;
}

void vg_import_note_unmet(vg_import_log *log, int64_t n_lines, int64_t first_line)
{
    log->report->unmet_lines = n_lines;
    log->report->first_unmet = first_line;
}

vg_status vg_import_progress(vg_import_log *log, const char *what, int64_t done, int64_t all, const char *unit)
{
    if (!log->options->tell_progress) return vg_stop_check();
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
    if (xyxy[0] >= xyxy[2] || xyxy[1] >= xyxy[3]) return "has an empty box";
    out[0] = (float)fmax(xyxy[0], 0);
    out[1] = (float)fmax(xyxy[1], 0);
    out[2] = (float)fmin(xyxy[2], right);
    out[3] = (float)fmin(xyxy[3], bottom);
    return out[0] < out[2] && out[1] < out[3] ? NULL : "has a box with nothing in its image";
}

/* ---- the import ---- */

static vg_status check_bad_share(const vg_import_report *r, double max_bad)
{
    const double all = (double)(r->sentences + r->bad_sentences);
    const char *bad = r->bad.data ? r->bad.data : "";
    const int first = (int)strcspn(bad, "\n");
    VG_CHECK(all > 0 || first, VG_E_DATA, "nothing was imported: it holds no phrases but those that are left out");
    VG_CHECK(r->sentences > 0, VG_E_DATA, "nothing was imported: %lld images and %lld sentences were set aside%s%.*s%s",
             (long long)r->bad_images, (long long)r->bad_sentences, first ? ", the first: " : "", first, bad,
             r->bad_images ? "; --images names the folder where its pictures are" : "");
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

/* Reads the set and makes its shards; the caller releases the maker. */
static vg_status import_set(const vg_import_set *set, const vg_import_source *source, vg_shard_maker *maker)
{
    void *state = NULL;
    VG_TRY(vg_sorter_new(source->scratch, PHRASES_BUDGET_BYTES, &maker->phrases));
    vg_status st = set->importer->open(source, maker->log, &state, maker->report->split_by);
    if (st == VG_OK) st = import_records(set->importer, state, maker);
    if (state) set->importer->close(state);
    VG_TRY(st);
    st = check_bad_share(maker->report, maker->options->max_bad);
    if (st != VG_OK) return vg_fail_at(st, "%s", source->root);
    return vg_shard_maker_seal(maker);
}

/* Where runs of sorting go: beside the shards, where there must be room, or where temporary files are. */
static const char *scratch_folder(const char *out, const vg_import_options *options)
{
    const char *temporary = getenv("TMPDIR");
    if (!options->dry_run) return out;
    return temporary && *temporary ? temporary : "/tmp";
}

static vg_status check_images_folder(const char *images)
{
    struct stat info;
    if (!images) return VG_OK;
    VG_CHECK(stat(images, &info) == 0, vg_file_fault(errno), "--images %s: %s", images, strerror(errno));
    VG_CHECK(S_ISDIR(info.st_mode), VG_E_DATA, "--images %s: no folder", images);
    return VG_OK;
}

static vg_status check_options(const vg_import_set *set, const vg_import_options *options)
{
    VG_CHECK(!options->split_by || set->importer->has_split_by, VG_E_USAGE, "--split-by: %s comes in one split alone",
             set->name);
    VG_CHECK(!set->importer->has_splits || !(options->splits || options->shares), VG_E_USAGE,
             "--splits, --shares: %s has splits of its own; `vlgtr shard split` takes a share of one", set->name);
    return check_images_folder(options->images);
}

static vg_status import_into(const vg_import_set *set, const char *root, const char *out,
                             const vg_import_options *options, vg_import_report *report)
{
    const vg_importer *importer = set->importer;
    const vg_import_source source = {.set = set->name,
                                     .root = root,
                                     .images = options->images,
                                     .split_by = options->split_by,
                                     .splits = options->splits,
                                     .shares = options->shares || options->splits ? options->shares : importer->shares,
                                     .seed = options->seed,
                                     .scratch = scratch_folder(out, options)};
    vg_shard_maker maker = {.set = set->name, .out = out, .report = report, .options = options};
    maker.shard_bytes = options->shard_bytes ? options->shard_bytes : USUAL_SHARD_BYTES;
    snprintf(maker.cut, sizeof maker.cut, "--shard-mb %g", (double)maker.shard_bytes / (1 << 20));
    if (!options->dry_run) VG_TRY(vg_shard_mark_check(out, set->name, maker.cut));
    maker.merge_boxes = options->boxes == VG_BOXES_USUAL ? importer->merges_boxes : options->boxes == VG_BOXES_MERGED;
    maker.n_threads = options->threads ? options->threads : vg_processors();
    maker.log = vg_import_log_new(report, options);
    VG_CHECK(maker.log, VG_E_NOMEM, "no memory for an import");
    const double begin_s = vg_now_s();
    const vg_status st = import_set(set, &source, &maker);
    report->seconds = vg_now_s() - begin_s;
    vg_shard_maker_release(&maker);
    vg_import_log_free(maker.log);
    return st;
}

vg_status vg_import(const char *name, const char *root, const char *out, const vg_import_options *options,
                    vg_import_report *report)
{
    *report = (vg_import_report){0};
    const vg_import_set *set = vg_import_set_find(name);
    if (!set) return fail_unknown_set(name, root);
    VG_TRY(check_options(set, options));
    snprintf(report->set, sizeof report->set, "%s", name);
    if (options->dry_run) return import_into(set, root, out, options, report);
    const size_t there = vg_path_there(out);
    const bool is_made = there < strlen(out);
    int lock = -1;
    vg_status st = vg_make_directories(out);
    if (st == VG_OK) VG_TRY(vg_folder_lock(out, &lock)); /* what is in there is another's */
    if (st == VG_OK) st = import_into(set, root, out, options, report);
    if (st != VG_OK && is_made && report->shards == 0) VG_KEEP(st, vg_shard_mark_clear(out, name));
    if (st != VG_OK) vg_remove_made(out, there);
    if (lock >= 0) close(lock);
    return st;
}
