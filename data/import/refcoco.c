/* The RefCOCO family: `<set>/refs(<split_by>).p`, a pickle of refs with their sentences, and `<set>/instances.json`,
 * COCO's images and annotations. A ref names its annotation, and that has the box. The file name in a ref carries an
 * annotation suffix and is no file, so the one of instances.json counts. Two keys more than the originals have are
 * understood: `ann_ids`, a list that replaces ann_id where a phrase means several objects or none, and `kind`, of a ref
 * or of a sentence. */
#define _POSIX_C_SOURCE 200809L
#include "data/import.h"
#include "data/import/image_files_impl.h"
#include "data/import/json_items_impl.h"
#include "data/pickle.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 1 << 20, MAX_NAME_BYTES = 63 };

/* Boxes come through float arithmetic of others and may leave their image by a rounding. */
#define BOX_SLACK 0.02

typedef struct coco_image {
    int64_t id;
    int64_t flickr_id; /* 0 where its flickr_url does not say */
    int width, height;
    char *file_name; /* NULL when the entry is malformed */
} coco_image;

typedef struct coco_annotation {
    int64_t id, image_id;
    double box[4]; /* x y w h, pixels */
    bool is_whole; /* false when the entry is malformed */
} coco_annotation;

typedef struct ref {
    int64_t image_id;
    size_t order; /* in the pickle */
    const vg_pickle_value *value;
} ref;

typedef char fault_text[128]; /* what is wrong, in words; "" while nothing is */

typedef struct sentence_list {
    vg_new_sentence *item;
    size_t n, capacity;
} sentence_list;

typedef struct refcoco {
    vg_import_log *log;
    char *json_path, *pickle_path, *split_by;
    bool is_coco; /* image ids are those of COCO */
    coco_image *images;
    size_t n_images, images_capacity;
    coco_annotation *annotations;
    size_t n_annotations, annotations_capacity;
    vg_pickle *pickle;
    ref *refs; /* by image, then as in the pickle */
    size_t n_refs, refs_capacity, next_ref;
    vg_image_folders folders;
    /* The record that was handed out last. */
    sentence_list sentences;
    float *boxes;
    size_t n_boxes, boxes_capacity;
    size_t *first_box; /* of each sentence: boxes may move while they grow */
    size_t first_box_capacity;
} refcoco;

/* ---- instances.json ---- */

/* What is malformed here matters only where a ref names it: it is kept as such. What has no id cannot be named. */
static vg_status image_item(void *user, const json_t *item, size_t index)
{
    (void)index;
    refcoco *r = user;
    const json_t *id = json_object_get(item, "id"), *name = json_object_get(item, "file_name");
    const json_int_t width = json_integer_value(json_object_get(item, "width"));
    const json_int_t height = json_integer_value(json_object_get(item, "height"));
    if (!json_is_integer(id)) return VG_OK;
    coco_image image = {.id = json_integer_value(id)};
    VG_TRY(vg_grow(&r->images, &r->images_capacity, r->n_images + 1, sizeof *r->images));
    if (json_is_string(name) && width > 0 && width <= MAX_SIDE && height > 0 && height <= MAX_SIDE) {
        image.width = (int)width;
        image.height = (int)height;
        image.flickr_id = vg_flickr_id(json_string_value(json_object_get(item, "flickr_url")));
        image.file_name = vg_copy_string(json_string_value(name));
        VG_CHECK(image.file_name, VG_E_NOMEM, "%s: no memory for the images", r->json_path);
    }
    r->images[r->n_images++] = image;
    return VG_OK;
}

static vg_status annotation_item(void *user, const json_t *item, size_t index)
{
    (void)index;
    refcoco *r = user;
    const json_t *id = json_object_get(item, "id"), *image_id = json_object_get(item, "image_id");
    const json_t *box = json_object_get(item, "bbox");
    if (!json_is_integer(id)) return VG_OK;
    coco_annotation a = {.id = json_integer_value(id), .image_id = json_integer_value(image_id)};
    a.is_whole = json_is_integer(image_id) && json_array_size(box) == 4;
    for (size_t i = 0; i < 4; i++) {
        a.is_whole = a.is_whole && json_is_number(json_array_get(box, i));
        a.box[i] = json_number_value(json_array_get(box, i));
    }
    VG_TRY(vg_grow(&r->annotations, &r->annotations_capacity, r->n_annotations + 1, sizeof *r->annotations));
    r->annotations[r->n_annotations++] = a;
    return VG_OK;
}

static int by_id(const void *a, const void *b)
{
    int64_t x, y; /* the id is the first member of both rows */
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static vg_status sort_by_id(const refcoco *r, void *rows, size_t n, size_t row_bytes, const char *what)
{
    if (n > 0) qsort(rows, n, row_bytes, by_id);
    for (size_t i = 1; i < n; i++) {
        const char *row = (const char *)rows + i * row_bytes;
        int64_t id;
        memcpy(&id, row, sizeof id);
        VG_CHECK(by_id(row - row_bytes, row) != 0, VG_E_DATA, "%s: two %s have the id %lld", r->json_path, what,
                 (long long)id);
    }
    return VG_OK;
}

static vg_status instances_read(refcoco *r)
{
    vg_json_array arrays[] = {{"images", image_item, false}, {"annotations", annotation_item, false}};
    VG_TRY(vg_json_items(r->json_path, r->log, arrays, 2, r));
    VG_TRY(sort_by_id(r, r->images, r->n_images, sizeof *r->images, "images"));
    return sort_by_id(r, r->annotations, r->n_annotations, sizeof *r->annotations, "annotations");
}

static const coco_image *image_find(const refcoco *r, int64_t id)
{
    return r->n_images ? bsearch(&id, r->images, r->n_images, sizeof *r->images, by_id) : NULL;
}

static const coco_annotation *annotation_find(const refcoco *r, int64_t id)
{
    return r->n_annotations ? bsearch(&id, r->annotations, r->n_annotations, sizeof *r->annotations, by_id) : NULL;
}

/* ---- refs ---- */

static int by_image(const void *a, const void *b)
{
    const ref *x = a, *y = b;
    if (x->image_id != y->image_id) return x->image_id < y->image_id ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static vg_status ref_add(refcoco *r, const vg_pickle_value *value, size_t order)
{
    const size_t n_sentences = vg_pickle_count(vg_pickle_find(value, "sentences"));
    int64_t ref_id, image_id;
    if (!vg_pickle_int(vg_pickle_find(value, "ref_id"), &ref_id) ||
        !vg_pickle_int(vg_pickle_find(value, "image_id"), &image_id) ||
        !vg_pickle_text(vg_pickle_find(value, "split"), NULL) || n_sentences == 0)
        return vg_import_reject(r->log, n_sentences, "%s: refs[%zu]: no ref_id, image_id, split and sentences",
                                r->pickle_path, order);
    const coco_image *image = image_find(r, image_id);
    if (!image || !image->file_name)
        return vg_import_reject(r->log, n_sentences, "ref %lld: image %lld %s", (long long)ref_id, (long long)image_id,
                                image ? "has no file_name, width and height" : "is not in instances.json");
    VG_TRY(vg_grow(&r->refs, &r->refs_capacity, r->n_refs + 1, sizeof *r->refs));
    r->refs[r->n_refs++] = (ref){image_id, order, value};
    return VG_OK;
}

static vg_status refs_read(refcoco *r)
{
    VG_TRY(vg_pickle_read(r->pickle_path, &r->pickle));
    const vg_pickle_value *list = vg_pickle_root(r->pickle);
    VG_CHECK(vg_pickle_kind_of(list) == VG_PICKLE_LIST, VG_E_DATA, "%s: holds no list of refs", r->pickle_path);
    for (size_t i = 0; i < vg_pickle_count(list); i++) VG_TRY(ref_add(r, vg_pickle_item(list, i), i));
    if (r->n_refs > 0) qsort(r->refs, r->n_refs, sizeof *r->refs, by_image);
    return VG_OK;
}

/* ---- sentences ---- */

/* The splits a ref belongs to, by the rule of the reference reader: the letters A and B mean testA and testB, wherever
 * they stand; "test" anywhere means test; else the name itself. */
static size_t splits_of(const char *split, const char *out[2])
{
    size_t n = 0;
    if (strchr(split, 'A')) out[n++] = "testA";
    if (strchr(split, 'B')) out[n++] = "testB";
    if (n == 0) out[n++] = strstr(split, "test") ? "test" : split;
    return n;
}

/* What is wrong with the box of an annotation, NULL when it went into `out`. */
static const char *box_fault(const coco_annotation *a, const coco_image *image, float out[4])
{
    if (!a) return "is not in instances.json";
    if (!a->is_whole) return "has no image_id and bbox of four numbers";
    if (a->image_id != image->id) return "belongs to another image";
    const double xyxy[4] = {a->box[0], a->box[1], a->box[0] + a->box[2], a->box[1] + a->box[3]};
    return vg_import_box_fault(xyxy, image->width, image->height, BOX_SLACK, out);
}

/* One more box behind those there are; or what is wrong with it, in words. */
static vg_status box_add(refcoco *r, const vg_pickle_value *annotation, const coco_image *image, fault_text fault)
{
    int64_t id;
    if (!vg_pickle_int(annotation, &id)) {
        snprintf(fault, sizeof(fault_text), "an annotation id is no integer");
        return VG_OK;
    }
    VG_TRY(vg_grow(&r->boxes, &r->boxes_capacity, 4 * (r->n_boxes + 1), sizeof *r->boxes));
    const char *why = box_fault(annotation_find(r, id), image, r->boxes + 4 * r->n_boxes);
    if (why)
        snprintf(fault, sizeof(fault_text), "annotation %lld %s", (long long)id, why);
    else
        r->n_boxes++;
    return VG_OK;
}

/* The boxes of a ref, behind those there are, until one is at fault. */
static vg_status ref_boxes(refcoco *r, const vg_pickle_value *value, const coco_image *image, fault_text fault)
{
    const vg_pickle_value *several = vg_pickle_find(value, "ann_ids");
    if (vg_pickle_kind_of(several) != VG_PICKLE_LIST) return box_add(r, vg_pickle_find(value, "ann_id"), image, fault);
    for (size_t i = 0; i < vg_pickle_count(several) && !fault[0]; i++)
        VG_TRY(box_add(r, vg_pickle_item(several, i), image, fault));
    return VG_OK;
}

static const char *trimmed(const char *text, size_t *n)
{
    while (*n > 0 && isspace((unsigned char)text[*n - 1])) (*n)--;
    while (*n > 0 && isspace((unsigned char)*text)) text++, (*n)--;
    return text;
}

static const char *kind_of(const vg_pickle_value *sentence, const vg_pickle_value *value)
{
    const char *kind = vg_pickle_text(vg_pickle_find(sentence, "kind"), NULL);
    if (!kind) kind = vg_pickle_text(vg_pickle_find(value, "kind"), NULL);
    return kind ? kind : "";
}

/* One sentence of a ref, once for each of its splits. Its boxes start at first_box. */
static vg_status sentence_add(refcoco *r, const ref *from, size_t index, size_t first_box)
{
    const vg_pickle_value *sentence = vg_pickle_item(vg_pickle_find(from->value, "sentences"), index);
    vg_new_sentence s = {.kind = kind_of(sentence, from->value), .n_boxes = (int)(r->n_boxes - first_box)};
    (void)vg_pickle_int(vg_pickle_find(from->value, "ref_id"), &s.ref_id); /* ref_add saw it */
    const char *text = vg_pickle_text(vg_pickle_find(sentence, "sent"), &s.text_bytes);
    const char *split = vg_pickle_text(vg_pickle_find(from->value, "split"), NULL), *splits[2] = {0};
    if (!text || !vg_pickle_int(vg_pickle_find(sentence, "sent_id"), &s.sentence_id))
        return vg_import_reject(r->log, 1, "ref %lld: sentences[%zu]: no sent_id and sent", (long long)s.ref_id, index);
    s.text = trimmed(text, &s.text_bytes);
    if (s.text_bytes == 0 || memchr(s.text, '\0', s.text_bytes))
        return vg_import_reject(r->log, 1, "sentence %lld: its text is empty or holds a NUL", (long long)s.sentence_id);
    if (strlen(split) > MAX_NAME_BYTES || split[0] == '\0' || strlen(s.kind) > MAX_NAME_BYTES)
        return vg_import_reject(r->log, 1, "sentence %lld: its split or kind is not 1 to %d bytes long",
                                (long long)s.sentence_id, MAX_NAME_BYTES);
    const size_t n_splits = splits_of(split, splits);
    for (size_t i = 0; i < n_splits; i++) {
        s.split = splits[i];
        VG_TRY(vg_grow(&r->sentences.item, &r->sentences.capacity, r->sentences.n + 1, sizeof *r->sentences.item));
        VG_TRY(vg_grow(&r->first_box, &r->first_box_capacity, r->sentences.n + 1, sizeof *r->first_box));
        r->first_box[r->sentences.n] = first_box;
        r->sentences.item[r->sentences.n++] = s;
    }
    return VG_OK;
}

static vg_status ref_sentences(refcoco *r, const ref *from, const coco_image *image)
{
    const size_t n = vg_pickle_count(vg_pickle_find(from->value, "sentences")), first_box = r->n_boxes;
    fault_text fault = "";
    int64_t ref_id = 0;
    (void)vg_pickle_int(vg_pickle_find(from->value, "ref_id"), &ref_id);
    VG_TRY(ref_boxes(r, from->value, image, fault));
    if (fault[0]) return vg_import_reject(r->log, n, "ref %lld: %s", (long long)ref_id, fault);
    for (size_t i = 0; i < n; i++) VG_TRY(sentence_add(r, from, i, first_box));
    return VG_OK;
}

/* ---- files ---- */

/* Where people keep COCO's images, below the folder they name or beside the annotations. */
static vg_status folders_fill(refcoco *r, const char *images, const char *set_folder)
{
    static const char *const usual[] = {"mscoco/images/train2014", "train2014", "val2017", "train2017", ""};
    vg_text base = {0};
    vg_status st = VG_OK;
    if (images) {
        VG_TRY(vg_image_folders_add(&r->folders, images, ""));
        for (size_t i = 0; i + 1 < sizeof usual / sizeof *usual; i++)
            VG_TRY(vg_image_folders_add(&r->folders, images, usual[i]));
        return VG_OK;
    }
    static const char *const beside[] = {"../images", "images", ".."};
    for (size_t b = 0; b < sizeof beside / sizeof *beside && st == VG_OK; b++) {
        base.length = 0;
        st = vg_text_add(&base, "%s/%s", set_folder, beside[b]);
        for (size_t i = 0; i < sizeof usual / sizeof *usual && st == VG_OK; i++)
            st = vg_image_folders_add(&r->folders, base.data, usual[i]);
    }
    free(base.data);
    return st;
}

/* The folder with instances.json: root itself or the set's folder in it. */
static vg_status set_folder_find(const vg_import_source *source, vg_text *folder)
{
    vg_text json = {0};
    vg_status st = VG_OK;
    bool found = false;
    for (int in_root = 0; in_root < 2 && !found && st == VG_OK; in_root++) {
        folder->length = json.length = 0;
        st =
            in_root ? vg_text_add(folder, "%s", source->root) : vg_text_add(folder, "%s/%s", source->root, source->set);
        if (st == VG_OK) st = vg_text_add(&json, "%s/instances.json", folder->data);
        found = st == VG_OK && vg_is_file(json.data);
    }
    free(json.data);
    if (st == VG_OK && !found)
        st = vg_fail(VG_E_DATA,
                     "%s: neither instances.json nor %s/instances.json is there; name the folder that holds %s",
                     source->root, source->set, source->set);
    return st;
}

/* The split_by of a name like refs(unc).p, which stands between the brackets; n = 0 for another name. */
static const char *split_by_of(const char *file_name, size_t *n)
{
    const size_t length = strlen(file_name);
    const bool fits = length > 8 && strncmp(file_name, "refs(", 5) == 0 && strcmp(file_name + length - 3, ").p") == 0;
    *n = fits ? length - 8 : 0;
    return file_name + 5;
}

/* Without a name given: the usual one when it is there, else the only one there is. */
static vg_status split_by_choose(const char *folder, const char *set, vg_text *split_by)
{
    const vg_import_set *row = vg_import_set_find(set);
    vg_text all = {0}, only = {0};
    int count = 0;
    bool usual = false;
    vg_status st = VG_OK;
    DIR *dir = opendir(folder);
    VG_CHECK(dir, VG_E_DATA, "%s: %s", folder, strerror(errno));
    for (const struct dirent *entry; st == VG_OK && (entry = readdir(dir));) {
        size_t n;
        const char *name = split_by_of(entry->d_name, &n);
        if (n == 0) continue;
        only.length = 0;
        st = vg_text_add_bytes(&only, name, n);
        if (st == VG_OK) st = vg_text_add(&all, "%s%s", count++ ? ", " : "", only.data);
        if (st == VG_OK && row && strcmp(only.data, row->split_by) == 0) usual = true;
    }
    closedir(dir);
    if (st == VG_OK && usual)
        st = vg_text_add(split_by, "%s", row->split_by);
    else if (st == VG_OK && count == 1)
        st = vg_text_add(split_by, "%s", only.data);
    else if (st == VG_OK)
        st = vg_fail(VG_E_DATA, "%s: which refs(..).p? There are: %s; say it with --split-by", folder,
                     count ? all.data : "none");
    free(all.data);
    free(only.data);
    return st;
}

static vg_status paths_fill(refcoco *r, const vg_import_source *source, const char *folder)
{
    vg_text json = {0}, pickle = {0}, split_by = {0};
    vg_status st = source->split_by ? vg_text_add(&split_by, "%s", source->split_by)
                                    : split_by_choose(folder, source->set, &split_by);
    r->split_by = split_by.data;
    VG_TRY(st);
    st = vg_text_add(&json, "%s/instances.json", folder);
    r->json_path = json.data;
    VG_TRY(st);
    st = vg_text_add(&pickle, "%s/refs(%s).p", folder, r->split_by);
    r->pickle_path = pickle.data;
    return st;
}

/* ---- the importer ---- */

static bool refcoco_probe(const char *set, const char *root)
{
    vg_text folder = {0};
    const vg_import_source source = {.set = set, .root = root};
    const bool found = set_folder_find(&source, &folder) == VG_OK;
    free(folder.data);
    return found;
}

static void refcoco_close(void *state)
{
    refcoco *r = state;
    if (!r) return;
    for (size_t i = 0; i < r->n_images; i++) free(r->images[i].file_name);
    vg_image_folders_release(&r->folders);
    vg_pickle_free(r->pickle);
    free(r->images);
    free(r->annotations);
    free(r->refs);
    free(r->sentences.item);
    free(r->boxes);
    free(r->first_box);
    free(r->json_path);
    free(r->pickle_path);
    free(r->split_by);
    free(r);
}

static vg_status refcoco_fill(refcoco *r, const vg_import_source *source)
{
    vg_text folder = {0};
    vg_status st = set_folder_find(source, &folder);
    if (st == VG_OK) st = paths_fill(r, source, folder.data);
    if (st == VG_OK) st = folders_fill(r, source->images, folder.data);
    free(folder.data);
    VG_TRY(st);
    VG_TRY(instances_read(r));
    return refs_read(r);
}

static vg_status refcoco_open(const vg_import_source *source, vg_import_log *log, void **state, const char **split_by)
{
    refcoco *r = vg_new0(sizeof *r);
    VG_CHECK(r, VG_E_NOMEM, "%s: no memory for an importer", source->root);
    r->log = log;
    r->is_coco = strncmp(source->set, "refcoco", strlen("refcoco")) == 0;
    const vg_status st = refcoco_fill(r, source);
    if (st != VG_OK) {
        refcoco_close(r);
        return st;
    }
    *state = r;
    *split_by = r->split_by;
    return VG_OK;
}

/* All sentences of the next image; none when every one of them was rejected. */
static vg_status image_sentences(refcoco *r, const coco_image *image)
{
    r->sentences.n = r->n_boxes = 0;
    for (; r->next_ref < r->n_refs && r->refs[r->next_ref].image_id == image->id; r->next_ref++)
        VG_TRY(ref_sentences(r, &r->refs[r->next_ref], image));
    for (size_t i = 0; i < r->sentences.n; i++) r->sentences.item[i].boxes = r->boxes + 4 * r->first_box[i];
    return VG_OK;
}

static vg_status refcoco_next(void *state, vg_import_record *record, bool *more)
{
    refcoco *r = state;
    while (r->next_ref < r->n_refs) {
        const coco_image *image = image_find(r, r->refs[r->next_ref].image_id);
        VG_TRY(image_sentences(r, image));
        if (r->sentences.n > 0 && !vg_name_is_inside(image->file_name)) {
            VG_TRY(vg_import_reject(r->log, r->sentences.n, "image %lld: its file name '%s' leads out of the folder",
                                    (long long)image->id, image->file_name));
            continue;
        }
        if (r->sentences.n == 0) continue;
        const char *path = NULL;
        VG_TRY(vg_image_folders_find(&r->folders, image->file_name, &path));
        *record = (vg_import_record){.image_id = image->id,
                                     .coco_id = r->is_coco ? image->id : 0,
                                     .flickr_id = image->flickr_id,
                                     .width = image->width,
                                     .height = image->height,
                                     .file_name = image->file_name,
                                     .path = path,
                                     .sentences = r->sentences.item,
                                     .n_sentences = r->sentences.n};
        *more = true;
        return VG_OK;
    }
    *more = false;
    return VG_OK;
}

static double refcoco_share(void *state)
{
    const refcoco *r = state;
    return r->n_refs ? (double)r->next_ref / (double)r->n_refs : 1;
}

extern const vg_importer vg_refcoco; /* a row of importers.def names it */
const vg_importer vg_refcoco = {
    .probe = refcoco_probe, .open = refcoco_open, .next = refcoco_next, .share = refcoco_share, .close = refcoco_close};
