/* Tensor files in the safetensors format: 8 bytes of header length, a JSON header, the data. Read without trust (every
 * length, offset, shape and type is checked before it is used), written in one sequential pass.
 *
 *     vg_tensors *t; VG_TRY(vg_tensors_open("model.safetensors", &t));
 *     const int i = vg_tensors_find(t, "norm.weight");
 *     if (i >= 0) st = vg_tensors_read_f32(t, i, out);             out has vg_tensors_get(t, i)->count floats
 *     VG_KEEP(st, vg_tensors_close(t));
 *
 *     vg_tensor_writer *w; VG_TRY(vg_tensor_writer_new(&w));
 *     st = vg_tensor_writer_add(w, "norm.weight", VG_TENSOR_F32, 1, (int64_t[]){384});      all of them first,
 *     VG_KEEP(st, vg_tensor_writer_start(w, path));                                         then the header,
 *     VG_KEEP(st, vg_tensor_writer_write(w, x, 384 * sizeof *x));                           then their data in order
 *     VG_KEEP(st, vg_tensor_writer_finish(w, NULL, NULL));
 *     vg_tensor_writer_free(w);
 *
 * All calls are local. Source: the format description of the safetensors project, README "Format". */
#ifndef VG_CHECKPOINTS_SAFETENSORS_H
#define VG_CHECKPOINTS_SAFETENSORS_H

#include "kernels/base/base.h"

enum { VG_TENSOR_MAX_RANK = 8 };

/* The element types that a file can name; the first four are read as fp32. */
typedef enum vg_tensor_type {
    VG_TENSOR_F32,
    VG_TENSOR_F16,
    VG_TENSOR_BF16,
    VG_TENSOR_F64,
    VG_TENSOR_I64,
    VG_TENSOR_I32,
    VG_TENSOR_I16,
    VG_TENSOR_I8,
    VG_TENSOR_U64,
    VG_TENSOR_U32,
    VG_TENSOR_U16,
    VG_TENSOR_U8,
    VG_TENSOR_BOOL,
    VG_TENSOR_F8_E4M3,
    VG_TENSOR_F8_E5M2,
    VG_TENSOR_TYPES
} vg_tensor_type;

typedef struct vg_tensor_entry {
    const char *name;
    vg_tensor_type type;
    int rank; /* 0 is a scalar */
    int64_t dim[VG_TENSOR_MAX_RANK];
    int64_t count;  /* product of the dims */
    uint64_t bytes; /* count elements */
    int file;       /* which of the files it lies in, for messages */
    uint64_t at;    /* byte offset in that file */
} vg_tensor_entry;

typedef struct vg_tensors vg_tensors;

/* Opens a .safetensors file, a `*.safetensors.index.json` with its shards, or a folder that holds one of
 * model.safetensors.index.json, model.safetensors, weights.safetensors, or a single .safetensors file. Errors:
 * VG_E_DATA (names the file and what is wrong with it), VG_E_NOMEM. */
vg_status vg_tensors_open(const char *path, vg_tensors **out);
vg_status vg_tensors_close(vg_tensors *tensors); /* NULL is fine */

/* Entries in name order (bytewise), borrowed until close. find: -1 when there is none. */
int vg_tensors_count(const vg_tensors *tensors);
const vg_tensor_entry *vg_tensors_get(const vg_tensors *tensors, int index);
int vg_tensors_find(const vg_tensors *tensors, const char *name);

/* A text of the header's __metadata__ (of the first file), NULL when there is none. */
const char *vg_tensors_metadata(const vg_tensors *tensors, const char *key);

/* The file that holds an entry, for messages. */
const char *vg_tensors_file(const vg_tensors *tensors, int index);

const char *vg_tensor_type_name(vg_tensor_type type); /* "BF16" */
size_t vg_tensor_type_bytes(vg_tensor_type type);

/* All values, or `count` of them from element `first`, as fp32 (F64 is rounded once). Errors: VG_E_DATA (not a float
 * type, the file ends early or cannot be read). */
vg_status vg_tensors_read_f32(const vg_tensors *tensors, int index, float *out);
vg_status vg_tensors_read_f32_part(const vg_tensors *tensors, int index, int64_t first, int64_t count, float *out);

/* The bytes as they lie in the file, out [entry->bytes]. */
vg_status vg_tensors_read_bytes(const vg_tensors *tensors, int index, void *out);

typedef struct vg_tensor_writer vg_tensor_writer;

vg_status vg_tensor_writer_new(vg_tensor_writer **out);
void vg_tensor_writer_free(vg_tensor_writer *writer);

/* Before start: a text for __metadata__, a tensor. Names are UTF-8 and unique. */
vg_status vg_tensor_writer_text(vg_tensor_writer *writer, const char *key, const char *value);
vg_status vg_tensor_writer_add(vg_tensor_writer *writer, const char *name, vg_tensor_type type, int rank,
                               const int64_t *dim);

/* Creates path and writes the header; then the bytes of the tensors in the order in which they were added, in pieces of
 * any size; then fsync and close. finish refuses when bytes are missing; *bytes and *hash (XXH3, 64 bits, of the whole
 * file) may be NULL. Errors: VG_E_STORAGE; a file that was not finished is removed by free. */
vg_status vg_tensor_writer_start(vg_tensor_writer *writer, const char *path);
vg_status vg_tensor_writer_write(vg_tensor_writer *writer, const void *data, size_t bytes);
vg_status vg_tensor_writer_finish(vg_tensor_writer *writer, uint64_t *bytes, uint64_t *hash);

#endif
