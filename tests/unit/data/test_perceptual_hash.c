/* Looks: they stay when a picture is resized and encoded again, and the search by Hamming distance is exact. */
#include "data/perceptual_hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/data/small_shard.h"

static uint64_t looks_of(const vg_image *image, bool *flat)
{
    vg_resize_scratch scratch = {0};
    vg_looks looks;
    MUST(vg_perceptual_hash(image, &looks, &scratch));
    free(scratch.data);
    *flat = looks.flat;
    return looks.bits;
}

static uint64_t random_state = 3;

/* splitmix64 */
static uint64_t random_bits(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Rectangles of any colour, like things before a background. */
static vg_image picture(void)
{
    vg_image image = {.pixels = malloc(320 * 240 * 3), .width = 320, .height = 240};
    memset(image.pixels, (int)(random_bits() % 256), 320 * 240 * 3);
    for (int i = 0; i < 12; i++) {
        const int left = (int)(random_bits() % 320), top = (int)(random_bits() % 240),
                  shade = (int)(random_bits() % 256);
        const int right = left + (int)(random_bits() % 160), low = top + (int)(random_bits() % 120);
        for (int y = top; y < low && y < 240; y++)
            for (int x = left; x < right && x < 320; x++)
                for (int c = 0; c < 3; c++) image.pixels[(y * 320 + x) * 3 + c] = (uint8_t)(shade * (c + 1));
    }
    return image;
}

/* `image` at another size, through a JPEG of this quality. */
static vg_image recoded(const vg_image *image, int width, int height, int quality)
{
    vg_resize_scratch scratch = {0};
    vg_image small = {.pixels = malloc((size_t)width * (size_t)height * 3), .width = width, .height = height},
             out = {0};
    unsigned char *jpeg = NULL;
    size_t n = 0;
    MUST(vg_image_resize(image, width, height, small.pixels, &scratch));
    MUST(vg_image_encode_jpeg(&small, quality, &jpeg, &n));
    MUST(vg_image_decode(jpeg, n, false, &out));
    free(scratch.data);
    free(jpeg);
    vg_image_release(&small);
    return out;
}

static void a_resized_and_recoded_picture_looks_the_same(void **state)
{
    uint64_t looks[6];
    bool flat = true;
    (void)state;
    for (int i = 0; i < 6; i++) {
        vg_image image = picture(), copy = recoded(&image, 200, 151, 40);
        looks[i] = looks_of(&image, &flat);
        assert_false(flat);
        assert_int_equal(__builtin_popcountll(looks[i]), 32); /* larger than the median: half of them */
        assert_true(__builtin_popcountll(looks[i] ^ looks_of(&copy, &flat)) <= 4);
        for (int k = 0; k < i; k++) assert_true(__builtin_popcountll(looks[i] ^ looks[k]) > 15);
        vg_image_release(&image);
        vg_image_release(&copy);
    }
}

static void a_picture_without_contrast_looks_like_nothing(void **state)
{
    vg_image grey = {.pixels = malloc(64 * 64 * 3), .width = 64, .height = 64};
    bool flat = false;
    (void)state;
    memset(grey.pixels, 128, 64 * 64 * 3);
    for (int i = 0; i < 32 * 64 * 3; i++) grey.pixels[i] = 132; /* a shade lighter above */
    (void)looks_of(&grey, &flat);
    assert_true(flat);
    vg_image_release(&grey);
}

static int nearest_by_looking_at_all(const uint64_t *codes, size_t n, uint64_t code, int max_bits, size_t *which)
{
    int least = max_bits + 1;
    for (size_t i = 0; i < n; i++) {
        const int bits = __builtin_popcountll(codes[i] ^ code);
        if (bits >= least) continue;
        least = bits;
        *which = i;
    }
    return least > max_bits ? -1 : least;
}

static void the_search_finds_what_looking_at_all_finds(void **state)
{
    enum { N = 3000, QUERIES = 400 };
    uint64_t *codes = malloc(N * sizeof *codes);
    vg_hamming_index *index = NULL;
    int found = 0;
    (void)state;
    for (int i = 0; i < N; i++) codes[i] = i % 3 ? random_bits() : random_bits() & 0xffff; /* some share three parts */
    MUST(vg_hamming_index_new(codes, N, &index));
    for (int q = 0; q < QUERIES; q++) {
        uint64_t code = codes[random_bits() % N];
        for (int flips = q % 20; flips > 0; flips--) code ^= (uint64_t)1 << random_bits() % 64;
        for (int max_bits = 0; max_bits <= VG_HAMMING_MOST; max_bits++) {
            size_t got = 0, wanted = 0;
            const int least = nearest_by_looking_at_all(codes, N, code, max_bits, &wanted);
            assert_int_equal(vg_hamming_index_nearest(index, code, max_bits, &got), least);
            assert_int_equal(got, wanted);
            found += least > 0;
        }
    }
    assert_true(found > QUERIES);
    vg_hamming_index_free(index);
    free(codes);
}

static void nothing_is_found_among_none(void **state)
{
    vg_hamming_index *index = NULL;
    size_t which = 0;
    (void)state;
    MUST(vg_hamming_index_new(NULL, 0, &index));
    assert_int_equal(vg_hamming_index_nearest(index, 5, VG_HAMMING_MOST, &which), -1);
    vg_hamming_index_free(index);
    vg_hamming_index_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resized_and_recoded_picture_looks_the_same),
        cmocka_unit_test(a_picture_without_contrast_looks_like_nothing),
        cmocka_unit_test(the_search_finds_what_looking_at_all_finds),
        cmocka_unit_test(nothing_is_found_among_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
