/* The picture of a scene: a grey-brown ground of smooth noise and faint stripes, the shapes on it by cairo. */
#include "data/synth_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cairo.h>

static const uint8_t COLOURS[SYNTH_COLOURS][3] = {{214, 40, 40},  {40, 160, 60},  {45, 85, 220},   {245, 215, 45},
                                                  {145, 50, 175}, {245, 130, 25}, {246, 246, 246}, {18, 18, 18}};

/* ---- the ground ---- */

enum { GRID = 9 }; /* noise values along a side, one more than the cells */

typedef struct synth_ground {
    double base[3], noise[GRID][GRID], strength;
    double stripe_x, stripe_y, stripe_phase, stripe_strength;
} synth_ground;

static void ground_draw(synth_ground *ground, synth_random *random)
{
    const double grey = vg_synth_between(random, 95.0, 165.0);
    for (int c = 0; c < 3; c++) ground->base[c] = grey + vg_synth_between(random, -14.0, 14.0);
    for (int i = 0; i < GRID * GRID; i++) ground->noise[i / GRID][i % GRID] = vg_synth_between(random, -1.0, 1.0);
    ground->strength = vg_synth_between(random, 4.0, 16.0);
    ground->stripe_x = vg_synth_between(random, -40.0, 40.0);
    ground->stripe_y = vg_synth_between(random, -40.0, 40.0);
    ground->stripe_phase = vg_synth_between(random, 0.0, 6.28);
    ground->stripe_strength = vg_synth_between(random, 0.0, 7.0);
}

/* How much lighter or darker the ground is at a place, 0..1 by 0..1. */
static double ground_at(const synth_ground *ground, double x, double y)
{
    const double gx = x * (GRID - 1), gy = y * (GRID - 1);
    const int i = (int)gx, j = (int)gy;
    const double fx = gx - i, fy = gy - j;
    const double upper = ground->noise[j][i] * (1 - fx) + ground->noise[j][i + 1] * fx;
    const double lower = ground->noise[j + 1][i] * (1 - fx) + ground->noise[j + 1][i + 1] * fx;
    return ground->strength * (upper * (1 - fy) + lower * fy) +
           ground->stripe_strength * sin(ground->stripe_x * x + ground->stripe_y * y + ground->stripe_phase);
}

static uint8_t shade(double value)
{
    return (uint8_t)lround(fmin(fmax(value, 0.0), 255.0));
}

/* Fills a cairo RGB24 buffer. */
static void ground_paint(const synth_ground *ground, synth_random *random, unsigned char *pixels, int stride, int side)
{
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            const double grain = (double)vg_synth_below(random, 9) - 4.0;
            const double light = ground_at(ground, (x + 0.5) / side, (y + 0.5) / side) + grain;
            uint32_t rgb = 0;
            for (int c = 0; c < 3; c++) rgb = rgb << 8 | shade(ground->base[c] + light);
            memcpy(pixels + (size_t)y * (size_t)stride + 4 * (size_t)x, &rgb, sizeof rgb);
        }
}

/* ---- the shapes ---- */

static void object_paint(cairo_t *cr, const synth_object *o, synth_random *random)
{
    double rgb[3];
    for (int c = 0; c < 3; c++) rgb[c] = shade(COLOURS[o->colour][c] + vg_synth_between(random, -12.0, 12.0)) / 255.0;
    cairo_set_source_rgb(cr, rgb[0], rgb[1], rgb[2]);
    if (o->n_points == 0) {
        const double width = o->shape == SYNTH_RING ? 0.38 * o->radius : 0.0;
        cairo_arc(cr, o->x, o->y, o->radius - 0.5 * width, 0.0, 6.283185307179586);
        cairo_set_line_width(cr, width);
        if (width > 0.0)
            cairo_stroke(cr);
        else
            cairo_fill(cr);
        return;
    }
    for (int i = 0; i < o->n_points; i++) cairo_line_to(cr, o->points[i][0], o->points[i][1]);
    cairo_close_path(cr);
    cairo_fill(cr);
}

static void surface_to_image(const unsigned char *pixels, int stride, vg_image *image)
{
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < image->width; x++) {
            uint32_t rgb;
            memcpy(&rgb, pixels + (size_t)y * (size_t)stride + 4 * (size_t)x, sizeof rgb);
            uint8_t *to = image->pixels + 3 * ((size_t)y * (size_t)image->width + (size_t)x);
            for (int c = 0; c < 3; c++) to[c] = (uint8_t)(rgb >> (16 - 8 * c));
        }
}

static vg_status scene_paint(cairo_surface_t *surface, cairo_t *cr, const synth_scene *scene, synth_random *random,
                             vg_image *image)
{
    VG_CHECK(cairo_status(cr) == CAIRO_STATUS_SUCCESS, VG_E_NOMEM, "cairo: %s",
             cairo_status_to_string(cairo_status(cr)));
    unsigned char *pixels = cairo_image_surface_get_data(surface);
    const int stride = cairo_image_surface_get_stride(surface), side = image->width;
    synth_ground ground;
    ground_draw(&ground, random);
    cairo_surface_flush(surface);
    ground_paint(&ground, random, pixels, stride, side);
    cairo_surface_mark_dirty(surface);
    cairo_scale(cr, side, side);
    for (int i = 0; i < scene->n; i++) object_paint(cr, &scene->objects[i], random);
    cairo_surface_flush(surface);
    surface_to_image(pixels, stride, image);
    return VG_OK;
}

vg_status vg_synth_paint(const synth_scene *scene, synth_random *random, int side, vg_image *out)
{
    vg_image image = {.pixels = vg_new0_array((size_t)side * (size_t)side, 3), .width = side, .height = side};
    VG_CHECK(image.pixels, VG_E_NOMEM, "no memory for a picture of %d x %d pixels", side, side);
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, side, side);
    cairo_t *cr = cairo_create(surface); /* a surface or context that failed is a valid object in an error state */
    const vg_status st = scene_paint(surface, cr, scene, random, &image);
    cairo_destroy(cr);
    cairo_surface_destroy(surface);
    if (st != VG_OK)
        vg_image_release(&image);
    else
        *out = image;
    return st;
}
