/* Augmentation: properties over many random samples (the argument, default 100000), and the words one by one. */
#include "data/augment.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static long n_cases = 100000;

/* ---- random samples ---- */

enum { MOST_PHRASES = 4, MOST_BOXES = 3 };

static const char *const phrase_pool[] = {
    "the man on the left",
    "Right side dog",
    "leftmost RIGHT-HAND cup",
    "bright red shirt",
    "a word on the sign",
    "number 7 on the bus",
    "the \"stop\" one",
    "cat in the middle",
    "upright lamp, far-right!",
    "east wing on left",
    "dogs' bowl left",
    "caf\xc3\xa9 table",
    "second from lEft",
    "man's righthand",
    "blue sky",
    "",
};
static const char *const forbidden[] = {"word", "sign", "7", "\"", "east", "lEft"};

typedef struct made {
    vg_seen_picture picture;
    vg_seen_phrase phrases[MOST_PHRASES];
    float boxes[MOST_PHRASES][MOST_BOXES * 4];
    vg_augment augment;
} made;

static uint32_t draw_bits(uint64_t number, uint32_t what)
{
    uint32_t word[4];
    vg_philox((const uint32_t[4]){(uint32_t)number, what, 0, 0}, (vg_rng_key){{77, 0}}, word);
    return word[0];
}

static double draw_fraction(uint64_t number, uint32_t what)
{
    return draw_bits(number, what) * 0x1p-32;
}

/* A box of any size; one in eight reaches a hair beyond the picture, as real ones do. */
static void make_box(uint64_t number, uint32_t what, int width, int height, float *box)
{
    const double size = pow(draw_fraction(number, what), 2);
    const double w = fmax(0.5, width * size), h = fmax(0.5, height * draw_fraction(number, what + 1));
    const double beyond = draw_bits(number, what + 2) % 8 ? 0 : 0.01;
    box[0] = (float)((width - w) * draw_fraction(number, what + 3) - beyond);
    box[1] = (float)((height - h) * draw_fraction(number, what + 4) - beyond);
    box[2] = (float)(box[0] + w + 2 * beyond);
    box[3] = (float)(box[1] + h + 2 * beyond);
}

static void make_sample(uint64_t number, made *m)
{
    const int width = 1 + (int)(draw_bits(number, 0) % 700), height = 1 + (int)(draw_bits(number, 1) % 700);
    const size_t n_pool = sizeof phrase_pool / sizeof *phrase_pool;
    m->picture = (vg_seen_picture){width, height, m->phrases, 1 + (int)(draw_bits(number, 2) % MOST_PHRASES)};
    for (int i = 0; i < m->picture.n_phrases; i++) {
        const uint32_t at = 100 * (uint32_t)(i + 1);
        const char *text = phrase_pool[draw_bits(number, at) % n_pool];
        const int n_boxes = (int)(draw_bits(number, at + 1) % (MOST_BOXES + 1));
        m->phrases[i] = (vg_seen_phrase){text, strlen(text), m->boxes[i], n_boxes};
        for (int k = 0; k < n_boxes; k++)
            make_box(number, at + 10 + 10 * (uint32_t)k, width, height, m->boxes[i] + 4 * k);
    }
    const double keeps[] = {1, 1, 0.8, 0.5, 0.05};
    m->augment = (vg_augment){.crop = 0.7,
                              .flip = 0.6,
                              .colour = 0.8,
                              .crop_keep = keeps[draw_bits(number, 3) % 5],
                              .colour_safe = draw_bits(number, 4) % 2};
}

static bool any_has(const made *m, const char *word)
{
    for (int i = 0; i < m->picture.n_phrases; i++)
        if (strstr(m->phrases[i].text, word)) return true;
    return false;
}

/* ---- properties ---- */

/* How often each thing was done. */
typedef struct tally {
    long crops, mirrors, recolours, boxes;
} tally;

static void window_lies_inside(const made *m, const vg_view *v)
{
    const vg_window *w = &v->window;
    assert_true(w->x >= 0 && w->y >= 0 && w->x + w->width <= m->picture.width);
    assert_true(w->y + w->height <= m->picture.height);
    assert_true(w->width >= 1 && w->width >= 0.6 * m->picture.width - 0.5);
    assert_true(w->height >= 1 && w->height >= 0.6 * m->picture.height - 0.5);
}

static double clamped(double x, double most)
{
    return fmin(fmax(x, 0), most);
}

/* The kept share is of the box as far as the picture shows it. fp64 sums of fp32 numbers: 1e-9 is far above rounding.
 */
static void box_is_kept(const made *m, const vg_view *v, const float *box)
{
    double seen[4];
    vg_view_box(v, box, seen);
    const double tolerance = v->cropped ? 0 : 0.05; /* what reaches beyond the picture stays so without a crop */
    assert_true(seen[0] >= -tolerance && seen[2] <= v->window.width + tolerance && seen[0] < seen[2]);
    assert_true(seen[1] >= -tolerance && seen[3] <= v->window.height + tolerance && seen[1] < seen[3]);
    const double area = (clamped(box[2], m->picture.width) - clamped(box[0], m->picture.width)) *
                        (clamped(box[3], m->picture.height) - clamped(box[1], m->picture.height));
    assert_true((seen[2] - seen[0]) * (seen[3] - seen[1]) >= m->augment.crop_keep * area * (1 - 1e-9));
}

/* Mirrored once more, the box is where it was in the window. */
static void box_comes_back(const vg_view *v, const float *box)
{
    double seen[4], plain[4], again[4];
    vg_view straight = *v, back = vg_view_plain(v->window.width, v->window.height);
    straight.mirrored = false;
    back.mirrored = true;
    vg_view_box(v, box, seen);
    vg_view_box(&straight, box, plain);
    const float once[4] = {(float)seen[0], (float)seen[1], (float)seen[2], (float)seen[3]};
    vg_view_box(&back, once, again);
    for (int c = 0; c < 4; c++) assert_true(fabs(again[c] - plain[c]) <= 1e-4); /* `once` is rounded to fp32 */
}

static void phrase_comes_back(const char *text)
{
    vg_text once = {0}, twice = {0};
    bool swapped = false;
    assert_int_equal(vg_phrase_mirror(text, strlen(text), &once, &swapped), VG_OK);
    if (swapped) {
        assert_true(vg_phrase_may_mirror(once.data, once.length));
        assert_string_not_equal(once.data, text);
        assert_int_equal(vg_phrase_mirror(once.data, once.length, &twice, &swapped), VG_OK);
        assert_string_equal(twice.data, text);
    }
    free(once.data);
    free(twice.data);
}

static void check_view(const made *m, const vg_view *v, tally *t)
{
    window_lies_inside(m, v);
    if (v->cropped)
        assert_false(any_has(m, "left") || any_has(m, "Right") || any_has(m, "RIGHT") || any_has(m, "middle") ||
                     any_has(m, "-right") || any_has(m, "lEft") || any_has(m, "righthand"));
    for (size_t i = 0; v->mirrored && i < sizeof forbidden / sizeof *forbidden; i++)
        assert_false(any_has(m, forbidden[i]));
    if (v->recoloured && m->augment.colour_safe) assert_false(any_has(m, "red") || any_has(m, "blue"));
    for (int i = 0; i < m->picture.n_phrases; i++) {
        if (v->mirrored) phrase_comes_back(m->phrases[i].text);
        for (int k = 0; k < m->phrases[i].n_boxes; k++, t->boxes++) {
            box_is_kept(m, v, m->boxes[i] + 4 * k);
            if (v->mirrored) box_comes_back(v, m->boxes[i] + 4 * k);
        }
    }
    t->crops += v->cropped;
    t->mirrors += v->mirrored;
    t->recolours += v->recoloured;
}

static void every_view_keeps_its_promises(void **state)
{
    (void)state;
    tally t = {0};
    for (long i = 0; i < n_cases; i++) {
        made m;
        make_sample((uint64_t)i, &m);
        const vg_view v = vg_view_draw(&m.augment, 5, (uint64_t)i, &m.picture);
        const vg_view again = vg_view_draw(&m.augment, 5, (uint64_t)i, &m.picture);
        assert_memory_equal(&v.window, &again.window, sizeof v.window);
        assert_true(v.mirrored == again.mirrored && v.colours.contrast == again.colours.contrast);
        check_view(&m, &v, &t);
    }
    print_message("%ld samples: %ld cropped, %ld mirrored, %ld recoloured; %ld boxes inside\n", n_cases, t.crops,
                  t.mirrors, t.recolours, t.boxes);
    assert_true(t.crops > n_cases / 20 && t.mirrors > n_cases / 10 && t.recolours > n_cases / 4);
}

/* Without phrases that forbid anything each is done as often as asked: 5 standard deviations of a binomial count. */
static void things_are_done_as_often_as_asked(void **state)
{
    (void)state;
    const vg_augment augment = {.crop = 0.5, .flip = 0.25, .colour = 0.8, .crop_keep = 1};
    const vg_seen_picture picture = {640, 480, NULL, 0};
    double counts[3] = {0}, sides = 0;
    for (long i = 0; i < n_cases; i++) {
        const vg_view v = vg_view_draw(&augment, 9, (uint64_t)i, &picture);
        counts[0] += v.cropped;
        counts[1] += v.mirrored;
        counts[2] += v.recoloured;
        sides += v.cropped ? v.window.width / 640.0 : 0;
    }
    const double wanted[] = {augment.crop, augment.flip, augment.colour};
    for (int k = 0; k < 3; k++)
        assert_true(fabs(counts[k] / (double)n_cases - wanted[k]) <
                    5 * sqrt(wanted[k] * (1 - wanted[k]) / (double)n_cases));
    assert_true(fabs(sides / counts[0] - 0.8) < 5 * 0.4 / sqrt(12 * counts[0])); /* uniform over 0.6 .. 1 */
}

/* A box that fills the picture leaves room for no window but the whole. */
static void a_crop_that_cannot_be_is_not_made(void **state)
{
    (void)state;
    const float box[] = {0, 0, 100, 80};
    const vg_seen_phrase phrase = {"a dog", 5, box, 1};
    const vg_seen_picture picture = {100, 80, &phrase, 1};
    const vg_augment augment = {.crop = 1, .crop_keep = 1};
    for (uint64_t i = 0; i < 1000; i++) assert_false(vg_view_draw(&augment, 1, i, &picture).cropped);
}

/* ---- words ---- */

static void words_are_swapped_whole_and_in_their_case(void **state)
{
    (void)state;
    const char *const pairs[][2] = {
        {"left", "right"},
        {"the bright one on the left", "the bright one on the right"},
        {"Left of RIGHT", "Right of LEFT"},
        {"leftmost/rightward, lefthand", "rightmost/leftward, righthand"},
        {"left-hand far-right top-left", "right-hand far-left top-right"},
        {"upright copyright leftover", NULL},
        {"lefty right_angle left\xc3\xa9", NULL},
        {"", NULL},
    };
    for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++) {
        vg_text out = {0};
        bool swapped = true;
        assert_int_equal(vg_phrase_mirror(pairs[k][0], strlen(pairs[k][0]), &out, &swapped), VG_OK);
        assert_int_equal(swapped, pairs[k][1] != NULL);
        if (swapped) assert_string_equal(out.data, pairs[k][1]);
        free(out.data);
    }
}

static void phrases_that_would_become_wrong_are_not_mirrored(void **state)
{
    (void)state;
    const char *const never[] = {"number 5",
                                 "the letter on it",
                                 "big WORD",
                                 "clockwise from here",
                                 "West side",
                                 "says 'go'",
                                 "\"left\"",
                                 "lEFT dog",
                                 "the \xe2\x80\x9cleft\xe2\x80\x9d one"};
    const char *const may[] = {"the left dog", "man's left hand", "dogs' bowl", "letters and signs", "",
                               "western boots"};
    for (size_t k = 0; k < sizeof never / sizeof *never; k++)
        if (vg_phrase_may_mirror(never[k], strlen(never[k]))) fail_msg("%s", never[k]);
    for (size_t k = 0; k < sizeof may / sizeof *may; k++)
        if (!vg_phrase_may_mirror(may[k], strlen(may[k]))) fail_msg("%s", may[k]);
}

/* ---- colours ---- */

/* The formulas one after the other in fp64, cut at the end. */
static double recoloured(const uint8_t *p, int c, double mean, const vg_colours *f)
{
    double x[3];
    for (int i = 0; i < 3; i++) x[i] = f->brightness * p[i];
    for (int i = 0; i < 3; i++) x[i] = f->brightness * mean + f->contrast * (x[i] - f->brightness * mean);
    const double grey = (9798 * x[0] + 19235 * x[1] + 3735 * x[2]) / 32768;
    return clamped(grey + f->saturation * (x[c] - grey), 255);
}

/* Grey and the result are rounded once each, and grey counts (1 - saturation) * 1.96 at most: off by 1.3 at the most.
 */
static void colours_follow_their_formulas(void **state)
{
    (void)state;
    enum { N = 1000 };
    const vg_colours factors[] = {{1, 1, 1}, {0.6, 1, 1}, {1, 1.4, 1}, {1, 1, 0.6}, {1.4, 1.4, 1.4}, {0.6, 1.3, 0.7}};
    for (size_t k = 0; k < sizeof factors / sizeof *factors; k++) {
        uint8_t pixels[3 * N], out[3 * N + 1];
        double mean = 0;
        for (uint32_t i = 0; i < 3 * N; i++) pixels[i] = (uint8_t)draw_bits(i, 6);
        for (int i = 0; i < N; i++)
            mean += (9798.0 * pixels[3 * i] + 19235.0 * pixels[3 * i + 1] + 3735.0 * pixels[3 * i + 2]) / 32768 / N;
        memcpy(out, pixels, sizeof pixels);
        out[3 * N] = 0xa5;
        uint64_t sums[3] = {0};
        for (int i = 0; i < 3 * N; i++) sums[i % 3] += out[i];
        vg_recolour(out, N, sums, &factors[k]);
        assert_int_equal(out[3 * N], 0xa5);
        if (k == 0) assert_memory_equal(out, pixels, sizeof pixels);
        for (int i = 0; i < 3 * N; i++)
            assert_true(fabs(out[i] - recoloured(pixels + i / 3 * 3, i % 3, mean, &factors[k])) < 1.3);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1) n_cases = strtol(argv[1], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_view_keeps_its_promises),
        cmocka_unit_test(things_are_done_as_often_as_asked),
        cmocka_unit_test(a_crop_that_cannot_be_is_not_made),
        cmocka_unit_test(words_are_swapped_whole_and_in_their_case),
        cmocka_unit_test(phrases_that_would_become_wrong_are_not_mirrored),
        cmocka_unit_test(colours_follow_their_formulas),
    };
    return cmocka_run_group_tests_name("augment", tests, NULL, NULL);
}
