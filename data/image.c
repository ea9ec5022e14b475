/* Pictures in and out: JPEG by libjpeg(-turbo), PNG by libpng, both from memory, neither trusted. The slow, exact DCT
 * is used both ways: its bits are the same with and without SIMD. */
#include "data/draw.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

enum { MAX_PIXELS = 1 << 28, MAX_FILE_BYTES = 1 << 30, MAX_JPEG_SCANS = 500 };

void vg_image_release(vg_image *image)
{
    free(image->pixels);
    *image = (vg_image){0};
}

static vg_status image_alloc(vg_image *image, uint64_t width, uint64_t height)
{
    VG_CHECK(width > 0 && height > 0 && width <= MAX_PIXELS && width * height <= MAX_PIXELS, VG_E_DATA,
             "the image says it has %llu x %llu pixels; between 1 and 2^28 can be read", (unsigned long long)width,
             (unsigned long long)height);
    image->pixels = vg_new0_array((size_t)(width * height), 3);
    VG_CHECK(image->pixels, VG_E_NOMEM, "no memory for an image of %llu x %llu pixels", (unsigned long long)width,
             (unsigned long long)height);
    image->width = (int)width;
    image->height = (int)height;
    return VG_OK;
}

/* ---- JPEG ---- */

/* libjpeg calls back with a pointer to its error manager, which is the first member here. */
typedef struct jpeg_errors {
    struct jpeg_error_mgr manager;
    jmp_buf leave;
    bool partial_ok;
    char text[JMSG_LENGTH_MAX];
} jpeg_errors;

static void jpeg_leave(j_common_ptr info)
{
    jpeg_errors *errors = (jpeg_errors *)info->err;
    info->err->format_message(info, errors->text);
    longjmp(errors->leave, 1);
}

/* Warnings have level -1. Stray bytes between markers lose nothing; missing or damaged data do. */
static void jpeg_message(j_common_ptr info, int level)
{
    const jpeg_errors *errors = (const jpeg_errors *)info->err;
    const int code = info->err->msg_code;
    const bool harmless = code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM;
    if (level < 0 && !harmless && !errors->partial_ok) jpeg_leave(info);
}

/* A few hundred bytes can ask for millions of passes over a large progressive picture. */
static void jpeg_progress(j_common_ptr info)
{
    if (((j_decompress_ptr)info)->input_scan_number <= MAX_JPEG_SCANS) return;
    jpeg_errors *errors = (jpeg_errors *)info->err;
    snprintf(errors->text, sizeof errors->text, "more than %d scans", MAX_JPEG_SCANS);
    longjmp(errors->leave, 1);
}

static void jpeg_errors_init(jpeg_errors *errors, bool partial_ok)
{
    jpeg_std_error(&errors->manager);
    errors->manager.error_exit = jpeg_leave;
    errors->manager.emit_message = jpeg_message;
    errors->partial_ok = partial_ok;
}

/* Four inks to RGB in place: `from` is C M Y K, where Adobe stores 255 - ink. */
static void cmyk_to_rgb(const unsigned char *from, uint8_t *to, int width, bool inverted)
{
    const int flip = inverted ? 0 : 255;
    for (int x = 0; x < width; x++)
        for (int c = 0; c < 3; c++)
            to[3 * x + c] = (uint8_t)(((from[4 * x + c] ^ flip) * (from[4 * x + 3] ^ flip) + 127) / 255);
}

typedef struct jpeg_reader {
    struct jpeg_decompress_struct info;
    struct jpeg_progress_mgr progress;
    jpeg_errors errors;
    unsigned char *inks; /* one row of a four-ink picture */
} jpeg_reader;

/* Everything that may longjmp back lives behind `r` and `image`, so no local is clobbered. */
static vg_status jpeg_read(jpeg_reader *r, const unsigned char *bytes, size_t n, vg_image *image)
{
    if (setjmp(r->errors.leave)) return vg_fail(VG_E_DATA, "broken JPEG: %s", r->errors.text);
    jpeg_create_decompress(&r->info);
    r->progress.progress_monitor = jpeg_progress;
    r->info.progress = &r->progress;
    jpeg_mem_src(&r->info, bytes, (unsigned long)n);
    jpeg_read_header(&r->info, TRUE);
    const bool four_inks = r->info.num_components == 4;
    r->info.out_color_space = four_inks ? JCS_CMYK : JCS_RGB;
    r->info.dct_method = JDCT_ISLOW;
    VG_TRY(image_alloc(image, r->info.image_width, r->info.image_height));
    if (four_inks) r->inks = vg_new0_array((size_t)image->width, 4);
    VG_CHECK(!four_inks || r->inks, VG_E_NOMEM, "no memory for a row of a JPEG");
    jpeg_start_decompress(&r->info);
    while (r->info.output_scanline < r->info.output_height) {
        uint8_t *row = image->pixels + (size_t)r->info.output_scanline * (size_t)image->width * 3;
        JSAMPROW target = four_inks ? r->inks : row;
        jpeg_read_scanlines(&r->info, &target, 1);
        if (four_inks) cmyk_to_rgb(r->inks, row, image->width, r->info.saw_Adobe_marker);
    }
    jpeg_finish_decompress(&r->info);
    return VG_OK;
}

static vg_status jpeg_decode(const unsigned char *bytes, size_t n, bool partial_ok, vg_image *out)
{
    jpeg_reader *r = vg_new0(sizeof *r);
    VG_CHECK(r, VG_E_NOMEM, "no memory for a JPEG reader");
    jpeg_errors_init(&r->errors, partial_ok);
    r->info.err = &r->errors.manager;
    vg_image image = {0};
    const vg_status st = jpeg_read(r, bytes, n, &image);
    jpeg_destroy_decompress(&r->info);
    free(r->inks);
    free(r);
    if (st != VG_OK)
        vg_image_release(&image);
    else
        *out = image;
    return st;
}

typedef struct jpeg_writer {
    struct jpeg_compress_struct info;
    jpeg_errors errors;
    unsigned char *bytes;
    unsigned long n;
} jpeg_writer;

static vg_status jpeg_write(jpeg_writer *w, const vg_image *image, int quality)
{
    if (setjmp(w->errors.leave)) return vg_fail(VG_E_NOMEM, "JPEG encoder: %s", w->errors.text);
    jpeg_create_compress(&w->info);
    jpeg_mem_dest(&w->info, &w->bytes, &w->n);
    w->info.image_width = (JDIMENSION)image->width;
    w->info.image_height = (JDIMENSION)image->height;
    w->info.input_components = 3;
    w->info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&w->info);
    jpeg_set_quality(&w->info, quality, TRUE);
    w->info.dct_method = JDCT_ISLOW;
    jpeg_start_compress(&w->info, TRUE);
    while (w->info.next_scanline < w->info.image_height) {
        JSAMPROW row = image->pixels + (size_t)w->info.next_scanline * (size_t)image->width * 3;
        jpeg_write_scanlines(&w->info, &row, 1);
    }
    jpeg_finish_compress(&w->info);
    return VG_OK;
}

vg_status vg_image_encode_jpeg(const vg_image *image, int quality, unsigned char **bytes, size_t *n)
{
    jpeg_writer *w = vg_new0(sizeof *w);
    VG_CHECK(w, VG_E_NOMEM, "no memory for a JPEG writer");
    jpeg_errors_init(&w->errors, false);
    w->info.err = &w->errors.manager;
    const vg_status st = jpeg_write(w, image, quality);
    jpeg_destroy_compress(&w->info);
    if (st == VG_OK) {
        *bytes = w->bytes;
        *n = w->n;
    } else {
        free(w->bytes);
    }
    free(w);
    return st;
}

/* ---- PNG ---- */

typedef struct png_codec {
    jmp_buf leave;
    png_structp png;
    png_infop info;
    const unsigned char *in; /* reading */
    size_t n_in;
    vg_text out; /* writing */
    png_bytep *rows;
    char text[256];
} png_codec;

static void png_leave(png_structp png, png_const_charp message)
{
    png_codec *c = png_get_error_ptr(png);
    snprintf(c->text, sizeof c->text, "%s", message);
    longjmp(c->leave, 1);
}

static void png_quiet(png_structp png, png_const_charp message)
{
    (void)png, (void)message;
}

static void png_pull(png_structp png, png_bytep to, size_t n)
{
    png_codec *c = png_get_io_ptr(png);
    if (n > c->n_in) png_error(png, "the file ends too early");
    memcpy(to, c->in, n);
    c->in += n;
    c->n_in -= n;
}

static void png_push(png_structp png, png_bytep from, size_t n)
{
    png_codec *c = png_get_io_ptr(png);
    if (vg_text_add_bytes(&c->out, from, n) != VG_OK) png_error(png, "no memory");
}

static void png_nothing_to_flush(png_structp png)
{
    (void)png;
}

static vg_status png_row_pointers(png_codec *c, const vg_image *image)
{
    c->rows = vg_new0_array((size_t)image->height, sizeof *c->rows);
    VG_CHECK(c->rows, VG_E_NOMEM, "no memory for the rows of a PNG");
    for (int y = 0; y < image->height; y++) c->rows[y] = image->pixels + (size_t)y * (size_t)image->width * 3;
    return VG_OK;
}

/* Grey, palette, 16 bits and alpha all become 8-bit RGB; stored gamma is left alone, as everyone does. */
static void png_ask_for_rgb(png_codec *c)
{
    png_set_expand(c->png);
    png_set_scale_16(c->png);
    png_set_gray_to_rgb(c->png);
    png_set_strip_alpha(c->png);
    png_set_interlace_handling(c->png);
    png_read_update_info(c->png, c->info);
}

static vg_status png_read(png_codec *c, vg_image *image)
{
    if (setjmp(c->leave)) return vg_fail(VG_E_DATA, "broken PNG: %s", c->text);
    c->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, c, png_leave, png_quiet);
    VG_CHECK(c->png, VG_E_NOMEM, "no memory for a PNG reader");
    c->info = png_create_info_struct(c->png);
    VG_CHECK(c->info, VG_E_NOMEM, "no memory for a PNG reader");
    png_set_read_fn(c->png, c, png_pull);
    png_set_user_limits(c->png, MAX_PIXELS, MAX_PIXELS);
    png_set_keep_unknown_chunks(c->png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_read_info(c->png, c->info);
    VG_TRY(image_alloc(image, png_get_image_width(c->png, c->info), png_get_image_height(c->png, c->info)));
    png_ask_for_rgb(c);
    if (png_get_rowbytes(c->png, c->info) != (size_t)image->width * 3) png_error(c->png, "an unknown pixel type");
    VG_TRY(png_row_pointers(c, image));
    png_read_image(c->png, c->rows);
    png_read_end(c->png, NULL);
    return VG_OK;
}

static vg_status png_decode(const unsigned char *bytes, size_t n, vg_image *out)
{
    png_codec *c = vg_new0(sizeof *c);
    VG_CHECK(c, VG_E_NOMEM, "no memory for a PNG reader");
    c->in = bytes;
    c->n_in = n;
    vg_image image = {0};
    const vg_status st = png_read(c, &image);
    png_destroy_read_struct(&c->png, &c->info, NULL);
    free(c->rows);
    free(c);
    if (st != VG_OK)
        vg_image_release(&image);
    else
        *out = image;
    return st;
}

static vg_status png_write(png_codec *c, const vg_image *image)
{
    if (setjmp(c->leave)) return vg_fail(VG_E_NOMEM, "PNG encoder: %s", c->text);
    c->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, c, png_leave, png_quiet);
    VG_CHECK(c->png, VG_E_NOMEM, "no memory for a PNG writer");
    c->info = png_create_info_struct(c->png);
    VG_CHECK(c->info, VG_E_NOMEM, "no memory for a PNG writer");
    png_set_write_fn(c->png, c, png_push, png_nothing_to_flush);
    png_set_IHDR(c->png, c->info, (png_uint_32)image->width, (png_uint_32)image->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    VG_TRY(png_row_pointers(c, image));
    png_set_rows(c->png, c->info, c->rows);
    png_write_png(c->png, c->info, PNG_TRANSFORM_IDENTITY, NULL);
    return VG_OK;
}

vg_status vg_image_encode_png(const vg_image *image, unsigned char **bytes, size_t *n)
{
    png_codec *c = vg_new0(sizeof *c);
    VG_CHECK(c, VG_E_NOMEM, "no memory for a PNG writer");
    const vg_status st = png_write(c, image);
    png_destroy_write_struct(&c->png, &c->info);
    if (st == VG_OK) {
        *bytes = (unsigned char *)c->out.data;
        *n = c->out.length;
    } else {
        free(c->out.data);
    }
    free(c->rows);
    free(c);
    return st;
}

/* ---- files and kinds ---- */

vg_status vg_image_decode(const unsigned char *bytes, size_t n, bool partial_ok, vg_image *out)
{
    if (n >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff)
        return jpeg_decode(bytes, n, partial_ok, out);
    if (n >= 8 && png_sig_cmp(bytes, 0, 8) == 0) return png_decode(bytes, n, out);
    return vg_fail(VG_E_DATA, "neither a JPEG nor a PNG (%zu bytes); convert the picture to one of them", n);
}

vg_status vg_image_read(const char *path, vg_image *out)
{
    char *bytes = NULL;
    size_t n = 0;
    VG_TRY(vg_file_read(path, MAX_FILE_BYTES, &bytes, &n));
    const vg_status st = vg_image_decode((const unsigned char *)bytes, n, false, out);
    free(bytes);
    return st == VG_OK ? st : vg_fail_at(st, "%s", path);
}

vg_status vg_image_write_png(const char *path, const vg_image *image)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    VG_TRY(vg_image_encode_png(image, &bytes, &n));
    const vg_status st = vg_file_write_atomic(path, bytes, n);
    free(bytes);
    return st;
}
