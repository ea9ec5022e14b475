/* A contact sheet of images drawn from shards, with the boxes and phrases they have there. */
#include "data/draw.h"
#include "data/sampler.h"
#include "data/shard_impl.h"
#include "data/shard_tools.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE_SIDE = 320, MAX_TILES = 100 };

/* An image and its sentences [first, end). */
typedef struct candidate {
    size_t shard, first, end;
} candidate;

typedef struct sampler {
    const char *split; /* NULL: all */
    vg_shard_paths list;
    vg_shard **shards;
    candidate *images; /* that have a sentence of the split */
    size_t n, capacity;
} sampler;

static bool is_wanted(const sampler *s, const vg_shard_tables *t, size_t sentence)
{
    return !s->split || strcmp(t->splits[t->sentences[sentence].split], s->split) == 0;
}

static vg_status candidates_add(sampler *s, size_t shard)
{
    const vg_shard_tables *t = &s->shards[shard]->tables;
    for (size_t first = 0, end; first < t->n_sentences; first = end) {
        bool wanted = false;
        for (end = first; end < t->n_sentences && t->sentences[end].image == t->sentences[first].image; end++)
            wanted = wanted || is_wanted(s, t, end);
        if (!wanted || t->images[t->sentences[first].image].length == 0) continue; /* no file, no picture */
        VG_TRY(vg_grow(&s->images, &s->capacity, s->n + 1, sizeof *s->images));
        s->images[s->n++] = (candidate){shard, first, end};
    }
    return VG_OK;
}

static vg_status sampler_open(sampler *s, const char *const *paths, int n_paths)
{
    VG_TRY(vg_shard_paths_find(paths, n_paths, &s->list));
    s->shards = vg_new0_array(s->list.n, sizeof(vg_shard *));
    VG_CHECK(s->shards, VG_E_NOMEM, "no memory for %zu shards", s->list.n);
    for (size_t i = 0; i < s->list.n; i++) {
        VG_TRY(vg_shard_open(s->list.path[i], &s->shards[i]));
        VG_TRY(candidates_add(s, i));
    }
    VG_CHECK(s->n > 0, VG_E_DATA, "%s: no images%s%s%s to draw", paths[0], s->split ? " of split '" : "",
             s->split ? s->split : "", s->split ? "'" : "");
    return VG_OK;
}

static void sampler_close(sampler *s)
{
    for (size_t i = 0; s->shards && i < s->list.n; i++) vg_shard_close(s->shards[i]);
    free(s->shards);
    free(s->images);
    vg_shard_paths_release(&s->list);
}

/* One image with all boxes of its sentences; the caption is its phrases, one of each ref, which is enough to look at.
 */
static vg_status boxes_draw(const sampler *s, const candidate *c, vg_image *image, vg_text *caption)
{
    static const uint32_t colours[] = {0xe6194b, 0x3cb44b, 0x4363d8, 0xf58231, 0x911eb4, 0x008080};
    const vg_shard_tables *t = &s->shards[c->shard]->tables;
    int64_t last_ref = 0;
    size_t n_refs = 0;
    for (size_t i = c->first; i < c->end; i++) {
        const vg_shard_sentence *sentence = &t->sentences[i];
        const char *text = t->text + sentence->text_offset;
        if (!is_wanted(s, t, i) || (n_refs > 0 && sentence->ref_id == last_ref)) continue;
        last_ref = sentence->ref_id;
        const uint32_t colour = colours[n_refs++ % 6];
        VG_TRY(vg_text_add(caption, "%s%s", caption->length ? "; " : "", text));
        for (int b = 0; b < sentence->n_boxes; b++) {
            vg_drawn_box box = {.colour = colour, .label = text};
            memcpy(box.xyxy, t->boxes[sentence->first_box + b], sizeof box.xyxy);
            VG_TRY(vg_draw_boxes(image, &box, 1));
        }
    }
    return VG_OK;
}

static vg_status tile_draw(const sampler *s, const candidate *c, vg_image *image, vg_text *caption)
{
    const vg_shard *shard = s->shards[c->shard];
    const size_t row = (size_t)shard->tables.sentences[c->first].image;
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    VG_TRY(vg_shard_read_image(shard, row, &bytes, &capacity, &n));
    vg_status st = vg_image_decode(bytes, n, true, image);
    free(bytes);
    if (st == VG_OK) st = boxes_draw(s, c, image, caption);
    return st == VG_OK ? st
                       : vg_fail_at(st, "%s: image %lld", shard->path, (long long)shard->tables.images[row].image_id);
}

static vg_status sheet_write(const sampler *s, int n, uint64_t seed, const char *png_path)
{
    vg_image tiles[MAX_TILES] = {{0}}, sheet = {0};
    vg_text captions[MAX_TILES] = {{0}};
    const char *texts[MAX_TILES] = {NULL};
    vg_status st = VG_OK;
    for (int i = 0; i < n && st == VG_OK; i++) {
        const candidate *c = &s->images[vg_permute(seed, (int64_t)s->n, i)];
        st = tile_draw(s, c, &tiles[i], &captions[i]);
        texts[i] = captions[i].data;
    }
    if (st == VG_OK) st = vg_draw_gallery(tiles, texts, n, (int)ceil(sqrt(n)), TILE_SIDE, &sheet);
    if (st == VG_OK) st = vg_image_write_png(png_path, &sheet);
    for (int i = 0; i < n; i++) {
        vg_image_release(&tiles[i]);
        free(captions[i].data);
    }
    vg_image_release(&sheet);
    return st;
}

vg_status vg_shard_sample(const char *const *paths, int n_paths, const char *split, int n, uint64_t seed,
                          const char *png_path)
{
    sampler s = {.split = split};
    VG_CHECK(n >= 1 && n <= MAX_TILES, VG_E_USAGE, "--sample: %d images; 1 to %d can be drawn", n, MAX_TILES);
    vg_status st = sampler_open(&s, paths, n_paths);
    if (st == VG_OK) st = sheet_write(&s, (size_t)n < s.n ? n : (int)s.n, seed, png_path);
    sampler_close(&s);
    return st;
}
