/* Pictures in and out: their kinds, PNG by libpng, and files. Bytes are not trusted. */
#include "data/image_impl.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

enum { MAX_PIXELS = 1 << 28, MAX_FILE_BYTES = 1 << 30 };

void vg_image_release(vg_image *image)
{
    free(image->pixels);
    *image = (vg_image){0};
}

vg_status vg_decode_check(const vg_decode *how, uint64_t width, uint64_t height)
{
    const uint64_t said_width = (uint64_t)how->width, said_height = (uint64_t)how->height;
    VG_CHECK(!how->width || (width == said_width && height == said_height), VG_E_DATA,
             "the picture is %llu x %llu pixels and its record says %d x %d%s", (unsigned long long)width,
             (unsigned long long)height, how->width, how->height,
             width == said_height && height == said_width
                 ? ", as viewers show it where its EXIF orientation turns it; turn the picture itself"
                 : "");
    return VG_OK;
}

vg_status vg_pixels_check(uint64_t width, uint64_t height)
{
    VG_CHECK(width > 0 && height > 0 && width <= MAX_PIXELS && width * height <= MAX_PIXELS, VG_E_DATA,
             "the image says it has %llu x %llu pixels; between 1 and 2^28 can be read", (unsigned long long)width,
             (unsigned long long)height);
    return VG_OK;
}

vg_status vg_decoded_fit(vg_decoded *out, uint64_t width, uint64_t height)
{
    VG_TRY(vg_pixels_check(width, height));
    VG_TRY(vg_grow(&out->image.pixels, &out->capacity, (size_t)(3 * width * height), 1));
    out->image.width = (int)width;
    out->image.height = (int)height;
    return VG_OK;
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

static vg_status png_read(png_codec *c, const vg_decode *how, vg_decoded *out)
{
    vg_image *image = &out->image;
    if (setjmp(c->leave)) return vg_fail(VG_E_DATA, "broken PNG: %s", c->text);
    c->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, c, png_leave, png_quiet);
    VG_CHECK(c->png, VG_E_NOMEM, "no memory for a PNG reader");
    c->info = png_create_info_struct(c->png);
    VG_CHECK(c->info, VG_E_NOMEM, "no memory for a PNG reader");
    png_set_read_fn(c->png, c, png_pull);
    png_set_user_limits(c->png, MAX_PIXELS, MAX_PIXELS);
    png_set_keep_unknown_chunks(c->png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_read_info(c->png, c->info);
    VG_TRY(vg_decode_check(how, png_get_image_width(c->png, c->info), png_get_image_height(c->png, c->info)));
    VG_TRY(vg_decoded_fit(out, png_get_image_width(c->png, c->info), png_get_image_height(c->png, c->info)));
    png_ask_for_rgb(c);
    if (png_get_rowbytes(c->png, c->info) != (size_t)image->width * 3) png_error(c->png, "an unknown pixel type");
    VG_TRY(png_row_pointers(c, image));
    png_read_image(c->png, c->rows);
    png_read_end(c->png, NULL);
    return VG_OK;
}

/* The whole picture: its rows build on each other. */
static vg_status png_decode(const unsigned char *bytes, size_t n, const vg_decode *how, vg_decoded *out)
{
    png_codec *c = vg_new0(sizeof *c);
    VG_CHECK(c, VG_E_NOMEM, "no memory for a PNG reader");
    c->in = bytes;
    c->n_in = n;
    const vg_status st = png_read(c, how, out);
    png_destroy_read_struct(&c->png, &c->info, NULL);
    free(c->rows);
    free(c);
    const vg_window *w = &how->window;
    out->window = w->width ? (vg_stretch){w->x, w->y, w->width, w->height, false}
                           : (vg_stretch){.width = out->image.width, .height = out->image.height};
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

vg_status vg_image_decode_part(const unsigned char *bytes, size_t n, const vg_decode *how, vg_decoded *out)
{
    out->n_planes = 0;
    if (n >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff) return vg_jpeg_decode(bytes, n, how, out);
    if (n >= 8 && png_sig_cmp(bytes, 0, 8) == 0) return png_decode(bytes, n, how, out);
    return vg_fail(VG_E_DATA, "neither a JPEG nor a PNG (%zu bytes); convert the picture to one of them", n);
}

vg_status vg_image_decode(const unsigned char *bytes, size_t n, bool partial_ok, vg_image *out)
{
    const vg_decode how = {.partial_ok = partial_ok};
    vg_decoded decoded = {0};
    const vg_status st = vg_image_decode_part(bytes, n, &how, &decoded);
    if (st != VG_OK)
        vg_image_release(&decoded.image);
    else
        *out = decoded.image;
    return st;
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
