/* JPEG in and out by libjpeg(-turbo), from memory, not trusted. The slow, exact DCT is used both ways, at full size and
 * at halves of it: its bits are the same with and without SIMD. */
#include "data/jpeg_impl.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>

enum { MAX_JPEG_SCANS = 500, MAX_JPEG_BYTES = 1 << 29 };

/* ---- errors ---- */

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

/* ---- reading ---- */

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
    const vg_decode *how;
    unsigned char *inks; /* one row of a four-ink picture */
} jpeg_reader;

/* The window in the pixels that come out at this scale: the part asked for, and the whole pixels that hold it. */
typedef struct scaled {
    double x, y, width, height;
    JDIMENSION left, top, right, bottom;
} scaled;

static JDIMENSION to_dimension(double x, JDIMENSION most)
{
    return x < most ? (JDIMENSION)x : most;
}

/* In pixels of the stored picture. */
static vg_window wanted_window(const jpeg_reader *r)
{
    const vg_window all = {.width = (int)r->info.image_width, .height = (int)r->info.image_height};
    return r->how->window.width ? r->how->window : all;
}

static scaled scaled_window(const jpeg_reader *r)
{
    const struct jpeg_decompress_struct *info = &r->info;
    const vg_window w = wanted_window(r);
    const double by = info->scale_denom;
    scaled s = {.x = w.x / by, .y = w.y / by, .width = w.width / by, .height = w.height / by};
    s.left = (JDIMENSION)s.x;
    s.top = (JDIMENSION)s.y;
    s.right = to_dimension(ceil(s.x + s.width), info->output_width);
    s.bottom = to_dimension(ceil(s.y + s.height), info->output_height);
    return s;
}

/* The library has fast transforms for halves of a block, and those serve. */
static unsigned denominator(const vg_decode *how, const struct jpeg_decompress_struct *info)
{
    const double width = how->window.width ? how->window.width : (double)info->image_width;
    const double height = how->window.width ? how->window.height : (double)info->image_height;
    for (unsigned by = 8; by > 1; by /= 2)
        if (how->least_pixels > 0 && fmin(width, height) >= how->least_pixels * by) return by;
    return 1;
}

/* Narrows rows to the window and a pixel or two beside it, which colour between blocks needs; tells where rows begin.
 */
static JDIMENSION crop_rows(struct jpeg_decompress_struct *info, const scaled *s)
{
    enum { BESIDE = 2 };
    JDIMENSION first = s->left > BESIDE ? s->left - BESIDE : 0;
    JDIMENSION width = to_dimension((double)s->right + BESIDE, info->output_width) - first;
    if (width < info->output_width) jpeg_crop_scanline(info, &first, &width);
    return first;
}

static void read_row(jpeg_reader *r, uint8_t *row)
{
    JSAMPROW target = r->inks ? r->inks : row;
    jpeg_read_scanlines(&r->info, &target, 1);
    if (r->inks) cmyk_to_rgb(r->inks, row, (int)r->info.output_width, r->info.saw_Adobe_marker);
}

static vg_status read_window(jpeg_reader *r, const scaled *s, vg_decoded *out)
{
    struct jpeg_decompress_struct *info = &r->info;
    const JDIMENSION first = crop_rows(info, s);
    VG_TRY(vg_decoded_fit(out, info->output_width, s->bottom - s->top));
    if (info->out_color_space == JCS_CMYK) r->inks = vg_new0_array(info->output_width, 4);
    VG_CHECK(info->out_color_space != JCS_CMYK || r->inks, VG_E_NOMEM, "no memory for a row of a JPEG");
    if (s->top > 0) jpeg_skip_scanlines(info, s->top);
    for (JDIMENSION y = s->top; y < s->bottom; y++)
        read_row(r, out->image.pixels + (size_t)(y - s->top) * (size_t)info->output_width * 3);
    out->window = (vg_stretch){s->x - first, s->y - s->top, s->width, s->height, false};
    return VG_OK;
}

/* Everything that may longjmp back lives behind `r` and `out`, so no local is clobbered. */
static vg_status jpeg_read(jpeg_reader *r, const unsigned char *bytes, size_t n, vg_decoded *out)
{
    if (setjmp(r->errors.leave)) return vg_fail(VG_E_DATA, "broken JPEG: %s", r->errors.text);
    jpeg_create_decompress(&r->info);
    r->info.mem->max_memory_to_use = MAX_JPEG_BYTES; /* a progressive picture is held whole, and may claim any size */
    r->progress.progress_monitor = jpeg_progress;
    r->info.progress = &r->progress;
    jpeg_mem_src(&r->info, bytes, (unsigned long)n);
    jpeg_read_header(&r->info, TRUE);
    r->info.raw_data_out = r->how->planes && vg_jpeg_has_planes(&r->info);
    if (!r->info.raw_data_out) r->info.out_color_space = r->info.num_components == 4 ? JCS_CMYK : JCS_RGB;
    r->info.dct_method = JDCT_ISLOW;
    VG_TRY(vg_decode_check(r->how, r->info.image_width, r->info.image_height));
    r->info.scale_num = 1;
    r->info.scale_denom = denominator(r->how, &r->info);
    jpeg_start_decompress(&r->info);
    const scaled s = scaled_window(r);
    VG_CHECK(s.left < s.right && s.top < s.bottom, VG_E_BUG, "the window of a picture lies outside it");
    const vg_window w = wanted_window(r);
    VG_TRY(r->info.raw_data_out ? vg_jpeg_read_planes(&r->info, &w, s.top, s.bottom, out) : read_window(r, &s, out));
    if (s.bottom == r->info.output_height) jpeg_finish_decompress(&r->info);
    return VG_OK;
}

vg_status vg_jpeg_decode(const unsigned char *bytes, size_t n, const vg_decode *how, vg_decoded *out)
{
    jpeg_reader *r = vg_new0(sizeof *r);
    VG_CHECK(r, VG_E_NOMEM, "no memory for a JPEG reader");
    jpeg_errors_init(&r->errors, how->partial_ok);
    r->info.err = &r->errors.manager;
    r->how = how;
    const vg_status st = jpeg_read(r, bytes, n, out);
    jpeg_destroy_decompress(&r->info);
    free(r->inks);
    free(r);
    return st;
}

/* ---- writing ---- */

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
