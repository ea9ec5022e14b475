/* Taking rows out of the tables of a shard that is being opened. Nothing in them was checked yet: a row is judged by
 * its stored record alone, and a sentence that names no image stays, for the check to find. */
#include "data/shard_impl.h"

#include <stdlib.h>

static bool has_image(const vg_shard_tables *t, const vg_shard_sentence *s)
{
    return s->image >= 0 && (uint64_t)s->image < t->n_images;
}

/* place[i]: whether image i stays. An image stays that is not listed and keeps a sentence, or had none. */
static void images_judge(const vg_shard_tables *t, const vg_record_list *without, int64_t *place, size_t *n_out)
{
    enum { GONE = 0, DOUBTFUL = 1, STAYS = 2 }; /* doubtful: some of its sentences go */
    for (size_t i = 0; i < t->n_images; i++) {
        const bool listed = vg_record_list_has(without, t->images[i].record);
        place[i] = listed ? GONE : STAYS;
        *n_out += listed;
    }
    for (size_t i = 0; i < t->n_sentences; i++) {
        const vg_shard_sentence *s = &t->sentences[i];
        if (!has_image(t, s) || !vg_record_list_has(without, s->record)) continue;
        *n_out += 1;
        if (place[s->image] == STAYS) place[s->image] = DOUBTFUL;
    }
    for (size_t i = 0; i < t->n_sentences; i++) {
        const vg_shard_sentence *s = &t->sentences[i];
        if (has_image(t, s) && place[s->image] == DOUBTFUL && !vg_record_list_has(without, s->record))
            place[s->image] = STAYS;
    }
    for (size_t i = 0; i < t->n_images; i++) place[i] = place[i] == STAYS;
}

/* Images move up; place[i] becomes the new row of image i, -1 where it is gone. */
static void images_close_up(vg_shard_tables *t, int64_t *place)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_images; i++) {
        const bool stays = place[i];
        place[i] = stays ? (int64_t)n : -1;
        if (stays) t->images[n++] = t->images[i];
    }
    t->n_images = n;
}

static void sentences_close_up(vg_shard_tables *t, size_t n_images_before, const vg_record_list *without,
                               const int64_t *place)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_sentences; i++) {
        vg_shard_sentence s = t->sentences[i];
        if (vg_record_list_has(without, s.record)) continue;
        if (s.image >= 0 && (uint64_t)s.image < n_images_before) {
            if (place[s.image] < 0) continue;
            s.image = place[s.image];
        }
        t->sentences[n++] = s;
    }
    t->n_sentences = n;
}

vg_status vg_shard_leave_out(vg_shard_tables *t, const vg_record_list *without, size_t *n_out)
{
    const size_t n_images = t->n_images;
    *n_out = 0;
    if (!without || without->n == 0) return VG_OK;
    int64_t *place = vg_new0_array(n_images, sizeof *place);
    VG_CHECK(place, VG_E_NOMEM, "no memory to leave out some of %zu images", n_images);
    images_judge(t, without, place, n_out);
    images_close_up(t, place);
    sentences_close_up(t, n_images, without, place);
    free(place);
    return VG_OK;
}
