/* COCO's detection annotations, instances_<split><year>.json: the name of a category is a phrase, which means all
 * objects of that category in the image. Crowds have a box around many objects and are left out. A file of another
 * name, as other sets in this format have it, has no split of its own. */
#include "data/import/collector_impl.h"
#include "data/import/file_list_impl.h"
#include "data/import/json_items_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What rounding may do to a box. */
#define BOX_SLACK 0.5

typedef struct category {
    int64_t id;
    char *name;
} category;

typedef struct detection {
    vg_import_log *log;
    vg_collector *collector;
    const char *year; /* of COCO's own files, where all are of one */
    vg_file_list files;
    /* Of the file at hand. */
    const char *path;
    bool is_coco;      /* its image ids are those of COCO */
    const char *split; /* NULL where its name does not say */
    category *categories;
    size_t n_categories, categories_capacity;
} detection;

/* ---- categories ---- */

static vg_status category_item(void *user, const json_t *item, size_t index)
{
    detection *d = user;
    category c = {0};
    const json_t *name = json_object_get(item, "name");
    VG_CHECK(vg_json_int(item, "id", &c.id) && json_is_string(name), VG_E_DATA, "%s: categories[%zu]: no id and name",
             d->path, index);
    VG_TRY(vg_grow(&d->categories, &d->categories_capacity, d->n_categories + 1, sizeof *d->categories));
    c.name = vg_copy_string(json_string_value(name));
    VG_CHECK(c.name, VG_E_NOMEM, "%s: no memory for the categories", d->path);
    d->categories[d->n_categories++] = c;
    return VG_OK;
}

static const char *category_find(const detection *d, int64_t id)
{
    for (size_t i = 0; i < d->n_categories; i++)
        if (d->categories[i].id == id) return d->categories[i].name;
    return NULL;
}

static void categories_release(detection *d)
{
    for (size_t i = 0; i < d->n_categories; i++) free(d->categories[i].name);
    free(d->categories);
    d->categories = NULL;
    d->n_categories = d->categories_capacity = 0;
}

/* ---- images and annotations ---- */

static vg_status image_item(void *user, const json_t *item, size_t index)
{
    detection *d = user;
    vg_collected_image image = {.file_name = json_string_value(json_object_get(item, "file_name"))};
    const bool known = vg_json_int(item, "id", &image.image_id) && image.file_name &&
                       vg_json_side(item, "width", &image.width) && vg_json_side(item, "height", &image.height);
    if (!known)
        return vg_import_reject(d->log, 0, "%s: images[%zu]: no id, file_name, width and height", d->path, index);
    image.coco_id = d->is_coco ? image.image_id : 0;
    image.flickr_id = vg_flickr_id(json_string_value(json_object_get(item, "flickr_url")));
    return vg_collector_image(d->collector, &image);
}

static bool is_crowd(const json_t *item)
{
    int64_t crowd = 0;
    return vg_json_int(item, "iscrowd", &crowd) && crowd != 0;
}

static vg_status annotation_item(void *user, const json_t *item, size_t index)
{
    detection *d = user;
    double box[1][4];
    char place[40];
    int64_t category_id = 0;
    vg_collected_phrase p = {
        .place = place, .split = d->split, .kind = "category", .boxes = (const double(*)[4])box, .n_boxes = 1};
    if (is_crowd(item)) return VG_OK;
    if (!vg_json_int(item, "id", &p.sentence_id) || !vg_json_int(item, "image_id", &p.image_id) ||
        !vg_json_int(item, "category_id", &category_id) || !vg_json_box(json_object_get(item, "bbox"), true, box[0]))
        return vg_import_reject(
            d->log, 1, "%s: annotations[%zu]: no id, image_id, category_id and bbox of four numbers", d->path, index);
    if (vg_json_box_in_shares(json_object_get(item, "bbox")))
        return vg_import_reject(d->log, 1,
                                "annotation %lld: its bbox is in shares of the picture; wanted are pixels, [x, y, "
                                "width, height]",
                                (long long)p.sentence_id);
    p.ref_id = p.sentence_id;
    p.text = category_find(d, category_id);
    if (!p.text)
        return vg_import_reject(d->log, 1, "annotation %lld: category %lld is not in categories",
                                (long long)p.sentence_id, (long long)category_id);
    p.text_bytes = strlen(p.text);
    snprintf(place, sizeof place, "annotation %lld", (long long)p.sentence_id);
    return vg_collector_phrase(d->collector, &p);
}

/* ---- files ---- */

/* "train" of instances_train2017.json; NULL for a name that does not say. */
static const char *split_of_name(const char *path)
{
    static const char *const splits[] = {"train", "val", "test"};
    const char *name = vg_base_name(path);
    const size_t prefix = strlen("instances_");
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++)
        if (strncmp(name, "instances_", prefix) == 0 && strncmp(name + prefix, splits[i], strlen(splits[i])) == 0)
            return splits[i];
    return NULL;
}

/* The year of COCO's own files, whose image ids other sets name; "" for other files. */
static const char *year_of_name(const char *path)
{
    static const char *const years[] = {"2014", "2017"};
    const size_t n = strlen(path), suffix = strlen("2014.json");
    for (size_t i = 0; i < sizeof years / sizeof *years; i++)
        if (split_of_name(path) && n > suffix && strncmp(path + n - suffix, years[i], 4) == 0) return years[i];
    return "";
}

/* The categories first, wherever in the file they are: they are the phrases. */
static vg_status file_read(detection *d, const char *path)
{
    vg_json_array categories = {.key = "categories", .item = category_item};
    vg_json_array rest[] = {{.key = "images", .item = image_item}, {.key = "annotations", .item = annotation_item}};
    d->path = path;
    d->split = split_of_name(path);
    const char *year = year_of_name(path);
    d->is_coco = *year;
    d->year = !d->year || strcmp(d->year, year) == 0 ? year : "";
    vg_status st = vg_json_items(path, d->log, &categories, 1, d);
    if (st == VG_OK) st = vg_json_items(path, d->log, rest, 2, d);
    categories_release(d);
    return st;
}

/* instances_*.json, or those of them that split_by names. */
static bool is_wanted(const char *name, const char *split_by)
{
    const size_t n = strlen(name), prefix = strlen("instances_"), suffix = strlen(".json");
    if (strcmp(name, "instances.json") == 0) return !split_by;
    if (n <= prefix + suffix || strncmp(name, "instances_", prefix) != 0 || strcmp(name + n - suffix, ".json") != 0)
        return false;
    const size_t middle = n - prefix - suffix;
    return !split_by || (strlen(split_by) == middle && strncmp(name + prefix, split_by, middle) == 0);
}

/* The file that root is, or the instances_*.json in it or in its folder `annotations`. */
static vg_status files_find(detection *d, const vg_import_source *source)
{
    if (vg_is_file(source->root)) return vg_file_list_add(&d->files, source->root);
    vg_text annotations = {0};
    VG_TRY(vg_text_add(&annotations, "%s/annotations", source->root));
    vg_status st = vg_file_list_find(&d->files, source->root, is_wanted, source->split_by);
    if (st == VG_OK) st = vg_file_list_find(&d->files, annotations.data, is_wanted, source->split_by);
    free(annotations.data);
    VG_TRY(st);
    VG_CHECK(d->files.n > 0, VG_E_DATA, "%s: no instances_%s.json in it or in its folder annotations", source->root,
             source->split_by ? source->split_by : "*");
    return VG_OK;
}

static vg_status folders_add(vg_image_folders *folders, const char *base)
{
    static const char *const usual[] = {"", "train2017", "val2017", "train2014", "val2014", "images", NULL};
    return vg_image_folders_add_all(folders, base, usual);
}

/* Below the folder that is named, or beside the annotations. */
static vg_status folders_fill(detection *d, const vg_import_source *source)
{
    vg_image_folders *folders = vg_collector_folders(d->collector);
    if (source->images) return folders_add(folders, source->images);
    vg_text beside = {0};
    VG_TRY(vg_folder_of(d->files.path[0], &beside));
    vg_status st = folders_add(folders, beside.data);
    if (st == VG_OK) st = vg_text_add(&beside, "/..");
    if (st == VG_OK) st = folders_add(folders, beside.data);
    free(beside.data);
    return st;
}

/* ---- the importer ---- */

static bool detection_probe(const char *set, const char *root)
{
    (void)set;
    detection d = {0};
    const vg_import_source source = {.root = root};
    const bool found = !vg_is_file(root) && files_find(&d, &source) == VG_OK;
    vg_file_list_release(&d.files);
    return found;
}

static vg_status detection_fill(detection *d, const vg_import_source *source)
{
    static const vg_collector_spec spec = {.images_file = "images", .slack = BOX_SLACK, .merge_equal = true};
    VG_TRY(files_find(d, source));
    VG_TRY(vg_collector_new(source, d->log, &spec, &d->collector));
    VG_TRY(folders_fill(d, source));
    for (size_t i = 0; i < d->files.n; i++) VG_TRY(file_read(d, d->files.path[i]));
    return vg_collector_sort(d->collector);
}

static vg_status detection_open(const vg_import_source *source, vg_import_log *log, void **state,
                                char split_by[VG_IMPORT_NAME_BYTES])
{
    detection d = {.log = log};
    const vg_status st = detection_fill(&d, source);
    vg_file_list_release(&d.files);
    if (st == VG_OK) snprintf(split_by, VG_IMPORT_NAME_BYTES, "%s", d.year);
    return vg_collector_hand_over(d.collector, st, state);
}

extern const vg_importer vg_coco_detection; /* a row of importers.def names it */
const vg_importer vg_coco_detection = {.has_split_by = true,
                                       .probe = detection_probe,
                                       .open = detection_open,
                                       .next = vg_collector_next,
                                       .share = vg_collector_share,
                                       .close = vg_collector_close};
