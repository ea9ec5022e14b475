#include "data/draw.h"
#include "data/progress.h"
#include "data/shard_impl.h"
#include "data/shard_tools.h"
#include "data/workers.h"

#include <stdlib.h>
#include <string.h>

typedef struct image_result {
    vg_status status;
    char *why; /* heap; another thread's error text does not reach the caller */
} image_result;

/* One shard at hand. */
typedef struct verifier {
    const char *path;
    const vg_shard *shard;
    bool decode;
    vg_shard_verify_report *report;
    vg_progress *progress;
    bool *is_bad; /* image rows at fault, known before the shard is open */
    size_t n_bad, bad_capacity;
    image_result *results;
} verifier;

/* ---- noting ---- */

/* A line for people, and one for the list of what to leave out. */
static vg_status note(verifier *v, const char *line, uint64_t record, int64_t image_id, const char *file_name)
{
    vg_record_line entry = {.image_id = image_id, .file_name = file_name, .shard = v->path, .reason = line};
    v->report->bad++;
    VG_TRY(vg_text_add(&v->report->lines, "%s\n", line));
    vg_status st = vg_record_line_add(&entry, record);
    if (st == VG_OK) st = vg_record_line_text(&entry, &v->report->quarantine);
    vg_record_line_release(&entry);
    return st;
}

static vg_status note_row(void *user, const vg_row_fault *fault)
{
    verifier *v = user;
    vg_text line = {0};
    const bool image = strcmp(fault->table, "images") == 0;
    if (image) {
        VG_TRY(vg_grow(&v->is_bad, &v->bad_capacity, fault->row + 1, sizeof *v->is_bad));
        while (v->n_bad <= fault->row) v->is_bad[v->n_bad++] = false;
        v->is_bad[fault->row] = true;
    }
    vg_status st = vg_text_add(&line, "%s: /%s row %zu (%s %lld): %s", v->path, fault->table, fault->row,
                               image ? "image" : "sentence", (long long)fault->id, fault->what);
    if (st == VG_OK) st = note(v, line.data, fault->record, image ? fault->id : 0, "");
    free(line.data);
    return st;
}

/* ---- images ---- */

static vg_status image_verify(const verifier *v, size_t i)
{
    const vg_shard_image *row = &v->shard->tables.images[i];
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    vg_image image = {0};
    vg_status st = vg_shard_read_image(v->shard, i, &bytes, &capacity, &n);
    if (st == VG_OK && v->decode) {
        st = vg_image_decode(bytes, n, false, &image);
        if (st != VG_OK)
            st = vg_fail_at(st, "%s: image %lld", v->path, (long long)row->image_id);
        else if (image.width != row->width || image.height != row->height)
            st = vg_fail(VG_E_DATA, "%s: image %lld has another size than its row says", v->path,
                         (long long)row->image_id);
    }
    vg_image_release(&image);
    free(bytes);
    return st;
}

static bool row_is_bad(const verifier *v, size_t i)
{
    return i < v->n_bad && v->is_bad[i];
}

static void verify_one(void *context, size_t i)
{
    const verifier *v = context;
    const vg_shard_image *row = &v->shard->tables.images[i];
    if (row->length == 0 || row_is_bad(v, i)) return;
    v->results[i].status = image_verify(v, i);
    if (v->results[i].status != VG_OK) v->results[i].why = vg_copy_string(vg_error_text());
    vg_progress_add(v->progress, (int64_t)row->length);
}

/* Bad images are noted; other errors end the work. */
static vg_status images_verify(verifier *v)
{
    const vg_shard_tables *t = &v->shard->tables;
    v->results = vg_new0_array(t->n_images, sizeof *v->results);
    VG_CHECK(v->results, VG_E_NOMEM, "%s: no memory to verify %zu images", v->path, t->n_images);
    vg_work_on_each(t->n_images, vg_processors(), verify_one, v);
    vg_status st = VG_OK;
    for (size_t i = 0; i < t->n_images; i++) {
        const image_result *r = &v->results[i];
        const char *why = r->why ? r->why : "no memory for what is wrong with it";
        if (st == VG_OK && r->status == VG_E_DATA)
            st = note(v, why, t->images[i].record, t->images[i].image_id, t->text + t->images[i].name_offset);
        else if (st == VG_OK && r->status != VG_OK)
            st = vg_fail(r->status, "%s", why);
        free(r->why);
    }
    free(v->results);
    return st;
}

/* What a row at fault says of its bytes may be anything. */
static void count_up(const verifier *v)
{
    const vg_shard_tables *t = &v->shard->tables;
    v->report->images += (int64_t)t->n_images;
    v->report->sentences += (int64_t)t->n_sentences;
    for (size_t i = 0; i < t->n_images; i++) {
        if (row_is_bad(v, i)) continue;
        v->report->absent += t->images[i].length == 0;
        v->report->image_bytes += (int64_t)t->images[i].length;
    }
}

static vg_status shard_verify(const char *path, bool decode, vg_progress *progress, vg_shard_verify_report *report)
{
    vg_shard *shard = NULL;
    verifier v = {.path = path, .decode = decode, .report = report, .progress = progress};
    report->shards++;
    vg_status st = vg_shard_open_as(path, &(vg_shard_opening){.on_fault = note_row, .user = &v}, &shard);
    if (st == VG_OK) {
        v.shard = shard;
        st = images_verify(&v);
        count_up(&v);
    } else if (st == VG_E_DATA) { /* a shard that does not open has no records to leave out */
        report->bad++;
        st = vg_text_add(&report->lines, "%s\n", vg_error_text());
    }
    vg_shard_close(shard);
    free(v.is_bad);
    return st;
}

vg_status vg_shard_verify(const char *const *paths, int n_paths, bool decode, vg_shard_verify_report *report)
{
    vg_shard_paths list = {0};
    vg_progress progress;
    *report = (vg_shard_verify_report){0};
    vg_status st = vg_shard_paths_find(paths, n_paths, &list);
    vg_progress_begin(&progress, "verify", VG_PROGRESS_BYTES, vg_shard_paths_bytes(&list));
    for (size_t i = 0; i < list.n && st == VG_OK; i++) st = shard_verify(list.path[i], decode, &progress, report);
    vg_progress_end(&progress);
    vg_shard_paths_release(&list);
    VG_TRY(st);
    VG_CHECK(report->bad == 0, VG_E_DATA, "%lld faults in %lld shards with %lld images, the first: %.*s",
             (long long)report->bad, (long long)report->shards, (long long)report->images,
             (int)strcspn(report->lines.data, "\n"), report->lines.data);
    return VG_OK;
}

void vg_shard_verify_report_release(vg_shard_verify_report *report)
{
    free(report->lines.data);
    free(report->quarantine.data);
    *report = (vg_shard_verify_report){0};
}
