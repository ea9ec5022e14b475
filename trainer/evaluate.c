#include "trainer/evaluate.h"

#include "dist/health.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCHES = 3 };

/* This rank's walk over its share of the split. */
typedef struct walk {
    const vg_eval_spec *spec;
    vg_batch batches[BATCHES];
    vg_loader *loader;
    int32_t *key_counts;
    vg_answer *answers;
    size_t capacity;
    int64_t n_answers;
} walk;

static vg_status add_answer(walk *w, const vg_answer *answer)
{
    VG_TRY(vg_grow(&w->answers, &w->capacity, (size_t)w->n_answers + 1, sizeof *w->answers));
    w->answers[w->n_answers++] = *answer;
    return VG_OK;
}

static vg_status read_answers(walk *w, const vg_batch *batch)
{
    const vg_eval_spec *s = w->spec;
    vg_shape shape;
    const float *logits = vg_program_output(s->answer, "logits", &shape);
    const float *boxes = vg_program_output(s->answer, "boxes", NULL);
    const int n_queries = (int)s->options->fusion_queries;
    for (int i = 0; i < batch->shape.images * batch->shape.phrases; i++) {
        if (!batch->filled[i]) continue;
        vg_sentence sentence;
        vg_image_info image;
        vg_split_sentence(s->split, batch->sentences[i], &sentence);
        vg_split_image(s->split, sentence.image, &image);
        vg_answer a =
            vg_answer_of(logits + (size_t)i * (size_t)n_queries * 2, boxes + (size_t)i * (size_t)n_queries * 4,
                         n_queries, image.width, image.height, sentence.boxes, sentence.n_boxes);
        a.sentence = batch->sentences[i];
        VG_TRY(add_answer(w, &a));
    }
    return VG_OK;
}

static vg_status run_batch(walk *w, const vg_batch *batch)
{
    const vg_eval_spec *s = w->spec;
    if (s->phrases) {
        const float *features = NULL;
        VG_TRY(vg_phrases_of(s->phrases, batch, &features));
        VG_TRY(vg_program_bind(s->answer, "text_features", features));
    }
    VG_TRY(vg_model_bind(s->options, s->answer, batch, w->key_counts));
    VG_TRY(vg_program_run(s->answer));
    VG_TRY(vg_program_wait(s->answer));
    return read_answers(w, batch);
}

/* Answers the batch that comes next and asks for the one at micro-batch `wanted`, where there is one. */
static vg_status walk_batch(walk *w, int64_t wanted, int64_t n)
{
    vg_batch *batch = NULL;
    VG_TRY(vg_loader_take(w->loader, &batch));
    const vg_status st = run_batch(w, batch);
    vg_loader_give_back(w->loader, batch);
    VG_TRY(st);
    return wanted < n ? vg_loader_want(w->loader, wanted * w->batches[0].shape.images) : VG_OK;
}

/* Micro-batches rank, rank + R, ... of the split in its own order. What one rank meets, a request to stop included,
 * ends the walk of all. Collective. */
static vg_status walk_share(walk *w)
{
    const vg_eval_spec *s = w->spec;
    const vg_batch_shape shape = vg_model_batch_shape(s->options);
    const int64_t samples = vg_loader_epoch_size(s->split, shape.phrases);
    const int64_t n = (samples + shape.images - 1) / shape.images, ranks = vg_comm_size(s->comm);
    const int64_t mine = vg_comm_rank(s->comm);
    vg_status st = VG_OK;
    for (int64_t i = 0; i < BATCHES && mine + i * ranks < n && st == VG_OK; i++)
        st = vg_loader_want(w->loader, (mine + i * ranks) * shape.images);
    for (int64_t first = 0; first < n; first += ranks) {
        vg_health_phase(s->comm, VG_PHASE_evaluate, -1, (first + mine) * shape.images);
        if (st == VG_OK) st = vg_stop_check();
        if (st == VG_OK && first + mine < n) st = walk_batch(w, first + mine + BATCHES * ranks, n);
        VG_TRY(vg_comm_agree(s->comm, st));
    }
    return VG_OK;
}

static vg_status open_walk(walk *w)
{
    const vg_eval_spec *s = w->spec;
    const vg_batch_shape shape = vg_model_batch_shape(s->options);
    for (int i = 0; i < BATCHES; i++) VG_TRY(vg_batch_init(&w->batches[i], &shape));
    w->key_counts = vg_new0_array((size_t)shape.images * (size_t)shape.phrases, sizeof *w->key_counts);
    VG_CHECK(w->key_counts, VG_E_NOMEM, "no memory for evaluation");
    const vg_loader_spec loader = {.split = s->split,
                                   .tokenizer = s->tokenizer,
                                   .shape = shape,
                                   .n_workers = s->n_workers,
                                   .blind = s->options->data_blind};
    return vg_loader_open(&loader, w->batches, BATCHES, &w->loader);
}

static void close_walk(walk *w)
{
    if (w->loader) vg_loader_close(w->loader);
    for (int i = 0; i < BATCHES; i++) vg_batch_release(&w->batches[i]);
    free(w->key_counts);
    free(w->answers);
}

/* ---- from answers to scores ---- */

/* One answer per sentence, in the split's order, from those that ranks gave. */
static vg_status order_answers(vg_evaluation *e, const vg_split *split)
{
    const int64_t n = vg_split_sentence_count(split);
    vg_answer *all = vg_new0_array((size_t)n, sizeof *all);
    VG_CHECK(all, VG_E_NOMEM, "no memory for the answers of split '%s'", vg_split_name(split));
    for (int64_t i = 0; i < n; i++) all[i] = (vg_answer){.sentence = i, .giou = -1, .unread = 1};
    bool once = true;
    for (int64_t i = 0; i < e->n_answers && once; i++) {
        vg_answer *place = &all[e->answers[i].sentence];
        once = place->unread;
        *place = e->answers[i];
    }
    free(e->answers);
    e->answers = all;
    e->n_answers = n;
    VG_CHECK(once, VG_E_BUG, "a sentence of split '%s' was answered twice", vg_split_name(split));
    return VG_OK;
}

static void add_score(vg_score *s, const vg_answer *a)
{
    s->trials++;
    s->unread += a->unread;
    s->hits25 += a->iou >= 0.25F;
    s->hits50 += a->iou >= 0.5F;
    s->hits75 += a->iou >= 0.75F;
    s->hits90 += a->iou >= 0.9F;
    s->hits5 += a->hit5;
    s->hits10 += a->hit10;
    s->giou50 += a->giou >= 0.5F;
    s->iou += a->iou;
}

static vg_score *score_of(vg_evaluation *e, const char *kind)
{
    for (int i = 1; i < e->n_scores; i++)
        if (strcmp(e->scores[i].kind, kind) == 0) return &e->scores[i];
    e->more_kinds = e->more_kinds || e->n_scores == VG_MAX_KINDS;
    if (e->n_scores == VG_MAX_KINDS) return NULL;
    vg_score *s = &e->scores[e->n_scores++];
    snprintf(s->kind, sizeof s->kind, "%s", kind);
    return s;
}

static vg_status score_all(vg_evaluation *e, const vg_split *split, double max_bad)
{
    VG_TRY(order_answers(e, split));
    e->n_scores = 1;
    snprintf(e->scores[0].kind, sizeof e->scores[0].kind, "all");
    for (int64_t i = 0; i < e->n_answers; i++) {
        vg_sentence sentence;
        vg_split_sentence(split, i, &sentence);
        add_score(&e->scores[0], &e->answers[i]);
        vg_score *kind = *sentence.kind ? score_of(e, sentence.kind) : NULL;
        if (kind) add_score(kind, &e->answers[i]);
    }
    const vg_score *all = &e->scores[0];
    VG_CHECK((double)all->unread <= max_bad * (double)all->trials, VG_E_DATA,
             "%lld of %lld sentences of split '%s' have no answer since their images cannot be read, more than "
             "data.max_bad allows, %g of them; see the lines above, mend the shards or raise it",
             (long long)all->unread, (long long)all->trials, vg_split_name(split), max_bad);
    return VG_OK;
}

vg_status vg_evaluate(const vg_eval_spec *spec, vg_evaluation *out)
{
    vg_evaluation e = {0};
    walk w = {.spec = spec};
    vg_status st = vg_comm_agree(spec->comm, open_walk(&w));
    if (st == VG_OK) st = walk_share(&w);
    size_t bytes = 0;
    char *all = NULL;
    if (st == VG_OK)
        st = vg_comm_gather_text(spec->comm, w.answers, (size_t)w.n_answers * sizeof *w.answers, &all, &bytes);
    close_walk(&w);
    if (st == VG_OK && vg_comm_rank(spec->comm) == 0) {
        e.answers = (vg_answer *)all;
        e.n_answers = (int64_t)(bytes / sizeof *e.answers);
        st = score_all(&e, spec->split, spec->options->data_max_bad);
    }
    st = vg_comm_agree(spec->comm, st);
    if (st == VG_OK) st = vg_comm_broadcast(spec->comm, e.scores, sizeof e.scores, 0);
    if (st == VG_OK) st = vg_comm_broadcast(spec->comm, &e.n_scores, sizeof e.n_scores, 0);
    if (st != VG_OK) {
        vg_evaluation_release(&e);
        return st;
    }
    *out = e;
    return VG_OK;
}

void vg_evaluation_release(vg_evaluation *evaluation)
{
    free(evaluation->answers);
    *evaluation = (vg_evaluation){0};
}
