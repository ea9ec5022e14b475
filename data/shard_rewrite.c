/* Shards into shards: merged, cut to another size, or with a part of a split renamed. */
#include "data/shard_impl.h"
#include "data/shard_tools.h"
#include "data/shard_writer.h"

#include <stdlib.h>
#include <string.h>

enum { USUAL_SHARD_BYTES = 256 << 20 };

typedef struct rewriter {
    const vg_shard_rewrite_spec *spec;
    vg_shard_rewrite_report *report;
    vg_shard_writer *writer; /* NULL between shards */
    uint64_t written;        /* image bytes in it */
    unsigned char *bytes;    /* of the image at hand */
    size_t bytes_capacity;
    vg_new_sentence *sentences; /* of the image at hand */
    size_t sentences_capacity;
} rewriter;

static vg_status shard_begin(rewriter *r, const vg_shard *from)
{
    vg_text path = {0};
    VG_TRY(vg_text_add(&path, "%s/%s-%05lld.h5", r->spec->out, r->spec->name, (long long)r->report->shards));
    const vg_status st = vg_shard_writer_open(path.data, from->origin.source, from->origin.split_by, &r->writer);
    free(path.data);
    r->written = 0;
    return st;
}

static vg_status shard_end(rewriter *r)
{
    vg_shard_writer *writer = r->writer;
    if (!writer) return VG_OK;
    r->writer = NULL;
    r->report->shards++;
    return vg_shard_writer_close(writer, 0);
}

static bool is_chosen(const vg_shard_rewrite_spec *spec, int64_t image_id)
{
    uint32_t bits[4];
    vg_rng_block(vg_rng_key_of(spec->seed, vg_rng_purpose("shard split")), (uint64_t)image_id, 0, 0, bits);
    return spec->from && (double)vg_uniform(bits[0]) < spec->share;
}

/* Sentences [first, end) of a shard, those of one image, as they go into the new one. */
static vg_status sentences_take(rewriter *r, const vg_shard_tables *t, size_t first, size_t end, bool chosen)
{
    const size_t moved = (size_t)r->report->moved_sentences;
    VG_TRY(vg_grow(&r->sentences, &r->sentences_capacity, end - first, sizeof *r->sentences));
    for (size_t i = first; i < end; i++) {
        const vg_shard_sentence *s = &t->sentences[i];
        const char *split = t->splits[s->split];
        const bool moves = chosen && strcmp(split, r->spec->from) == 0;
        r->sentences[i - first] = (vg_new_sentence){.sentence_id = s->sentence_id,
                                                    .ref_id = s->ref_id,
                                                    .text = t->text + s->text_offset,
                                                    .text_bytes = s->text_length,
                                                    .split = moves ? r->spec->to : split,
                                                    .kind = t->kinds[s->kind],
                                                    .boxes = (const float *)(t->boxes + s->first_box),
                                                    .n_boxes = s->n_boxes};
        r->report->moved_sentences += moves;
    }
    r->report->moved_images += (size_t)r->report->moved_sentences > moved;
    return VG_OK;
}

static vg_status image_copy(rewriter *r, const vg_shard *shard, size_t row, size_t first, size_t end)
{
    const vg_shard_tables *t = &shard->tables;
    const vg_shard_image *image = &t->images[row];
    const size_t most = r->spec->shard_bytes ? r->spec->shard_bytes : USUAL_SHARD_BYTES;
    size_t n = 0;
    if (image->length > 0) VG_TRY(vg_shard_read_image(shard, row, &r->bytes, &r->bytes_capacity, &n));
    VG_TRY(sentences_take(r, t, first, end, is_chosen(r->spec, image->image_id)));
    if (r->writer && r->written + n > most) VG_TRY(shard_end(r));
    if (!r->writer) VG_TRY(shard_begin(r, shard));
    const vg_new_image copy = {.image_id = image->image_id,
                               .coco_id = image->coco_id,
                               .flickr_id = image->flickr_id,
                               .width = image->width,
                               .height = image->height,
                               .file_name = t->text + image->name_offset,
                               .bytes = n > 0 ? r->bytes : NULL,
                               .n_bytes = n,
                               .sentences = r->sentences,
                               .n_sentences = end - first};
    VG_TRY(vg_shard_writer_add(r->writer, &copy));
    r->written += n;
    r->report->images++;
    r->report->sentences += (int64_t)(end - first);
    return VG_OK;
}

static vg_status shard_copy(rewriter *r, const char *path)
{
    vg_shard *shard = NULL;
    VG_TRY(vg_shard_open(path, &shard));
    vg_status st = VG_OK;
    const vg_shard_tables *t = &shard->tables;
    for (size_t row = 0, first = 0; row < t->n_images && st == VG_OK; row++) {
        size_t end = first;
        while (end < t->n_sentences && t->sentences[end].image == (int64_t)row) end++;
        st = image_copy(r, shard, row, first, end);
        first = end;
    }
    vg_shard_close(shard);
    return st;
}

static vg_status spec_check(const vg_shard_rewrite_spec *spec)
{
    VG_CHECK(spec->share >= 0 && spec->share <= 1, VG_E_USAGE, "a share of %g of the images; 0 to 1 can be moved",
             spec->share);
    VG_CHECK(!spec->from || (spec->to && *spec->to && strlen(spec->to) < VG_SHARD_NAME_BYTES), VG_E_USAGE,
             "a split to move to needs a name of 1 to %d bytes", VG_SHARD_NAME_BYTES - 1);
    VG_TRY(vg_make_directories(spec->out));
    vg_shard_paths there = {0}; /* old and new shards in one folder would be read as one dataset */
    const bool taken = vg_shard_paths_find(&spec->out, 1, &there) == VG_OK;
    vg_shard_paths_release(&there);
    VG_CHECK(!taken, VG_E_USAGE, "%s: there are shards in this folder; name an empty one", spec->out);
    return VG_OK;
}

vg_status vg_shard_rewrite(const vg_shard_rewrite_spec *spec, vg_shard_rewrite_report *report)
{
    vg_shard_paths list = {0};
    rewriter r = {.spec = spec, .report = report};
    *report = (vg_shard_rewrite_report){0};
    VG_TRY(spec_check(spec));
    vg_status st = vg_shard_paths_find(spec->paths, spec->n_paths, &list);
    for (size_t i = 0; i < list.n && st == VG_OK; i++) st = shard_copy(&r, list.path[i]);
    if (st == VG_OK) st = shard_end(&r);
    if (st == VG_OK && spec->from && report->moved_sentences == 0)
        st = vg_fail(VG_E_USAGE, "nothing went from split '%s' to '%s': no such split, or too small a share",
                     spec->from, spec->to);
    vg_shard_writer_abandon(r.writer);
    vg_shard_paths_release(&list);
    free(r.bytes);
    free(r.sentences);
    return st;
}
