/* How the weights of two checkpoints differ. */
#include "checkpoints/checkpoint_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct pair {
    vg_tensors *a, *b;
    vg_checkpoint_tell_fn *tell;
    void *context;
    int64_t differ;
} pair;

static void tell(pair *p, const vg_checkpoint_difference *d)
{
    if (!d->values && !d->where) return;
    p->differ++;
    p->tell(p->context, d);
}

/* Values are compared as bits, so that NaN equals itself and 0 is not -0. */
static void compare_values(const float *a, const float *b, int64_t count, vg_checkpoint_difference *d)
{
    for (int64_t i = 0; i < count; i++) {
        d->values += memcmp(&a[i], &b[i], sizeof a[i]) != 0;
        d->largest = fmax(d->largest, fabs((double)a[i] - (double)b[i]));
    }
}

static vg_status compare_tensor(pair *p, int in_a, int in_b)
{
    const vg_tensor_entry *e = vg_tensors_get(p->a, in_a), *other = vg_tensors_get(p->b, in_b);
    vg_checkpoint_difference d = {.name = e->name, .count = e->count};
    if (e->rank != other->rank || memcmp(e->dim, other->dim, (size_t)e->rank * sizeof *e->dim) != 0) {
        d.where = "the shape differs";
        tell(p, &d);
        return VG_OK;
    }
    float *a = vg_new0_array((size_t)e->count, sizeof *a), *b = vg_new0_array((size_t)e->count, sizeof *b);
    vg_status st = a && b ? VG_OK : vg_fail(VG_E_NOMEM, "no memory to compare %s", e->name);
    if (st == VG_OK) st = vg_tensors_read_f32(p->a, in_a, a);
    if (st == VG_OK) st = vg_tensors_read_f32(p->b, in_b, b);
    if (st == VG_OK) compare_values(a, b, e->count, &d);
    free(a);
    free(b);
    if (st == VG_OK) tell(p, &d);
    return st;
}

static vg_status compare(pair *p)
{
    for (int i = 0; i < vg_tensors_count(p->a); i++) {
        const vg_tensor_entry *e = vg_tensors_get(p->a, i);
        const int in_b = vg_tensors_find(p->b, e->name);
        if (in_b >= 0)
            VG_TRY(compare_tensor(p, i, in_b));
        else
            tell(p, &(vg_checkpoint_difference){.name = e->name, .count = e->count, .where = "only in the first"});
    }
    for (int i = 0; i < vg_tensors_count(p->b); i++) {
        const vg_tensor_entry *e = vg_tensors_get(p->b, i);
        if (vg_tensors_find(p->a, e->name) < 0)
            tell(p, &(vg_checkpoint_difference){.name = e->name, .count = e->count, .where = "only in the second"});
    }
    return VG_OK;
}

vg_status vg_checkpoint_diff(const char *a, const char *b, vg_checkpoint_tell_fn *told, void *context, int64_t *differ)
{
    pair p = {.tell = told, .context = context};
    vg_status st = vg_checkpoint_open_sound_weights(a, &p.a);
    if (st == VG_OK) st = vg_checkpoint_open_sound_weights(b, &p.b);
    if (st == VG_OK) st = compare(&p);
    vg_tensors_close(p.a);
    vg_tensors_close(p.b);
    *differ = p.differ;
    return st == VG_E_DATA ? VG_E_STORAGE : st;
}
