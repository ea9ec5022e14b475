/* One stream position becomes one image and its P slots. What a slot holds depends on the position, the seed and the
 * data, never on the worker, the cache or the order in which positions are asked for. */
#include "data/loader_impl.h"

#include <stdlib.h>
#include <string.h>

void vg_fill_scratch_release(vg_fill_scratch *scratch)
{
    free(scratch->encoded);
    vg_image_release(&scratch->decoded.image);
    free(scratch->resize.data);
    free(scratch->mirrored.data);
    free(scratch->seen);
}

/* ---- slots ---- */

static void slot_clear(const vg_filler *f, vg_batch *b, int i, int j, int64_t position)
{
    const vg_special_ids special = vg_tokenizer_special_ids(f->spec.tokenizer);
    const size_t slot = (size_t)i * (size_t)b->shape.phrases + (size_t)j, tokens = (size_t)b->shape.text_tokens;
    const size_t boxes = (size_t)b->shape.max_targets * 4;
    int32_t *ids = b->token_ids + slot * tokens;
    ids[0] = special.bos;
    ids[1] = special.eos;
    for (size_t k = 2; k < tokens; k++) ids[k] = special.pad;
    memset(b->targets + slot * boxes, 0, boxes * sizeof *b->targets);
    b->token_counts[slot] = 2;
    b->image_index[slot] = i;
    b->n_targets[slot] = 0;
    b->filled[slot] = 0;
    b->swapped[slot] = 0;
    b->sentences[slot] = -1;
    uint32_t *key = b->keys + slot * 4;
    key[0] = 0;
    key[1] = (uint32_t)j;
    key[2] = (uint32_t)position;
    key[3] = (uint32_t)((uint64_t)position >> 32);
}

static void warn_of_targets(vg_filler *f, const vg_sentence *s, const vg_image_info *info)
{
    pthread_mutex_lock(&f->lock);
    const bool news = !f->warned_of_targets;
    f->warned_of_targets = true;
    pthread_mutex_unlock(&f->lock);
    if (news)
        vg_log_rank(
            "sentence %lld of image %lld (%s) means %d boxes and a slot holds %d: the first ones are used, here "
            "and wherever else this happens; raise data.max_targets to use all",
            (long long)s->sentence_id, (long long)info->image_id, info->file_name, s->n_boxes,
            f->spec.shape.max_targets);
}

/* x1 y1 x2 y2 in pixels becomes cx cy w h in 0..1 of the view: found in fp64, rounded once. False for a box without an
 * area. */
static bool box_to_target(const float *box, const vg_view *view, float *target)
{
    double seen[4];
    vg_view_box(view, box, seen);
    const double w = seen[2] - seen[0], h = seen[3] - seen[1];
    if (!(w > 0 && h > 0)) return false;
    target[0] = (float)((seen[0] + seen[2]) / 2 / view->window.width);
    target[1] = (float)((seen[1] + seen[3]) / 2 / view->window.height);
    target[2] = (float)(w / view->window.width);
    target[3] = (float)(h / view->window.height);
    return true;
}

static void slot_fill_targets(vg_filler *f, vg_batch *b, size_t slot, const vg_sentence *s, const vg_sample *what)
{
    const int most = b->shape.max_targets;
    float *targets = b->targets + slot * (size_t)most * 4;
    int n = 0;
    for (int k = 0; k < s->n_boxes; k++) {
        float target[4];
        if (!box_to_target(s->boxes + 4 * (size_t)k, &what->view, target)) continue;
        if (n == most) {
            warn_of_targets(f, s, &what->info);
            break;
        }
        memcpy(targets + 4 * (size_t)n++, target, sizeof target);
    }
    b->n_targets[slot] = n;
}

/* The phrase as its mirrored picture needs it. */
static vg_status slot_fill_text(const vg_filler *f, vg_fill_scratch *scratch, vg_batch *b, size_t slot,
                                const vg_sentence *s, bool mirrored)
{
    int32_t *ids = b->token_ids + slot * (size_t)b->shape.text_tokens;
    const char *text = s->text;
    size_t n = s->text_bytes;
    bool swapped = false;
    if (f->spec.blind) return VG_OK;
    scratch->mirrored.length = 0;
    if (mirrored) VG_TRY(vg_phrase_mirror(s->text, s->text_bytes, &scratch->mirrored, &swapped));
    if (swapped) text = scratch->mirrored.data, n = scratch->mirrored.length;
    b->swapped[slot] = swapped;
    return vg_tokenizer_encode(f->spec.tokenizer, text, n, b->shape.text_tokens, ids, &b->token_counts[slot]);
}

static vg_status slots_fill(vg_filler *f, vg_fill_scratch *scratch, vg_batch *b, int i, const vg_sample *what)
{
    for (int j = 0; j < what->n_phrases; j++) {
        const size_t slot = (size_t)i * (size_t)b->shape.phrases + (size_t)j;
        vg_sentence s;
        vg_split_sentence(f->spec.split, what->sentences[j], &s);
        VG_TRY(slot_fill_text(f, scratch, b, slot, &s, what->view.mirrored));
        slot_fill_targets(f, b, slot, &s, what);
        b->sentences[slot] = what->sentences[j];
        b->filled[slot] = 1;
    }
    return VG_OK;
}

/* ---- the whole ---- */

/* The sample so many places behind a position, and its pixels; *usable is false where there is none, or a bad one. */
static vg_status sample_fill(vg_filler *f, vg_fill_scratch *scratch, vg_batch *b, int i, int64_t position,
                             int64_t behind, vg_sample *s, bool *usable)
{
    VG_TRY(vg_sample_find(f, scratch, position, behind, s, usable));
    if (!*usable) return VG_OK;
    b->images[i] = s->image;
    return vg_fill_picture(f, scratch, s, b, i, usable);
}

/* Positions that are tried behind a bad sample in training. With a hundredth of them bad, none of 16 is good once in
 * 10^32 samples; where all of a small set are bad, the slots stay empty. */
enum { TRIES = 16 };

vg_status vg_fill_image(vg_filler *f, vg_fill_scratch *scratch, vg_batch *b, int i, int64_t position)
{
    const int tries = f->spec.shuffle ? TRIES : 1;
    bool usable = false;
    vg_status st = VG_OK;
    vg_sample s;
    for (int j = 0; j < b->shape.phrases; j++) slot_clear(f, b, i, j, position);
    b->replaced[i] = 0;
    for (int64_t k = 0; k < tries && st == VG_OK && !usable; k++) {
        st = sample_fill(f, scratch, b, i, position, k, &s, &usable);
        if (k == 0) b->replaced[i] = !usable && (f->spec.shuffle || position < f->n_samples);
    }
    if (!usable) vg_clear_picture(b, i);
    return st == VG_OK && usable ? slots_fill(f, scratch, b, i, &s) : st;
}
