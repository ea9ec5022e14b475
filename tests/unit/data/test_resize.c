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

/* The part as a picture of its own. */
static vg_image cut_out(const vg_image *image, int x, int y, int width, int height)
{
    vg_image part = {.pixels = malloc((size_t)(3 * width * height)), .width = width, .height = height};
    for (int k = 0; k < height; k++)
        memcpy(part.pixels + 3 * k * width, image->pixels + 3 * ((y + k) * image->width + x), (size_t)(3 * width));
    return part;
}

static void a_part_is_stretched_as_if_it_were_cut_out_first(void **state)
{
    (void)state;
    const struct {
        int x, y, width, height;
    } parts[] = {{0, 0, 40, 31}, {7, 3, 21, 19}, {39, 30, 1, 1}, {13, 0, 27, 31}};
    vg_image image = noise(40, 31);
    vg_resize_scratch scratch = {0};
    uint8_t of_part[3 * 16 * 9], of_cut[3 * 16 * 9];
    for (int k = 0; k < 4; k++) {
        vg_image cut = cut_out(&image, parts[k].x, parts[k].y, parts[k].width, parts[k].height);
        vg_stretch part = {parts[k].x, parts[k].y, parts[k].width, parts[k].height, false};
        assert_int_equal(vg_image_resize(&cut, 16, 9, of_cut, &scratch), VG_OK);
        assert_int_equal(vg_image_stretch(&image, &part, 16, 9, of_part, &scratch), VG_OK);
        assert_memory_equal(of_part, of_cut, sizeof of_part);
        part.mirrored = true;
        assert_int_equal(vg_image_stretch(&image, &part, 16, 9, of_part, &scratch), VG_OK);
        for (int y = 0; y < 9; y++)
            for (int x = 0; x < 16; x++)
                assert_memory_equal(of_part + 3 * (16 * y + 15 - x), of_cut + 3 * (16 * y + x), 3);
        vg_image_release(&cut);
    }
    const vg_stretch outside = {20, 0, 21, 31, false};
    assert_int_equal(vg_image_stretch(&image, &outside, 16, 9, of_part, &scratch), VG_E_BUG);
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
        cmocka_unit_test(pixels_equal_those_of_pil),
        cmocka_unit_test(the_same_size_changes_nothing),
        cmocka_unit_test(one_colour_stays_one_colour),
        cmocka_unit_test(nothing_is_written_behind_the_picture),
        cmocka_unit_test(sizes_out_of_bounds_are_refused),
        cmocka_unit_test(a_part_is_stretched_as_if_it_were_cut_out_first),
    };
    return cmocka_run_group_tests_name("resize", tests, NULL, NULL);
}
