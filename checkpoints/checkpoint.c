/* Saving together and choosing together. */
#define _POSIX_C_SOURCE 200809L
#include "checkpoints/checkpoint_impl.h"

#include <errno.h>
#include <inttypes.h>
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

/* ---- all write, rank 0 commits ---- */

typedef struct sums {
    vg_file_sum weights, piece; /* weights: of rank 0 */
} sums;

static vg_status write_own(vg_comm *comm, const char *path, const vg_checkpoint_state *state, sums *out)
{
    const int rank = vg_comm_rank(comm), size = vg_comm_size(comm);
    char name[VG_NAME_BYTES];
    vg_piece_name(rank, size, name);
    char *marker = vg_path_join(path, VG_MARKER_NAME), *weights = vg_path_join(path, VG_WEIGHTS_NAME);
    char *piece = vg_path_join(path, name);
    vg_status st = marker && weights && piece ? VG_OK : vg_fail(VG_E_NOMEM, "%s: no memory to save", path);
    if (st == VG_OK) st = vg_wait_for_file(marker);
    if (st == VG_OK && state->params->n_trainable) st = vg_moments_write(piece, state, rank, size, &out->piece);
    if (st == VG_OK && rank == 0) st = vg_weights_write(weights, state->params, &out->weights);
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

/* Whether a later generation came meanwhile is asked again: a slow save is when it would. */
static vg_status root_commit(const char *folder, const char *path, const vg_checkpoint_state *state, const sums *all,
                             int n_pieces)
{
    char *marker = vg_path_join(path, VG_MARKER_NAME);
    VG_CHECK(marker, VG_E_NOMEM, "%s: no memory to save", path);
    vg_status st = vg_folder_fence(folder, state->generation);
    if (st == VG_OK) st = vg_sync_directory(path);
    if (st == VG_OK) st = vg_sync_directory(folder);
    if (st == VG_OK) st = write_manifest(path, state, all, n_pieces);
    if (st == VG_OK) remove(marker);
    if (st == VG_OK) st = vg_checkpoint_verify(path);
    free(marker);
    return st;
}

/* From a made place to a verified checkpoint. Collective. */
static vg_status write_together(vg_comm *comm, const char *folder, const char *path, const vg_checkpoint_state *state)
{
    const int size = vg_comm_size(comm);
    sums own = {0}, *all = vg_new0_array((size_t)size, sizeof *all);
    vg_status st = all ? VG_OK : vg_fail(VG_E_NOMEM, "%s: no memory to save", path);
    if (st == VG_OK) st = write_own(comm, path, state, &own);
    st = vg_comm_agree(comm, st);
    if (st == VG_OK) st = vg_comm_gather(comm, &own, sizeof own, all);
    if (st == VG_OK && vg_comm_rank(comm) == 0)
        st = root_commit(folder, path, state, all, state->params->n_trainable ? size : 0);
    free(all);
    return vg_comm_agree(comm, st);
}

/* Removes what a failed save made; the sentence stays that of the failure. */
static vg_status give_up(const char *path, vg_status st)
{
    char *sentence = vg_copy_string(vg_error_text());
    if (vg_checkpoint_remove(path) != VG_OK) vg_log_rank("%s; delete it by hand", vg_error_text());
    vg_fail(st, "%s", sentence ? sentence : "the checkpoint could not be saved");
    free(sentence);
    return st;
}

vg_status vg_checkpoint_save(vg_comm *comm, const char *folder, const vg_checkpoint_state *state, int keep,
                             char **path_out)
{
    const bool root = vg_comm_rank(comm) == 0;
    place at = {0};
    vg_status st = vg_comm_agree(comm, root ? root_prepare(folder, state, &at) : VG_OK);
    if (st == VG_OK) st = vg_comm_broadcast(comm, &at.done, sizeof at.done, 0);
    if (st == VG_OK) st = vg_comm_broadcast_text(comm, &at.path, 0);
    if (st == VG_OK && !at.done) st = write_together(comm, folder, at.path, state);
    if (st != VG_OK && at.made) st = give_up(at.path, st);
    if (st == VG_OK && root) vg_folder_prune(folder, keep);
    if (st == VG_OK && path_out)
        *path_out = at.path;
    else
        free(at.path);
    return st;
}

/* ---- choosing ---- */

static vg_status newest_that_verifies(char **paths, int n, char **out)
{
    for (int i = n - 1; i >= 0; i--) {
        const vg_status st = vg_checkpoint_verify(paths[i]);
        if (st == VG_OK) {
            *out = vg_copy_string(paths[i]);
            VG_CHECK(*out, VG_E_NOMEM, "no memory for a path");
            return VG_OK;
        }
        vg_log_root("WARNING: checkpoint %s cannot be used: %s; %s", paths[i], vg_error_text(),
                    i > 0 ? "falling back to an older one, steps since then are lost" : "it was the last");
    }
    return n ? vg_fail(VG_E_STORAGE,
                       "%s and the other checkpoints beside it (%d) do not verify; move them away to start afresh",
                       paths[n - 1], n)
             : VG_OK;
}

static vg_status root_choose(const char *path, char **out)
{
    char **paths;
    int n;
    if (vg_checkpoint_exists(path)) {
        VG_TRY(vg_checkpoint_verify(path));
        *out = vg_copy_string(path);
        VG_CHECK(*out, VG_E_NOMEM, "no memory for a path");
        return VG_OK;
    }
    VG_TRY(vg_checkpoint_list(path, &paths, &n));
    const vg_status st = newest_that_verifies(paths, n, out);
    vg_checkpoint_list_free(paths, n);
    return st;
}

static vg_status wait_for_checkpoint(const char *path)
{
    char *manifest = vg_path_join(path, VG_MANIFEST_NAME);
    VG_CHECK(manifest, VG_E_NOMEM, "%s: no memory for its path", path);
    const vg_status st = vg_wait_for_file(manifest);
    free(manifest);
    return st;
}

vg_status vg_checkpoint_choose(vg_comm *comm, const char *path, char **out)
{
    char *chosen = NULL;
    vg_status st = vg_comm_rank(comm) == 0 ? root_choose(path, &chosen) : VG_OK;
    st = vg_comm_agree(comm, st);
    if (st == VG_OK) st = vg_comm_broadcast_text(comm, &chosen, 0);
    if (st == VG_OK) st = vg_comm_agree(comm, chosen ? wait_for_checkpoint(chosen) : VG_OK);
    if (st != VG_OK) {
        free(chosen);
        return st;
    }
    *out = chosen;
    return VG_OK;
}
