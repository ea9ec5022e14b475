#include "data/shard_tools.h"

#include "data/draw.h"
#include "data/shard_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_FIRST_SENTENCES = 3, TILE_SIDE = 320, MAX_TILES = 64 };

/* ---- inspect ---- */

/* One split or kind, over all shards. */
typedef struct tally_row {
    vg_shard_name name;
    int64_t images, refs, sentences, boxes;
    int64_t last_image, last_ref; /* of the shard at hand */
} tally_row;

typedef struct tally {
    tally_row *row;
    size_t n, capacity;
} tally;

static vg_status tally_find(tally *t, const char *name, tally_row **out)
{
    for (size_t i = 0; i < t->n; i++) {
        if (strcmp(t->row[i].name, name) != 0) continue;
        *out = &t->row[i];
        return VG_OK;
    }
    VG_TRY(vg_grow(&t->row, &t->capacity, t->n + 1, sizeof *t->row));
    *out = &t->row[t->n++];
    **out = (tally_row){.last_image = -1};
    memcpy((*out)->name, name, strlen(name));
    return VG_OK;
}

/* The sentences of an image lie together, and those of a ref lie together in them. */
static vg_status tally_sentence(tally *t, const char *name, const vg_shard_sentence *s)
{
    tally_row *row = NULL;
    VG_TRY(tally_find(t, name, &row));
    const bool new_image = row->last_image != s->image;
    row->images += new_image;
    row->refs += new_image || row->last_ref != s->ref_id;
    row->sentences++;
    row->boxes += s->n_boxes;
    row->last_image = s->image;
    row->last_ref = s->ref_id;
    return VG_OK;
}

static vg_status tally_shard(const vg_shard *shard, tally *splits, tally *kinds)
{
    const vg_shard_tables *t = &shard->tables;
    for (size_t i = 0; i < splits->n; i++) splits->row[i].last_image = -1;
    for (size_t i = 0; i < kinds->n; i++) kinds->row[i].last_image = -1;
    for (size_t i = 0; i < t->n_sentences; i++) {
        const vg_shard_sentence *s = &t->sentences[i];
        VG_TRY(tally_sentence(splits, t->splits[s->split], s));
        VG_TRY(tally_sentence(kinds, t->kinds[s->kind], s));
    }
    return VG_OK;
}

static vg_status tally_text(const tally *t, const char *title, vg_text *out)
{
    VG_TRY(vg_text_add(out, "%-12s %10s %10s %10s %10s\n", title, "images", "refs", "sentences", "boxes"));
    for (size_t i = 0; i < t->n; i++) {
        const tally_row *row = &t->row[i];
        VG_TRY(vg_text_add(out, "%-12s %10lld %10lld %10lld %10lld\n", row->name[0] ? row->name : "(none)",
                           (long long)row->images, (long long)row->refs, (long long)row->sentences,
                           (long long)row->boxes));
    }
    return VG_OK;
}

static uint64_t image_bytes(const vg_shard_tables *t)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < t->n_images; i++) sum += t->images[i].length;
    return sum;
}

static vg_status shard_text(const vg_shard *shard, vg_text *out)
{
    const vg_shard_tables *t = &shard->tables;
    return vg_text_add(out, "%s: %s%s%s, %zu images in %.1f MiB, %zu sentences, content %016llx\n", shard->path,
                       shard->origin.source, shard->origin.split_by[0] ? " by " : "", shard->origin.split_by,
                       t->n_images, (double)image_bytes(t) / (1 << 20), t->n_sentences,
                       (unsigned long long)shard->content);
}

static vg_status first_sentences_text(const vg_shard *shard, vg_text *out)
{
    const vg_shard_tables *t = &shard->tables;
    VG_TRY(vg_text_add(out, "the first sentences:\n"));
    for (size_t i = 0; i < t->n_sentences && i < N_FIRST_SENTENCES; i++) {
        const vg_shard_sentence *s = &t->sentences[i];
        VG_TRY(vg_text_add(out, "  image %lld, ref %lld, sentence %lld (%s): \"%s\"",
                           (long long)t->images[s->image].image_id, (long long)s->ref_id, (long long)s->sentence_id,
                           t->splits[s->split], t->text + s->text_offset));
        for (int b = 0; b < s->n_boxes; b++) {
            const float *box = t->boxes[s->first_box + b];
            VG_TRY(vg_text_add(out, " [%g %g %g %g]", box[0], box[1], box[2], box[3]));
        }
        VG_TRY(vg_text_add(out, "\n"));
    }
    return VG_OK;
}

static vg_status inspect(const vg_shard_paths *list, tally *splits, tally *kinds, vg_text *out)
{
    for (size_t i = 0; i < list->n; i++) {
        vg_shard *shard = NULL;
        VG_TRY(vg_shard_open(list->path[i], &shard));
        vg_status st = shard_text(shard, out);
        if (st == VG_OK) st = tally_shard(shard, splits, kinds);
        if (st == VG_OK && i + 1 == list->n) {
            st = tally_text(splits, "split", out);
            if (st == VG_OK && (kinds->n > 1 || kinds->row[0].name[0])) st = tally_text(kinds, "kind", out);
            if (st == VG_OK) st = first_sentences_text(shard, out);
        }
        vg_shard_close(shard);
        VG_TRY(st);
    }
    return VG_OK;
}

vg_status vg_shard_inspect(const char *path, vg_text *out)
{
    vg_shard_paths list = {0};
    tally splits = {0}, kinds = {0};
    vg_status st = vg_shard_paths_find(&path, 1, &list);
    if (st == VG_OK) st = inspect(&list, &splits, &kinds, out);
    vg_shard_paths_release(&list);
    free(splits.row);
    free(kinds.row);
    return st;
}

/* ---- gallery ---- */

/* One image with all boxes of its sentences in this split; the caption is its phrases. */
static vg_status tile_draw(const vg_split *split, int64_t index, vg_image *image, vg_text *caption)
{
    static const uint32_t colours[] = {0xe6194b, 0x3cb44b, 0x4363d8, 0xf58231, 0x911eb4, 0x008080};
    vg_image_info info;
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    vg_split_image(split, index, &info);
    vg_status st = vg_split_read_image(split, index, &bytes, &capacity, &n);
    if (st == VG_OK) st = vg_image_decode(bytes, n, true, image);
    free(bytes);
    int64_t last_ref = -1, n_refs = 0;
    for (int64_t i = 0; i < info.n_sentences && st == VG_OK; i++) {
        vg_sentence s;
        vg_split_sentence(split, info.first_sentence + i, &s);
        if (i > 0 && s.ref_id == last_ref) continue; /* one phrase of each ref is enough to look at */
        last_ref = s.ref_id;
        const uint32_t colour = colours[n_refs++ % 6];
        st = vg_text_add(caption, "%s%s", caption->length ? "; " : "", s.text);
        for (int b = 0; b < s.n_boxes && st == VG_OK; b++) {
            vg_drawn_box box = {.colour = colour, .label = s.text};
            memcpy(box.xyxy, s.boxes + 4 * b, sizeof box.xyxy);
            st = vg_draw_boxes(image, &box, 1);
        }
    }
    return st;
}

vg_status vg_shard_gallery(const char *path, const char *split_name, int n, const char *png_path)
{
    vg_image tiles[MAX_TILES] = {{0}}, sheet = {0};
    vg_text captions[MAX_TILES] = {{0}};
    const char *texts[MAX_TILES];
    vg_split *split = NULL;
    VG_CHECK(n >= 1 && n <= MAX_TILES, VG_E_USAGE, "a gallery of %d images; 1 to %d can be drawn", n, MAX_TILES);
    VG_TRY(vg_split_open(&path, 1, split_name, &split));
    if (n > vg_split_image_count(split)) n = (int)vg_split_image_count(split);
    vg_status st = VG_OK;
    for (int i = 0; i < n && st == VG_OK; i++) {
        st = tile_draw(split, i, &tiles[i], &captions[i]);
        texts[i] = captions[i].data;
    }
    const int columns = (int)ceil(sqrt(n));
    if (st == VG_OK) st = vg_draw_gallery(tiles, texts, n, columns, TILE_SIDE, &sheet);
    if (st == VG_OK) st = vg_image_write_png(png_path, &sheet);
    for (int i = 0; i < n; i++) {
        vg_image_release(&tiles[i]);
        free(captions[i].data);
    }
    vg_image_release(&sheet);
    vg_split_close(split);
    return st;
}

/* ---- verify ---- */

static vg_status image_verify(const vg_shard *shard, size_t i, bool decode, unsigned char **bytes, size_t *capacity)
{
    const vg_shard_image *row = &shard->tables.images[i];
    size_t n = 0;
    VG_TRY(vg_shard_read_image(shard, i, bytes, capacity, &n));
    if (!decode) return VG_OK;
    vg_image image = {0};
    const vg_status st = vg_image_decode(*bytes, n, false, &image);
    const bool right = image.width == row->width && image.height == row->height;
    vg_image_release(&image);
    if (st != VG_OK) return vg_fail_at(st, "%s: image %lld", shard->path, (long long)row->image_id);
    VG_CHECK(right, VG_E_DATA, "%s: image %lld has another size than its row says", shard->path,
             (long long)row->image_id);
    return VG_OK;
}

/* Notes what is bad and goes on; other errors end the work. */
static vg_status note_bad(vg_status st, vg_shard_verify_report *report)
{
    if (st != VG_E_DATA) return st;
    report->bad++;
    return vg_text_add(&report->lines, "%s\n", vg_error_text());
}

static vg_status shard_verify(const char *path, bool decode, vg_shard_verify_report *report)
{
    vg_shard *shard = NULL;
    unsigned char *bytes = NULL;
    size_t capacity = 0;
    report->shards++;
    vg_status st = vg_shard_open(path, &shard);
    if (st != VG_OK) return note_bad(st, report);
    const vg_shard_tables *t = &shard->tables;
    for (size_t i = 0; i < t->n_images && st == VG_OK; i++)
        st = note_bad(image_verify(shard, i, decode, &bytes, &capacity), report);
    report->images += (int64_t)t->n_images;
    report->sentences += (int64_t)t->n_sentences;
    report->image_bytes += (int64_t)image_bytes(t);
    free(bytes);
    vg_shard_close(shard);
    return st;
}

vg_status vg_shard_verify(const char *path, bool decode, vg_shard_verify_report *report)
{
    vg_shard_paths list = {0};
    *report = (vg_shard_verify_report){0};
    vg_status st = vg_shard_paths_find(&path, 1, &list);
    for (size_t i = 0; i < list.n && st == VG_OK; i++) st = shard_verify(list.path[i], decode, report);
    vg_shard_paths_release(&list);
    VG_TRY(st);
    VG_CHECK(report->bad == 0, VG_E_DATA, "%lld of %lld shards and images are bad, the first: %.*s",
             (long long)report->bad, (long long)(report->shards + report->images),
             (int)strcspn(report->lines.data, "\n"), report->lines.data);
    return VG_OK;
}
