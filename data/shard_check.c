/* The checks that make the tables of a shard safe to use: after them every offset, length, id and box can be trusted
 * without looking again. */
#define _POSIX_C_SOURCE 200809L
#include "data/shard_impl.h"

#include "data/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void vg_shard_tables_release(vg_shard_tables *t)
{
    free(t->images);
    free(t->sentences);
    free(t->boxes);
    free(t->text);
    free(t->splits);
    free(t->kinds);
    *t = (vg_shard_tables){0};
}

/* True when the run [first, first + n) lies inside [0, size). */
static bool inside(uint64_t first, uint64_t n, uint64_t size)
{
    return first <= size && n <= size - first;
}

/* Null when text[offset .. offset + n) is a string with its NUL, else what is wrong with it. */
static const char *string_fault(const vg_shard_tables *t, uint64_t offset, uint64_t n)
{
    if (n > VG_SHARD_MAX_TEXT || !inside(offset, n + 1, t->n_text)) return "its text lies outside the text table";
    if (t->text[offset + n] != '\0' || memchr(t->text + offset, '\0', n)) return "its text does not end where it says";
    return vg_utf8_valid(t->text + offset, n) ? NULL : "its text is not UTF-8";
}

const char *vg_shard_image_fault(const vg_shard_tables *t, const vg_shard_image *image, uint64_t *end)
{
    if (image->width < 1 || image->height < 1 || image->width > VG_SHARD_MAX_SIDE || image->height > VG_SHARD_MAX_SIDE)
        return "its size is impossible";
    if (image->length > VG_SHARD_MAX_IMAGE || !inside(image->offset, image->length, t->n_bytes))
        return "its bytes lie outside the shard";
    if (image->offset < *end) return "its bytes overlap those of the image before";
    const uint64_t into = image->offset % t->chunk_bytes;
    if (into && !inside(into, image->length, t->chunk_bytes)) return "its bytes straddle a chunk";
    const char *fault = string_fault(t, image->name_offset, image->name_length);
    if (fault) return fault;
    if (image->record != vg_shard_image_record(t, image)) return "its row does not match its hash";
    *end = image->offset + image->length;
    return NULL;
}

static const char *box_fault(const float box[4], const vg_shard_image *image)
{
    for (int i = 0; i < 4; i++)
        if (!isfinite(box[i])) return "a coordinate of its box is not finite";
    const bool fits = box[0] >= 0 && box[1] >= 0 && box[2] <= (float)image->width && box[3] <= (float)image->height;
    if (!fits) return "its box leaves the image";
    return box[0] < box[2] && box[1] < box[3] ? NULL : "its box is empty";
}

const char *vg_shard_sentence_fault(const vg_shard_tables *t, const vg_shard_sentence *s, int64_t before)
{
    if (s->image < 0 || (uint64_t)s->image >= t->n_images) return "its image does not exist";
    if (s->image < before || s->image > before + 1) return "the sentences are not in the order of images";
    if (s->split < 0 || (size_t)s->split >= t->n_splits) return "its split does not exist";
    if (s->kind < 0 || (size_t)s->kind >= t->n_kinds) return "its kind does not exist";
    if (s->text_length == 0) return "its text is empty";
    const char *fault = string_fault(t, s->text_offset, s->text_length);
    if (fault) return fault;
    if (s->n_boxes < 0 || s->n_boxes > VG_SHARD_MAX_BOXES || s->first_box < 0 ||
        !inside((uint64_t)s->first_box, (uint64_t)s->n_boxes, t->n_boxes))
        return "its boxes lie outside the box table";
    for (int i = 0; i < s->n_boxes; i++)
        if ((fault = box_fault(t->boxes[s->first_box + i], &t->images[s->image]))) return fault;
    return s->record == vg_shard_sentence_record(t, s) ? NULL : "its row does not match its hash";
}

bool vg_shard_name_fits(const char *name, size_t least)
{
    const size_t n = strnlen(name, VG_SHARD_NAME_BYTES);
    return n >= least && n < VG_SHARD_NAME_BYTES && vg_utf8_valid(name, n);
}

static vg_status check_names(const char *path, const char *table, const vg_shard_name *names, size_t n, size_t least)
{
    VG_CHECK(n <= VG_SHARD_MAX_NAMES, VG_E_DATA, "%s: %zu rows in /%s, more than %d", path, n, table,
             VG_SHARD_MAX_NAMES);
    for (size_t i = 0; i < n; i++)
        VG_CHECK(vg_shard_name_fits(names[i], least), VG_E_DATA, "%s: /%s row %zu is not a name of %zu to %d bytes",
                 path, table, i, least, VG_SHARD_NAME_BYTES - 1);
    return VG_OK;
}

/* A check under way. */
typedef struct check {
    const char *path;
    const vg_shard_tables *tables;
    vg_row_fault_fn *on_fault; /* NULL: fail */
    void *user;
    bool *bad_image;
    size_t n_faults;
} check;

static vg_status fault_tell(check *c, const vg_row_fault *fault)
{
    c->n_faults++;
    if (c->on_fault) return c->on_fault(c->user, fault);
    return vg_fail(VG_E_DATA,
                   "%s: /%s row %zu (%.*s %lld): %s; `vlgtr shard verify --quarantine` lists what to leave out",
                   c->path, fault->table, fault->row, (int)strlen(fault->table) - 1, fault->table, (long long)fault->id,
                   fault->what);
}

static vg_status images_check(check *c)
{
    const vg_shard_tables *t = c->tables;
    uint64_t end = 0;
    for (size_t i = 0; i < t->n_images; i++) {
        const vg_shard_image *image = &t->images[i];
        const char *what = vg_shard_image_fault(t, image, &end);
        if (!what) continue;
        c->bad_image[i] = true;
        VG_TRY(fault_tell(c, &(vg_row_fault){"images", i, image->image_id, image->record, what}));
    }
    return VG_OK;
}

/* Behind a row at fault the order goes on from the next good one. */
static vg_status sentences_check(check *c)
{
    const vg_shard_tables *t = c->tables;
    int64_t before = -1;
    bool lost = false;
    for (size_t i = 0; i < t->n_sentences; i++) {
        const vg_shard_sentence *s = &t->sentences[i];
        const bool exists = s->image >= 0 && (uint64_t)s->image < t->n_images;
        const char *what =
            exists && c->bad_image[s->image] ? NULL : vg_shard_sentence_fault(t, s, lost ? s->image : before);
        if (what) VG_TRY(fault_tell(c, &(vg_row_fault){"sentences", i, s->sentence_id, s->record, what}));
        lost = what != NULL;
        if (!lost) before = s->image;
    }
    VG_CHECK(c->n_faults > 0 || (uint64_t)(before + 1) == t->n_images, VG_E_DATA, "%s: image row %lld has no sentences",
             c->path, (long long)before + 1);
    return VG_OK;
}

vg_status vg_shard_check(const char *path, const vg_shard_tables *t, vg_row_fault_fn *on_fault, void *user)
{
    check c = {.path = path, .tables = t, .on_fault = on_fault, .user = user};
    VG_CHECK(t->chunk_bytes > 0, VG_E_DATA, "%s: /bytes has chunks of no bytes", path);
    VG_TRY(check_names(path, "splits", t->splits, t->n_splits, 1));
    VG_TRY(check_names(path, "kinds", t->kinds, t->n_kinds, 0));
    c.bad_image = vg_new0_array(t->n_images, sizeof *c.bad_image);
    VG_CHECK(c.bad_image, VG_E_NOMEM, "%s: no memory to check %zu images", path, t->n_images);
    vg_status st = images_check(&c);
    if (st == VG_OK) st = sentences_check(&c);
    free(c.bad_image);
    return st;
}
