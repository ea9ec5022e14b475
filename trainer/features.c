#include "trainer/features.h"

#include "dist/health.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double TELL_EVERY_S = 60, ROUND_S = 0.2;

bool vg_features_row_is_whole(const vg_feature_store *store, int64_t row, float *scratch)
{
    return vg_feature_store_has(store, row) && vg_feature_store_read(store, row, scratch) == VG_OK;
}

void vg_features_tell(vg_feature_progress *p, const char *what, int64_t n_rows, int64_t n_more)
{
    const double now = vg_now_s();
    p->n_done += n_more;
    if (p->n_first == 0) { /* the first ones also warm up: the pace is that of the others */
        p->n_first = n_more;
        p->start_s = now;
        return;
    }
    const bool due = p->told_s == 0 || now - p->told_s >= TELL_EVERY_S;
    if (!due || p->n_done >= n_rows) return;
    const double each_s = (now - p->start_s) / (double)(p->n_done - p->n_first);
    vg_log_root("%s features: %lld of %lld on each rank, about %.0f s to go", what, (long long)p->n_done,
                (long long)n_rows, each_s * (double)(n_rows - p->n_done));
    p->told_s = now;
}

/* ---- one store ---- */

static vg_status store_path(const vg_feature_source *s, const vg_feature_job *job, vg_text *path)
{
    const vg_options *o = s->options;
    if (*o->features_folder)
        VG_TRY(vg_text_add(path, "%s/", o->features_folder));
    else
        VG_TRY(vg_text_add(path, "%s/features/", o->run_folder));
    const size_t name = path->length;
    VG_TRY(vg_text_add(path, "%ss-%s%s.h5", job->what, vg_split_name(s->split), job->kind));
    for (char *c = path->data + name; *c; c++) /* a split is called what its shards say, and leads into no folder */
        if (*c == '/') *c = '_';
    return VG_OK;
}

/* The sentence of a store that cannot be had: without one the step computes, with the same bits; but not those of bf16.
 */
static vg_status do_without(const vg_feature_source *s, const vg_feature_job *job, const char *why)
{
    VG_CHECK(!job->key.bf16, VG_E_CONFIG, "%s; features.dtype bf16 needs the store, fp32 can do without", why);
    if (s->told->data && strstr(s->told->data, why)) return VG_OK;
    vg_log_root("%s; the steps compute %s features themselves", why, job->what);
    return vg_text_add(s->told, "%s\n", why);
}

static vg_status begin(const vg_feature_source *s, const vg_feature_job *job, const char *path, vg_feature_store **out)
{
    vg_status st = VG_OK;
    if (vg_comm_rank(s->comm) == 0) {
        vg_text folder = {0};
        st = vg_folder_of(path, &folder);
        if (st == VG_OK) st = vg_make_directories(folder.data);
        free(folder.data);
        if (st == VG_OK) st = vg_feature_store_begin(path, &job->key, out);
    }
    VG_TRY(vg_comm_agree(s->comm, st));
    if (vg_comm_rank(s->comm) != 0) st = vg_feature_store_join(path, &job->key, out);
    return vg_comm_agree(s->comm, st);
}

/* This rank's rows for a while. Local. */
static vg_status put_round(const vg_feature_job *job, bool *more)
{
    const double end_s = vg_now_s() + ROUND_S;
    do {
        VG_TRY(vg_stop_check());
        VG_TRY(job->put(job->context, more));
    } while (*more && vg_now_s() < end_s);
    return VG_OK;
}

/* Everyone's rows. The ranks meet after each round, so that what one of them meets, a full disk or a request to stop,
 * ends the build of all. Collective. */
static vg_status put_all(const vg_feature_source *s, const vg_feature_job *job)
{
    bool more = true;
    for (int64_t any = 1; any;) {
        vg_health_phase(s->comm, VG_PHASE_start, -1, -1);
        VG_TRY(vg_comm_agree(s->comm, more ? put_round(job, &more) : vg_stop_check()));
        any = more;
        VG_TRY(vg_comm_max_i64(s->comm, &any, 1));
    }
    return VG_OK;
}

static vg_status build(const vg_feature_source *s, const vg_feature_job *job, const char *path)
{
    vg_feature_store *store = NULL;
    char size[VG_SIZE_TEXT_BYTES];
    const double start_s = vg_now_s();
    vg_log_root("%s features of split %s: %lld rows, %s in %s, on %d ranks", job->what, vg_split_name(s->split),
                (long long)job->key.n_rows, vg_size_text((double)vg_feature_store_bytes(&job->key), size), path,
                vg_comm_size(s->comm));
    vg_status st = begin(s, job, path, &store);
    if (st == VG_OK) {
        st = vg_comm_agree(s->comm, job->begin(job->context, store));
        if (st == VG_OK) st = put_all(s, job);
        job->end(job->context);
    }
    if (st == VG_OK) st = vg_comm_agree(s->comm, vg_feature_store_sync(store));
    if (st == VG_OK && vg_comm_rank(s->comm) == 0) st = vg_feature_store_commit(path, &job->key, store);
    VG_KEEP(st, vg_feature_store_close(store));
    st = vg_comm_agree(s->comm, st);
    if (st == VG_OK) vg_log_root("%s features: done in %.1f s", job->what, vg_now_s() - start_s);
    return st;
}

/* Rank 0 looks; *found is the same everywhere. `then` tells what comes of a store that does not fit; NULL: nothing. */
static vg_status look(const vg_feature_source *s, const vg_feature_job *job, const char *path, const char *then,
                      int64_t *found)
{
    vg_status st = VG_OK;
    *found = 0;
    if (vg_comm_rank(s->comm) == 0) {
        char why[1024];
        vg_feature_store *store = NULL;
        st = vg_feature_store_open(path, &job->key, &store, why, sizeof why);
        *found = store != NULL;
        if (*why && then) vg_log_root("%s: %s", why, then);
        VG_KEEP(st, vg_feature_store_close(store));
    }
    VG_TRY(vg_comm_agree(s->comm, st));
    return vg_comm_max_i64(s->comm, found, 1);
}

static vg_status open_all(const vg_feature_source *s, const vg_feature_job *job, const char *path,
                          vg_feature_store **out)
{
    char why[1024];
    vg_status st = vg_feature_store_open(path, &job->key, out, why, sizeof why);
    if (st == VG_OK && !*out)
        st = vg_fail(VG_E_STORAGE, "%s is not what rank 0 sees%s%s; features.folder must be one folder for all hosts",
                     path, *why ? ": " : "", why);
    st = vg_comm_agree(s->comm, st);
    if (st == VG_OK) return VG_OK;
    (void)vg_feature_store_close(*out);
    *out = NULL;
    return st;
}

static vg_status provide(const vg_feature_source *s, const vg_feature_job *job, const char *path,
                         vg_feature_store **out)
{
    const double bytes = (double)vg_feature_store_bytes(&job->key);
    char why[1024], size[VG_SIZE_TEXT_BYTES];
    int64_t found = 0;
    if (bytes * 1e-9 > s->options->features_max_gb) {
        snprintf(why, sizeof why, "%s would take %s, features.max_gb is %g", path, vg_size_text(bytes, size),
                 s->options->features_max_gb);
        return do_without(s, job, why);
    }
    VG_TRY(look(s, job, path, "it is made anew", &found));
    if (!found) {
        const vg_status st = build(s, job, path);
        if (st != VG_OK && st != VG_E_STORAGE) return st;
        snprintf(why, sizeof why, "%s", st == VG_OK ? "" : vg_error_text());
        if (st == VG_E_STORAGE) VG_TRY(look(s, job, path, NULL, &found)); /* another run may have been faster */
        if (st == VG_E_STORAGE && !found) return do_without(s, job, why);
    }
    return open_all(s, job, path, out);
}

vg_status vg_features_provide(const vg_feature_source *s, const vg_feature_job *job, vg_feature_store **out)
{
    vg_text path = {0};
    *out = NULL;
    vg_status st = vg_comm_agree(s->comm, store_path(s, job, &path));
    if (st == VG_OK) st = provide(s, job, path.data, out);
    free(path.data);
    return st;
}
