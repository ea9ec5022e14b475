/* Writing one shard.
 *
 *     VG_TRY(vg_shard_writer_open("out/refcoco-00000.h5", "refcoco", "unc", &writer));
 *     for each image: VG_TRY(vg_shard_writer_add(writer, &image));
 *     VG_TRY(vg_shard_writer_close(writer, inputs));      the file appears, whole
 *     (or vg_shard_writer_abandon(writer);                nothing appears)
 *
 * The file grows as `<path>.partial`; closing fsyncs and renames it. Equal calls give equal bytes, whenever and
 * wherever they are made. */
#ifndef VG_DATA_SHARD_WRITER_H
#define VG_DATA_SHARD_WRITER_H

#include "kernels/base/base.h"

/* What a record holds at most. */
enum {
    VG_SHARD_NAME_BYTES = 64,     /* a split or kind, with its NUL */
    VG_SHARD_MAX_SIDE = 1 << 20,  /* pixels */
    VG_SHARD_MAX_TEXT = 1 << 16,  /* bytes of a phrase or file name */
    VG_SHARD_MAX_BOXES = 1 << 16, /* boxes of a phrase */
    VG_SHARD_MAX_IMAGE = 1 << 30, /* encoded bytes */
};

/* One phrase of an image, as it goes into a shard. Everything is borrowed. */
typedef struct vg_new_sentence {
    int64_t sentence_id, ref_id;
    const char *text; /* UTF-8, not empty, no NUL inside */
    size_t text_bytes;
    const char *split;  /* 1 to 63 bytes */
    const char *kind;   /* up to 63 bytes, "" for none */
    const float *boxes; /* [n_boxes,4]  x1 y1 x2 y2, pixels, inside the image */
    int n_boxes;
} vg_new_sentence;

typedef struct vg_new_image {
    int64_t image_id;
    int64_t coco_id, flickr_id; /* of the same photograph elsewhere, to find it again in other sets; 0 where unknown */
    int width, height;
    const char *file_name;
    const unsigned char *bytes; /* encoded, JPEG or PNG; NULL where the file is absent */
    size_t n_bytes;             /* 0 then */
    const vg_new_sentence *sentences;
    size_t n_sentences;
} vg_new_image;

typedef struct vg_shard_writer vg_shard_writer;

/* With a NULL path everything is checked and nothing written. `source` and `split_by` say where the records come from
 * (up to 63 bytes; more is cut). Errors: VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_shard_writer_open(const char *path, const char *source, const char *split_by, vg_shard_writer **out);

/* What was done to the records since they were imported, a line each (up to 1023 bytes; more is cut). */
void vg_shard_writer_history(vg_shard_writer *writer, const char *history);

/* Appends an image with its sentences; the bytes are stored as they are. Errors: VG_E_DATA for a record that a reader
 * would refuse (nothing is then appended), VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_shard_writer_add(vg_shard_writer *writer, const vg_new_image *image);

/* Finishes the file and frees the writer, also on failure, after which no file has appeared. A shard without images is
 * not written. `inputs` is a hash of what went in, by which the importer knows a finished shard again; 0 when unknown.
 * Errors: VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_shard_writer_close(vg_shard_writer *writer, uint64_t inputs);
void vg_shard_writer_abandon(vg_shard_writer *writer);

#endif
