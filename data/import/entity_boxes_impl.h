/* The boxes of one annotation file of Flickr30k Entities, which is XML. Inside data/import. */
#ifndef VG_DATA_ENTITY_BOXES_IMPL_H
#define VG_DATA_ENTITY_BOXES_IMPL_H

#include "kernels/base/base.h"

/* An object with several names stands in several rows. */
typedef struct vg_entity_box {
    int64_t entity;
    double xyxy[4]; /* pixels, counted from 0 */
} vg_entity_box;

/* Zeroed is empty. */
typedef struct vg_entity_boxes {
    int width, height; /* of the image */
    vg_entity_box *row;
    size_t n, capacity;
} vg_entity_boxes;

/* Reads a file in place of what was there. Errors: VG_E_DATA (no XML, no size, a number that is none), VG_E_STORAGE. */
vg_status vg_entity_boxes_read(const char *path, vg_entity_boxes *out);
void vg_entity_boxes_release(vg_entity_boxes *boxes);

#endif
