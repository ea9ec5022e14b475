/* The made-up data set: what its phrases promise, checked by reading them again as a stranger would. */
#define _XOPEN_SOURCE 700
#include "data/synth.h"

#include "data/synth_impl.h"
#include "tests/unit/scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

enum { SCENES = 400 };

static int draw_one(synth_split split, bool plural, uint64_t image, synth_scene *scene, synth_phrase *phrases)
{
    synth_random random;
    vg_synth_random_init(&random, 11, "test", image);
    for (;;)
        if (vg_synth_scene_draw(&random, split, scene)) {
            const int n = vg_synth_phrases_draw(scene, split, plural, &random, phrases);
            if (n > 0) return n;
        }
}

/* ---- a reader of phrases that shares nothing with their writer ---- */

typedef struct noun {
    int colour, shape;
} noun;

static int index_of(const char *word, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strncmp(word, names[i], strlen(names[i])) == 0) return i;
    return SYNTH_ANY;
}

static noun read_noun(const char *text, size_t n)
{
    static const char *const colours[] = {"red", "green", "blue", "yellow", "purple", "orange", "white", "black"};
    static const char *const shapes[] = {"circle", "square", "triangle", "star", "cross", "ring"};
    noun found = {SYNTH_ANY, SYNTH_ANY};
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && text[i - 1] != ' ') continue;
        const int colour = index_of(text + i, colours, SYNTH_COLOURS), shape = index_of(text + i, shapes, SYNTH_SHAPES);
        if (colour >= 0) found.colour = colour;
        if (shape >= 0) found.shape = shape;
    }
    return found;
}

static bool fits(noun wanted, const synth_object *o)
{
    return (wanted.colour < 0 || wanted.colour == o->colour) && (wanted.shape < 0 || wanted.shape == o->shape);
}

/* The object with the highest value among those that fit, except one; -1 where the best two are closer than margin. */
static int best_of(const synth_scene *scene, noun wanted, const double *values, double margin)
{
    int best = -1;
    double second = -1e9;
    for (int i = 0; i < scene->n; i++) {
        if (!fits(wanted, &scene->objects[i])) continue;
        if (best < 0 || values[i] > values[best]) {
            if (best >= 0) second = values[best];
            best = i;
        } else if (values[i] > second) {
            second = values[i];
        }
    }
    return best >= 0 && values[best] - second >= margin ? best : -1;
}

static int read_direction(const char *text)
{
    static const char *const words[4][4] = {{"left", "leftmost", "-", "-"},
                                            {"right", "rightmost", "-", "-"},
                                            {"top", "highest", "above", "over"},
                                            {"bottom", "lowest", "below", "under"}};
    for (int d = 0; d < 4; d++)
        for (int i = 0; i < 4; i++)
            if (strstr(text, words[d][i])) return d;
    return -1;
}

static double signed_offset(const synth_object *o, int direction)
{
    const double values[4] = {-o->x, o->x, -o->y, o->y};
    return values[direction];
}

static int understand_position(const synth_scene *scene, const char *text)
{
    double values[SYNTH_MAX_OBJECTS];
    for (int i = 0; i < scene->n; i++) values[i] = signed_offset(&scene->objects[i], read_direction(text));
    return best_of(scene, read_noun(text, strlen(text)), values, 0.05);
}

static int understand_size(const synth_scene *scene, const char *text)
{
    const double sign = strstr(text, "small") ? -1.0 : 1.0;
    double values[SYNTH_MAX_OBJECTS];
    for (int i = 0; i < scene->n; i++) values[i] = sign * scene->objects[i].size;
    return best_of(scene, read_noun(text, strlen(text)), values, 1.0);
}

static int understand_attribute(const synth_scene *scene, const char *text)
{
    const double values[SYNTH_MAX_OBJECTS] = {0};
    return best_of(scene, read_noun(text, strlen(text)), values, 1.0);
}

/* The anchor is what "of the", "above the", .. speaks of; among the rest that fits, the one most clearly on that side:
 * its angle off the direction. */
static int understand_relation(const synth_scene *scene, const char *text)
{
    const char *the = strstr(text, " the ");
    for (const char *next = the; next; next = strstr(next + 1, " the ")) the = next;
    const noun anchor_noun = read_noun(the, strlen(the)), wanted = read_noun(text, (size_t)(the - text));
    const double nothing[SYNTH_MAX_OBJECTS] = {0};
    const int anchor = best_of(scene, anchor_noun, nothing, 1.0), direction = read_direction(text);
    if (anchor < 0) return -1;
    const synth_object *const from = &scene->objects[anchor];
    double values[SYNTH_MAX_OBJECTS];
    for (int i = 0; i < scene->n; i++) {
        const synth_object *const o = &scene->objects[i];
        const double ahead = signed_offset(o, direction) - signed_offset(from, direction);
        values[i] = i == anchor ? -10.0 : ahead / hypot(o->x - from->x, o->y - from->y);
    }
    const int best = best_of(scene, wanted, values, 0.1);
    return best >= 0 && values[best] > 0.75 ? best : -1;
}

static int understand(const synth_scene *scene, const synth_phrase *phrase)
{
    switch (phrase->kind) {
    case SYNTH_SIZE: return understand_size(scene, phrase->text);
    case SYNTH_POSITION: return understand_position(scene, phrase->text);
    case SYNTH_RELATION: return understand_relation(scene, phrase->text);
    default: return understand_attribute(scene, phrase->text);
    }
}

static void every_phrase_leads_a_stranger_to_its_object(void **state)
{
    (void)state;
    for (synth_split split = SYNTH_TRAIN; split < SYNTH_SPLITS; split++)
        for (uint64_t image = 0; image < SCENES; image++) {
            synth_scene scene;
            synth_phrase phrases[SYNTH_MAX_PHRASES];
            const int n = draw_one(split, false, image, &scene, phrases);
            for (int i = 0; i < n; i++)
                if (understand(&scene, &phrases[i]) != phrases[i].targets[0])
                    fail_msg("scene %d: '%s' is object %d, a reader finds %d", (int)image, phrases[i].text,
                             phrases[i].targets[0], understand(&scene, &phrases[i]));
        }
}

static void train_scenes_hold_one_phrase_of_each_kind(void **state)
{
    (void)state;
    synth_scene scene;
    synth_phrase phrases[SYNTH_MAX_PHRASES];
    for (uint64_t image = 0; image < SCENES; image++) {
        assert_int_equal(draw_one(SYNTH_TRAIN, false, image, &scene, phrases), 4);
        for (int i = 0; i < 4; i++) assert_int_equal(phrases[i].kind, i);
    }
}

static void plurals_mean_all_that_fit_and_not_the_whole_scene(void **state)
{
    (void)state;
    for (uint64_t image = 0; image < SCENES; image++) {
        synth_scene scene;
        synth_phrase phrases[SYNTH_MAX_PHRASES];
        assert_int_equal(draw_one(SYNTH_TRAIN, true, image, &scene, phrases), 5);
        const synth_phrase *const p = &phrases[4];
        const noun wanted = read_noun(p->text, strlen(p->text));
        int n = 0;
        for (int i = 0; i < scene.n; i++)
            if (fits(wanted, &scene.objects[i])) assert_int_equal(p->targets[n++], i);
        assert_int_equal(n, p->n_targets);
        assert_in_range(n, 2, scene.n - 1);
    }
}

static void held_out_pairs_are_seen_in_test_a_alone(void **state)
{
    (void)state;
    for (synth_split split = SYNTH_TRAIN; split < SYNTH_SPLITS; split++)
        for (uint64_t image = 0; image < SCENES; image++) {
            synth_scene scene;
            synth_phrase phrases[SYNTH_MAX_PHRASES];
            const int n = draw_one(split, false, image, &scene, phrases);
            for (int i = 0; i < scene.n && split != SYNTH_TEST_A; i++)
                assert_false(vg_synth_pair_is_held_out(scene.objects[i].colour, scene.objects[i].shape));
            for (int i = 0; i < n && split == SYNTH_TEST_A; i++) {
                const synth_object *const target = &scene.objects[phrases[i].targets[0]];
                assert_true(vg_synth_pair_is_held_out(target->colour, target->shape));
            }
        }
}

static void held_out_relations_are_said_in_test_b_alone(void **state)
{
    (void)state;
    for (synth_split split = SYNTH_TRAIN; split < SYNTH_SPLITS; split++)
        for (uint64_t image = 0; image < SCENES; image++) {
            synth_scene scene;
            synth_phrase phrases[SYNTH_MAX_PHRASES];
            const int n = draw_one(split, false, image, &scene, phrases);
            for (int i = 0; i < n; i++) {
                if (phrases[i].kind != SYNTH_RELATION) continue;
                const char *const anchor = strstr(phrases[i].text + 4, " the ");
                const noun named = read_noun(anchor, strlen(anchor));
                const int target = scene.objects[phrases[i].targets[0]].shape;
                if (named.shape >= 0)
                    assert_int_equal(vg_synth_relation_is_held_out(target, named.shape), split == SYNTH_TEST_B);
            }
        }
}

/* Best of the guesses that need no phrase: the largest, the leftmost, the topmost object, and so on. */
static void guessing_without_the_phrase_hits_few(void **state)
{
    (void)state;
    enum { GUESSES = 6 };
    int hits[GUESSES] = {0}, trials = 0;
    const noun anything = {SYNTH_ANY, SYNTH_ANY};
    for (uint64_t image = 0; image < SCENES; image++) {
        synth_scene scene;
        synth_phrase phrases[SYNTH_MAX_PHRASES];
        const int n = draw_one(SYNTH_VAL, false, image, &scene, phrases);
        for (int g = 0; g < GUESSES; g++) {
            double values[SYNTH_MAX_OBJECTS];
            for (int i = 0; i < scene.n; i++)
                values[i] =
                    g < 4 ? signed_offset(&scene.objects[i], g) : (g == 4 ? 1.0 : -1.0) * scene.objects[i].radius;
            const int guess = best_of(&scene, anything, values, 0.0);
            for (int i = 0; i < n; i++) hits[g] += phrases[i].targets[0] == guess;
        }
        trials += n;
    }
    for (int g = 0; g < GUESSES; g++) assert_in_range(hits[g], trials / 10, trials * 35 / 100);
}

/* ---- files ---- */

static char *read_below(const char *folder, const char *name, size_t *n)
{
    char path[256], *data = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(vg_file_read(path, 1 << 24, &data, n), VG_OK);
    return data;
}

static void write_small(const char *folder, uint64_t seed, vg_synth_format format)
{
    vg_synth_spec spec = vg_synth_defaults(folder);
    spec.seed = seed, spec.format = format;
    spec.n_train = 6, spec.n_val = 3, spec.n_test = 2, spec.side = 64;
    assert_int_equal(vg_synth_write(&spec), VG_OK);
}

static bool same_below(const char *a, const char *b, const char *name)
{
    size_t n = 0, m = 0;
    char *x = read_below(a, name, &n), *y = read_below(b, name, &m);
    const bool same = n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

static void equal_seeds_write_equal_bytes_and_others_do_not(void **state)
{
    const char *a = path_in(*state, "a"), *b = path_in(*state, "b"), *c = path_in(*state, "c");
    write_small(a, 5, VG_SYNTH_JPEG);
    write_small(b, 5, VG_SYNTH_JPEG);
    write_small(c, 6, VG_SYNTH_JPEG);
    const char *const names[] = {"synth/refs(vlgtr).p", "synth/instances.json", "images/0000013.jpg"};
    for (int i = 0; i < 3; i++) {
        assert_true(same_below(a, b, names[i]));
        assert_false(same_below(a, c, names[i]));
    }
    assert_true(same_below(a, c, "tokenizer/vocab.json"));
    assert_true(same_below(a, c, "tokenizer/merges.txt"));
}

/* The ground is greyish and of medium light, so a pixel that is neither belongs to a shape. */
static bool is_painted(const vg_image *image, int x, int y)
{
    const uint8_t *const p = image->pixels + 3 * (y * image->width + x);
    const int low = p[0] < p[1] ? (p[0] < p[2] ? p[0] : p[2]) : (p[1] < p[2] ? p[1] : p[2]);
    const int high = p[0] > p[1] ? (p[0] > p[2] ? p[0] : p[2]) : (p[1] > p[2] ? p[1] : p[2]);
    return high - low > 50 || high < 45 || low > 215;
}

static void boxes_frame_what_was_painted(void **state)
{
    (void)state;
    enum { SIDE = 128 };
    for (uint64_t n = 0; n < 40; n++) {
        synth_scene scene;
        synth_random random;
        vg_image image = {0};
        vg_synth_random_init(&random, 3, "test", n);
        while (!vg_synth_scene_draw(&random, SYNTH_TRAIN, &scene)) continue;
        assert_int_equal(vg_synth_paint(&scene, &random, SIDE, &image), VG_OK);
        double reached[SYNTH_MAX_OBJECTS][4];
        for (int i = 0; i < scene.n; i++)
            for (int k = 0; k < 4; k++) reached[i][k] = k < 2 ? SIDE : 0;
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++) {
                if (!is_painted(&image, x, y)) continue;
                bool framed = false;
                for (int i = 0; i < scene.n; i++) {
                    const double *b = scene.objects[i].box, pixel = 1.0 / SIDE;
                    if ((x + 1) * pixel < b[0] || x * pixel > b[2] || (y + 1) * pixel < b[1] || y * pixel > b[3])
                        continue;
                    framed = true;
                    reached[i][0] = fmin(reached[i][0], x), reached[i][1] = fmin(reached[i][1], y);
                    reached[i][2] = fmax(reached[i][2], x + 1), reached[i][3] = fmax(reached[i][3], y + 1);
                }
                assert_true(framed);
            }
        for (int i = 0; i < scene.n; i++)
            for (int k = 0; k < 4; k++) assert_true(fabs(reached[i][k] - SIDE * scene.objects[i].box[k]) < 3.0);
        vg_image_release(&image);
    }
}

static void the_annotations_are_json_with_boxes_inside(void **state)
{
    const char *folder = *state;
    write_small(folder, 5, VG_SYNTH_PNG);
    size_t n = 0;
    char *text = read_below(folder, "synth/instances.json", &n);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    assert_int_equal(json_array_size(json_object_get(root, "images")), 13);
    assert_int_equal(json_array_size(json_object_get(root, "categories")), SYNTH_SHAPES);
    json_t *annotation;
    size_t i;
    json_array_foreach(json_object_get(root, "annotations"), i, annotation)
    {
        json_t *bbox = json_object_get(annotation, "bbox");
        const double x = json_number_value(json_array_get(bbox, 0)), y = json_number_value(json_array_get(bbox, 1));
        const double w = json_number_value(json_array_get(bbox, 2)), h = json_number_value(json_array_get(bbox, 3));
        assert_true(x > 0 && y > 0 && w > 5 && h > 5 && x + w < 64 && y + h < 64);
    }
    json_decref(root);
    free(text);
    vg_image image = {0};
    char path[256];
    snprintf(path, sizeof path, "%s/images/0000001.png", folder);
    assert_int_equal(vg_image_read(path, &image), VG_OK);
    assert_int_equal(image.width, 64);
    vg_image_release(&image);
}

static void pickles_are_what_python_reads(void **state)
{
    (void)state; /* pickletools.dis: PROTO 2, EMPTY_LIST, MARK, EMPTY_DICT, MARK, BINUNICODE, BININT, SETITEMS, .. */
    static const char expected[] = "\x80\x02](}(X\x02\0\0\0idJ\x00\x01\0\0ue.";
    synth_pickle p = {0};
    vg_synth_pickle_begin(&p);
    vg_synth_pickle_list(&p);
    vg_synth_pickle_dict(&p);
    vg_synth_pickle_string(&p, "id");
    vg_synth_pickle_int(&p, 256);
    vg_synth_pickle_dict_end(&p);
    vg_synth_pickle_list_end(&p);
    vg_synth_pickle_end(&p);
    assert_int_equal(p.status, VG_OK);
    assert_int_equal(p.bytes.length, sizeof expected - 1);
    assert_memory_equal(p.bytes.data, expected, sizeof expected - 1);
    free(p.bytes.data);
}

static void the_vocabulary_holds_every_word_whole(void **state)
{
    const char *folder = *state;
    assert_int_equal(vg_synth_tokenizer_write(folder), VG_OK);
    size_t n = 0;
    char *text = read_below(folder, "vocab.json", &n);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    const int size = (int)json_object_size(root);
    assert_in_range(size, 261, 511);
    assert_int_equal(json_integer_value(json_object_get(root, "<pad>")), 1);
    assert_int_equal(json_integer_value(json_object_get(root, "<mask>")), size - 1);
    for (const char *const *word = vg_synth_words(); *word; word++) {
        char after_blank[40];
        snprintf(after_blank, sizeof after_blank, "\xc4\xa0%s", *word); /* U+0120 stands for the blank */
        assert_non_null(json_object_get(root, *word));
        assert_non_null(json_object_get(root, after_blank));
    }
    json_decref(root);
    free(text);
}

static void a_spec_out_of_range_is_refused(void **state)
{
    (void)state;
    vg_synth_spec spec = vg_synth_defaults("/tmp/never-made");
    spec.side = 8;
    assert_int_equal(vg_synth_write(&spec), VG_E_USAGE);
    spec = vg_synth_defaults("/tmp/never-made");
    spec.n_train = -1;
    assert_int_equal(vg_synth_write(&spec), VG_E_USAGE);
    spec = vg_synth_defaults("");
    assert_int_equal(vg_synth_write(&spec), VG_E_USAGE);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_phrase_leads_a_stranger_to_its_object),
        cmocka_unit_test(train_scenes_hold_one_phrase_of_each_kind),
        cmocka_unit_test(plurals_mean_all_that_fit_and_not_the_whole_scene),
        cmocka_unit_test(held_out_pairs_are_seen_in_test_a_alone),
        cmocka_unit_test(held_out_relations_are_said_in_test_b_alone),
        cmocka_unit_test(guessing_without_the_phrase_hits_few),
        IN_SCRATCH(equal_seeds_write_equal_bytes_and_others_do_not),
        cmocka_unit_test(boxes_frame_what_was_painted),
        IN_SCRATCH(the_annotations_are_json_with_boxes_inside),
        cmocka_unit_test(pickles_are_what_python_reads),
        IN_SCRATCH(the_vocabulary_holds_every_word_whole),
        cmocka_unit_test(a_spec_out_of_range_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
