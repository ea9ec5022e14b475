/* The stretch of a picture whose brightness and colours are stored apart: each plane from its own samples, and RGB from
 * the three at the end. */
#include "data/resize_impl.h"

#include <string.h>

typedef struct plane_plan {
    vg_taps across, down;
    uint8_t *between; /* [plane height,stride], of which the rows that `down` reads are filled */
    uint8_t *row;     /* [stride] of the picture that comes out */
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
    for (int k = 0; k < 3; k++) p->planes[k].row = vg_piece(at, &offset, p->stride, 1);
    for (int k = 0; k < d->n_planes; k++) {
        vg_taps_place(&p->planes[k].across, d->planes[k].window.width, width, at, &offset);
        vg_taps_place(&p->planes[k].down, d->planes[k].window.height, height, at, &offset);
        p->planes[k].between = vg_piece(at, &offset, (size_t)d->planes[k].height * p->stride, 1);
    }
    const vg_plane *first = &d->planes[0]; /* is the widest */
    p->block = vg_piece(at, &offset, vg_block_bytes(first->width, &p->planes[0].across), 1);
    return offset;
}

static void plane_sideways(const plan *p, const plane_plan *to, const vg_plane *plane)
{
    const size_t first = (size_t)to->down.least;
    p->ops->plane_sideways(plane->samples + first * plane->stride, plane->stride, to->down.end - to->down.least,
                           &to->across, p->block, to->between + first * p->stride, p->stride);
}

static void plane_weigh(const plan *p, plane_plan *to, const vg_plane *plane, bool mirrored)
{
    const vg_stretch *w = &plane->window;
    p->ops->weigh(&to->across, &(vg_axis){w->x, w->width, plane->width, 2, mirrored});
    p->ops->weigh(&to->down, &(vg_axis){w->y, w->height, plane->height, 1, false});
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
    for (int k = d->n_planes; k < 3; k++) memset(p.planes[k].row, 128, p.stride); /* no colour */
    for (int y = 0; y < height; y++) {
        for (int k = 0; k < d->n_planes; k++) {
            const plane_plan *from = &p.planes[k];
            const uint8_t *rows = from->between + (size_t)from->down.first[y] * p.stride;
            p.ops->down(rows, &from->down, y, p.stride, from->row);
        }
        p.ops->to_rgb(p.planes[0].row, p.planes[1].row, p.planes[2].row, (size_t)width,
                      out + 3 * (size_t)y * (size_t)width, sums);
    }
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
