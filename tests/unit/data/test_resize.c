/* The stretch: the pixels PIL gives, and the properties any stretch has. */
#include "data/draw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

/* The formula of tests/fixtures/images/make.py. */
static vg_image noise(int width, int height)
{
    vg_image image = {.pixels = malloc((size_t)(3 * width * height)), .width = width, .height = height};
    assert_non_null(image.pixels);
    for (uint32_t i = 0; i < (uint32_t)(3 * width * height); i++)
        image.pixels[i] = (uint8_t)(i * i * 31 + i * 17 + i / 5);
    return image;
}

static int pair(const json_t *test, const char *key, size_t i)
{
    return (int)json_integer_value(json_array_get(json_object_get(test, key), i));
}

/* One scratch serves all sizes, so that what an earlier one left in it would show. */
static void pixels_equal_those_of_pil(void **state)
{
    (void)state;
    json_t *cases = json_load_file(FIXTURES "/images/resize.json", 0, NULL), *test;
    size_t k;
    vg_resize_scratch scratch = {0};
    assert_int_equal(json_array_size(cases), 7);
    json_array_foreach(cases, k, test)
    {
        vg_image image = noise(pair(test, "from", 0), pair(test, "from", 1));
        const int width = pair(test, "to", 0), height = pair(test, "to", 1);
        const char *hex = json_string_value(json_object_get(test, "pixels"));
        uint8_t out[2048];
        assert_int_equal(vg_image_resize(&image, width, height, out, &scratch), VG_OK);
        assert_int_equal(strlen(hex), 6 * width * height);
        for (int i = 0; i < 3 * width * height; i++) {
            const char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
            assert_int_equal(out[i], strtol(digits, NULL, 16));
        }
        vg_image_release(&image);
    }
    free(scratch.data);
    json_decref(cases);
}

static void the_same_size_changes_nothing(void **state)
{
    (void)state;
    vg_image image = noise(37, 23);
    uint8_t out[3 * 37 * 23];
    vg_resize_scratch scratch = {0};
    assert_int_equal(vg_image_resize(&image, 37, 23, out, &scratch), VG_OK);
    assert_memory_equal(out, image.pixels, sizeof out);
    free(scratch.data);
    vg_image_release(&image);
}

static void one_colour_stays_one_colour(void **state)
{
    (void)state;
    const int sizes[][2] = {{1, 1}, {7, 90}, {90, 7}, {200, 150}};
    static uint8_t out[3 * 64 * 64];
    vg_resize_scratch scratch = {0};
    for (int k = 0; k < 4; k++)
        for (int level = 0; level < 256; level += 51) {
            vg_image image = noise(sizes[k][0], sizes[k][1]);
            memset(image.pixels, level, (size_t)(3 * image.width * image.height));
            assert_int_equal(vg_image_resize(&image, 64, 33, out, &scratch), VG_OK);
            for (int i = 0; i < 3 * 64 * 33; i++) assert_int_equal(out[i], level);
            vg_image_release(&image);
        }
    free(scratch.data);
}

/* Nothing is written behind the picture, whatever the width: runs and pairs of rows have their ends. */
static void nothing_is_written_behind_the_picture(void **state)
{
    (void)state;
    vg_image image = noise(19, 11);
    vg_resize_scratch scratch = {0};
    for (int width = 1; width < 40; width++)
        for (int height = 1; height < 6; height++) {
            const size_t n = (size_t)(3 * width * height);
            uint8_t *out = malloc(n + 8);
            memset(out, 0xa5, n + 8);
            assert_int_equal(vg_image_resize(&image, width, height, out, &scratch), VG_OK);
            for (size_t i = n; i < n + 8; i++) assert_int_equal(out[i], 0xa5);
            free(out);
        }
    free(scratch.data);
    vg_image_release(&image);
}

static void sizes_out_of_bounds_are_refused(void **state)
{
    (void)state;
    vg_image image = noise(4, 4);
    uint8_t out[48];
    vg_resize_scratch scratch = {0};
    assert_int_equal(vg_image_resize(&image, 0, 4, out, &scratch), VG_E_DATA);
    assert_int_equal(vg_image_resize(&image, 4, -1, out, &scratch), VG_E_DATA);
    assert_int_equal(vg_image_resize(&image, (1 << 14) + 1, 4, out, &scratch), VG_E_DATA);
    image.width = 65536; /* is refused before a pixel is read */
    assert_int_equal(vg_image_resize(&image, 4, 4, out, &scratch), VG_E_DATA);
    image.width = 4;
    image.height = 65535; /* 65535 x 16384 pixels between the passes */
    assert_int_equal(vg_image_resize(&image, 1 << 14, 4, out, &scratch), VG_E_DATA);
    assert_null(scratch.data);
    vg_image_release(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pixels_equal_those_of_pil),       cmocka_unit_test(the_same_size_changes_nothing),
        cmocka_unit_test(one_colour_stays_one_colour),     cmocka_unit_test(nothing_is_written_behind_the_picture),
        cmocka_unit_test(sizes_out_of_bounds_are_refused),
    };
    return cmocka_run_group_tests_name("resize", tests, NULL, NULL);
}
