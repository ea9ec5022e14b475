/* What the parts of a checkpoint know of each other. */
#ifndef VG_CHECKPOINTS_CHECKPOINT_IMPL_H
#define VG_CHECKPOINTS_CHECKPOINT_IMPL_H

#include "checkpoints/checkpoint.h"
#include "checkpoints/safetensors.h"

#define VG_MANIFEST_NAME "manifest.json"
#define VG_WEIGHTS_NAME  "weights.safetensors"
/* In a checkpoint that is not committed yet: the generation that writes there. */
#define VG_MARKER_NAME "generation"
/* In the folder of all: a file for each generation that took it over. */
#define VG_CLAIMS_NAME "generations"

enum { VG_MAX_PIECES = 100000, VG_NAME_BYTES = 64, VG_WHO_BYTES = 256 };

/* folder/name on the heap, NULL without memory. */
char *vg_path_join(const char *folder, const char *name);

/* The file name of the piece of a rank, into text[VG_NAME_BYTES]. */
void vg_piece_name(int rank, int n_ranks, char *text);

/* What a file of a checkpoint holds: its size and the XXH3 of its bytes. */
typedef struct vg_file_sum {
    uint64_t bytes, hash;
} vg_file_sum;

/* ---- manifest.c ---- */

/* Writes the manifest of `path`: the commit. */
vg_status vg_manifest_write(const char *path, const vg_checkpoint_state *state, const vg_checkpoint_file *files,
                            int n_files);

/* Reads the text of a manifest; `file` is for messages. */
vg_status vg_manifest_parse(const char *file, const char *text, size_t size, vg_checkpoint_info **out);

/* ---- moments.c, weights.c ---- */

/* The weights of a checkpoint as tensors. Errors: VG_E_STORAGE. */
vg_status vg_checkpoint_open_weights(const char *path, vg_tensors **out);

/* The same, for whoever was not told that they verify: they are compared with the manifest first. */
vg_status vg_checkpoint_open_sound_weights(const char *path, vg_tensors **out);

/* Each writes one file of a checkpoint. For the moments, moment1, moment2 and average of params hold the slice of the
 * rank alone, from its first float on. */
vg_status vg_weights_write(const char *file, const vg_params *params, vg_file_sum *sum);
vg_status vg_moments_write(const char *file, const vg_params *params, bool compress, int rank, int n_ranks,
                           vg_file_sum *sum);

enum { VG_MOMENT_BUFFERS = 3 }; /* moment1, moment2, average */

/* Reads one piece of the optimizer. covered[VG_MOMENT_BUFFERS, params->n]: how many elements the pieces before brought
 * and this one adds. */
vg_status vg_moments_read(const char *file, vg_params *params, int64_t *covered);

/* ---- folder.c ---- */

/* Reads the weights alone and compares. Errors: as vg_checkpoint_verify. */
vg_status vg_checkpoint_verify_weights(const char *path);

/* Reads a file and compares. Errors: VG_E_STORAGE. */
vg_status vg_file_verify(const char *file, const vg_file_sum *sum);

/* Whether `path` has a manifest; also where that cannot be told: it is not taken for what an unfinished save left. */
bool vg_checkpoint_exists(const char *path);
vg_status vg_checkpoint_expect(const char *path); /* VG_E_USAGE where it does not */

/* Deletes a checkpoint or what is left of one, its manifest first. Errors: VG_E_STORAGE. */
vg_status vg_checkpoint_remove(const char *path);

/* Errors: VG_E_CONFIG when a later generation writes to this folder, has written there or has claimed it. */
vg_status vg_folder_fence(const char *folder, uint64_t generation);

/* Removes what earlier saves left unfinished. */
vg_status vg_folder_clean(const char *folder);

/* Waits until a slow shared file system shows `file`. Errors: VG_E_STORAGE after half a minute. */
vg_status vg_wait_for_file(const char *file);

#endif
