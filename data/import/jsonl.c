/* Data of one's own, plainly: a JSON object a line, as data/FORMAT.md describes it. ROOT is such a file, or a folder of
 * *.jsonl whose names are the splits of lines that name none. */
#include "data/import/collector_impl.h"
#include "data/import/file_list_impl.h"
#include "data/import/file_window_impl.h"
#include "data/import/image_files_impl.h"
#include "data/import/json_items_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* As for annotations of others: what rounding may do to a box. */
#define BOX_SLACK 0.02

typedef char place_text[320];

typedef struct jsonl {
    vg_import_log *log;
    vg_collector *collector;
    vg_file_list files;
    char *split;  /* of the lines of the file at hand that name none; NULL where a rule decides */
    vg_text name; /* of the image at hand */
    double (*boxes)[4];
    size_t boxes_capacity;
} jsonl;

/* ---- boxes ---- */

/* The keys a box may stand under: corners, or COCO's corner and size. */
typedef struct box_key {
    const char *name;
    bool is_size, is_list;
} box_key;

static const box_key box_keys[] = {
    {"box", false, false}, {"boxes", false, true}, {"bbox", true, false}, {"bboxes", true, true}};

/* What is wrong with a box, which is put into xyxy; NULL when nothing is. */
static const char *box_read(const json_t *four, bool is_size, double xyxy[4])
{
    if (!vg_json_box(four, is_size, xyxy)) return "a box is not four numbers";
    if (vg_json_box_in_shares(four))
        return "a box is in shares of the picture; wanted are pixels, [x1, y1, x2, y2] in box, [x, y, width, height] "
               "in bbox";
    if (!is_size && (xyxy[0] >= xyxy[2] || xyxy[1] >= xyxy[3]))
        return "a box is empty: [x1, y1, x2, y2] is wanted; [x, y, width, height] stands in bbox";
    return NULL;
}

/* The boxes of a phrase into j->boxes; *fault is what is wrong with them, NULL when nothing is. */
static vg_status boxes_read(jsonl *j, const json_t *phrase, size_t *n, const char **fault)
{
    const box_key *key = NULL;
    const json_t *value = NULL;
    *n = 0;
    *fault = NULL;
    for (size_t i = 0; i < sizeof box_keys / sizeof *box_keys && !*fault; i++) {
        const json_t *found = json_object_get(phrase, box_keys[i].name);
        if (found && value) *fault = "more than one of box, boxes, bbox and bboxes";
        if (!found) continue;
        value = found;
        key = &box_keys[i];
    }
    if (!value) *fault = "no box, boxes, bbox or bboxes";
    if (*fault) return VG_OK;
    const size_t count = key->is_list ? json_array_size(value) : 1;
    VG_TRY(vg_grow(&j->boxes, &j->boxes_capacity, count, sizeof *j->boxes));
    for (; *n < count && !*fault; ++*n)
        *fault = box_read(key->is_list ? json_array_get(value, *n) : value, key->is_size, j->boxes[*n]);
    if (key->is_list && !json_is_array(value)) *fault = "its boxes are no list";
    return VG_OK;
}

/* ---- lines ---- */

static vg_status phrase_read(jsonl *j, const json_t *from, int64_t image_id, const char *split, const char *place)
{
    const json_t *text = json_object_get(from, "phrase"), *kind = json_object_get(from, "kind");
    const char *fault = json_is_string(text) ? NULL : "no \"phrase\", a string";
    if (!json_is_object(from)) fault = "phrases holds something else than objects with phrase and box";
    if (!fault && kind && !json_is_string(kind)) fault = "its kind is no string";
    vg_collected_phrase p = {.image_id = image_id,
                             .sentence_id = vg_collector_count(j->collector) + 1,
                             .place = place,
                             .text = json_string_value(text),
                             .text_bytes = json_string_length(text),
                             .split = split,
                             .kind = json_is_string(kind) ? json_string_value(kind) : ""};
    bool numbers = vg_json_maybe_int(from, "id", &p.sentence_id);
    p.ref_id = p.sentence_id;
    numbers = vg_json_maybe_int(from, "ref_id", &p.ref_id) && numbers;
    if (!fault && !numbers) fault = "id or ref_id is no whole number";
    if (!fault) VG_TRY(boxes_read(j, from, &p.n_boxes, &fault));
    if (fault) return vg_import_reject(j->log, 1, "%s: %s", place, fault);
    p.boxes = (const double(*)[4])j->boxes;
    return vg_collector_phrase(j->collector, &p);
}

/* A file name makes a number that is the same in every file that names it. */
static int64_t id_of_name(const char *file_name)
{
    return (int64_t)(XXH3_64bits(file_name, strlen(file_name)) >> 1);
}

/* A side need not be there, but be one where it is. */
static bool side_read(const json_t *line, const char *key, int *out)
{
    return !json_object_get(line, key) || vg_json_side(line, key, out);
}

/* What a line says of its image; what is wrong with it, NULL when nothing is. */
static const char *image_read(const json_t *line, const char *name, vg_collected_image *image)
{
    *image = (vg_collected_image){.file_name = name};
    if (!*name) return "no \"image\", the name of its file";
    image->image_id = id_of_name(image->file_name);
    if (!vg_json_maybe_int(line, "image_id", &image->image_id) ||
        !vg_json_maybe_int(line, "coco_id", &image->coco_id) ||
        !vg_json_maybe_int(line, "flickr_id", &image->flickr_id))
        return "image_id, coco_id or flickr_id is no whole number";
    if (!side_read(line, "width", &image->width) || !side_read(line, "height", &image->height))
        return "width or height is not a whole number of pixels";
    if ((image->width > 0) != (image->height > 0)) return "of width and height only one is there";
    return NULL;
}

static vg_status line_read(jsonl *j, const json_t *line, const char *place)
{
    const json_t *phrases = json_object_get(line, "phrases"), *split = json_object_get(line, "split");
    const char *split_name = json_is_string(split) ? json_string_value(split) : j->split;
    const json_t *name = json_object_get(line, "image");
    vg_collected_image image;
    VG_TRY(vg_name_plain(json_is_string(name) ? json_string_value(name) : "", json_string_length(name), &j->name));
    const char *fault = json_is_object(line) ? image_read(line, j->name.data, &image) : "not a JSON object";
    if (!fault && phrases && !json_is_array(phrases)) fault = "phrases is no list";
    if (!fault && split && !json_is_string(split)) fault = "its split is no string";
    if (fault)
        return vg_import_reject(j->log, json_is_array(phrases) ? json_array_size(phrases) : 1, "%s: %s", place, fault);
    VG_TRY(vg_collector_image(j->collector, &image));
    if (!phrases) return phrase_read(j, line, image.image_id, split_name, place);
    for (size_t i = 0; i < json_array_size(phrases); i++)
        VG_TRY(phrase_read(j, json_array_get(phrases, i), image.image_id, split_name, place));
    return VG_OK;
}

static size_t skip_blanks(const char *line, size_t at, size_t n)
{
    while (at < n && (line[at] == ' ' || line[at] == '\t' || line[at] == '\r')) at++;
    return at;
}

/* JSON that is laid out otherwise would have a fault in each of its lines; the first one's text is at `begin`. */
static vg_status check_layout(const char *path, int64_t number, const char *line, size_t begin, size_t n)
{
    VG_CHECK(line[begin] != '[', VG_E_DATA,
             "%s: line %lld begins a JSON array; an object a line is wanted, which `jq -c '.[]'` makes of it", path,
             (long long)number);
    VG_CHECK(line[begin] != '{' || skip_blanks(line, begin + 1, n) < n, VG_E_DATA,
             "%s: line %lld begins a JSON object of several lines; an object a line is wanted, which `jq -c .` makes "
             "of it",
             path, (long long)number);
    return VG_OK;
}

static vg_status text_read(jsonl *j, const char *line, size_t n, const char *place)
{
    json_error_t error;
    json_t *value = json_loadb(line, n, JSON_REJECT_DUPLICATES, &error);
    if (!value) {
        const bool other = json_error_code(&error) == json_error_invalid_utf8;
        return vg_import_reject(j->log, 1, "%s: %s%s", place, other ? "not UTF-8: " : "", error.text);
    }
    const vg_status st = line_read(j, value, place);
    json_decref(value);
    return st;
}

static vg_status lines_read(jsonl *j, vg_file_window *w)
{
    const char *line;
    place_text place;
    size_t n;
    bool any = false;
    for (int64_t number = 1;; number++) {
        VG_TRY(vg_file_window_line(w, &line, &n));
        if (!line) break;
        const size_t begin = skip_blanks(line, 0, n);
        if (begin == n) continue;
        if (!any) VG_TRY(check_layout(w->path, number, line, begin, n));
        any = true;
        snprintf(place, sizeof place, "%.255s line %lld", vg_base_name(w->path), (long long)number);
        VG_TRY(text_read(j, line, n, place));
        VG_TRY(vg_file_window_tell(w, j->log));
    }
    return VG_OK;
}

static vg_status file_read(jsonl *j, const char *path)
{
    vg_file_window window;
    VG_TRY(vg_file_window_open(&window, path));
    const vg_status st = lines_read(j, &window);
    vg_file_window_close(&window);
    return st;
}

/* ---- files ---- */

/* The part of a file name before ".jsonl"; 0 where it ends otherwise. */
static size_t stem_length(const char *name)
{
    const size_t n = strlen(name), end = strlen(".jsonl");
    return n > end && strcmp(name + n - end, ".jsonl") == 0 ? n - end : 0;
}

static bool is_lines(const char *name, const char *user)
{
    (void)user;
    return stem_length(name) > 0;
}

static vg_status files_find(jsonl *j, const char *root)
{
    if (vg_is_file(root)) return vg_file_list_add(&j->files, root);
    VG_TRY(vg_file_list_find(&j->files, root, is_lines, NULL));
    VG_CHECK(j->files.n > 0, VG_E_DATA, "%s: neither a file nor a folder of *.jsonl", root);
    return VG_OK;
}

/* The folder a file lies in, for the images beside it. */
static vg_status beside_add(jsonl *j, const char *file)
{
    vg_text folder = {0};
    VG_TRY(vg_folder_of(file, &folder));
    const vg_status st = vg_image_folders_add(vg_collector_folders(j->collector), folder.data, "");
    free(folder.data);
    return st;
}

/* In a folder of files each names the split of its lines, unless a rule is given. */
static vg_status split_of_file(jsonl *j, const vg_import_source *source, const char *path)
{
    const char *name = vg_base_name(path);
    free(j->split);
    j->split = NULL;
    if (vg_is_file(source->root) || source->splits || source->shares) return VG_OK;
    j->split = vg_copy_string(name);
    VG_CHECK(j->split, VG_E_NOMEM, "%s: no memory", path);
    j->split[stem_length(name)] = '\0';
    return VG_OK;
}

/* ---- the importer ---- */

static bool jsonl_probe(const char *set, const char *root)
{
    (void)set;
    return vg_is_file(root) && stem_length(root) > 0;
}

static vg_status jsonl_fill(jsonl *j, const vg_import_source *source)
{
    static const vg_collector_spec spec = {.images_file = "the lines", .slack = BOX_SLACK};
    VG_TRY(vg_collector_new(source, j->log, &spec, &j->collector));
    VG_TRY(files_find(j, source->root));
    VG_TRY(source->images ? vg_image_folders_add(vg_collector_folders(j->collector), source->images, "")
                          : beside_add(j, j->files.path[0]));
    for (size_t i = 0; i < j->files.n; i++) {
        VG_TRY(split_of_file(j, source, j->files.path[i]));
        VG_TRY(file_read(j, j->files.path[i]));
    }
    return vg_collector_sort(j->collector);
}

static vg_status jsonl_open(const vg_import_source *source, vg_import_log *log, void **state,
                            char split_by[VG_IMPORT_NAME_BYTES])
{
    (void)split_by; /* the set has one kind of splits */
    jsonl j = {.log = log};
    const vg_status st = jsonl_fill(&j, source);
    vg_file_list_release(&j.files);
    free(j.split);
    free(j.name.data);
    free(j.boxes);
    return vg_collector_hand_over(j.collector, st, state);
}

extern const vg_importer vg_jsonl; /* a row of importers.def names it */
const vg_importer vg_jsonl = {.probe = jsonl_probe,
                              .open = jsonl_open,
                              .next = vg_collector_next,
                              .share = vg_collector_share,
                              .close = vg_collector_close};
