/* Which objects a scene holds, and where. A scene draws from three colours and three shapes, so that every object has
 * others that share its colour, its shape or both: without that, one word would always do. */
#include "data/synth_impl.h"

#include <math.h>
#include <string.h>

static const double PI = 3.14159265358979323846;

void vg_synth_random_init(synth_random *random, uint64_t seed, const char *purpose, uint64_t image)
{
    *random = (synth_random){.key = vg_rng_key_of(seed, vg_rng_purpose(purpose)), .image = image};
}

static uint32_t random_word(synth_random *random)
{
    if (random->left == 0) {
        vg_rng_block(random->key, random->image, 0, random->block++, random->words);
        random->left = 4;
    }
    return random->words[--random->left];
}

uint32_t vg_synth_below(synth_random *random, uint32_t n)
{
    return (uint32_t)(((uint64_t)random_word(random) * n) >> 32);
}

double vg_synth_between(synth_random *random, double a, double b)
{
    return a + (b - a) * (double)vg_uniform(random_word(random));
}

/* 3 c + 5 s = 0 (mod 8) has one colour c for every shape s, and another one for every other shape. */
bool vg_synth_pair_is_held_out(int colour, int shape)
{
    return (3 * colour + 5 * shape) % SYNTH_COLOURS == 0;
}

bool vg_synth_relation_is_held_out(int target_shape, int anchor_shape)
{
    return (target_shape + 2) % SYNTH_SHAPES == anchor_shape;
}

/* ---- one object ---- */

static void object_point(synth_object *o, double radius, double angle)
{
    o->points[o->n_points][0] = o->x + radius * sin(angle);
    o->points[o->n_points][1] = o->y - radius * cos(angle);
    o->n_points++;
}

static void outline_polygon(synth_object *o, int corners, double start)
{
    for (int i = 0; i < corners; i++) object_point(o, o->radius, o->angle + start + 2.0 * PI * i / corners);
}

static void outline_star(synth_object *o)
{
    for (int i = 0; i < 10; i++) object_point(o, i % 2 ? 0.42 * o->radius : o->radius, o->angle + PI * i / 5.0);
}

static void outline_cross(synth_object *o)
{
    const double arm = atan(0.3), outer = o->radius * sqrt(1.0 + 0.09), inner = o->radius * 0.3 * sqrt(2.0);
    for (int i = 0; i < 4; i++) {
        const double along = o->angle + PI * i / 2.0;
        object_point(o, outer, along - arm);
        object_point(o, outer, along + arm);
        object_point(o, inner, along + PI / 4.0);
    }
}

static void object_outline(synth_object *o)
{
    o->n_points = 0;
    if (o->shape == SYNTH_SQUARE) outline_polygon(o, 4, PI / 4.0);
    if (o->shape == SYNTH_TRIANGLE) outline_polygon(o, 3, 0.0);
    if (o->shape == SYNTH_STAR) outline_star(o);
    if (o->shape == SYNTH_CROSS) outline_cross(o);
}

static void object_box(synth_object *o)
{
    const double round = o->n_points ? 0.0 : o->radius;
    o->box[0] = o->x - round, o->box[1] = o->y - round, o->box[2] = o->x + round, o->box[3] = o->y + round;
    for (int i = 0; i < o->n_points; i++)
        for (int axis = 0; axis < 2; axis++) {
            o->box[axis] = fmin(o->box[axis], o->points[i][axis]);
            o->box[2 + axis] = fmax(o->box[2 + axis], o->points[i][axis]);
        }
}

/* Triangles and squares reach less far than their radius says, so theirs is longer. */
static void object_measure(synth_object *o, synth_random *random)
{
    static const double radius[SYNTH_SIZES] = {0.075, 0.110, 0.160};
    static const double stretch[SYNTH_SHAPES] = {1.0, 1.22, 1.15, 1.1, 1.0, 1.0};
    o->radius = radius[o->size] * stretch[o->shape] * vg_synth_between(random, 0.95, 1.05);
    o->angle = vg_synth_between(random, -0.2, 0.2);
}

static bool boxes_apart(const double a[4], const double b[4], double gap)
{
    return a[0] > b[2] + gap || b[0] > a[2] + gap || a[1] > b[3] + gap || b[1] > a[3] + gap;
}

/* Finds room for object `index` among those before it. */
static bool object_place(synth_scene *scene, int index, synth_random *random)
{
    const double border = 0.015, gap = 0.01;
    synth_object *o = &scene->objects[index];
    for (int attempt = 0; attempt < 60; attempt++) {
        o->x = vg_synth_between(random, 0.0, 1.0);
        o->y = vg_synth_between(random, 0.0, 1.0);
        object_outline(o);
        object_box(o);
        bool fits = o->box[0] > border && o->box[1] > border && o->box[2] < 1 - border && o->box[3] < 1 - border;
        for (int i = 0; i < index; i++) fits = fits && boxes_apart(o->box, scene->objects[i].box, gap);
        if (fits) return true;
    }
    return false;
}

/* ---- the scene ---- */

/* `count` different numbers below n. */
static void draw_palette(synth_random *random, int n, int count, int palette[])
{
    for (int i = 0; i < count; i++) {
        bool taken = true;
        while (taken) {
            palette[i] = (int)vg_synth_below(random, (uint32_t)n);
            taken = false;
            for (int j = 0; j < i; j++) taken = taken || palette[j] == palette[i];
        }
    }
}

bool vg_synth_scene_draw(synth_random *random, synth_split split, synth_scene *out)
{
    enum { PALETTE = 3 };
    int colours[PALETTE], shapes[PALETTE];
    bool has_held_out = false;
    draw_palette(random, SYNTH_COLOURS, PALETTE, colours);
    draw_palette(random, SYNTH_SHAPES, PALETTE, shapes);
    memset(out, 0, sizeof *out);
    out->n = 4 + (int)vg_synth_below(random, SYNTH_MAX_OBJECTS - 3);
    for (int i = 0; i < out->n; i++) {
        synth_object *o = &out->objects[i];
        o->colour = colours[vg_synth_below(random, PALETTE)];
        o->shape = shapes[vg_synth_below(random, PALETTE)];
        o->size = (int)vg_synth_below(random, SYNTH_SIZES);
        const bool held_out = vg_synth_pair_is_held_out(o->colour, o->shape);
        if (held_out && split != SYNTH_TEST_A) return false;
        has_held_out = has_held_out || held_out;
        object_measure(o, random);
        if (!object_place(out, i, random)) return false;
    }
    return split != SYNTH_TEST_A || has_held_out;
}
