/* Small shards of images whose ids and splits are given. The includer includes cmocka's headers first. */
#ifndef VG_TESTS_MADE_SHARD_H
#define VG_TESTS_MADE_SHARD_H

#include "tests/unit/data/small_shard.h"

typedef struct made_image {
    int64_t id;
    const char *name;
    int picture;            /* number of its waves */
    const char *split;      /* of its first sentence */
    const char *also_split; /* of its second; NULL: it has one */
    int64_t coco_id, flickr_id;
} made_image;

/* The path stays until four more are made. */
static inline const char *made(const char *folder, const char *name, const char *source, const made_image *images,
                               int n)
{
    static char path[4][512];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    vg_shard_writer *w = NULL;
    MUST(vg_shard_writer_open(path[next], source, "", &w));
    for (int i = 0; i < n; i++) {
        unsigned char *png = NULL;
        size_t n_png = 0;
        small_picture(40, 30, images[i].picture, &png, &n_png);
        vg_new_sentence sentences[2] = {small_sentences[0], small_sentences[0]};
        sentences[0].split = images[i].split;
        sentences[1].split = images[i].also_split ? images[i].also_split : "";
        vg_new_image image = small_image(images[i].id, 40, 30, png, n_png, sentences, images[i].also_split ? 2 : 1);
        image.file_name = images[i].name;
        image.coco_id = images[i].coco_id;
        image.flickr_id = images[i].flickr_id;
        MUST(vg_shard_writer_add(w, &image));
        free(png);
    }
    MUST(vg_shard_writer_close(w, 0));
    return path[next];
}

#endif
