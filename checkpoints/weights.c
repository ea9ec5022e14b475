/* The weights of a checkpoint: one tensor file, fp32, a tensor per parameter. */
#include "checkpoints/checkpoint_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What transformers asks for before it opens a file. */
static vg_status add_usual_texts(vg_tensor_writer *w)
{
    return vg_tensor_writer_text(w, "format", "pt");
}

static vg_status write_params(vg_tensor_writer *w, const char *file, const vg_params *params)
{
    VG_TRY(add_usual_texts(w));
    for (int i = 0; i < params->n; i++) {
        const vg_param *p = &params->items[i];
        VG_TRY(vg_tensor_writer_add(w, p->name, VG_TENSOR_F32, p->shape.rank, p->shape.dim));
    }
    VG_TRY(vg_tensor_writer_start(w, file));
    for (int i = 0; i < params->n; i++) {
        const float *values = vg_params_data(params, i);
        VG_CHECK(values, VG_E_BUG, "%s: parameter %s is not laid out", file, params->items[i].name);
        VG_TRY(vg_tensor_writer_write(w, values, (size_t)params->items[i].count * sizeof *values));
    }
    return VG_OK;
}

vg_status vg_weights_write(const char *file, const vg_params *params, vg_file_sum *sum)
{
    vg_tensor_writer *w = NULL;
    VG_TRY(vg_tensor_writer_new(&w));
    vg_status st = write_params(w, file, params);
    if (st == VG_OK) st = vg_tensor_writer_finish(w, &sum->bytes, &sum->hash);
    vg_tensor_writer_free(w);
    return st;
}

/* ---- loading ---- */

static bool same_shape(const vg_tensor_entry *e, const vg_shape *shape)
{
    return e->rank == shape->rank && memcmp(e->dim, shape->dim, (size_t)e->rank * sizeof *e->dim) == 0;
}

static vg_status load_param(const vg_tensors *t, const char *path, vg_params *params, int index)
{
    const vg_param *p = &params->items[index];
    const int found = vg_tensors_find(t, p->name);
    VG_CHECK(found >= 0, VG_E_CONFIG,
             "%s: no parameter %s, the configured model has it; it was trained as another model", path, p->name);
    const vg_tensor_entry *e = vg_tensors_get(t, found);
    vg_shape shape = {.rank = e->rank <= VG_MAX_RANK ? e->rank : VG_MAX_RANK};
    memcpy(shape.dim, e->dim, sizeof shape.dim);
    char has[64], wants[64];
    VG_CHECK(same_shape(e, &p->shape), VG_E_CONFIG,
             "%s: parameter %s is %s, the configured model has %s; it was trained as another model", path, p->name,
             vg_shape_text(&shape, has), vg_shape_text(&p->shape, wants));
    float *values = vg_params_data(params, index);
    VG_CHECK(values, VG_E_BUG, "%s: parameter %s is not laid out", path, p->name);
    return vg_tensors_read_f32(t, found, values);
}

/* The errors of what we wrote ourselves are the storage's. */
vg_status vg_checkpoint_open_weights(const char *path, vg_tensors **t)
{
    char *file = vg_path_join(path, VG_WEIGHTS_NAME);
    VG_CHECK(file, VG_E_NOMEM, "%s: no memory to read the weights", path);
    vg_status st = vg_checkpoint_expect(path);
    if (st == VG_OK) st = vg_tensors_open(file, t);
    free(file);
    return st == VG_E_DATA ? VG_E_STORAGE : st;
}

vg_status vg_checkpoint_open_sound_weights(const char *path, vg_tensors **t)
{
    VG_TRY(vg_checkpoint_verify_weights(path));
    return vg_checkpoint_open_weights(path, t);
}

vg_status vg_checkpoint_load_weights(const char *path, vg_params *params)
{
    vg_tensors *t = NULL;
    vg_status st = vg_checkpoint_open_weights(path, &t);
    for (int i = 0; i < params->n && st == VG_OK; i++) st = load_param(t, path, params, i);
    if (st == VG_E_DATA) st = VG_E_STORAGE;
    vg_tensors_close(t);
    return st;
}

/* ---- export ---- */

static bool has_prefix(const vg_tensor_entry *e, const char *prefix)
{
    return strncmp(e->name, prefix, strlen(prefix)) == 0 && strlen(e->name) > strlen(prefix);
}

static vg_status copy_tensor(const vg_tensors *t, int index, vg_tensor_writer *w)
{
    const vg_tensor_entry *e = vg_tensors_get(t, index);
    void *bytes = vg_new0((size_t)e->bytes);
    VG_CHECK(bytes, VG_E_NOMEM, "no memory for %llu bytes of %s", (unsigned long long)e->bytes, e->name);
    vg_status st = vg_tensors_read_bytes(t, index, bytes);
    if (st == VG_OK) st = vg_tensor_writer_write(w, bytes, (size_t)e->bytes);
    free(bytes);
    return st;
}

static vg_status copy_tensors(const vg_tensors *t, const char *from, const char *prefix, vg_tensor_writer *w,
                              const char *to)
{
    const int n = vg_tensors_count(t);
    int kept = 0;
    VG_TRY(add_usual_texts(w));
    for (int i = 0; i < n; i++) {
        const vg_tensor_entry *e = vg_tensors_get(t, i);
        if (!has_prefix(e, prefix)) continue;
        VG_TRY(vg_tensor_writer_add(w, e->name + strlen(prefix), e->type, e->rank, e->dim));
        kept++;
    }
    VG_CHECK(kept, VG_E_USAGE, "%s: no parameter begins with '%s'; try vision. or text.", from, prefix);
    VG_TRY(vg_tensor_writer_start(w, to));
    for (int i = 0; i < n; i++)
        if (has_prefix(vg_tensors_get(t, i), prefix)) VG_TRY(copy_tensor(t, i, w));
    return vg_tensor_writer_finish(w, NULL, NULL);
}

vg_status vg_checkpoint_export(const char *path, const char *prefix, const char *out)
{
    vg_tensors *t = NULL;
    vg_tensor_writer *w = NULL;
    vg_text part = {0};
    VG_CHECK(!vg_file_is_special(out), VG_E_USAGE, "%s: a pipe or a device; name a file", out);
    vg_status st = vg_text_add(&part, "%s.partial", out);
    if (st == VG_OK) st = vg_checkpoint_open_sound_weights(path, &t);
    if (st == VG_OK) st = vg_tensor_writer_new(&w);
    if (st == VG_OK) st = copy_tensors(t, path, prefix ? prefix : "", w, part.data);
    if (st == VG_OK && (st = vg_file_rename(part.data, out)) != VG_OK) remove(part.data);
    vg_tensor_writer_free(w);
    vg_tensors_close(t);
    free(part.data);
    return st == VG_E_DATA ? VG_E_STORAGE : st;
}
