/* Where a position of the stream leads: its stage, the set and the epoch, the sample, and how its picture is seen. */
#include "data/loader_impl.h"

#include "data/sampler.h"

#include <stdlib.h>

/* ---- the table of samples ---- */

static int64_t samples_of_image(const vg_split *split, int64_t image, int phrases)
{
    vg_image_info info;
    vg_split_image(split, image, &info);
    return (info.n_sentences + phrases - 1) / phrases;
}

/* Rows that an image has in a store of features. */
static int64_t rows_of(const vg_loader_stage *stage)
{
    return stage && stage->views > 1 ? stage->views : 1;
}

static int64_t samples_wanted(const vg_loader_spec *spec, int64_t image)
{
    return spec->images_only ? rows_of(spec->stages) : samples_of_image(spec->split, image, spec->shape.phrases);
}

int64_t vg_loader_epoch_size(const vg_split *split, int phrases)
{
    int64_t n = 0;
    for (int64_t k = 0; k < vg_split_image_count(split); k++) n += samples_of_image(split, k, phrases);
    return n;
}

/* The image that owns a sample: the last whose first sample is not behind it. */
static int64_t image_of_sample(const vg_filler *f, int64_t number)
{
    int64_t low = 0, high = f->n_images;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (f->first_sample[middle] <= number)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static vg_status sides_check(const vg_loader_spec *spec)
{
    for (int i = 0; i < spec->n_stages; i++) {
        const vg_loader_stage *stage = &spec->stages[i];
        VG_CHECK(stage->n_sides >= 0 && stage->n_sides <= VG_LOADER_SIDES &&
                     (stage->n_sides < 2 || stage->step_images > 0),
                 VG_E_BUG, "stage %d of the loader has %d sides for every %lld images", i, stage->n_sides,
                 (long long)stage->step_images);
        for (int k = 0; k < stage->n_sides; k++)
            VG_CHECK(stage->sides[k] > 0 && stage->sides[k] <= spec->shape.side, VG_E_BUG,
                     "stage %d of the loader has a side of %d pixels, batches have %d", i, stage->sides[k],
                     spec->shape.side);
    }
    return VG_OK;
}

/* A set that some stage draws from must have samples. */
static vg_status sets_check(const vg_filler *f)
{
    const vg_loader_spec *spec = &f->spec;
    for (int k = 0; k < spec->n_sets; k++) {
        const vg_loader_set *set = &spec->sets[k];
        VG_CHECK(set->first_image >= 0 && set->n_images >= 0 && set->first_image + set->n_images <= f->n_images,
                 VG_E_BUG, "set %d of the loader lies outside the split", k);
        const bool empty = f->first_sample[set->first_image + set->n_images] == f->first_sample[set->first_image];
        for (int i = 0; i < spec->n_stages; i++)
            VG_CHECK(!empty || spec->stages[i].weights[k] == 0, VG_E_DATA,
                     "schedule.%d.mix draws from set %s, which holds no phrase in split %s", i, set->name,
                     vg_split_name(spec->split));
    }
    return VG_OK;
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
        f->first_sample[k + 1] = f->first_sample[k] + samples_wanted(spec, (int64_t)k);
    f->n_samples = f->first_sample[n_images];
    VG_CHECK(f->n_samples > 0, VG_E_DATA, "split %s holds no phrase", vg_split_name(spec->split));
    VG_TRY(sides_check(spec));
    return sets_check(f);
}

void vg_filler_release(vg_filler *f)
{
    for (int64_t k = 0; f->cached && k < f->n_images; k++) free(f->cached[k]);
    free(f->cached);
    free(f->bad);
    free(f->first_sample);
    pthread_mutex_destroy(&f->lock);
}

/* ---- where a position leads ---- */

/* The stage that a position belongs to; NULL where the loader has none. */
static const vg_loader_stage *stage_at(const vg_filler *f, int64_t position)
{
    const vg_loader_stage *stage = NULL;
    for (int k = 0; k < f->spec.n_stages && f->spec.stages[k].first_position <= position; k++)
        stage = &f->spec.stages[k];
    return stage;
}

int vg_filler_side(const vg_filler *f, int64_t first_position)
{
    const vg_loader_stage *stage = stage_at(f, first_position);
    if (!stage || stage->n_sides == 0) return f->spec.shape.side;
    if (stage->n_sides == 1) return stage->sides[0];
    uint32_t word[4];
    const uint64_t step = (uint64_t)(first_position / stage->step_images);
    vg_rng_block(vg_rng_key_of(f->spec.seed, vg_rng_purpose("stream.side")), step, 0, 0, word);
    return stage->sides[(uint64_t)word[0] * (uint64_t)stage->n_sides >> 32];
}

static bool is_mixed(const vg_filler *f, const vg_loader_stage *stage)
{
    for (int k = 0; stage && k < f->spec.n_sets; k++)
        if (stage->weights[k] > 0) return true;
    return false;
}

/* Epoch and sample of a position, as the stage draws them. */
static vg_place place_at(const vg_filler *f, const vg_loader_stage *stage, int64_t position)
{
    if (!f->spec.shuffle) return (vg_place){0, position};
    if (!is_mixed(f, stage)) return vg_sampler_place(f->spec.seed, f->n_samples, position);
    const vg_mixed m = vg_sampler_mix(f->spec.seed, stage->weights, f->spec.n_sets, position);
    const vg_loader_set *set = &f->spec.sets[m.set];
    const int64_t first = f->first_sample[set->first_image], end = f->first_sample[set->first_image + set->n_images];
    vg_place place = vg_sampler_place_in_set(f->spec.seed, m.set, end - first, m.position);
    place.sample += first;
    return place;
}

/* The phrases of the sample at this place: its run of P in the image's order of this epoch. */
static void find_phrases(const vg_filler *f, vg_place place, vg_sample *s)
{
    const int phrases = f->spec.shape.phrases;
    s->image = image_of_sample(f, place.sample);
    s->n_phrases = 0;
    vg_split_image(f->spec.split, s->image, &s->info);
    if (f->spec.images_only) return;
    const int64_t first = (place.sample - f->first_sample[s->image]) * phrases, left = s->info.n_sentences - first;
    s->n_phrases = left < phrases ? (int)left : phrases;
    for (int j = 0; j < s->n_phrases; j++)
        s->sentences[j] =
            s->info.first_sentence +
            (f->spec.shuffle ? vg_sampler_phrase(f->spec.seed, place.epoch, s->image, s->info.n_sentences, first + j)
                             : first + j);
}

/* Phrases of the image, or of the sample alone, with the boxes they mean. */
static vg_status see(const vg_filler *f, vg_fill_scratch *scratch, const vg_sample *s, bool all, vg_seen_picture *out)
{
    const int n = all ? s->info.n_sentences : s->n_phrases;
    VG_TRY(vg_grow(&scratch->seen, &scratch->seen_capacity, (size_t)n, sizeof *scratch->seen));
    for (int j = 0; j < n; j++) {
        vg_sentence sentence;
        vg_split_sentence(f->spec.split, all ? s->info.first_sentence + j : s->sentences[j], &sentence);
        scratch->seen[j] = (vg_seen_phrase){sentence.text, sentence.text_bytes, sentence.boxes, sentence.n_boxes};
    }
    *out = (vg_seen_picture){s->info.width, s->info.height, scratch->seen, n};
    return VG_OK;
}

/* Of a stage with fixed views the image and the number of the view stand where else the position stands. */
static vg_status find_view(const vg_filler *f, vg_fill_scratch *scratch, const vg_loader_stage *stage, int64_t position,
                           vg_place place, vg_sample *s)
{
    const int64_t rows = rows_of(stage);
    const int64_t number = f->spec.images_only ? place.sample - f->first_sample[s->image] : place.epoch % rows;
    vg_seen_picture picture;
    s->view = vg_view_plain(s->info.width, s->info.height);
    s->row = s->image * rows + number;
    if (!stage) return VG_OK;
    VG_TRY(see(f, scratch, s, stage->views > 0, &picture));
    s->view = vg_view_draw(&stage->augment, f->spec.seed, (uint64_t)(stage->views > 0 ? s->row : position), &picture);
    return VG_OK;
}

vg_status vg_sample_find(const vg_filler *f, vg_fill_scratch *scratch, int64_t position, int64_t behind, vg_sample *s,
                         bool *found)
{
    const vg_loader_stage *stage = stage_at(f, position);
    position += behind;
    *found = f->spec.shuffle || position < f->n_samples;
    if (!*found) return VG_OK;
    const vg_place place = place_at(f, stage, position);
    find_phrases(f, place, s);
    return find_view(f, scratch, stage, position, place, s);
}
