/* Saving together: rank 0 makes the place, every rank writes its files, rank 0 commits. Each part is the work of a
 * thread that makes no collective call; between parts the ranks meet. */
#define _POSIX_C_SOURCE 200809L
#include "checkpoints/checkpoint_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#if defined __SSE2__
#include <xmmintrin.h>
#endif

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

static vg_status make_place(const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0) VG_TRY(vg_checkpoint_remove(path)); /* torn: it did not verify */
    VG_CHECK(mkdir(path, 0777) == 0, VG_E_STORAGE, "%s: %s", path, strerror(errno));
    return VG_OK;
}

static vg_status mark_place(const char *path, const vg_checkpoint_state *state)
{
    char text[32];
    char *marker = vg_path_join(path, VG_MARKER_NAME);
    VG_CHECK(marker, VG_E_NOMEM, "%s: no memory to save", path);
    const int n = snprintf(text, sizeof text, "%" PRIu64 "\n", state->generation);
    const vg_status st = vg_file_write_atomic(marker, text, (size_t)n);
    free(marker);
    return st;
}

/* ---- a writer ---- */

typedef struct sums {
    vg_file_sum weights, piece; /* weights: of rank 0 */
} sums;

enum part { IDLE, PREPARE, WRITE, COMMIT };

enum { N_TEXTS = 3 }; /* of a state */

struct vg_checkpoint_writer {
    vg_comm *comm;
    int rank, size, n_threads;
    vg_checkpoint_retention keep;
    char *folder;
    const vg_params *run; /* what is copied */
    vg_params params;     /* the copy; its layout and frozen values are the run's own */
    vg_arena memory;      /* of the copy */

    /* the save under way */
    vg_checkpoint_state state;
    char *texts[N_TEXTS];
    vg_checkpoint_number *numbers;
    char *path;
    bool made;       /* the folder is there, by rank 0, and to be removed when the save fails */
    int64_t already; /* this step was saved before: nothing is left to write */
    sums own;
    sums *all; /* [size], rank 0 */

    /* the part under way */
    enum part part;
    pthread_t thread;
    bool threaded;
    atomic_bool ready;
    vg_error ended; /* how, in its thread */
};

bool vg_checkpoint_busy(const vg_checkpoint_writer *w)
{
    return w->part != IDLE;
}

bool vg_checkpoint_ready(const vg_checkpoint_writer *w)
{
    return atomic_load(&w->ready);
}

static void forget_save(vg_checkpoint_writer *w)
{
    for (int i = 0; i < N_TEXTS; i++) free(w->texts[i]);
    for (int i = 0; i < w->state.n_numbers && w->numbers; i++) free((char *)(uintptr_t)w->numbers[i].key);
    free(w->numbers);
    free(w->path);
    memset(w->texts, 0, sizeof w->texts);
    w->numbers = NULL;
    w->path = NULL;
    w->made = false;
    w->already = 0;
    w->part = IDLE;
}

/* ---- the copy ---- */

static int n_mirrors(const vg_params *params)
{
    return params->average ? 3 : 2;
}

size_t vg_checkpoint_writer_bytes(const vg_params *params, int n_ranks, int rank)
{
    int64_t first, count;
    vg_slice_of(params->n_trainable, VG_PARAM_BLOCK, n_ranks, rank, &first, &count);
    const int64_t floats = (rank == 0 ? params->n_trainable : 0) + n_mirrors(params) * count;
    return (size_t)floats * sizeof(float);
}

/* One mapping, in huge pages where the system gives them: small ones that nobody touches between two saves were seen to
 * take five times as long. Of the moments it has this rank's share alone. */
static vg_status make_copies(vg_checkpoint_writer *w)
{
    const size_t bytes = vg_checkpoint_writer_bytes(w->run, w->size, w->rank);
    int64_t first, count;
    vg_slice_of(w->run->n_trainable, VG_PARAM_BLOCK, w->size, w->rank, &first, &count);
    if (bytes) VG_TRY(vg_arena_init(&w->memory, bytes));
    float *next = (float *)(void *)w->memory.base;
    w->params = *w->run;
    w->params.master = next;
    if (w->rank == 0 && next) next += w->run->n_trainable;
    w->params.moment1 = next;
    w->params.moment2 = next ? next + count : NULL;
    if (w->run->average) w->params.average = next ? next + 2 * count : NULL;
    return VG_OK;
}

/* Past the caches: what is written need not be read from memory first, and the step that follows finds its own data
 * there. */
static void stream_floats(float *to, const float *from, int64_t n)
{
    int64_t i = 0;
#if defined __SSE2__
    enum { LINE = 16 }; /* floats */
    const bool aligned = (uintptr_t)to % sizeof(__m128) == 0;
    for (; aligned && i + LINE <= n; i += LINE) {
        __builtin_prefetch(from + i + VG_FLOATS_AHEAD);
        for (int k = 0; k < LINE; k += 4) _mm_stream_ps(to + i + k, _mm_loadu_ps(from + i + k));
    }
    _mm_sfence();
#endif
    memcpy(to + i, from + i, (size_t)(n - i) * sizeof *to);
}

/* By all threads: one does not use all of the memory's bandwidth. */
static void copy_floats(float *to, const float *from, int64_t n, int n_threads)
{
#pragma omp parallel num_threads(n_threads)
    {
        int64_t first, count;
        vg_slice_of(n, VG_PARAM_BLOCK, omp_get_num_threads(), omp_get_thread_num(), &first, &count);
        stream_floats(to + first, from + first, count);
    }
}

static void copy_values(vg_checkpoint_writer *w)
{
    const vg_params *from = w->run;
    int64_t first, count;
    vg_slice_of(from->n_trainable, VG_PARAM_BLOCK, w->size, w->rank, &first, &count);
    if (w->rank == 0) copy_floats(w->params.master, from->master, from->n_trainable, w->n_threads);
    if (!count) return;
    if (!from->moments_elsewhere) {
        copy_floats(w->params.moment1, from->moment1 + first, count, w->n_threads);
        copy_floats(w->params.moment2, from->moment2 + first, count, w->n_threads);
    }
    if (from->average) copy_floats(w->params.average, from->average + first, count, w->n_threads);
}

void vg_checkpoint_piece(const vg_checkpoint_writer *w, int64_t *first, int64_t *count, float **moment1,
                         float **moment2)
{
    vg_slice_of(w->run->n_trainable, VG_PARAM_BLOCK, w->size, w->rank, first, count);
    *moment1 = w->params.moment1;
    *moment2 = w->params.moment2;
}

static bool copy_state(vg_checkpoint_writer *w, const vg_checkpoint_state *from)
{
    vg_checkpoint_state *s = &w->state;
    *s = *from;
    s->configuration = w->texts[0] = vg_copy_string(from->configuration);
    s->configuration_hash = w->texts[1] = vg_copy_string(from->configuration_hash);
    s->profile = w->texts[2] = vg_copy_string(from->profile);
    s->numbers = w->numbers = vg_new0_array((size_t)from->n_numbers, sizeof *w->numbers);
    bool all = w->texts[0] && w->texts[1] && w->texts[2] && w->numbers;
    for (int i = 0; i < from->n_numbers && all; i++) {
        w->numbers[i] = (vg_checkpoint_number){vg_copy_string(from->numbers[i].key), from->numbers[i].value};
        all = w->numbers[i].key != NULL;
    }
    return all;
}

vg_status vg_checkpoint_writer_open(vg_comm *comm, const char *folder, const vg_params *params,
                                    const vg_checkpoint_retention *keep, int n_threads, vg_checkpoint_writer **out)
{
    vg_checkpoint_writer *w = vg_new0(sizeof *w);
    vg_status st = w ? VG_OK : vg_fail(VG_E_NOMEM, "%s: no memory to save", folder);
    if (w) {
        *w = (vg_checkpoint_writer){.comm = comm,
                                    .rank = vg_comm_rank(comm),
                                    .size = vg_comm_size(comm),
                                    .n_threads = n_threads,
                                    .keep = *keep,
                                    .folder = vg_copy_string(folder),
                                    .run = params};
        w->all = vg_new0_array((size_t)w->size, sizeof *w->all);
        st = w->folder && w->all ? make_copies(w) : vg_fail(VG_E_NOMEM, "%s: no memory to save", folder);
    }
    st = vg_comm_agree(comm, st);
    if (st != VG_OK) {
        vg_checkpoint_writer_close(w);
        return st;
    }
    *out = w;
    return VG_OK;
}

/* ---- the parts, each by a thread of its own ---- */

/* Rank 0 makes the place. */
static vg_status prepare(vg_checkpoint_writer *w)
{
    vg_text name = {0};
    VG_TRY(vg_make_directories(w->folder));
    VG_TRY(vg_folder_fence(w->folder, w->state.generation));
    VG_TRY(vg_folder_clean(w->folder));
    const vg_status st = pick_name(w->folder, &w->state, &name);
    w->path = name.data;
    if (st != VG_OK) return st;
    w->already = saved_already(w->path, &w->state);
    if (w->already) return VG_OK;
    VG_TRY(make_place(w->path));
    w->made = true;
    return mark_place(w->path, &w->state);
}

/* Asked before each file: after a long sleep a successor may have a place of the same name. */
static vg_status write_and_verify(vg_checkpoint_writer *w, const char *weights, const char *piece)
{
    VG_TRY(vg_checkpoint_still_ours(w->folder, w->state.generation));
    if (w->params.n_trainable) {
        VG_TRY(vg_moments_write(piece, &w->params, w->state.compress, w->rank, w->size, &w->own.piece));
        VG_TRY(vg_file_verify(piece, &w->own.piece));
    }
    if (w->rank != 0) return VG_OK;
    VG_TRY(vg_checkpoint_still_ours(w->folder, w->state.generation));
    VG_TRY(vg_weights_write(weights, &w->params, &w->own.weights));
    return vg_file_verify(weights, &w->own.weights);
}

/* Every rank writes its files. */
static vg_status write_own(vg_checkpoint_writer *w)
{
    char name[VG_NAME_BYTES];
    vg_piece_name(w->rank, w->size, name);
    char *marker = vg_path_join(w->path, VG_MARKER_NAME), *weights = vg_path_join(w->path, VG_WEIGHTS_NAME);
    char *piece = vg_path_join(w->path, name);
    vg_status st = marker && weights && piece ? VG_OK : vg_fail(VG_E_NOMEM, "%s: no memory to save", w->path);
    if (st == VG_OK) st = vg_wait_for_file(marker);
    if (st == VG_OK) st = write_and_verify(w, weights, piece);
    free(marker);
    free(weights);
    free(piece);
    return st;
}

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

static vg_status write_manifest(const vg_checkpoint_writer *w)
{
    const int n_pieces = w->params.n_trainable ? w->size : 0;
    vg_checkpoint_file *files = vg_new0_array((size_t)n_pieces + 1, sizeof *files);
    VG_CHECK(files, VG_E_NOMEM, "%s: no memory for the list of files", w->path);
    vg_status st = list_files(w->all, n_pieces, files);
    if (st == VG_OK) st = vg_manifest_write(w->path, &w->state, files, n_pieces + 1);
    for (int i = 0; i <= n_pieces; i++) free(files[i].name);
    free(files);
    return st;
}

/* Rank 0 commits. Whether a later generation came meanwhile is asked again: a slow save is when it would. The files
 * were verified by those who wrote them. */
static vg_status commit(vg_checkpoint_writer *w)
{
    vg_checkpoint_info *info = NULL;
    char *marker = vg_path_join(w->path, VG_MARKER_NAME);
    VG_CHECK(marker, VG_E_NOMEM, "%s: no memory to save", w->path);
    vg_status st = vg_folder_fence(w->folder, w->state.generation);
    if (st == VG_OK) st = vg_sync_directory(w->path);
    if (st == VG_OK) st = vg_sync_directory(w->folder);
    if (st == VG_OK) st = write_manifest(w);
    if (st == VG_OK) remove(marker);
    if (st == VG_OK) st = vg_checkpoint_open(w->path, &info);
    vg_checkpoint_info_free(info);
    free(marker);
    if (st == VG_OK && vg_checkpoint_prune(w->folder, &w->keep) != VG_OK)
        vg_log_rank("%s; older checkpoints stay", vg_error_text());
    return st;
}

static void *do_part(void *argument)
{
    vg_checkpoint_writer *w = argument;
    const vg_status st = w->part == PREPARE ? prepare(w) : w->part == WRITE ? write_own(w) : commit(w);
    w->ended = vg_error_of(st);
    atomic_store(&w->ready, true);
    return NULL;
}

/* A thread that takes no signals, those are the main thread's; without one the work is done here and now. */
static void start_part(vg_checkpoint_writer *w, enum part part)
{
    sigset_t all, before;
    w->part = part;
    w->ended.status = VG_OK;
    w->threaded = false;
    atomic_store(&w->ready, true);
    if (part != WRITE && w->rank != 0) return;
    atomic_store(&w->ready, false);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    w->threaded = pthread_create(&w->thread, NULL, do_part, w) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!w->threaded) do_part(w);
}

/* Waits for this rank's part and says how it went. */
static vg_status end_part(vg_checkpoint_writer *w)
{
    if (w->threaded) pthread_join(w->thread, NULL);
    w->threaded = false;
    return vg_error_raise(&w->ended);
}

/* ---- the parts together ---- */

vg_status vg_checkpoint_begin(vg_checkpoint_writer *w, const vg_checkpoint_state *state)
{
    VG_CHECK(w->part == IDLE, VG_E_BUG, "%s: a save is under way", w->folder);
    const bool copied = copy_state(w, state);
    if (copied) copy_values(w);
    const vg_status st =
        vg_comm_agree(w->comm, copied ? VG_OK : vg_fail(VG_E_NOMEM, "%s: no memory to save", w->folder));
    if (st == VG_OK)
        start_part(w, PREPARE);
    else
        forget_save(w);
    return st;
}

/* Removes what a failed save made; the sentence stays that of the failure. */
static vg_status give_up(vg_checkpoint_writer *w, vg_status st)
{
    const vg_error failure = vg_error_of(st);
    /* in a folder that was taken over, the place may be the successor's by now */
    const bool ours = w->made && vg_checkpoint_still_ours(w->folder, w->state.generation) == VG_OK;
    if (ours && vg_checkpoint_remove(w->path) != VG_OK) vg_log_rank("%s; delete it by hand", vg_error_text());
    forget_save(w);
    return vg_error_raise(&failure);
}

/* From the part that is done on all ranks to the next one. */
static vg_status next_part(vg_checkpoint_writer *w, bool *saved)
{
    if (w->part == PREPARE) {
        VG_TRY(vg_comm_broadcast(w->comm, &w->already, sizeof w->already, 0));
        VG_TRY(vg_comm_broadcast_text(w->comm, &w->path, 0));
        *saved = w->already;
        if (!*saved) start_part(w, WRITE);
    } else if (w->part == WRITE) {
        VG_TRY(vg_comm_gather(w->comm, &w->own, sizeof w->own, w->all));
        start_part(w, COMMIT);
    } else {
        *saved = true;
    }
    return VG_OK;
}

vg_status vg_checkpoint_go_on(vg_checkpoint_writer *w, bool *saved, char **path)
{
    *saved = false;
    vg_status st = vg_comm_agree(w->comm, end_part(w));
    if (st == VG_OK) st = next_part(w, saved);
    if (st != VG_OK) return give_up(w, st);
    if (*saved && path) {
        *path = w->path;
        w->path = NULL;
    }
    if (*saved) forget_save(w);
    return VG_OK;
}

vg_status vg_checkpoint_finish(vg_checkpoint_writer *w, char **path)
{
    for (bool saved = false; !saved;) VG_TRY(vg_checkpoint_go_on(w, &saved, path));
    return VG_OK;
}

void vg_checkpoint_writer_close(vg_checkpoint_writer *w)
{
    if (!w) return;
    if (w->threaded) pthread_join(w->thread, NULL);
    forget_save(w);
    vg_arena_release(&w->memory);
    free(w->all);
    free(w->folder);
    free(w);
}
