/* What can be said about a scene without doubt. Every candidate is (an object, a noun it shares with others, what sets
 * it apart); it counts only when it holds for that object by a margin and fails for all the others by a margin. */
#include "data/synth_impl.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const COLOUR_NAMES[SYNTH_COLOURS] = {"red",    "green",  "blue",  "yellow",
                                                        "purple", "orange", "white", "black"};
static const char *const SHAPE_NAMES[SYNTH_SHAPES] = {"circle", "square", "triangle", "star", "cross", "ring"};
static const char *const SHAPE_PLURALS[SYNTH_SHAPES] = {"circles", "squares", "triangles", "stars", "crosses", "rings"};
static const char *const KIND_NAMES[SYNTH_KINDS] = {"attribute", "size", "position", "relation", "plural"};

static const char *const WORDS[] = {
    "red",       "green",   "blue",   "yellow", "purple", "orange",  "white",    "black",     "circle",  "square",
    "triangle",  "star",    "cross",  "ring",   "shape",  "circles", "squares",  "triangles", "stars",   "crosses",
    "rings",     "shapes",  "the",    "all",    "small",  "large",   "smallest", "largest",   "biggest", "leftmost",
    "rightmost", "highest", "lowest", "left",   "right",  "top",     "bottom",   "above",     "below",   "over",
    "under",     "on",      "at",     "to",     "of",     NULL};

/* What sets the target apart within its noun. */
enum { SMALLEST, LARGEST, SMALL, LARGE, SIZE_WORDS };
enum { LEFT, RIGHT, UP, DOWN, DIRECTIONS };

enum { NOUN_BYTES = 24, TEXT_BYTES = 80 };

typedef struct synth_noun {
    int colour, shape; /* or SYNTH_ANY */
} synth_noun;

typedef struct synth_candidate {
    int target;
    synth_noun noun;
    int word; /* a size word or a direction */
    synth_noun anchor;
} synth_candidate;

typedef struct synth_candidates {
    synth_candidate list[2048]; /* 7 objects, 4 nouns, 4 directions, 6 anchors, 3 nouns of theirs: 2016 */
    int n;
} synth_candidates;

const char *vg_synth_kind_name(synth_kind kind)
{
    return KIND_NAMES[kind];
}

const char *vg_synth_shape_name(int shape)
{
    return SHAPE_NAMES[shape];
}

const char *const *vg_synth_words(void)
{
    return WORDS;
}

/* ---- nouns ---- */

static bool noun_fits(synth_noun noun, const synth_object *o)
{
    return (noun.colour == SYNTH_ANY || noun.colour == o->colour) &&
           (noun.shape == SYNTH_ANY || noun.shape == o->shape);
}

static int noun_count(synth_noun noun, const synth_scene *scene)
{
    int n = 0;
    for (int i = 0; i < scene->n; i++) n += noun_fits(noun, &scene->objects[i]);
    return n;
}

/* The four nouns of an object: "red ring", "ring", "red shape", "shape". */
static synth_noun noun_of(const synth_object *o, int way)
{
    return (synth_noun){way & 1 ? SYNTH_ANY : o->colour, way & 2 ? SYNTH_ANY : o->shape};
}

static void noun_text(synth_noun noun, bool plural, char text[NOUN_BYTES])
{
    const char *const *names = plural ? SHAPE_PLURALS : SHAPE_NAMES;
    const char *const thing = noun.shape == SYNTH_ANY ? (plural ? "shapes" : "shape") : names[noun.shape];
    if (noun.colour == SYNTH_ANY)
        snprintf(text, NOUN_BYTES, "%s", thing);
    else
        snprintf(text, NOUN_BYTES, "%s %s", COLOUR_NAMES[noun.colour], thing);
}

/* ---- what holds ---- */

static bool size_word_holds(const synth_scene *scene, synth_noun noun, int target, int word)
{
    const int size = scene->objects[target].size;
    if (word == SMALL && size != 0) return false;
    if (word == LARGE && size != SYNTH_SIZES - 1) return false;
    for (int i = 0; i < scene->n; i++) {
        if (i == target || !noun_fits(noun, &scene->objects[i])) continue;
        const int other = scene->objects[i].size;
        if (word == SMALLEST && other <= size) return false;
        if (word == LARGEST && other >= size) return false;
        if (word == SMALL && other != SYNTH_SIZES - 1) return false;
        if (word == LARGE && other != 0) return false;
    }
    return true;
}

/* How far b lies from a in a direction, and how far aside. */
static double along(const synth_object *a, const synth_object *b, int direction)
{
    const double d[DIRECTIONS] = {a->x - b->x, b->x - a->x, a->y - b->y, b->y - a->y};
    return d[direction];
}

static double aside(const synth_object *a, const synth_object *b, int direction)
{
    return fabs(direction < UP ? b->y - a->y : b->x - a->x);
}

static bool position_holds(const synth_scene *scene, synth_noun noun, int target, int direction)
{
    const double margin = 0.08;
    for (int i = 0; i < scene->n; i++)
        if (i != target && noun_fits(noun, &scene->objects[i]) &&
            along(&scene->objects[i], &scene->objects[target], direction) < margin)
            return false;
    return true;
}

/* "Left of" is a quarter of the plane: further left than up or down. */
static bool relation_holds(const synth_scene *scene, synth_noun noun, int target, int anchor, int direction)
{
    const synth_object *const from = &scene->objects[anchor];
    for (int i = 0; i < scene->n; i++) {
        const synth_object *const o = &scene->objects[i];
        if (i == anchor || !noun_fits(noun, o)) continue;
        const double far = along(from, o, direction), side = aside(from, o, direction);
        if (i == target && !(far > 0.12 && far > 1.25 * side)) return false;
        if (i != target && !(far < -0.04 || far < 0.75 * side)) return false;
    }
    return true;
}

/* ---- candidates ---- */

static void candidate_add(synth_candidates *all, int target, synth_noun noun, int word, synth_noun anchor)
{
    assert(all->n < (int)(sizeof all->list / sizeof all->list[0]));
    all->list[all->n++] = (synth_candidate){target, noun, word, anchor};
}

static void find_attributes(const synth_scene *scene, int target, synth_candidates *all)
{
    const synth_object *const o = &scene->objects[target];
    const synth_noun full = noun_of(o, 0);
    const int sharing = noun_count(noun_of(o, 1), scene) + noun_count(noun_of(o, 2), scene);
    if (noun_count(full, scene) == 1 && sharing > 2) candidate_add(all, target, full, 0, full);
}

static void find_sizes(const synth_scene *scene, int target, synth_candidates *all)
{
    for (int way = 0; way < 4; way++) {
        const synth_noun noun = noun_of(&scene->objects[target], way);
        if (noun_count(noun, scene) < 2) continue;
        for (int word = 0; word < SIZE_WORDS; word++)
            if (size_word_holds(scene, noun, target, word)) candidate_add(all, target, noun, word, noun);
    }
}

static void find_positions(const synth_scene *scene, int target, synth_candidates *all)
{
    for (int way = 0; way < 4; way++) {
        const synth_noun noun = noun_of(&scene->objects[target], way);
        if (noun_count(noun, scene) < 2) continue;
        for (int direction = 0; direction < DIRECTIONS; direction++)
            if (position_holds(scene, noun, target, direction)) candidate_add(all, target, noun, direction, noun);
    }
}

static void find_relations_to(const synth_scene *scene, int target, int anchor, bool held_out, synth_candidates *all)
{
    const synth_object *const from = &scene->objects[anchor], *const o = &scene->objects[target];
    for (int anchor_way = 0; anchor_way < 3; anchor_way++) {
        const synth_noun anchor_noun = noun_of(from, anchor_way);
        if (noun_count(anchor_noun, scene) != 1) continue;
        if (vg_synth_relation_is_held_out(o->shape, from->shape) != held_out) continue;
        for (int way = 0; way < 4; way++) {
            const synth_noun noun = noun_of(o, way);
            if (noun_count(noun, scene) - noun_fits(noun, from) < 2) continue;
            for (int direction = 0; direction < DIRECTIONS; direction++)
                if (relation_holds(scene, noun, target, anchor, direction))
                    candidate_add(all, target, noun, direction, anchor_noun);
        }
    }
}

static void find_candidates(const synth_scene *scene, synth_split split, synth_kind kind, synth_candidates *all)
{
    all->n = 0;
    for (int target = 0; target < scene->n; target++) {
        const synth_object *const o = &scene->objects[target];
        if (split == SYNTH_TEST_A && !vg_synth_pair_is_held_out(o->colour, o->shape)) continue;
        if (kind == SYNTH_ATTRIBUTE) find_attributes(scene, target, all);
        if (kind == SYNTH_SIZE) find_sizes(scene, target, all);
        if (kind == SYNTH_POSITION) find_positions(scene, target, all);
        for (int anchor = 0; kind == SYNTH_RELATION && anchor < scene->n; anchor++)
            if (anchor != target) find_relations_to(scene, target, anchor, split == SYNTH_TEST_B, all);
    }
}

/* First the object, evenly, then what is said of it: an object of which much can be said is no likelier a target. */
static const synth_candidate *candidate_draw(const synth_candidates *all, synth_random *random)
{
    int counts[SYNTH_MAX_OBJECTS] = {0}, objects[SYNTH_MAX_OBJECTS], n_objects = 0;
    for (int i = 0; i < all->n; i++)
        if (counts[all->list[i].target]++ == 0) objects[n_objects++] = all->list[i].target;
    const int target = objects[vg_synth_below(random, (uint32_t)n_objects)];
    int skip = (int)vg_synth_below(random, (uint32_t)counts[target]);
    for (int i = 0;; i++)
        if (all->list[i].target == target && skip-- == 0) return &all->list[i];
}

/* ---- wording ---- */

static const char *pick(synth_random *random, const char *const words[], int n)
{
    return words[vg_synth_below(random, (uint32_t)n)];
}

static void word_size(const synth_candidate *c, const char *noun, synth_random *random, char text[TEXT_BYTES])
{
    static const char *const largest[] = {"largest", "biggest"};
    static const char *const words[SIZE_WORDS] = {"smallest", NULL, "small", "large"};
    snprintf(text, TEXT_BYTES, "%s %s", c->word == LARGEST ? pick(random, largest, 2) : words[c->word], noun);
}

static void word_position(const synth_candidate *c, const char *noun, synth_random *random, char text[TEXT_BYTES])
{
    static const char *const before[DIRECTIONS][2] = {
        {"leftmost", "left"}, {"rightmost", "right"}, {"highest", "top"}, {"lowest", "bottom"}};
    static const char *const after[DIRECTIONS] = {"on the left", "on the right", "at the top", "at the bottom"};
    const uint32_t style = vg_synth_below(random, 3);
    if (style < 2)
        snprintf(text, TEXT_BYTES, "%s %s", before[c->word][style], noun);
    else
        snprintf(text, TEXT_BYTES, "%s %s", noun, after[c->word]);
}

static void word_relation(const synth_candidate *c, const char *noun, synth_random *random, char text[TEXT_BYTES])
{
    static const char *const between[DIRECTIONS][2] = {
        {"left of", "to the left of"}, {"right of", "to the right of"}, {"above", "over"}, {"below", "under"}};
    char anchor[NOUN_BYTES];
    noun_text(c->anchor, false, anchor);
    snprintf(text, TEXT_BYTES, "%s %s the %s", noun, pick(random, between[c->word], 2), anchor);
}

static void phrase_word(synth_phrase *phrase, const synth_candidate *c, synth_random *random)
{
    static const char *const articles[] = {"", "the "};
    char noun[NOUN_BYTES], text[TEXT_BYTES];
    noun_text(c->noun, false, noun);
    snprintf(text, sizeof text, "%s", noun);
    if (phrase->kind == SYNTH_SIZE) word_size(c, noun, random, text);
    if (phrase->kind == SYNTH_POSITION) word_position(c, noun, random, text);
    if (phrase->kind == SYNTH_RELATION) word_relation(c, noun, random, text);
    snprintf(phrase->text, sizeof phrase->text, "%s%s", pick(random, articles, 2), text);
}

/* ---- phrases of a scene ---- */

static bool phrase_draw(const synth_scene *scene, synth_split split, synth_kind kind, synth_random *random,
                        synth_phrase *phrase)
{
    synth_candidates all;
    find_candidates(scene, split, kind, &all);
    if (all.n == 0) return false;
    const synth_candidate *const c = candidate_draw(&all, random);
    *phrase = (synth_phrase){.kind = kind, .targets = {c->target}, .n_targets = 1};
    phrase_word(phrase, c, random);
    return true;
}

/* "all the stars", "the blue shapes": two objects or more, but not all there are. */
static bool plural_draw(const synth_scene *scene, synth_random *random, synth_phrase *phrase)
{
    static const char *const articles[] = {"all ", "the ", "all the "};
    const synth_object *const o = &scene->objects[vg_synth_below(random, (uint32_t)scene->n)];
    const synth_noun noun = noun_of(o, (int)vg_synth_below(random, 3));
    const int n = noun_count(noun, scene);
    if (n < 2 || n == scene->n) return false;
    *phrase = (synth_phrase){.kind = SYNTH_PLURAL};
    for (int i = 0; i < scene->n; i++)
        if (noun_fits(noun, &scene->objects[i])) phrase->targets[phrase->n_targets++] = i;
    char text[NOUN_BYTES];
    noun_text(noun, true, text);
    snprintf(phrase->text, sizeof phrase->text, "%s%s", pick(random, articles, 3), text);
    return true;
}

static bool phrase_is_new(const synth_phrase *phrases, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(phrases[i].text, phrases[n].text) == 0) return false;
    return true;
}

/* Several relations of one scene; drawing one twice is drawing it once. */
static int relations_draw(const synth_scene *scene, synth_random *random, synth_phrase phrases[SYNTH_MAX_PHRASES])
{
    int n = 0;
    for (int attempt = 0; attempt < 12 && n < 4; attempt++) {
        if (!phrase_draw(scene, SYNTH_TEST_B, SYNTH_RELATION, random, &phrases[n])) return 0;
        n += phrase_is_new(phrases, n);
    }
    return n < 2 ? 0 : n;
}

int vg_synth_phrases_draw(const synth_scene *scene, synth_split split, bool plural, synth_random *random,
                          synth_phrase phrases[SYNTH_MAX_PHRASES])
{
    if (split == SYNTH_TEST_B) return relations_draw(scene, random, phrases);
    int n = 0;
    for (synth_kind kind = SYNTH_ATTRIBUTE; kind < SYNTH_PLURAL; kind++)
        if (!phrase_draw(scene, split, kind, random, &phrases[n++])) return 0;
    if (plural && !plural_draw(scene, random, &phrases[n++])) return 0;
    return n;
}
