/* The mean of several checkpoints' weights, as a checkpoint to answer with. */
#include "checkpoints/checkpoint_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What is averaged. */
typedef struct sources {
    const char *const *paths;
    vg_tensors **weights; /* [n] */
    int n;
} sources;

static bool same_entry(const vg_tensor_entry *a, const vg_tensor_entry *b)
{
    return strcmp(a->name, b->name) == 0 && a->rank == b->rank &&
           memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim) == 0;
}

static vg_status check_alike(const sources *s)
{
    const int n = vg_tensors_count(s->weights[0]);
    for (int k = 1; k < s->n; k++) {
        VG_CHECK(vg_tensors_count(s->weights[k]) == n, VG_E_USAGE, "%s has %d parameters, %s has %d", s->paths[k],
                 vg_tensors_count(s->weights[k]), s->paths[0], n);
        for (int i = 0; i < n; i++)
            VG_CHECK(same_entry(vg_tensors_get(s->weights[k], i), vg_tensors_get(s->weights[0], i)), VG_E_USAGE,
                     "%s and %s differ in parameter %s", s->paths[0], s->paths[k],
                     vg_tensors_get(s->weights[0], i)->name);
    }
    return VG_OK;
}

/* The mean of tensor i, added in fp64 in the order of the sources and rounded once. values, sums [count] */
static vg_status mean_tensor(const sources *s, int i, float *values, double *sums)
{
    const int64_t count = vg_tensors_get(s->weights[0], i)->count;
    memset(sums, 0, (size_t)count * sizeof *sums);
    for (int k = 0; k < s->n; k++) {
        VG_TRY(vg_tensors_read_f32(s->weights[k], i, values));
        for (int64_t j = 0; j < count; j++) sums[j] += values[j];
    }
    for (int64_t j = 0; j < count; j++) values[j] = (float)(sums[j] / s->n);
    return VG_OK;
}

static vg_status write_mean(const sources *s, int i, vg_tensor_writer *w)
{
    const size_t count = (size_t)vg_tensors_get(s->weights[0], i)->count;
    float *values = vg_new0_array(count, sizeof *values);
    double *sums = vg_new0_array(count, sizeof *sums);
    vg_status st = values && sums ? mean_tensor(s, i, values, sums)
                                  : vg_fail(VG_E_NOMEM, "no memory for the mean of %zu values", count);
    if (st == VG_OK) st = vg_tensor_writer_write(w, values, count * sizeof *values);
    free(sums);
    free(values);
    return st;
}

static vg_status write_means(const sources *s, const char *file, vg_tensor_writer *w, vg_file_sum *sum)
{
    const int n = vg_tensors_count(s->weights[0]);
    VG_TRY(vg_tensor_writer_text(w, "format", "pt"));
    for (int i = 0; i < n; i++) {
        const vg_tensor_entry *e = vg_tensors_get(s->weights[0], i);
        VG_TRY(vg_tensor_writer_add(w, e->name, VG_TENSOR_F32, e->rank, e->dim));
    }
    VG_TRY(vg_tensor_writer_start(w, file));
    for (int i = 0; i < n; i++) VG_TRY(write_mean(s, i, w));
    return vg_tensor_writer_finish(w, &sum->bytes, &sum->hash);
}

/* The manifest says where the last of the sources stood. */
static vg_status commit(const char *out, const vg_checkpoint_info *last, const vg_file_sum *sum)
{
    const vg_checkpoint_state state = {.step = last->step,
                                       .stage = last->stage,
                                       .stage_step = last->stage_step,
                                       .position = last->position,
                                       .seed = last->seed,
                                       .generation = last->generation,
                                       .configuration = last->configuration,
                                       .configuration_hash = last->configuration_hash,
                                       .profile = last->profile};
    const vg_checkpoint_file file = {.name = (char[]){VG_WEIGHTS_NAME}, .bytes = sum->bytes, .hash = sum->hash};
    return vg_manifest_write(out, &state, &file, 1);
}

/* The sentence stays that of the failure. */
static vg_status remove_unfinished(const char *out, vg_status st)
{
    const vg_error failure = vg_error_of(st);
    if (vg_checkpoint_remove(out) != VG_OK) vg_log_rank("%s; delete it by hand", vg_error_text());
    return vg_error_raise(&failure);
}

static vg_status make_average(const sources *s, const char *out)
{
    vg_checkpoint_info *last = NULL;
    vg_tensor_writer *w = NULL;
    vg_file_sum sum = {0};
    char *file = vg_path_join(out, VG_WEIGHTS_NAME);
    vg_status st = file ? VG_OK : vg_fail(VG_E_NOMEM, "%s: no memory for its path", out);
    if (st == VG_OK) st = vg_checkpoint_open(s->paths[s->n - 1], &last);
    if (st == VG_OK) st = vg_tensor_writer_new(&w);
    if (st == VG_OK) st = write_means(s, file, w, &sum);
    if (st == VG_OK) st = commit(out, last, &sum);
    vg_tensor_writer_free(w); /* with it goes a file that was not finished */
    if (st != VG_OK) st = remove_unfinished(out, st);
    vg_checkpoint_info_free(last);
    free(file);
    return st;
}

vg_status vg_checkpoint_average(const char *const *paths, int n, const char *out)
{
    sources s = {.paths = paths, .n = n, .weights = vg_new0_array((size_t)n, sizeof *s.weights)};
    vg_status st = s.weights ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for %d checkpoints", n);
    for (int k = 0; k < n && st == VG_OK; k++) st = vg_checkpoint_open_sound_weights(paths[k], &s.weights[k]);
    if (st == VG_OK) st = check_alike(&s);
    if (st == VG_OK && mkdir(out, 0777) != 0)
        st = vg_fail(VG_E_STORAGE, "%s: %s", out, strerror(errno));
    else if (st == VG_OK)
        st = make_average(&s, out);
    for (int k = 0; s.weights && k < n; k++) vg_tensors_close(s.weights[k]);
    free(s.weights);
    return st == VG_E_DATA ? VG_E_STORAGE : st;
}
