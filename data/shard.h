/* Shards: a dataset as a few HDF5 files, and a *split*, which is the view of them that training and evaluation read.
 *
 *     VG_TRY(vg_split_open(paths, n_paths, "train", &split));
 *     for (int64_t i = 0; i < vg_split_sentence_count(split); i++) {
 *         vg_sentence s;
 *         vg_split_sentence(split, i, &s);                  borrowed: text, boxes, ids
 *         VG_TRY(vg_split_read_image(split, s.image, &bytes, &n));
 *     }
 *     vg_split_close(split);
 *
 * A shard holds encoded images as they came (JPEG or PNG bytes), boxes in pixels of the stored image, phrases, split
 * and source ids, and a hash per sample; any HDF5 tool opens it (docs in data/FORMAT.md). Readers trust nothing: every
 * offset, length, id and box is checked when a shard is opened; image bytes are read by pread outside HDF5's lock. */
#ifndef VG_DATA_SHARD_H
#define VG_DATA_SHARD_H

#include "kernels/base/base.h"

enum { VG_SHARD_VERSION = 2 }; /* what is written; 1 is read, too */

typedef struct vg_split vg_split;

/* One phrase and the boxes it means. Pointers are borrowed from the split. */
typedef struct vg_sentence {
    int64_t sentence_id; /* of the source data set */
    int64_t ref_id;      /* of the source data set */
    int64_t image;       /* index within the split */
    const char *text;    /* UTF-8, NUL-terminated */
    size_t text_bytes;
    const float *boxes; /* [n_boxes,4]  x1 y1 x2 y2, pixels of the stored image */
    int n_boxes;        /* 0 for a phrase that names nothing in the image */
    const char *kind;   /* phrase type such as "attribute" or "relation" for reports; "" when the source has none */
} vg_sentence;

typedef struct vg_image_info {
    int64_t image_id; /* of the source data set */
    int width, height;
    int64_t first_sentence, n_sentences; /* the sentences of an image lie together */
    const char *file_name;
} vg_image_info;

/* Opens the split over shard files (or folders holding *.h5; sorted by name). The split holds only its own images and
 * sentences, in shard order. Errors: VG_E_DATA naming the shard and the place; an unknown split lists those there are.
 */
vg_status vg_split_open(const char *const *paths, int n_paths, const char *split, vg_split **out);

/* What to do with an image of the split that stands in an evaluation split, one of another name, of another set. A set
 * is the shards of one origin in a folder, and images are the same by their ids (data/FORMAT.md, "Leakage"). */
typedef enum vg_leaked { VG_LEAKED_NOT_SOUGHT, VG_LEAKED_OUT, VG_LEAKED_KEPT } vg_leaked;

/* Other ways to open. Zeroed: as vg_split_open. */
typedef struct vg_split_opening {
    const char *without; /* a list of records (data/record_list.h), which may be rows at fault, that are left out, of
                            which some must be there; "" or NULL: none */
    vg_leaked leaked;
    const char *const *against; /* more shards with evaluation splits, beside those of the split itself */
    int n_against;
} vg_split_opening;
vg_status vg_split_open_as(const char *const *paths, int n_paths, const char *split, const vg_split_opening *opening,
                           vg_split **out);
void vg_split_close(vg_split *split);

int64_t vg_split_image_count(const vg_split *split);
int64_t vg_split_left_out(const vg_split *split); /* records of the list that its shards had */
int64_t vg_split_listed(const vg_split *split);   /* records of the list */

/* The leaked images of a set by the set that evaluates on them. Borrowed from the split. */
typedef struct vg_split_leak {
    const char *set, *evaluated_in; /* for people: "shards/vg (vg)" */
    const char *splits;             /* of the second: "val, testA" */
    int64_t n_images;
} vg_split_leak;
int vg_split_leak_count(const vg_split *split);
void vg_split_leak_of(const vg_split *split, int i, vg_split_leak *out); /* 0 <= i < count */
int64_t vg_split_leaked(const vg_split *split);                          /* leaked images, each counted once */

/* The first image that comes from paths[path] or behind it; the image count for path = n_paths. */
int64_t vg_split_first_image(const vg_split *split, int path);
int64_t vg_split_sentence_count(const vg_split *split);
void vg_split_sentence(const vg_split *split, int64_t index, vg_sentence *out); /* 0 <= index < count */
void vg_split_image(const vg_split *split, int64_t index, vg_image_info *out);
const char *vg_split_name(const vg_split *split);
uint64_t vg_split_hash(const vg_split *split); /* of every record hash, in order: equal hash, equal data */

/* That every image of the split is there: training and evaluation ask before they begin. Errors: VG_E_DATA naming the
 * first that was imported without its file, and how many there are. */
vg_status vg_split_check_images(const vg_split *split);

/* The encoded bytes of an image into *bytes (heap, grown as needed with *capacity; the caller frees). Thread-safe.
 * Errors: VG_E_DATA (absent, hash differs), VG_E_STORAGE (an I/O error after retries). */
vg_status vg_split_read_image(const vg_split *split, int64_t image, unsigned char **bytes, size_t *capacity, size_t *n);

#endif
