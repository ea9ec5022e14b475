/* The files of the made-up data set. Annotations are gathered in memory while pictures are written one by one; the
 * refs file comes last, so that a folder which has it is whole. */
#include "data/synth.h"

#include "data/synth_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JPEG_QUALITY = 95, MAX_IMAGES = 10000000 };

static const char *const SPLIT_NAMES[SYNTH_SPLITS] = {"train", "val", "testA", "testB"};

typedef struct synth_writer {
    const vg_synth_spec *spec;
    vg_text images, annotations; /* JSON, without the brackets around */
    synth_pickle refs;
    int32_t image_id, annotation_id, ref_id; /* the last ones given, from 1 */
} synth_writer;

vg_synth_spec vg_synth_defaults(const char *folder)
{
    return (vg_synth_spec){.folder = folder, .seed = 1, .n_train = 16000, .n_val = 500, .n_test = 250, .side = 128};
}

static vg_status spec_check(const vg_synth_spec *spec)
{
    VG_CHECK(spec->folder && spec->folder[0], VG_E_USAGE, "synth: no folder to write to");
    VG_CHECK(spec->side >= 32 && spec->side <= 2048, VG_E_USAGE, "synth: a side of %d pixels; 32 to 2048 can be drawn",
             spec->side);
    VG_CHECK(spec->n_train >= 0 && spec->n_val >= 0 && spec->n_test >= 0 && spec->n_train <= MAX_IMAGES &&
                 spec->n_val <= MAX_IMAGES && spec->n_test <= MAX_IMAGES,
             VG_E_USAGE, "synth: image counts go from 0 to %d", MAX_IMAGES);
    VG_CHECK(spec->plural >= 0.0 && spec->plural <= 1.0, VG_E_USAGE, "synth: plural is a share, 0 to 1");
    return VG_OK;
}

/* ---- one image ---- */

static const char *format_suffix(const vg_synth_spec *spec)
{
    return spec->format == VG_SYNTH_PNG ? "png" : "jpg";
}

/* Pictures are many and can be made again, so they are not synced one by one. */
static vg_status bytes_write(const char *path, const unsigned char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    VG_CHECK(f, VG_E_STORAGE, "%s: %s", path, strerror(errno));
    const bool written = fwrite(bytes, 1, n, f) == n;
    const bool closed = fclose(f) == 0;
    VG_CHECK(written && closed, VG_E_STORAGE, "%s: %s", path, strerror(errno));
    return VG_OK;
}

static vg_status image_write(const synth_writer *w, const vg_image *image)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    if (w->spec->format == VG_SYNTH_PNG)
        VG_TRY(vg_image_encode_png(image, &bytes, &n));
    else
        VG_TRY(vg_image_encode_jpeg(image, JPEG_QUALITY, &bytes, &n));
    vg_text path = {0};
    vg_status st = vg_text_add(&path, "%s/images/%07d.%s", w->spec->folder, w->image_id, format_suffix(w->spec));
    if (st == VG_OK) st = bytes_write(path.data, bytes, n);
    free(path.data);
    free(bytes);
    return st;
}

static vg_status image_record(synth_writer *w)
{
    return vg_text_add(&w->images, "%s{\"id\": %d, \"file_name\": \"%07d.%s\", \"width\": %d, \"height\": %d}",
                       w->images.length ? ",\n" : "", w->image_id, w->image_id, format_suffix(w->spec), w->spec->side,
                       w->spec->side);
}

static vg_status object_record(synth_writer *w, const synth_object *o)
{
    const double side = w->spec->side;
    const double x = o->box[0] * side, y = o->box[1] * side;
    const double width = o->box[2] * side - x, height = o->box[3] * side - y;
    return vg_text_add(&w->annotations,
                       "%s{\"id\": %d, \"image_id\": %d, \"category_id\": %d, \"bbox\": [%.3f, %.3f, %.3f, %.3f], "
                       "\"area\": %.3f, \"iscrowd\": 0, \"segmentation\": []}",
                       w->annotations.length ? ",\n" : "", ++w->annotation_id, w->image_id, o->shape + 1, x, y, width,
                       height, width * height);
}

/* ---- one ref ---- */

static void refs_key_int(synth_pickle *p, const char *key, int32_t value)
{
    vg_synth_pickle_string(p, key);
    vg_synth_pickle_int(p, value);
}

static void refs_key_string(synth_pickle *p, const char *key, const char *value)
{
    vg_synth_pickle_string(p, key);
    vg_synth_pickle_string(p, value);
}

static void refs_tokens(synth_pickle *p, const char *text)
{
    vg_synth_pickle_string(p, "tokens");
    vg_synth_pickle_list(p);
    while (*text) {
        char word[32];
        const size_t n = strcspn(text, " ");
        snprintf(word, sizeof word, "%.*s", (int)n, text);
        vg_synth_pickle_string(p, word);
        text += n + (text[n] == ' ');
    }
    vg_synth_pickle_list_end(p);
}

static void refs_sentences(synth_pickle *p, int32_t id, const char *text)
{
    vg_synth_pickle_string(p, "sent_ids");
    vg_synth_pickle_list(p);
    vg_synth_pickle_int(p, id);
    vg_synth_pickle_list_end(p);
    vg_synth_pickle_string(p, "sentences");
    vg_synth_pickle_list(p);
    vg_synth_pickle_dict(p);
    refs_tokens(p, text);
    refs_key_string(p, "raw", text);
    refs_key_int(p, "sent_id", id);
    refs_key_string(p, "sent", text);
    vg_synth_pickle_dict_end(p);
    vg_synth_pickle_list_end(p);
}

/* Annotation ids of a scene run from first_annotation. As in RefCOCO, a ref's file_name carries its annotation and is
 * not a file. */
static void ref_record(synth_writer *w, synth_split split, const synth_scene *scene, const synth_phrase *phrase)
{
    synth_pickle *const p = &w->refs;
    const int32_t first_annotation = w->annotation_id - scene->n + 1;
    const int32_t annotation = first_annotation + phrase->targets[0];
    char file_name[64];
    snprintf(file_name, sizeof file_name, "%07d_%d.%s", w->image_id, annotation, format_suffix(w->spec));
    vg_synth_pickle_dict(p);
    refs_key_int(p, "ref_id", ++w->ref_id);
    refs_key_int(p, "ann_id", annotation);
    refs_key_int(p, "image_id", w->image_id);
    refs_key_int(p, "category_id", scene->objects[phrase->targets[0]].shape + 1);
    refs_key_string(p, "file_name", file_name);
    refs_key_string(p, "split", SPLIT_NAMES[split]);
    refs_key_string(p, "kind", vg_synth_kind_name(phrase->kind));
    vg_synth_pickle_string(p, "ann_ids");
    vg_synth_pickle_list(p);
    for (int i = 0; i < phrase->n_targets; i++) vg_synth_pickle_int(p, first_annotation + phrase->targets[i]);
    vg_synth_pickle_list_end(p);
    refs_sentences(p, w->ref_id, phrase->text);
    vg_synth_pickle_dict_end(p);
}

/* ---- a split ---- */

/* Draws scenes until one offers every kind of phrase. */
static int scene_with_phrases(synth_random *random, synth_split split, bool plural, synth_scene *scene,
                              synth_phrase phrases[SYNTH_MAX_PHRASES])
{
    int n = 0;
    while (n == 0)
        if (vg_synth_scene_draw(random, split, scene)) n = vg_synth_phrases_draw(scene, split, plural, random, phrases);
    return n;
}

static vg_status image_make(synth_writer *w, synth_split split)
{
    synth_random random;
    synth_scene scene;
    synth_phrase phrases[SYNTH_MAX_PHRASES];
    w->image_id++;
    vg_synth_random_init(&random, w->spec->seed, "synth scene", (uint64_t)w->image_id);
    const bool plural = split != SYNTH_TEST_B && vg_synth_between(&random, 0.0, 1.0) < w->spec->plural;
    const int n_phrases = scene_with_phrases(&random, split, plural, &scene, phrases);
    vg_image image = {0};
    VG_TRY(vg_synth_paint(&scene, &random, w->spec->side, &image));
    const vg_status st = image_write(w, &image);
    vg_image_release(&image);
    VG_TRY(st);
    VG_TRY(image_record(w));
    for (int i = 0; i < scene.n; i++) VG_TRY(object_record(w, &scene.objects[i]));
    for (int i = 0; i < n_phrases; i++) ref_record(w, split, &scene, &phrases[i]);
    return w->refs.status;
}

static vg_status splits_make(synth_writer *w)
{
    const int counts[SYNTH_SPLITS] = {w->spec->n_train, w->spec->n_val, w->spec->n_test, w->spec->n_test};
    vg_synth_pickle_begin(&w->refs);
    vg_synth_pickle_list(&w->refs);
    for (synth_split split = SYNTH_TRAIN; split < SYNTH_SPLITS; split++)
        for (int i = 0; i < counts[split]; i++) VG_TRY(image_make(w, split));
    vg_synth_pickle_list_end(&w->refs);
    vg_synth_pickle_end(&w->refs);
    return w->refs.status;
}

/* ---- the folder ---- */

static vg_status instances_text(const synth_writer *w, vg_text *text)
{
    const char *const images = w->images.data ? w->images.data : "";
    const char *const annotations = w->annotations.data ? w->annotations.data : "";
    VG_TRY(vg_text_add(text, "{\"info\": {\"description\": \"made-up scenes of vlgtr, seed %llu\"},\n\"images\": [\n",
                       (unsigned long long)w->spec->seed));
    VG_TRY(vg_text_add_bytes(text, images, strlen(images)));
    VG_TRY(vg_text_add(text, "],\n\"annotations\": [\n"));
    VG_TRY(vg_text_add_bytes(text, annotations, strlen(annotations)));
    VG_TRY(vg_text_add(text, "],\n\"categories\": ["));
    for (int s = 0; s < SYNTH_SHAPES; s++)
        VG_TRY(vg_text_add(text, "%s{\"id\": %d, \"name\": \"%s\"}", s ? ", " : "", s + 1, vg_synth_shape_name(s)));
    return vg_text_add(text, "]}\n");
}

static vg_status folder_make(const char *folder, const char *name)
{
    vg_text path = {0};
    vg_status st = vg_text_add(&path, "%s/%s", folder, name);
    if (st == VG_OK) st = vg_make_directories(path.data);
    free(path.data);
    return st;
}

static vg_status file_make(const char *folder, const char *name, const vg_text *text)
{
    vg_text path = {0};
    vg_status st = vg_text_add(&path, "%s/%s", folder, name);
    if (st == VG_OK) st = vg_file_write_atomic(path.data, text->data, text->length);
    free(path.data);
    return st;
}

static vg_status folder_fill(synth_writer *w)
{
    const char *const folder = w->spec->folder;
    VG_TRY(folder_make(folder, "images"));
    VG_TRY(folder_make(folder, "synth"));
    VG_TRY(splits_make(w));
    vg_text tokenizer = {0}, instances = {0};
    vg_status st = vg_text_add(&tokenizer, "%s/tokenizer", folder);
    if (st == VG_OK) st = vg_synth_tokenizer_write(tokenizer.data);
    if (st == VG_OK) st = instances_text(w, &instances);
    if (st == VG_OK) st = file_make(folder, "synth/instances.json", &instances);
    if (st == VG_OK) st = file_make(folder, "synth/refs(vlgtr).p", &w->refs.bytes);
    free(tokenizer.data);
    free(instances.data);
    return st;
}

vg_status vg_synth_write(const vg_synth_spec *spec)
{
    VG_TRY(spec_check(spec));
    synth_writer w = {.spec = spec};
    const vg_status st = folder_fill(&w);
    free(w.images.data);
    free(w.annotations.data);
    free(w.refs.bytes.data);
    return st;
}
