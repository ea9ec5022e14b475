/* Pretrained towers: timm and Hugging Face tensor files into the parameters, every tensor by name, shape and type.
 * Source: vl-gtr-model 1.3, 1.4 and 2.3. */
#include "trainer/model/model_impl.h"

#include "checkpoints/safetensors.h"

#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One tower: which of our parameters it fills and how its files name them. */
typedef struct tower {
    const char *prefix;        /* of our names */
    const char *publisher;     /* whose names its files have */
    const char *file_prefix;   /* that some files put before every name */
    const char *const *ignore; /* patterns of tensors a file may have and the model does not use */
} tower;

static const char *const vision_ignore[] = {"mask_token", "head.*", NULL};
static const char *const text_ignore[] = {"lm_head.*", "pooler.*", "embeddings.position_ids", NULL};
static const tower vision_tower = {"vision.", "timm", "", vision_ignore};
static const tower text_tower = {"text.", "transformers", "roberta.", text_ignore};

static bool matches_any(const char *const *patterns, const char *name)
{
    for (; *patterns; patterns++)
        if (fnmatch(*patterns, name, 0) == 0) return true;
    return false;
}

/* The file's tensor for one of our names (without the tower's prefix): plain, prefixed, or in the older spelling of
 * LayerNorm parameters. */
static int find_tensor(const vg_tensors *t, const tower *kind, const char *name)
{
    char other[512];
    int i = vg_tensors_find(t, name);
    if (i < 0) {
        snprintf(other, sizeof other, "%s%s", kind->file_prefix, name);
        i = vg_tensors_find(t, other);
    }
    const char *norm = strstr(name, "LayerNorm.");
    if (i >= 0 || !norm) return i;
    const char *old = strcmp(norm, "LayerNorm.weight") == 0 ? "gamma" : "beta";
    snprintf(other, sizeof other, "%.*sLayerNorm.%s", (int)(norm - name), name, old);
    i = vg_tensors_find(t, other);
    if (i >= 0) return i;
    snprintf(other, sizeof other, "%s%.*sLayerNorm.%s", kind->file_prefix, (int)(norm - name), name, old);
    return vg_tensors_find(t, other);
}

static bool same_shape(const vg_tensor_entry *e, const vg_shape *shape)
{
    if (e->rank != shape->rank) return false;
    for (int i = 0; i < e->rank; i++)
        if (e->dim[i] != shape->dim[i]) return false;
    return true;
}

static vg_status wrong_shape(const vg_tensors *t, int i, const vg_shape *want)
{
    const vg_tensor_entry *e = vg_tensors_get(t, i);
    vg_shape have = {.rank = e->rank < VG_MAX_RANK ? e->rank : VG_MAX_RANK};
    for (int d = 0; d < have.rank; d++) have.dim[d] = e->dim[d];
    char a[64], b[64];
    return vg_fail(VG_E_DATA, "%s: tensor '%s' has shape %s, the model wants %s; check the model options",
                   vg_tensors_file(t, i), e->name, vg_shape_text(&have, a), vg_shape_text(want, b));
}

/* A square position table of any side becomes the model's own by resampling. */
static vg_status read_position_table(const vg_tensors *t, int i, const vg_param *p, float *out)
{
    const vg_tensor_entry *e = vg_tensors_get(t, i);
    const int64_t c = p->shape.dim[2];
    const int from = e->rank == 3 ? (int)lround(sqrt((double)e->dim[1])) : 0;
    if (from < 1 || from > 1024 || (int64_t)from * from != e->dim[1] || e->dim[0] != 1 || e->dim[2] != c)
        return wrong_shape(t, i, &p->shape);
    float *table = vg_new0_array((size_t)e->count, sizeof *table);
    VG_CHECK(table, VG_E_NOMEM, "no memory for the position table");
    vg_status st = vg_tensors_read_f32(t, i, table);
    const int to = (int)lround(sqrt((double)p->shape.dim[1]));
    if (st == VG_OK) st = vg_resample_positions(table, from, out, to, c);
    free(table);
    return st;
}

/* Original DINOv2 files: `register_tokens`, and a position table whose first row belongs to the class token. */
static vg_status read_original_dinov2(const vg_tensors *t, vg_params *params)
{
    const int positions = vg_tensors_find(t, "pos_embed"), registers = vg_tensors_find(t, "register_tokens");
    const int ours = vg_params_find(params, "vision.pos_embed"), cls = vg_params_find(params, "vision.cls_token");
    const vg_param *p = &params->items[ours];
    const int64_t c = p->shape.dim[2];
    const vg_shape with_class = VG_SHAPE(1, p->shape.dim[1] + 1, c);
    VG_CHECK(positions >= 0, VG_E_DATA, "%s: no tensor 'pos_embed'", vg_tensors_file(t, 0));
    if (!same_shape(vg_tensors_get(t, positions), &with_class)) return wrong_shape(t, positions, &with_class);
    float first[4096]; /* options bound a width to this */
    VG_TRY(vg_tensors_read_f32_part(t, positions, 0, c, first));
    VG_TRY(vg_tensors_read_f32_part(t, positions, c, p->count, vg_params_data(params, ours)));
    for (int64_t j = 0; j < c; j++) vg_params_data(params, cls)[j] += first[j];
    const int reg = vg_params_find(params, "vision.reg_token");
    VG_CHECK(reg >= 0, VG_E_DATA, "%s: has register tokens; set vision.registers", vg_tensors_file(t, registers));
    if (!same_shape(vg_tensors_get(t, registers), &params->items[reg].shape))
        return wrong_shape(t, registers, &params->items[reg].shape);
    return vg_tensors_read_f32(t, registers, vg_params_data(params, reg));
}

static bool is_original_dinov2(const vg_tensors *t)
{
    return vg_tensors_find(t, "mask_token") >= 0 && vg_tensors_find(t, "register_tokens") >= 0;
}

static vg_status read_param(const vg_tensors *t, const tower *kind, vg_params *params, int index)
{
    const vg_param *p = &params->items[index];
    const char *name = p->name + strlen(kind->prefix);
    const bool original = is_original_dinov2(t);
    if (original && (strcmp(name, "pos_embed") == 0 || strcmp(name, "reg_token") == 0)) return VG_OK;
    const int i = find_tensor(t, kind, name);
    VG_CHECK(i >= 0, VG_E_DATA, "%s: tensor '%s' is missing", vg_tensors_file(t, 0), name);
    float *out = vg_params_data(params, index);
    if (same_shape(vg_tensors_get(t, i), &p->shape)) return vg_tensors_read_f32(t, i, out);
    if (strcmp(name, "pos_embed") == 0) return read_position_table(t, i, p, out);
    return wrong_shape(t, i, &p->shape);
}

/* Every tensor of the file must be one of ours or one that is known to be of no use. */
static vg_status check_extra(const vg_tensors *t, const tower *kind, const vg_params *params)
{
    const size_t skip = strlen(kind->file_prefix);
    for (int i = 0; i < vg_tensors_count(t); i++) {
        const char *name = vg_tensors_get(t, i)->name;
        if (skip && strncmp(name, kind->file_prefix, skip) == 0) name += skip;
        char ours[512];
        const char *norm = strstr(name, "LayerNorm.gamma") ? "weight" : strstr(name, "LayerNorm.beta") ? "bias" : NULL;
        if (norm)
            snprintf(ours, sizeof ours, "%s%.*s.%s", kind->prefix, (int)(strrchr(name, '.') - name), name, norm);
        else
            snprintf(ours, sizeof ours, "%s%s", kind->prefix, name);
        const bool converted = is_original_dinov2(t) && strcmp(name, "register_tokens") == 0;
        VG_CHECK(
            vg_params_find(params, ours) >= 0 || converted || matches_any(kind->ignore, name), VG_E_DATA,
            "%s: tensor '%s' has no place in the model; check the model options, and that its names are those of %s",
            vg_tensors_file(t, i), vg_tensors_get(t, i)->name, kind->publisher);
    }
    return VG_OK;
}

static vg_status load_tower(const tower *kind, const char *path, vg_params *params)
{
    vg_tensors *t = NULL;
    VG_CHECK(access(path, F_OK) == 0, vg_file_fault(errno),
             "%s: %s; name the .safetensors file that holds the tower, an index of such files or their folder", path,
             strerror(errno));
    VG_TRY(vg_tensors_open(path, &t));
    vg_status st = check_extra(t, kind, params);
    for (int i = 0; st == VG_OK && i < params->n; i++)
        if (strncmp(params->items[i].name, kind->prefix, strlen(kind->prefix)) == 0)
            st = read_param(t, kind, params, i);
    if (st == VG_OK && is_original_dinov2(t)) st = read_original_dinov2(t, params);
    VG_KEEP(st, vg_tensors_close(t));
    return st;
}

vg_status vg_model_load_towers(const vg_options *o, vg_params *params)
{
    const tower *const towers[] = {&vision_tower, &text_tower};
    const char *const paths[] = {o->vision_weights, o->text_weights};
    for (int k = 0; k < 2; k++) {
        const vg_status st = *paths[k] ? load_tower(towers[k], paths[k], params) : VG_OK;
        if (st != VG_OK) return vg_fail_at(st, "%sweights", towers[k]->prefix);
    }
    return VG_OK;
}
