/* A loader over a split that lives in memory: this header answers the vg_split_* calls itself, so that every fault can
 * be ordered. The one file of the program that includes it defines _GNU_SOURCE first (usleep, affinity) and includes
 * cmocka's headers. */
#ifndef VG_TESTS_LOADER_BENCH_H
#define VG_TESTS_LOADER_BENCH_H

#include "data/draw.h"
#include "data/loader.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- a split in memory ---- */

enum { IMAGES = 9, SENTENCES = 22, MOST_BOXES = 6 };

/* Phrases per image; one image has none. */
static const int n_phrases[IMAGES] = {3, 1, 0, 5, 2, 4, 1, 3, 3};

typedef struct fake_image {
    unsigned char *bytes;
    size_t n;
    vg_image_info info;
    char name[32];
} fake_image;

struct vg_split {
    fake_image images[IMAGES];
    vg_sentence sentences[SENTENCES];
    char texts[SENTENCES][48];
    float boxes[SENTENCES][MOST_BOXES * 4];
    bool storage_fails[IMAGES];
    useconds_t slow_us; /* every read takes that long */
    atomic_int n_reads;
    atomic_int n_pinned; /* reads in a thread that has one processor */
};

int64_t vg_split_image_count(const vg_split *s)
{
    (void)s;
    return IMAGES;
}

vg_status vg_split_check_images(const vg_split *s)
{
    (void)s;
    return VG_OK;
}

int64_t vg_split_sentence_count(const vg_split *s)
{
    (void)s;
    return SENTENCES;
}

void vg_split_sentence(const vg_split *s, int64_t index, vg_sentence *out)
{
    if (index < 0 || index >= SENTENCES) abort();
    *out = s->sentences[index];
}

void vg_split_image(const vg_split *s, int64_t index, vg_image_info *out)
{
    if (index < 0 || index >= IMAGES) abort();
    *out = s->images[index].info;
}

const char *vg_split_name(const vg_split *s)
{
    (void)s;
    return "fake";
}

vg_status vg_split_read_image(const vg_split *s, int64_t image, unsigned char **bytes, size_t *capacity, size_t *n)
{
    atomic_fetch_add(&((vg_split *)s)->n_reads, 1);
    cpu_set_t mine;
    if (sched_getaffinity(0, sizeof mine, &mine) == 0 && CPU_COUNT(&mine) == 1)
        atomic_fetch_add(&((vg_split *)s)->n_pinned, 1);
    if (s->slow_us) usleep(s->slow_us);
    VG_CHECK(!s->storage_fails[image], VG_E_STORAGE, "fake.h5, image %lld: Input/output error", (long long)image);
    VG_TRY(vg_grow(bytes, capacity, s->images[image].n, 1));
    memcpy(*bytes, s->images[image].bytes, s->images[image].n);
    *n = s->images[image].n;
    return VG_OK;
}

static inline void fake_picture(fake_image *f, int k)
{
    vg_image image = {.width = 20 + 3 * k, .height = 31 - 2 * k};
    image.pixels = malloc((size_t)(3 * image.width * image.height));
    for (int i = 0; i < 3 * image.width * image.height; i++) image.pixels[i] = (uint8_t)(i * (7 + k) + 40 * k + i % 11);
    if (vg_image_encode_png(&image, &f->bytes, &f->n) != VG_OK) abort();
    snprintf(f->name, sizeof f->name, "picture%d.png", k);
    f->info = (vg_image_info){.image_id = 100 + k, .width = image.width, .height = image.height, .file_name = f->name};
    vg_image_release(&image);
}

static inline vg_split *fake_split(void)
{
    vg_split *s = calloc(1, sizeof *s);
    int next = 0;
    for (int k = 0; k < IMAGES; k++) {
        fake_picture(&s->images[k], k);
        s->images[k].info.first_sentence = next;
        s->images[k].info.n_sentences = n_phrases[k];
        for (int j = 0; j < n_phrases[k]; j++, next++) {
            snprintf(s->texts[next], sizeof *s->texts, "the red circle number %d of picture %d", j, k);
            for (int c = 0; c < 4; c++) s->boxes[next][c] = (float)(c < 2 ? 1.25 + j : 4.5 + c + k);
            s->sentences[next] = (vg_sentence){.sentence_id = 1000 + next,
                                               .image = k,
                                               .text = s->texts[next],
                                               .text_bytes = strlen(s->texts[next]),
                                               .boxes = s->boxes[next],
                                               .n_boxes = 1,
                                               .kind = ""};
        }
    }
    assert_int_equal(next, SENTENCES);
    return s;
}

static inline void fake_split_free(vg_split *s)
{
    for (int k = 0; k < IMAGES; k++) free(s->images[k].bytes);
    free(s);
}

/* ---- a loader over it ---- */

typedef struct bench {
    vg_split *split;
    vg_tokenizer *tokenizer;
    vg_loader_spec spec;
    vg_batch batches[4];
    vg_loader *loader;
} bench;

static const vg_batch_shape shape = {.images = 3, .phrases = 2, .side = 14, .text_tokens = 16, .max_targets = 3};

static inline int bench_new(void **state)
{
    bench *b = calloc(1, sizeof *b);
    b->split = fake_split();
    assert_int_equal(vg_tokenizer_open(FIXTURES "/tokenizer", &b->tokenizer), VG_OK);
    for (int k = 0; k < 4; k++) assert_int_equal(vg_batch_init(&b->batches[k], &shape), VG_OK);
    b->spec = (vg_loader_spec){
        .split = b->split, .tokenizer = b->tokenizer, .shape = shape, .seed = 11, .shuffle = true, .n_workers = 2};
    *state = b;
    return 0;
}

static inline int bench_free(void **state)
{
    bench *b = *state;
    vg_loader_close(b->loader);
    for (int k = 0; k < 4; k++) vg_batch_release(&b->batches[k]);
    vg_tokenizer_close(b->tokenizer);
    fake_split_free(b->split);
    free(b);
    return 0;
}

static inline void bench_open(bench *b)
{
    if (vg_loader_open(&b->spec, b->batches, 4, &b->loader) != VG_OK) fail_msg("%s", vg_error_text());
}

static inline void bench_close(bench *b)
{
    vg_loader_close(b->loader);
    b->loader = NULL;
}

static inline vg_batch *take(bench *b)
{
    vg_batch *batch = NULL;
    if (vg_loader_take(b->loader, &batch) != VG_OK) fail_msg("%s", vg_error_text());
    return batch;
}

static inline vg_batch *want_and_take(bench *b, int64_t position)
{
    assert_int_equal(vg_loader_want(b->loader, position), VG_OK);
    return take(b);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, bench_new, bench_free)

/* ---- what a slot holds ---- */

/* Everything a slot says, checked against the split directly. */
static inline void assert_slot_is(const bench *b, const vg_batch *batch, int slot, int64_t sentence)
{
    vg_sentence s;
    vg_image_info info;
    int32_t ids[16] = {0};
    int n = 0;
    vg_split_sentence(b->split, sentence, &s);
    vg_split_image(b->split, s.image, &info);
    assert_int_equal(batch->filled[slot], 1);
    assert_int_equal(batch->sentences[slot], sentence);
    assert_int_equal(vg_tokenizer_encode(b->tokenizer, s.text, s.text_bytes, 16, ids, &n), VG_OK);
    for (int k = n; k < 16; k++) ids[k] = vg_tokenizer_special_ids(b->tokenizer).pad;
    assert_int_equal(batch->token_counts[slot], n);
    assert_memory_equal(batch->token_ids + 16 * slot, ids, sizeof ids);
    assert_int_equal(batch->n_targets[slot], 1);
    const float *t = batch->targets + (size_t)slot * 12;
    assert_true(t[0] == (float)((s.boxes[0] + (double)s.boxes[2]) / 2 / info.width));
    assert_true(t[1] == (float)((s.boxes[1] + (double)s.boxes[3]) / 2 / info.height));
    assert_true(t[2] == (float)(((double)s.boxes[2] - s.boxes[0]) / info.width));
    assert_true(t[3] == (float)(((double)s.boxes[3] - s.boxes[1]) / info.height));
    for (int k = 4; k < 12; k++) assert_true(t[k] == 0);
}

static inline void assert_slot_is_empty(const bench *b, const vg_batch *batch, int slot)
{
    const vg_special_ids special = vg_tokenizer_special_ids(b->tokenizer);
    assert_int_equal(batch->filled[slot], 0);
    assert_int_equal(batch->sentences[slot], -1);
    assert_int_equal(batch->n_targets[slot], 0);
    assert_int_equal(batch->token_counts[slot], 2);
    assert_int_equal(batch->token_ids[16 * slot], special.bos);
    assert_int_equal(batch->token_ids[16 * slot + 1], special.eos);
    for (int k = 2; k < 16; k++) assert_int_equal(batch->token_ids[16 * slot + k], special.pad);
    for (int k = 0; k < 12; k++) assert_true(batch->targets[12 * slot + k] == 0);
}

static inline void assert_pixels_are(const bench *b, const vg_batch *batch, int i, int64_t index)
{
    uint8_t expected[14 * 14 * 3] = {0};
    if (index >= 0) {
        vg_image image;
        vg_resize_scratch scratch = {0};
        assert_int_equal(vg_image_decode(b->split->images[index].bytes, b->split->images[index].n, false, &image),
                         VG_OK);
        assert_int_equal(vg_image_resize(&image, 14, 14, expected, &scratch), VG_OK);
        free(scratch.data);
        vg_image_release(&image);
    }
    assert_memory_equal(batch->pixels + (size_t)i * sizeof expected, expected, sizeof expected);
}

#endif
