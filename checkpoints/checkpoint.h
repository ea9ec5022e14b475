/* Checkpoints. One is a folder `step-00000030` that holds
 *
 *     weights.safetensors            every parameter, trainable or frozen, fp32; opens in any safetensors reader
 *     optimizer-00000-of-00004 ..    the AdamW moments, one piece per rank that saved; safetensors inside
 *     manifest.json                  step, position, seed, configuration, profile, size and hash of every file
 *
 * The manifest is the commit: it is written last and renamed into place, and a folder without one does not exist.
 *
 *     VG_TRY(vg_checkpoint_writer_open(comm, "run/checkpoints", params, &keep, 2, &writer));
 *     vg_checkpoint_state state = {.step = 30, ...};
 *     VG_TRY(vg_checkpoint_begin(writer, &state));                             at a step boundary; training goes on
 *
 *     VG_TRY(vg_checkpoint_choose(comm, "run/checkpoints", &path));            resuming; path NULL: start afresh
 *     VG_TRY(vg_checkpoint_open(path, &info));                                 info->step, ->stage, ->configuration ..
 *     VG_TRY(vg_checkpoint_load_weights(path, params));
 *     ... vg_params_layout for info->stage ...
 *     VG_TRY(vg_checkpoint_load_moments(path, params));
 *
 * Everything is matched by parameter name, so it may be loaded on any number of ranks and by builds that order the flat
 * space otherwise. Nothing in a checkpoint is trusted: sizes, names and shapes are checked before use. */
#ifndef VG_CHECKPOINTS_CHECKPOINT_H
#define VG_CHECKPOINTS_CHECKPOINT_H

#include "dist/comm.h"
#include "kernels/params.h"

/* Which checkpoints stay: the newest `last` (0: all do), of the others those of a step that is a multiple of `every`
 * (0: none), and the one that was best at VG_CHECKPOINT_ACCURACY, where one has that number. */
typedef struct vg_checkpoint_retention {
    int last;
    int64_t every;
    bool best;
} vg_checkpoint_retention;

#define VG_CHECKPOINT_ACCURACY "acc50" /* key of a number: accuracy at IoU 0.5 in the evaluation of this very step */

/* A number kept beside the state: a best metric, a running mean. */
typedef struct vg_checkpoint_number {
    const char *key;
    double value; /* finite */
} vg_checkpoint_number;

/* Where a run stands. All ranks bring the same. Borrowed for the call. */
typedef struct vg_checkpoint_state {
    int64_t step, stage, stage_step, position, optimizer_steps, skipped_steps;
    uint64_t seed;
    uint64_t generation;            /* of this run; one that goes on from it has a larger one */
    const char *configuration;      /* the resolved YAML */
    const char *configuration_hash; /* of what decides the bits */
    const char *profile;            /* numerics profile */
    const vg_checkpoint_number *numbers;
    int n_numbers;
    bool compress; /* moments byte-shuffled and zstd-compressed instead of raw */
} vg_checkpoint_state;

/* Saves behind the training, so that a step waits for a memory copy only: the rest is done by a thread of each rank, in
 * parts between which the ranks meet at step boundaries.
 *
 *     VG_TRY(vg_checkpoint_begin(writer, &state));
 *     ... steps go on; at each boundary where vg_checkpoint_ready(writer) holds on all ranks: ...
 *     st = vg_checkpoint_go_on(writer, &saved, &path);         until saved, or not VG_OK: then this save is over
 *     st = vg_checkpoint_finish(writer, &path);                or, before the run ends: waits for all of it */
typedef struct vg_checkpoint_writer vg_checkpoint_writer;

/* Collective. A writer into `folder` for the current layout of params, which must stay until close, with what it will
 * copy into. Of params the weights are the same on all ranks; of the average where one is kept, and of the moments
 * where they are not elsewhere, each rank holds at least its piece. Each save deletes what `keep` does not keep.
 * n_threads copy, as many as compute. Errors, on all ranks alike: VG_E_NOMEM, VG_E_COMM. */
vg_status vg_checkpoint_writer_open(vg_comm *comm, const char *folder, const vg_params *params,
                                    const vg_checkpoint_retention *keep, int n_threads, vg_checkpoint_writer **out);

/* Local. What a save under way has not committed is left to the next save to clear away. NULL is fine. */
void vg_checkpoint_writer_close(vg_checkpoint_writer *writer);

/* Local. Of the n_trainable floats, those of this rank's piece, its vg_slice_of (comm.h) in VG_PARAM_BLOCK units. Where
 * params keeps moments elsewhere, those of the piece are to be written to *moment1 and *moment2 [count] before each
 * vg_checkpoint_begin, while no save is under way. */
void vg_checkpoint_piece(const vg_checkpoint_writer *writer, int64_t *first, int64_t *count, float **moment1,
                         float **moment2);

/* Local. Bytes that a writer keeps for its copy. */
size_t vg_checkpoint_writer_bytes(const vg_params *params, int n_ranks, int rank);

/* Collective. Copies what a step changes (trainable weights on rank 0, each rank's slice of the moments, texts); from
 * here on the save makes folder/step-<step>, the files of all ranks, and then the manifest. Where this generation has
 * saved the step already, that one is kept if it verifies; a checkpoint of the same step and another generation gets a
 * neighbour, step-<step>-g<n>. Errors, on all ranks alike: VG_E_NOMEM, VG_E_COMM, VG_E_BUG while a save is under way.
 */
vg_status vg_checkpoint_begin(vg_checkpoint_writer *writer, const vg_checkpoint_state *state);

/* Local. Whether a save is under way; whether this rank's thread is done with its part of it. */
bool vg_checkpoint_busy(const vg_checkpoint_writer *writer);
bool vg_checkpoint_ready(const vg_checkpoint_writer *writer);

/* Collective, while a save is under way. Waits for what is not ready, and starts the next part; *saved: it was the
 * last, and *path (may be NULL) is the checkpoint, heap. Errors, on all ranks alike, with older checkpoints intact and
 * the unfinished folder removed: VG_E_STORAGE (disk full, failed fsync), VG_E_CONFIG (a later generation has claimed
 * this folder or writes to it), VG_E_NOMEM, VG_E_COMM. */
vg_status vg_checkpoint_go_on(vg_checkpoint_writer *writer, bool *saved, char **path);

/* Collective, while a save is under way. Goes on to its end. Errors as for vg_checkpoint_go_on. */
vg_status vg_checkpoint_finish(vg_checkpoint_writer *writer, char **path);

/* Local, on rank 0, when a run begins or goes on. Takes the folder (made where absent) over: *generation is larger than
 * all that wrote there before, whose saves are refused from here on. Of several that claim it at once, on any hosts,
 * each gets another one, and the largest stays. `who` is for their message. Errors: VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_checkpoint_claim(const char *folder, const char *who, uint64_t *generation);

/* Local. Whether that is so still. Errors: VG_E_CONFIG, naming who came after; VG_E_STORAGE where it cannot be told. */
vg_status vg_checkpoint_still_ours(const char *folder, uint64_t generation);

/* Collective. The checkpoint to go on from: `path` itself when it is one (then it must verify), else the newest in that
 * folder that verifies, with a loud warning for each that does not. Rank 0 decides; the others wait until a slow shared
 * file system shows it to them. *out is a heap copy on every rank, NULL when there is no checkpoint at all. Errors:
 * VG_E_STORAGE when there are some and none verifies, VG_E_COMM. */
vg_status vg_checkpoint_choose(vg_comm *comm, const char *path, char **out);

typedef struct vg_checkpoint_file {
    char *name;
    uint64_t bytes, hash; /* XXH3, 64 bits */
} vg_checkpoint_file;

/* A manifest. */
typedef struct vg_checkpoint_info {
    int64_t step, stage, stage_step, position, optimizer_steps, skipped_steps;
    uint64_t seed, generation;
    char *configuration, *configuration_hash, *profile;
    vg_checkpoint_number *numbers; /* keys are owned by the info */
    int n_numbers;
    vg_checkpoint_file *files; /* weights.safetensors first, then the optimizer pieces in order */
    int n_files;
} vg_checkpoint_info;

/* Local. Reads and checks a manifest. Errors: VG_E_STORAGE (absent, malformed, newer format), VG_E_NOMEM. */
vg_status vg_checkpoint_open(const char *path, vg_checkpoint_info **out);
void vg_checkpoint_info_free(vg_checkpoint_info *info);

/* Local. A number by key, or `otherwise`. */
double vg_checkpoint_number_of(const vg_checkpoint_info *info, const char *key, double otherwise);

/* Local. The numbers of a checkpoint that is there, in the place of those that it has; by whoever may write to the
 * folder. Errors: VG_E_STORAGE, with the checkpoint as it was, VG_E_NOMEM, VG_E_BUG (one is not finite). */
vg_status vg_checkpoint_set_numbers(const char *path, const vg_checkpoint_number *numbers, int n);

/* Local. Fills params->master and ->frozen by name; tensors that params does not know are passed over. Errors:
 * VG_E_USAGE (there is no checkpoint), VG_E_CONFIG (a parameter is missing or has another shape: another model),
 * VG_E_STORAGE (unreadable); params may then be partly filled. */
vg_status vg_checkpoint_load_weights(const char *path, vg_params *params);

/* Local. Fills params->moment1, ->moment2 and ->average of the current layout, those that are there, the average from
 * master when the checkpoint has none: load the weights first. Errors: VG_E_CONFIG (a trainable parameter whose moments
 * are not all there: another schedule), VG_E_STORAGE. */
vg_status vg_checkpoint_load_moments(const char *path, vg_params *params);

/* Local. Puts the running average in the place of the values of what trained, where the checkpoint has one: the
 * weights to answer with. Load the weights first. Errors: VG_E_STORAGE (unreadable), VG_E_CONFIG (a part is missing).
 */
vg_status vg_checkpoint_load_average(const char *path, vg_params *params);

/* Local. Reads every file and compares size and hash with the manifest. Errors: VG_E_USAGE (there is no checkpoint),
 * VG_E_STORAGE, naming the file. */
vg_status vg_checkpoint_verify(const char *path);

/* Local. Deletes the checkpoints of a folder that `keep` does not keep; those that cannot be read stay, and what cannot
 * be deleted is logged. */
vg_status vg_checkpoint_prune(const char *folder, const vg_checkpoint_retention *keep);

/* Local. The paths of the checkpoints in a folder (those with a manifest), oldest first: by generation, then by step,
 * so that a run that went back to step 20 and reached 25 is newer than the 30 it left behind; those whose manifest
 * cannot be read come last. Heap array of heap strings. A folder that is absent has none. */
vg_status vg_checkpoint_list(const char *folder, char ***paths, int *n);
void vg_checkpoint_list_free(char **paths, int n);

/* Local. Writes weights as one safetensors file. prefix "vision." or "text." keeps the parameters of one tower and
 * strips it (names as timm and transformers have them); NULL or "" keeps all. What does not verify is not exported.
 * Errors: VG_E_STORAGE, VG_E_USAGE (no such checkpoint; no parameter has that prefix; out is a pipe or a device). */
vg_status vg_checkpoint_export(const char *path, const char *prefix, const char *out);

/* Local. Makes the folder `out` a checkpoint with the mean of n checkpoints' weights and nothing to train on with: one
 * to answer with, or to export. Their weights are verified first. Errors: VG_E_USAGE (one is not there, parameters
 * differ), VG_E_STORAGE (one does not verify, out is there already), VG_E_NOMEM. */
vg_status vg_checkpoint_average(const char *const *paths, int n, const char *out);

/* A parameter that is not the same in two checkpoints. Borrowed for the call. */
typedef struct vg_checkpoint_difference {
    const char *name;
    int64_t count, values; /* values: how many of count have other bits */
    double largest;        /* absolute difference */
    const char *where;     /* instead of values: one lacks it, or it has another shape */
} vg_checkpoint_difference;

typedef void vg_checkpoint_tell_fn(void *context, const vg_checkpoint_difference *difference);

/* Local. Tells each parameter whose values differ; *differ: how many. Errors: VG_E_USAGE (there is no checkpoint),
 * VG_E_STORAGE (one does not verify), VG_E_NOMEM. */
vg_status vg_checkpoint_diff(const char *a, const char *b, vg_checkpoint_tell_fn *tell, void *context, int64_t *differ);

#endif
