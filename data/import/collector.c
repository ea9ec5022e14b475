#include "data/import/collector_impl.h"

#include "data/import/sorter_impl.h"
#include "data/import/split_rule_impl.h"
#include "data/utf8.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum {
    RECORDS_BUDGET_BYTES = 48 << 20,
    IDS_BUDGET_BYTES = 8 << 20,
    MAX_SENTENCES = 1 << 16, /* of one image */
};

/* Records to sort: the image id, which of the two it is, for a phrase its text and its split, the order in which they
 * came; then the rest, which is never compared since no two have the same place in that order. */
typedef enum { RECORD_IMAGE, RECORD_PHRASE } record_kind;

typedef struct image_body {
    int64_t coco_id, flickr_id;
    int64_t width, height;
} image_body;

typedef struct phrase_body {
    int64_t sentence_id, ref_id, n_boxes;
} phrase_body;

/* A record as the sorter gives it back, taken apart. */
typedef struct parsed {
    int64_t image_id, order;
    record_kind kind;
    image_body image;
    phrase_body phrase;
    const char *text, *split, *phrase_kind, *place, *file_name;
    size_t text_bytes;
    const unsigned char *boxes; /* not aligned */
} parsed;

/* A sentence of the image at hand. Its strings and boxes are places, since both move while they grow. */
typedef struct gathered {
    int64_t sentence_id, ref_id, order;
    int64_t ref_order; /* of the first sentence of its ref */
    size_t text, text_bytes, split, kind, first_box, n_boxes;
} gathered;

struct vg_collector {
    const vg_collector_spec *spec;
    vg_import_log *log;
    vg_split_rule *rule;
    vg_sorter *records, *ids;
    vg_image_folders folders;
    int64_t n_put, n_taken, n_phrases;
    int64_t *dropped; /* orders of phrases whose id was given before */
    size_t n_dropped, dropped_capacity;
    vg_text record;             /* that is being put together */
    const unsigned char *ahead; /* the sorter's next record, NULL at the end */
    size_t ahead_bytes;
    /* The image at hand. */
    vg_text text; /* its strings, each with a NUL */
    gathered *gathered;
    size_t n_gathered, gathered_capacity;
    float *boxes;
    size_t n_boxes, boxes_capacity;
    vg_new_sentence *sentences;
    size_t sentences_capacity;
    vg_text file_name;
};

vg_status vg_collector_new(const vg_import_source *source, vg_import_log *log, const vg_collector_spec *spec,
                           vg_collector **out)
{
    vg_collector *c = vg_new0(sizeof *c);
    VG_CHECK(c, VG_E_NOMEM, "no memory for an importer");
    c->spec = spec;
    c->log = log;
    vg_status st = vg_split_rule_new(source, &c->rule);
    if (st == VG_OK) st = vg_sorter_new(source->scratch, RECORDS_BUDGET_BYTES, &c->records);
    if (st == VG_OK) st = vg_sorter_new(source->scratch, IDS_BUDGET_BYTES, &c->ids);
    if (st != VG_OK) {
        vg_collector_close(c);
        return st;
    }
    *out = c;
    return VG_OK;
}

void vg_collector_close(void *collector)
{
    vg_collector *c = collector;
    if (!c) return;
    vg_split_rule_free(c->rule);
    vg_sorter_free(c->records);
    vg_sorter_free(c->ids);
    free(c->dropped);
    free(c->record.data);
    free(c->text.data);
    free(c->gathered);
    free(c->boxes);
    free(c->sentences);
    free(c->file_name.data);
    vg_image_folders_release(&c->folders);
    free(c);
}

vg_status vg_collector_hand_over(vg_collector *c, vg_status status, void **state)
{
    if (status == VG_OK)
        *state = c;
    else
        vg_collector_close(c);
    return status;
}

int64_t vg_collector_count(const vg_collector *c)
{
    return c->n_phrases;
}

vg_image_folders *vg_collector_folders(vg_collector *c)
{
    return &c->folders;
}

double vg_collector_share(void *collector)
{
    const vg_collector *c = collector;
    return c->n_put ? (double)c->n_taken / (double)c->n_put : 1;
}

/* ---- putting in ---- */

static vg_status put_int(vg_text *record, int64_t value)
{
    unsigned char bytes[8];
    vg_sortable_put(value, bytes);
    return vg_text_add_bytes(record, bytes, sizeof bytes);
}

static vg_status put_string(vg_text *record, const char *text)
{
    return vg_text_add_bytes(record, text, strlen(text) + 1);
}

/* The part that is compared. */
static vg_status record_begin(vg_collector *c, int64_t image_id, record_kind kind)
{
    const char which = (char)kind;
    c->record.length = 0;
    VG_TRY(put_int(&c->record, image_id));
    return vg_text_add_bytes(&c->record, &which, 1);
}

vg_status vg_collector_image(vg_collector *c, const vg_collected_image *image)
{
    const image_body body = {image->coco_id, image->flickr_id, image->width, image->height};
    VG_TRY(record_begin(c, image->image_id, RECORD_IMAGE));
    VG_TRY(put_int(&c->record, c->n_put++));
    VG_TRY(vg_text_add_bytes(&c->record, &body, sizeof body));
    VG_TRY(put_string(&c->record, image->file_name));
    return vg_sorter_add(c->records, c->record.data, c->record.length);
}

static const char *trimmed(const char *text, size_t *n)
{
    while (*n > 0 && isspace((unsigned char)text[*n - 1])) (*n)--;
    while (*n > 0 && isspace((unsigned char)*text)) text++, (*n)--;
    return text;
}

/* Unicode characters; bytes where it is no UTF-8. */
static size_t characters(const char *text, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

static const char *phrase_fault(const vg_collected_phrase *p, const char *text, size_t text_bytes)
{
    if (text_bytes == 0 || memchr(text, '\0', text_bytes)) return "its text is empty or holds a NUL";
    if (text_bytes > VG_SHARD_MAX_TEXT) return "its text has more than 65536 bytes";
    if (!vg_utf8_valid(text, text_bytes)) return "its text is not UTF-8";
    if (p->n_boxes > VG_SHARD_MAX_BOXES) return "it has more than 65536 boxes";
    if (p->split && (!*p->split || strlen(p->split) >= VG_SHARD_NAME_BYTES))
        return "its split is not 1 to 63 bytes long";
    return strlen(p->kind) >= VG_SHARD_NAME_BYTES ? "its kind has more than 63 bytes" : NULL;
}

static vg_status id_put(vg_collector *c, const vg_collected_phrase *p)
{
    c->record.length = 0;
    VG_TRY(put_int(&c->record, p->sentence_id));
    VG_TRY(put_string(&c->record, p->split ? p->split : ""));
    VG_TRY(put_int(&c->record, c->n_put));
    VG_TRY(put_string(&c->record, p->place));
    return vg_sorter_add(c->ids, c->record.data, c->record.length);
}

vg_status vg_collector_phrase(vg_collector *c, const vg_collected_phrase *p)
{
    size_t text_bytes = p->text_bytes;
    const char *text = trimmed(p->text, &text_bytes), *fault = phrase_fault(p, text, text_bytes);
    if (characters(text, text_bytes) < c->spec->min_characters) {
        vg_import_leave_short(c->log, p->place, c->spec->min_characters);
        return VG_OK;
    }
    if (fault) return vg_import_reject(c->log, 1, "%s: %s", p->place, fault);
    const phrase_body body = {p->sentence_id, p->ref_id, (int64_t)p->n_boxes};
    VG_TRY(id_put(c, p));
    VG_TRY(record_begin(c, p->image_id, RECORD_PHRASE));
    VG_TRY(vg_text_add_words(&c->record, text, text_bytes));
    VG_TRY(vg_text_add_bytes(&c->record, "", 1));
    VG_TRY(put_string(&c->record, p->split ? p->split : ""));
    VG_TRY(put_int(&c->record, c->n_put++));
    VG_TRY(vg_text_add_bytes(&c->record, &body, sizeof body));
    VG_TRY(put_string(&c->record, p->kind));
    VG_TRY(put_string(&c->record, p->place));
    if (p->n_boxes) VG_TRY(vg_text_add_bytes(&c->record, p->boxes, p->n_boxes * sizeof *p->boxes));
    c->n_phrases++;
    return vg_sorter_add(c->records, c->record.data, c->record.length);
}

/* ---- ids that were given before ---- */

static int by_value(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* `rest` is what an id's record holds behind its key: the order and the place of the phrase. */
static vg_status id_drop(vg_collector *c, int64_t id, const unsigned char *rest)
{
    VG_TRY(vg_grow(&c->dropped, &c->dropped_capacity, c->n_dropped + 1, sizeof *c->dropped));
    c->dropped[c->n_dropped++] = vg_sortable_get(rest);
    return vg_import_reject(c->log, 1, "%s: its id %lld was given before", (const char *)rest + 8, (long long)id);
}

/* Of phrases with the same id in the same split the first stays. */
static vg_status ids_check(vg_collector *c)
{
    const unsigned char *record;
    vg_text last = {0}; /* the id and split of the record before */
    size_t n;
    VG_TRY(vg_sorter_sort(c->ids));
    vg_status st = vg_sorter_next(c->ids, &record, &n);
    while (st == VG_OK && record) {
        const size_t key_bytes = 8 + strlen((const char *)record + 8) + 1;
        if (last.length == key_bytes && memcmp(last.data, record, key_bytes) == 0) {
            st = id_drop(c, vg_sortable_get(record), record + key_bytes);
        } else {
            last.length = 0;
            st = vg_text_add_bytes(&last, record, key_bytes);
        }
        if (st == VG_OK) st = vg_sorter_next(c->ids, &record, &n);
    }
    free(last.data);
    if (c->n_dropped > 0) qsort(c->dropped, c->n_dropped, sizeof *c->dropped, by_value);
    vg_sorter_free(c->ids);
    c->ids = NULL;
    return st;
}

static bool is_dropped(const vg_collector *c, int64_t order)
{
    return c->n_dropped && bsearch(&order, c->dropped, c->n_dropped, sizeof *c->dropped, by_value);
}

vg_status vg_collector_sort(vg_collector *c)
{
    VG_TRY(ids_check(c));
    VG_TRY(vg_sorter_sort(c->records));
    return vg_sorter_next(c->records, &c->ahead, &c->ahead_bytes);
}

/* ---- taking out ---- */

static const char *take_string(const unsigned char **at)
{
    const char *text = (const char *)*at;
    *at += strlen(text) + 1;
    return text;
}

static void take_bytes(const unsigned char **at, void *out, size_t n)
{
    memcpy(out, *at, n);
    *at += n;
}

/* The record ahead, taken apart; its strings are borrowed until the sorter moves on. */
static parsed ahead_parse(const vg_collector *c)
{
    const unsigned char *at = c->ahead + 9;
    parsed p = {.image_id = vg_sortable_get(c->ahead), .kind = (record_kind)c->ahead[8]};
    if (p.kind == RECORD_PHRASE) {
        p.text = take_string(&at);
        p.text_bytes = strlen(p.text);
        p.split = take_string(&at);
    }
    p.order = vg_sortable_get(at);
    at += 8;
    if (p.kind == RECORD_IMAGE) {
        take_bytes(&at, &p.image, sizeof p.image);
        p.file_name = (const char *)at;
    } else {
        take_bytes(&at, &p.phrase, sizeof p.phrase);
        p.phrase_kind = take_string(&at);
        p.place = take_string(&at);
        p.boxes = at;
    }
    return p;
}

static vg_status advance(vg_collector *c)
{
    c->n_taken++;
    return vg_sorter_next(c->records, &c->ahead, &c->ahead_bytes);
}

static bool is_of(const vg_collector *c, int64_t image_id, record_kind kind)
{
    return c->ahead && vg_sortable_get(c->ahead) == image_id && c->ahead[8] == (unsigned char)kind;
}

/* What is said of an image: once, or in the same words. *described is false when nothing was. */
static vg_status image_take(vg_collector *c, int64_t image_id, image_body *body, bool *described)
{
    *described = false;
    while (is_of(c, image_id, RECORD_IMAGE)) {
        const parsed p = ahead_parse(c);
        if (!*described) {
            *described = true;
            *body = p.image;
            c->file_name.length = 0;
            VG_TRY(vg_text_add(&c->file_name, "%s", p.file_name));
        } else if (memcmp(&p.image, body, sizeof *body) != 0 || strcmp(p.file_name, c->file_name.data) != 0) {
            VG_TRY(vg_import_reject(c->log, 0, "image %lld: described a second time, and differently: %s",
                                    (long long)image_id, p.file_name));
        }
        VG_TRY(advance(c));
    }
    return VG_OK;
}

/* Keeps a string of the image at hand; its place, since the text moves while it grows. */
static vg_status text_keep(vg_collector *c, const char *text, size_t *place)
{
    *place = c->text.length;
    return put_string(&c->text, text);
}

static bool box_is_there(const vg_collector *c, size_t first, const float box[4])
{
    for (size_t i = first; i < c->n_boxes; i++)
        if (memcmp(c->boxes + 4 * i, box, 4 * sizeof *box) == 0) return true;
    return false;
}

static bool box_leaves(const double xyxy[4], const image_body *image)
{
    return xyxy[0] < 0 || xyxy[1] < 0 || (image->width > 0 && xyxy[2] > (double)image->width) ||
           (image->height > 0 && xyxy[3] > (double)image->height);
}

/* As vg_import_box_fault, with the rules of the set. */
static const char *box_fault(const vg_collector *c, const double xyxy[4], const image_body *image, float box[4])
{
    const double least = c->spec->min_side;
    const char *fault = vg_import_box_fault(xyxy, (int)image->width, (int)image->height, c->spec->slack, box);
    if (!fault && (box[2] - box[0] < least || box[3] - box[1] < least))
        fault = "has a box of which too little is in its image";
    return fault;
}

/* The boxes of a phrase behind those there are, each once for a sentence; what is wrong with one, NULL when nothing is.
 */
static vg_status boxes_take(vg_collector *c, const parsed *p, const image_body *image, size_t first, const char **fault)
{
    const size_t before = c->n_boxes;
    size_t n_clamped = 0;
    *fault = NULL;
    for (int64_t i = 0; i < p->phrase.n_boxes; i++) {
        double xyxy[4];
        memcpy(xyxy, p->boxes + (size_t)i * sizeof xyxy, sizeof xyxy);
        VG_TRY(vg_grow(&c->boxes, &c->boxes_capacity, 4 * (c->n_boxes + 1), sizeof *c->boxes));
        float *box = c->boxes + 4 * c->n_boxes;
        *fault = box_fault(c, xyxy, image, box);
        if (*fault) {
            c->n_boxes = before;
            return VG_OK;
        }
        n_clamped += box_leaves(xyxy, image);
        c->n_boxes += !box_is_there(c, first, box);
    }
    vg_import_count_clamped(c->log, n_clamped);
    return VG_OK;
}

/* Whether the sentence gathered last is this phrase, too: equal ones follow each other. */
static bool is_same(const vg_collector *c, const parsed *p)
{
    if (!c->spec->merge_equal || c->n_gathered == 0) return false;
    const gathered *last = &c->gathered[c->n_gathered - 1];
    return strcmp(c->text.data + last->text, p->text) == 0 && strcmp(c->text.data + last->split, p->split) == 0;
}

static vg_status phrase_gather(vg_collector *c, const parsed *p, const image_body *image)
{
    const bool same = is_same(c, p);
    const size_t first_box = same ? c->gathered[c->n_gathered - 1].first_box : c->n_boxes;
    const char *fault = NULL;
    if (!same && c->n_gathered == MAX_SENTENCES) fault = "one of more than 65536 phrases of its image";
    if (!fault) VG_TRY(boxes_take(c, p, image, first_box, &fault));
    if (fault) return vg_import_reject(c->log, 1, "%s: %s", p->place, fault);
    if (!same) {
        VG_TRY(vg_grow(&c->gathered, &c->gathered_capacity, c->n_gathered + 1, sizeof *c->gathered));
        gathered *g = &c->gathered[c->n_gathered++];
        *g = (gathered){.sentence_id = p->phrase.sentence_id,
                        .ref_id = p->phrase.ref_id,
                        .order = p->order,
                        .text_bytes = p->text_bytes,
                        .first_box = first_box};
        VG_TRY(text_keep(c, p->text, &g->text));
        VG_TRY(text_keep(c, p->split, &g->split));
        VG_TRY(text_keep(c, p->phrase_kind, &g->kind));
    }
    c->gathered[c->n_gathered - 1].n_boxes = c->n_boxes - first_box;
    return VG_OK;
}

/* The phrases of an image; without one that is described they are set aside together. */
static vg_status phrases_take(vg_collector *c, int64_t image_id, const image_body *image)
{
    size_t n_lost = 0;
    c->n_gathered = c->n_boxes = c->text.length = 0;
    while (is_of(c, image_id, RECORD_PHRASE)) {
        const parsed p = ahead_parse(c);
        const bool stays = !is_dropped(c, p.order);
        if (stays && image) VG_TRY(phrase_gather(c, &p, image));
        n_lost += stays && !image;
        VG_TRY(advance(c));
    }
    if (n_lost == 0) return VG_OK;
    return vg_import_reject(c->log, n_lost, "image %lld: not in %s, but there are %zu phrases of it",
                            (long long)image_id, c->spec->images_file, n_lost);
}

static int by_ref(const void *a, const void *b)
{
    const gathered *x = a, *y = b;
    if (x->ref_id != y->ref_id) return x->ref_id < y->ref_id ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static int by_order(const void *a, const void *b)
{
    const gathered *x = a, *y = b;
    if (x->ref_order != y->ref_order) return x->ref_order < y->ref_order ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

/* In the order in which they were put in, but the sentences of a ref together. */
static void gathered_sort(vg_collector *c)
{
    gathered *g = c->gathered;
    qsort(g, c->n_gathered, sizeof *g, by_ref);
    for (size_t i = 0; i < c->n_gathered; i++)
        g[i].ref_order = i > 0 && g[i].ref_id == g[i - 1].ref_id ? g[i - 1].ref_order : g[i].order;
    qsort(g, c->n_gathered, sizeof *g, by_order);
}

/* What was gathered, as a record has it. *n is what no list leaves out. */
static vg_status sentences_fill(vg_collector *c, int64_t image_id, size_t *n)
{
    const char *of_image = vg_split_rule_of(c->rule, image_id, c->file_name.data);
    VG_TRY(vg_grow(&c->sentences, &c->sentences_capacity, c->n_gathered, sizeof *c->sentences));
    gathered_sort(c);
    *n = 0;
    for (size_t i = 0; i < c->n_gathered; i++) {
        const gathered *g = &c->gathered[i];
        const char *own = c->text.data + g->split, *split = *own ? own : of_image;
        if (!split) continue;
        c->sentences[(*n)++] = (vg_new_sentence){.sentence_id = g->sentence_id,
                                                 .ref_id = g->ref_id,
                                                 .text = c->text.data + g->text,
                                                 .text_bytes = g->text_bytes,
                                                 .split = split,
                                                 .kind = c->text.data + g->kind,
                                                 .boxes = c->boxes + 4 * g->first_box,
                                                 .n_boxes = (int)g->n_boxes};
    }
    return VG_OK;
}

/* All that is ahead of one image; n_sentences is 0 when nothing of it is left. */
static vg_status image_gather(vg_collector *c, vg_import_record *record)
{
    const int64_t image_id = vg_sortable_get(c->ahead);
    image_body image = {0};
    bool described;
    size_t n = 0;
    VG_TRY(image_take(c, image_id, &image, &described));
    VG_TRY(phrases_take(c, image_id, described ? &image : NULL));
    *record = (vg_import_record){.image_id = image_id};
    if (c->n_gathered == 0) return VG_OK;
    VG_TRY(sentences_fill(c, image_id, &n));
    if (n == 0) return VG_OK;
    if (!vg_name_is_inside(c->file_name.data))
        return vg_import_reject(
            c->log, n,
            "image %lld: its file name '%s' leads out of the folder; wanted is one below it, or below that of --images",
            (long long)image_id, c->file_name.data);
    *record = (vg_import_record){.image_id = image_id,
                                 .coco_id = image.coco_id,
                                 .flickr_id = image.flickr_id,
                                 .width = (int)image.width,
                                 .height = (int)image.height,
                                 .file_name = c->file_name.data,
                                 .sentences = c->sentences,
                                 .n_sentences = n,
                                 .slack = c->spec->slack};
    return vg_image_folders_find(&c->folders, record->file_name, &record->path);
}

vg_status vg_collector_next(void *collector, vg_import_record *record, bool *more)
{
    vg_collector *c = collector;
    for (*more = false; c->ahead && !*more;) {
        VG_TRY(image_gather(c, record));
        *more = record->n_sentences > 0;
    }
    if (!*more) {
        int64_t n_lines = 0, first_line = 0;
        VG_TRY(vg_split_rule_unmet(c->rule, &n_lines, &first_line));
        vg_import_note_unmet(c->log, n_lines, first_line);
    }
    return VG_OK;
}
