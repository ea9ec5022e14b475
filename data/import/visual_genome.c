/* Visual Genome: region_descriptions.json, the phrases and boxes of each image, and image_data.json, the sizes of the
 * images and their ids in COCO and on Flickr. Version 1.0.0 names the ids of a region otherwise than 1.2.0. The images
 * are <image id>.jpg in one of two folders. Equal phrases of an image are one sentence that means all their boxes.
 *
 * Rules for its text, which are MDETR's, and its boxes: an underscore is white space, phrases of one or two characters
 * are left out, a box means its part within the image. */
#include "data/import/collector_impl.h"
#include "data/import/file_list_impl.h"
#include "data/import/json_items_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REGIONS_FILE "region_descriptions.json"

typedef struct genome {
    vg_import_log *log;
    vg_collector *collector;
    char *regions_path, *images_path;
    vg_text phrase; /* of the region at hand */
} genome;

/* ---- image_data.json ---- */

static vg_status image_item(void *user, const json_t *item, size_t index)
{
    genome *g = user;
    vg_collected_image image = {0};
    char file_name[32];
    const bool known = (vg_json_int(item, "image_id", &image.image_id) || vg_json_int(item, "id", &image.image_id)) &&
                       vg_json_side(item, "width", &image.width) && vg_json_side(item, "height", &image.height);
    if (!known)
        return vg_import_reject(g->log, 0, "%s: item %zu has no image_id, width and height", g->images_path, index);
    (void)vg_json_int(item, "coco_id", &image.coco_id);
    (void)vg_json_int(item, "flickr_id", &image.flickr_id);
    snprintf(file_name, sizeof file_name, "%lld.jpg", (long long)image.image_id);
    image.file_name = file_name;
    return vg_collector_image(g->collector, &image);
}

/* ---- region_descriptions.json ---- */

static bool box_read(const json_t *region, double box[4])
{
    static const char *const keys[] = {"x", "y", "width", "height"};
    for (size_t i = 0; i < 4; i++) {
        const json_t *number = json_object_get(region, keys[i]);
        if (!json_is_number(number)) return false;
        box[i] = json_number_value(number) + (i >= 2 ? box[i - 2] : 0);
    }
    return true;
}

/* The phrase into g->phrase, with blanks for underscores. */
static vg_status phrase_read(genome *g, const json_t *phrase)
{
    g->phrase.length = 0;
    VG_TRY(vg_text_add_bytes(&g->phrase, json_string_value(phrase), json_string_length(phrase)));
    for (char *at = g->phrase.data; (at = strchr(at, '_'));) *at = ' ';
    return VG_OK;
}

static vg_status region_read(genome *g, const json_t *region, int64_t image_id, size_t index)
{
    const json_t *phrase = json_object_get(region, "phrase");
    double box[1][4];
    char place[40];
    vg_collected_phrase p = {
        .image_id = image_id, .place = place, .kind = "", .boxes = (const double(*)[4])box, .n_boxes = 1};
    const bool known = vg_json_int(region, "region_id", &p.sentence_id) || vg_json_int(region, "id", &p.sentence_id);
    if (!known || !json_is_string(phrase) || !box_read(region, box[0]))
        return vg_import_reject(g->log, 1, "image %lld: regions[%zu]: no region_id, phrase, x, y, width and height",
                                (long long)image_id, index);
    VG_TRY(phrase_read(g, phrase));
    p.text = g->phrase.data;
    p.text_bytes = g->phrase.length;
    p.ref_id = p.sentence_id;
    snprintf(place, sizeof place, "region %lld", (long long)p.sentence_id);
    return vg_collector_phrase(g->collector, &p);
}

static vg_status regions_item(void *user, const json_t *item, size_t index)
{
    genome *g = user;
    int64_t image_id;
    const json_t *regions = json_object_get(item, "regions");
    const bool known = vg_json_int(item, "id", &image_id) || vg_json_int(item, "image_id", &image_id);
    if (!known || !json_is_array(regions))
        return vg_import_reject(g->log, json_array_size(regions), "%s: item %zu has no id and regions", g->regions_path,
                                index);
    for (size_t i = 0; i < json_array_size(regions); i++)
        VG_TRY(region_read(g, json_array_get(regions, i), image_id, i));
    return VG_OK;
}

/* ---- files ---- */

static vg_status paths_find(genome *g, const vg_import_source *source, vg_text *folder)
{
    vg_text regions = {0}, images = {0};
    bool found;
    VG_TRY(vg_set_folder_find(source, REGIONS_FILE, folder, &found));
    VG_CHECK(found, VG_E_DATA,
             "%s: no " REGIONS_FILE " in it; name the folder with it and image_data.json of Visual Genome",
             source->root);
    vg_status st = vg_text_add(&regions, "%s/" REGIONS_FILE, folder->data);
    g->regions_path = regions.data;
    VG_TRY(st);
    st = vg_text_add(&images, "%s/image_data.json", folder->data);
    g->images_path = images.data;
    return st;
}

/* The two folders of images, below the one that is named or where the annotations are. */
static vg_status folders_add(vg_image_folders *folders, const char *base)
{
    static const char *const usual[] = {"VG_100K", "VG_100K_2", "images/VG_100K", "images/VG_100K_2", "", NULL};
    return vg_image_folders_add_all(folders, base, usual);
}

/* ---- the importer ---- */

static bool genome_probe(const char *set, const char *root)
{
    vg_text folder = {0};
    const vg_import_source source = {.set = set, .root = root};
    bool found = false;
    const vg_status st = vg_set_folder_find(&source, REGIONS_FILE, &folder, &found);
    free(folder.data);
    return st == VG_OK && found;
}

static vg_status genome_fill(genome *g, const vg_import_source *source, const char *folder)
{
    static const vg_collector_spec spec = {
        .images_file = "image_data.json", .slack = HUGE_VAL, .min_side = 1, .min_characters = 3, .merge_equal = true};
    vg_json_array images = {.item = image_item}, regions = {.item = regions_item};
    VG_TRY(vg_collector_new(source, g->log, &spec, &g->collector));
    VG_TRY(folders_add(vg_collector_folders(g->collector), source->images ? source->images : folder));
    VG_TRY(vg_json_items(g->images_path, g->log, &images, 1, g));
    VG_TRY(vg_json_items(g->regions_path, g->log, &regions, 1, g));
    return vg_collector_sort(g->collector);
}

static vg_status genome_open(const vg_import_source *source, vg_import_log *log, void **state,
                             char split_by[VG_IMPORT_NAME_BYTES])
{
    (void)split_by; /* the set has one kind of splits */
    genome g = {.log = log};
    vg_text folder = {0};
    vg_status st = paths_find(&g, source, &folder);
    if (st == VG_OK) st = genome_fill(&g, source, folder.data);
    free(folder.data);
    free(g.phrase.data);
    free(g.regions_path);
    free(g.images_path);
    return vg_collector_hand_over(g.collector, st, state);
}

extern const vg_importer vg_genome; /* a row of importers.def names it */
const vg_importer vg_genome = {.shares = "val=0.01",
                               .probe = genome_probe,
                               .open = genome_open,
                               .next = vg_collector_next,
                               .share = vg_collector_share,
                               .close = vg_collector_close};
