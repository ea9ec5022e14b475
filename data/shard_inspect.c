#include "data/shard_inspect_impl.h"
#include "data/shard_tools.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { N_FIRST_SENTENCES = 3 };

/* ---- counts ---- */

static vg_status tally_find(vg_tally *t, const char *name, vg_tally_row **out)
{
    for (size_t i = 0; i < t->n; i++) {
        if (strcmp(t->row[i].name, name) != 0) continue;
        *out = &t->row[i];
        return VG_OK;
    }
    VG_TRY(vg_grow(&t->row, &t->capacity, t->n + 1, sizeof *t->row));
    *out = &t->row[t->n++];
    **out = (vg_tally_row){.last_image = -1};
    memcpy((*out)->name, name, strlen(name));
    return VG_OK;
}

/* The sentences of an image lie together, and those of a ref lie together in them. */
static vg_status tally_sentence(vg_tally *t, const char *name, const vg_shard_sentence *s)
{
    vg_tally_row *row = NULL;
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

static void tally_next_shard(vg_tally *t)
{
    for (size_t i = 0; i < t->n; i++) t->row[i].last_image = -1;
}

/* ---- measures ---- */

static vg_status measure(vg_shard_statistics *s, int which, double value)
{
    vg_measured *m = &s->measured[which];
    VG_TRY(vg_grow(&m->values, &m->capacity, m->n + 1, sizeof *m->values));
    m->values[m->n++] = (float)value;
    return VG_OK;
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int by_hash(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

double vg_measured_quantile(const vg_measured *m, double q)
{
    if (m->n == 0) return 0;
    const double rank = ceil(q * (double)m->n);
    return (double)m->values[rank < 1 ? 0 : (size_t)rank - 1];
}

double vg_measured_mean(const vg_measured *m)
{
    double sum = 0;
    for (size_t i = 0; i < m->n; i++) sum += (double)m->values[i];
    return m->n ? sum / (double)m->n : 0;
}

static vg_status measure_image(vg_shard_statistics *s, const vg_shard_image *image, int64_t n_phrases)
{
    VG_TRY(measure(s, VG_MEASURED_PHRASES, (double)n_phrases));
    VG_TRY(measure(s, VG_MEASURED_WIDTH, image->width));
    VG_TRY(measure(s, VG_MEASURED_HEIGHT, image->height));
    return measure(s, VG_MEASURED_BYTES, (double)image->length);
}

static vg_status measure_sentence(vg_shard_statistics *s, const vg_shard_tables *t, const vg_shard_sentence *sentence)
{
    const vg_shard_image *image = &t->images[sentence->image];
    const char *text = t->text + sentence->text_offset;
    VG_TRY(measure(s, VG_MEASURED_WORDS, vg_shard_words(text)));
    VG_TRY(measure(s, VG_MEASURED_BOXES, sentence->n_boxes));
    for (int b = 0; b < sentence->n_boxes; b++) {
        const double area = vg_shard_box_area(t->boxes[sentence->first_box + b], image);
        VG_TRY(measure(s, VG_MEASURED_AREA, area));
    }
    VG_TRY(vg_grow(&s->phrases, &s->phrases_capacity, s->n_phrases + 1, sizeof *s->phrases));
    s->phrases[s->n_phrases++] = XXH3_64bits(text, sentence->text_length);
    return VG_OK;
}

/* Once all is there. */
static void measures_sort(vg_shard_statistics *s)
{
    for (int i = 0; i < VG_N_MEASURED; i++)
        if (s->measured[i].n) qsort(s->measured[i].values, s->measured[i].n, sizeof(float), by_value);
    if (s->n_phrases) qsort(s->phrases, s->n_phrases, sizeof *s->phrases, by_hash);
    for (size_t i = 0; i < s->n_phrases; i++) s->n_distinct_phrases += i == 0 || s->phrases[i] != s->phrases[i - 1];
}

/* ---- shards ---- */

static vg_status summary_add(vg_shard_statistics *s, const vg_shard *shard)
{
    const vg_shard_tables *t = &shard->tables;
    VG_TRY(vg_grow(&s->shards, &s->shards_capacity, s->n_shards + 1, sizeof *s->shards));
    vg_shard_summary *summary = &s->shards[s->n_shards];
    *summary = (vg_shard_summary){.path = vg_copy_string(shard->path),
                                  .origin = shard->origin,
                                  .content = shard->content,
                                  .n_images = t->n_images,
                                  .n_sentences = t->n_sentences};
    VG_CHECK(summary->path, VG_E_NOMEM, "no memory for the name of a shard");
    s->n_shards++;
    for (size_t i = 0; i < t->n_images; i++) {
        summary->image_bytes += t->images[i].length;
        summary->n_absent += t->images[i].length == 0;
    }
    return VG_OK;
}

/* Texts are the data set's: what they could tell a terminal to do is not for it. */
static vg_status first_sentence_add(vg_shard_statistics *s, const vg_shard_tables *t, const vg_shard_sentence *sentence)
{
    const size_t begin = s->first.length;
    VG_TRY(vg_text_add(&s->first, "  image %lld, ref %lld, sentence %lld (%s): \"%s\"",
                       (long long)t->images[sentence->image].image_id, (long long)sentence->ref_id,
                       (long long)sentence->sentence_id, t->splits[sentence->split], t->text + sentence->text_offset));
    for (size_t i = begin; i < s->first.length; i++)
        if (iscntrl((unsigned char)s->first.data[i])) s->first.data[i] = '?';
    for (int b = 0; b < sentence->n_boxes; b++) {
        const float *box = t->boxes[sentence->first_box + b];
        VG_TRY(
            vg_text_add(&s->first, " [%g %g %g %g]", (double)box[0], (double)box[1], (double)box[2], (double)box[3]));
    }
    s->n_first++;
    return vg_text_add(&s->first, "\n");
}

/* The sentences [first, end) of one image, those of another split than `split` (NULL: all) left out. */
static vg_status image_add(vg_shard_statistics *s, const vg_shard_tables *t, size_t first, size_t end,
                           const char *split)
{
    int64_t n = 0;
    for (size_t i = first; i < end; i++) {
        const vg_shard_sentence *sentence = &t->sentences[i];
        if (split && strcmp(t->splits[sentence->split], split) != 0) continue;
        n++;
        VG_TRY(tally_sentence(&s->splits, t->splits[sentence->split], sentence));
        VG_TRY(tally_sentence(&s->kinds, t->kinds[sentence->kind], sentence));
        VG_TRY(measure_sentence(s, t, sentence));
        if (s->n_first < N_FIRST_SENTENCES) VG_TRY(first_sentence_add(s, t, sentence));
    }
    return n ? measure_image(s, &t->images[t->sentences[first].image], n) : VG_OK;
}

static vg_status shard_add(vg_shard_statistics *s, const char *path, const char *split)
{
    vg_shard *shard = NULL;
    VG_TRY(vg_shard_open(path, &shard));
    vg_status st = summary_add(s, shard);
    const vg_shard_tables *t = &shard->tables;
    tally_next_shard(&s->splits);
    tally_next_shard(&s->kinds);
    for (size_t first = 0, end; first < t->n_sentences && st == VG_OK; first = end) {
        for (end = first + 1; end < t->n_sentences && t->sentences[end].image == t->sentences[first].image;) end++;
        st = image_add(s, t, first, end, split);
    }
    vg_shard_close(shard);
    return st;
}

static void statistics_release(vg_shard_statistics *s)
{
    for (size_t i = 0; i < s->n_shards; i++) free(s->shards[i].path);
    for (int i = 0; i < VG_N_MEASURED; i++) free(s->measured[i].values);
    free(s->shards);
    free(s->splits.row);
    free(s->kinds.row);
    free(s->phrases);
    free(s->first.data);
}

vg_status vg_shard_inspect(const char *const *paths, int n_paths, const char *split, bool json, vg_text *out)
{
    vg_shard_paths list = {0};
    vg_shard_statistics s = {0};
    vg_status st = vg_shard_paths_find(paths, n_paths, &list);
    for (size_t i = 0; i < list.n && st == VG_OK; i++) st = shard_add(&s, list.path[i], split);
    if (st == VG_OK && s.n_phrases == 0) st = vg_split_check_name(paths, n_paths, split);
    if (st == VG_OK) {
        measures_sort(&s);
        st = json ? vg_shard_statistics_json(&s, out) : vg_shard_statistics_text(&s, out);
    }
    vg_shard_paths_release(&list);
    statistics_release(&s);
    return st;
}
