/* Flickr30k Entities: Sentences/<id>.txt has the captions of an image, a line each, with phrases marked in them as
 * "[/EN#<entity>/<type>/<type> two young men]"; Annotations/<id>.xml has the size of the image and the boxes of its
 * entities. Every marked phrase with a box is a sentence that means its entity: the box around all of the entity's, or
 * each of them where that is asked for. Phrases of entity 0 (not visual) and of entities without a box (scenes) are
 * left out, as evaluations of this set do. train.txt, val.txt and test.txt list ids. Numbers of boxes count from 1 in
 * the files and from 0 here, as in the set's own reader. */
#define _POSIX_C_SOURCE 200809L
#include "data/import/collector_impl.h"
#include "data/import/entity_boxes_impl.h"
#include "data/import/file_window_impl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PHRASES_OF_IMAGE = 1000 };

/* Its boxes are whole pixels, inside to the last. */
#define BOX_SLACK 1.0

/* An image that a list names. */
typedef struct listed {
    int64_t image_id;
    const char *split;
} listed;

typedef struct flickr {
    vg_import_log *log;
    vg_collector *collector;
    const char *root;
    int64_t *images;
    size_t n_images, images_capacity;
    listed *list; /* by id */
    size_t n_list, list_capacity;
    /* Of the image at hand. */
    vg_entity_boxes entities;
    double (*boxes)[4];
    size_t boxes_capacity;
    int64_t n_phrases;
} flickr;

static int by_id(const void *a, const void *b)
{
    int64_t x, y; /* the id is the first member of both rows */
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* ---- lists ---- */

static vg_status list_lines(flickr *f, vg_file_window *w, const char *split)
{
    for (int64_t number = 1;; number++) {
        const char *line;
        char *end = NULL;
        size_t n;
        char text[32];
        VG_TRY(vg_file_window_line(w, &line, &n));
        if (!line) return VG_OK;
        while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == ' ')) n--;
        if (n == 0) continue;
        snprintf(text, sizeof text, "%.*s", n < sizeof text ? (int)n : 0, line);
        const long long id = strtoll(text, &end, 10);
        VG_CHECK(*text && !*end, VG_E_DATA, "%s: line %lld is no image id", w->path, (long long)number);
        VG_TRY(vg_grow(&f->list, &f->list_capacity, f->n_list + 1, sizeof *f->list));
        f->list[f->n_list++] = (listed){.image_id = id, .split = split};
    }
}

static vg_status list_read(flickr *f, const char *split)
{
    vg_text path = {0};
    vg_file_window window = {0};
    VG_TRY(vg_text_add(&path, "%s/%s.txt", f->root, split));
    vg_status st = VG_OK;
    if (vg_is_file(path.data)) {
        st = vg_file_window_open(&window, path.data);
        if (st == VG_OK) st = list_lines(f, &window, split);
        vg_file_window_close(&window);
    }
    free(path.data);
    return st;
}

static vg_status lists_read(flickr *f)
{
    static const char *const splits[] = {"train", "val", "test"};
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) VG_TRY(list_read(f, splits[i]));
    if (f->n_list > 0) qsort(f->list, f->n_list, sizeof *f->list, by_id);
    for (size_t i = 1; i < f->n_list; i++)
        VG_CHECK(f->list[i].image_id != f->list[i - 1].image_id, VG_E_DATA, "%s: image %lld stands in two of the lists",
                 f->root, (long long)f->list[i].image_id);
    return VG_OK;
}

static const char *split_of(const flickr *f, int64_t image_id)
{
    const listed *found = f->n_list ? bsearch(&image_id, f->list, f->n_list, sizeof *f->list, by_id) : NULL;
    return found ? found->split : NULL;
}

/* ---- captions ---- */

/* A marked phrase, found in a caption. */
typedef struct mark {
    int64_t entity;
    const char *text;
    size_t text_bytes;
    char kind[VG_SHARD_NAME_BYTES];
} mark;

/* Takes apart what stands between "[/EN#" and "]": "<entity>/<types> words". */
static bool mark_read(const char *inside, size_t n, mark *out)
{
    char number[24];
    char *end = NULL;
    const char *slash = memchr(inside, '/', n), *blank = memchr(inside, ' ', n);
    if (!slash || !blank || slash > blank || (size_t)(slash - inside) >= sizeof number) return false;
    const size_t kind_bytes = (size_t)(blank - slash - 1);
    if (slash == inside || kind_bytes >= VG_SHARD_NAME_BYTES) return false;
    memcpy(number, inside, (size_t)(slash - inside));
    number[slash - inside] = '\0';
    out->entity = strtoll(number, &end, 10);
    memcpy(out->kind, slash + 1, kind_bytes);
    out->kind[kind_bytes] = '\0';
    out->text = blank + 1;
    out->text_bytes = (size_t)(inside + n - out->text);
    return *end == '\0' && !memchr(out->kind, '\0', kind_bytes);
}

static vg_status phrase_put(flickr *f, int64_t image_id, int64_t caption, const mark *m)
{
    char place[64];
    vg_collected_phrase p = {.image_id = image_id,
                             .sentence_id = image_id * PHRASES_OF_IMAGE + f->n_phrases++,
                             .ref_id = m->entity,
                             .place = place,
                             .text = m->text,
                             .text_bytes = m->text_bytes,
                             .split = split_of(f, image_id),
                             .kind = m->kind};
    VG_TRY(vg_grow(&f->boxes, &f->boxes_capacity, f->entities.n, sizeof *f->boxes));
    for (size_t i = 0; i < f->entities.n; i++)
        if (f->entities.row[i].entity == m->entity)
            memcpy(f->boxes[p.n_boxes++], f->entities.row[i].xyxy, sizeof *f->boxes);
    if (m->entity == 0 || p.n_boxes == 0) return VG_OK;
    p.boxes = (const double(*)[4])f->boxes;
    snprintf(place, sizeof place, "image %lld caption %lld entity %lld", (long long)image_id, (long long)caption,
             (long long)m->entity);
    return f->n_phrases < PHRASES_OF_IMAGE ? vg_collector_phrase(f->collector, &p)
                                           : vg_import_reject(f->log, 1, "%s: one phrase too many", place);
}

static vg_status caption_read(flickr *f, int64_t image_id, int64_t caption, const char *line, size_t n)
{
    static const char opening[] = "[/EN#";
    const size_t n_opening = sizeof opening - 1;
    const char *end = line + n;
    for (const char *at = line; (at = memchr(at, '[', (size_t)(end - at))); at++) {
        const char *close = memchr(at, ']', (size_t)(end - at));
        mark m;
        const bool opens = (size_t)(end - at) > n_opening && memcmp(at, opening, n_opening) == 0;
        if (!opens || !close || !mark_read(at + n_opening, (size_t)(close - at) - n_opening, &m))
            VG_TRY(vg_import_reject(f->log, 1, "image %lld caption %lld: '%.*s' is no marked phrase",
                                    (long long)image_id, (long long)caption, end - at < 40 ? (int)(end - at) : 40, at));
        else
            VG_TRY(phrase_put(f, image_id, caption, &m));
    }
    return VG_OK;
}

static vg_status captions_lines(flickr *f, vg_file_window *w, int64_t image_id)
{
    for (int64_t caption = 1;; caption++) {
        const char *line;
        size_t n;
        VG_TRY(vg_file_window_line(w, &line, &n));
        if (!line) return VG_OK;
        VG_TRY(caption_read(f, image_id, caption, line, n));
    }
}

static vg_status captions_read(flickr *f, int64_t image_id)
{
    vg_text path = {0};
    vg_file_window window = {0};
    f->n_phrases = 0;
    VG_TRY(vg_text_add(&path, "%s/Sentences/%lld.txt", f->root, (long long)image_id));
    vg_status st = vg_file_window_open(&window, path.data);
    if (st == VG_OK) st = captions_lines(f, &window, image_id);
    vg_file_window_close(&window);
    free(path.data);
    return st;
}

/* ---- images ---- */

/* The entities and the size of an image; where its file cannot be read the image is set aside. */
static vg_status image_read(flickr *f, int64_t image_id)
{
    vg_text path = {0};
    char name[32];
    VG_TRY(vg_text_add(&path, "%s/Annotations/%lld.xml", f->root, (long long)image_id));
    const vg_status st = vg_entity_boxes_read(path.data, &f->entities);
    free(path.data);
    if (st == VG_E_DATA) return vg_import_reject(f->log, 1, "image %lld: %s", (long long)image_id, vg_error_text());
    VG_TRY(st);
    snprintf(name, sizeof name, "%lld.jpg", (long long)image_id);
    const vg_collected_image image = {.image_id = image_id,
                                      .flickr_id = image_id,
                                      .width = f->entities.width,
                                      .height = f->entities.height,
                                      .file_name = name};
    VG_TRY(vg_collector_image(f->collector, &image));
    return captions_read(f, image_id);
}

/* The ids in the names of Sentences/<id>.txt. */
static vg_status images_list(flickr *f)
{
    vg_text folder = {0};
    VG_TRY(vg_text_add(&folder, "%s/Sentences", f->root));
    DIR *dir = opendir(folder.data);
    vg_status st = dir ? VG_OK
                       : vg_fail(vg_file_fault(errno),
                                 "%s: %s; name the folder with Sentences and Annotations of Flickr30k Entities",
                                 folder.data, strerror(errno));
    for (const struct dirent *entry; st == VG_OK && (entry = vg_folder_next(dir, folder.data, &st));) {
        char *end = NULL;
        const long long id = strtoll(entry->d_name, &end, 10);
        if (id <= 0 || id > INT64_MAX / (2 * PHRASES_OF_IMAGE) || strcmp(end, ".txt") != 0) continue;
        st = vg_grow(&f->images, &f->images_capacity, f->n_images + 1, sizeof *f->images);
        if (st == VG_OK) f->images[f->n_images++] = id;
    }
    if (dir) closedir(dir);
    free(folder.data);
    VG_TRY(st);
    if (f->n_images > 0) qsort(f->images, f->n_images, sizeof *f->images, by_id);
    return VG_OK;
}

static vg_status folders_add(vg_image_folders *folders, const char *base)
{
    static const char *const usual[] = {
        "flickr30k-images", "flickr30k_images", "images", "../flickr30k-images", "../flickr30k_images", "", NULL};
    return vg_image_folders_add_all(folders, base, usual);
}

/* ---- the importer ---- */

static bool flickr_probe(const char *set, const char *root)
{
    (void)set;
    flickr f = {.root = root};
    const bool found = images_list(&f) == VG_OK && f.n_images > 0;
    free(f.images);
    return found;
}

static vg_status flickr_fill(flickr *f, const vg_import_source *source)
{
    static const vg_collector_spec spec = {.images_file = "Annotations", .slack = BOX_SLACK};
    VG_TRY(images_list(f));
    VG_TRY(lists_read(f));
    VG_TRY(vg_collector_new(source, f->log, &spec, &f->collector));
    VG_TRY(folders_add(vg_collector_folders(f->collector), source->images ? source->images : source->root));
    for (size_t i = 0; i < f->n_images; i++) {
        VG_TRY(image_read(f, f->images[i]));
        VG_TRY(vg_import_progress(f->log, "annotations", (int64_t)i, (int64_t)f->n_images, "images"));
    }
    return vg_collector_sort(f->collector);
}

static vg_status flickr_open(const vg_import_source *source, vg_import_log *log, void **state,
                             char split_by[VG_IMPORT_NAME_BYTES])
{
    (void)split_by; /* the set has one kind of splits */
    flickr f = {.log = log, .root = source->root};
    const vg_status st = flickr_fill(&f, source);
    free(f.images);
    free(f.list);
    free(f.boxes);
    vg_entity_boxes_release(&f.entities);
    return vg_collector_hand_over(f.collector, st, state);
}

extern const vg_importer vg_flickr30k; /* a row of importers.def names it */
const vg_importer vg_flickr30k = {.merges_boxes = true,
                                  .probe = flickr_probe,
                                  .open = flickr_open,
                                  .next = vg_collector_next,
                                  .share = vg_collector_share,
                                  .close = vg_collector_close};
