/* The loader: what its batches hold, that no thread or cache changes them, and its queue. */
#define _GNU_SOURCE /* usleep, affinity */
#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/data/loader_bench.h"

/* ---- what a batch holds ---- */

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

static void each_of_many_batches_may_be_wanted(void **state)
{
    enum { MANY = VG_LOADER_QUEUE + 2 };
    bench *b = *state;
    vg_batch *batches = vg_new0_array(MANY, sizeof *batches);
    for (int k = 0; k < MANY; k++) assert_int_equal(vg_batch_init(&batches[k], &b->spec.shape), VG_OK);
    assert_int_equal(vg_loader_open(&b->spec, batches, MANY, &b->loader), VG_OK);
    for (int k = 0; k < MANY; k++) assert_int_equal(vg_loader_want(b->loader, k), VG_OK);
    assert_int_equal(vg_loader_want(b->loader, MANY), VG_E_BUG);
    for (int k = 0; k < MANY; k++) assert_int_equal(take(b)->first_position, k);
    vg_loader_close(b->loader);
    b->loader = NULL;
    for (int k = 0; k < MANY; k++) vg_batch_release(&batches[k]);
    free(batches);
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
        CASE(images_alone_come_once_each_in_order),
        CASE(misuse_of_the_queue_is_told),
        CASE(each_of_many_batches_may_be_wanted),
        CASE(a_spec_that_cannot_be_is_refused),
        CASE(threads_stay_on_one_processor_where_that_is_asked_for),
        CASE(closing_in_the_middle_ends_cleanly),
        CASE(the_wait_is_measured),
        CASE(a_batch_keeps_its_buffers_apart),
    };
    return cmocka_run_group_tests_name("loader", tests, NULL, NULL);
}
