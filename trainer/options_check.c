/* What must hold between options. */
#include "trainer/options_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool vg_options_bf16(const vg_options *o)
{
    return strcmp(o->train_precision, "bf16") == 0;
}

static vg_status check_tower(const char *tower, int64_t width, int64_t heads)
{
    VG_CHECK(width % heads == 0, VG_E_CONFIG, "%s.heads: %lld heads do not divide %s.width %lld", tower,
             (long long)heads, tower, (long long)width);
    VG_CHECK(width / heads <= 256, VG_E_CONFIG, "%s.heads: a head of %lld channels is too wide; at most 256", tower,
             (long long)(width / heads));
    return VG_OK;
}

const char *const *vg_options_train_paths(const vg_options *o, const char *room[VG_MAX_DATA_SETS], int *n)
{
    *n = o->data_sets.n ? o->data_sets.n : o->data_shards.n;
    if (!o->data_sets.n) return (const char *const *)o->data_shards.items;
    for (int k = 0; k < o->data_sets.n; k++) room[k] = strchr(o->data_sets.items[k], '=') + 1;
    return room;
}

int vg_options_set_of(const vg_options *o, const char *name, size_t n)
{
    for (int k = 0; k < o->data_sets.n; k++)
        if (strcspn(o->data_sets.items[k], "=") == n && strncmp(o->data_sets.items[k], name, n) == 0) return k;
    return -1;
}

static vg_status check_sets(const vg_options *o)
{
    VG_CHECK(o->data_sets.n <= VG_MAX_DATA_SETS, VG_E_CONFIG, "data.sets: %d sets, at most %d can be mixed",
             o->data_sets.n, VG_MAX_DATA_SETS);
    for (int k = 0; k < o->data_sets.n; k++) {
        const size_t n = strcspn(o->data_sets.items[k], "=");
        VG_CHECK(vg_options_set_of(o, o->data_sets.items[k], n) == k, VG_E_CONFIG, "data.sets: '%.*s' is named twice",
                 (int)n, o->data_sets.items[k]);
    }
    return VG_OK;
}

static vg_status check_mix(const vg_options *o, int i)
{
    const vg_option_list *mix = &o->schedule[i].mix;
    double total = 0;
    for (int k = 0; k < mix->n; k++) {
        const char *name = mix->items[k], *equals = strrchr(name, '=');
        const double weight = strtod(equals + 1, NULL);
        VG_CHECK(vg_options_set_of(o, name, (size_t)(equals - name)) >= 0, VG_E_CONFIG,
                 "schedule.%d.mix: there is no set '%.*s' in data.sets", i, (int)(equals - name), name);
        VG_CHECK(weight == floor(weight), VG_E_CONFIG, "schedule.%d.mix: weight %s is not a whole number", i,
                 equals + 1);
        total += weight;
    }
    VG_CHECK(!mix->n || total > 0, VG_E_CONFIG, "schedule.%d.mix: every weight is 0", i);
    return VG_OK;
}

int vg_options_sides(const vg_options *o, const vg_stage *stage, int sides[VG_MAX_SIDES])
{
    sides[0] = (int)o->data_side;
    for (int k = 0; k < stage->sides.n; k++) sides[k] = (int)strtol(stage->sides.items[k], NULL, 10);
    return stage->sides.n ? stage->sides.n : 1;
}

int vg_options_largest_side(const vg_options *o)
{
    int largest = 0, sides[VG_MAX_SIDES];
    for (int i = 0; i < o->n_stages; i++)
        for (int k = vg_options_sides(o, &o->schedule[i], sides) - 1; k >= 0; k--)
            if (largest < sides[k]) largest = sides[k];
    return largest;
}

static vg_status check_sides(const vg_options *o, int i)
{
    const vg_option_list *sides = &o->schedule[i].sides;
    VG_CHECK(sides->n <= VG_MAX_SIDES, VG_E_CONFIG, "schedule.%d.sides: %d sides, at most %d", i, sides->n,
             VG_MAX_SIDES);
    for (int k = 0; k < sides->n; k++) {
        char *end = NULL;
        const long side = strtol(sides->items[k], &end, 10);
        VG_CHECK(end != sides->items[k] && !*end && side >= 8 && side <= 4096, VG_E_CONFIG,
                 "schedule.%d.sides: '%s' is not a side of 8 to 4096 pixels", i, sides->items[k]);
        VG_CHECK(side % o->vision_patch == 0, VG_E_CONFIG,
                 "schedule.%d.sides: %ld pixels are not a multiple of vision.patch %lld", i, side,
                 (long long)o->vision_patch);
        for (int j = 0; j < k; j++)
            VG_CHECK(strtol(sides->items[j], NULL, 10) != side, VG_E_CONFIG, "schedule.%d.sides: %ld is there twice", i,
                     side);
    }
    return VG_OK;
}

static vg_status check_stage(const vg_options *o, int i)
{
    const vg_stage *s = &o->schedule[i];
    VG_CHECK(s->unfreeze_blocks <= o->vision_depth, VG_E_CONFIG,
             "schedule.%d.unfreeze_blocks: %lld, but the vision tower has %lld blocks", i,
             (long long)s->unfreeze_blocks, (long long)o->vision_depth);
    VG_CHECK(s->warmup <= s->steps, VG_E_CONFIG, "schedule.%d.warmup: %lld steps, but the stage has %lld", i,
             (long long)s->warmup, (long long)s->steps);
    VG_TRY(check_sides(o, i));
    return check_mix(o, i);
}

static vg_status check_until(const vg_options *o)
{
    if (!*o->run_until) return VG_OK;
    for (int i = 0; i < o->n_stages; i++)
        if (strcmp(o->schedule[i].name, o->run_until) == 0) return VG_OK;
    return vg_fail_at(vg_options_no_stage(o, o->run_until, strlen(o->run_until)), "run.until");
}

vg_status vg_options_check(const vg_options *o)
{
    VG_TRY(check_tower("vision", o->vision_width, o->vision_heads));
    VG_TRY(check_tower("text", o->text_width, o->text_heads));
    VG_TRY(check_tower("fusion", o->fusion_width, o->fusion_heads));
    VG_CHECK(o->fusion_width % 4 == 0, VG_E_CONFIG,
             "fusion.width: %lld is not a multiple of 4, as the 2-D positions need", (long long)o->fusion_width);
    VG_CHECK(o->data_side % o->vision_patch == 0, VG_E_CONFIG,
             "data.side: %lld pixels are not a multiple of vision.patch %lld", (long long)o->data_side,
             (long long)o->vision_patch);
    const int64_t longest = (o->text_max_tokens + 7) / 8 * 8;
    VG_CHECK(longest + 2 <= o->text_positions, VG_E_CONFIG,
             "text.max_tokens: %lld tokens need %lld positions, text.positions is %lld", (long long)o->text_max_tokens,
             (long long)longest + 2, (long long)o->text_positions);
    VG_CHECK(o->train_global_batch % o->train_micro_batch == 0, VG_E_CONFIG,
             "train.global_batch: %lld is not a multiple of train.micro_batch %lld", (long long)o->train_global_batch,
             (long long)o->train_micro_batch);
    VG_CHECK(!o->train_zero || strcmp(o->train_reduction, "canonical") == 0, VG_E_CONFIG,
             "train.zero: the fast reduction gives every rank the whole sum; leave one of the two out");
    VG_CHECK(strcmp(o->features_dtype, "fp32") == 0 || strcmp(o->features_images, "disk") == 0, VG_E_CONFIG,
             "features.dtype: bf16 is a form of stored image features; add features.images: disk");
    VG_CHECK(*o->run_folder, VG_E_CONFIG, "run.folder: a run needs a folder with a name");
    VG_TRY(check_until(o));
    VG_TRY(check_sets(o));
    for (int i = 0; i < o->n_stages; i++) VG_TRY(check_stage(o, i));
    return VG_OK;
}
