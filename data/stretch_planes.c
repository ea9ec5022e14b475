/* The stretch of a picture whose brightness and colours are stored apart: each plane from its own samples, and RGB from
 * the three at the end. */
#include "data/resize_impl.h"

#include <string.h>

enum { ROWS = VG_TAPS_WIDE };

typedef struct plane_plan {
    vg_taps across, down;
    uint8_t *between; /* [plane height rounded up,stride], of which the rows that `down` reads are filled */
    uint8_t *rows;    /* [ROWS,stride] of the picture that comes out */
} plane_plan;

typedef struct plan {
    const vg_pixel_ops *ops;
    size_t stride; /* between the passes; what lies behind the width is never looked at */
    uint8_t *block;
    plane_plan planes[3];
} plan;

static size_t plan_place(plan *p, const vg_decoded *d, int width, int height, unsigned char *at)
{
    size_t offset = 0;
    p->stride = vg_round_up((size_t)width, VG_PIECE_BYTES);
    for (int k = 0; k < 3; k++) p->planes[k].rows = vg_piece(at, &offset, ROWS * p->stride, 1);
    for (int k = 0; k < d->n_planes; k++) {
        vg_taps_place(&p->planes[k].across, d->planes[k].window.width, width, at, &offset);
        vg_taps_place(&p->planes[k].down, d->planes[k].window.height, height, at, &offset);
        const size_t n_rows = vg_round_up((size_t)d->planes[k].height, VG_MOST_STEP);
        p->planes[k].between = vg_piece(at, &offset, n_rows * p->stride, 1);
    }
    const vg_plane *first = &d->planes[0]; /* is the widest */
    p->block = vg_piece(at, &offset, vg_block_bytes(first->width, &p->planes[0].across, &p->planes[0].down), 1);
    return offset;
}

static void plane_sideways(const plan *p, const plane_plan *to, const vg_plane *plane)
{
    const int first = to->down.least & -p->ops->down_step;
    p->ops->plane_sideways(plane->samples + (size_t)first * plane->stride, plane->stride, to->down.end - first,
                           &to->across, p->block, to->between + (size_t)first * p->stride, p->stride);
}

static void plane_weigh(const plan *p, plane_plan *to, const vg_plane *plane, bool mirrored)
{
    const vg_stretch *w = &plane->window;
    p->ops->weigh(&to->across, &(vg_axis){w->x, w->width, plane->width, p->ops->across_step, mirrored});
    p->ops->weigh(&to->down, &(vg_axis){w->y, w->height, plane->height, p->ops->down_step, false});
}

static bool same_window(const vg_plane *a, const vg_plane *b)
{
    const vg_stretch *v = &a->window, *w = &b->window;
    return a->width == b->width && a->height == b->height && v->x == w->x && v->y == w->y && v->width == w->width &&
           v->height == w->height;
}

static void plane_stretch(plan *p, const vg_decoded *d, int k, bool mirrored)
{
    plane_plan *to = &p->planes[k];
    if (k > 0 && same_window(&d->planes[k], &d->planes[k - 1])) { /* the two colours */
        to->across = p->planes[k - 1].across;
        to->down = p->planes[k - 1].down;
    } else {
        plane_weigh(p, to, &d->planes[k], mirrored);
    }
    plane_sideways(p, to, &d->planes[k]);
}

/* Rows y to y + ROWS - 1 of the picture, of which there are `left`. */
static void rows_stretch(const plan *p, int n_planes, int y, int left, int width, uint8_t *out, uint64_t sums[3])
{
    const int n = left < ROWS ? left : ROWS;
    for (int k = 0; k < n_planes; k++) {
        const plane_plan *from = &p->planes[k];
        p->ops->plane_down(from->between, p->stride, &from->down, y, n, p->block, from->rows);
    }
    for (int k = 0; k < n; k++) {
        const size_t at = (size_t)k * p->stride;
        p->ops->to_rgb(p->planes[0].rows + at, p->planes[1].rows + at, p->planes[2].rows + at, (size_t)width,
                       out + 3 * (size_t)(y + k) * (size_t)width, sums);
    }
}

static vg_status stretch_planes(const vg_decoded *d, bool mirrored, int width, int height, uint8_t *out,
                                vg_resize_scratch *scratch, uint64_t sums[3])
{
    plan p = {.ops = vg_pixel_ops_best()};
    for (int k = 0; k < d->n_planes; k++)
        VG_TRY(vg_stretch_check(&d->planes[k].window, d->planes[k].width, d->planes[k].height, width, height));
    unsigned char *at = NULL;
    VG_TRY(vg_scratch_take(scratch, plan_place(&p, d, width, height, NULL), &at));
    plan_place(&p, d, width, height, at);
    for (int k = 0; k < d->n_planes; k++) plane_stretch(&p, d, k, mirrored);
    for (int k = d->n_planes; k < 3; k++) memset(p.planes[k].rows, 128, ROWS * p.stride); /* no colour */
    for (int y = 0; y < height; y += ROWS) rows_stretch(&p, d->n_planes, y, height - y, width, out, sums);
    return VG_OK;
}

vg_status vg_decoded_stretch(const vg_decoded *decoded, bool mirrored, int width, int height, uint8_t *out,
                             vg_resize_scratch *scratch, uint64_t sums[3])
{
    vg_stretch part = decoded->window;
    uint64_t found[3] = {0};
    part.mirrored = mirrored;
    if (decoded->n_planes) VG_TRY(stretch_planes(decoded, mirrored, width, height, out, scratch, found));
    if (!decoded->n_planes) VG_TRY(vg_image_stretch(&decoded->image, &part, width, height, out, scratch));
    if (!decoded->n_planes && sums) vg_pixel_ops_best()->sums(out, (size_t)width * (size_t)height, found);
    if (sums) memcpy(sums, found, sizeof found);
    return VG_OK;
}
