/* From annotation files, which name images and phrases in any order, to records of whole images: what an importer puts
 * in is sorted by image outside memory and comes out image by image, with the sentences of each in the order in which
 * they were put in, those of a ref together. What cannot be used is set aside here, once for all importers.
 *
 *     VG_TRY(vg_collector_new(source, log, &spec, &collector));
 *     for each image and phrase of the files: VG_TRY(vg_collector_image(...)); VG_TRY(vg_collector_phrase(...));
 *     VG_TRY(vg_collector_sort(collector));
 *
 * From then on it is the state of the importer, whose next, share and close are those below.
 *
 * Inside data/import. */
#ifndef VG_DATA_COLLECTOR_IMPL_H
#define VG_DATA_COLLECTOR_IMPL_H

#include "data/import.h"
#include "data/import/image_files_impl.h"

typedef struct vg_collector vg_collector;

/* What an importer's records are like. Borrowed until close. */
typedef struct vg_collector_spec {
    const char *images_file; /* where an image should have been described */
    double slack;            /* pixels by which a box may leave its image; it is clamped */
    double min_side;         /* pixels that a box must have within its image, each way; 0 for any */
    size_t min_characters;   /* of a phrase; shorter ones are left out */
    bool merge_equal;        /* equal phrases of an image are one sentence, which means all their boxes */
} vg_collector_spec;

typedef struct vg_collected_image {
    int64_t image_id, coco_id, flickr_id; /* the last two 0 where unknown */
    int width, height;                    /* 0 where unknown; boxes are then held against the picture alone */
    const char *file_name;                /* below one of the image folders */
} vg_collected_image;

typedef struct vg_collected_phrase {
    int64_t image_id, sentence_id, ref_id;
    const char *place; /* by which people find it: "region 1382", "train.jsonl line 12" */
    const char *text;
    size_t text_bytes;
    const char *split;        /* NULL where the files do not say: the source's rule for splits decides */
    const char *kind;         /* "" for none */
    const double (*boxes)[4]; /* x1 y1 x2 y2, pixels */
    size_t n_boxes;
} vg_collected_phrase;

/* Errors: VG_E_NOMEM; VG_E_USAGE or VG_E_DATA for a rule of splits that cannot be read. */
vg_status vg_collector_new(const vg_import_source *source, vg_import_log *log, const vg_collector_spec *spec,
                           vg_collector **out);

/* An image of no phrase is left out. One that is described twice must be so in the same words. Errors: VG_E_STORAGE,
 * VG_E_NOMEM, and VG_E_DATA of a strict log. */
vg_status vg_collector_image(vg_collector *collector, const vg_collected_image *image);
vg_status vg_collector_phrase(vg_collector *collector, const vg_collected_phrase *phrase);

/* How many phrases were put in. */
int64_t vg_collector_count(const vg_collector *collector);

/* Where the image files lie: the importer adds folders before it sorts. */
vg_image_folders *vg_collector_folders(vg_collector *collector);

/* After the last of them: what comes out next is in order. */
vg_status vg_collector_sort(vg_collector *collector);

/* What an importer's open ends with: the collector becomes its state, or is closed where something failed. */
vg_status vg_collector_hand_over(vg_collector *collector, vg_status status, void **state);

/* As vg_importer's next, share (of what was put in) and close; the state is a collector. */
vg_status vg_collector_next(void *collector, vg_import_record *record, bool *more);
double vg_collector_share(void *collector);
void vg_collector_close(void *collector);

#endif
