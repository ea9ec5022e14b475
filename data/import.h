/* Importing a dataset: its own files in, shards out.
 *
 *     vg_import_options options = {.images = NULL, .max_bad = 0.01};
 *     vg_import_report report;
 *     vg_status st = vg_import("refcoco", "data/refer", "shards", &options, &report);
 *     ... vg_import_report_text(&report, &text) ...
 *     vg_import_report_release(&report);
 *
 * An importer (below) knows one dataset's files and yields records, one per image; everything else happens here once
 * for all: images are read and decoded, bad records are set aside by id, records go into shards of about equal size, a
 * finished shard whose input did not change is kept. A new dataset is a file in data/import/ and a row in
 * data/importers.def. */
#ifndef VG_DATA_IMPORT_H
#define VG_DATA_IMPORT_H

#include "data/shard_writer.h"
#include "kernels/base/base.h"

enum { VG_IMPORT_MAX_SPLITS = 16, VG_IMPORT_NAME_BYTES = VG_SHARD_NAME_BYTES };

/* What becomes of a phrase of several boxes. */
typedef enum vg_import_boxes {
    VG_BOXES_USUAL,  /* what the set's importer says */
    VG_BOXES_ALL,    /* it keeps each of them */
    VG_BOXES_MERGED, /* it gets the one around them all */
} vg_import_boxes;

/* Zeroed is all defaults. Strings are borrowed for the call. */
typedef struct vg_import_options {
    const char *images;   /* folder of the image files; NULL looks in the usual places beside the annotations */
    const char *split_by; /* which refs(<split_by>).p; NULL takes the usual one, or the only one */
    size_t shard_bytes;   /* image bytes in a shard, 0 for 256 MiB */
    double max_bad;       /* share of the sentences that may be set aside before the import fails, 0..1 */
    const char *splits;   /* a list of images and splits, for sets that have none of their own; NULL for none */
    const char *shares; /* "val=0.05,test=0.05" of the images that are not listed; the rest is train. NULL for what the
                           set's importer says where there is no list, else for train */
    uint64_t seed;      /* of the shares */
    vg_import_boxes boxes;
    bool strict;        /* the first bad record is an error */
    bool tell_progress; /* lines for people, on standard error, while it takes long */
    bool dry_run;       /* everything but writing: `out` is not touched */
    /* Gets a line for each record and each thing that was set aside or left out, as it happens; NULL for none. */
    void (*tell)(void *user, const char *line);
    void *user;
    bool allow_absent; /* an image file that is not there is no fault: its rows go into the shard without it */
    int threads;       /* that read and decode images, 0 for one on each processor; never changes a byte */
} vg_import_options;

typedef struct vg_import_split {
    char name[VG_IMPORT_NAME_BYTES];
    int64_t images, refs, sentences, boxes; /* an image that two splits share counts in both */
} vg_import_split;

typedef struct vg_import_report {
    char set[VG_IMPORT_NAME_BYTES], split_by[VG_IMPORT_NAME_BYTES];
    vg_import_split splits[VG_IMPORT_MAX_SPLITS]; /* in the order in which they first appear */
    int n_splits;
    int64_t images, refs, sentences, boxes; /* in the shards; a ref that stands in two splits counts twice */
    int64_t phrases;                        /* distinct ones, which a store of phrase features has a row for */
    int64_t image_bytes;
    int64_t absent_images;             /* in the shards without their file */
    int64_t coco_images;               /* in the shards, known to be COCO's */
    int64_t turned_images;             /* that EXIF data turn or mirror for viewers; they are taken as stored */
    int64_t clamped_boxes;             /* that left an image whose size the annotations say */
    int64_t short_phrases;             /* left out by a rule of their set, which is no fault of theirs */
    int64_t unmet_lines, first_unmet;  /* of the list of splits, where they name no image with phrases */
    int64_t bad_images, bad_sentences; /* set aside; bad_sentences includes those of bad images */
    vg_text bad;                       /* a line for each thing that was set aside, with its id; the first 1000 */
    int64_t bad_lines;                 /* of all */
    double seconds;
    int shards, shards_kept; /* kept: found finished from an earlier, equal import */
} vg_import_report;

/* Imports set `name` (a row of data/importers.def) from `root`, which is the folder that holds the set's folder, or the
 * set's own folder, into out/<name>-NNNNN.h5. *report is filled also on failure, as far as things came; the caller
 * releases it. Errors: VG_E_USAGE (unknown set, another one at work in `out`, or one unfinished there whose
 * shards are cut otherwise), VG_E_DATA, VG_E_STORAGE, VG_E_NOMEM. Local. */
vg_status vg_import(const char *name, const char *root, const char *out, const vg_import_options *options,
                    vg_import_report *report);

/* A table for people: images, refs, sentences and boxes of every split, where they differ from what is published for
 * the set (data/published_counts.def), then what was set aside: the first 20 and how many more. */
vg_status vg_import_report_text(const vg_import_report *report, vg_text *out);
void vg_import_report_release(vg_import_report *report);

/* ---- the seam: what a dataset brings ---- */

/* What an importer is asked to read. */
typedef struct vg_import_source {
    const char *set, *root, *images, *split_by; /* as given to vg_import; the last two may be NULL */
    const char *splits, *shares; /* likewise, both may be NULL; with neither given the importer's own shares */
    uint64_t seed;
    const char *scratch; /* a folder with room for files that are needed while it is read */
} vg_import_source;

/* One image and its sentences; everything is borrowed until the next call of next or close. */
typedef struct vg_import_record {
    int64_t image_id;
    int64_t coco_id, flickr_id; /* of the same photograph in COCO and on Flickr; 0 where unknown */
    int width, height;          /* as the annotations say; 0 when they do not */
    const char *file_name;      /* as the annotations say */
    const char *path;           /* where the file should lie */
    const vg_new_sentence *sentences;
    size_t n_sentences; /* at least 1 */
    double slack;       /* pixels by which boxes may leave a picture whose size the annotations do not say */
} vg_import_record;

typedef struct vg_import_log vg_import_log;

/* Sets a bad record aside: `n_sentences` are lost, and the line says which and why. Errors: VG_E_DATA with that line
 * when the import is strict. */
vg_status vg_import_reject(vg_import_log *log, size_t n_sentences, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Leaves out a phrase of fewer than `min_characters` characters, which its set has no use for: counted and told of, and
 * not held against max_bad or strict. `place` names it. */
void vg_import_leave_short(vg_import_log *log, const char *place, size_t min_characters);

/* Notes how many lines of the list of splits name no image with phrases, and the first of them. */
void vg_import_note_unmet(vg_import_log *log, int64_t n_lines, int64_t first_line);

/* Counts boxes that were taken clamped. */
void vg_import_count_clamped(vg_import_log *log, size_t n_boxes);

/* Takes a box [x1 y1 x2 y2] into `out`, clamped where it leaves its image by at most `slack` pixels; where the size is
 * 0 the right and lower side are not looked at. Returns what is wrong, in words that follow a name; NULL when nothing
 * is. */
const char *vg_import_box_fault(const double xyxy[4], int width, int height, double slack, float out[4]);

/* Tells people how far a long work is, as data/progress.h does; another `what` (compared by address, borrowed) begins
 * anew. `all` may be a guess that changes, 0 when unknown. Errors: VG_E_STOPPED once the process was asked to stop. */
vg_status vg_import_progress(vg_import_log *log, const char *what, int64_t done, int64_t all, const char *unit);

/* The files of one kind of dataset. */
typedef struct vg_importer {
    bool has_split_by;  /* the set comes in several splits, of which vg_import_source.split_by names one */
    bool has_splits;    /* its files give every sentence its split, and nothing is left for splits and shares to say */
    const char *shares; /* of a set without splits: those it has where options name neither; NULL: all is train */
    bool merges_boxes;  /* a phrase of several boxes gets the one around them all, unless options say otherwise */
    bool (*probe)(const char *set, const char *root); /* does root look like this set? */
    /* Reads the annotations. `log` is kept until close; split_by, empty before, gets what was taken. */
    vg_status (*open)(const vg_import_source *source, vg_import_log *log, void **state,
                      char split_by[VG_IMPORT_NAME_BYTES]);
    /* The next image, each once, or *more = false at the end. */
    vg_status (*next)(void *state, vg_import_record *record, bool *more);
    double (*share)(void *state); /* of the records that were handed out, 0..1 */
    void (*close)(void *state);
} vg_importer;

/* A row of data/importers.def. */
typedef struct vg_import_set {
    const char *name; /* also of its folder */
    const vg_importer *importer;
    const char *split_by; /* the usual one; "" where the set has none */
    const char *help;     /* one line */
} vg_import_set;

const vg_import_set *vg_import_set_find(const char *name);  /* NULL when there is none */
vg_status vg_import_sets_tell(vg_text *out);                /* adds a line of help for each. Errors: VG_E_NOMEM */
const vg_import_set *vg_import_set_probe(const char *root); /* the first that knows this folder, NULL when none does */

/* A log for reading records outside an import (to count or check them); it writes into the caller's report, which is
 * kept, as the options are, until vg_import_log_free. NULL without memory. */
vg_import_log *vg_import_log_new(vg_import_report *report, const vg_import_options *options);
void vg_import_log_free(vg_import_log *log);

/* Counts an image with its sentences as imported. Errors: VG_E_DATA for more than VG_IMPORT_MAX_SPLITS splits,
 * VG_E_NOMEM. */
vg_status vg_import_count(vg_import_report *report, const vg_new_image *image);

#endif
