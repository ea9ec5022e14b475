/* What must hold between options. */
#include "trainer/options.h"

#include <string.h>

static vg_status check_tower(const char *tower, int64_t width, int64_t heads)
{
    VG_CHECK(width % heads == 0, VG_E_CONFIG, "%s.heads: %lld heads do not divide %s.width %lld", tower,
             (long long)heads, tower, (long long)width);
    VG_CHECK(width / heads <= 256, VG_E_CONFIG, "%s.heads: a head of %lld channels is too wide; at most 256", tower,
             (long long)(width / heads));
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
    return VG_OK;
}

static vg_status check_until(const vg_options *o)
{
    if (!*o->run_until) return VG_OK;
    for (int i = 0; i < o->n_stages; i++)
        if (strcmp(o->schedule[i].name, o->run_until) == 0) return VG_OK;
    return vg_fail(VG_E_CONFIG, "run.until: the schedule has no stage '%s'", o->run_until);
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
    VG_CHECK(!o->train_zero || strcmp(o->train_reduction, "canonical") == 0, VG_E_CONFIG,
             "train.zero: the fast reduction gives every GPU the whole sum; leave one of the two out");
    VG_CHECK(strcmp(o->features_dtype, "fp32") == 0 || strcmp(o->features_images, "disk") == 0, VG_E_CONFIG,
             "features.dtype: bf16 is a form of stored image features; add features.images: disk");
    VG_TRY(check_until(o));
    for (int i = 0; i < o->n_stages; i++) VG_TRY(check_stage(o, i));
    return VG_OK;
}
