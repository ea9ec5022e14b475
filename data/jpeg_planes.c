/* A JPEG's brightness and colours as they are stored, each with its own number of samples: no spreading of colours over
 * the pixels they cover, no RGB. */
#include "data/jpeg_impl.h"

/* Samples of this component for one pixel of the whole picture, across or down. */
static double samples_per_pixel(const jpeg_component_info *c, int factor, int most)
{
    return (double)(factor * c->DCT_scaled_size) / (most * DCTSIZE);
}

bool vg_jpeg_has_planes(const struct jpeg_decompress_struct *info)
{
    const bool grey = info->jpeg_color_space == JCS_GRAYSCALE && info->num_components == 1;
    if (!grey && !(info->jpeg_color_space == JCS_YCbCr && info->num_components == 3)) return false;
    const int most_across = info->max_h_samp_factor, most_down = info->max_v_samp_factor;
    return most_across != 3 && most_down != 3 && info->comp_info[0].h_samp_factor == most_across &&
           info->comp_info[0].v_samp_factor == most_down;
}

/* A band is what the library decodes at once: a row of its largest units. */
typedef struct bands {
    JDIMENSION first, end, pixel_rows;
} bands;

static int band_rows(const jpeg_component_info *c)
{
    return c->v_samp_factor * c->DCT_scaled_size;
}

/* Shape and window of one plane, whose first row is that of the first band. */
static vg_plane plane_shape(const struct jpeg_decompress_struct *info, const jpeg_component_info *c, const vg_window *w,
                            const bands *b)
{
    const double across = samples_per_pixel(c, c->h_samp_factor, info->max_h_samp_factor);
    const double down = samples_per_pixel(c, c->v_samp_factor, info->max_v_samp_factor);
    const JDIMENSION first = b->first * (JDIMENSION)band_rows(c), end = b->end * (JDIMENSION)band_rows(c);
    return (vg_plane){.stride = (size_t)c->width_in_blocks * (size_t)c->DCT_scaled_size,
                      .width = (int)c->downsampled_width,
                      .height = (int)((end < c->downsampled_height ? end : c->downsampled_height) - first),
                      .window = {w->x * across, w->y * down - first, w->width * across, w->height * down, false}};
}

static vg_status planes_place(const struct jpeg_decompress_struct *info, const vg_window *w, const bands *b,
                              vg_decoded *out)
{
    size_t bytes = 0, at[3] = {0};
    for (int k = 0; k < info->num_components; k++) {
        const jpeg_component_info *c = &info->comp_info[k];
        out->planes[k] = plane_shape(info, c, w, b);
        at[k] = bytes;
        bytes += (size_t)(b->end - b->first) * (size_t)band_rows(c) * out->planes[k].stride;
    }
    VG_TRY(vg_grow(&out->image.pixels, &out->capacity, bytes + VG_PLANE_BEHIND, 1));
    out->n_planes = info->num_components;
    for (int k = 0; k < out->n_planes; k++) out->planes[k].samples = out->image.pixels + at[k];
    return VG_OK;
}

/* The library transforms no block of a component that is not needed, which it asks at each band: `component_needed` is
 * read by the loops that call the transform, in pictures of one scan and of several. The bits of a band are read
 * anyway, as those behind it need that. */
static void need_components(struct jpeg_decompress_struct *info, bool needed)
{
    for (int k = 0; k < info->num_components; k++) info->comp_info[k].component_needed = needed;
}

/* A band above the window goes nowhere. */
static void read_band(struct jpeg_decompress_struct *info, const bands *b, JDIMENSION band, const vg_decoded *out)
{
    enum { MOST_ROWS = MAX_SAMP_FACTOR * DCTSIZE };
    JSAMPROW rows[3][MOST_ROWS];
    JSAMPARRAY all[3] = {rows[0], rows[1], rows[2]};
    for (int k = 0; k < out->n_planes; k++) {
        const int n = band_rows(&info->comp_info[k]);
        const size_t from = band > b->first ? (size_t)(band - b->first) * (size_t)n : 0;
        for (int y = 0; y < n; y++) rows[k][y] = out->planes[k].samples + (from + (size_t)y) * out->planes[k].stride;
    }
    jpeg_read_raw_data(info, all, b->pixel_rows);
}

vg_status vg_jpeg_read_planes(struct jpeg_decompress_struct *info, const vg_window *window, JDIMENSION top,
                              JDIMENSION bottom, vg_decoded *out)
{
    const JDIMENSION rows = (JDIMENSION)band_rows(&info->comp_info[0]);
    const bands b = {.first = top / rows, .end = (bottom + rows - 1) / rows, .pixel_rows = rows};
    VG_TRY(vg_pixels_check(info->output_width, bottom - top));
    VG_TRY(planes_place(info, window, &b, out));
    for (JDIMENSION band = 0; band < b.end; band++) {
        need_components(info, band >= b.first);
        read_band(info, &b, band, out);
    }
    return VG_OK;
}
