#include "data/augment_impl.h"

#include <math.h>

static const double least_side = 0.6, most_colour = 0.4;

/* [0, 1) */
static double fraction(uint32_t bits)
{
    return bits * 0x1p-32;
}

/* Four random words of one purpose at this position. */
static void draw(uint64_t seed, const char *purpose, uint64_t position, uint32_t block, uint32_t words[4])
{
    vg_rng_block(vg_rng_key_of(seed, vg_rng_purpose(purpose)), position, 0, block, words);
}

typedef bool phrase_test(const char *text, size_t n);

static bool any_phrase(const vg_seen_picture *p, phrase_test *says)
{
    for (int i = 0; i < p->n_phrases; i++)
        if (says(p->phrases[i].text, p->phrases[i].text_bytes)) return true;
    return false;
}

static bool all_phrases(const vg_seen_picture *p, phrase_test *says)
{
    for (int i = 0; i < p->n_phrases; i++)
        if (!says(p->phrases[i].text, p->phrases[i].text_bytes)) return false;
    return true;
}

/* ---- crop ---- */

/* One axis of the picture: its length, the window's, and the offsets at which the window keeps enough of every box. */
typedef struct axis {
    double length, size, low, high;
} axis;

static double clamp(double x, double most)
{
    return fmin(fmax(x, 0), most);
}

/* A window [o, o + size] shows min(end, o + size) - max(start, o) of a box; that is `kept` or more where each of the
 * four differences is. */
static void axis_keep(axis *a, double start, double end, double share)
{
    const double from = clamp(start, a->length), to = clamp(end, a->length), kept = share * (to - from);
    a->low = fmax(a->low, from + kept - a->size);
    a->high = fmin(a->high, to - kept);
    if (kept > a->size) a->high = -1;
}

static void keep_boxes(const vg_seen_phrase *phrase, double share, axis *x, axis *y)
{
    for (int k = 0; k < phrase->n_boxes; k++) {
        const float *box = phrase->boxes + 4 * (size_t)k;
        if (!(box[2] > box[0] && box[3] > box[1])) continue;
        axis_keep(x, box[0], box[2], share);
        axis_keep(y, box[1], box[3], share);
    }
}

/* A length of least_side to 1 of the whole. */
static axis axis_draw(int length, uint32_t bits)
{
    const double size = fmax(1, round(length * (least_side + (1 - least_side) * fraction(bits))));
    return (axis){length, size, 0, length - size};
}

/* One of the whole offsets that are left; false when none is. */
static bool axis_place(const axis *a, uint32_t bits, int *offset)
{
    const int64_t first = (int64_t)ceil(a->low), last = (int64_t)floor(a->high);
    if (first > last) return false;
    *offset = (int)(first + (int64_t)((uint64_t)bits * (uint64_t)(last - first + 1) >> 32));
    return true;
}

static void draw_crop(const vg_augment *augment, uint64_t seed, uint64_t position, const vg_seen_picture *p,
                      vg_view *view)
{
    uint32_t sides[4], place[4];
    draw(seed, "augment.crop", position, 0, sides);
    if (fraction(sides[0]) >= augment->crop || any_phrase(p, vg_phrase_says_where)) return;
    draw(seed, "augment.crop", position, 1, place);
    axis x = axis_draw(p->width, sides[1]), y = axis_draw(p->height, sides[2]);
    for (int i = 0; i < p->n_phrases; i++) keep_boxes(&p->phrases[i], sqrt(augment->crop_keep), &x, &y);
    vg_window w = {.width = (int)x.size, .height = (int)y.size};
    if (!axis_place(&x, place[0], &w.x) || !axis_place(&y, place[1], &w.y)) return;
    view->window = w;
    view->cropped = w.width < p->width || w.height < p->height;
}

/* ---- mirror and colour ---- */

static bool draw_mirror(const vg_augment *augment, uint64_t seed, uint64_t position, const vg_seen_picture *p)
{
    uint32_t words[4];
    draw(seed, "augment.flip", position, 0, words);
    return fraction(words[0]) < augment->flip && all_phrases(p, vg_phrase_may_mirror);
}

static double factor(uint32_t bits)
{
    return 1 - most_colour + 2 * most_colour * fraction(bits);
}

static void draw_colours(const vg_augment *augment, uint64_t seed, uint64_t position, const vg_seen_picture *p,
                         vg_view *view)
{
    uint32_t words[4];
    draw(seed, "augment.colour", position, 0, words);
    if (fraction(words[0]) >= augment->colour) return;
    if (augment->colour_safe && any_phrase(p, vg_phrase_says_colour)) return;
    view->recoloured = true;
    view->colours = (vg_colours){factor(words[1]), factor(words[2]), factor(words[3])};
}

vg_view vg_view_plain(int width, int height)
{
    return (vg_view){.window = {.width = width, .height = height}, .colours = {1, 1, 1}};
}

vg_view vg_view_draw(const vg_augment *augment, uint64_t seed, uint64_t position, const vg_seen_picture *picture)
{
    vg_view view = vg_view_plain(picture->width, picture->height);
    if (augment->crop > 0) draw_crop(augment, seed, position, picture, &view);
    if (augment->flip > 0) view.mirrored = draw_mirror(augment, seed, position, picture);
    if (augment->colour > 0) draw_colours(augment, seed, position, picture, &view);
    return view;
}

void vg_view_box(const vg_view *view, const float box[4], double seen[4])
{
    const vg_window *w = &view->window;
    const double offset[2] = {w->x, w->y}, size[2] = {w->width, w->height};
    for (int i = 0; i < 4; i++) {
        const double at = box[i] - offset[i % 2];
        seen[i] = view->cropped ? clamp(at, size[i % 2]) : at;
    }
    if (!view->mirrored) return;
    const double left = seen[0];
    seen[0] = size[0] - seen[2];
    seen[2] = size[0] - left;
}
