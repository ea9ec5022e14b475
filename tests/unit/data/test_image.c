/* Decoding and encoding: the kinds of pictures that data sets hold, and broken ones. The fixtures all show one
 * gradient (tests/fixtures/images/make.py). */
#define _XOPEN_SOURCE 700
#include "data/image_impl.h"
#include "tests/unit/scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jpeglib.h>

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
    const char *path = path_in(*state, "a.png");
    vg_image image = gradient_image(), again;
    assert_int_equal(vg_image_write_png(path, &image), VG_OK);
    assert_int_equal(vg_image_read(path, &again), VG_OK);
    assert_int_equal(distance(&again, false), 0);
    assert_int_equal(vg_image_write_png(path_in(*state, "absent/a.png"), &image), VG_E_STORAGE);
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

/* ---- parts ---- */

enum { WIDE = 173, HIGH = 131 };

typedef struct coding {
    int across, down; /* luminance samples for one of colour */
    bool progressive, grey, inks, calm;
} coding;

static int wave(int x, int y, int c)
{
    return (x * x * (3 + c) + y * (17 + 40 * c) + x * y / 3 + (x / 7 + y / 5) % 2 * 90) % 256;
}

static int slope(int x, int y, int c)
{
    return (int)(128 + 100 * sin(x / 9.0 + y / 13.0 + 2 * c));
}

static unsigned char *coded(const coding *how, unsigned long *n)
{
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL, row[4 * WIDE];
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    *n = 0;
    jpeg_mem_dest(&info, &bytes, n);
    info.image_width = WIDE;
    info.image_height = HIGH;
    info.input_components = how->grey ? 1 : how->inks ? 4 : 3;
    info.in_color_space = how->grey ? JCS_GRAYSCALE : how->inks ? JCS_CMYK : JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, 90, TRUE);
    info.comp_info[0].h_samp_factor = how->across;
    info.comp_info[0].v_samp_factor = how->down;
    if (how->progressive) jpeg_simple_progression(&info);
    jpeg_start_compress(&info, TRUE);
    for (int y = 0; y < HIGH; y++) {
        for (int x = 0; x < WIDE; x++)
            for (int c = 0; c < info.input_components; c++)
                row[info.input_components * x + c] = (uint8_t)(how->calm ? slope(x, y, c) : wave(x, y, c));
        JSAMPROW from = row;
        jpeg_write_scanlines(&info, &from, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    return bytes;
}

static const coding codings[] = {
    {1, 1, false, false, false, false}, {2, 1, false, false, false, false}, {2, 2, false, false, false, false},
    {1, 2, false, false, false, false}, {4, 1, false, false, false, false}, {2, 2, true, false, false, false},
    {1, 1, false, true, false, false},  {1, 1, false, false, true, false},  {2, 2, true, false, true, false},
    {2, 2, false, true, false, false},  {2, 1, true, true, false, false},   {4, 2, true, false, false, false}};
static const vg_window windows[] = {{0, 0, WIDE, HIGH}, {0, 0, 20, 30},    {16, 16, 32, 32}, {15, 17, 1, 1},
                                    {33, 47, 100, 61},  {64, 0, 109, 131}, {1, 128, 172, 3}, {172, 130, 1, 1},
                                    {31, 63, 90, 8},    {48, 1, 5, 129}};

/* The window's pixels are those of the whole picture, to the bit, although little else was decoded. */
static void a_part_of_a_jpeg_has_the_pixels_of_the_whole(void **state)
{
    (void)state;
    vg_decoded part = {0};
    for (size_t k = 0; k < sizeof codings / sizeof *codings; k++) {
        unsigned long n;
        unsigned char *bytes = coded(&codings[k], &n);
        vg_image whole;
        assert_int_equal(vg_image_decode(bytes, n, false, &whole), VG_OK);
        for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
            const vg_window *w = &windows[i];
            const vg_decode how = {.width = WIDE, .height = HIGH, .window = *w};
            if (vg_image_decode_part(bytes, n, &how, &part) != VG_OK) fail_msg("%s", vg_error_text());
            const int x0 = (int)part.window.x, y0 = (int)part.window.y;
            assert_true(part.window.width == w->width && part.window.height == w->height);
            for (int y = 0; y < w->height; y++)
                if (memcmp(part.image.pixels + 3 * ((y0 + y) * part.image.width + x0),
                           whole.pixels + 3 * ((w->y + y) * WIDE + w->x), (size_t)(3 * w->width)) != 0)
                    fail_msg("coding %zu, window %zu, row %d differ", k, i, y);
        }
        vg_image_release(&whole);
        free(bytes);
    }
    vg_image_release(&part.image);
}

/* At 1/2 the window has half the pixels, between them where it starts at an odd one; a constant picture stays so. */
static void a_jpeg_is_decoded_smaller_where_that_serves(void **state)
{
    (void)state;
    unsigned long n;
    unsigned char *bytes = coded(&codings[2], &n);
    vg_decoded part = {0};
    const struct {
        double least;
        int by;
    } cases[] = {{0, 1}, {61, 1}, {50, 1}, {30.5, 2}, {30, 2}, {16, 2}, {15.25, 4}, {7.6, 8}, {1, 8}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const vg_decode how = {.window = {33, 47, 100, 61}, .least_pixels = cases[k].least};
        assert_int_equal(vg_image_decode_part(bytes, n, &how, &part), VG_OK);
        const double by = cases[k].by;
        assert_true(part.window.width == 100 / by && part.window.height == 61 / by);
        assert_true(part.window.y == 47 / by - floor(47 / by));
        assert_true(part.window.x + part.window.width <= part.image.width);
        assert_true(part.window.y + part.window.height <= part.image.height);
        assert_true(part.image.height <= 61 / by + 2);
    }
    const vg_decode odd = {.least_pixels = 60}; /* 173 x 131 at 1/2 are 86.5 x 65.5 pixels in 87 x 66 */
    assert_int_equal(vg_image_decode_part(bytes, n, &odd, &part), VG_OK);
    assert_true(part.window.width == 86.5 && part.window.height == 65.5);
    assert_int_equal(part.image.width, 87);
    assert_int_equal(part.image.height, 66);
    const vg_decode other = {.width = WIDE, .height = HIGH + 1};
    assert_int_equal(vg_image_decode_part(bytes, n, &other, &part), VG_E_DATA);
    assert_non_null(strstr(vg_error_text(), "its record says 173 x 132"));
    vg_image_release(&part.image);
    free(bytes);
}

/* Planes of a window hold the samples that those of the whole picture have there. */
static void planes_of_a_part_are_those_of_the_whole(void **state)
{
    (void)state;
    vg_decoded part = {0}, whole = {0};
    for (size_t k = 0; k < sizeof codings / sizeof *codings; k++)
        for (int least = 0; least < 40; least += 13) {
            unsigned long n;
            unsigned char *bytes = coded(&codings[k], &n);
            const vg_decode all = {.planes = true};
            assert_int_equal(vg_image_decode_part(bytes, n, &all, &whole), VG_OK);
            assert_int_equal(whole.n_planes, codings[k].inks ? 0 : codings[k].grey ? 1 : 3);
            for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
                const vg_window *w = &windows[i];
                const vg_decode how = {.window = *w, .planes = true, .least_pixels = least};
                assert_int_equal(vg_image_decode_part(bytes, n, &how, &part), VG_OK);
                assert_int_equal(part.n_planes, whole.n_planes);
                for (int c = 0; c < part.n_planes; c++) {
                    const vg_plane *p = &part.planes[c], *q = &whole.planes[c];
                    assert_true(p->window.x >= 0 && p->window.x + p->window.width <= p->width);
                    assert_true(p->window.y >= 0 && p->window.y + p->window.height <= p->height);
                    if (p->width != q->width) continue; /* decoded smaller */
                    const int above = (int)(w->y * (q->window.height / HIGH) - p->window.y);
                    for (int y = 0; y < p->height; y++)
                        assert_memory_equal(p->samples + (size_t)y * p->stride,
                                            q->samples + (size_t)(y + above) * q->stride, (size_t)p->width);
                }
            }
            free(bytes);
        }
    vg_image_release(&part.image);
    vg_image_release(&whole.image);
}

static double mean_difference(const uint8_t *a, const uint8_t *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += abs(a[i] - b[i]);
    return sum / n;
}

/* A picture without colour to the bit; with a colour for each pixel but for rounding; the test picture's colours change
 * from pixel to pixel, so that with one for several pixels there is more between the two. */
static void stretched_planes_are_the_stretched_picture(void **state)
{
    (void)state;
    enum { SIDE = 48 };
    static uint8_t by_planes[3 * SIDE * SIDE], by_pixels[3 * SIDE * SIDE];
    uint64_t sums[3];
    vg_decoded planes = {0}, pixels = {0};
    vg_resize_scratch scratch = {0};
    for (size_t k = 0; k < sizeof codings / sizeof *codings; k++)
        for (int mirrored = 0; mirrored < 2; mirrored++) {
            unsigned long n;
            unsigned char *bytes = coded(&codings[k], &n);
            const coding *c = &codings[k];
            const vg_decode one = {.window = {33, 16, 121, 100}, .planes = true},
                            other = {.window = {33, 16, 121, 100}};
            assert_int_equal(vg_image_decode_part(bytes, n, &one, &planes), VG_OK);
            assert_int_equal(vg_image_decode_part(bytes, n, &other, &pixels), VG_OK);
            assert_int_equal(vg_decoded_stretch(&planes, mirrored, SIDE, SIDE, by_planes, &scratch, sums), VG_OK);
            assert_int_equal(vg_decoded_stretch(&pixels, mirrored, SIDE, SIDE, by_pixels, &scratch, sums), VG_OK);
            const double most = c->grey || c->inks ? 0 : c->across * c->down == 1 ? 4 : 10;
            const double off = mean_difference(by_planes, by_pixels, sizeof by_planes);
            if (off > most) fail_msg("coding %zu is off by %g, at most %g is expected", k, off, most);
            free(bytes);
        }
    vg_image_release(&planes.image);
    vg_image_release(&pixels.image);
    free(scratch.data);
}

/* Where colours change slowly all ways of storing them are near; a colour that lies a sample beside its place is not.
 */
static void stretched_planes_of_a_calm_picture_are_near(void **state)
{
    (void)state;
    enum { SIDE = 48 };
    static uint8_t by_planes[3 * SIDE * SIDE], by_pixels[3 * SIDE * SIDE];
    uint64_t sums[3];
    const coding calm[] = {{.across = 1, .down = 1, .calm = true}, {.across = 2, .down = 2, .calm = true}};
    const vg_decode how = {.window = {33, 16, 121, 100}, .planes = true}, plain = {.window = {33, 16, 121, 100}};
    vg_decoded planes = {0}, pixels = {0};
    vg_resize_scratch scratch = {0};
    for (size_t k = 0; k < sizeof calm / sizeof *calm; k++)
        for (int beside = 0; beside < 2; beside++) {
            unsigned long n;
            unsigned char *bytes = coded(&calm[k], &n);
            assert_int_equal(vg_image_decode_part(bytes, n, &how, &planes), VG_OK);
            assert_int_equal(vg_image_decode_part(bytes, n, &plain, &pixels), VG_OK);
            for (int c = 1; c < planes.n_planes; c++) planes.planes[c].window.x += beside;
            assert_int_equal(vg_decoded_stretch(&planes, false, SIDE, SIDE, by_planes, &scratch, sums), VG_OK);
            assert_int_equal(vg_decoded_stretch(&pixels, false, SIDE, SIDE, by_pixels, &scratch, sums), VG_OK);
            const double off = mean_difference(by_planes, by_pixels, sizeof by_planes), most = 1.5;
            if ((off > most) != (beside == 1))
                fail_msg("coding %zu, %d beside, is off by %g; %g", k, beside, off, most);
            free(bytes);
        }
    planes.planes[0].window.x = -1;
    assert_int_equal(vg_decoded_stretch(&planes, false, SIDE, SIDE, by_planes, &scratch, sums), VG_E_BUG);
    vg_image_release(&planes.image);
    vg_image_release(&pixels.image);
    free(scratch.data);
}

/* turned.jpg with each orientation, in either byte order, and cut anywhere. */
static void an_orientation_is_seen(void **state)
{
    static const char *const upright[] = {"rgb.jpg", "grey.jpg", "cmyk.jpg", "rgb.png"};
    char *bytes = NULL;
    size_t n = 0;
    (void)state;
    for (size_t i = 0; i < sizeof upright / sizeof *upright; i++) {
        char path[512];
        snprintf(path, sizeof path, FIXTURES "/images/%s", upright[i]);
        assert_int_equal(vg_file_read(path, 1 << 20, &bytes, &n), VG_OK);
        assert_false(vg_image_is_turned((unsigned char *)bytes, n));
        free(bytes);
    }
    assert_int_equal(vg_file_read(FIXTURES "/images/turned.jpg", 1 << 20, &bytes, &n), VG_OK);
    unsigned char *picture = (unsigned char *)bytes, *tiff = NULL;
    for (size_t i = 0; i + 6 < n && !tiff; i++)
        if (memcmp(picture + i, "Exif\0", 6) == 0) tiff = picture + i + 6;
    assert_non_null(tiff);
    for (int little = 0; little < 2; little++)
        for (int orientation = 0; orientation < 10; orientation++) { /* a directory of one entry, at 8 */
            const unsigned char big[] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0},
                                small[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0};
            memcpy(tiff, little ? small : big, sizeof big);
            tiff[little ? 18 : 19] = (unsigned char)orientation;
            assert_int_equal(vg_image_is_turned(picture, n), orientation >= 2 && orientation <= 8);
        }
    tiff[18] = 6; /* little, as it was left */
    assert_true(vg_image_is_turned(picture, n));
    for (size_t cut = 0; cut < (size_t)(tiff + 20 - picture); cut++) {
        unsigned char *part = malloc(cut + 1); /* of its own, so that a sanitizer sees its end */
        assert_non_null(part);
        memcpy(part, picture, cut);
        assert_false(vg_image_is_turned(part, cut));
        free(part);
    }
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
        cmocka_unit_test_setup_teardown(a_png_comes_back_as_it_went, scratch_make, scratch_remove),
        cmocka_unit_test(a_jpeg_comes_back_nearly_as_it_went),
        cmocka_unit_test(a_picture_cut_anywhere_is_refused),
        cmocka_unit_test(a_cut_jpeg_is_accepted_where_that_is_asked_for),
        cmocka_unit_test(a_changed_byte_does_no_harm),
        cmocka_unit_test(too_many_pixels_are_refused_before_memory_is_taken),
        cmocka_unit_test(a_jpeg_with_endless_scans_is_refused),
        cmocka_unit_test(a_part_of_a_jpeg_has_the_pixels_of_the_whole),
        cmocka_unit_test(a_jpeg_is_decoded_smaller_where_that_serves),
        cmocka_unit_test(planes_of_a_part_are_those_of_the_whole),
        cmocka_unit_test(stretched_planes_are_the_stretched_picture),
        cmocka_unit_test(stretched_planes_of_a_calm_picture_are_near),
        cmocka_unit_test(an_orientation_is_seen),
        cmocka_unit_test(other_files_are_named_as_such),
    };
    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
