/* The RefCOCO family: `<set>/refs(<split_by>).p`, a pickle of refs with their sentences, and `<set>/instances.json`,
 * COCO's images and annotations. A ref names its annotation, and that has the box. The file name in a ref carries an
 * annotation suffix and is no file, so the one of instances.json counts. Two keys more than the originals have are
 * understood: `ann_ids`, a list that replaces ann_id where a phrase means several objects or none, and `kind`, of a ref
 * or of a sentence. */
#define _POSIX_C_SOURCE 200809L
#include "data/import/collector_impl.h"
#include "data/import/file_list_impl.h"
#include "data/import/json_items_impl.h"
#include "data/pickle.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Boxes come through float arithmetic of others and may leave their image by a rounding. */
#define BOX_SLACK 0.02

typedef struct annotation {
    int64_t id, image_id;
    double xyxy[4]; /* pixels */
    bool is_whole;  /* false when the entry is malformed */
} annotation;

typedef char fault_text[128]; /* what is wrong, in words; "" while nothing is */

typedef struct refcoco {
    vg_import_log *log;
    vg_collector *collector;
    char *json_path, *pickle_path, *split_by;
    bool is_coco;            /* image ids are those of COCO */
    annotation *annotations; /* by id */
    size_t n_annotations, annotations_capacity;
    double (*boxes)[4]; /* of the ref at hand */
    size_t n_boxes, boxes_capacity;
} refcoco;

/* ---- instances.json ---- */

/* A malformed image or annotation matters only where a ref names it. */
static vg_status image_item(void *user, const json_t *item, size_t index)
{
    (void)index;
    refcoco *r = user;
    vg_collected_image image = {.file_name = json_string_value(json_object_get(item, "file_name")),
                                .flickr_id = vg_flickr_id(json_string_value(json_object_get(item, "flickr_url")))};
    if (!vg_json_int(item, "id", &image.image_id) || !image.file_name || !vg_json_side(item, "width", &image.width) ||
        !vg_json_side(item, "height", &image.height))
        return VG_OK;
    image.coco_id = r->is_coco ? image.image_id : 0;
    return vg_collector_image(r->collector, &image);
}

static vg_status annotation_item(void *user, const json_t *item, size_t index)
{
    (void)index;
    refcoco *r = user;
    annotation a = {0};
    if (!vg_json_int(item, "id", &a.id)) return VG_OK;
    a.is_whole = vg_json_int(item, "image_id", &a.image_id) && vg_json_box(json_object_get(item, "bbox"), true, a.xyxy);
    VG_TRY(vg_grow(&r->annotations, &r->annotations_capacity, r->n_annotations + 1, sizeof *r->annotations));
    r->annotations[r->n_annotations++] = a;
    return VG_OK;
}

static int by_id(const void *a, const void *b)
{
    const annotation *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static vg_status instances_read(refcoco *r)
{
    vg_json_array arrays[] = {{"images", image_item, false}, {"annotations", annotation_item, false}};
    VG_TRY(vg_json_items(r->json_path, r->log, arrays, 2, r));
    if (r->n_annotations > 0) qsort(r->annotations, r->n_annotations, sizeof *r->annotations, by_id);
    for (size_t i = 1; i < r->n_annotations; i++)
        VG_CHECK(r->annotations[i].id != r->annotations[i - 1].id, VG_E_DATA, "%s: two annotations have the id %lld",
                 r->json_path, (long long)r->annotations[i].id);
    return VG_OK;
}

/* ---- boxes of a ref ---- */

/* One more box behind those there are; or what is wrong with it, in words. */
static vg_status box_add(refcoco *r, const vg_pickle_value *from, int64_t image_id, fault_text fault)
{
    annotation wanted = {0};
    if (!vg_pickle_int(from, &wanted.id)) {
        snprintf(fault, sizeof(fault_text), "an annotation id is no integer");
        return VG_OK;
    }
    const annotation *a =
        r->n_annotations ? bsearch(&wanted, r->annotations, r->n_annotations, sizeof *r->annotations, by_id) : NULL;
    if (a && a->is_whole && a->image_id != image_id) {
        snprintf(fault, sizeof(fault_text), "annotation %lld belongs to image %lld and not to %lld",
                 (long long)wanted.id, (long long)a->image_id, (long long)image_id);
        return VG_OK;
    }
    if (!a || !a->is_whole) {
        snprintf(fault, sizeof(fault_text), "annotation %lld %s", (long long)wanted.id,
                 a ? "has no image_id and bbox of four numbers" : "is not in instances.json");
        return VG_OK;
    }
    VG_TRY(vg_grow(&r->boxes, &r->boxes_capacity, r->n_boxes + 1, sizeof *r->boxes));
    memcpy(r->boxes[r->n_boxes++], a->xyxy, sizeof *r->boxes);
    return VG_OK;
}

/* All boxes of a ref, until one is at fault. */
static vg_status boxes_read(refcoco *r, const vg_pickle_value *value, int64_t image_id, fault_text fault)
{
    const vg_pickle_value *several = vg_pickle_find(value, "ann_ids");
    r->n_boxes = 0;
    if (vg_pickle_kind_of(several) != VG_PICKLE_LIST)
        return box_add(r, vg_pickle_find(value, "ann_id"), image_id, fault);
    for (size_t i = 0; i < vg_pickle_count(several) && !fault[0]; i++)
        VG_TRY(box_add(r, vg_pickle_item(several, i), image_id, fault));
    return VG_OK;
}

/* ---- refs ---- */

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

static const char *kind_of(const vg_pickle_value *sentence, const vg_pickle_value *value)
{
    const char *kind = vg_pickle_text(vg_pickle_find(sentence, "kind"), NULL);
    if (!kind) kind = vg_pickle_text(vg_pickle_find(value, "kind"), NULL);
    return kind ? kind : "";
}

/* A sentence of a ref, once for each split of the ref. */
static vg_status sentence_put(refcoco *r, const vg_pickle_value *value, size_t index, vg_collected_phrase p)
{
    const vg_pickle_value *sentence = vg_pickle_item(vg_pickle_find(value, "sentences"), index);
    const char *splits[2] = {0};
    char place[64];
    p.text = vg_pickle_text(vg_pickle_find(sentence, "sent"), &p.text_bytes);
    if (!p.text || !vg_pickle_int(vg_pickle_find(sentence, "sent_id"), &p.sentence_id))
        return vg_import_reject(r->log, 1, "ref %lld: sentences[%zu]: no sent_id and sent", (long long)p.ref_id, index);
    snprintf(place, sizeof place, "ref %lld sentence %lld", (long long)p.ref_id, (long long)p.sentence_id);
    p.place = place;
    p.kind = kind_of(sentence, value);
    p.boxes = (const double(*)[4])r->boxes;
    p.n_boxes = r->n_boxes;
    const size_t n_splits = splits_of(vg_pickle_text(vg_pickle_find(value, "split"), NULL), splits);
    for (size_t i = 0; i < n_splits; i++) {
        p.split = splits[i];
        VG_TRY(vg_collector_phrase(r->collector, &p));
    }
    return VG_OK;
}

static vg_status ref_put(refcoco *r, const vg_pickle_value *value, size_t index)
{
    const size_t n = vg_pickle_count(vg_pickle_find(value, "sentences"));
    vg_collected_phrase p = {0};
    fault_text fault = "";
    if (!vg_pickle_int(vg_pickle_find(value, "ref_id"), &p.ref_id) ||
        !vg_pickle_int(vg_pickle_find(value, "image_id"), &p.image_id) ||
        !vg_pickle_text(vg_pickle_find(value, "split"), NULL) || n == 0)
        return vg_import_reject(r->log, n, "%s: refs[%zu]: no ref_id, image_id, split and sentences", r->pickle_path,
                                index);
    VG_TRY(boxes_read(r, value, p.image_id, fault));
    if (fault[0]) return vg_import_reject(r->log, n, "ref %lld: %s", (long long)p.ref_id, fault);
    for (size_t i = 0; i < n; i++) VG_TRY(sentence_put(r, value, i, p));
    return VG_OK;
}

static vg_status refs_put(refcoco *r, const vg_pickle_value *list)
{
    VG_CHECK(vg_pickle_kind_of(list) == VG_PICKLE_LIST, VG_E_DATA, "%s: holds no list of refs", r->pickle_path);
    for (size_t i = 0; i < vg_pickle_count(list); i++) {
        VG_TRY(ref_put(r, vg_pickle_item(list, i), i));
        VG_TRY(vg_import_progress(r->log, r->pickle_path, (int64_t)i, (int64_t)vg_pickle_count(list), "refs"));
    }
    return VG_OK;
}

static vg_status refs_read(refcoco *r)
{
    vg_pickle *pickle = NULL;
    VG_TRY(vg_pickle_read(r->pickle_path, &pickle));
    const vg_status st = refs_put(r, vg_pickle_root(pickle));
    vg_pickle_free(pickle);
    return st;
}

/* ---- files ---- */

/* Where people keep COCO's images, below the folder they name or beside the annotations. */
static vg_status folders_fill(refcoco *r, const char *images, const char *set_folder)
{
    static const char *const usual[] = {"mscoco/images/train2014", "train2014", "val2017", "train2017", NULL};
    static const char *const beside[] = {"../images", "images", ".."};
    vg_image_folders *folders = vg_collector_folders(r->collector);
    if (images) {
        VG_TRY(vg_image_folders_add(folders, images, ""));
        return vg_image_folders_add_all(folders, images, usual);
    }
    vg_text base = {0};
    vg_status st = VG_OK;
    for (size_t b = 0; b < sizeof beside / sizeof *beside && st == VG_OK; b++) {
        base.length = 0;
        st = vg_text_add(&base, "%s/%s", set_folder, beside[b]);
        if (st == VG_OK) st = vg_image_folders_add_all(folders, base.data, usual);
        if (st == VG_OK) st = vg_image_folders_add(folders, base.data, "");
    }
    free(base.data);
    return st;
}

static vg_status set_folder_find(const vg_import_source *source, vg_text *folder)
{
    bool found;
    VG_TRY(vg_set_folder_find(source, "instances.json", folder, &found));
    VG_CHECK(found, VG_E_DATA,
             "%s: neither instances.json nor %s/instances.json is there; name the folder with instances.json and "
             "refs(..).p in it",
             source->root, source->set);
    return VG_OK;
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
    VG_CHECK(dir, vg_file_fault(errno), "%s: %s", folder, strerror(errno));
    for (const struct dirent *entry; st == VG_OK && (entry = vg_folder_next(dir, folder, &st));) {
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
    else if (st == VG_OK && count == 0)
        st = vg_fail(VG_E_DATA, "%s: no refs(..).p, the phrases, beside instances.json", folder);
    else if (st == VG_OK)
        st = vg_fail(VG_E_DATA, "%s: which refs(..).p? There are: %s; say it with --split-by", folder, all.data);
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
    bool found = false;
    const vg_status st = vg_set_folder_find(&source, "instances.json", &folder, &found);
    free(folder.data);
    return st == VG_OK && found;
}

static vg_status refcoco_fill(refcoco *r, const vg_import_source *source)
{
    static const vg_collector_spec spec = {.images_file = "instances.json", .slack = BOX_SLACK};
    vg_text folder = {0};
    VG_TRY(vg_collector_new(source, r->log, &spec, &r->collector));
    vg_status st = set_folder_find(source, &folder);
    if (st == VG_OK) st = paths_fill(r, source, folder.data);
    if (st == VG_OK) st = folders_fill(r, source->images, folder.data);
    free(folder.data);
    VG_TRY(st);
    VG_TRY(instances_read(r));
    VG_TRY(refs_read(r));
    return vg_collector_sort(r->collector);
}

static vg_status refcoco_open(const vg_import_source *source, vg_import_log *log, void **state,
                              char split_by[VG_IMPORT_NAME_BYTES])
{
    refcoco r = {.log = log, .is_coco = strncmp(source->set, "refcoco", strlen("refcoco")) == 0};
    const vg_status st = refcoco_fill(&r, source);
    if (st == VG_OK) snprintf(split_by, VG_IMPORT_NAME_BYTES, "%s", r.split_by);
    free(r.json_path);
    free(r.pickle_path);
    free(r.split_by);
    free(r.annotations);
    free(r.boxes);
    return vg_collector_hand_over(r.collector, st, state);
}

extern const vg_importer vg_refcoco; /* a row of importers.def names it */
const vg_importer vg_refcoco = {.has_split_by = true,
                                .has_splits = true,
                                .probe = refcoco_probe,
                                .open = refcoco_open,
                                .next = vg_collector_next,
                                .share = vg_collector_share,
                                .close = vg_collector_close};
