/* The sample stream of a run: tokenizer, split, batches, and the loader that fills them. */
#include "trainer/loop_impl.h"
#include "trainer/splits.h"

#include <stdlib.h>
#include <string.h>

_Static_assert((int)VG_MAX_SIDES == (int)VG_LOADER_SIDES, "a stage has as many sides");
_Static_assert((int)VG_MAX_DATA_SETS == (int)VG_LOADER_SETS, "a stage has a weight for each set of the loader");

/* What is evaluated is looked at now, too, and not when all steps are done; and first, as what trains follows from it.
 */
static vg_status open_splits(vg_run *r)
{
    const vg_options *o = r->o;
    VG_TRY(vg_open_eval_split(o, &r->eval_split));
    VG_TRY(vg_open_train_split(o, &r->train_split));
    VG_CHECK(vg_split_sentence_count(r->train_split) > 0, VG_E_DATA, "split '%s' holds no sentences",
             o->data_train_split);
    for (int k = 0; k < o->data_sets.n; k++) {
        const int64_t first = vg_split_first_image(r->train_split, k);
        const int64_t n = vg_split_first_image(r->train_split, k + 1) - first;
        r->stream_sets[k] = (vg_loader_set){first, n, o->data_sets.items[k]};
    }
    return VG_OK;
}

static int n_batches(const vg_run *r)
{
    return r->n_leaves ? 2 * r->n_leaves : 2;
}

static vg_status make_batches(vg_run *r)
{
    r->taken = vg_new0_array((size_t)r->n_leaves + 1, sizeof(vg_batch *));
    r->batches = vg_new0_array((size_t)n_batches(r), sizeof *r->batches);
    VG_CHECK(r->batches && r->taken, VG_E_NOMEM, "no memory for batches");
    return VG_OK;
}

static void fill_weights(const vg_options *o, const vg_stage *stage, int *weights)
{
    for (int k = 0; k < stage->mix.n; k++) {
        const char *name = stage->mix.items[k], *equals = strrchr(name, '=');
        weights[vg_options_set_of(o, name, (size_t)(equals - name))] = (int)strtod(equals + 1, NULL);
    }
}

/* Stage i of the schedule begins at the step, and so at the position, where the one before has ended. */
static void fill_stages(vg_run *r)
{
    int64_t first = 0;
    for (int i = 0; i < r->o->n_stages; i++) {
        const vg_stage *s = &r->o->schedule[i];
        r->stream_stages[i] = (vg_loader_stage){.first_position = first,
                                                .augment = {.crop = s->crop,
                                                            .crop_keep = s->crop_keep,
                                                            .flip = s->flip,
                                                            .colour = s->colour,
                                                            .colour_safe = s->colour_safe}};
        r->stream_stages[i].views = vg_stage_views(r->o, s, r->params);
        fill_weights(r->o, s, r->stream_stages[i].weights);
        r->stream_stages[i].n_sides = vg_options_sides(r->o, s, r->stream_stages[i].sides);
        r->stream_stages[i].step_images = r->o->train_global_batch;
        first += s->steps * r->o->train_global_batch;
    }
}

vg_status vg_run_open_stream(vg_run *r)
{
    VG_TRY(vg_open_tokenizer(r->o, &r->tokenizer));
    VG_TRY(open_splits(r));
    r->epoch_samples = vg_loader_epoch_size(r->train_split, (int)r->o->data_phrases);
    fill_stages(r);
    return make_batches(r);
}

void vg_run_close_loader(vg_run *r)
{
    vg_loader_close(r->loader);
    for (int i = 0; r->batches && i < n_batches(r); i++) vg_batch_release(&r->batches[i]);
    r->loader = NULL;
}

vg_status vg_run_open_loader(vg_run *r)
{
    const vg_options *o = r->o;
    const int n_workers = vg_compute_workers(&r->compute, o->data_workers);
    vg_batch_shape shape = r->stage->shape;
    shape.side = vg_options_largest_side(o); /* batches serve all stages */
    const vg_loader_spec spec = {.split = r->train_split,
                                 .tokenizer = r->tokenizer,
                                 .shape = shape,
                                 .seed = (uint64_t)o->train_seed,
                                 .shuffle = true,
                                 .features = r->images,
                                 .reduced = o->data_reduced,
                                 .stages = r->stream_stages,
                                 .n_stages = o->n_stages,
                                 .sets = r->stream_sets,
                                 .n_sets = o->data_sets.n,
                                 .n_workers = n_workers,
                                 .pin = o->data_pin,
                                 .first_processor = vg_comm_local_rank(r->comm) * n_workers,
                                 .cache_bytes = (size_t)o->data_cache_mb << 20,
                                 .blind = o->data_blind};
    if (r->loader && r->batches[0].shape.image_floats == spec.shape.image_floats) return VG_OK;
    vg_run_close_loader(r);
    for (int i = 0; i < n_batches(r); i++) VG_TRY(vg_batch_init(&r->batches[i], &spec.shape));
    VG_TRY(vg_loader_open(&spec, r->batches, n_batches(r), &r->loader));
    r->next_wanted = r->step;
    return vg_run_want(r);
}

void vg_run_close_stream(vg_run *r)
{
    vg_run_close_loader(r);
    free(r->batches);
    free(r->taken);
    vg_split_close(r->train_split);
    vg_split_close(r->eval_split);
    vg_tokenizer_close(r->tokenizer);
}
