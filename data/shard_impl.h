/* Inside a shard: the rows of its tables, one opened shard, and what its writer and its reader share. The layout is
 * described for people in data/FORMAT.md. */
#ifndef VG_DATA_SHARD_IMPL_H
#define VG_DATA_SHARD_IMPL_H

#include "data/record_list.h"
#include "data/shard.h"
#include "data/shard_writer.h"
#include "data/steady_read_impl.h"

#include <sys/types.h>

#include <hdf5.h>

#define VG_SHARD_FORMAT "VL-GTR shard"

enum {
    VG_SHARD_CHUNK_BYTES = 8 << 20,
    VG_SHARD_MAX_NAMES = 4096,     /* splits or kinds in a shard */
    VG_SHARD_HISTORY_BYTES = 1024, /* what was done to a shard, with its NUL */
};

typedef struct vg_shard_image {
    int64_t image_id;
    int64_t coco_id, flickr_id; /* of the same photograph elsewhere, 0 where unknown */
    int32_t width, height;
    uint64_t offset, length; /* of the encoded bytes in /bytes; length 0 where the file was absent at import */
    uint64_t hash;           /* XXH3-64 of them */
    uint64_t name_offset;    /* of the file name in /text */
    uint32_t name_length;
    uint64_t record; /* hash of all of the above by value, see vg_shard_image_record */
} vg_shard_image;

typedef struct vg_shard_sentence {
    int64_t sentence_id, ref_id;
    int64_t image; /* row of /images; the sentences of an image lie together */
    uint64_t text_offset;
    uint32_t text_length;
    int64_t first_box;
    int32_t n_boxes;
    int32_t split, kind; /* rows of /splits and /kinds */
    uint64_t record;
} vg_shard_sentence;

typedef char vg_shard_name[VG_SHARD_NAME_BYTES];

/* Where a shard comes from. */
typedef struct vg_shard_origin {
    vg_shard_name source, split_by;
    uint64_t inputs;                      /* hash of what went in, to know a finished shard again; 0 when unknown */
    char history[VG_SHARD_HISTORY_BYTES]; /* what was done since, a line each; "" after an import */
} vg_shard_origin;

/* The tables of a shard. */
typedef struct vg_shard_tables {
    vg_shard_image *images;
    vg_shard_sentence *sentences;
    float (*boxes)[4];
    char *text; /* NUL behind each string */
    vg_shard_name *splits, *kinds;
    size_t n_images, n_sentences, n_boxes, n_text, n_splits, n_kinds;
    uint64_t n_bytes;     /* of /bytes */
    uint64_t chunk_bytes; /* no image straddles a multiple of this, unless it is larger and starts on one */
} vg_shard_tables;

/* An opened shard: everything but the images in memory, and checked. */
typedef struct vg_shard {
    char *path;
    int fd;
    vg_shard_tables tables;
    uint64_t *chunk_at; /* file offset of each chunk of /bytes */
    size_t n_chunks;
    vg_shard_origin origin;
    uint64_t content;  /* hash of all records */
    size_t n_left_out; /* rows that were on the list of those to leave out */
    vg_pread *pread;   /* pread(2), which tests replace */
} vg_shard;

/* Opens and checks one shard file. Errors: VG_E_DATA naming file, table and row; VG_E_NOMEM. */
vg_status vg_shard_open(const char *path, vg_shard **out);

/* A row that cannot be believed. */
typedef struct vg_row_fault {
    const char *table; /* images or sentences */
    size_t row;
    int64_t id;
    uint64_t record; /* as it is stored */
    const char *what;
} vg_row_fault;

typedef vg_status vg_row_fault_fn(void *user, const vg_row_fault *fault);

/* Other ways to open. Zeroed: as vg_shard_open. */
typedef struct vg_shard_opening {
    const vg_record_list *without; /* records left out before anything is checked, so a shard opens whose bad rows are
                                      listed; images left out take their sentences along, and none may remain */
    vg_row_fault_fn *on_fault;     /* told of every row at fault, in place of failing at the first. Rows at fault, and
                                      sentences of images at fault, must not be used */
    void *user;
} vg_shard_opening;
vg_status vg_shard_open_as(const char *path, const vg_shard_opening *opening, vg_shard **out);
void vg_shard_close(vg_shard *shard);

/* The encoded bytes of image row i, hash checked; as vg_split_read_image. Thread-safe. */
vg_status vg_shard_read_image(const vg_shard *shard, size_t i, unsigned char **bytes, size_t *capacity, size_t *n);

/* Shard files: those named, and for a folder its *.h5 by name, behind those that are in the list. The caller releases
 * the list, also on failure. Errors: VG_E_DATA (nothing there; a folder with a mark, see below; a file that is named
 * twice, as by its folder or through a link, and would count twice), VG_E_NOMEM. */
typedef struct vg_shard_paths {
    char **path;
    size_t n, capacity;
} vg_shard_paths;
vg_status vg_shard_paths_find(const char *const *names, int n_names, vg_shard_paths *list);
int64_t vg_shard_paths_bytes(const vg_shard_paths *list); /* of all files, for progress */
/* That one of them has the split, with the sentence of vg_split_open for one that none has. Errors: as that. */
vg_status vg_split_check_name(const char *const *paths, int n_paths, const char *name);
void vg_shard_paths_release(vg_shard_paths *list);

/* The file <name>.unfinished in a folder: whatever the reason, not all shards that shall be called <name>-NNNNN.h5 are
 * there. Who writes several sets it before the first and clears it behind the last. It holds how they are cut where
 * that must stay for the work to go on, else "". Errors: VG_E_STORAGE, VG_E_NOMEM; check: VG_E_USAGE where they were
 * cut otherwise. */
vg_status vg_shard_mark_set(const char *folder, const char *name, const char *cut);
vg_status vg_shard_mark_check(const char *folder, const char *name, const char *cut);
vg_status vg_shard_mark_clear(const char *folder, const char *name);

/* Takes rows out of tables that were not checked. *n_out: rows left out, those that went along not counted. */
vg_status vg_shard_leave_out(vg_shard_tables *tables, const vg_record_list *without, size_t *n_out);

/* Checks every row of tables that claim to lie in `path`. on_fault NULL: the first at fault is an error. Errors:
 * VG_E_DATA, and what on_fault returns. */
vg_status vg_shard_check(const char *path, const vg_shard_tables *tables, vg_row_fault_fn *on_fault, void *user);
/* Whether a split or kind can be stored: of `least` to 63 bytes, in UTF-8. At most 64 bytes are looked at. */
bool vg_shard_name_fits(const char *name, size_t least);
/* What is wrong with one row, NULL when nothing is. `end` is the end of the bytes of the image before and moves on;
 * `before` is the image of the sentence before, -1 at first. */
const char *vg_shard_image_fault(const vg_shard_tables *tables, const vg_shard_image *image, uint64_t *end);
const char *vg_shard_sentence_fault(const vg_shard_tables *tables, const vg_shard_sentence *sentence, int64_t before);
void vg_shard_tables_release(vg_shard_tables *tables);

/* Hashes of rows by value (texts, boxes and names instead of their places), and of all rows in order. */
uint64_t vg_shard_image_record(const vg_shard_tables *tables, const vg_shard_image *image);
uint64_t vg_shard_sentence_record(const vg_shard_tables *tables, const vg_shard_sentence *sentence);
uint64_t vg_shard_content(const vg_shard_tables *tables);

/* Words of a phrase, set apart by white space; and the share of its image that a box covers. */
int vg_shard_words(const char *phrase);
double vg_shard_box_area(const float box[4], const vg_shard_image *image);

/* Compound types of the rows: packed little-endian in files, the C structs in memory. The caller closes them. */
hid_t vg_shard_image_type(bool in_memory);
hid_t vg_shard_sentence_type(bool in_memory);
/* UTF-8 of so many bytes, NUL included. The caller closes it. */
hid_t vg_shard_text_type(size_t bytes);
/* True when a compound type of a file has every field of the row as an integer. */
bool vg_shard_image_type_fits(hid_t type);
bool vg_shard_sentence_type_fits(hid_t type);

/* Comes before anything else with HDF5: it prints nothing by itself and does nothing at exit. */
void vg_h5_begin(void);
/* From now on an I/O error below any call of HDF5 that may pass is noted in *io_error; NULL: no longer. */
void vg_h5_watch(int *io_error);
/* Fails with HDF5's innermost reason in the sentence. It is the reason of HDF5's last call, so this comes before any
 * handle is closed. */
vg_status vg_h5_fail(vg_status status, const char *path, const char *what);

/* Properties for opening and making files: no locks (shared file systems refuse them, and names are renamed into
 * place instead), the checksummed 1.10 format. */
hid_t vg_h5_access(void);

#endif
