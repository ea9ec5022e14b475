/* Accuracy on a split: one trial per sentence, exact whatever the number of ranks. Source: vl-gtr-model, section 8. */
#ifndef VG_TRAINER_EVALUATE_H
#define VG_TRAINER_EVALUATE_H

#include "dist/comm.h"
#include "trainer/model/model.h"
#include "trainer/phrases.h"

/* What is evaluated. Everything is borrowed. */
typedef struct vg_eval_spec {
    vg_comm *comm;
    const vg_options *options;
    const vg_split *split;
    const vg_tokenizer *tokenizer;
    int n_workers;       /* threads that load */
    vg_program *answer;  /* of vg_model_batch_shape(options) */
    vg_phrases *phrases; /* of this split, where `answer` takes kept features; else NULL */
} vg_eval_spec;

/* One sentence's answer: the query with the largest object probability. */
typedef struct vg_answer {
    int64_t sentence; /* index in the split */
    float box[4];     /* xyxy, pixels of the source image, clamped to it */
    float score, iou, giou;
    int32_t hit5, hit10; /* IoU >= 0.5 among the 5 and 10 best queries */
    int32_t unread;      /* 1: its image cannot be read, so nothing was answered, which is a miss */
} vg_answer;

/* Sums over a set of sentences. */
typedef struct vg_score {
    char kind[64]; /* phrase type, as long as a shard's may be; "all" for the whole split */
    int64_t trials, hits25, hits50, hits75, hits90, hits5, hits10, giou50;
    int64_t unread; /* of the trials, those whose image cannot be read */
    double iou;
} vg_score;

enum { VG_MAX_KINDS = 32 };

typedef struct vg_evaluation {
    vg_answer *answers; /* rank 0: one per sentence, in the split's order; heap */
    int64_t n_answers;
    vg_score scores[VG_MAX_KINDS]; /* [0] is the whole split; the same on every rank */
    int n_scores;
    bool more_kinds; /* rank 0: than there are scores for; they are in [0] alone */
} vg_evaluation;

/* Collective. Every sentence of the split is a trial: one whose image cannot be read is a miss. Errors: VG_E_DATA
 * (there are more of those than data.max_bad allows of all sentences), VG_E_NOMEM, VG_E_COMM. */
vg_status vg_evaluate(const vg_eval_spec *spec, vg_evaluation *out);
void vg_evaluation_release(vg_evaluation *evaluation);

/* Local, rank 0. One JSON line per sentence: ids, phrase, kind, box, target, score, IoU; `"unread": true` and no box
 * where the image cannot be read. Errors: VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_evaluation_write(const vg_evaluation *evaluation, const vg_split *split, const char *path);

/* Local, rank 0. A contact sheet of n answers spread over the images that can be read. Errors: VG_E_STORAGE, VG_E_DATA,
 * VG_E_NOMEM. */
vg_status vg_evaluation_draw(const vg_evaluation *evaluation, const vg_split *split, int n, const char *path);

/* The answer of one slot. logits [Q,2], boxes [Q,4] cxcywh in 0..1; targets xyxy in pixels (n_targets may be 0). */
vg_answer vg_answer_of(const float *logits, const float *boxes, int n_queries, int width, int height,
                       const float *targets, int n_targets);

/* softmax(logits)[object] of one query. */
float vg_object_probability(const float *logits);

#endif
