/* Inside the import: records that wait for their shard, their images, and the shards made of them. */
#ifndef VG_DATA_IMPORT_IMPL_H
#define VG_DATA_IMPORT_IMPL_H

#include "data/import.h"
#include "data/import/sorter_impl.h"

/* A record that outlives its importer's next call: its texts and boxes are copied into one block. */
typedef struct vg_kept_record {
    vg_import_record record;
    vg_new_sentence *sentences;
    float *boxes; /* of all of them */
    char *block;
    uint64_t size; /* of the image file; 0 when it is not there */
    bool absent;   /* it is not there, and need not be */
} vg_kept_record;

/* An image file as it was found. */
typedef struct vg_found_image {
    unsigned char *bytes; /* heap; NULL when it could not be read */
    size_t n_bytes;
    int width, height; /* when it was decoded */
    bool turned;       /* EXIF data turn it for viewers */
    vg_status status;
    char why[400]; /* the sentence of a failure; another thread's error text does not reach the caller */
} vg_found_image;

/* Reads the images of n records that are not absent and, with `decode`, decodes each and compares its size with the
 * annotations; on n_threads threads, in no order. out[n] is filled; the caller frees the bytes. A file that is bad has
 * VG_E_DATA. */
void vg_import_images(const vg_kept_record *records, size_t n, bool decode, int n_threads, vg_found_image *out);

/* Records on their way into shards out/<set>-NNNNN.h5. */
typedef struct vg_shard_maker {
    const char *set, *out;
    vg_import_log *log;
    vg_import_report *report;
    uint64_t shard_bytes;
    char cut[40]; /* the same for people */
    bool merge_boxes;
    int n_threads;
    const vg_import_options *options;
    vg_sorter *phrases;      /* hashes of all texts, to count the distinct ones */
    vg_kept_record *records; /* of the shard at hand */
    size_t n, capacity;
    uint64_t size; /* of their image files */
    size_t n_sentences;
    int64_t n_turned; /* images of them that EXIF data turn for viewers */
} vg_shard_maker;

/* Takes a copy of a record; makes a shard when there is enough for one. Errors: VG_E_DATA (strict), VG_E_STORAGE. */
vg_status vg_shard_maker_add(vg_shard_maker *maker, const vg_import_record *record);
/* Makes the last shard and counts the phrases. */
vg_status vg_shard_maker_finish(vg_shard_maker *maker);
/* Of an import that is good: looks that no shard of an earlier, larger one lies behind (VG_E_DATA), and clears the
 * mark. */
vg_status vg_shard_maker_seal(vg_shard_maker *maker);
void vg_shard_maker_release(vg_shard_maker *maker);

#endif
