/* Boxes, labels and galleries, by cairo. Labels are phrases and phrases are not trusted: what is not UTF-8 is replaced
 * before cairo sees it, and a text that is too long is cut. */
#include "data/draw.h"

#include "data/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cairo.h>

enum { MAX_CANVAS_SIDE = 32767, LABEL_BYTES = 512, CAPTION_LINES = 3, CAPTION_FONT = 13, MARGIN = 8 };

static const char *const font = "DejaVu Sans", *const ellipsis = "\u2026";

/* ---- the canvas ---- */

typedef struct canvas {
    cairo_surface_t *surface;
    cairo_t *cairo;
} canvas;

static void canvas_release(canvas *c)
{
    cairo_destroy(c->cairo);
    cairo_surface_destroy(c->surface);
}

static vg_status canvas_init(canvas *c, int width, int height)
{
    c->surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
    c->cairo = cairo_create(c->surface);
    if (cairo_status(c->cairo) == CAIRO_STATUS_SUCCESS) {
        cairo_select_font_face(c->cairo, font, CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
        return VG_OK;
    }
    const char *why = cairo_status_to_string(cairo_status(c->cairo));
    canvas_release(c);
    return vg_fail(VG_E_NOMEM, "no canvas of %d x %d pixels: %s", width, height, why);
}

/* A row of the canvas: 0x00RRGGBB. */
static uint32_t *canvas_row(const canvas *c, int y)
{
    unsigned char *data = cairo_image_surface_get_data(c->surface);
    return (uint32_t *)(void *)(data + (size_t)y * (size_t)cairo_image_surface_get_stride(c->surface));
}

/* Puts an image with its left upper corner at (left, top); all of it lies on the canvas. */
static void canvas_put(canvas *c, const uint8_t *pixels, int width, int height, int left, int top)
{
    cairo_surface_flush(c->surface);
    for (int y = 0; y < height; y++) {
        uint32_t *row = canvas_row(c, top + y) + left;
        const uint8_t *from = pixels + 3 * (size_t)y * (size_t)width;
        for (int x = 0; x < width; x++)
            row[x] = (uint32_t)from[3 * x] << 16 | (uint32_t)from[3 * x + 1] << 8 | from[3 * x + 2];
    }
    cairo_surface_mark_dirty(c->surface);
}

static void canvas_get(const canvas *c, uint8_t *pixels, int width, int height)
{
    cairo_surface_flush(c->surface);
    for (int y = 0; y < height; y++) {
        const uint32_t *row = canvas_row(c, y);
        uint8_t *to = pixels + 3 * (size_t)y * (size_t)width;
        for (int x = 0; x < width; x++)
            for (int k = 0; k < 3; k++) to[3 * x + k] = (uint8_t)(row[x] >> (16 - 8 * k));
    }
}

static vg_status canvas_check(const canvas *c)
{
    const cairo_status_t st = cairo_status(c->cairo);
    VG_CHECK(st == CAIRO_STATUS_SUCCESS, VG_E_NOMEM, "drawing failed: %s", cairo_status_to_string(st));
    return VG_OK;
}

static void set_colour(cairo_t *cr, uint32_t rgb)
{
    cairo_set_source_rgb(cr, (rgb >> 16 & 255) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0);
}

/* ---- text ---- */

/* Bytes of the UTF-8 character at c, 0 where there is none. Nothing behind the text's end is read: it ends a character
 * that was begun. */
static size_t character_bytes(const char *c)
{
    for (size_t n = 1; n <= 4; n++)
        if (vg_utf8_valid(c, n)) return n;
    return 0;
}

/* A copy that cairo accepts: bytes that are not UTF-8 become '?', control characters but line feeds become blanks. */
static void clean_text(const char *text, char out[LABEL_BYTES])
{
    size_t used = 0;
    for (const char *c = text; *c && used + 4 < LABEL_BYTES;) {
        const size_t n = character_bytes(c);
        if (n == 0)
            out[used++] = '?';
        else if (n == 1 && ((unsigned char)*c < 32 || *c == 127))
            out[used++] = *c == '\n' ? '\n' : ' ';
        else
            for (size_t i = 0; i < n; i++) out[used++] = c[i];
        c += n ? n : 1;
    }
    out[used] = '\0';
}

static void join_lines(char *text)
{
    for (; *text; text++)
        if (*text == '\n') *text = ' ';
}

static double text_width(cairo_t *cr, const char *text)
{
    cairo_text_extents_t extents;
    cairo_text_extents(cr, text, &extents);
    return extents.x_advance;
}

/* Shortens a clean text, with an ellipsis at its end, until it is at most `width` wide. The ellipsis has three bytes,
 * for which every buffer here has room, as characters are dropped first. */
static void fit_text(cairo_t *cr, char *text, double width)
{
    size_t n = strlen(text);
    if (text_width(cr, text) <= width) return;
    const size_t room = n > 3 ? n - 3 : 0;
    for (n = room; n > 0; n--) {
        if (((unsigned char)text[n] & 0xc0) == 0x80) continue; /* inside a character */
        strcpy(text + n, ellipsis);
        if (text_width(cr, text) <= width) return;
    }
    text[0] = '\0';
}

/* Ends the first line of `text` at a blank or a line feed, so that it is at most `width` wide where its words allow.
 * Returns the rest, NULL when all of it fits. */
static char *break_line(cairo_t *cr, char *text, double width)
{
    char *last_blank = NULL;
    for (char *c = text;; c++) {
        if (*c != '\0' && *c != ' ' && *c != '\n') continue;
        const char end = *c;
        *c = '\0';
        const bool fits = text_width(cr, text) <= width;
        if (!fits && last_blank) {
            *c = end;
            *last_blank = '\0';
            return last_blank + 1;
        }
        if (end == '\0') return NULL;
        if (end == '\n' || !fits) return c + 1;
        *c = end;
        last_blank = c;
    }
}

/* ---- boxes ---- */

static void draw_label(cairo_t *cr, const vg_drawn_box *box, const double corner[4], double font_size, int width)
{
    char text[LABEL_BYTES];
    clean_text(box->label, text);
    join_lines(text);
    cairo_set_font_size(cr, font_size);
    const double pad = font_size / 4, high = font_size + 2 * pad;
    fit_text(cr, text, width - 2 * pad);
    const double wide = text_width(cr, text) + 2 * pad;
    const double left = fmax(0, fmin(corner[0], width - wide));
    const double top = corner[1] >= high ? corner[1] - high : fmax(0, corner[1]); /* above the box, or inside it */
    set_colour(cr, box->colour);
    cairo_rectangle(cr, left, top, wide, high);
    cairo_fill(cr);
    const uint32_t c = box->colour;
    const double light = 0.299 * (c >> 16 & 255) + 0.587 * (c >> 8 & 255) + 0.114 * (c & 255);
    set_colour(cr, light > 140 ? 0x000000 : 0xffffff);
    cairo_move_to(cr, left + pad, top + pad + 0.82 * font_size);
    cairo_show_text(cr, text);
}

static void draw_box(cairo_t *cr, const vg_drawn_box *box, int width, int height)
{
    double corner[4];
    for (int k = 0; k < 4; k++) {
        if (!isfinite(box->xyxy[k])) return;
        corner[k] = fmax(0, fmin(box->xyxy[k], k % 2 ? height : width));
    }
    const double shorter = fmin(width, height), line = fmax(2, shorter / 200);
    cairo_set_line_width(cr, line);
    set_colour(cr, box->colour);
    cairo_rectangle(cr, corner[0] + line / 2, corner[1] + line / 2, fmax(0, corner[2] - corner[0] - line),
                    fmax(0, corner[3] - corner[1] - line));
    cairo_stroke(cr);
    if (box->label && *box->label) draw_label(cr, box, corner, fmax(11, shorter / 32), width);
}

vg_status vg_draw_boxes(vg_image *image, const vg_drawn_box *boxes, int n_boxes)
{
    canvas c;
    VG_CHECK(image->width <= MAX_CANVAS_SIDE && image->height <= MAX_CANVAS_SIDE, VG_E_DATA,
             "a picture of %d x %d pixels cannot be drawn on, %d are the most on a side; make it smaller", image->width,
             image->height, MAX_CANVAS_SIDE);
    VG_TRY(canvas_init(&c, image->width, image->height));
    canvas_put(&c, image->pixels, image->width, image->height, 0, 0);
    for (int k = 0; k < n_boxes; k++) draw_box(c.cairo, &boxes[k], image->width, image->height);
    const vg_status st = canvas_check(&c);
    if (st == VG_OK) canvas_get(&c, image->pixels, image->width, image->height);
    canvas_release(&c);
    return st;
}

/* ---- galleries ---- */

/* Fits the image into a square of `side` pixels with its left upper corner at (left, top), centred. */
static vg_status draw_tile(canvas *c, const vg_image *image, int side, int left, int top, uint8_t *pixels,
                           vg_resize_scratch *scratch)
{
    const double scale = fmin((double)side / image->width, (double)side / image->height);
    const int width = (int)fmax(1, floor(image->width * scale)), height = (int)fmax(1, floor(image->height * scale));
    VG_TRY(vg_image_resize(image, width, height, pixels, scratch));
    canvas_put(c, pixels, width, height, left + (side - width) / 2, top + (side - height) / 2);
    return VG_OK;
}

/* At most CAPTION_LINES lines; what is left over is cut off at the end of the last. */
static void draw_caption(canvas *c, const char *caption, int side, int left, int top)
{
    char text[LABEL_BYTES];
    clean_text(caption, text);
    set_colour(c->cairo, 0x202020);
    cairo_set_font_size(c->cairo, CAPTION_FONT);
    char *line = text;
    for (int k = 0; k < CAPTION_LINES && line; k++) {
        char *rest = k + 1 < CAPTION_LINES ? break_line(c->cairo, line, side) : NULL;
        join_lines(line); /* only the last one holds any */
        fit_text(c->cairo, line, side);
        cairo_move_to(c->cairo, left, top + (k + 1) * (CAPTION_FONT + 4));
        cairo_show_text(c->cairo, line);
        line = rest;
    }
}

static vg_status draw_tiles(canvas *c, const vg_image *images, const char *const *captions, int n, int columns,
                            int side)
{
    const int tile_height = side + CAPTION_LINES * (CAPTION_FONT + 4) + MARGIN;
    uint8_t *pixels = vg_new0_array((size_t)side * (size_t)side, 3);
    vg_resize_scratch scratch = {0};
    vg_status st = pixels ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for a tile of %d pixels a side", side);
    for (int k = 0; k < n && st == VG_OK; k++) {
        const int left = MARGIN + k % columns * (side + MARGIN), top = MARGIN + k / columns * tile_height;
        st = draw_tile(c, &images[k], side, left, top, pixels, &scratch);
        if (st == VG_OK && captions[k]) draw_caption(c, captions[k], side, left, top + side);
    }
    free(scratch.data);
    free(pixels);
    return st == VG_OK ? canvas_check(c) : st;
}

vg_status vg_draw_gallery(const vg_image *images, const char *const *captions, int n, int columns, int tile_side,
                          vg_image *out)
{
    VG_CHECK(n > 0 && columns > 0 && tile_side > 0, VG_E_BUG, "a gallery of %d tiles in %d columns cannot be", n,
             columns);
    const int rows = (n + columns - 1) / columns;
    const int64_t width = MARGIN + (int64_t)columns * ((int64_t)tile_side + MARGIN);
    const int64_t height = MARGIN + (int64_t)rows * ((int64_t)tile_side + CAPTION_LINES * (CAPTION_FONT + 4) + MARGIN);
    VG_CHECK(width <= MAX_CANVAS_SIDE && height <= MAX_CANVAS_SIDE, VG_E_USAGE,
             "a gallery of %lld x %lld pixels is too large (%d at most); take fewer or smaller tiles", (long long)width,
             (long long)height, MAX_CANVAS_SIDE);
    vg_image made = {.pixels = vg_new0_array((size_t)(width * height), 3), .width = (int)width, .height = (int)height};
    VG_CHECK(made.pixels, VG_E_NOMEM, "no memory for a gallery of %d tiles", n);
    canvas c;
    vg_status st = canvas_init(&c, made.width, made.height);
    if (st == VG_OK) {
        set_colour(c.cairo, 0xffffff);
        cairo_paint(c.cairo);
        st = draw_tiles(&c, images, captions, n, columns, tile_side);
        if (st == VG_OK) canvas_get(&c, made.pixels, made.width, made.height);
        canvas_release(&c);
    }
    if (st != VG_OK)
        vg_image_release(&made);
    else
        *out = made;
    return st;
}
