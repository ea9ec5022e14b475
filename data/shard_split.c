/* A split: the images and sentences of several shards that carry one split name, numbered through. */
#include "data/shard_impl.h"
#include "data/split_leaks_impl.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

typedef struct split_image {
    int32_t shard;
    int64_t row, first_sentence, n_sentences;
} split_image;

typedef struct split_sentence {
    int64_t row, image;
} split_sentence;

struct vg_split {
    char *name;
    vg_shard **shards;
    size_t n_shards, shards_capacity;
    split_image *images;
    size_t n_images, images_capacity;
    split_sentence *sentences;
    size_t n_sentences, sentences_capacity;
    size_t *first_shard;  /* of each path that was named, and the end */
    int64_t *first_image; /* likewise */
    vg_leaks leaks;
    int64_t n_listed; /* records to leave out */
    uint64_t hash;
};

/* ---- the view ---- */

static int32_t split_row(const vg_shard_tables *t, const char *name)
{
    for (size_t i = 0; i < t->n_splits; i++)
        if (strcmp(t->splits[i], name) == 0) return (int32_t)i;
    return -1;
}

static vg_status sentence_add(vg_split *split, size_t shard, const vg_shard_sentence *s, size_t row)
{
    const split_image *last = split->n_images ? &split->images[split->n_images - 1] : NULL;
    if (!last || (size_t)last->shard != shard || last->row != s->image) {
        VG_TRY(vg_grow(&split->images, &split->images_capacity, split->n_images + 1, sizeof *split->images));
        split->images[split->n_images++] =
            (split_image){.shard = (int32_t)shard, .row = s->image, .first_sentence = (int64_t)split->n_sentences};
    }
    VG_TRY(vg_grow(&split->sentences, &split->sentences_capacity, split->n_sentences + 1, sizeof *split->sentences));
    split->sentences[split->n_sentences++] =
        (split_sentence){.row = (int64_t)row, .image = (int64_t)split->n_images - 1};
    split->images[split->n_images - 1].n_sentences++;
    return VG_OK;
}

/* The images of a shard that have a sentence in the split and, where leaked ones go, stand in no other set's
 * evaluation. */
static vg_status view_add(vg_split *split, size_t index, vg_leaked leaked)
{
    const vg_shard *shard = split->shards[index];
    const vg_shard_tables *t = &shard->tables;
    const int32_t wanted = split_row(t, split->name);
    size_t set = 0;
    int64_t last = -1;
    bool leaks = false;
    if (leaked != VG_LEAKED_NOT_SOUGHT) VG_TRY(vg_leaks_set(&split->leaks, shard, &set));
    for (size_t i = 0; wanted >= 0 && i < t->n_sentences; i++) {
        const vg_shard_sentence *s = &t->sentences[i];
        if (s->split != wanted) continue;
        if (s->image != last && leaked != VG_LEAKED_NOT_SOUGHT)
            VG_TRY(vg_leaks_find(&split->leaks, shard, set, (size_t)s->image, &leaks));
        last = s->image;
        if (!leaks || leaked == VG_LEAKED_KEPT) VG_TRY(sentence_add(split, index, s, i));
    }
    return VG_OK;
}

static uint64_t split_hash(const vg_split *split)
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    for (size_t i = 0; i < split->n_images; i++) {
        const split_image *image = &split->images[i];
        const vg_shard_tables *t = &split->shards[image->shard]->tables;
        XXH3_64bits_update(&state, &t->images[image->row].record, sizeof(uint64_t));
        for (int64_t s = 0; s < image->n_sentences; s++) {
            const int64_t row = split->sentences[image->first_sentence + s].row;
            XXH3_64bits_update(&state, &t->sentences[row].record, sizeof(uint64_t));
        }
    }
    return XXH3_64bits_digest(&state);
}

/* What helps where a split is not there: its name as it is written, or how one is made of train. */
static vg_status way_out_add(const vg_split *split, const char *near, bool has_train, vg_text *out)
{
    if (near) return vg_text_add(out, "; did you mean '%s'?", near);
    if (!has_train) return VG_OK;
    return vg_text_add(
        out,
        "; an import with --shares %s=0.1 makes one of train, or `vlgtr shard split OUT SHARD... --to %s "
        "--share 0.1`",
        split->name, split->name);
}

/* The sentence for a split that no shard has: what there is instead. */
static vg_status fail_unknown_split(const vg_split *split)
{
    vg_text known = {0};
    vg_status st = VG_OK;
    const char *near = NULL;
    bool has_train = false;
    for (size_t i = 0; i < split->n_shards && st == VG_OK; i++) {
        const vg_shard_tables *t = &split->shards[i]->tables;
        for (size_t j = 0; j < t->n_splits && st == VG_OK; j++) {
            const char *name = t->splits[j];
            bool seen = false;
            for (size_t k = 0; k < i && !seen; k++) seen = split_row(&split->shards[k]->tables, name) >= 0;
            if (!seen) st = vg_text_add(&known, "%s%s", known.length ? ", " : "", name);
            if (!near) near = vg_nearest_word(split->name, &name, 1);
            has_train = has_train || strcmp(name, "train") == 0;
        }
    }
    if (st == VG_OK && !known.length) st = vg_text_add(&known, "none");
    if (st == VG_OK) st = way_out_add(split, near, has_train, &known);
    if (st == VG_OK)
        st = vg_fail(VG_E_DATA, "%s%s: no split '%s'; there are %s", split->shards[0]->path,
                     split->n_shards > 1 ? " and the other shards" : "", split->name, known.data);
    free(known.data);
    return st;
}

/* Whether a shard has the split by name, of which nothing stayed. */
static bool is_left_out(const vg_split *split)
{
    bool named = false;
    for (size_t i = 0; i < split->n_shards; i++) named |= split_row(&split->shards[i]->tables, split->name) >= 0;
    return named && vg_split_left_out(split) > 0;
}

static vg_status shard_add(vg_split *split, const char *path, const vg_record_list *without)
{
    VG_TRY(vg_grow(&split->shards, &split->shards_capacity, split->n_shards + 1, sizeof *split->shards));
    vg_shard *shard = NULL;
    VG_TRY(vg_shard_open_as(path, &(vg_shard_opening){.without = without}, &shard));
    split->shards[split->n_shards++] = shard;
    return VG_OK;
}

static vg_status path_add(vg_split *split, const char *path, const vg_record_list *without)
{
    vg_shard_paths list = {0};
    vg_status st = vg_shard_paths_find(&path, 1, &list);
    for (size_t i = 0; i < list.n && st == VG_OK; i++) st = shard_add(split, list.path[i], without);
    vg_shard_paths_release(&list);
    return st;
}

/* That no shard is there twice; path by path that would not show. */
static vg_status check_paths(const char *const *paths, int n_paths)
{
    vg_shard_paths all = {0};
    const vg_status st = vg_shard_paths_find(paths, n_paths, &all);
    vg_shard_paths_release(&all);
    return st;
}

/* ---- opening ---- */

static vg_status shards_open(vg_split *split, const char *const *paths, int n_paths, const vg_record_list *without)
{
    VG_TRY(check_paths(paths, n_paths));
    split->first_shard = vg_new0_array((size_t)n_paths + 1, sizeof *split->first_shard);
    split->first_image = vg_new0_array((size_t)n_paths + 1, sizeof *split->first_image);
    VG_CHECK(split->first_shard && split->first_image, VG_E_NOMEM, "no memory for split '%s'", split->name);
    for (int i = 0; i < n_paths; i++) {
        VG_TRY(path_add(split, paths[i], without));
        split->first_shard[i + 1] = split->n_shards;
    }
    return VG_OK;
}

/* Learns what other sets evaluate on. */
static vg_status leaks_gather(vg_split *split, const vg_split_opening *opening, const vg_record_list *without)
{
    vg_shard_paths others = {0};
    if (opening->leaked == VG_LEAKED_NOT_SOUGHT) return VG_OK;
    vg_status st = opening->n_against ? vg_shard_paths_find(opening->against, opening->n_against, &others) : VG_OK;
    split->leaks.train = split->name;
    if (st == VG_OK) st = vg_leaks_gather(&split->leaks, split->shards, split->n_shards, &others, without);
    vg_shard_paths_release(&others);
    return st;
}

static vg_status split_fill(vg_split *split, int n_paths, vg_leaked leaked)
{
    for (int i = 0; i < n_paths; i++) {
        for (size_t k = split->first_shard[i]; k < split->first_shard[i + 1]; k++) VG_TRY(view_add(split, k, leaked));
        split->first_image[i + 1] = (int64_t)split->n_images;
    }
    VG_CHECK(split->n_sentences > 0 || split->leaks.n_found == 0, VG_E_DATA,
             "%s: every image of split '%s' stands in an evaluation split of another set", split->shards[0]->path,
             split->name);
    VG_CHECK(split->n_sentences > 0 || !is_left_out(split), VG_E_DATA,
             "%s: the list of records to leave out leaves no phrase of split '%s'", split->shards[0]->path,
             split->name);
    if (split->n_sentences == 0) return fail_unknown_split(split);
    split->hash = split_hash(split);
    return vg_leaks_name(&split->leaks);
}

static vg_status without_read(const vg_split_opening *opening, vg_record_list *out)
{
    if (!opening->without || !*opening->without) return VG_OK;
    const vg_status st = vg_record_list_read(opening->without, out);
    return st == VG_OK ? VG_OK : vg_fail_at(st, "the list of records to leave out");
}

static vg_status without_check(vg_split *split, const vg_split_opening *opening, const vg_record_list *without)
{
    split->n_listed = (int64_t)without->n;
    const vg_status st = vg_record_list_check_met(without, vg_split_left_out(split));
    return st == VG_OK ? VG_OK : vg_fail_at(st, "%s", opening->without);
}

vg_status vg_split_open_as(const char *const *paths, int n_paths, const char *name, const vg_split_opening *opening,
                           vg_split **out)
{
    vg_record_list without = {0};
    vg_split *split = vg_new0(sizeof *split);
    if (split) split->name = vg_copy_string(name);
    vg_status st = split && split->name ? VG_OK : vg_fail(VG_E_NOMEM, "no memory for split '%s'", name);
    if (st == VG_OK) st = without_read(opening, &without);
    if (st == VG_OK) st = shards_open(split, paths, n_paths, &without);
    if (st == VG_OK) st = without_check(split, opening, &without);
    if (st == VG_OK) st = leaks_gather(split, opening, &without);
    if (st == VG_OK) st = split_fill(split, n_paths, opening->leaked);
    vg_record_list_release(&without);
    if (st != VG_OK)
        vg_split_close(split);
    else
        *out = split;
    return st;
}

vg_status vg_split_open(const char *const *paths, int n_paths, const char *name, vg_split **out)
{
    return vg_split_open_as(paths, n_paths, name, &(vg_split_opening){0}, out);
}

vg_status vg_split_check_name(const char *const *paths, int n_paths, const char *name)
{
    vg_split *split = NULL;
    const vg_status st = vg_split_open(paths, n_paths, name, &split);
    vg_split_close(split);
    return st;
}

void vg_split_close(vg_split *split)
{
    if (!split) return;
    for (size_t i = 0; i < split->n_shards; i++) vg_shard_close(split->shards[i]);
    free(split->shards);
    free(split->images);
    free(split->first_shard);
    free(split->first_image);
    vg_leaks_release(&split->leaks);
    free(split->sentences);
    free(split->name);
    free(split);
}

/* ---- reading ---- */

int64_t vg_split_left_out(const vg_split *split)
{
    int64_t n = 0;
    for (size_t i = 0; i < split->n_shards; i++) n += (int64_t)split->shards[i]->n_left_out;
    return n;
}

int64_t vg_split_listed(const vg_split *split)
{
    return split->n_listed;
}

int vg_split_leak_count(const vg_split *split)
{
    return (int)split->leaks.n_pairs;
}

void vg_split_leak_of(const vg_split *split, int i, vg_split_leak *out)
{
    const vg_leaks *l = &split->leaks;
    const vg_leak_pair *pair = &l->pairs[i];
    *out =
        (vg_split_leak){l->sets[pair->set].name.data, l->sets[pair->other].name.data, pair->names.data, pair->n_images};
}

int64_t vg_split_leaked(const vg_split *split)
{
    return split->leaks.n_found;
}

int64_t vg_split_image_count(const vg_split *split)
{
    return (int64_t)split->n_images;
}

int64_t vg_split_first_image(const vg_split *split, int path)
{
    return split->first_image[path];
}

int64_t vg_split_sentence_count(const vg_split *split)
{
    return (int64_t)split->n_sentences;
}

const char *vg_split_name(const vg_split *split)
{
    return split->name;
}

uint64_t vg_split_hash(const vg_split *split)
{
    return split->hash;
}

void vg_split_sentence(const vg_split *split, int64_t index, vg_sentence *out)
{
    const split_sentence *place = &split->sentences[index];
    const vg_shard_tables *t = &split->shards[split->images[place->image].shard]->tables;
    const vg_shard_sentence *s = &t->sentences[place->row];
    *out = (vg_sentence){.sentence_id = s->sentence_id,
                         .ref_id = s->ref_id,
                         .image = place->image,
                         .text = t->text + s->text_offset,
                         .text_bytes = s->text_length,
                         .boxes = (const float *)(t->boxes + s->first_box),
                         .n_boxes = s->n_boxes,
                         .kind = t->kinds[s->kind]};
}

void vg_split_image(const vg_split *split, int64_t index, vg_image_info *out)
{
    const split_image *place = &split->images[index];
    const vg_shard_tables *t = &split->shards[place->shard]->tables;
    const vg_shard_image *image = &t->images[place->row];
    *out = (vg_image_info){.image_id = image->image_id,
                           .width = image->width,
                           .height = image->height,
                           .first_sentence = place->first_sentence,
                           .n_sentences = place->n_sentences,
                           .file_name = t->text + image->name_offset};
}

vg_status vg_split_check_images(const vg_split *split)
{
    int64_t n_absent = 0;
    const split_image *first = NULL;
    for (size_t i = 0; i < split->n_images; i++) {
        const split_image *place = &split->images[i];
        if (split->shards[place->shard]->tables.images[place->row].length > 0) continue;
        if (n_absent++ == 0) first = place;
    }
    if (!first) return VG_OK;
    const vg_shard *shard = split->shards[first->shard];
    return vg_fail(
        VG_E_DATA, "%s: image %lld and %lld more of split '%s' are absent; import the set again with its images",
        shard->path, (long long)shard->tables.images[first->row].image_id, (long long)n_absent - 1, split->name);
}

vg_status vg_split_read_image(const vg_split *split, int64_t image, unsigned char **bytes, size_t *capacity, size_t *n)
{
    const split_image *place = &split->images[image];
    return vg_shard_read_image(split->shards[place->shard], (size_t)place->row, bytes, capacity, n);
}
