/* The loader where something is wrong: pictures that cannot be used, storage that fails, and features that are not
 * there. */
#define _GNU_SOURCE /* usleep, affinity */
#include "data/feature_store.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/data/loader_bench.h"

/* ---- bad samples ---- */

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

/* ---- storage that fails ---- */

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
    assert_int_equal(vg_feature_store_commit(path, &key, store), VG_OK);
    assert_int_equal(vg_feature_store_close(store), VG_OK);
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

/* What follows a bad sample may belong to the next stage, whose rows would be two views of each image. */
static void a_bad_sample_at_the_end_of_a_stage_is_replaced_from_the_stage_s_own_store(void **state)
{
    bench *b = *state;
    char folder[] = "/tmp/vlgtr-test-XXXXXX";
    int64_t good[42];
    int32_t bad[42];
    first_sentences(b, 0, 0, good, bad);
    vg_feature_store *store = make_store(folder);
    vg_loader_stage stages[] = {{.first_position = 0}, {.views = 2, .augment.flip = 1}};
    take_features(b, store);
    b->spec.stages = stages;
    b->spec.n_stages = 2;
    int n_met = 0;
    for (int p = 2; p < 42; p++) {
        if (b->split->sentences[good[p]].image != 3) continue;
        stages[1].first_position = p + 1;
        bench_open(b);
        const vg_batch *batch = want_and_take(b, p - 2);
        assert_int_equal(batch->replaced[2], 1);
        assert_true(batch->image_features[2 * FLOATS] == (float)batch->images[2]);
        bench_close(b);
        n_met++;
    }
    assert_true(n_met >= 6);
    vg_feature_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(in_table_order_a_bad_image_leaves_its_slots_empty),
        CASE(a_bad_sample_is_replaced_by_the_next_in_the_stream),
        CASE(a_jpeg_without_its_end_is_no_bad_sample),
        CASE(a_picture_of_another_size_than_its_record_is_bad),
        CASE(where_all_images_are_bad_slots_stay_empty),
        CASE(a_storage_error_is_told_for_its_own_batch),
        CASE(of_two_failures_in_a_batch_the_first_is_told),
        CASE(stored_features_take_the_place_of_pixels),
        CASE(a_bad_sample_at_the_end_of_a_stage_is_replaced_from_the_stage_s_own_store),
    };
    return cmocka_run_group_tests_name("loader faults", tests, NULL, NULL);
}
