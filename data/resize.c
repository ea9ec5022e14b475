/* Antialiased bicubic stretch in integers: sideways first, then down, bytes in between, as PIL has it, so that the
 * pixels are those which models trained in Python saw. Integers have one answer on every instruction set. */
#include "data/resize_impl.h"

/* Where everything lies in the scratch. */
typedef struct plan {
    const vg_pixel_ops *ops;
    vg_taps across, down;
    uint8_t *block, *between; /* between [image height, width, 3], of which the rows that `down` reads are filled */
} plan;

static size_t plan_place(plan *p, const vg_image *image, const vg_stretch *part, int width, int height,
                         unsigned char *at)
{
    size_t offset = 0;
    vg_taps_place(&p->across, part->width, width, at, &offset);
    vg_taps_place(&p->down, part->height, height, at, &offset);
    p->block = vg_piece(at, &offset, vg_block_bytes(image->width, &p->across, &p->down), 1);
    p->between = vg_piece(at, &offset, 3 * (size_t)image->height * (size_t)width, 1);
    return offset;
}

static vg_status plan_make(plan *p, vg_resize_scratch *scratch, const vg_image *image, const vg_stretch *part,
                           int width, int height)
{
    p->ops = vg_pixel_ops_best();
    unsigned char *at = NULL;
    VG_TRY(vg_scratch_take(scratch, plan_place(p, image, part, width, height, NULL), &at));
    plan_place(p, image, part, width, height, at);
    p->ops->weigh(&p->across, &(vg_axis){part->x, part->width, image->width, 2, part->mirrored});
    p->ops->weigh(&p->down, &(vg_axis){part->y, part->height, image->height, 1, false});
    return VG_OK;
}

static void stretch_sideways(const plan *p, const vg_image *image)
{
    for (int y = p->down.least; y < p->down.end; y += p->ops->rows) {
        const uint8_t *from[VG_MOST_ROWS];
        uint8_t *to[VG_MOST_ROWS];
        for (int k = 0; k < p->ops->rows; k++) { /* behind the last row comes the last row again */
            const size_t row = (size_t)(y + k < p->down.end ? y + k : p->down.end - 1);
            from[k] = image->pixels + 3 * row * (size_t)image->width;
            to[k] = p->between + 3 * row * (size_t)p->across.n_out;
        }
        p->ops->sideways(from, image->width, &p->across, p->block, to);
    }
}

vg_status vg_image_stretch(const vg_image *image, const vg_stretch *part, int width, int height, uint8_t *out,
                           vg_resize_scratch *scratch)
{
    VG_TRY(vg_stretch_check(part, image->width, image->height, width, height));
    plan p;
    VG_TRY(plan_make(&p, scratch, image, part, width, height));
    stretch_sideways(&p, image);
    const size_t n = 3 * (size_t)width;
    for (int y = 0; y < height; y++)
        p.ops->down(p.between + (size_t)p.down.first[y] * n, &p.down, y, n, out + (size_t)y * n);
    return VG_OK;
}

vg_status vg_image_resize(const vg_image *image, int width, int height, uint8_t *out, vg_resize_scratch *scratch)
{
    const vg_stretch whole = {.width = image->width, .height = image->height};
    return vg_image_stretch(image, &whole, width, height, out, scratch);
}
