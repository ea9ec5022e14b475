/* A small shard of true pictures for tests of tools: image 7 (40 x 30) with two sentences of train and one of val,
 * image 8 (60 x 20) with one of train. The includer includes cmocka's headers first. */
#ifndef VG_TESTS_SMALL_SHARD_H
#define VG_TESTS_SMALL_SHARD_H

#include "data/draw.h"
#include "data/shard_impl.h"
#include "data/shard_writer.h"
#include "tests/unit/data/must.h"

#include <stdio.h>
#include <stdlib.h>

static const float small_boxes[3][4] = {{1, 2, 11, 12}, {0, 0, 40, 30}, {5.5F, 6.25F, 25.5F, 16.25F}};

static const vg_new_sentence small_sentences[4] = {
    {70, 700, "left man", 8, "train", "position", small_boxes[0], 1},
    {71, 701, "caf\u00e9 people", 12, "train", "plural", small_boxes[1], 2},
    {72, 702, "nothing", 7, "val", "", NULL, 0},
    {80, 800, "left man", 8, "train", "", small_boxes[2], 1},
};

/* A picture of smooth waves that differ by `number`, as PNG; the caller frees *png. */
static inline void small_picture(int width, int height, int number, unsigned char **png, size_t *n)
{
    vg_image picture = {.pixels = malloc((size_t)width * (size_t)height * 3), .width = width, .height = height};
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++) {
                const int u = 256 * x / width, v = 256 * y / height, wave = u * (number % 7 + 1) + v * (number / 7 + 1);
                picture.pixels[(y * width + x) * 3 + c] = (uint8_t)(wave % 512 < 256 ? wave % 256 : 255 - wave % 256);
            }
    MUST(vg_image_encode_png(&picture, png, n));
    vg_image_release(&picture);
}

static inline vg_new_image small_image(int64_t id, int width, int height, const unsigned char *bytes, size_t n,
                                       const vg_new_sentence *sentences, size_t n_sentences)
{
    return (vg_new_image){.image_id = id,
                          .width = width,
                          .height = height,
                          .file_name = "a.jpg",
                          .bytes = bytes,
                          .n_bytes = n,
                          .sentences = sentences,
                          .n_sentences = n_sentences};
}

static inline void small_shard(const char *path)
{
    unsigned char *seven = NULL, *eight = NULL;
    size_t n_seven = 0, n_eight = 0;
    vg_shard_writer *w = NULL;
    small_picture(40, 30, 7, &seven, &n_seven);
    small_picture(60, 20, 8, &eight, &n_eight);
    const vg_new_image images[] = {small_image(7, 40, 30, seven, n_seven, small_sentences, 3),
                                   small_image(8, 60, 20, eight, n_eight, small_sentences + 3, 1)};
    MUST(vg_shard_writer_open(path, "test", "hand", &w));
    MUST(vg_shard_writer_add(w, &images[0]));
    MUST(vg_shard_writer_add(w, &images[1]));
    MUST(vg_shard_writer_close(w, 0));
    free(seven);
    free(eight);
}

/* Turns a bit of the bytes of image `row`. */
static inline void image_damage(const char *path, size_t row)
{
    vg_shard *shard = NULL;
    MUST(vg_shard_open(path, &shard));
    const vg_shard_image *image = &shard->tables.images[row];
    const uint64_t at = shard->chunk_at[image->offset / shard->tables.chunk_bytes] +
                        image->offset % shard->tables.chunk_bytes + image->length / 2;
    vg_shard_close(shard);
    FILE *file = fopen(path, "r+b");
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    const int byte = fgetc(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 8, file), byte ^ 8);
    assert_int_equal(fclose(file), 0);
}

/* The caller closes it. */
static inline vg_split *split_of(const char *path, const char *name)
{
    vg_split *split = NULL;
    MUST(vg_split_open(&path, 1, name, &split));
    return split;
}

/* Stands last: it looks at what all tests before it left. */
static inline void no_file_or_table_was_left_open(void **state)
{
    (void)state;
    assert_int_equal(H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

#endif
