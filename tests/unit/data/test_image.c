/* Decoding and encoding: the kinds of pictures that data sets hold, and broken ones. The fixtures all show one
 * gradient (tests/fixtures/images/make.py). */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "data/draw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { WIDTH = 16, HEIGHT = 12, PIXEL_BYTES = 3 * WIDTH * HEIGHT };

static int gradient(int x, int y, int channel)
{
    return channel == 0 ? 10 * x + 40 : channel == 1 ? 15 * y + 30 : 5 * (x + y) + 60;
}

static vg_image gradient_image(void)
{
    vg_image image = {.pixels = malloc(PIXEL_BYTES), .width = WIDTH, .height = HEIGHT};
    assert_non_null(image.pixels);
    for (int i = 0; i < PIXEL_BYTES; i++) image.pixels[i] = (uint8_t)gradient(i / 3 % WIDTH, i / 3 / WIDTH, i % 3);
    return image;
}

/* The largest difference from the gradient, or from its red channel where the picture is grey. */
static int distance(const vg_image *image, bool grey)
{
    int most = 0;
    assert_int_equal(image->width, WIDTH);
    assert_int_equal(image->height, HEIGHT);
    for (int i = 0; i < PIXEL_BYTES; i++) {
        const int off = abs(image->pixels[i] - gradient(i / 3 % WIDTH, i / 3 / WIDTH, grey ? 0 : i % 3));
        if (off > most) most = off;
    }
    return most;
}

/* Lossy kinds may be off by a few levels: a quality of 95 divides coefficients by 2 to 12. */
static void every_kind_of_picture_becomes_rgb(void **state)
{
    (void)state;
    const struct {
        const char *name;
        bool grey;
        int most;
    } kinds[] = {{"rgb.png", false, 0},    {"grey.png", true, 0},         {"grey16.png", true, 0},
                 {"palette.png", true, 0}, {"alpha.png", false, 0},       {"interlaced.png", false, 0},
                 {"rgb.jpg", false, 5},    {"progressive.jpg", false, 5}, {"grey.jpg", true, 3},
                 {"cmyk.jpg", false, 5},   {"turned.jpg", false, 5},      {"halved.jpg", false, 16}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char path[512];
        vg_image image;
        snprintf(path, sizeof path, "%s/images/%s", FIXTURES, kinds[k].name);
        if (vg_image_read(path, &image) != VG_OK) fail_msg("%s", vg_error_text());
        const int off = distance(&image, kinds[k].grey);
        if (off > kinds[k].most) fail_msg("%s is off by %d levels", kinds[k].name, off);
        vg_image_release(&image);
    }
}

static void a_png_comes_back_as_it_went(void **state)
{
    (void)state;
    vg_image image = gradient_image(), again;
    char folder[] = "/tmp/vlgtr-image-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.png", folder);
    assert_int_equal(vg_image_write_png(path, &image), VG_OK);
    assert_int_equal(vg_image_read(path, &again), VG_OK);
    assert_int_equal(distance(&again, false), 0);
    unlink(path);
    rmdir(folder);
    assert_int_equal(vg_image_write_png(path, &image), VG_E_STORAGE);
    vg_image_release(&image);
    vg_image_release(&again);
}

static void a_jpeg_comes_back_nearly_as_it_went(void **state)
{
    (void)state;
    vg_image image = gradient_image(), again;
    unsigned char *bytes = NULL;
    size_t n = 0;
    assert_int_equal(vg_image_encode_jpeg(&image, 95, &bytes, &n), VG_OK);
    assert_int_equal(vg_image_decode(bytes, n, false, &again), VG_OK);
    assert_in_range(distance(&again, false), 0, 16);
    free(bytes);
    vg_image_release(&image);
    vg_image_release(&again);
}

/* ---- broken pictures ---- */

static char *fixture_bytes(const char *name, size_t *n)
{
    char path[512], *bytes = NULL;
    snprintf(path, sizeof path, "%s/images/%s", FIXTURES, name);
    assert_int_equal(vg_file_read(path, 1 << 20, &bytes, n), VG_OK);
    return bytes;
}

static void a_picture_cut_anywhere_is_refused(void **state)
{
    (void)state;
    const char *names[] = {"rgb.png", "interlaced.png", "rgb.jpg", "progressive.jpg", "cmyk.jpg"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        size_t n = 0;
        char *bytes = fixture_bytes(names[k], &n);
        for (size_t cut = 0; cut < n; cut++) {
            vg_image image = {0};
            unsigned char *part = malloc(cut + 1); /* of its own, so that a read behind it is seen */
            memcpy(part, bytes, cut);
            if (vg_image_decode(part, cut, false, &image) != VG_E_DATA) fail_msg("%s cut at %zu", names[k], cut);
            assert_null(image.pixels);
            free(part);
        }
        free(bytes);
    }
}

static void a_cut_jpeg_is_accepted_where_that_is_asked_for(void **state)
{
    (void)state;
    size_t n = 0;
    vg_image image;
    unsigned char *bytes = (unsigned char *)fixture_bytes("rgb.jpg", &n);
    assert_int_equal(vg_image_decode(bytes, n - 20, true, &image), VG_OK);
    assert_int_equal(image.width, WIDTH);
    assert_int_equal(image.pixels[0] > 30 && image.pixels[0] < 50, 1); /* what was there is shown */
    vg_image_release(&image);
    free(bytes);
}

/* Every byte of a file changed in turn: a status comes back, whatever it is. */
static void a_changed_byte_does_no_harm(void **state)
{
    (void)state;
    const char *names[] = {"rgb.png", "interlaced.png", "palette.png", "rgb.jpg", "progressive.jpg", "cmyk.jpg"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        size_t n = 0;
        unsigned char *bytes = (unsigned char *)fixture_bytes(names[k], &n);
        for (size_t at = 0; at < n; at++) {
            vg_image image = {0};
            bytes[at] ^= (unsigned char)(1u << at % 8);
            (void)vg_image_decode(bytes, n, at % 2, &image);
            vg_image_release(&image);
            bytes[at] ^= (unsigned char)(1u << at % 8);
        }
        free(bytes);
    }
}

static void too_many_pixels_are_refused_before_memory_is_taken(void **state)
{
    (void)state;
    size_t n = 0;
    vg_image image;
    unsigned char *bytes = (unsigned char *)fixture_bytes("rgb.jpg", &n);
    size_t frame = 0; /* SOF0: length 2, precision 1, height 2, width 2 */
    while (frame + 9 < n && !(bytes[frame] == 0xff && bytes[frame + 1] == 0xc0)) frame++;
    assert_true(frame + 9 < n);
    memcpy(bytes + frame + 5, "\x80\x00\x80\x00", 4); /* 2^15 x 2^15 */
    assert_int_equal(vg_image_decode(bytes, n, false, &image), VG_E_DATA);
    assert_non_null(strstr(vg_error_text(), "2^28"));
    free(bytes);
}

/* A few hundred bytes with the last scan again and again, each a pass over the whole picture. */
static void a_jpeg_with_endless_scans_is_refused(void **state)
{
    (void)state;
    size_t n = 0;
    vg_image image;
    char *bytes = fixture_bytes("progressive.jpg", &n);
    size_t scan = n - 4;
    while (scan > 0 && !((unsigned char)bytes[scan] == 0xff && (unsigned char)bytes[scan + 1] == 0xda)) scan--;
    assert_true(scan > 0);
    vg_text endless = {0};
    vg_text_add_bytes(&endless, bytes, n - 2);
    for (int k = 0; k < 600; k++) vg_text_add_bytes(&endless, bytes + scan, n - 2 - scan);
    vg_text_add_bytes(&endless, bytes + n - 2, 2);
    assert_int_equal(vg_image_decode((unsigned char *)endless.data, endless.length, true, &image), VG_E_DATA);
    assert_non_null(strstr(vg_error_text(), "scans"));
    free(endless.data);
    free(bytes);
}

static void other_files_are_named_as_such(void **state)
{
    (void)state;
    vg_image image;
    assert_int_equal(vg_image_decode((const unsigned char *)"GIF89a..", 8, false, &image), VG_E_DATA);
    assert_non_null(strstr(vg_error_text(), "neither a JPEG nor a PNG"));
    assert_int_equal(vg_image_read(FIXTURES "/images/make.py", &image), VG_E_DATA);
    assert_non_null(strstr(vg_error_text(), "make.py"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_picture_becomes_rgb),
        cmocka_unit_test(a_png_comes_back_as_it_went),
        cmocka_unit_test(a_jpeg_comes_back_nearly_as_it_went),
        cmocka_unit_test(a_picture_cut_anywhere_is_refused),
        cmocka_unit_test(a_cut_jpeg_is_accepted_where_that_is_asked_for),
        cmocka_unit_test(a_changed_byte_does_no_harm),
        cmocka_unit_test(too_many_pixels_are_refused_before_memory_is_taken),
        cmocka_unit_test(a_jpeg_with_endless_scans_is_refused),
        cmocka_unit_test(other_files_are_named_as_such),
    };
    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
