/* Boxes, labels and galleries, judged by their pixels. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "data/draw.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What fontconfig keeps until the process ends is not ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig";
}

static vg_image grey_image(int width, int height)
{
    vg_image image = {.pixels = malloc((size_t)(3 * width * height)), .width = width, .height = height};
    assert_non_null(image.pixels);
    memset(image.pixels, 0x80, (size_t)(3 * width * height));
    return image;
}

static uint32_t pixel(const vg_image *image, int x, int y)
{
    const uint8_t *p = image->pixels + 3 * ((size_t)y * (size_t)image->width + (size_t)x);
    return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

/* Pixels within x0 <= x < x1, y0 <= y < y1 that are not `colour`. */
static int count_other(const vg_image *image, int x0, int y0, int x1, int y1, uint32_t colour)
{
    int n = 0;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) n += pixel(image, x, y) != colour;
    return n;
}

static void a_box_is_a_frame_of_its_colour(void **state)
{
    (void)state;
    vg_image image = grey_image(100, 80);
    const vg_drawn_box box = {.xyxy = {10, 20, 60, 70}, .colour = 0xff2010};
    assert_int_equal(vg_draw_boxes(&image, &box, 1), VG_OK);
    assert_int_equal(count_other(&image, 10, 20, 60, 22, 0xff2010), 0); /* two pixels wide, inside the box */
    assert_int_equal(count_other(&image, 58, 20, 60, 70, 0xff2010), 0);
    assert_int_equal(count_other(&image, 12, 22, 58, 68, 0x808080), 0); /* the inside is as it was */
    assert_int_equal(count_other(&image, 0, 0, 100, 20, 0x808080), 0);
    assert_int_equal(count_other(&image, 60, 0, 100, 80, 0x808080), 0);
    vg_image_release(&image);
}

static void a_label_stands_above_its_box_or_inside(void **state)
{
    (void)state;
    vg_image image = grey_image(200, 120);
    const vg_drawn_box boxes[] = {{{20, 60, 180, 110}, 0x2040ff, "the red circle 0.93"},
                                  {{20, 2, 60, 50}, 0x40ff20, "top"}};
    assert_int_equal(vg_draw_boxes(&image, boxes, 2), VG_OK);
    assert_int_equal(pixel(&image, 21, 57), 0x2040ff);
    assert_int_equal(pixel(&image, 21, 5), 0x40ff20);
    assert_true(count_other(&image, 20, 45, 100, 60, 0x2040ff) > 50); /* letters */
    vg_image_release(&image);
}

/* Nothing here may crash or leave the image; the last box alone is drawn. */
static void strange_boxes_and_labels_do_no_harm(void **state)
{
    (void)state;
    vg_image image = grey_image(60, 40);
    char endless[4000];
    memset(endless, 'w', sizeof endless);
    endless[sizeof endless - 1] = '\0';
    const vg_drawn_box boxes[] = {
        {{NAN, 0, 1, 1}, 0xff0000, "x"},         {{0, 0, INFINITY, 5}, 0xff0000, "x"},
        {{-1e30F, -5, 1e30F, 1e9F}, 1, endless}, {{30, 30, 10, 10}, 2, "\xff\xc0\xaf \xed\xa0\x80 \xf5 \xe2\x82"},
        {{5, 5, 5, 5}, 3, "\n\t\x01"},           {{0, 0, 60, 40}, 0x00ff00, ""},
    };
    assert_int_equal(vg_draw_boxes(&image, boxes, 6), VG_OK);
    assert_int_equal(pixel(&image, 0, 39), 0x00ff00);
    assert_int_equal(pixel(&image, 59, 39), 0x00ff00);
    vg_image_release(&image);
}

static void a_gallery_holds_each_image_and_its_caption(void **state)
{
    (void)state;
    vg_image images[3] = {grey_image(50, 50), grey_image(200, 100), grey_image(3, 9)}, sheet;
    memset(images[1].pixels, 0x20, 200 * 100 * 3);
    const char *captions[] = {"the red circle left of the blue square and some more words that need several lines and "
                              "then a fourth which is not there\n\n",
                              NULL, "\xff"};
    assert_int_equal(vg_draw_gallery(images, captions, 3, 2, 64, &sheet), VG_OK);
    assert_int_equal(sheet.width, 8 + 2 * 72);
    assert_int_equal(count_other(&sheet, 8, 8, 72, 72, 0x808080), 0);
    assert_int_equal(count_other(&sheet, 80, 24, 144, 56, 0x202020), 0); /* 64 x 32, centred */
    assert_int_equal(count_other(&sheet, 80, 8, 144, 24, 0xffffff), 0);
    assert_true(count_other(&sheet, 8, 72, 72, 120, 0xffffff) > 50);
    assert_int_equal(count_other(&sheet, 80, 72, 144, 120, 0xffffff), 0); /* no caption */
    for (int k = 0; k < 3; k++) vg_image_release(&images[k]);
    vg_image_release(&sheet);
}

static void a_gallery_that_no_canvas_holds_is_refused(void **state)
{
    (void)state;
    vg_image image = grey_image(4, 4), sheet = {0};
    const char *captions[] = {NULL};
    assert_int_equal(vg_draw_gallery(&image, captions, 1, 1000, 224, &sheet), VG_E_USAGE);
    assert_int_equal(vg_draw_gallery(&image, captions, 1, 1, 1 << 30, &sheet), VG_E_USAGE);
    assert_null(sheet.pixels);
    vg_image_release(&image);
    image = grey_image(32768, 1); /* nor is it the memory that is short */
    assert_int_equal(vg_draw_boxes(&image, &(vg_drawn_box){.colour = 0}, 1), VG_E_DATA);
    vg_image_release(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_box_is_a_frame_of_its_colour),
        cmocka_unit_test(a_label_stands_above_its_box_or_inside),
        cmocka_unit_test(strange_boxes_and_labels_do_no_harm),
        cmocka_unit_test(a_gallery_holds_each_image_and_its_caption),
        cmocka_unit_test(a_gallery_that_no_canvas_holds_is_refused),
    };
    return cmocka_run_group_tests_name("draw", tests, NULL, NULL);
}
