/* The loader over a split that lives in memory: this file answers the vg_split_* calls itself, so that every fault can
 * be ordered. */
#define _GNU_SOURCE /* usleep, affinity */
#include "data/draw.h"
#include "data/loader.h"
#include "data/sampler.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

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

static void fake_picture(fake_image *f, int k)
{
    vg_image image = {.width = 20 + 3 * k, .height = 31 - 2 * k};
    image.pixels = malloc((size_t)(3 * image.width * image.height));
    for (int i = 0; i < 3 * image.width * image.height; i++) image.pixels[i] = (uint8_t)(i * (7 + k) + 40 * k + i % 11);
    if (vg_image_encode_png(&image, &f->bytes, &f->n) != VG_OK) abort();
    snprintf(f->name, sizeof f->name, "picture%d.png", k);
    f->info = (vg_image_info){.image_id = 100 + k, .width = image.width, .height = image.height, .file_name = f->name};
    vg_image_release(&image);
}

static vg_split *fake_split(void)
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

static void fake_split_free(vg_split *s)
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

static int bench_new(void **state)
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

static int bench_free(void **state)
{
    bench *b = *state;
    vg_loader_close(b->loader);
    for (int k = 0; k < 4; k++) vg_batch_release(&b->batches[k]);
    vg_tokenizer_close(b->tokenizer);
    fake_split_free(b->split);
    free(b);
    return 0;
}

static void bench_open(bench *b)
{
    if (vg_loader_open(&b->spec, b->batches, 4, &b->loader) != VG_OK) fail_msg("%s", vg_error_text());
}

static void bench_close(bench *b)
{
    vg_loader_close(b->loader);
    b->loader = NULL;
}

static vg_batch *take(bench *b)
{
    vg_batch *batch = NULL;
    if (vg_loader_take(b->loader, &batch) != VG_OK) fail_msg("%s", vg_error_text());
    return batch;
}

static vg_batch *want_and_take(bench *b, int64_t position)
{
    assert_int_equal(vg_loader_want(b->loader, position), VG_OK);
    return take(b);
}

/* ---- what a slot holds ---- */

/* Everything a slot says, checked against the split directly. */
static void assert_slot_is(const bench *b, const vg_batch *batch, int slot, int64_t sentence)
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

static void assert_slot_is_empty(const bench *b, const vg_batch *batch, int slot)
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

static void assert_pixels_are(const bench *b, const vg_batch *batch, int i, int64_t index)
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

static void a_batch_in_table_order_holds_what_the_split_says(void **state)
{
    bench *b = *state;
    b->spec.shuffle = false;
    bench_open(b);
    assert_int_equal(vg_loader_epoch_size(b->split, 2), 2 + 1 + 0 + 3 + 1 + 2 + 1 + 2 + 2);
    const vg_batch *batch = want_and_take(b, 0); /* image 0: sentences 0 1 | 2 -   image 1: sentence 3 - */
    const int64_t sentences[] = {0, 1, 2, -1, 3, -1}, images[] = {0, 0, 1};
    assert_int_equal(batch->first_position, 0);
    for (int slot = 0; slot < 6; slot++) {
        const uint32_t key[] = {0, (uint32_t)slot % 2, (uint32_t)slot / 2, 0};
        assert_int_equal(batch->image_index[slot], slot / 2);
        assert_memory_equal(batch->keys + 4 * slot, key, sizeof key);
        if (sentences[slot] >= 0)
            assert_slot_is(b, batch, slot, sentences[slot]);
        else
            assert_slot_is_empty(b, batch, slot);
    }
    for (int i = 0; i < 3; i++) assert_pixels_are(b, batch, i, images[i]);
}

static void positions_past_the_end_of_the_table_are_empty(void **state)
{
    bench *b = *state;
    b->spec.shuffle = false;
    bench_open(b);
    const vg_batch *batch = want_and_take(b, 13); /* the last of 14 samples, and two beyond */
    assert_slot_is(b, batch, 0, 21);
    assert_pixels_are(b, batch, 0, 8);
    for (int slot = 1; slot < 6; slot++) assert_slot_is_empty(b, batch, slot);
    assert_pixels_are(b, batch, 1, -1);
    assert_pixels_are(b, batch, 2, -1);
    for (int i = 0; i < 3; i++) assert_int_equal(batch->replaced[i], 0);
}

static void every_epoch_holds_every_phrase_once(void **state)
{
    bench *b = *state;
    bench_open(b);
    int64_t first_of_epoch[3] = {0};
    int64_t position = 0;
    for (int epoch = 0; epoch < 3; epoch++) {
        int count[SENTENCES] = {0};
        for (int64_t end = 14 * (epoch + 1); position < end;
             position++) { /* a batch per position: only image 0 is read */
            vg_batch *batch = want_and_take(b, position);
            for (int slot = 0; slot < 2; slot++) {
                if (!batch->filled[slot]) continue;
                assert_slot_is(b, batch, slot, batch->sentences[slot]);
                count[batch->sentences[slot]]++;
            }
            if (position == end - 14) first_of_epoch[epoch] = batch->sentences[0];
            vg_loader_give_back(b->loader, batch);
        }
        for (int k = 0; k < SENTENCES; k++) assert_int_equal(count[k], 1);
    }
    assert_false(first_of_epoch[0] == first_of_epoch[1] && first_of_epoch[1] == first_of_epoch[2]);
}

static void keys_hold_the_whole_position(void **state)
{
    bench *b = *state;
    bench_open(b);
    const int64_t position = (INT64_C(5) << 32) + 0xfffffffe; /* the third image is past the next 2^32 */
    const vg_batch *batch = want_and_take(b, position);
    const uint32_t first[] = {0, 1, 0xfffffffe, 5}, third[] = {0, 0, 0, 6};
    assert_memory_equal(batch->keys + 4, first, sizeof first);
    assert_memory_equal(batch->keys + 16, third, sizeof third);
}

/* ---- the same bits, however it is run ---- */

/* All buffers of 12 batches (2.5 epochs), one after the other. */
static vg_text run_of_batches(bench *b, int n_workers, size_t cache_bytes, int ahead)
{
    enum { BATCHES = 12 };
    vg_text bits = {0};
    b->spec.n_workers = n_workers;
    b->spec.cache_bytes = cache_bytes;
    bench_open(b);
    int wanted = 0;
    for (int taken = 0; taken < BATCHES; taken++) {
        for (; wanted < BATCHES && wanted < taken + ahead; wanted++)
            assert_int_equal(vg_loader_want(b->loader, 3 * wanted), VG_OK);
        vg_batch *batch = take(b);
        assert_int_equal(batch->first_position, 3 * taken);
        vg_text_add_bytes(&bits, batch->pixels, 3 * 14 * 14 * 3);
        vg_text_add_bytes(&bits, batch->token_ids, 6 * 16 * sizeof(int32_t));
        vg_text_add_bytes(&bits, batch->token_counts, 6 * sizeof(int32_t));
        vg_text_add_bytes(&bits, batch->image_index, 6 * sizeof(int32_t));
        vg_text_add_bytes(&bits, batch->targets, 6 * 3 * 4 * sizeof(float));
        vg_text_add_bytes(&bits, batch->n_targets, 6 * sizeof(int32_t));
        vg_text_add_bytes(&bits, batch->filled, 6 * sizeof(int32_t));
        vg_text_add_bytes(&bits, batch->keys, 6 * 4 * sizeof(uint32_t));
        vg_text_add_bytes(&bits, batch->swapped, 6 * sizeof(int32_t));
        vg_text_add_bytes(&bits, batch->sentences, 6 * sizeof(int64_t));
        vg_loader_give_back(b->loader, batch);
    }
    bench_close(b);
    return bits;
}

static void assert_bits_do_not_depend_on_how_it_is_run(bench *b)
{
    const vg_text plain = run_of_batches(b, 0, 0, 1);
    const struct {
        int workers, ahead;
        size_t cache_bytes;
    } runs[] = {{1, 1, 0}, {3, 4, 0}, {3, 12, 0}, {2, 6, 14 * 14 * 3 * 4}, {0, 2, 1 << 20}, {4, 12, 1 << 20}};
    for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
        vg_text other = run_of_batches(b, runs[k].workers, runs[k].cache_bytes, runs[k].ahead);
        assert_int_equal(other.length, plain.length);
        assert_memory_equal(other.data, plain.data, plain.length);
        free(other.data);
    }
    b->spec.seed++;
    vg_text other = run_of_batches(b, 0, 0, 1);
    assert_memory_not_equal(other.data, plain.data, plain.length);
    free(other.data);
    free(plain.data);
}

static void bits_do_not_depend_on_threads_cache_or_how_far_ahead(void **state)
{
    assert_bits_do_not_depend_on_how_it_is_run(*state);
}

/* ---- augmentation ---- */

static const vg_augment everything = {.crop = 0.6, .flip = 0.5, .colour = 0.5, .crop_keep = 1};

/* From the sixth position on, in the middle of a batch of three as a stage never begins: the rule is by position. */
static const vg_loader_stage stages[] = {{.first_position = 0}, {.first_position = 5, .augment = everything}};

static void stages_begin_at_their_position(void **state)
{
    bench *b = *state;
    vg_text plain = run_of_batches(b, 0, 0, 1);
    b->spec.stages = stages;
    b->spec.n_stages = 2;
    vg_text changed = run_of_batches(b, 0, 0, 1);
    assert_memory_equal(changed.data, plain.data, 3 * 14 * 14 * 3);
    assert_memory_not_equal(changed.data, plain.data, plain.length);
    free(plain.data);
    free(changed.data);
    assert_bits_do_not_depend_on_how_it_is_run(b);
}

/* The rows of a store, in order; then the stream, in which a sample has the view of its epoch, whichever phrases it
 * asks for. */
static void fixed_views_come_epoch_by_epoch(void **state)
{
    enum { VIEWS = 3, PIXELS = 14 * 14 * 3 };
    static uint8_t rows[IMAGES * VIEWS][PIXELS];
    bench *b = *state;
    const vg_loader_stage fixed = {.augment = {.crop = 1, .colour = 1, .crop_keep = 0.5}, .views = VIEWS};
    b->spec.stages = &fixed;
    b->spec.n_stages = 1;
    b->spec.shuffle = false;
    b->spec.images_only = true;
    bench_open(b);
    for (int first = 0; first < IMAGES * VIEWS; first += 3) {
        vg_batch *batch = want_and_take(b, first);
        for (int i = 0; i < 3; i++) assert_int_equal(batch->images[i], (first + i) / VIEWS);
        memcpy(rows[first], batch->pixels, sizeof rows[0] * 3);
        vg_loader_give_back(b->loader, batch);
    }
    for (int k = 0; k < IMAGES; k++) assert_memory_not_equal(rows[VIEWS * k], rows[VIEWS * k + 1], PIXELS);
    bench_close(b);
    b->spec.shuffle = true;
    b->spec.images_only = false;
    bench_open(b);
    for (int position = 0; position < 14 * 2 * VIEWS; position += 3) {
        vg_batch *batch = want_and_take(b, position);
        for (int i = 0; i < 3; i++) {
            const int64_t row = batch->images[i] * VIEWS + (position + i) / 14 % VIEWS;
            assert_memory_equal(batch->pixels + (size_t)i * PIXELS, rows[row], PIXELS);
        }
        vg_loader_give_back(b->loader, batch);
    }
    bench_close(b);
    assert_bits_do_not_depend_on_how_it_is_run(b);
}

/* Box and phrase move with the picture; a phrase without a side to it keeps its words. */
static void a_mirrored_picture_has_mirrored_boxes_and_phrases(void **state)
{
    bench *b = *state;
    const vg_loader_stage mirror = {.augment = {.flip = 1}};
    b->spec.shuffle = false;
    b->spec.stages = &mirror;
    b->spec.n_stages = 1;
    for (int k = 0; k < SENTENCES; k++) {
        snprintf(b->split->texts[k], sizeof *b->split->texts, k % 2 ? "the dog" : "the left dog");
        b->split->sentences[k].text_bytes = strlen(b->split->texts[k]);
    }
    bench_open(b);
    vg_batch *batch = want_and_take(b, 0);
    assert_int_equal(batch->swapped[0], 1);
    assert_int_equal(batch->swapped[1], 0);
    const float x = batch->targets[0];
    const vg_sentence *s = &b->split->sentences[0];
    assert_true(fabs(1 - x - (s->boxes[0] + s->boxes[2]) / 2 / 20) < 1e-6);
    int32_t ids[16] = {0};
    int n = 0;
    assert_int_equal(vg_tokenizer_encode(b->tokenizer, "the right dog", 13, 16, ids, &n), VG_OK);
    assert_int_equal(batch->token_counts[0], n);
    assert_memory_equal(batch->token_ids, ids, (size_t)n * sizeof *ids);
}

/* Steps of two batches of three; all of a step have one side, and steps have both. */
static void batches_of_a_step_have_one_side(void **state)
{
    bench *b = *state;
    const vg_loader_stage sides = {.sides = {7, 14}, .n_sides = 2, .step_images = 6};
    int n_small = 0;
    b->spec.stages = &sides;
    b->spec.n_stages = 1;
    b->spec.cache_bytes = 1 << 20;
    bench_open(b);
    for (int step = 0; step < 40; step++) {
        vg_batch *first = want_and_take(b, 6 * step), *second = want_and_take(b, 6 * step + 3);
        const int side = first->shape.side;
        assert_true(side == 7 || side == 14);
        assert_int_equal(second->shape.side, side);
        n_small += side == 7;
        uint8_t expected[14 * 14 * 3];
        const fake_image *f = &b->split->images[b->split->sentences[first->sentences[2]].image];
        vg_image image;
        vg_resize_scratch scratch = {0};
        assert_int_equal(vg_image_decode(f->bytes, f->n, false, &image), VG_OK);
        assert_int_equal(vg_image_resize(&image, side, side, expected, &scratch), VG_OK);
        assert_memory_equal(first->pixels + side * side * 3, expected, (size_t)(side * side * 3)); /* image 1 */
        free(scratch.data);
        vg_image_release(&image);
        vg_loader_give_back(b->loader, first);
        vg_loader_give_back(b->loader, second);
    }
    assert_in_range(n_small, 8, 32); /* 20 of 40, 3.8 standard deviations */
    const vg_loader_stage too_large = {.sides = {15}, .n_sides = 1};
    bench_close(b);
    b->spec.stages = &too_large;
    assert_int_equal(vg_loader_open(&b->spec, b->batches, 4, &b->loader), VG_E_BUG);
}

static void a_cached_image_is_read_once(void **state)
{
    bench *b = *state;
    free(run_of_batches(b, 0, 14 * 14 * 3 * IMAGES, 1).data);
    assert_int_equal(b->split->n_reads, IMAGES - 1); /* one image has no phrase */
    b->split->n_reads = 0;
    free(run_of_batches(b, 0, 14 * 14 * 3 - 1, 1).data);
    assert_int_equal(b->split->n_reads, 36);
}

static void a_blind_loader_hides_the_text_and_nothing_else(void **state)
{
    bench *b = *state;
    b->spec.shuffle = false;
    b->spec.blind = true;
    bench_open(b);
    vg_batch *batch = want_and_take(b, 0);
    assert_int_equal(batch->token_counts[0], 2);
    assert_int_equal(batch->token_ids[1], vg_tokenizer_special_ids(b->tokenizer).eos);
    vg_sentence s;
    vg_split_sentence(b->split, 0, &s);
    int n = 0;
    assert_int_equal(vg_tokenizer_encode(b->tokenizer, s.text, s.text_bytes, 16, batch->token_ids, &n), VG_OK);
    batch->token_counts[0] = n;
    assert_slot_is(b, batch, 0, 0);
}

/* ---- boxes ---- */

static void boxes_without_area_are_left_out_and_surplus_ones_too(void **state)
{
    bench *b = *state;
    b->spec.shuffle = false;
    const float boxes[MOST_BOXES][4] = {{5, 5, 5, 9},   {1, 1, 3, 3}, {4, 4, 3, 8},
                                        {NAN, 0, 3, 3}, {2, 2, 6, 6}, {0, 0, 9, 9}};
    memcpy(b->split->boxes[0], boxes, sizeof boxes);
    b->split->sentences[0].n_boxes = 6;
    b->split->sentences[1].n_boxes = 0;
    for (int k = 0; k < 5; k++) memcpy(b->split->boxes[2] + 4 * k, boxes[5], sizeof boxes[5]);
    b->split->sentences[2].n_boxes = 5;
    bench_open(b);
    const vg_batch *batch = want_and_take(b, 0);
    assert_int_equal(batch->n_targets[0], 3);
    assert_true(batch->targets[0] == 2.0F / 20 && batch->targets[4] == 4.0F / 20 && batch->targets[8] == 4.5F / 20);
    assert_int_equal(batch->n_targets[1], 0);
    assert_int_equal(batch->filled[1], 1); /* a phrase that names nothing is still a sample */
    assert_int_equal(batch->n_targets[2], 3);
}

/* ---- faults ---- */

static void in_table_order_a_bad_image_leaves_its_slots_empty(void **state)
{
    bench *b = *state;
    b->spec.shuffle = false;
    b->split->images[0].bytes[40] ^= 0x55;
    bench_open(b);
    for (int again = 0; again < 2; again++) {
        vg_batch *batch = want_and_take(b, 0);
        for (int slot = 0; slot < 4; slot++) assert_slot_is_empty(b, batch, slot);
        assert_pixels_are(b, batch, 0, -1);
        assert_slot_is(b, batch, 4, 3);
        const int32_t replaced[] = {1, 1, 0};
        assert_memory_equal(batch->replaced, replaced, sizeof replaced);
        vg_loader_give_back(b->loader, batch);
    }
}

/* The first sentence of each of 42 positions (three epochs), asked for from `first` on and then round to it. */
static void first_sentences(bench *b, int n_workers, int64_t first, int64_t *sentences, int32_t *bad)
{
    b->spec.n_workers = n_workers;
    bench_open(b);
    for (int64_t k = 0; k < 42; k += 3) {
        const int64_t position = (first + k) % 42;
        vg_batch *batch = want_and_take(b, position);
        for (int i = 0; i < 3; i++) {
            const uint32_t key[] = {0, 0, (uint32_t)(position + i), 0};
            assert_memory_equal(batch->keys + 8 * i, key, sizeof key);
            assert_int_equal(batch->filled[2 * i], 1);
            sentences[position + i] = batch->sentences[2 * i];
            bad[position + i] = batch->replaced[i];
        }
        vg_loader_give_back(b->loader, batch);
    }
    bench_close(b);
}

/* Whichever positions were met before, on however many workers: what replaces a bad sample is the stream's business. */
static void a_bad_sample_is_replaced_by_the_next_in_the_stream(void **state)
{
    bench *b = *state;
    int64_t good[42], with_bad[42], again[42];
    int32_t bad[42], bad_again[42];
    first_sentences(b, 0, 0, good, bad);
    b->split->images[3].n = 20;
    first_sentences(b, 0, 0, with_bad, bad);
    first_sentences(b, 3, 21, again, bad_again);
    assert_memory_equal(with_bad, again, sizeof again);
    assert_memory_equal(bad, bad_again, sizeof bad);
    int n_replaced = 0;
    for (int p = 0, next; p < 40; p++) {
        for (next = p; next < 42 && b->split->sentences[good[next]].image == 3;) next++;
        if (next < 42) assert_int_equal(with_bad[p], good[next]);
        assert_int_equal(bad[p], b->split->sentences[good[p]].image == 3);
        n_replaced += bad[p];
    }
    assert_true(n_replaced >= 6); /* three samples of image 3 in each epoch */
}

/* ---- features ---- */

enum { FLOATS = 5 };

/* A store in which image k's row is k, 10 k, ..; image 3 has none. */
static vg_feature_store *make_store(char *folder)
{
    const vg_feature_key key = {"features: test", IMAGES, FLOATS, false};
    vg_feature_store *store = NULL;
    char path[64], why[256];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/store", folder);
    assert_int_equal(vg_feature_store_begin(path, &key, &store), VG_OK);
    for (int k = 0; k < IMAGES; k++) {
        const float x = (float)k, row[FLOATS] = {x, 10 * x, 100 * x, 1000 * x, 10000 * x};
        if (k != 3) assert_int_equal(vg_feature_store_put(store, k, row), VG_OK);
    }
    assert_int_equal(vg_feature_store_close(store), VG_OK);
    assert_int_equal(vg_feature_store_commit(path, &key), VG_OK);
    assert_int_equal(vg_feature_store_open(path, &key, &store, why, sizeof why), VG_OK);
    unlink(path);
    rmdir(folder);
    return store;
}

static void take_features(bench *b, vg_feature_store *store)
{
    b->spec.features = store;
    b->spec.shape.image_floats = FLOATS;
    for (int k = 0; k < 4; k++) {
        vg_batch_release(&b->batches[k]);
        assert_int_equal(vg_batch_init(&b->batches[k], &b->spec.shape), VG_OK);
    }
}

/* The same stream as over pixels, an image without a row being one that cannot be decoded; and no picture is read. */
static void stored_features_take_the_place_of_pixels(void **state)
{
    bench *b = *state;
    char folder[] = "/tmp/vlgtr-test-XXXXXX";
    int64_t pixels[42], features[42];
    int32_t bad[42];
    b->split->images[3].n = 20;
    first_sentences(b, 2, 0, pixels, bad);
    const int n_reads = b->split->n_reads;
    vg_feature_store *store = make_store(folder);
    take_features(b, store);
    first_sentences(b, 2, 0, features, bad);
    assert_memory_equal(features, pixels, sizeof pixels);
    bench_open(b);
    vg_batch *batch = want_and_take(b, 7);
    for (int i = 0; i < 3; i++) {
        const float *row = batch->image_features + (size_t)i * FLOATS;
        const int64_t image = b->split->sentences[batch->sentences[2 * i]].image;
        assert_int_equal(batch->images[i], image);
        for (int k = 0; k < FLOATS; k++) assert_true(row[k] == (float)image * powf(10, (float)k));
    }
    assert_int_equal(b->split->n_reads, n_reads);
    bench_close(b);
    vg_feature_store_close(store);
}

static void images_alone_come_once_each_in_order(void **state)
{
    bench *b = *state;
    b->spec.shuffle = false;
    b->spec.images_only = true;
    b->split->images[3].n = 20;
    bench_open(b);
    for (int first = 0; first < IMAGES + 3; first += 3) {
        vg_batch *batch = want_and_take(b, first);
        for (int i = 0; i < 3; i++) {
            const int image = first + i < IMAGES && first + i != 3 ? first + i : -1;
            assert_int_equal(batch->images[i], image);
            assert_pixels_are(b, batch, i, image);
            assert_slot_is_empty(b, batch, 2 * i);
        }
        vg_loader_give_back(b->loader, batch);
    }
}

static void a_jpeg_without_its_end_is_no_bad_sample(void **state)
{
    bench *b = *state;
    fake_image *f = &b->split->images[1];
    vg_image image;
    assert_int_equal(vg_image_decode(f->bytes, f->n, false, &image), VG_OK);
    free(f->bytes);
    assert_int_equal(vg_image_encode_jpeg(&image, 95, &f->bytes, &f->n), VG_OK);
    vg_image_release(&image);
    f->n = f->n * 9 / 10;
    b->spec.shuffle = false;
    bench_open(b);
    const vg_batch *batch = want_and_take(b, 2);
    assert_slot_is(b, batch, 0, 3);
    assert_int_equal(batch->replaced[0], 0);
}

static void a_picture_of_another_size_than_its_record_is_bad(void **state)
{
    bench *b = *state;
    b->spec.shuffle = false;
    b->split->images[0].info.width++;
    bench_open(b);
    const vg_batch *batch = want_and_take(b, 0);
    const int32_t replaced[] = {1, 1, 0};
    assert_memory_equal(batch->replaced, replaced, sizeof replaced);
    assert_slot_is_empty(b, batch, 0);
}

/* Every position has a sample of its own, and none is good: nothing takes their place. */
static void where_all_images_are_bad_slots_stay_empty(void **state)
{
    bench *b = *state;
    for (int k = 0; k < IMAGES; k++) b->split->images[k].n = 20; /* cut off */
    bench_open(b);
    const vg_batch *batch = want_and_take(b, 0);
    for (int i = 0; i < 3; i++) assert_int_equal(batch->replaced[i], 1);
    for (int slot = 0; slot < 6; slot++) assert_slot_is_empty(b, batch, slot);
}

static void a_storage_error_is_told_for_its_own_batch(void **state)
{
    bench *b = *state;
    b->spec.shuffle = false;
    b->split->storage_fails[3] = true; /* samples 3 4 5 */
    bench_open(b);
    for (int64_t position = 0; position < 9; position += 3)
        assert_int_equal(vg_loader_want(b->loader, position), VG_OK);
    vg_batch *batch = take(b);
    vg_batch *failed = NULL;
    assert_slot_is(b, batch, 0, 0);
    assert_int_equal(vg_loader_take(b->loader, &failed), VG_E_STORAGE);
    assert_null(failed);
    assert_non_null(strstr(vg_error_text(), "fake.h5"));
    batch = take(b);
    assert_int_equal(batch->first_position, 6);
    for (int i = 0; i < 3; i++) assert_int_equal(batch->replaced[i], 0);
}

/* Sample 2 is of image 1, sample 3 of image 3, and no storage holds either. The first is told. */
static void of_two_failures_in_a_batch_the_first_is_told(void **state)
{
    bench *b = *state;
    b->spec.shuffle = false;
    b->spec.n_workers = 3;
    for (int round = 0; round < 20; round++) {
        b->split->storage_fails[1] = b->split->storage_fails[3] = true;
        bench_open(b);
        vg_batch *batch = NULL;
        assert_int_equal(vg_loader_want(b->loader, 1), VG_OK);
        assert_int_equal(vg_loader_take(b->loader, &batch), VG_E_STORAGE);
        assert_non_null(strstr(vg_error_text(), "image 1:"));
        bench_close(b);
    }
}

/* ---- the queue ---- */

static void misuse_of_the_queue_is_told(void **state)
{
    bench *b = *state;
    vg_batch *batch = NULL;
    bench_open(b);
    assert_int_equal(vg_loader_take(b->loader, &batch), VG_E_BUG);
    assert_int_equal(vg_loader_want(b->loader, -1), VG_E_BUG);
    for (int k = 0; k < VG_LOADER_QUEUE; k++) assert_int_equal(vg_loader_want(b->loader, k), VG_OK);
    assert_int_equal(vg_loader_want(b->loader, 0), VG_E_BUG);
    for (int k = 0; k < 4; k++) take(b);
    assert_int_equal(vg_loader_take(b->loader, &batch), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "give one back"));
}

static void a_spec_that_cannot_be_is_refused(void **state)
{
    bench *b = *state;
    b->spec.shape.text_tokens = 12;
    assert_int_equal(vg_loader_open(&b->spec, b->batches, 4, &b->loader), VG_E_BUG);
    b->spec.shape.text_tokens = 24; /* the batches have 16 */
    assert_int_equal(vg_loader_open(&b->spec, b->batches, 4, &b->loader), VG_E_BUG);
    b->spec.shape = shape;
    assert_int_equal(vg_loader_open(&b->spec, b->batches, 1, &b->loader), VG_E_BUG);
    assert_null(b->loader);
}

/* On a machine with one processor all are pinned anyway. */
static void threads_stay_on_one_processor_where_that_is_asked_for(void **state)
{
    bench *b = *state;
    b->spec.pin = true;
    b->spec.first_processor = 5;
    free(run_of_batches(b, 3, 0, 4).data);
    assert_int_equal(b->split->n_pinned, b->split->n_reads);
    cpu_set_t mine;
    assert_int_equal(sched_getaffinity(0, sizeof mine, &mine), 0);
    b->split->n_pinned = 0;
    b->spec.pin = false;
    free(run_of_batches(b, 3, 0, 4).data);
    if (CPU_COUNT(&mine) > 1) assert_int_equal(b->split->n_pinned, 0);
}

static void closing_in_the_middle_ends_cleanly(void **state)
{
    bench *b = *state;
    b->split->slow_us = 2000;
    b->spec.n_workers = 4;
    for (int round = 0; round < 5; round++) {
        bench_open(b);
        for (int k = 0; k < 40; k++) assert_int_equal(vg_loader_want(b->loader, 3 * k), VG_OK);
        for (int k = 0; k < round; k++) take(b);
        bench_close(b);
    }
}

static void the_wait_is_measured(void **state)
{
    bench *b = *state;
    b->split->slow_us = 20000;
    b->spec.n_workers = 1;
    bench_open(b);
    want_and_take(b, 0);
    assert_true(vg_loader_wait_s(b->loader) >= 0.03); /* three reads, one of them perhaps begun before */
}

static void a_batch_keeps_its_buffers_apart(void **state)
{
    bench *b = *state;
    vg_batch *batch = &b->batches[0];
    memset(batch->pixels, 1, 3 * 14 * 14 * 3);
    memset(batch->token_ids, 2, 6 * 16 * 4);
    memset(batch->targets, 3, 6 * 3 * 4 * 4);
    memset(batch->keys, 4, 6 * 4 * 4);
    memset(batch->sentences, 5, 6 * 8);
    assert_int_equal(batch->pixels[3 * 14 * 14 * 3 - 1], 1);
    assert_int_equal(batch->token_ids[95], 0x02020202);
    assert_int_equal(batch->keys[23], 0x04040404);
    assert_int_equal((uintptr_t)batch->targets % 64, 0);
    vg_batch other;
    vg_batch_shape huge = shape;
    huge.images = huge.phrases = huge.text_tokens = huge.max_targets = 1 << 30;
    assert_int_equal(vg_batch_init(&other, &huge), VG_E_NOMEM);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, bench_new, bench_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_batch_in_table_order_holds_what_the_split_says),
        CASE(positions_past_the_end_of_the_table_are_empty),
        CASE(every_epoch_holds_every_phrase_once),
        CASE(keys_hold_the_whole_position),
        CASE(bits_do_not_depend_on_threads_cache_or_how_far_ahead),
        CASE(stages_begin_at_their_position),
        CASE(fixed_views_come_epoch_by_epoch),
        CASE(a_mirrored_picture_has_mirrored_boxes_and_phrases),
        CASE(batches_of_a_step_have_one_side),
        CASE(a_cached_image_is_read_once),
        CASE(a_blind_loader_hides_the_text_and_nothing_else),
        CASE(boxes_without_area_are_left_out_and_surplus_ones_too),
        CASE(in_table_order_a_bad_image_leaves_its_slots_empty),
        CASE(a_bad_sample_is_replaced_by_the_next_in_the_stream),
        CASE(stored_features_take_the_place_of_pixels),
        CASE(images_alone_come_once_each_in_order),
        CASE(a_jpeg_without_its_end_is_no_bad_sample),
        CASE(a_picture_of_another_size_than_its_record_is_bad),
        CASE(where_all_images_are_bad_slots_stay_empty),
        CASE(a_storage_error_is_told_for_its_own_batch),
        CASE(of_two_failures_in_a_batch_the_first_is_told),
        CASE(misuse_of_the_queue_is_told),
        CASE(a_spec_that_cannot_be_is_refused),
        CASE(threads_stay_on_one_processor_where_that_is_asked_for),
        CASE(closing_in_the_middle_ends_cleanly),
        CASE(the_wait_is_measured),
        CASE(a_batch_keeps_its_buffers_apart),
    };
    return cmocka_run_group_tests_name("loader", tests, NULL, NULL);
}
