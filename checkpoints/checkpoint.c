/* Saving together: rank 0 makes the place, every rank writes its files, rank 0 commits. Writing may go on behind the
 * training, in a thread that makes no collective call. */
#define _POSIX_C_SOURCE 200809L
#include "checkpoints/checkpoint_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- rank 0 makes the place ---- */

/* Whether this generation has saved the step at `path` already, and well. */
static bool saved_already(const char *path, const vg_checkpoint_state *state)
{
    vg_checkpoint_info *info = NULL;
    if (!vg_checkpoint_exists(path) || vg_checkpoint_open(path, &info) != VG_OK) return false;
    const bool ours = info->generation == state->generation && info->step == state->step;
    vg_checkpoint_info_free(info);
    return ours && vg_checkpoint_verify(path) == VG_OK;
}

/* Whether `path` holds a checkpoint that is not ours to replace: another generation's, or one that we cannot read. */
static bool of_another(const char *path, const vg_checkpoint_state *state)
{
    vg_checkpoint_info *info = NULL;
    if (!vg_checkpoint_exists(path)) return false;
    if (vg_checkpoint_open(path, &info) != VG_OK) return true;
    const bool another = info->generation != state->generation;
    vg_checkpoint_info_free(info);
    return another;
}

/* folder/step-00000030, with the generation where the plain name is taken. */
static vg_status pick_name(const char *folder, const vg_checkpoint_state *state, vg_text *path)
{
    VG_TRY(vg_text_add(path, "%s/step-%08" PRId64, folder, state->step));
    if (of_another(path->data, state)) VG_TRY(vg_text_add(path, "-g%" PRIu64, state->generation));
    return VG_OK;
}

static vg_status make_marked(const char *path, const vg_checkpoint_state *state)
{
    char text[32];
    struct stat info;
    if (stat(path, &info) == 0) VG_TRY(vg_checkpoint_remove(path)); /* torn: it did not verify */
    VG_CHECK(mkdir(path, 0755) == 0, VG_E_STORAGE, "%s: %s", path, strerror(errno));
    char *marker = vg_path_join(path, VG_MARKER_NAME);
    VG_CHECK(marker, VG_E_NOMEM, "%s: no memory to save", path);
    const int n = snprintf(text, sizeof text, "%" PRIu64 "\n", state->generation);
    const vg_status st = vg_file_write_atomic(marker, text, (size_t)n);
    free(marker);
    return st;
}

/* The place of a save. */
typedef struct place {
    char *path;
    bool made;    /* here, by rank 0, and to be removed when the save fails */
    int64_t done; /* nothing is left to write */
} place;

static vg_status root_prepare(const char *folder, const vg_checkpoint_state *state, place *at)
{
    vg_text name = {0};
    VG_TRY(vg_make_directories(folder));
    VG_TRY(vg_folder_fence(folder, state->generation));
    VG_TRY(vg_folder_clean(folder));
    const vg_status st = pick_name(folder, state, &name);
    at->path = name.data;
    if (st != VG_OK) return st;
    at->done = saved_already(at->path, state);
    if (at->done) return VG_OK;
    at->made = true;
    return make_marked(at->path, state);
}

/* ---- a save on its way ---- */

typedef struct sums {
    vg_file_sum weights, piece; /* weights: of rank 0 */
} sums;

struct vg_checkpoint_write {
    int rank, size;
    char *folder;
    place at;
    vg_checkpoint_state state;
    sums own;
    vg_status status; /* of the writing, with its sentence */
    char *sentence;

    /* When the writing goes on behind the training: what it must not find changed. */
    vg_params params; /* the layout and the frozen values are the run's own */
    float *copies[4];
    char *texts[3];
    vg_checkpoint_number *numbers;
    pthread_t thread;
    bool threaded;
    atomic_bool written;
};

static void write_free(vg_checkpoint_write *w)
{
    if (!w) return;
    for (int i = 0; i < 4; i++) free(w->copies[i]);
    for (int i = 0; i < 3; i++) free(w->texts[i]);
    for (int i = 0; i < w->state.n_numbers && w->numbers; i++) free((char *)(uintptr_t)w->numbers[i].key);
    free(w->numbers);
    free(w->sentence);
    free(w->folder);
    free(w->at.path);
    free(w);
}

/* One mirror of the trainable space, of which [first, first + count) will be read; pages outside are never touched. */
static float *copy_floats(const float *from, int64_t n, int64_t first, int64_t count)
{
    float *to = vg_new0_array((size_t)n, sizeof *to);
    if (to && count) memcpy(to + first, from + first, (size_t)count * sizeof *to);
    return to;
}

static bool copy_values(vg_checkpoint_write *w)
{
    const vg_params *from = w->state.params;
    const int64_t n = from->n_trainable;
    int64_t first, count;
    vg_slice_of(n, VG_PARAM_BLOCK, w->size, w->rank, &first, &count);
    w->params = *from;
    w->params.master = w->copies[0] = copy_floats(from->master, n, 0, w->rank == 0 ? n : 0);
    w->params.moment1 = w->copies[1] = copy_floats(from->moment1, n, first, count);
    w->params.moment2 = w->copies[2] = copy_floats(from->moment2, n, first, count);
    if (from->average) w->params.average = w->copies[3] = copy_floats(from->average, n, first, count);
    w->state.params = &w->params;
    return w->copies[0] && w->copies[1] && w->copies[2] && (!from->average || w->copies[3]);
}

static bool copy_texts(vg_checkpoint_write *w)
{
    vg_checkpoint_state *s = &w->state;
    s->configuration = w->texts[0] = vg_copy_string(s->configuration);
    s->configuration_hash = w->texts[1] = vg_copy_string(s->configuration_hash);
    s->profile = w->texts[2] = vg_copy_string(s->profile);
    w->numbers = vg_new0_array((size_t)s->n_numbers, sizeof *w->numbers);
    bool all = w->texts[0] && w->texts[1] && w->texts[2] && w->numbers;
    for (int i = 0; i < s->n_numbers && all; i++) {
        w->numbers[i] = (vg_checkpoint_number){vg_copy_string(s->numbers[i].key), s->numbers[i].value};
        all = w->numbers[i].key != NULL;
    }
    s->numbers = w->numbers;
    return all;
}

/* ---- every rank writes its files ---- */

static vg_status write_and_verify(vg_checkpoint_write *w, const char *weights, const char *piece)
{
    if (w->state.params->n_trainable) {
        VG_TRY(vg_moments_write(piece, &w->state, w->rank, w->size, &w->own.piece));
        VG_TRY(vg_file_verify(piece, &w->own.piece));
    }
    if (w->rank != 0) return VG_OK;
    VG_TRY(vg_weights_write(weights, w->state.params, &w->own.weights));
    return vg_file_verify(weights, &w->own.weights);
}

static void *write_own(void *argument)
{
    vg_checkpoint_write *w = argument;
    char name[VG_NAME_BYTES];
    vg_piece_name(w->rank, w->size, name);
    char *marker = vg_path_join(w->at.path, VG_MARKER_NAME), *weights = vg_path_join(w->at.path, VG_WEIGHTS_NAME);
    char *piece = vg_path_join(w->at.path, name);
    vg_status st = marker && weights && piece ? VG_OK : vg_fail(VG_E_NOMEM, "%s: no memory to save", w->at.path);
    if (st == VG_OK) st = vg_wait_for_file(marker);
    if (st == VG_OK) st = write_and_verify(w, weights, piece);
    free(marker);
    free(weights);
    free(piece);
    w->status = st;
    if (st != VG_OK) w->sentence = vg_copy_string(vg_error_text()); /* the text is this thread's */
    atomic_store(&w->written, true);
    return NULL;
}

/* A thread that takes no signals, those are the main thread's; without one the writing is done here and now. */
static void write_behind(vg_checkpoint_write *w)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    w->threaded = pthread_create(&w->thread, NULL, write_own, w) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!w->threaded) write_own(w);
}

/* ---- rank 0 commits ---- */

/* The rows of the manifest from what the ranks report; heap strings inside. */
static vg_status list_files(const sums *all, int n_pieces, vg_checkpoint_file *files)
{
    char name[VG_NAME_BYTES] = VG_WEIGHTS_NAME;
    for (int i = 0; i <= n_pieces; i++) {
        const vg_file_sum *sum = i == 0 ? &all[0].weights : &all[i - 1].piece;
        files[i] = (vg_checkpoint_file){.bytes = sum->bytes, .hash = sum->hash};
        if (i > 0) vg_piece_name(i - 1, n_pieces, name);
        files[i].name = vg_copy_string(name);
        VG_CHECK(files[i].name, VG_E_NOMEM, "no memory for the list of files");
    }
    return VG_OK;
}

static vg_status write_manifest(const char *path, const vg_checkpoint_state *state, const sums *all, int n_pieces)
{
    vg_checkpoint_file *files = vg_new0_array((size_t)n_pieces + 1, sizeof *files);
    VG_CHECK(files, VG_E_NOMEM, "%s: no memory for the list of files", path);
    vg_status st = list_files(all, n_pieces, files);
    if (st == VG_OK) st = vg_manifest_write(path, state, files, n_pieces + 1);
    for (int i = 0; i <= n_pieces; i++) free(files[i].name);
    free(files);
    return st;
}

/* Whether a later generation came meanwhile is asked again: a slow save is when it would. The files were verified by
 * those who wrote them. */
static vg_status root_commit(const vg_checkpoint_write *w, const sums *all)
{
    const char *path = w->at.path;
    vg_checkpoint_info *info = NULL;
    char *marker = vg_path_join(path, VG_MARKER_NAME);
    VG_CHECK(marker, VG_E_NOMEM, "%s: no memory to save", path);
    vg_status st = vg_folder_fence(w->folder, w->state.generation);
    if (st == VG_OK) st = vg_sync_directory(path);
    if (st == VG_OK) st = vg_sync_directory(w->folder);
    if (st == VG_OK) st = write_manifest(path, &w->state, all, w->state.params->n_trainable ? w->size : 0);
    if (st == VG_OK) remove(marker);
    if (st == VG_OK) st = vg_checkpoint_open(path, &info);
    vg_checkpoint_info_free(info);
    free(marker);
    return st;
}

/* From written files to a checkpoint. Collective. */
static vg_status commit_together(vg_comm *comm, vg_checkpoint_write *w)
{
    sums *all = vg_new0_array((size_t)w->size, sizeof *all);
    vg_status st = w->status == VG_OK ? VG_OK : vg_fail(w->status, "%s", w->sentence ? w->sentence : "no memory");
    if (st == VG_OK && !all) st = vg_fail(VG_E_NOMEM, "%s: no memory to save", w->at.path);
    st = vg_comm_agree(comm, st);
    if (st == VG_OK) st = vg_comm_gather(comm, &w->own, sizeof w->own, all);
    if (st == VG_OK && w->rank == 0) st = root_commit(w, all);
    free(all);
    return vg_comm_agree(comm, st);
}

/* Removes what a failed save made; the sentence stays that of the failure. */
static vg_status give_up(const place *at, vg_status st)
{
    if (!at->made) return st;
    char *sentence = vg_copy_string(vg_error_text());
    if (vg_checkpoint_remove(at->path) != VG_OK) vg_log_rank("%s; delete it by hand", vg_error_text());
    vg_fail(st, "%s", sentence ? sentence : "the checkpoint could not be saved");
    free(sentence);
    return st;
}

/* ---- the door ---- */

/* Makes the place and takes what `behind` needs. Collective. */
static vg_status write_fill(vg_comm *comm, vg_checkpoint_write *w, bool behind)
{
    const bool root = w->rank == 0;
    VG_TRY(vg_comm_agree(comm, root ? root_prepare(w->folder, &w->state, &w->at) : VG_OK));
    VG_TRY(vg_comm_broadcast(comm, &w->at.done, sizeof w->at.done, 0));
    VG_TRY(vg_comm_broadcast_text(comm, &w->at.path, 0));
    if (w->at.done || !behind) return VG_OK;
    const bool copied = copy_texts(w) && copy_values(w);
    return vg_comm_agree(comm, copied ? VG_OK : vg_fail(VG_E_NOMEM, "%s: no memory for a copy to write", w->at.path));
}

static vg_status begin(vg_comm *comm, const char *folder, const vg_checkpoint_state *state, bool behind,
                       vg_checkpoint_write **out)
{
    vg_checkpoint_write *w = vg_new0(sizeof *w);
    if (w) {
        w->rank = vg_comm_rank(comm);
        w->size = vg_comm_size(comm);
        w->state = *state;
        w->folder = vg_copy_string(folder);
    }
    vg_status st = w && w->folder ? VG_OK : vg_fail(VG_E_NOMEM, "%s: no memory to save", folder);
    st = vg_comm_agree(comm, st);
    if (st == VG_OK) st = write_fill(comm, w, behind);
    if (st != VG_OK) {
        if (w) st = give_up(&w->at, st);
        write_free(w);
        return st;
    }
    atomic_init(&w->written, w->at.done);
    if (!w->at.done && behind) write_behind(w);
    if (!w->at.done && !behind) write_own(w);
    *out = w;
    return VG_OK;
}

vg_status vg_checkpoint_begin(vg_comm *comm, const char *folder, const vg_checkpoint_state *state,
                              vg_checkpoint_write **out)
{
    return begin(comm, folder, state, true, out);
}

bool vg_checkpoint_written(const vg_checkpoint_write *w)
{
    return atomic_load(&w->written);
}

vg_status vg_checkpoint_end(vg_comm *comm, vg_checkpoint_write *w, int keep, char **path_out)
{
    if (w->threaded) pthread_join(w->thread, NULL);
    vg_status st = w->at.done ? VG_OK : commit_together(comm, w);
    if (st != VG_OK) st = give_up(&w->at, st);
    if (st == VG_OK && w->rank == 0) vg_folder_prune(w->folder, keep);
    if (st == VG_OK && path_out) {
        *path_out = w->at.path;
        w->at.path = NULL;
    }
    write_free(w);
    return st;
}

vg_status vg_checkpoint_save(vg_comm *comm, const char *folder, const vg_checkpoint_state *state, int keep,
                             char **path_out)
{
    vg_checkpoint_write *w = NULL;
    VG_TRY(begin(comm, folder, state, false, &w));
    return vg_checkpoint_end(comm, w, keep, path_out);
}
