/* One stream position becomes one image and its P slots. What a slot holds depends on the position, the seed and the
 * data, never on the worker, the cache or the order in which positions are asked for. */
#include "data/loader_impl.h"

#include "data/sampler.h"

#include <stdlib.h>
#include <string.h>

/* ---- the table of samples ---- */

static int64_t samples_of_image(const vg_split *split, int64_t image, int phrases)
{
    vg_image_info info;
    vg_split_image(split, image, &info);
    return (info.n_sentences + phrases - 1) / phrases;
}

int64_t vg_loader_epoch_size(const vg_split *split, int phrases)
{
    int64_t n = 0;
    for (int64_t k = 0; k < vg_split_image_count(split); k++) n += samples_of_image(split, k, phrases);
    return n;
}

/* The image that owns a sample: the last whose first sample is not behind it. */
static int64_t image_of_sample(const vg_filler *f, int64_t sample)
{
    int64_t low = 0, high = f->n_images;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (f->first_sample[middle] <= sample)
            low = middle;
        else
            high = middle;
    }
    return low;
}

vg_status vg_filler_init(vg_filler *f, const vg_loader_spec *spec)
{
    const size_t n_images = (size_t)vg_split_image_count(spec->split);
    *f = (vg_filler){.spec = *spec, .n_images = (int64_t)n_images, .cache_left_bytes = spec->cache_bytes};
    VG_CHECK(pthread_mutex_init(&f->lock, NULL) == 0, VG_E_NOMEM, "no memory for a lock");
    f->first_sample = vg_new0_array(n_images + 1, sizeof *f->first_sample);
    f->cached = vg_new0_array(n_images, sizeof *f->cached);
    f->bad = vg_new0_array(n_images, sizeof *f->bad);
    VG_CHECK(f->first_sample && f->cached && f->bad, VG_E_NOMEM, "no memory for a loader of %zu images", n_images);
    for (size_t k = 0; k < n_images; k++)
        f->first_sample[k + 1] = f->first_sample[k] + samples_of_image(spec->split, (int64_t)k, spec->shape.phrases);
    f->n_samples = f->first_sample[n_images];
    VG_CHECK(f->n_samples > 0, VG_E_DATA, "split %s holds no phrase", vg_split_name(spec->split));
    return VG_OK;
}

void vg_filler_release(vg_filler *f)
{
    for (int64_t k = 0; f->cached && k < f->n_images; k++) free(f->cached[k]);
    free(f->cached);
    free(f->bad);
    free(f->first_sample);
    pthread_mutex_destroy(&f->lock);
}

void vg_fill_scratch_release(vg_fill_scratch *scratch)
{
    free(scratch->encoded);
    free(scratch->resize.data);
}

/* ---- pixels ---- */

static size_t pixel_bytes(const vg_batch_shape *shape)
{
    return (size_t)shape->side * (size_t)shape->side * 3;
}

static vg_status decode_and_stretch(const vg_filler *f, vg_fill_scratch *scratch, int64_t index, uint8_t *out)
{
    vg_image_info info;
    vg_image image;
    size_t n = 0;
    vg_split_image(f->spec.split, index, &info);
    VG_TRY(vg_split_read_image(f->spec.split, index, &scratch->encoded, &scratch->encoded_capacity, &n));
    VG_TRY(vg_image_decode(scratch->encoded, n, false, &image));
    vg_status st = VG_OK;
    if (image.width != info.width || image.height != info.height) /* its boxes would mean something else */
        st = vg_fail(VG_E_DATA, "the picture is %d x %d pixels and its record says %d x %d", image.width, image.height,
                     info.width, info.height);
    if (st == VG_OK) st = vg_image_resize(&image, f->spec.shape.side, f->spec.shape.side, out, &scratch->resize);
    vg_image_release(&image);
    return st;
}

/* Keeps a copy of the pixels while the cache has room; without memory the cache just stays smaller. */
static void cache_keep(vg_filler *f, int64_t index, const uint8_t *pixels)
{
    const size_t bytes = pixel_bytes(&f->spec.shape);
    pthread_mutex_lock(&f->lock);
    if (!f->cached[index] && f->cache_left_bytes >= bytes && (f->cached[index] = malloc(bytes))) {
        memcpy(f->cached[index], pixels, bytes);
        f->cache_left_bytes -= bytes;
    }
    pthread_mutex_unlock(&f->lock);
}

/* Marks an image as bad; the sentence of this thread's last error says why. */
static vg_status quarantine(vg_filler *f, int64_t index)
{
    const int64_t n_samples = f->first_sample[index + 1] - f->first_sample[index];
    pthread_mutex_lock(&f->lock);
    const bool news = !f->bad[index];
    f->bad[index] = true;
    if (news) f->n_quarantined += n_samples;
    const int64_t total = f->n_quarantined;
    pthread_mutex_unlock(&f->lock);
    if (news) {
        vg_image_info info;
        vg_split_image(f->spec.split, index, &info);
        vg_log_rank("image %lld (%s) of split %s is left out from now on: %s; find all such with `vlgtr shard verify`",
                    (long long)info.image_id, info.file_name, vg_split_name(f->spec.split), vg_error_text());
    }
    VG_CHECK((double)total <= f->spec.max_bad * (double)f->n_samples, VG_E_DATA,
             "%lld of %lld samples of split %s cannot be read, more than the allowed fraction of %g; see the lines "
             "above, mend the shards or raise data.max_bad",
             (long long)total, (long long)f->n_samples, vg_split_name(f->spec.split), f->spec.max_bad);
    return VG_OK;
}

/* The pixels of an image into out; *usable is false for an image in quarantine. */
static vg_status image_pixels(vg_filler *f, vg_fill_scratch *scratch, int64_t index, uint8_t *out, bool *usable)
{
    pthread_mutex_lock(&f->lock);
    const bool bad = f->bad[index];
    const uint8_t *cached = f->cached[index];
    pthread_mutex_unlock(&f->lock);
    *usable = !bad;
    if (bad) return VG_OK;
    if (cached) {
        memcpy(out, cached, pixel_bytes(&f->spec.shape));
        return VG_OK;
    }
    const vg_status st = decode_and_stretch(f, scratch, index, out);
    *usable = st == VG_OK;
    if (st == VG_E_DATA) return quarantine(f, index);
    if (st == VG_OK) cache_keep(f, index, out);
    return st;
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

/* x1 y1 x2 y2 in pixels becomes cx cy w h in 0..1: found in fp64, rounded once. False for a box without an area. */
static bool box_to_target(const float *box, const vg_image_info *info, float *target)
{
    const double w = (double)box[2] - box[0], h = (double)box[3] - box[1];
    if (!(w > 0 && h > 0)) return false;
    target[0] = (float)(((double)box[0] + box[2]) / 2 / info->width);
    target[1] = (float)(((double)box[1] + box[3]) / 2 / info->height);
    target[2] = (float)(w / info->width);
    target[3] = (float)(h / info->height);
    return true;
}

static void slot_fill_targets(vg_filler *f, vg_batch *b, size_t slot, const vg_sentence *s, const vg_image_info *info)
{
    const int most = b->shape.max_targets;
    float *targets = b->targets + slot * (size_t)most * 4;
    int n = 0;
    for (int k = 0; k < s->n_boxes; k++) {
        float target[4];
        if (!box_to_target(s->boxes + 4 * (size_t)k, info, target)) continue;
        if (n == most) {
            warn_of_targets(f, s, info);
            break;
        }
        memcpy(targets + 4 * (size_t)n++, target, sizeof target);
    }
    b->n_targets[slot] = n;
}

static vg_status slot_fill(vg_filler *f, vg_batch *b, size_t slot, int64_t sentence, const vg_image_info *info)
{
    vg_sentence s;
    vg_split_sentence(f->spec.split, sentence, &s);
    int n = 2;
    if (!f->spec.blind)
        VG_TRY(vg_tokenizer_encode(f->spec.tokenizer, s.text, s.text_bytes, b->shape.text_tokens,
                                   b->token_ids + slot * (size_t)b->shape.text_tokens, &n));
    b->token_counts[slot] = n;
    slot_fill_targets(f, b, slot, &s, info);
    b->sentences[slot] = sentence;
    b->filled[slot] = 1;
    return VG_OK;
}

/* The phrases of one sample: run `run` of P in the image's order of this epoch. */
static vg_status slots_fill(vg_filler *f, vg_batch *b, int i, int64_t image, vg_place place)
{
    const int phrases = b->shape.phrases;
    const int64_t first = (place.sample - f->first_sample[image]) * phrases;
    vg_image_info info;
    vg_split_image(f->spec.split, image, &info);
    for (int j = 0; j < phrases && first + j < info.n_sentences; j++) {
        const int64_t k = f->spec.shuffle
                              ? vg_sampler_phrase(f->spec.seed, place.epoch, image, info.n_sentences, first + j)
                              : first + j;
        VG_TRY(slot_fill(f, b, (size_t)i * (size_t)phrases + (size_t)j, info.first_sentence + k, &info));
    }
    return VG_OK;
}

vg_status vg_fill_image(vg_filler *f, vg_fill_scratch *scratch, vg_batch *b, int i, int64_t position)
{
    uint8_t *pixels = b->pixels + (size_t)i * pixel_bytes(&b->shape);
    for (int j = 0; j < b->shape.phrases; j++) slot_clear(f, b, i, j, position);
    bool usable = f->spec.shuffle || position < f->n_samples;
    vg_status st = VG_OK;
    vg_place place = {0, position};
    int64_t image = 0;
    if (usable) {
        if (f->spec.shuffle) place = vg_sampler_place(f->spec.seed, f->n_samples, position);
        image = image_of_sample(f, place.sample);
        st = image_pixels(f, scratch, image, pixels, &usable);
    }
    if (!usable) memset(pixels, 0, pixel_bytes(&b->shape));
    return st == VG_OK && usable ? slots_fill(f, b, i, image, place) : st;
}
